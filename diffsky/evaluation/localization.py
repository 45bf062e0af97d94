"""How well sources are found and measured, against their signal-to-noise ratio."""

import numpy as np
from astropy.stats import binom_conf_interval, mad_std
from astropy.table import Table

__all__ = [
    "binomial_interval",
    "bootstrap_scores",
    "close_pairs",
    "flux_accuracy",
    "position_accuracy",
    "scores_by_threshold",
    "share_by_snr",
    "theoretical_position_error",
]

_FWHM = np.sqrt(8 * np.log(2))
_ONE_SIGMA = 0.6826894921370859
_MEDIAN_ERROR = np.sqrt(np.pi / 2)  # of the median of normal values, over that of the mean


def binomial_interval(n_success, n_trials, *, level=_ONE_SIGMA):
    """Share of successes with its Wilson interval.

    Parameters
    ----------
    n_success, n_trials : array_like of int
        Counts of one shape.
    level : float, optional
        Confidence level; one standard deviation by default.

    Returns
    -------
    share, lower, upper : `numpy.ndarray`
        Of that shape; NaN where there were no trials.

    Raises
    ------
    ValueError
        If there are more successes than trials, or fewer than none.
    """
    k, n = np.asarray(n_success), np.asarray(n_trials)
    if k.shape != n.shape or (k < 0).any() or (k > n).any():
        raise ValueError(f"expected 0 <= n_success <= n_trials of one shape, got {k} and {n}")
    share, lower, upper = (np.full(k.shape, np.nan) for _ in range(3))
    some = n > 0
    if some.any():
        share[some] = k[some] / n[some]
        lower[some], upper[some] = binom_conf_interval(
            k[some], n[some], confidence_level=level, interval="wilson"
        )
    return share, lower, upper


def share_by_snr(snr, success, *, edges, level=_ONE_SIGMA):
    """Share of successes in bins of S/N, with binomial intervals.

    With the normalised injected flux of the true sources and whether they were found, this is the
    completeness (D24 fig. 13); with the estimated S/N of the detections and whether they are true,
    the purity. A false detection has no injected flux.

    Parameters
    ----------
    snr : array_like
        Shape (n,).
    success : array_like of bool
        Shape (n,).
    edges : array_like
        Edges of the bins, ascending, shape (n_bins + 1,); each bin has its lower edge.
    level : float, optional
        Confidence level of the intervals; one standard deviation by default.

    Returns
    -------
    table : `~astropy.table.Table`
        One row a bin: snr_low, snr_high, n, share, lower, upper.

    Raises
    ------
    ValueError
        For edges that do not ascend, or arrays of other lengths.
    """
    which, edges = _bins(snr, edges)
    success = np.asarray(success, dtype=bool)
    if success.shape != which.shape:
        raise ValueError(f"success has shape {success.shape}; expected that of snr {which.shape}")
    n, k = _count(which, edges), _count(which[success], edges)
    table = _bin_table(edges, n)
    table["share"], table["lower"], table["upper"] = binomial_interval(k, n, level=level)
    return table


def bootstrap_scores(counts, *, n_bootstrap=1000, seed=0):
    """Purity, completeness and F1 of the counts of many fields, and bootstraps of them.

    Fields are drawn with replacement. The same seed draws the same fields, so that ratios of two
    methods can be bootstrapped in pairs.

    Parameters
    ----------
    counts : `numpy.ndarray`
        Shape (n_fields, ..., 3), as from `match_counts`.
    n_bootstrap : int, optional
        Number of bootstraps. Default 1000.
    seed : int, optional
        Of the drawing.

    Returns
    -------
    scores : `numpy.ndarray`
        Shape (3, ...): purity, completeness, F1 (D24 eq. 14 to 16); NaN where undefined.
    draws : `numpy.ndarray`
        Shape (n_bootstrap, 3, ...); their standard deviation is the error of the scores.
    """
    n_fields = len(counts)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_fields, np.full(n_fields, 1 / n_fields), size=n_bootstrap)
    drawn = np.tensordot(weights, counts, axes=1)
    return _scores(counts.sum(axis=0)), np.moveaxis(_scores(drawn), 0, 1)


def scores_by_threshold(counts, thresholds, *, n_bootstrap=1000, seed=0):
    """Purity, completeness and F1 against the threshold on the score (D24 fig. 11).

    Parameters
    ----------
    counts : `numpy.ndarray`
        Shape (n_fields, n_thresholds, 3), as from `match_counts`.
    thresholds : array_like
        Shape (n_thresholds,).
    n_bootstrap, seed : int, optional
        As for `bootstrap_scores`.

    Returns
    -------
    table : `~astropy.table.Table`
        One row a threshold: threshold, purity, completeness, f1, and each with ``_err``.
    """
    scores, draws = bootstrap_scores(counts, n_bootstrap=n_bootstrap, seed=seed)
    spread = _std(draws)
    table = Table({"threshold": np.asarray(thresholds, dtype=float)})
    for row, name in enumerate(("purity", "completeness", "f1")):
        table[name], table[f"{name}_err"] = scores[row], spread[row]
    return table


