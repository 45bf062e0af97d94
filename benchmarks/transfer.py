"""Observations unlike those of training, beside a matched filter that knows their PSF.

    python benchmarks/transfer.py

Configuration 4 of every ALMA cycle and the ACA are not in the bundled bank of PSFs; declinations
and Briggs weights are varied on top. Every observation has fields of the fast instrument with 4.25
pixels a beam, and sources of the protocol `independent` in units of its own beam and noise, as far
out as its primary beam is above 0.2. Thresholds are those of the validation fields of
``results.py``. The matched filter is the best one for noise of natural weights; that of Briggs
weights is another, so the filter may need another threshold there. For the second ratio its
threshold is the best on the very fields that are scored, which flatters it, for the third one that
of diffsky too. Errors are bootstrap
standard deviations over fields.

A real observation of another kind is in ``pisco.py``.
"""

import json
from pathlib import Path

import click
import numpy as np
from estimates import Bootstrap, Scores, best_threshold
from evaluated import FastFields, SetupFields, Weights, evaluate, shared_options
from fields import VALIDATION
from results import FILTER, MAIN, choose_thresholds
from targets import Targets

from diffsky.instrument import load_psf_bank

SEED = 9006
BEST = "matched filter at its best here"
BOTH = "both at their best here"
LEAST = 0.97  # of the ratio of F1
ARRAYS = (*(f"alma.cycle{k}.4" for k in (1, 2, 3, 4, 5, 8)), "aca.cycle5", "aca.cycle8")
DECLINATIONS = (-60, -40, 25)  # deg, of the protocol's own array
ROBUST = (0.5, -0.5)


def observations():
    """What makes the set-up of each observation, by its name."""
    held_out = set(ARRAYS) - set(load_psf_bank().columns["array"].tolist())
    named = {f"{array}, held out": {"array": array} for array in ARRAYS if array in held_out}
    for declination in DECLINATIONS:
        direction = f"J2000 150.119deg {declination}deg"
        named[f"declination {declination:+d} deg"] = {"direction": direction}
    for robust in ROBUST:
        named[f"Briggs, robust {robust:+g}"] = {"weighting": "briggs", "robust": robust}
    return named


def check_observation(results, thresholds, targets):
    """F1 of diffsky over that of the matched filter."""
    boot = Bootstrap(len(results))
    limits = {FILTER: thresholds[FILTER], BEST: best_threshold(results, FILTER)}
    known = {label: Scores(results, FILTER, limit, boot) for label, limit in limits.items()}
    for label, one in known.items():
        print(f"  {label} ({limits[label]:.2f}): purity {one.purity}, F1 {one.f1}")
    ratios = {}
    for method in MAIN:
        one = Scores(results, method, thresholds[method], boot)
        gap = one.purity - one.mean_of(one.pool.found.score)
        print(f"  {method}: purity {one.purity}, less mean reliability {gap}, F1 {one.f1}")
        for label, low in ((FILTER, LEAST), (BEST, None)):
            ratios[method, label] = one.f1 / known[label].f1
            targets.check(f"F1 of {method} over {label}", ratios[method, label], low=low)
        own = best_threshold(results, method)
        ratios[method, BOTH] = Scores(results, method, own, boot).f1 / known[BEST].f1
        targets.check(f"F1 of {method} ({own:.2f}), {BOTH}", ratios[method, BOTH])
    return ratios


def print_table(ratios):
    """One row an observation."""
    print("\nF1 over the matched filter's: thresholds as above, its best one, both at their best")
    print(f"{'':<26}{MAIN[0]:>40}{MAIN[1]:>42}")
    for name, found in ratios.items():
        cells = [found[method, label] for method in MAIN for label in (FILTER, BEST, BOTH)]
        print(f"{name:<26}" + "".join(f"{cell!s:>14}" for cell in cells))


@click.command()
@shared_options
@click.option("--fields", default=100, show_default=True, help="Fields for each observation.")
@click.option("--validation", default=280, show_default=True, help="Fields for thresholds.")
@click.option("--only", multiple=True, help="Part of the name of an observation; all by default.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(weights, samples, sampler, steps, processes, store, fields, validation, only, record):
    """Print the figures of every observation."""
    weights, targets = Weights(weights, samples, sampler, steps), Targets()
    folder = weights.folder(store)
    print(f"{weights.title()}\nthresholds, from {validation} fast fields of seed {VALIDATION}")
    known = evaluate(
        weights, [FastFields(VALIDATION)], range(validation), folder / "validation",
        processes=processes,
    )  # fmt: skip
    thresholds, ratios = choose_thresholds(known), {}
    for name, options in observations().items():
        if only and not any(part in name for part in only):
            continue
        source = SetupFields(SEED, "", tuple(options.items()), scaled=True)
        place = folder / "transfer" / name.replace(" ", "_").replace(",", "")
        results = evaluate(weights, [source], range(fields), place, processes=processes)
        beam, rms = (np.median([getattr(one, key) for one in results]) for key in ("beam", "rms"))
        print(f"\n{name}: {len(results)} fields of seed {SEED}, beam {beam:.3f} arcsec, "
              f"rms {1e6 * rms:.0f} uJy/beam")  # fmt: skip
        ratios[name] = check_observation(results, thresholds, targets.section(name))
    print_table(ratios)
    if record is not None:
        record.write_text(json.dumps(targets.rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
