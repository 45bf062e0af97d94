"""Every figure of merit of weights on fields kept for it, and which targets they meet.

    python benchmarks/casa_data.py DATA
    python benchmarks/results.py DATA

Protocol `independent` (own noise in every field). Thresholds, and the recalibration of
reliabilities and flux intervals, are those of validation fields, which share neither sky nor noise
with the test fields: the best F1 at half a beam, or the least threshold with a purity of 0.95. The
matched filter knows the PSF. Errors are bootstrap standard deviations over fields; differences and
ratios are bootstrapped in pairs. Fields that are evaluated are kept (``--store``), so the same
command goes on where it was interrupted. ``--on-validation`` is for choosing weights: it looks at
no test field.
"""

import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from casa_data import PEAKS, has_catalogs, stored_pairs
from estimates import (
    D24_RADIUS,
    HALF_A_BEAM,
    PURITY,
    Bootstrap,
    Scores,
    best_threshold,
    completeness_at_purity,
    pure_threshold,
)
from evaluated import CLEAN, CasaFields, FastFields, Weights, evaluate, shared_options, with_clean
from fields import CASA, FAST, VALIDATION
from targets import Targets

from diffsky.deconvolution import STRATEGIES
from diffsky.evaluation import (
    IsotonicRecalibration,
    fit_recalibration,
    interval_coverage,
    pool_reconstructions,
    reliability_diagram,
)
from diffsky.evaluation import recalibrate as apply_recalibration

FILTER, SINGLE, TRUE = "matched filter", "single run", "true sky"
METHODS = (*STRATEGIES, SINGLE, FILTER)
RADII = {"half a beam": HALF_A_BEAM, "0.18 arcsec": D24_RADIUS}
MAIN = ("median", "detect-aggregate")  # whose figures have targets
N_OUTLIERS = 5
FAINT = (4, 5)  # normalised S/N of the completeness
BIAS_BINS = {(2.5, 3.5): 0.10, (3.5, 5): None, (5, 8): 0.03, (8, np.inf): 0.03, (5, np.inf): 0.03}


def print_scores(results, thresholds, boot):
    """One table a radius, every method beside the matched filter."""
    for name, radius in RADII.items():
        print(f"\n  matched within {name}")
        columns = ("purity", "completeness", "F1", "<50 uJy", "F1 ratio")
        print(f"  {'method':<18}{'threshold':>9}" + "".join(f"{c:>15}" for c in columns))
        known = Scores(results, FILTER, thresholds[FILTER], boot, radius=radius).f1
        for method, threshold in thresholds.items():
            one = Scores(results, method, threshold, boot, radius=radius)
            cells = (one.purity, one.completeness, one.f1, one.fluxes_within, one.f1 / known)
            print(f"  {method:<18}{threshold:>9.2f}" + "".join(f"{cell!s:>15}" for cell in cells))


def print_d24(results, boot):
    """Table 1 of D24, and the kind of its table 4: fluxes that are furthest from the truth."""
    table = pool_reconstructions([one.reconstruction for one in results])
    print("\n  normalised sky: mean squared error (1e-5), peak S/N (dB), structural similarity")
    for name, mse, mse_err, *others in table.iterrows():
        cells = (1e5 * mse, 1e5 * mse_err, *others)
        numbers = "".join(f"{a:>10.3f} ±{b:.3f}" for a, b in zip(*[iter(cells)] * 2, strict=True))
        print(f"  {name:<12}{numbers}")
    pool = Scores(results, MAIN[0], 0.5, boot).pool
    error = np.where(pool.is_true, np.abs(pool.found.flux / pool.true_flux - 1), -1)
    print(f"\n  largest relative errors of the flux, {MAIN[0]}, reliability 0.5 or more (µJy)")
    for k in np.argsort(-error)[: min(N_OUTLIERS, pool.is_true.sum())]:
        mates = pool.truth_field == pool.field[k]
        distance = np.hypot(pool.truth.x - pool.found.x[k], pool.truth.y - pool.found.y[k])
        near = mates & (distance < pool.field_beam[pool.field[k]])
        fluxes = ", ".join(f"{1e6 * flux:.0f}" for flux in pool.truth.flux[near])
        print(f"  field {results[pool.field[k]].number}: {1e6 * pool.found.flux[k]:.0f} for "
              f"{1e6 * pool.true_flux[k]:.0f}; within a beam {fluxes}")  # fmt: skip


