"""Figures of many fields with their bootstrap errors, and the thresholds behind them.

Fields are drawn with replacement, the same ones for every figure, so differences and ratios of two
methods on the same fields are bootstrapped in pairs.
"""

from dataclasses import dataclass

import astropy.units as u
import numpy as np

from diffsky.evaluation import bootstrap_scores, match_counts, pool_fields

HALF_A_BEAM, D24_RADIUS = 0.5, 0.18 * u.arcsec
TOLERANCE = 50e-6  # Jy
PURITY = 0.95
# A hair below what shares of 20 samples can be, so that rounding decides nothing.
RELIABILITIES = np.arange(0.1, 1.01, 0.05) - 1e-3
SIGNALS = np.arange(0.0, 8.01, 0.25)
N_DRAWS = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure and what it is in bootstraps; arithmetic keeps both together."""

    value: float
    draws: np.ndarray

    @property
    def error(self):
        """Standard deviation of the bootstraps."""
        known = self.draws[np.isfinite(self.draws)]
        return float(known.std()) if len(known) > 1 else np.nan

    def __truediv__(self, other):
        with np.errstate(invalid="ignore", divide="ignore"):
            return Estimate(
                float(np.divide(self.value, other.value)), np.divide(self.draws, other.draws)
            )

    def __sub__(self, other):
        other = other if isinstance(other, Estimate) else Estimate(other, np.asarray(other))
        return Estimate(self.value - other.value, self.draws - other.draws)

    def __str__(self):
        return f"{self.value:.3f} ±{self.error:.3f}"


class Bootstrap:
    """The drawing of fields."""

    def __init__(self, n_fields, *, n_draws=N_DRAWS, seed=0):
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(n_fields, np.full(n_fields, 1 / n_fields), size=n_draws)
        self.weights = np.vstack([np.ones(n_fields, dtype=int), drawn])

    def ratio(self, above, below):
        """Ratio of two sums over fields; each has one number a field."""
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (self.weights @ above) / (self.weights @ below)
        return Estimate(float(values[0]), values[1:])

    def median(self, values, field):
        """Median of values that belong to fields."""
        medians = np.full(len(self.weights), np.nan)
        if len(values):
            order = np.argsort(values)
            total = self.weights[:, field[order]].cumsum(axis=1)
            # The mean of the two values in the middle of an even number.
            halves = ((total > (total[:, -1:] - 1) // 2), (total > total[:, -1:] // 2))
            middle = np.mean([values[order][half.argmax(axis=1)] for half in halves], axis=0)
            medians = np.where(total[:, -1] > 0, middle, np.nan)
        return Estimate(float(medians[0]), medians[1:])


class Scores:
    """One method at one threshold and radius in many fields."""

    def __init__(self, results, method, threshold, boot, *, radius=HALF_A_BEAM):
        self.pool = pool_fields(results, method, radius=radius, threshold=threshold)
        self.boot, self.n_fields = boot, len(results)
        self._found, self._true = self._count(), self._count(self.pool.is_true)
        self._truth = np.bincount(self.pool.truth_field, minlength=self.n_fields)

    def _count(self, rows=slice(None), values=None):
        field = self.pool.field[rows]
        weights = None if values is None else values[rows]
        return np.bincount(field, weights, minlength=self.n_fields)

    @property
    def purity(self):
        """Share of the detections that are true."""
        return self.boot.ratio(self._true, self._found)

    @property
    def completeness(self):
        """Share of the true sources that are found."""
        return self.boot.ratio(self._true, self._truth)

    @property
    def f1(self):
        """D24 eq. 16."""
        return self.boot.ratio(2 * self._true, self._found + self._truth)

    def mean_of(self, values):
        """Mean of one number for each detection: of reliabilities, the purity they predict."""
        return self.boot.ratio(self._count(values=values), self._found)

    def completeness_between(self, low, high):
        """Completeness of the sources with a normalised S/N in a range."""
        inside = (self.pool.truth.snr >= low) & (self.pool.truth.snr < high)
        counts = [
            np.bincount(self.pool.truth_field[rows], minlength=self.n_fields)
            for rows in (inside & self.pool.is_found, inside)
        ]
        return self.boot.ratio(*counts)

    @property
    def fluxes_within(self):
        """Share of the detected fluxes that are right to 50 µJy."""
        error = np.abs(self.pool.found.flux - self.pool.true_flux)
        return self.boot.ratio(self._count(self.pool.is_true & (error <= TOLERANCE)), self._true)

    def flux_bias(self, low, high):
        """Median of (flux - true) / flux for an estimated S/N in a range, and how many."""
        pool = self.pool
        rows = pool.is_true & (pool.found.snr >= low) & (pool.found.snr < high)
        error = (pool.found.flux[rows] - pool.true_flux[rows]) / pool.found.flux[rows]
        return self.boot.median(error, pool.field[rows]), int(rows.sum())


def thresholds_of(results, method):
    """Thresholds worth trying: shares of samples, or S/N from one on that all detections pass."""
    if all(one.catalogs[method].flux_samples is not None for one in results):
        return RELIABILITIES
    lowest = min(one.catalogs[method].score.min(initial=np.inf) for one in results)
    passed = np.flatnonzero(lowest >= SIGNALS)
    return SIGNALS[passed[-1] if np.isfinite(lowest) and len(passed) else 0 :]


def best_threshold(results, method, grid=None):
    """Threshold of the best F1 at half a beam, of a grid or of all that are worth trying."""
    grid = thresholds_of(results, method) if grid is None else grid
    return float(grid[np.nanargmax(np.nan_to_num(_totals(results, method, grid)[2]))])


def pure_threshold(results, method):
    """Least threshold of a purity of 0.95 or more; the highest one where there is none."""
    grid = thresholds_of(results, method)
    pure = np.nan_to_num(_totals(results, method, grid)[0]) >= PURITY
    return float(grid[pure.argmax() if pure.any() else -1])


def _totals(results, method, grid):
    counts = match_counts(results, method, thresholds=grid, radius=HALF_A_BEAM)
    return bootstrap_scores(counts, n_bootstrap=1)[0]


def completeness_at_purity(results, method, boot, low, high):
    """Completeness between two S/N at the least threshold with a purity of 0.95 on these fields.

    The threshold is found anew in every bootstrap. No threshold of other fields comes in, so two
    methods are compared at the same purity exactly.
    """
    grid = thresholds_of(results, method)
    rows = [Scores(results, method, threshold, boot) for threshold in grid]
    purity, share = (
        np.array([[one.value, *one.draws] for one in estimates])
        for estimates in (
            [row.purity for row in rows],
            [row.completeness_between(low, high) for row in rows],
        )
    )
    pure = np.nan_to_num(purity) >= PURITY
    first = np.where(pure.any(axis=0), pure.argmax(axis=0), len(grid) - 1)
    values = share[first, np.arange(share.shape[1])]
    return Estimate(float(values[0]), values[1:])
