"""What the part of a field does in which the protocol has no sources.

    python benchmarks/empty_edge.py DATA

The protocol `independent` puts its sources within 10 arcsec of the pointing in both coordinates.
Fast fields reach 13 arcsec and CASA fields 26, so all that is found beyond is false, and a CASA
field has nearly twice the area for it where the primary beam lets one look. Here everything more
than half a beam outside is left out for all methods, on the fields of ``results.py`` and on those
that its thresholds and recalibration come from, which are chosen anew. No method may use this in
practice: it shows what of the figures of ``results.py`` the edge decides. Errors are bootstrap
standard deviations over fields.
"""

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from estimates import Bootstrap, Scores, best_threshold
from evaluated import CLEAN, CasaFields, FastFields, Weights, evaluate, shared_options, with_clean
from fields import CASA, FAST, VALIDATION
from results import FILTER, MAIN, casa_numbers, recalibrate
from targets import Targets

from diffsky.evaluation import reliability_diagram
from diffsky.simulation import PRIORS

EDGE = PRIORS["independent"].half_width  # arcsec
COLUMNS = ("x", "y", "flux", "flux_err", "snr", "score", "flux_samples")


def within(results):
    """The same results with nothing found beyond half a beam outside the sources' square."""
    return [
        replace(one, catalogs={name: _cut(found, one) for name, found in one.catalogs.items()})
        for one in results
    ]


def _cut(found, result):
    kept = np.maximum(np.abs(found.x), np.abs(found.y)) < EDGE + result.beam / 2
    columns = {name: getattr(found, name) for name in COLUMNS}
    return replace(found, **{k: None if v is None else v[kept] for k, v in columns.items()})


def report(results, known, targets):
    """F1 over that of the others, and calibration error."""
    boot = Bootstrap(len(results))
    methods = [*MAIN, FILTER, *(name for name in [CLEAN] if name in results[0].catalogs)]
    limits = {name: 0.0 if name == CLEAN else best_threshold(known, name) for name in methods}
    rows = {name: Scores(results, name, limits[name], boot) for name in methods}
    for name, row in rows.items():
        print(f"  {name} ({limits[name]:.2f}): purity {row.purity}, completeness "
              f"{row.completeness}, F1 {row.f1}")  # fmt: skip
    for name in MAIN:
        for other in methods[len(MAIN) :]:
            targets.check(f"F1 of {name} over {other}", rows[name].f1 / rows[other].f1)
        pool = Scores(results, name, -np.inf, boot).pool
        diagram = reliability_diagram(
            recalibrate(known, name)(pool.found.score), pool.is_true, field=pool.field
        )
        targets.check_number(f"calibration error of {name}", diagram.ece, diagram.ece_err)


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@shared_options
@click.option("--fast", default=500, show_default=True, help="Fast fields.")
@click.option("--casa", default=100, show_default=True, help="CASA fields of DATA.")
@click.option("--validation", default=280, show_default=True, help="Fields for thresholds.")
@click.option("--peak", default=3.75, show_default=True, help="thresh_pix of PyBDSF.")
def main(data, weights, samples, sampler, steps, processes, store, fast, casa, validation, peak):
    """Print the figures of whole fields and of the sources' square."""
    weights, targets = Weights(weights, samples, sampler, steps), Targets()
    folder = weights.folder(store)
    orders = {
        "validation": (FastFields(VALIDATION), range(validation)),
        "fast": (FastFields(FAST), range(fast)),
        "casa": (CasaFields(str(data), CASA), casa_numbers(data, CASA, casa, [peak])),
    }
    results = {
        name: evaluate(weights, [source], numbers, folder / name, processes=processes)
        for name, (source, numbers) in orders.items()
    }
    results["casa"] = with_clean(results["casa"], data, CASA, peak)
    print(weights.title())
    for name in ("fast", "casa"):
        for part, choose in {"whole": list, "the sources' square": within}.items():
            print(f"\n{len(results[name])} {name} fields, {part}")
            chosen = choose(results[name]), choose(results["validation"])
            report(*chosen, targets.section(f"{name}, {part}"))


if __name__ == "__main__":
    main()
