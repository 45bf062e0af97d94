"""Figures 8 to 23 of D24 with our weights, and the two that explain the scores."""

import matplotlib as mpl
import numpy as np
import printed
from counted import Counted
from estimates import Bootstrap
from matplotlib.figure import Figure
from shared_fields import next_in_declination, noise_of, observed, published_pair

from diffsky.evaluation import pool_fields, pool_reconstructions, share_by_snr

RUNS = (2, 5, 10)
TRAINED, DEFAULT = "weights of this noise", "default weights"
STYLES = ("-", ":", "--", "-.", (0, (1, 3)))
SCORES = ("purity", "completeness", "f1")
LABELS = {"purity": "purity", "completeness": "completeness", "f1": "F1"}
AVERAGES = ("mean", "median", "detect-aggregate")
SNR_EDGES = np.array([0.5, 1.5, 2.5, 3.5, 4.5, 6, 8, 12])
MICRO = 1e6
TOLERANCE = 50  # uJy
FILTER_SIGNAL = 4.5  # near the best on independent noise


def draw_all(folder, runs, main, sets, water, *, data):
    """Write all figures to a folder: of results by root, the main one and gamma 1 in detail."""
    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    known, rows = water
    _sheet(folder / "drozdova2024-localization.png", [
        (figure_8, runs[main]), (figure_9, runs), (figure_10, runs[main]), (figure_11, runs),
        (figure_12, runs[main]), (figure_13, runs),
    ])  # fmt: skip
    _sheet(folder / "drozdova2024-fluxes.png", [
        (figure_14, runs[main]), (figure_15, runs[main]),
        *(((figure_16, known), (figure_17, rows), (figure_18, rows)) if rows else ()),
    ])  # fmt: skip
    if 1 in runs and main != 1:
        _sheet(folder / "drozdova2024-gamma-1.png", [(p, runs[1]) for p in GAMMA_1.values()],
               numbers=GAMMA_1)  # fmt: skip
    draw_published(folder / "published-noise.png", data)
    draw_completeness(folder / "shared-noise-completeness.png", sets)


def _counted(results, name, **options):
    return Counted(results, name, Bootstrap(len(results)), **options)


