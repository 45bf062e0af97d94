"""Finding sources, and what reliability means, from 0.472 to 5.186 mm of water vapour.

    python benchmarks/pwv.py

The same skies (protocol `independent`, in Jy) in the fast instrument, which takes the noise from
the water vapour, at the octiles of ALMA's weather that D24 have; every amount has noise of its own.
Thresholds and recalibration are those of the validation fields of ``results.py``, at 1.796 mm, and
so are not chosen anew for an amount. Errors are bootstrap standard deviations over fields.
"""

import json
from pathlib import Path

import astropy.units as u
import click
import numpy as np
from estimates import Bootstrap, Scores
from evaluated import FastFields, SetupFields, Weights, evaluate, shared_options
from fields import VALIDATION
from results import FILTER, MAIN, choose_thresholds, recalibrate
from targets import Targets

from diffsky.evaluation import reliability_diagram
from diffsky.simulation import PWV_OCTILES

SEED = 9005
USUAL = 1.796  # mm
TABLE = (
    f"{'mm':>6}{'uJy/beam':>10}  {'method':<17}{'F1 ratio':>14}{'purity - predicted':>20}"
    f"{'calibration error':>19}{'by chance':>11}"
)


def amount_fields(k):
    """Fields of one of the octiles."""
    pwv = PWV_OCTILES[k]
    return SetupFields(SEED, f"pwv={pwv.value:g}mm", (("pwv", pwv.value * u.mm),), False, k + 1)


def check_amount(results, known, thresholds, targets):
    """Purity beside mean reliability, calibration error, and F1 over the matched filter's."""
    boot = Bootstrap(len(results))
    filtered = Scores(results, FILTER, thresholds[FILTER], boot)
    print(f"  {FILTER}: purity {filtered.purity}, completeness {filtered.completeness}, "
          f"F1 {filtered.f1}")  # fmt: skip
    ratios = {}
    for method in MAIN:
        one = Scores(results, method, thresholds[method], boot)
        print(f"  {method}: purity {one.purity}, completeness {one.completeness}, F1 {one.f1}")
        ratios[method] = one.f1 / filtered.f1
        everything = Scores(results, method, -np.inf, boot).pool
        functions = {"raw": np.asarray, "recalibrated": recalibrate(known, method)}
        for name, function in functions.items():
            gap = one.purity - one.mean_of(function(one.pool.found.score))
            targets.check(f"purity - mean reliability of {method}, {name}", gap, -0.02, 0.02)
            diagram = reliability_diagram(
                function(everything.found.score), everything.is_true, field=everything.field
            )
            targets.check_number(
                f"calibration error of {method}, {name} (by chance {diagram.ece_chance:.3f})",
                diagram.ece, diagram.ece_err, high=0.05,
            )  # fmt: skip
    return ratios


def print_table(results, known, thresholds):
    """One row an amount and method, recalibrated, and one for all fields."""
    print(TABLE)
    groups = {f"{pwv.value:g}": f"pwv={pwv.value:g}mm" for pwv in PWV_OCTILES}
    for title, group in {**groups, "all": None}.items():
        members = [one for one in results if group in (None, one.group)]
        numbers = np.array([one.number for one in members])
        boot = Bootstrap(numbers.max() + 1)
        boot.weights = boot.weights[:, numbers]  # skies are drawn, with all their amounts
        rms = 1e6 * np.median([one.rms for one in members])
        filtered = Scores(members, FILTER, thresholds[FILTER], boot).f1
        for method in MAIN:
            function = recalibrate(known, method)
            kept = Scores(members, method, thresholds[method], boot)
            gap = kept.purity - kept.mean_of(function(kept.pool.found.score))
            pool = Scores(members, method, -np.inf, boot).pool
            diagram = reliability_diagram(
                function(pool.found.score), pool.is_true, field=pool.field
            )  # fmt: skip
            error = f"{diagram.ece:.3f} ±{diagram.ece_err:.3f}"
            print(f"{title:>6}{rms:>10.1f}  {method:<17}{kept.f1 / filtered!s:>14}{gap!s:>20}"
                  f"{error:>19}{diagram.ece_chance:>11.3f}")  # fmt: skip


def check_ratios(ratios, targets):
    """F1 over the matched filter's at every amount, and what it is less than at the usual one."""
    usual = next(group for group in ratios if f"={USUAL:g}mm" in group)
    for group, found in ratios.items():
        for method, ratio in found.items():
            targets.check(f"{group}: F1 of {method} over {FILTER}", ratio)
            if group != usual:
                less = ratio - ratios[usual][method]
                # "As at 1.796 mm" is within two errors of the difference.
                label = f"{group}: that of {method}, less that at {USUAL} mm"
                targets.check(label, less, low=-2 * less.error)


@click.command()
@shared_options
@click.option("--fields", default=100, show_default=True, help="Fields for each amount.")
@click.option("--validation", default=280, show_default=True, help="Fields for thresholds.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(weights, samples, sampler, steps, processes, store, fields, validation, record):
    """Print the figures of every amount of water vapour."""
    weights = Weights(weights, samples, sampler, steps)
    folder, targets, ratios = weights.folder(store), Targets(), {}
    print(f"{weights.title()}\nthresholds, from {validation} fast fields of seed {VALIDATION}")
    known = evaluate(
        weights, [FastFields(VALIDATION)], range(validation), folder / "validation",
        processes=processes,
    )  # fmt: skip
    thresholds = choose_thresholds(known)
    sources = [amount_fields(k) for k in range(len(PWV_OCTILES))]
    results = evaluate(weights, sources, range(fields), folder / "pwv", processes=processes)
    for source in sources:
        members = [one for one in results if one.group == source.group]
        rms = 1e6 * np.median([one.rms for one in members])
        print(f"\n{source.group}, {len(members)} fields of seed {SEED}, rms {rms:.1f} uJy/beam")
        section = targets.section(source.group)
        ratios[source.group] = check_amount(members, known, thresholds, section)
    print()
    check_ratios(ratios, targets)
    print()
    print_table(results, known, thresholds)
    if record is not None:
        record.write_text(json.dumps(targets.rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
