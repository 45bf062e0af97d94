"""The tables of a report, one function each."""

import numpy as np
from astropy.table import Table

from diffsky.evaluation.calibration import (
    gaussian_coverage,
    interval_coverage,
    reliability_diagram,
)
from diffsky.evaluation.localization import (
    binomial_interval,
    bootstrap_scores,
    close_pairs,
    flux_accuracy,
    position_accuracy,
    scores_by_threshold,
    share_by_snr,
)
from diffsky.evaluation.posteriors import rank_test, sbc_ranks, tarp_curve
from diffsky.evaluation.results import match_counts, pool_fields

__all__ = [
    "DETAILS",
    "best_threshold",
    "has_reliability",
    "posterior_tables",
    "reliability_table",
    "summary_row",
]

SNR_EDGES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 30.0, 100.0, 1000.0, 10000.0)
BRIGHT = 5.0  # the S/N from which on the summary has flux bias and position error
# A hair below what shares of samples can be, so that rounding decides nothing.
_RELIABILITIES = np.arange(0.1, 0.975, 0.05) - 1e-3
_SIGNALS = np.arange(0.0, 8.1, 0.25)
# Below these differences the quantities of posterior samples mean nothing.
_DITHER = {"total flux": 0.1, "number of sources": 0.5, "pixel values": 0.1}
_LEAST_FIELDS = 2


def has_reliability(results, method):
    """Whether the scores of a method are reliabilities."""
    return all(one.catalogs[method].flux_samples is not None for one in results)


def best_threshold(results, method, radius):
    """Threshold on the score with the best F1."""
    thresholds = _grid(results, method)
    counts = match_counts(results, method, thresholds=thresholds, radius=radius)
    return float(thresholds[np.nanargmax(np.nan_to_num(bootstrap_scores(counts)[0][2]))])


def summary_row(results, method, limit, radius, n_bootstrap, seed, *, reference=None):
    """All figures of merit of one method at one threshold."""
    options = {"n_bootstrap": n_bootstrap, "seed": seed}
    counts = match_counts(results, method, thresholds=[limit], radius=radius)[:, 0]
    (scores, draws), total = bootstrap_scores(counts, **options), counts.sum(axis=0)
    row = {"threshold": limit, "n_fields": len(results)}
    row |= dict(zip(("n_true", "n_found", "n_truth"), map(int, total), strict=True))
    for k, name in enumerate(("purity", "completeness", "f1")):
        row[name], row[f"{name}_err"] = float(scores[k]), _std(draws[:, k])
    row |= dict.fromkeys(("f1_ratio", "f1_ratio_err"), np.nan)
    if reference is not None:
        known = match_counts(results, reference[0], thresholds=[reference[1]], radius=radius)
        other, other_draws = bootstrap_scores(known[:, 0], **options)
        row["f1_ratio"] = _ratio(float(scores[2]), float(other[2]))
        row["f1_ratio_err"] = _std(_ratio(draws[:, 2], other_draws[:, 2]))
    pool = pool_fields(results, method, radius=radius, threshold=limit)
    row |= _measurements(pool, radius)
    return row | _calibration(results, method, pool, radius, options)


def _measurements(pool, radius):
    """Fluxes and positions of the matches."""
    true, edges = pool.is_true, (BRIGHT, np.inf)
    error = np.abs(pool.found.flux - pool.true_flux)[true]
    within = int((error <= pool.field_rms[pool.field[true]]).sum())
    n_truth = np.array([int(true.sum()), len(pool.truth)])
    shares = binomial_interval(np.full(2, within), n_truth)[0]
    row = {"flux_within_rms": float(shares[0]), "flux_within_rms_of_all": float(shares[1])}
    fluxes = _fluxes(pool, edges)[0]
    row |= {f"flux_{name}": float(fluxes[name]) for name in ("bias", "bias_err", "scatter")}
    positions = _positions(pool, edges)[0]
    return row | {f"position_{name}": float(positions[name]) for name in ("ratio", "ratio_err")}


def _calibration(results, method, pool, radius, options):
    """Coverage of the intervals, and the error of the reliabilities."""
    row = {f"coverage_{level:.0%}"[:-1]: float(c) for level, c in _levels(pool)}
    names = ("mean_reliability", "ece", "ece_err", "ece_chance")
    row |= dict.fromkeys(names, np.nan)
    if has_reliability(results, method):
        listed = pool_fields(results, method, radius=radius)
        diagram = reliability_diagram(
            listed.found.score, listed.is_true, field=listed.field, **options
        )
        row |= {name: getattr(diagram, name) for name in names[1:]}
        if len(pool.found):
            row["mean_reliability"] = float(pool.found.score.mean())
    return row


def reliability_table(pool, recalibration, n_bootstrap, seed):
    """Reliability diagram, raw or recalibrated."""
    score = pool.found.score if recalibration is None else recalibration(pool.found.score)
    diagram = reliability_diagram(
        score, pool.is_true, field=pool.field, n_bootstrap=n_bootstrap, seed=seed
    )
    table = diagram.table
    for name in ("ece", "ece_err", "ece_chance", "p_value"):
        table[name] = np.full(len(table), getattr(diagram, name))
    return table