def check_f1(results, thresholds, boot, targets, least):
    """F1 over that of the matched filter, and over that of CLEAN + PyBDSF where it is there."""
    others = [(FILTER, dict(zip(RADII, least, strict=True)))]
    if CLEAN in thresholds:
        others.append((CLEAN, {"half a beam": 1.15}))
    for other, limits in others:
        for radius, limit in limits.items():
            known = Scores(results, other, thresholds[other], boot, radius=RADII[radius]).f1
            for method in MAIN:
                one = Scores(results, method, thresholds[method], boot, radius=RADII[radius]).f1
                targets.check(f"F1 of {method} over {other}, {radius}", one / known, low=limit)
    best = best_threshold(results, FILTER)  # flatters the filter
    known = Scores(results, FILTER, best, boot).f1
    for method in MAIN:
        one = Scores(results, method, thresholds[method], boot).f1
        name = f"F1 of {method} over {FILTER} at its best here ({best:.2f})"
        targets.check(name, one / known)
    if CLEAN in thresholds:
        known = Scores(results, CLEAN, thresholds[CLEAN], boot).f1
        for method in (*MAIN, FILTER):
            best = best_threshold(results, method)  # flatters the method
            one = Scores(results, method, best, boot).f1
            targets.check(f"F1 of {method} at its best here ({best:.2f}) over {CLEAN}", one / known)


def check_faint(results, known, boot, targets):
    """Completeness at a normalised S/N of 4 to 5 where the purity is 0.95 or more."""
    rows = {}
    for method in (*MAIN, FILTER):
        rows[method] = Scores(results, method, pure_threshold(known, method), boot)
        share = rows[method].completeness_between(*FAINT)
        print(f"  {method}: {share} at S/N 4 to 5, purity {rows[method].purity}")
    same = completeness_at_purity(results, FILTER, boot, *FAINT)
    reference = rows[FILTER].completeness_between(*FAINT)
    for method in MAIN:
        gain = rows[method].completeness_between(*FAINT) - reference
        targets.check(f"completeness of {method} - {FILTER}", gain, low=0.0)
        gain = completeness_at_purity(results, method, boot, *FAINT) - same
        targets.check(f"  both at a purity of {PURITY} on these fields", gain, low=0.0)


def check_fluxes(results, thresholds, boot, targets):
    """Fluxes right to 50 µJy, and their bias against the estimate."""
    known = Scores(results, FILTER, thresholds[FILTER], boot).fluxes_within
    for method in MAIN:
        one = Scores(results, method, thresholds[method], boot)
        gain = one.fluxes_within - known
        targets.check(f"fluxes within 50 uJy, {method} - {FILTER}", gain, low=0.05)
        for (low, high), limit in BIAS_BINS.items():
            bias, n = one.flux_bias(low, high)
            name = f"flux bias of {method}, estimated S/N {low:g} to {high:g} ({n})"
            targets.check(name, bias, low=None if limit is None else -limit, high=limit)


def check_intervals(results, known, thresholds, boot, targets):
    """Coverage of the flux intervals, raw and with the width that validation fields give."""
    fitted = fit_recalibration(known)
    for name, fields in (("raw", results), ("recalibrated", widened(results, fitted))):
        for method in MAIN:
            pool = Scores(fields, method, thresholds[method], boot).pool
            true = pool.is_true
            for row in interval_coverage(pool.true_flux[true], pool.found.flux_samples[true]):
                bounds = (0.65, 0.71) if row["level"] == 0.68 else (None, None)
                half = (row["upper"] - row["lower"]) / 2
                label = f"{row['level']:.0%} interval of the flux, {method}, {name} ({row['n']})"
                targets.check_number(label, row["coverage"], half, *bounds)


