"""Figures of the page "What reliability means", from fields that were evaluated before.

    python benchmarks/reliability_figures.py benchmark-results/.../fast --weights alma-band6

These are a folder in the store of ``results.py``, or a report of ``diffsky evaluate``.
"""

from pathlib import Path

import click
import numpy as np
from matplotlib.figure import Figure

from diffsky import DiffusionDeconvolver
from diffsky.evaluation import (
    StoredResults,
    fit_recalibration,
    pool_fields,
    reliability_diagram,
    tarp_curve,
)

SIZE, DPI = (5.2, 4.6), 120
DITHER = {"total flux": 0.1, "number of sources": 0.5, "pixel values": 0.1}


@click.command()
@click.argument("report", type=click.Path(exists=True, file_okay=False))
@click.option("--validation", help="Report whose fields give the recalibration.")
@click.option("--weights", help="Weights whose recalibration is shown instead.")
@click.option("--method", default="median", show_default=True)
@click.option("--output", default="docs/_static", show_default=True)
def main(report, validation, weights, method, output):
    """Write reliability.png and tarp.png, and print the numbers in them."""
    stored = load_fields(report)
    results = stored.read()
    recalibration = find_recalibration(validation, weights, stored.settings)
    print(f"{len(results)} fields of {report}, method {method}")
    figures = {
        "reliability": draw_reliability(results, method, recalibration),
        "tarp": draw_tarp(results),
    }
    for name, figure in figures.items():
        path = Path(output) / f"{name}.png"
        figure.savefig(path, dpi=DPI, metadata={"Software": None})
        print(f"written to {path}")


def find_recalibration(validation, weights, settings):
    if weights is not None:
        deconvolver = DiffusionDeconvolver.from_pretrained(weights, device="cpu")
        return deconvolver.recalibration(n_samples=settings["n_samples"])
    if validation is not None:
        return fit_recalibration(load_fields(validation).read())
    return None


def load_fields(folder):
    """Stored fields of a report, or those in the folder itself."""
    fields = Path(folder) / "fields"
    return StoredResults.load(fields if fields.exists() else folder)


def draw_reliability(results, method, recalibration):
    """Diagram above, number of detections below."""
    pool = pool_fields(results, method)
    kinds = {"share of samples": pool.found.score}
    if recalibration is not None:
        kinds["recalibrated"] = recalibration.curves[method](pool.found.score)
    figure = Figure(figsize=SIZE, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for k, (name, score) in enumerate(kinds.items()):
        diagram = reliability_diagram(score, pool.is_true, field=pool.field)
        table = diagram.table[diagram.table["n"] > 0]
        share = table["share"]
        errors = np.clip([share - table["lower"], table["upper"] - share], 0, None)
        label = f"{name}: error {diagram.ece:.3f} ± {diagram.ece_err:.3f}"
        above.errorbar(table["reliability"], share, errors, fmt="o-", ms=4, capsize=2, label=label)
        edges = np.append(diagram.table["low"], 1)
        below.stairs(diagram.table["n"], edges, color=f"C{k}", fill=k == 0, alpha=0.6)
        print(
            f"{name}: calibration error {diagram.ece:.4f} +- {diagram.ece_err:.4f}, by chance "
            f"{diagram.ece_chance:.4f}, p {diagram.p_value:.3f}, {len(score)} detections"
        )
    above.plot([0, 1], [0, 1], color="0.6", ls="--", lw=1)
    above.set(ylabel="share that is true", xlim=(0, 1), ylim=(0, 1.02))
    above.set_title(f"{len(results)} fields, {len(pool.found)} detections", size=9)
    above.legend(fontsize=8, loc="lower right")
    below.set(xlabel="reliability", ylabel="detections")
    return figure


def draw_tarp(results):
    """Expected coverage of each quantity of the posterior samples."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for k, (name, dither) in enumerate(DITHER.items()):
        if not all(name in one.posterior for one in results):
            continue
        truth, samples = (np.stack([one.posterior[name][i] for one in results]) for i in (0, 1))
        curve = tarp_curve(truth, samples, dither=dither)
        axes.plot(curve.credibility, curve.coverage, color=f"C{k}", label=name)
        band = (curve.coverage - curve.coverage_err, curve.coverage + curve.coverage_err)
        axes.fill_between(curve.credibility, *band, color=f"C{k}", alpha=0.2)
        ratio = samples.mean() / truth.mean()
        print(f"{name}: largest distance {curve.distance:.3f}, p {curve.p_value:.2f}, mean of the "
              f"samples over that of the truth {ratio:.2f}")  # fmt: skip
    axes.plot([0, 1], [0, 1], color="0.6", ls="--", lw=1)
    axes.set(xlabel="credibility", ylabel="expected coverage", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"{len(results)} fields", size=9)
    axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
