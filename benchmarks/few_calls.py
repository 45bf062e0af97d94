"""Network calls of a sample against what is found and measured.

    python benchmarks/few_calls.py few-calls --distilled run-distil/alma-band6-distilled

Samplers and steps in turn on the same fast fields, with the same seeds; the first row, Heun's
method in 25 steps, is the reference. Strategy `median`, matches within half a beam. The thresholds,
those of the best F1 of the reference and of the matched filter, hold for all rows. The fields are
for tuning: no figure of quality stands on them. Errors are bootstrap standard deviations over
fields, those of ratios bootstrapped in pairs. Flux bias is that from S/N 5 on. "Sources" is the
number detected in the samples over that in the true skies, which is 1 for exact samples. Times are
of the sampling alone. Every field is stored in OUTPUT when it is done, and is not made again.
"""

import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from fields import TUNING, fast_pairs
from tqdm import tqdm

from diffsky import DiffusionDeconvolver
from diffsky.diffusion import network_calls
from diffsky.evaluation import (
    StoredResults,
    bootstrap_scores,
    evaluate_pair,
    make_report,
    match_counts,
)
from diffsky.exceptions import DiffskyWarning

SEED = TUNING
STRATEGY, FILTER = "median", "matched filter"
REFERENCE = ("heun", 25)
STEPS = (4, 5, 6, 8, 10, 12, 16)
SAMPLERS = ("dpmpp-2m", "dpmpp-3m")
DISTILLED_STEPS = (1, 2, 4)
COLUMNS = (
    f"{'sampler':<12}{'steps':>6}{'calls':>6}{'F1':>15}{'to filter':>15}{'to first row':>15}"
    f"{'flux bias':>15}{'68 %':>8}{'ECE':>8}{'sources':>15}{'seconds':>9}"
)


class TimedDeconvolver(DiffusionDeconvolver):
    """Notes how long the last sampling took."""

    def sample_apparent(self, *args, **options):
        start = time.perf_counter()
        apparent = super().sample_apparent(*args, **options)
        self._seconds = time.perf_counter() - start
        return apparent


def load(row, options, *, grid):
    """Weights with the sampler of a row, on other levels than theirs where a grid is given."""
    weights, sampler, n_steps = row
    options = {"sampler": sampler, "n_steps": n_steps, **options}
    deconvolver = TimedDeconvolver.from_pretrained(weights, **options)
    sampling = {**deconvolver.preset_.sampling, **grid}
    deconvolver.preset_ = replace(deconvolver.preset_, sampling=sampling)
    return deconvolver


def evaluate(output, pairs, deconvolver, n_samples):
    """Results and seconds of one row, from what is stored and what is missing."""
    plan = deconvolver.sampling_plan()
    folder = output / "-".join(f"{value}" for value in plan.values())
    weights = deconvolver.description_
    plan |= {"weights": weights["name"], "sha256": weights.get("sha256"), "n_samples": n_samples}
    stored = StoredResults(folder / "fields", {**plan, "seed": SEED})
    log = folder / "seconds.json"
    seconds = json.loads(log.read_text()) if log.exists() else {}
    title = f"{plan['sampler']} {plan['n_steps']}"
    for number, pair in enumerate(tqdm(pairs, desc=title, disable=None)):
        if ("", number) in stored:
            continue
        result = evaluate_pair(
            deconvolver, pair, number=number, n_samples=n_samples, seed=SEED,
            strategies=[STRATEGY], progress=False,
        )  # fmt: skip
        seconds[str(number)] = deconvolver._seconds
        fresh = log.with_suffix(".new")
        fresh.write_text(json.dumps(seconds))
        fresh.replace(log)
        stored.write(result)
    results = [one for one in stored.read() if one.number < len(pairs)]
    return results, np.median([seconds[str(one.number)] for one in results])


def f1(results, method, threshold):
    """F1 and its bootstraps."""
    counts = match_counts(results, method, thresholds=[threshold])[:, 0]
    scores, draws = bootstrap_scores(counts)
    return scores[2], draws[:, 2]


def ratio(one, other):
    """Ratio of two F1 and its error, bootstrapped in pairs."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return one[0] / other[0], np.nanstd(one[1] / other[1])


def sample_counts(results):
    """Number of sources in the samples over that in the true skies, and its bootstraps."""
    counts = [one.posterior["number of sources"] for one in results]
    sampled, true = (np.array([np.mean(pair[k]) for pair in counts]) for k in (1, 0))
    drawn = np.random.default_rng(0).integers(len(counts), size=(1000, len(counts)))
    return sampled.sum() / true.sum(), sampled[drawn].sum(axis=1) / true[drawn].sum(axis=1)


def line(results, thresholds, reference, second):
    """One row of the table."""
    summary = make_report(results, thresholds=thresholds, radii=(0.5,)).tables["summary"]
    mine = next(row for row in summary if row["method"] == STRATEGY)
    own = f1(results, STRATEGY, thresholds[STRATEGY])
    known = f1(results, FILTER, thresholds[FILTER])
    cells = [(own[0], np.nanstd(own[1])), ratio(own, known), ratio(own, reference)]
    cells.append((mine["flux_bias"], mine["flux_bias_err"]))
    text = "".join(f"{value:>8.3f} ±{error:.3f}" for value, error in cells)
    share, draws = sample_counts(results)
    counts = f"{share:>8.3f} ±{draws.std():.3f}"
    return f"{text}{mine['coverage_68']:>8.3f}{mine['ece']:>8.3f}{counts}{second:>9.2f}"


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--weights", default="alma-band6", show_default=True)
@click.option("--distilled", default=None, help="Folder of distilled weights.")
@click.option("--fields", default=100, show_default=True, help="Fast fields.")
@click.option("--samples", default=20, show_default=True)
@click.option("--steps", default=STEPS, show_default=True, multiple=True, help="Of each sampler.")
@click.option("--grid", multiple=True, metavar="NAME=VALUE", help="sigma_min, sigma_max, rho.")
@click.option("--device", default=None)
def main(output, weights, distilled, fields, samples, steps, grid, device):
    """Print the table of network calls, and keep what it is made of in OUTPUT."""
    warnings.simplefilter("ignore", DiffskyWarning)
    pairs = list(tqdm(fast_pairs(fields, SEED), "fields", fields, disable=None))
    levels = {name: float(value) for name, value in (entry.split("=") for entry in grid)}
    rows = [(weights, *REFERENCE), *((weights, name, n) for name in SAMPLERS for n in steps)]
    rows += [(distilled, "consistency", n) for n in DISTILLED_STEPS] if distilled else []
    print(f"weights {weights}, distilled {distilled}, {samples} samples, seed {SEED}")
    print(f"levels of all rows but the first: {levels or 'those of the weights'}")
    thresholds = reference = None
    for row in rows:
        known = {} if reference is None else levels
        deconvolver = load(row, {"device": device}, grid=known)
        results, second = evaluate(output, pairs, deconvolver, samples)
        if reference is None:
            report = make_report(results, validation=results, radii=(0.5,))
            thresholds = report.settings["thresholds"]
            reference = f1(results, STRATEGY, thresholds[STRATEGY])
            print(f"{len(pairs)} fast fields, thresholds {thresholds}\n{COLUMNS}")
        _, sampler, n_steps = row
        text = line(results, thresholds, reference, second)
        print(f"{sampler:<12}{n_steps:>6}{network_calls(sampler, n_steps):>6}{text}", flush=True)


if __name__ == "__main__":
    main()