def widened(results, fitted):
    """The same fields with recalibrated intervals, and shares of samples as scores."""
    known = {k: IsotonicRecalibration([0, 1], [0, 1]) for k in fitted.curves}
    return apply_recalibration(results, replace(fitted, curves=known))


def recalibrate(known, method):
    """Probability of a source by its reliability, from validation fields."""
    pool = Scores(known, method, -np.inf, Bootstrap(len(known), n_draws=1)).pool
    return IsotonicRecalibration.fit(pool.found.score, pool.is_true)


def check_reliability(results, known, boot, targets, limit=0.03):
    """Expected calibration error of all that is listed, raw and recalibrated."""
    for method in MAIN:
        pool = Scores(results, method, -np.inf, boot).pool
        functions = {"raw": np.asarray, "recalibrated": recalibrate(known, method)}
        for name, function in functions.items():
            diagram = reliability_diagram(
                function(pool.found.score), pool.is_true, field=pool.field
            )  # fmt: skip
            targets.check_number(
                f"calibration error of {method}, {name} (by chance {diagram.ece_chance:.3f})",
                diagram.ece, diagram.ece_err, high=limit,
            )  # fmt: skip


def choose_thresholds(known):
    """Threshold of the best F1 of each method, with what it has there."""
    boot = Bootstrap(len(known))
    chosen = {method: best_threshold(known, method) for method in METHODS}
    for method, threshold in chosen.items():
        f1 = Scores(known, method, threshold, boot).f1
        print(f"  {method}: from {threshold:.2f} on, F1 {f1}")
    return {**chosen, TRUE: 0.0}


def casa_numbers(data, seed, n, peaks):
    """Those of the first `n` CASA fields that are there with all of these thresholds."""
    store = stored_pairs(str(data), seed)
    there = [k for k in range(n) if k in store and has_catalogs(data, seed, k, peaks)]
    if not there:
        raise click.ClickException(
            f"{data} has no CASA field of seed {seed} searched with thresh_pix {peaks}: "
            "casa_data.py makes them, and --casa 0 leaves them out"
        )
    if len(there) < n:
        print(f"  {len(there)} of {n} CASA fields of seed {seed} are in {data}; casa_data.py makes "
              "the others")  # fmt: skip
    return there


def choose_peak(weights, data, n, folder, processes):
    """``thresh_pix`` of the best F1 of CLEAN + PyBDSF on CASA validation fields."""
    numbers = casa_numbers(data, VALIDATION, n, PEAKS)
    source = CasaFields(str(data), VALIDATION)
    results = evaluate(weights, [source], numbers, folder / "casa-validation", processes=processes)
    boot, found = Bootstrap(len(results)), {}
    for peak in PEAKS:
        found[peak] = Scores(with_clean(results, data, VALIDATION, peak), CLEAN, 0.0, boot).f1
        print(f"  {CLEAN} {peak}: F1 {found[peak]}")
    return max(found, key=lambda peak: found[peak].value)


def report_casa(weights, data, numbers, thresholds, peak, folder, processes):
    """Results of the CASA fields with CLEAN + PyBDSF, and the thresholds for both."""
    source = CasaFields(str(data), CASA)
    results = evaluate(weights, [source], numbers, folder / "casa", processes=processes)
    results = with_clean(results, data, CASA, peak)
    print(f"\n{len(results)} CASA fields of 512 x 512 pixels, seed {CASA}, thresh_pix {peak}")
    return results, {**thresholds, CLEAN: 0.0}


