"""Whether reliabilities are probabilities, and intervals cover."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from diffsky.evaluation.localization import binomial_interval

__all__ = [
    "ReliabilityDiagram",
    "gaussian_coverage",
    "interval_coverage",
    "reliability_diagram",
]

LEVELS = (0.5, 0.68, 0.9)
_TINY = 1e-9


@dataclass(frozen=True)
class ReliabilityDiagram:
    """Share of true detections against their reliability.

    Parameters
    ----------
    table : `~astropy.table.Table`
        One row a bin: low, high, n, reliability (mean), share (of true ones), lower, upper
        (binomial, one standard deviation).
    ece : float
        Expected calibration error: mean of \\|reliability - share\\| over the bins, weighted by n.
    ece_err : float
        Its bootstrap standard deviation over fields.
    ece_chance : float
        What the same number of perfectly calibrated detections would have on average, since
        counts of finite samples never agree exactly.
    p_value : float
        Share of such perfectly calibrated sets with an error as large or larger.
    """

    table: Table
    ece: float
    ece_err: float
    ece_chance: float
    p_value: float


def reliability_diagram(reliability, is_true, *, field=None, n_bins=10, n_bootstrap=1000, seed=0):
    """Compare reliabilities with the shares of detections that are true.

    Parameters
    ----------
    reliability : array_like
        Shape (n,), between 0 and 1.
    is_true : array_like of bool
        Shape (n,): whether each detection has a true source.
    field : array_like of int, optional
        Shape (n,): the field of each detection. Fields are what is drawn for the bootstrap; by
        default each detection is one.
    n_bins : int, optional
        Number of equal bins, each with its upper edge. Default 10.
    n_bootstrap : int, optional
        Number of bootstraps and of perfectly calibrated sets. Default 1000.
    seed : int, optional
        Of both.

    Returns
    -------
    diagram : `ReliabilityDiagram`
        Its errors are NaN without detections.

    Raises
    ------
    ValueError
        For reliabilities that are none, or arrays of other lengths.
    """
    reliability, is_true = np.asarray(reliability, dtype=float), np.asarray(is_true, bool)
    field = np.arange(len(reliability)) if field is None else np.asarray(field)
    _check_shares(reliability, is_true, field)
    which = np.ceil(reliability * n_bins - _TINY).astype(int).clip(1, n_bins) - 1
    n, total, n_true = _diagram_sums(which, reliability, is_true, n_bins)
    share, lower, upper = binomial_interval(n_true.astype(int), n.astype(int))
    edges = np.linspace(0, 1, n_bins + 1)
    mean = np.divide(total, n, out=np.full(n_bins, np.nan), where=n > 0)
    table = Table({"low": edges[:-1], "high": edges[1:], "n": n.astype(int), "reliability": mean})
    table["share"], table["lower"], table["upper"] = share, lower, upper
    if not len(reliability):
        return ReliabilityDiagram(table, *[np.nan] * 4)
    rng = np.random.default_rng(seed)
    ece = _calibration_error(n, total, n_true)
    drawn = _calibration_error(*_draw_fields(which, reliability, is_true, field, n_bins,
                                             n_bootstrap, rng))  # fmt: skip
    perfect = _draw_perfect(which, reliability, n_bins, n_bootstrap, rng)
    chance = _calibration_error(n, total, perfect)
    p_value = float(np.mean(chance >= ece - _TINY))
    return ReliabilityDiagram(table, float(ece), float(drawn.std()), float(chance.mean()), p_value)


def interval_coverage(truth, samples, *, levels=LEVELS):
    """Share of true values in the central intervals of their samples.

    The intervals are between quantiles with Weibull's plotting positions, as those of a
    catalogue: they cover what they say for few samples too (1 to 2 % more where ends lie between
    two of ten samples). But n samples have no interval that covers more than (n - 1) / (n + 1),
    from the lowest to the highest: a source in ten samples has none of 90 %. ``expected`` is what
    exact posteriors with these numbers of samples cover.

    Parameters
    ----------
    truth : array_like
        Shape (n,).
    samples : array_like
        Shape (n, n_samples). NaN are left out, for instance samples without the source; rows
        with fewer than 3 others do not count.
    levels : sequence of float, optional
        Levels of the intervals. Default 0.5, 0.68, 0.9.

    Returns
    -------
    table : `~astropy.table.Table`
        One row a level: level, n, coverage, lower, upper (binomial, one standard deviation) and
        expected.

    Raises
    ------
    ValueError
        For arrays that do not fit, or levels that are none.
    """
    truth, samples = np.asarray(truth, dtype=float), np.asarray(samples, dtype=float)
    if truth.ndim != 1 or samples.ndim != 2 or len(samples) != len(truth):
        raise ValueError(
            f"expected truth (n,) and samples (n, n_samples), got {truth.shape}, {samples.shape}"
        )
    n = np.isfinite(samples).sum(axis=1)
    enough = n >= 3
    truth, samples = truth[enough], samples[enough]
    most = ((n - 1) / (n + 1))[enough]

    samples, n = np.sort(samples, axis=1), n[enough]

    def _ends(level):
        return (_weibull(samples, n, share) for share in ((1 - level) / 2, (1 + level) / 2))

    return _coverage(truth, _ends, levels, most)


def gaussian_coverage(truth, mean, error, *, levels=LEVELS):
    """Share of true values in Gaussian intervals.

    Parameters
    ----------
    truth, mean, error : array_like
        Shape (n,): true values, and the means and standard deviations of the Gaussians. Rows that
        are not finite do not count.
    levels : sequence of float, optional
        Levels of the intervals. Default 0.5, 0.68, 0.9.

    Returns
    -------
    table : `~astropy.table.Table`
        As from `interval_coverage`.

    Raises
    ------
    ValueError
        For arrays that do not fit, or levels that are none.
    """
    from scipy.stats import norm

    truth, mean, error = np.broadcast_arrays(*(np.asarray(v, float) for v in (truth, mean, error)))
    if truth.ndim != 1:
        raise ValueError(f"expected lists of numbers, got shape {truth.shape}")
    known = np.isfinite(truth) & np.isfinite(mean) & np.isfinite(error)
    truth, mean, error = truth[known], mean[known], error[known]

    def _ends(level):
        reach = norm.ppf((1 + level) / 2) * error
        return mean - reach, mean + reach

    return _coverage(truth, _ends, levels)


def _check_shares(reliability, is_true, field):
    if not reliability.ndim == 1 or not reliability.shape == is_true.shape == field.shape:
        raise ValueError(
            "reliability, is_true and field must be of one length, got shapes "
            f"{reliability.shape}, {is_true.shape} and {field.shape}"
        )
    if not ((reliability >= 0) & (reliability <= 1)).all():
        raise ValueError("reliabilities must be between 0 and 1")


def _diagram_sums(which, reliability, is_true, n_bins):
    weights = (np.ones(len(which)), reliability, is_true)
    return np.array([np.bincount(which, weight, n_bins) for weight in weights])


def _draw_fields(which, reliability, is_true, field, n_bins, n_draws, rng):
    """Sums of each bin in fields drawn with replacement, shape (3, n_draws, n_bins)."""
    _, owner = np.unique(field, return_inverse=True)
    n_fields = owner.max() + 1
    flat = owner * n_bins + which
    sums = _diagram_sums(flat, reliability, is_true, n_fields * n_bins)
    sums = sums.reshape(3, n_fields, n_bins)
    shares = np.full(n_fields, 1 / n_fields)
    weights = rng.multinomial(n_fields, shares, size=n_draws)
    return weights @ sums


def _draw_perfect(which, reliability, n_bins, n_draws, rng):
    """Numbers of true detections in each bin if reliabilities are probabilities."""
    values, first, n = np.unique(reliability, return_index=True, return_counts=True)
    drawn = rng.binomial(n, values, size=(n_draws, len(values)))
    return drawn @ np.eye(n_bins, dtype=int)[which[first]]


def _calibration_error(n, total, n_true):
    """Mean of |reliability - share|: the bins' weights cancel their means' denominators."""
    return np.abs(total - n_true).sum(axis=-1) / n.sum(axis=-1)


def _weibull(samples, n, share):
    """Quantile of the first n values of ascending rows, between their plotting positions."""
    place = np.clip(share * (n + 1) - 1, 0, n - 1)
    low = np.floor(place).astype(int)
    rows = np.arange(len(n))
    below, above = samples[rows, low], samples[rows, np.minimum(low + 1, n - 1)]
    return below + (place - low) * (above - below)


def _coverage(truth, ends, levels, most=1.0):
    levels = np.asarray(levels, dtype=float)
    if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"levels must be numbers between 0 and 1, got {levels}")
    inside = []
    for level in levels:
        lower, upper = ends(level)
        inside.append(int(((truth >= lower) & (truth <= upper)).sum()))
    n = np.full(len(levels), len(truth))
    share, lower, upper = binomial_interval(np.array(inside), n)
    table = Table({"level": levels, "n": n, "coverage": share, "lower": lower, "upper": upper})
    reachable = np.minimum(np.broadcast_to(most, len(truth)), levels[:, None])
    table["expected"] = reachable.mean(axis=1) if len(truth) else np.nan
    return table