def theoretical_position_error(snr, *, beam, size=0.0):
    r"""Least standard deviation of one coordinate of a source in a dirty image.

    .. math:: \sigma_x = \frac{\sqrt{\theta_b^2 + 2 \theta_s^2}}{\sqrt{8 \ln 2}\, \rho}

    with the beam :math:`\theta_b`, the size of the source :math:`\theta_s` (FWHM), and the S/N
    :math:`\rho` of a matched filter. It is the Cramér-Rao bound where the noise has the
    correlation of the dirty beam, as natural weighting gives it: the Fisher information of a
    template of flux S is :math:`-(S / \sigma)^2\, \partial_x^2 (g * P * g)(0)`. For a point source
    it is :math:`0.425\, \theta_b / \rho`, which Condon (1997, PASP 109, 166) has for a Gaussian
    fit in such noise; the rule of thumb :math:`\theta_b / (2 \rho)` is 18 % above it.

    Parameters
    ----------
    snr : array_like
        Normalised injected flux (`normalized_injected_flux`), shape (n,): peak over noise. From it
        and the sizes follows the S/N of the matched filter.
    beam : array_like
        FWHM of the beam.
    size : array_like, optional
        FWHM of the sources, in the unit of the beam. Default 0, points.

    Returns
    -------
    error : `numpy.ndarray`
        Shape (n,), in the unit of the beam.
    """
    beam2, size2 = np.square(beam), np.square(size)
    # The peak falls as b2 / (b2 + s2); the S/N of the matched filter as sqrt(b2 / (b2 + 2 s2)).
    matched = np.asarray(snr) * (beam2 + size2) / np.sqrt(beam2 * (beam2 + 2 * size2))
    return np.sqrt(beam2 + 2 * size2) / (_FWHM * matched)


def position_accuracy(separation, snr, *, beam, size, radius, edges):
    """Position errors in bins of S/N beside the theoretical ones.

    The error of one coordinate is taken from the median separation, which for a normal error
    :math:`s` is :math:`s \\sqrt{2 \\ln 2}`. A match is no farther than the radius, so the median
    expected of each source is that of the truncated distribution.

    Parameters
    ----------
    separation : array_like
        Shape (n,): separations of the matches, arcsec. All others must have been left out.
    snr : array_like
        Shape (n,): their normalised injected fluxes.
    beam, size, radius : array_like
        Shape (n,) or numbers: FWHM of beam and source, and the matching radius, arcsec.
    edges : array_like
        Edges of the bins of S/N.

    Returns
    -------
    table : `~astropy.table.Table`
        One row a bin: snr_low, snr_high, n; error and theory, standard deviations of one
        coordinate in beams; ratio, the median of separations over those expected, 1 for a finder
        at the limit; ratio_err.
    """
    which, edges = _bins(snr, edges)
    separation = np.asarray(separation, dtype=float)
    theory = theoretical_position_error(snr, beam=beam, size=size)
    within = 1 - np.exp(-(np.square(radius) / (2 * theory**2)))
    expected = theory * np.sqrt(-2 * np.log1p(-within / 2))
    table = _bin_table(edges, _count(which, edges))
    rayleigh = np.sqrt(2 * np.log(2))
    table["error"] = _per_bin(np.median, separation / beam / rayleigh, which, edges)
    table["theory"] = _per_bin(np.median, theory / beam, which, edges)
    table["ratio"] = _per_bin(np.median, separation / expected, which, edges)
    # The median r of n Rayleigh values has the standard deviation 1 / (2 p(r) sqrt(n)).
    table["ratio_err"] = _over_root(1 / (2 * np.log(2)), table["n"]) * table["ratio"]
    return table


def flux_accuracy(flux, true_flux, snr, *, edges):
    """Bias and scatter of fluxes in bins of the estimated S/N.

    Errors are relative to the estimated flux. Sources with the same estimate are what a reader of
    a catalogue sees, and the mean of a posterior is right on average among them; sources with the
    same true flux are not, since a catalogue lists the ones that the noise raised.

    Parameters
    ----------
    flux, true_flux : array_like
        Shape (n,): estimated and true fluxes of the matches, Jy.
    snr : array_like
        Shape (n,): estimated apparent peak over the noise.
    edges : array_like
        Edges of the bins of S/N.

    Returns
    -------
    table : `~astropy.table.Table`
        One row a bin: snr_low, snr_high, n; bias, the median of (flux - true) / flux; bias_err;
        mean_bias; scatter, a robust standard deviation (from the median absolute deviation).
        Error and scatter of a single source are NaN.
    """
    which, edges = _bins(snr, edges)
    flux = np.asarray(flux, dtype=float)
    error = (flux - np.asarray(true_flux)) / flux
    table = _bin_table(edges, _count(which, edges))
    scatter = _per_bin(_scatter, error, which, edges)
    table["bias"] = _per_bin(np.median, error, which, edges)
    table["bias_err"] = _MEDIAN_ERROR * _over_root(scatter, table["n"])
    table["mean_bias"] = _per_bin(np.mean, error, which, edges)
    table["scatter"] = scatter
    return table


