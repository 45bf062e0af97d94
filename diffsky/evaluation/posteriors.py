"""Whether posterior samples are samples of the posterior: ranks of the truth, and TARP."""

import contextlib
from dataclasses import dataclass

import numpy as np

__all__ = ["RankTest", "TarpCurve", "rank_test", "require_tarp", "sbc_ranks", "tarp_curve"]


@dataclass(frozen=True)
class RankTest:
    """Ranks of the truth among posterior samples, tested for uniformity.

    Parameters
    ----------
    counts, expected : `numpy.ndarray`
        Shape (n_bins,): ranks in each bin, and the number that uniform ones would have.
    p_value : float
        Of Pearson's chi-squared test.
    """

    counts: np.ndarray
    expected: np.ndarray
    p_value: float


@dataclass(frozen=True)
class TarpCurve:
    """Expected coverage of posteriors by tests of accuracy with random points.

    Parameters
    ----------
    credibility, coverage, coverage_err : `numpy.ndarray`
        Shape (n_bins + 1,): credibility levels from 0 to 1, the share of truths in regions of
        this credibility, and its bootstrap standard deviation. Calibrated posteriors lie on the
        diagonal; too narrow ones cross it.
    distance : float
        Largest distance of the curve from the diagonal.
    p_value : float
        Share of bootstraps whose largest distance from the curve itself is this large or larger.
    """

    credibility: np.ndarray
    coverage: np.ndarray
    coverage_err: np.ndarray
    distance: float
    p_value: float


def sbc_ranks(truth, samples, *, dither=0.0, seed=0):
    """Ranks of true values among their posterior samples, for simulation-based calibration.

    Of exact posteriors they are uniform from 0 to n_samples (Talts et al. 2018,
    arXiv:1804.06788). Equal values are ordered at random.

    Parameters
    ----------
    truth : array_like
        Shape (n,).
    samples : array_like
        Shape (n, n_samples).
    dither : float, optional
        Half width of uniform noise that is added to truth and samples, below which differences
        mean nothing. Default 0.
    seed : int, optional
        Of that noise and of the order of equal values.

    Returns
    -------
    ranks : `numpy.ndarray`
        Shape (n,), int.

    Raises
    ------
    ValueError
        For arrays that do not fit.
    """
    truth, samples = np.asarray(truth, dtype=float), np.asarray(samples, dtype=float)
    if truth.ndim != 1 or samples.ndim != 2 or len(samples) != len(truth):
        raise ValueError(
            f"expected truth (n,) and samples (n, n_samples), got {truth.shape}, {samples.shape}"
        )
    rng = np.random.default_rng(seed)
    truth, samples = (v + dither * rng.uniform(-1, 1, v.shape) for v in (truth, samples))
    below = (samples < truth[:, None]).sum(axis=1)
    equal = (samples == truth[:, None]).sum(axis=1)
    return below + rng.integers(0, equal + 1)


