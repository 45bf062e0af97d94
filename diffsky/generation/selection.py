"""Which cutouts to train on: the cuts of V24 section 3.1, in their order."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

__all__ = [
    "STEPS",
    "THRESHOLDS",
    "CutoutSelection",
    "count_removed",
    "select_cutouts",
    "source_signal",
]

STEPS = ("broken", "S/N_sigma", "edge pixels", "incomplete")
THRESHOLDS = {"min_signal": 5.0, "tau": 5.0, "tau_step": 0.5, "max_edge": 0.8, "min_coverage": 1.0}
_CHUNK = 2048  # images at a time


@dataclass(frozen=True)
class CutoutSelection:
    """What became of each cutout.

    Parameters
    ----------
    reason : `numpy.ndarray` of str
        Shape (n,): the first of ``STEPS`` that a cutout failed, empty for those that are kept.
    signal : `numpy.ndarray`
        Shape (n,): its S/N_sigma, NaN where it is broken.
    uncertain : `numpy.ndarray` of bool
        Shape (n,): the mean of its background is 0 or less, and S/N_sigma is taken over the error
        of that mean.
    """

    reason: np.ndarray
    signal: np.ndarray
    uncertain: np.ndarray

    @property
    def kept(self):
        """`numpy.ndarray` of bool : cutouts that passed all steps, shape (n,)."""
        return self.reason == ""

    def to_table(self):
        """Count what each step removed (V24 table 1).

        Returns
        -------
        table : `~astropy.table.Table`
            ``step``, ``removed`` and ``kept``; the first row is of all cutouts.
        """
        return count_removed(self.reason, STEPS, "cutouts")


def count_removed(reason, steps, title):
    """Count what each step removed (V24 table 1).

    Parameters
    ----------
    reason : `numpy.ndarray` of str
        Shape (n,): the step that removed each, empty for those that are kept.
    steps : sequence of str
        In their order.
    title : str
        Name of the first row, that of all.

    Returns
    -------
    table : `~astropy.table.Table`
        ``step``, ``removed`` and ``kept``.
    """
    removed = [0, *(int((reason == step).sum()) for step in steps)]
    kept = len(reason) - np.cumsum(removed)
    return Table({"step": [title, *steps], "removed": removed, "kept": kept})


def select_cutouts(
    images,
    coverage=None,
    *,
    min_signal=THRESHOLDS["min_signal"],
    tau=THRESHOLDS["tau"],
    tau_step=THRESHOLDS["tau_step"],
    max_edge=THRESHOLDS["max_edge"],
    min_coverage=THRESHOLDS["min_coverage"],
):
    """Apply the cuts of V24 section 3.1.

    A cutout is *broken* where a pixel on its mosaic is not finite, or all are the same; too faint
    where its S/N_sigma (`source_signal`) is less than ``min_signal``; cropped or off its centre
    where a pixel of its edge is above ``max_edge`` of the largest one; and *incomplete* where less
    than ``min_coverage`` of it is on the mosaic and not exactly 0.

    Parameters
    ----------
    images : `numpy.ndarray`
        Shape (n, ny, nx); 0 where a cutout is not on its mosaic.
    coverage : `numpy.ndarray` or None, optional
        Shape (n,): share of the pixels that are on the mosaic. None means all.
    min_signal : float, optional
        Least S/N_sigma. Default 5.
    tau, tau_step : float, optional
        As `source_signal`. Default 5 and 0.5.
    max_edge : float, optional
        Largest pixel of the edge over the largest of the image, above 0. Default 0.8.
    min_coverage : float, optional
        Least share of the pixels with data, 0 to 1. Default 1.

    Returns
    -------
    selection : `CutoutSelection`
        The reason for each.

    Raises
    ------
    ValueError
        If a shape or a number is not as above.
    """
    images = np.asarray(images)
    if images.ndim != 3 or min(images.shape[1:]) < 3:
        raise ValueError(f"images have the shape {images.shape}; expected (n, ny, nx) of 3 or more")
    coverage = np.ones(len(images)) if coverage is None else np.asarray(coverage, dtype=float)
    if coverage.shape != (len(images),):
        raise ValueError(f"coverage has the shape {coverage.shape} for {len(images)} images")
    if not (max_edge > 0 and 0 <= min_coverage <= 1 and np.isfinite(min_signal)):
        raise ValueError(
            f"min_signal is {min_signal}, max_edge {max_edge} and min_coverage {min_coverage}; "
            "expected a number, one above 0 and one from 0 to 1"
        )
    _check_tau(tau, tau_step)
    parts = [
        _select_chunk(images[k : k + _CHUNK], coverage[k : k + _CHUNK], (tau, tau_step), max_edge)
        for k in range(0, len(images), _CHUNK)
    ]
    broken, signal, uncertain, edge, filled = (
        (np.concatenate(columns) for columns in zip(*parts, strict=True))
        if parts
        else (np.zeros(0, bool), np.zeros(0), np.zeros(0, bool), np.zeros(0, bool), np.zeros(0))
    )
    faint = ~(signal >= min_signal)
    failed = dict(zip(STEPS, (broken, faint, edge, filled < min_coverage), strict=True))
    reason = np.full(len(images), "", dtype=f"U{max(map(len, STEPS))}")
    for step in reversed(STEPS):  # the first one is written last
        reason[failed[step]] = step
    return CutoutSelection(reason, signal, uncertain)


def source_signal(images, *, tau=THRESHOLDS["tau"], tau_step=THRESHOLDS["tau_step"]):
    """S/N_sigma of V24 eq. 9 and 10: the mean of the source's pixels over that of the others.

    The source are the pixels above the sigma-clipped median by ``tau`` times the sigma-clipped
    standard deviation; where there are none, ``tau`` is lowered in steps, to 0 at most, until there
    are. Where the background has a mean of 0 or less, the ratio means nothing, and the error of
    that mean stands in for it.

    Parameters
    ----------
    images : `numpy.ndarray`
        Shape (n, ny, nx), finite.
    tau, tau_step : float, optional
        The first threshold, and by how much it is lowered, above 0. Default 5 and 0.5.

    Returns
    -------
    signal : `numpy.ndarray`
        Shape (n,); NaN for images without a pixel above the median.
    uncertain : `numpy.ndarray` of bool
        Shape (n,): the background has a mean of 0 or less.

    Raises
    ------
    ValueError
        If a threshold is not above 0.
    """
    from astropy.stats import sigma_clipped_stats

    _check_tau(tau, tau_step)
    images = np.asarray(images, dtype=float)
    if not len(images):
        return np.zeros(0), np.zeros(0, bool)
    _, median, deviation = (
        np.asarray(values, dtype=float) for values in sigma_clipped_stats(images, axis=(1, 2))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        highest = (images.max(axis=(1, 2)) - median) / deviation
        steps = np.maximum(0, np.floor((tau - highest) / tau_step) + 1)
        lowered = np.maximum(tau - tau_step * steps, 0)
        limit = np.where(deviation > 0, median + lowered * deviation, median)
        source = images > limit[:, None, None]
        n_source, n_other = source.sum(axis=(1, 2)), (~source).sum(axis=(1, 2))
        mean = np.where(source, images, 0).sum(axis=(1, 2)) / n_source
        background = np.where(source, 0, images).sum(axis=(1, 2)) / n_other
        uncertain = ~(background > 0)
        signal = mean / np.where(uncertain, deviation / np.sqrt(n_other), background)
    return np.where(n_source > 0, signal, np.nan), uncertain


def _check_tau(tau, tau_step):
    if not (0 < tau < np.inf and 0 < tau_step < np.inf):
        raise ValueError(f"tau is {tau} and tau_step {tau_step}; expected numbers above 0")


def _select_chunk(images, coverage, threshold, max_edge):
    finite = np.isfinite(images).all(axis=(1, 2))
    good = np.where(finite[:, None, None], images, 0)
    low, high = good.min(axis=(1, 2)), good.max(axis=(1, 2))
    broken = ~finite | (low == high)
    signal, uncertain = np.full(len(images), np.nan), np.zeros(len(images), bool)
    signal[~broken], uncertain[~broken] = source_signal(
        images[~broken], tau=threshold[0], tau_step=threshold[1]
    )
    edge = np.max(
        [good[:, rows, columns].reshape(len(good), -1).max(axis=1) for rows, columns in _EDGES],
        axis=0,
    )
    # What is off the mosaic is 0 here too.
    filled = np.minimum(coverage, (good != 0).mean(axis=(1, 2)))
    return broken, signal, uncertain, edge > max_edge * high, filled


_ALL = slice(None)
_EDGES = ((0, _ALL), (-1, _ALL), (_ALL, 0), (_ALL, -1))
