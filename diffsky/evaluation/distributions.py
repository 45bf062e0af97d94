"""Distributions of generated and real images beside each other (V24 sections 5.1, 5.2 and 6)."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.stats import poisson_conf_interval
from astropy.table import Table

from diffsky._units import plain_values
from diffsky.generation.scaling import scale_images

__all__ = [
    "DistributionComparison",
    "FluxRelation",
    "ImageStatistics",
    "compare_distributions",
    "compare_pixels",
    "image_statistics",
    "residual_flux_relation",
]

_KS_LIMIT = 1.3581  # of the two-sample distance at 95 %, over sqrt((n + m) / (n m))
_CHUNK = 4096  # images at a time


@dataclass(frozen=True)
class DistributionComparison:
    """Quantities of real and generated images beside each other.

    Parameters
    ----------
    table : `~astropy.table.Table`
        One row a quantity: ``name``; ``n_real``, ``n_generated``, values that are finite;
        ``left_out_real``, ``left_out_generated``, values that are not; ``ks``, the two-sample
        Kolmogorov-Smirnov distance, its ``p_value``, and ``ks_limit``, which two samples of one
        distribution exceed in 5 % of cases; ``wasserstein``, the Wasserstein distance in the unit
        of the quantity, and ``wasserstein_std``, over the standard deviation of the real values.
    histograms : dict of str to `~astropy.table.Table`
        For each quantity one row a bin: ``low``, ``high``, and for ``real`` and ``generated`` the
        count, with ``_lower`` and ``_upper``, its interval of one standard deviation.
    """

    table: Table
    histograms: dict


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of images scaled 0 to 1.

    Parameters
    ----------
    mean, std : `numpy.ndarray`
        Shape (n,): mean and standard deviation of each image.
    edges : `numpy.ndarray`
        Shape (n_bins + 1,): edges of the bins of pixel values, 0 to 1.
    counts : `numpy.ndarray`
        Shape (n_bins,), int: pixels of all images in each.
    """

    mean: np.ndarray
    std: np.ndarray
    edges: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class FluxRelation:
    """How the positive residual goes with the peak flux (V24 fig. 17).

    Parameters
    ----------
    spearman, spearman_err : float
        Rank correlation, and its bootstrap standard deviation.
    slope, slope_err : float
        Of log10(residual) against log10(peak flux), by least squares, and its bootstrap standard
        deviation.
    intercept : float
        log10(residual) of that line at a peak flux of 1.
    n, left_out : int
        Images that counted, and those whose residual or peak flux is not above 0 or not finite.
    """

    spearman: float
    spearman_err: float
    slope: float
    slope_err: float
    intercept: float
    n: int
    left_out: int


def compare_distributions(real, generated, *, bins=50):
    """Compare quantities of real and generated images (V24 figures 13 to 16).

    The p-value holds for continuous and independent values. Of areas in whole pixels it is too
    large, and of pixels, which are not independent, it says nothing: `compare_pixels` is for them.

    Parameters
    ----------
    real, generated : dict of str to array-like, or `~astropy.table.Table`
        Values by the name of the quantity, shape (n,), (m,). The names have to be the same. Values
        that are not finite, such as those of images that could not be fitted, are left out and
        counted.
    bins : int or dict of str to array-like, optional
        Number of bins from the least value of both to the largest, or edges by the name of the
        quantity; values outside the edges are in no bin, but count for the distances. Default 50.

    Returns
    -------
    comparison : `DistributionComparison`
        Distances and histograms, in the order of ``real``.

    Raises
    ------
    ValueError
        If the names differ, there is no finite value, or edges do not ascend.
    """
    names = list(real.keys())
    if not names or set(names) != set(generated.keys()):
        raise ValueError(
            f"real has {', '.join(names) or 'nothing'} and generated "
            f"{', '.join(generated.keys()) or 'nothing'}; expected the same names"
        )
    samples = {name: _pair(real[name], generated[name], name) for name in names}
    edges = {name: _edges(bins, name, pair) for name, pair in samples.items()}
    rows, histograms = [], {}
    for name, pair in samples.items():
        kept = [len(values) for values in pair]
        left_out = [np.size(v[name]) - n for v, n in zip((real, generated), kept, strict=True)]
        rows.append((name, *kept, *left_out, *_distances(*pair)))
        counts = [np.histogram(values, edges[name])[0] for values in pair]
        histograms[name] = _histogram(edges[name], *counts)
    columns = ("name", "n_real", "n_generated", "left_out_real", "left_out_generated")
    columns += ("ks", "p_value", "ks_limit", "wasserstein", "wasserstein_std")
    return DistributionComparison(Table(rows=rows, names=columns), histograms)