def close_pairs(pool, *, edges=(0.3, 0.5, 0.75, 1.0, 1.5, 2.0)):
    """Pairs of close sources: how many are told apart, and the flux of each (D24 appendix A).

    A pair are two true sources each of which is the other's nearest. It is told apart when each
    has a detection of its own.

    Parameters
    ----------
    pool : `diffsky.evaluation.Pool`
        Fields that were matched.
    edges : array_like, optional
        Edges of the bins of separation, in beams.

    Returns
    -------
    table : `~astropy.table.Table`
        One row a bin: separation_low, separation_high, n; told_apart with lower and upper (one
        standard deviation); brighter and fainter, the median of estimated over true flux of the
        brighter and the fainter source where they are told apart, each with its error; n_merged,
        pairs with one detection, and merged, the median of its flux over the sum of both.
    """
    first, second, separation = _mutual_neighbours(pool.truth, pool.truth_field, pool)
    which, edges = _bins(separation, edges)
    swap = pool.truth.flux[first] < pool.truth.flux[second]
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    matches = pool.truth_match[np.stack([first, second])].reshape(2, -1)
    both, one = (matches >= 0).all(axis=0), (matches >= 0).sum(axis=0) == 1
    true = pool.truth.flux[np.stack([first, second])].reshape(2, -1)
    estimated = np.append(pool.found.flux, 0.0)[matches]
    n = _count(which, edges)
    table = Table({"separation_low": edges[:-1], "separation_high": edges[1:], "n": n})
    share, lower, upper = binomial_interval(_count(which[both], edges), n)
    table["told_apart"], table["lower"], table["upper"] = share, lower, upper
    n_both = _count(which[both], edges)
    for row, name in enumerate(("brighter", "fainter")):
        ratio = (estimated / true)[row][both]
        table[name] = _per_bin(np.median, ratio, which[both], edges)
        scatter = _per_bin(_scatter, ratio, which[both], edges)
        table[f"{name}_err"] = _MEDIAN_ERROR * _over_root(scatter, n_both)
    table["n_merged"] = _count(which[one], edges)
    merged = estimated.sum(axis=0) / true.sum(axis=0)
    table["merged"] = _per_bin(np.median, merged[one], which[one], edges)
    return table


def _mutual_neighbours(truth, field, pool):
    """Pairs of sources of one field that are each other's nearest, with their separations."""
    rows = []
    for number in np.unique(field):
        mine = np.flatnonzero(field == number)
        if len(mine) < 2:
            continue
        distance = np.hypot(*(np.subtract.outer(v[mine], v[mine]) for v in (truth.x, truth.y)))
        np.fill_diagonal(distance, np.inf)
        nearest = distance.argmin(axis=1)
        k = np.flatnonzero(nearest[nearest] == np.arange(len(mine)))
        k = k[k < nearest[k]]
        beams = distance[k, nearest[k]] / pool.field_beam[number]
        rows.append((mine[k], mine[nearest[k]], beams))
    if not rows:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int), np.zeros(0)
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


def _scores(counts):
    true, found, truth = np.moveaxis(np.asarray(counts, dtype=float), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([true / found, true / truth, 2 * true / (found + truth)])


def _std(draws):
    """Standard deviation over the first axis, of what is defined; NaN where little is."""
    enough = np.isfinite(draws).sum(axis=0) > 1
    return np.where(enough, np.nanstd(np.where(enough, draws, 0.0), axis=0), np.nan)


def _bins(values, edges):
    values, edges = np.asarray(values, dtype=float), np.asarray(edges, dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges must be two or more ascending numbers, got {edges}")
    if values.ndim != 1:
        raise ValueError(f"expected a list of numbers to bin, got an array of shape {values.shape}")
    return np.digitize(values, edges) - 1, edges


def _count(which, edges):
    inside = which[(which >= 0) & (which < len(edges) - 1)]
    return np.bincount(inside, minlength=len(edges) - 1)


def _bin_table(edges, n):
    return Table({"snr_low": edges[:-1], "snr_high": edges[1:], "n": n})


def _per_bin(function, values, which, edges):
    groups = (values[which == k] for k in range(len(edges) - 1))
    return np.array([function(group) if len(group) else np.nan for group in groups])


def _scatter(values):
    """Robust standard deviation; a single value has none."""
    return mad_std(values) if len(values) > 1 else np.nan


def _over_root(value, n):
    n = np.asarray(n)
    return np.divide(value, np.sqrt(n), out=np.full(n.shape, np.nan), where=n > 0)