def posterior_tables(results, seed):
    """Ranks and TARP of the quantities that all fields have."""
    names = [name for name in results[0].posterior if all(name in one.posterior for one in results)]
    if len(results) < _LEAST_FIELDS or not names:
        return {}
    ranks, curves, tests = [], [], []
    for name in names:
        truth, samples = (
            np.stack([np.asarray(one.posterior[name][k], dtype=float) for one in results])
            for k in (0, 1)
        )
        dither, n_samples = _DITHER.get(name, 0.0), samples.shape[1]
        found = sbc_ranks(truth[:, 0], samples[:, :, 0], dither=dither, seed=seed)
        test = rank_test(found, n_samples)
        curve = tarp_curve(truth, samples, dither=dither, seed=seed)
        bins = np.arange(len(test.counts))
        ranks += [
            {"quantity": name, "bin": int(k), "n": int(n), "expected": float(expected)}
            for k, n, expected in zip(bins, test.counts, test.expected, strict=True)
        ]
        columns = (curve.credibility, curve.coverage, curve.coverage_err)
        curves += [
            {"quantity": name, "credibility": a, "coverage": b, "coverage_err": c}
            for a, b, c in np.stack(columns, axis=1).tolist()
        ]
        tests.append(
            {
                "quantity": name,
                "n_fields": len(results),
                "n_samples": n_samples,
                "n_values": truth.shape[1],
                "rank_p_value": test.p_value,
                "tarp_distance": curve.distance,
                "tarp_p_value": curve.p_value,
            }
        )
    return {"ranks": Table(ranks), "tarp": Table(curves), "posterior": Table(tests)}


def _grid(results, method):
    """Thresholds worth trying: those of S/N start with one that all detections pass."""
    if has_reliability(results, method):
        return _RELIABILITIES
    lowest = min(one.catalogs[method].score.min(initial=np.inf) for one in results)
    above = np.flatnonzero(lowest >= _SIGNALS)
    return _SIGNALS[above[-1] if np.isfinite(lowest) and len(above) else 0 :]


def _scores(results, method, limit, radius, n_bootstrap, seed):
    thresholds = _grid(results, method)
    counts = match_counts(results, method, thresholds=thresholds, radius=radius)
    return scores_by_threshold(counts, thresholds, n_bootstrap=n_bootstrap, seed=seed)


def _completeness(results, method, limit, radius, *_):
    pool = pool_fields(results, method, radius=radius, threshold=limit)
    return _filled(share_by_snr(pool.truth.snr, pool.is_found, edges=SNR_EDGES))


def _purity(results, method, limit, radius, *_):
    pool = pool_fields(results, method, radius=radius, threshold=limit)
    return _filled(share_by_snr(pool.found.snr, pool.is_true, edges=SNR_EDGES))


def _flux(results, method, limit, radius, *_):
    pool = pool_fields(results, method, radius=radius, threshold=limit)
    return _filled(_fluxes(pool, SNR_EDGES))


def _position(results, method, limit, radius, *_):
    pool = pool_fields(results, method, radius=radius, threshold=limit)
    return _filled(_positions(pool, SNR_EDGES))


def _pairs(results, method, limit, radius, *_):
    return close_pairs(pool_fields(results, method, radius=radius, threshold=limit))


def _coverage(results, method, limit, radius, *_):
    return _intervals(pool_fields(results, method, radius=radius, threshold=limit))


# Each takes results, method, threshold, radius, bootstraps and seed.
DETAILS = {
    "scores": _scores,
    "completeness": _completeness,
    "purity": _purity,
    "flux": _flux,
    "position": _position,
    "pairs": _pairs,
    "coverage": _coverage,
}


def _fluxes(pool, edges):
    true = pool.is_true
    return flux_accuracy(
        pool.found.flux[true], pool.true_flux[true], pool.found.snr[true], edges=edges
    )


def _positions(pool, edges):
    true = pool.is_true
    field = pool.field[true]
    return position_accuracy(
        pool.separation[true],
        pool.true_snr[true],
        beam=pool.field_beam[field],
        size=pool.true_size[true],
        radius=pool.field_radius[field],
        edges=edges,
    )


def _intervals(pool):
    """Coverage of the intervals of the matches."""
    true, found = pool.is_true, pool.found
    if found.flux_samples is None:
        return gaussian_coverage(pool.true_flux[true], found.flux[true], found.flux_err[true])
    return interval_coverage(pool.true_flux[true], found.flux_samples[true])


def _levels(pool):
    table = _intervals(pool)
    return zip(table["level"], table["coverage"], strict=True)


def _filled(table):
    """The bins with something in them."""
    return table[table["n"] > 0]


def _std(values):
    values = values[np.isfinite(values)]
    return float(values.std()) if len(values) > 1 else np.nan


def _ratio(one, other):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(one, other)