def report_other(weights, n, n_casa, data, store, processes):
    """Rows of other weights on the first fields, with thresholds of their own."""
    print(f"\n{weights.title()}\n{weights.cost()}")
    folder = weights.folder(store)
    known = evaluate(
        weights, [FastFields(VALIDATION)], range(n), folder / "validation", processes=processes
    )
    thresholds, numbers = choose_thresholds(known), {"fast": range(n), "casa": []}
    if n_casa:
        numbers["casa"] = [k for k in range(min(n, n_casa)) if k in stored_pairs(str(data), CASA)]
    sources = {"fast": FastFields(FAST), "casa": CasaFields(str(data), CASA)}
    for name, source in sources.items():
        results = evaluate(weights, [source], numbers[name], folder / name, processes=processes)
        if results:
            print(f"\nthe first {len(results)} {name} fields")
            print_scores(results, thresholds, Bootstrap(len(results)))
            print_d24(results, Bootstrap(len(results)))


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@shared_options
@click.option("--fast", default=500, show_default=True, help="Fast fields.")
@click.option("--casa", default=100, show_default=True, help="CASA fields of DATA.")
@click.option("--validation", default=280, show_default=True, help="Fast fields for thresholds.")
@click.option(
    "--casa-validation", default=20, show_default=True, help="CASA fields for thresh_pix."
)
@click.option("--also", multiple=True, help="Other weights, whose rows are printed too.")
@click.option(
    "--also-fields", default=50, show_default=True, help="Fields for those, of each kind."
)
@click.option("--also-sampler", default=None, help="By default that of those weights.")
@click.option("--also-steps", default=None, type=int, help="By default those of those weights.")
@click.option(
    "--on-validation", is_flag=True,
    help="Print the figures of the validation fields, which flatter all methods, and stop.",
)  # fmt: skip
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(data, weights, samples, sampler, steps, processes, store, fast, casa, validation,
         casa_validation, also, also_fields, also_sampler, also_steps, on_validation,
         record):  # fmt: skip
    """Print all figures, and which targets they meet."""
    for seed in (VALIDATION, CASA) if casa and not on_validation else ():
        stored_pairs(str(data), seed)  # refused now rather than after the fast fields
    weights = Weights(weights, samples, sampler, steps)
    folder = weights.folder(store)
    print(f"{weights.title()}\n{weights.cost()}")
    print(f"\nthresholds, from {validation} fast fields of seed {VALIDATION}")
    known = evaluate(
        weights, [FastFields(VALIDATION)], range(validation), folder / "validation",
        processes=processes,
    )  # fmt: skip
    thresholds, targets = choose_thresholds(known), Targets()
    if on_validation:
        print_and_check(known, known, thresholds, targets.section("validation"), (1.03, 1.0))
        return
    if fast:
        results = evaluate(
            weights, [FastFields(FAST)], range(fast), folder / "fast", processes=processes
        )
        print(f"\n{len(results)} fast fields of 128 x 128 working pixels, seed {FAST}")
        print_and_check(results, known, thresholds, targets.section("fast"), (1.03, 1.0))
    if casa:
        peak = choose_peak(weights, data, casa_validation, folder, processes)
        numbers = casa_numbers(data, CASA, casa, [peak])
        results, limits = report_casa(weights, data, numbers, thresholds, peak, folder, processes)
        print_and_check(results, known, limits, targets.section("CASA"), (1.0, 1.0))
    for name in also:
        other = Weights(name, samples, also_sampler, also_steps)
        report_other(other, also_fields, casa, data, store, processes)
    if record is not None:
        record.write_text(json.dumps(targets.rows, indent=2) + "\n")


def print_and_check(results, known, thresholds, targets, least):
    """All tables and targets of one set of fields."""
    boot = Bootstrap(len(results))
    print_scores(results, thresholds, boot)
    print_d24(results, boot)
    print()
    check_f1(results, thresholds, boot, targets, least)
    check_faint(results, known, boot, targets)
    check_fluxes(results, thresholds, boot, targets)
    check_intervals(results, known, thresholds, boot, targets)
    check_reliability(results, known, boot, targets)


if __name__ == "__main__":
    main()