def image_statistics(images, *, peaks=None, bins=100):
    """Mean and standard deviation of each image, and a histogram of all pixels (V24 section 5.1).

    Parameters
    ----------
    images : `numpy.ndarray`
        Shape (n, ny, nx), finite.
    peaks : float or array-like, optional
        What becomes 1, for all images or for each. V24 scale real images to their own range, 0 to
        1 after negative pixels are set to 0 (eq. 11), which is the default. Images whose peaks may
        fall short of what was asked for show it if these peaks are given, or 1 where they are
        relative; pixels beyond are clipped to 0 and 1. `diffsky.RadioGalaxyGenerator` brings all
        of its images to their peaks.
    bins : int or array-like, optional
        Number of bins of pixel values from 0 to 1, or their edges. Default 100.

    Returns
    -------
    statistics : `ImageStatistics`
        Of the scaled images.

    Raises
    ------
    ValueError
        If the shape is another, an image has a pixel that is not finite or, without ``peaks``, is
        flat, or a peak is not above 0.
    """
    images = plain_values(images, name="images")
    if images.ndim != 3 or not len(images):
        raise ValueError(f"images have the shape {images.shape}; expected (n, ny, nx), n above 0")
    if peaks is not None:
        peaks = plain_values(peaks, name="peaks").astype(float)
        if peaks.shape not in ((), (len(images),)) or not (peaks > 0).all():
            raise ValueError(f"peaks are {peaks}; expected a number above 0, or one for each image")
        peaks = np.broadcast_to(peaks, (len(images),))
    edges = np.linspace(0, 1, bins + 1) if np.ndim(bins) == 0 else np.asarray(bins, dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"bins is {bins!r}; expected a number of bins or ascending edges")
    mean, std = np.zeros(len(images)), np.zeros(len(images))
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    for first in range(0, len(images), _CHUNK):
        part = slice(first, first + _CHUNK)
        relative = _relative(images[part], None if peaks is None else peaks[part])
        mean[part] = relative.mean(axis=(1, 2), dtype=float)
        std[part] = relative.std(axis=(1, 2), dtype=float)
        counts += np.histogram(relative, edges)[0]
    return ImageStatistics(mean, std, edges, counts)


def compare_pixels(real, generated):
    """Compare the pixel values of real and generated images (V24 fig. 12).

    The intervals take pixels for independent, which they are not: neighbours share the beam.

    Parameters
    ----------
    real, generated : `ImageStatistics`
        With the same bins.

    Returns
    -------
    histogram : `~astropy.table.Table`
        As those of `DistributionComparison`. ``meta`` has ``ks`` and ``wasserstein``, the largest
        distance and the area between the cumulative histograms: the distances of the pixel
        values to the width of a bin.

    Raises
    ------
    ValueError
        If the bins differ, or there is no pixel in them.
    """
    if not np.array_equal(real.edges, generated.edges):
        raise ValueError("the bins of real and generated pixels differ; expected the same edges")
    if not (real.counts.sum() and generated.counts.sum()):
        raise ValueError("there are no pixels within the bins; expected some of both")
    table = _histogram(real.edges, real.counts, generated.counts)
    shares = [np.cumsum(s.counts) / s.counts.sum() for s in (real, generated)]
    distance = np.abs(shares[0] - shares[1])
    table.meta["ks"] = float(distance.max())
    table.meta["wasserstein"] = float((distance * np.diff(real.edges)).sum())
    return table


