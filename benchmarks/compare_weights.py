"""Weights beside others on the same validation fields, before a recalibration.

    python benchmarks/compare_weights.py --also run-tune/alma-band6-independent

The thresholds are the best ones on these very fields, for all weights and for the matched filter,
so the figures serve to compare and are no results. Ratios are of F1, bootstrapped in pairs; what
the samples hold is over what the true skies hold, 1 for exact samples. Errors are bootstrap
standard deviations over fields.
"""

import click
import numpy as np
from estimates import Bootstrap, Scores, best_threshold
from evaluated import FastFields, Weights, evaluate, shared_options
from fields import VALIDATION
from results import FILTER, MAIN

from diffsky.evaluation import interval_coverage, reliability_diagram

COLUMNS = (
    f"{'weights':<26}{'least':>6}{'F1':>14}{'to the filter':>15}{'to the first':>15}"
    f"{'calibration':>15}{'68 %':>8}{'bias, S/N > 5':>15}"
)
QUANTITIES = ("total flux", "number of sources", "pixel values")


def line(name, results, method, boot, first):
    """One row; `first` is the F1 of the first weights."""
    threshold = best_threshold(results, method)
    kept = Scores(results, method, threshold, boot)
    filtered = Scores(results, FILTER, best_threshold(results, FILTER), boot)
    pool = Scores(results, method, -np.inf, boot).pool
    diagram = reliability_diagram(pool.found.score, pool.is_true, field=pool.field)
    true = kept.pool.is_true
    covered = interval_coverage(kept.pool.true_flux[true], kept.pool.found.flux_samples[true])
    coverage = next(row["coverage"] for row in covered if row["level"] == 0.68)
    calibration = f"{diagram.ece:.3f} ±{diagram.ece_err:.3f}"
    bias, _ = kept.flux_bias(5, np.inf)
    first = first or kept.f1
    text = (
        f"{name:<26}{threshold:>6.2f}{kept.f1!s:>14}{kept.f1 / filtered.f1!s:>15}"
        f"{kept.f1 / first!s:>15}{calibration:>15}{coverage:>8.3f}{bias!s:>15}"
    )
    return text, first


def contents(results, boot):
    """What the samples hold over what the true skies hold."""
    for name in QUANTITIES:
        sums = [
            np.array([np.mean(one.posterior[name][k]) for one in results]) for k in (1, 0)
        ]  # fmt: skip
        yield f"{name} {boot.ratio(*sums)}"


@click.command()
@shared_options
@click.option("--also", multiple=True, required=True, help="Weights beside the first ones.")
@click.option("--fields", default=100, show_default=True, help="Validation fields.")
def main(weights, also, samples, sampler, steps, processes, store, fields):
    """Print one table for each strategy."""
    found = {}
    for name in (weights, *also):
        one = Weights(name, samples, sampler, steps)
        print(one.title())
        found[one.describe()["weights"]] = evaluate(
            one, [FastFields(VALIDATION)], range(fields), one.folder(store) / "validation",
            processes=processes,
        )  # fmt: skip
    print(f"{fields} fast fields of seed {VALIDATION}")
    boot = Bootstrap(fields)
    for method in MAIN:
        print(f"\n{method}\n{COLUMNS}")
        first = None
        for name, results in found.items():
            text, first = line(name, results, method, boot, first)
            print(text)
    print("\nsamples over truth")
    for name, results in found.items():
        print(f"{name:<26}{', '.join(contents(results, boot))}")


if __name__ == "__main__":
    main()