def _sheet(path, panels, *, numbers=()):
    """Panels of one figure, three in a row, with other numbers than their own if need be."""
    figure = Figure(figsize=(12, 3.6 * -(-len(panels) // 3)), layout="constrained")
    axes = np.ravel(figure.subplots(-(-len(panels) // 3), 3))
    for axis, (function, *arguments) in zip(axes, panels, strict=False):
        function(axis, *arguments)
    for axis, number in zip(axes, numbers, strict=False):
        axis.set_title(f"{number}:{axis.get_title().partition(':')[2]}")
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.savefig(path, dpi=90)


def figure_8(axis, results):
    """Reconstruction against the number of runs, median, over that of all runs."""
    scores = [one.reconstruction for one in results]
    n_runs = len(scores[0]["single run"])
    numbers = [1, *(n for n in RUNS if n < n_runs), n_runs]
    keys = ["single run", *(f"median of {n}" for n in numbers[1:-1]), "median"]
    means = np.array([np.concatenate([one[key] for one in scores]).mean(axis=0) for key in keys])
    for k, name in enumerate(("mean squared error", "peak S/N", "structural similarity")):
        axis.plot(numbers, means[:, k] / means[-1, k], "o-", label=name)
    axis.set(title="8: reconstruction", xlabel="runs", ylabel="over that of all runs")
    axis.legend(fontsize=8)


def figure_9(axis, runs):
    """Best scores of all aggregations against the root."""
    for k, name in enumerate(SCORES):
        best = {g: max((getattr(_counted(runs[g], a), name) for a in AVERAGES),
                       key=lambda one: one.value) for g in sorted(runs)}  # fmt: skip
        axis.errorbar(list(best), [100 * one.value for one in best.values()],
                      [100 * one.error for one in best.values()], fmt="o", color=f"C{k}",
                      label=LABELS[name])  # fmt: skip
        theirs = [max(printed.LOCALIZATION[g][a][k] for a in AVERAGES) for g in printed.GAMMAS]
        axis.plot(printed.GAMMAS, theirs, ":", color=f"C{k}")
    axis.set(title="9: best scores (dotted: printed)", xlabel="root", ylabel="per cent")
    axis.legend(fontsize=8)


def figure_10(axis, results):
    """Localisation against the number of runs, median."""
    n_runs = len(results[0].reconstruction["single run"])
    numbers = [1, *(n for n in RUNS if n < n_runs), n_runs]
    names = ["single run", *(f"median of {n}" for n in numbers[1:-1]), "median"]
    counted = [_counted(results, name) for name in names]
    for score in SCORES:
        values = [getattr(one, score) for one in counted]
        axis.errorbar(numbers, [v.value for v in values], [v.error for v in values], fmt="o-",
                      label=LABELS[score])  # fmt: skip
    axis.set(title="10: median of n runs", xlabel="runs")
    axis.legend(fontsize=8)


def figure_11(axis, runs):
    """Localisation against the reliability that is asked for."""
    thresholds = np.arange(0.05, 1.01, 0.05)
    for style, gamma in zip(STYLES, runs, strict=False):
        rows = [_counted(runs[gamma], "detect-aggregate", threshold=t - 1e-3) for t in thresholds]
        for k, score in enumerate(SCORES):
            values = [getattr(one, score).value for one in rows]
            label = f"{LABELS[score]}, root {gamma:g}"
            axis.plot(thresholds, values, style, color=f"C{k}", label=label)
    axis.axvline(0.3, color="grey", lw=0.8)
    axis.set(title="11: detect-aggregate", xlabel="least reliability", ylim=(0, 1.02))
    axis.legend(fontsize=8)


def figure_12(axis, results):
    """S/N against reliability."""
    counted = _counted(results, "detect-aggregate", threshold=0)
    axis.plot(counted.column("reliability"), counted.column("true_snr"), ".", ms=4, alpha=0.5)
    axis.set(title="12: true sources", xlabel="reliability", ylabel="normalised S/N")


def figure_13(axis, runs):
    """Completeness against S/N."""
    for gamma in sorted(runs):
        counted = _counted(runs[gamma], "median")
        bins = list(zip(SNR_EDGES, SNR_EDGES[1:], strict=False))
        values = [counted.completeness_between(*one) for one in bins]
        axis.errorbar([np.mean(one) for one in bins], [v.value for v in values],
                      [v.error for v in values], fmt="o-", label=f"root {gamma:g}")  # fmt: skip
    axis.plot(2, 0.5, "kx", label="Taran et al. 2023")
    axis.plot(2, 0.9, "k^", label="D24 exceed")
    axis.set(title="13: completeness", xlabel="normalised S/N", ylim=(0, 1.02))
    axis.legend(fontsize=8)


def figure_14(axis, results):
    """Relative error of fluxes."""
    for name, style in (("run 1", "s"), ("mean", "x"), ("median", ".")):
        counted = _counted(results, name)
        true, found = MICRO * counted.column("true_flux"), MICRO * counted.column("flux")
        axis.plot(true, found / true - 1, style, ms=3, alpha=0.4, label=name)
    _flux_band(axis)
    axis.set(title="14: relative error of the flux", xlabel="true flux (µJy)", ylim=(-1.2, 1.6))
    axis.legend(fontsize=8)


def figure_15(axis, results):
    """The same of detect-aggregate, with the scatter of the runs and the reliability."""
    counted = _counted(results, "detect-aggregate")
    true = MICRO * counted.column("true_flux")
    found, scatter = (MICRO * counted.column(name) for name in ("flux", "flux_err"))
    axis.errorbar(true, found / true - 1, np.nan_to_num(scatter) / true, fmt="none", lw=0.5,
                  color="0.7")  # fmt: skip
    shown = axis.scatter(true, found / true - 1, c=counted.column("reliability"), s=6,
                         cmap="coolwarm", vmin=0, vmax=1, zorder=3)  # fmt: skip
    _flux_band(axis)
    axis.figure.colorbar(shown, ax=axis, label="reliability")
    axis.set(title="15: detect-aggregate", xlabel="true flux (µJy)", ylim=(-1.2, 1.6))


def _flux_band(axis):
    flux = np.linspace(50, 500, 100)
    axis.fill_between(flux, -TOLERANCE / flux, TOLERANCE / flux, color="0.9", zorder=0)


def figure_16(axis, known):
    """Reconstruction against water vapour, median, over the best one."""
    amounts = sorted({pwv for _, pwv in known})
    tables = [pool_reconstructions([one.reconstruction for one in known[TRAINED, pwv]])
              for pwv in amounts]  # fmt: skip
    columns = {"mse": "mean squared error", "psnr": "peak S/N", "ssim": "structural similarity"}
    for key, label in columns.items():
        values = np.array([table[key][2] for table in tables])
        axis.plot(amounts, values / values.max(), "o-", label=label)
    axis.set(title="16: reconstruction", xlabel="water vapour (mm)", ylabel="over the largest")
    axis.legend(fontsize=8)


def figure_17(axis, rows):
    """Completeness and purity against water vapour."""
    _against_water(axis, rows, {"purity": 0, "completeness": 1})
    axis.set(title="17: median", xlabel="water vapour (mm)", ylim=(0, 1.05))
    axis.legend(fontsize=8)


def figure_18(axis, rows):
    """Right fluxes against water vapour."""
    _against_water(axis, rows, {"fluxes within 50 µJy": 2})
    axis.set(title="18: median", xlabel="water vapour (mm)", ylim=(0, 1.05))
    axis.legend(fontsize=8)


def _against_water(axis, rows, figures):
    for style, title in (("o-", "as D24"), ("s:", DEFAULT)):
        amounts = sorted(pwv for name, pwv in rows if name == title)
        for k, (label, place) in enumerate(figures.items()):
            values = [rows[title, pwv][place] for pwv in amounts]
            axis.errorbar(amounts, [v.value for v in values], [v.error for v in values], fmt=style,
                          color=f"C{k}", label=f"{label}, {title}")  # fmt: skip


def draw_published(path, data):
    """A published dirty image, and what the nearest one's noise leaves of it."""
    number = 3
    one, other = published_pair(data, number), next_in_declination(data, number)
    noise = noise_of(other)
    degrees = [observed(pair).direction.dec.deg for pair in (one, other)]
    panels = {
        f"published dirty image, {degrees[0]:.3f}°": one.dirty.data,
        f"noise of the one at {degrees[1]:.3f}°": noise,
        "difference": one.dirty.data - noise,
    }
    figure = Figure(figsize=(12, 4.1), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    half = 0.05 * len(noise)
    for axis, (title, image) in zip(axes, panels.items(), strict=True):
        shown = axis.imshow(MICRO * image, origin="lower", cmap="RdBu_r", vmin=-200, vmax=200,
                            extent=(half, -half, -half, half))  # fmt: skip
        x, y = ((np.asarray(one.sources[f"{name}_centroid"]) - len(noise) // 2) * 0.1
                for name in "xy")  # fmt: skip
        axis.plot(-x, y, "o", ms=13, mfc="none", mec="k")
        axis.set(title=title, xlabel="offset (arcsec)", xlim=(12, -12), ylim=(-12, 12))
    figure.colorbar(shown, ax=axes, shrink=0.9, label="µJy/beam")
    figure.savefig(path, dpi=90)


def draw_completeness(path, sets):
    """Completeness against S/N, and purity, with noise that was learned and with other noise."""
    fresh, learned = "independent noise", "shared noise"
    lines = {
        f"{TRAINED}, {learned}": (learned, TRAINED, "median", 0.3),
        f"{TRAINED}, {fresh}": (fresh, TRAINED, "median", 0.3),
        f"{DEFAULT}, {fresh}": (fresh, DEFAULT, "median", 0.5),
        f"matched filter, {fresh}": (fresh, DEFAULT, "matched filter", FILTER_SIGNAL),
    }
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    middle = (SNR_EDGES[1:] + SNR_EDGES[:-1]) / 2
    for k, (label, (where, who, method, threshold)) in enumerate(lines.items()):
        pool = pool_fields(sets[where, who], method, threshold=threshold - 1e-3)
        table = share_by_snr(pool.truth.snr, pool.is_found, edges=SNR_EDGES)
        errors = [table["share"] - table["lower"], table["upper"] - table["share"]]
        left.errorbar(middle, table["share"], np.clip(errors, 0, None), fmt="o-", color=f"C{k}",
                      label=label)  # fmt: skip
        purity = pool.is_true.mean() if len(pool.is_true) else 0.0
        right.barh(k, purity, color=f"C{k}", alpha=0.6)
        right.text(0.02, k, f"{label}: {purity:.2f}", va="center")
    left.set(xlabel="apparent normalised S/N", ylabel="completeness, one to one, half a beam",
             ylim=(0, 1.03))  # fmt: skip
    left.legend(fontsize=8)
    right.invert_yaxis()
    right.set(xlabel="purity", yticks=[], xlim=(0, 1))
    figure.savefig(path, dpi=90)


GAMMA_1 = {19: figure_12, 20: figure_14, 21: figure_15, 22: figure_10, 23: figure_8}