def rank_test(ranks, n_samples, *, n_bins=None):
    """Test ranks for uniformity.

    Parameters
    ----------
    ranks : array_like of int
        Shape (n,), each from 0 to ``n_samples``.
    n_samples : int
        Number of posterior samples.
    n_bins : int or None, optional
        Neighbouring ranks are counted in so many bins. None takes as many as give 10 ranks a bin
        or more, 10 at most.

    Returns
    -------
    test : `RankTest`
        Its p-value is NaN for fewer than 10 ranks.

    Raises
    ------
    ValueError
        For ranks out of range.
    """
    from scipy.stats import chisquare

    ranks = np.asarray(ranks)
    if ranks.ndim != 1 or ranks.size and not (ranks.min() >= 0 and ranks.max() <= n_samples):
        raise ValueError(f"ranks must be a list of numbers from 0 to {n_samples}, got {ranks}")
    if n_bins is None:
        n_bins = int(np.clip(len(ranks) // 10, 1, min(10, n_samples + 1)))
    groups = np.array_split(np.arange(n_samples + 1), n_bins)
    owner = np.repeat(np.arange(n_bins), [len(group) for group in groups])
    counts = np.bincount(owner[ranks], minlength=n_bins)
    expected = len(ranks) * np.bincount(owner) / (n_samples + 1)
    known = len(ranks) >= 10 and n_bins > 1
    return RankTest(counts, expected, float(chisquare(counts, expected)[1]) if known else np.nan)


def tarp_curve(truth, samples, *, dither=0.0, n_bootstrap=100, seed=0):
    """Test the coverage of posteriors with random points (TARP, by the package of this name).

    Lemos et al. 2023, arXiv:2302.03026. Unlike ranks it sees several dimensions together. The
    random points are uniform in the box of true values and samples. The box of the true values
    alone would favour these: they lie in it by definition, and a sample in many dimensions hardly
    ever does where the fields are few.

    Parameters
    ----------
    truth : array_like
        Shape (n, d), n >= 2.
    samples : array_like
        Shape (n, n_samples, d).
    dither : float, optional
        Half width of uniform noise that is added to truth and samples: 0.5 for whole numbers,
        which are equal too often. Default 0.
    n_bootstrap : int, optional
        Number of bootstraps over n. Default 100.
    seed : int, optional
        Of points, noise and bootstraps.

    Returns
    -------
    curve : `TarpCurve`
        At the n_samples + 2 levels that n_samples samples can tell apart.

    Raises
    ------
    ImportError
        Without the extra ``evaluation``.
    ValueError
        For arrays that do not fit.
    """
    coverage = require_tarp()
    truth, samples = np.asarray(truth, dtype=float), np.asarray(samples, dtype=float)
    fits = truth.ndim == 2 and samples.ndim == 3 and len(truth) >= 2
    if not fits or samples.shape[::2] != truth.shape or not samples.shape[1]:
        raise ValueError(
            "expected truth (n, d) with n >= 2 and samples (n, n_samples, d), got "
            f"{truth.shape} and {samples.shape}"
        )
    rng = np.random.default_rng(seed)
    truth, samples = (v + dither * rng.uniform(-1, 1, v.shape) for v in (truth, samples))
    both = np.concatenate([truth[:, None], samples], axis=1)
    low, high = both.min(axis=(0, 1)), both.max(axis=(0, 1))
    width = np.where(high > low, high - low, 1.0)
    truth, samples = (truth - low) / width, np.swapaxes((samples - low) / width, 0, 1)
    points = rng.uniform(size=truth.shape)
    levels = np.linspace(0, 1, samples.shape[0] + 2)

    def _run(rows):
        with _own_random_state():
            found, at = coverage(
                samples[:, rows], truth[rows], references=points[rows], norm=False,
                num_alpha_bins=len(levels) - 1,
            )  # fmt: skip
        return np.interp(levels, at, found, left=0.0, right=1.0)

    curve = _run(np.arange(len(truth)))
    picks = rng.integers(len(truth), size=(n_bootstrap, len(truth)))
    drawn = np.array([_run(rows) for rows in picks])
    distance = float(np.abs(curve - levels).max())
    p_value = float(np.mean(np.abs(drawn - curve).max(axis=1) >= distance))
    return TarpCurve(levels, curve, drawn.std(axis=0), distance, p_value)


def require_tarp():
    """Import TARP, or say what to install.

    Returns
    -------
    get_tarp_coverage : callable
        The function of the package.

    Raises
    ------
    ImportError
        Without the extra ``evaluation``.
    """
    try:
        from tarp import get_tarp_coverage
    except ImportError as error:
        raise ImportError(
            f"TARP needs the package tarp ({error}); install diffsky-radio[evaluation]"
        ) from error
    return get_tarp_coverage


@contextlib.contextmanager
def _own_random_state():
    """Keep numpy's global random state, which tarp seeds anew."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