def residual_flux_relation(peak_flux, residual, *, n_bootstrap=1000, seed=0):
    """Correlate the positive residual with the peak flux (V24 section 5.2, figure 17).

    Where the noise is the same in all images, Delta_+ of images that are scaled to their peak goes
    with the inverse of the peak flux: a slope of -1.

    Parameters
    ----------
    peak_flux : array-like
        Shape (n,): the peak flux density of each image that the generator was asked for, or that
        of the real image.
    residual : array-like
        Shape (n,): Delta_+ (`diffsky.evaluation.positive_residual`) of the scaled images, that is,
        over their peaks.
    n_bootstrap : int, optional
        Number of bootstraps over images. Default 1000.
    seed : int, optional
        Of the bootstraps.

    Returns
    -------
    relation : `FluxRelation`
        Rank correlation and slope, which real and generated images should have in common.

    Raises
    ------
    ValueError
        If the lengths differ, or fewer than three images have both above 0.
    """
    flux = plain_values(peak_flux, name="peak_flux").astype(float)
    residual = np.asarray(residual, dtype=float)
    if flux.ndim != 1 or flux.shape != residual.shape:
        raise ValueError(
            f"peak_flux has the shape {flux.shape}, residual {residual.shape}; expected two of (n,)"
        )
    kept = np.isfinite(flux) & np.isfinite(residual) & (flux > 0) & (residual > 0)
    x, y = np.log10(flux[kept]), np.log10(residual[kept])
    if len(x) < 3 or np.ptp(x) == 0:
        raise ValueError(
            f"{len(x)} images have a peak flux and a residual above 0; expected three or more, "
            "not all of the same peak flux"
        )
    rng = np.random.default_rng(seed)
    draws = np.array([_relation(x, y, rng.integers(0, len(x), len(x))) for _ in range(n_bootstrap)])
    spearman, slope, intercept = _relation(x, y, slice(None))
    errors = np.nanstd(draws, axis=0) if n_bootstrap else np.full(3, np.nan)
    return FluxRelation(
        spearman=spearman,
        spearman_err=float(errors[0]),
        slope=slope,
        slope_err=float(errors[1]),
        intercept=intercept,
        n=len(x),
        left_out=int((~kept).sum()),
    )


def _relation(x, y, which):
    """Rank correlation, slope and intercept; NaN where all x or all y are one."""
    from scipy.stats import rankdata

    x, y = x[which], y[which]
    if np.ptp(x) == 0:
        return np.nan, np.nan, np.nan
    x0, y0 = x.mean(), y.mean()
    slope = np.sum((x - x0) * (y - y0)) / np.sum((x - x0) ** 2)
    spearman = np.corrcoef(rankdata(x), rankdata(y))[0, 1] if np.ptp(y) > 0 else np.nan
    return float(spearman), float(slope), float(y0 - slope * x0)


def _distances(one, other):
    from scipy.stats import ks_2samp, wasserstein_distance

    test = ks_2samp(one, other)
    n, m = len(one), len(other)
    moved = float(wasserstein_distance(one, other))
    spread = float(np.std(one))
    return (
        float(test.statistic),
        float(test.pvalue),
        _KS_LIMIT * np.sqrt((n + m) / (n * m)),
        moved,
        moved / spread if spread > 0 else np.nan,
    )


def _histogram(edges, real, generated):
    table = Table({"low": edges[:-1], "high": edges[1:]})
    for name, counts in (("real", real), ("generated", generated)):
        lower, upper = poisson_conf_interval(counts, interval="frequentist-confidence")
        table[name], table[f"{name}_lower"], table[f"{name}_upper"] = counts, lower, upper
    return table


def _pair(real, generated, name):
    """Finite values of both, in one unit."""
    if isinstance(real, u.Quantity) or isinstance(generated, u.Quantity):
        try:
            generated = u.Quantity(generated).to_value(u.Quantity(real).unit)
        except u.UnitConversionError as error:
            raise ValueError(f"{name}: {error}; expected one unit") from error
        real = u.Quantity(real).value
    return [_values(values, name) for values in (real, generated)]


def _values(values, name):
    values = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)
    if values.ndim != 1:
        raise ValueError(f"{name} has the shape {values.shape}; expected (n,)")
    values = values[np.isfinite(values)]
    if not len(values):
        raise ValueError(f"{name} has no finite value; expected one or more")
    return values


def _edges(bins, name, pair):
    both = np.concatenate(pair)
    if np.ndim(bins) == 0 and not isinstance(bins, dict):
        return np.histogram_bin_edges(both, bins)
    if name not in bins:
        raise ValueError(f"bins have no {name}; expected edges for each quantity")
    edges = np.asarray(bins[name], dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"bins of {name} are {bins[name]!r}; expected ascending edges")
    return edges


def _relative(images, peaks):
    """Images scaled 0 to 1."""
    if peaks is None:
        return (scale_images(images)[0] + 1) / 2
    if not np.isfinite(images).all():
        raise ValueError("images have pixels that are not finite; expected finite images")
    return np.clip(images / peaks[:, None, None], 0, 1).astype(np.float32)
