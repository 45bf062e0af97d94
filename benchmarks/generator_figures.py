"""V24's figures 12 to 19 and A.1 for our weights, from what `generator.py` has drawn.

    python benchmarks/generator_figures.py FIRST CUTOUTS --store RESULTS --guidance 0.75

Options are those of `generator.py`; nothing is drawn or trained that its store has.
"""

from pathlib import Path

import astropy.units as u
import click
import numpy as np
from generated_sets import (
    draw_classes,
    draw_fluxes,
    of_class,
    real_classes,
    real_fluxes,
    trained_classifier,
    with_sources,
)
from generator import BEAM, PIXEL, relative
from matplotlib.figure import Figure

from diffsky.evaluation import (
    compare_distributions,
    fit_source_models,
    image_statistics,
    nearest_images,
)
from diffsky.generation import FIRST_CLASSES, accuracy, confusion, plot_gallery

DPI, SHOWN = 110, 8
COLORS = {"real": "0.3", "generated": "C1"}


def draw_statistics(real, made, real_models, made_models, peaks):
    """Figures 12 to 17: pixels, mean, deviation, model flux, area, and residual against peak."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    one, other = image_statistics(real), image_statistics(made, peaks=peaks)
    axes[0].stairs(one.counts / one.counts.sum(), one.edges, color=COLORS["real"], label="real")
    axes[0].stairs(
        other.counts / other.counts.sum(), other.edges, color=COLORS["generated"], label="generated"
    )
    axes[0].set(yscale="log", xlabel="pixel over peak", ylabel="share of the pixels")
    real_peaks = real.max(axis=(1, 2))
    values = [
        {
            "mean": stats.mean,
            "standard deviation": stats.std,
            "model flux over peak": np.asarray(models.table["model_flux"]) / own,
            "area with half of the model flux / pixels": np.asarray(models.table["area_50"]),
        }
        for stats, models, own in (
            (one, real_models, real_peaks),
            (other, made_models, peaks),
        )
    ]
    comparison = compare_distributions(*values, bins=25)
    for ax, (name, table) in zip(axes[1:5], comparison.histograms.items(), strict=True):
        draw_histogram(ax, name, table)
    for name, models, own in (
        ("real", real_models, real_peaks),
        ("generated", made_models, peaks),
    ):
        residual = np.asarray(models.table["residual"]) / own
        axes[5].plot(1e3 * own, residual, ".", ms=3, alpha=0.5, color=COLORS[name])
    axes[5].set(
        xscale="log", yscale="log", xlabel="peak / (mJy/beam)", ylabel="positive residual over peak"
    )
    axes[0].legend()
    return figure


def draw_histogram(ax, name, table):
    """Densities with their Poisson intervals."""
    edges, width = np.append(table["low"], table["high"][-1]), table["high"] - table["low"]
    middle = (table["low"] + table["high"]) / 2
    for which, color in COLORS.items():
        total = table[which].sum() * width
        density = table[which] / total
        errors = [density - table[f"{which}_lower"] / total, table[f"{which}_upper"] / total]
        errors[1] = errors[1] - density
        ax.stairs(density, edges, color=color)
        ax.errorbar(middle, density, np.clip(errors, 0, None), fmt="none", ecolor=color, lw=0.8)
    ax.set(yscale="log", xlabel=name, ylabel="density")


def draw_gallery(real, images, labels):
    """Figure 18: for each class a row of real images and one of generated ones."""
    rows, titles = [], []
    for label in FIRST_CLASSES:
        own = images[np.array(labels) == label][:SHOWN]
        rows += [relative(of_class(real["test"], label)[:SHOWN]), own]
        titles += [f"{label}, real"] * SHOWN + [f"{label}, generated"] * len(own)
    return plot_gallery(
        np.concatenate(rows), labels=titles, columns=SHOWN, max_images=len(titles), figure=Figure()
    )


def draw_fluxes_gallery(real, cube):
    """Rows of survey cutouts above rows of generated images, with their peaks."""
    made = cube.data[: 2 * SHOWN]
    asked = cube.meta["peak_flux"][: 2 * SHOWN].to_value(u.mJy / u.beam)
    shown = real[: 2 * SHOWN]
    titles = [f"real, {1e3 * peak:.1f} mJy" for peak in shown.max(axis=(1, 2))]
    titles += [f"{peak:.1f} mJy" for peak in asked]
    return plot_gallery(
        np.concatenate([shown, made]), labels=titles, columns=SHOWN, figure=Figure()
    )


def draw_confusion(tables):
    """Figure 19: shares of each class, of real test images and of generated ones."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for ax, (name, counts) in zip(figure.subplots(1, 2), tables.items(), strict=True):
        share = counts / counts.sum(axis=1, keepdims=True)
        ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(share):
            color = "white" if value > 0.5 else "black"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
        ticks = range(len(FIRST_CLASSES))
        ax.set_xticks(ticks, FIRST_CLASSES)
        ax.set_yticks(ticks, FIRST_CLASSES)
        ax.set(xlabel="taken for", ylabel="class", title=f"{name}: accuracy {accuracy(counts):.3f}")
    return figure


def draw_nearest(images, training):
    """Figure A.1: generated images, and in a row with each those of the training nearest to it."""
    found = nearest_images(images, training, n_nearest=SHOWN - 1)
    rows, titles = [], []
    for image, index, similarity in zip(images, found.index, found.similarity, strict=True):
        rows += [image, *training[index]]
        titles += ["generated", *(f"SSIM {value:.2f}" for value in similarity)]
    return plot_gallery(
        np.stack(rows), labels=titles, columns=SHOWN, max_images=len(rows), figure=Figure()
    )


@click.command()
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("cutouts", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--store", type=click.Path(path_type=Path), default="generated", show_default=True)
@click.option("--weights", default="first", show_default=True)
@click.option("--flux-weights", default="first-flux", show_default=True)
@click.option("--guidance", type=float, default=1.5, show_default=True)
@click.option("--n", default=500, show_default=True)
@click.option("--n-fluxes", default=1000, show_default=True)
@click.option("--epochs", default=200, show_default=True)
@click.option("--device", default=None)
@click.option("--output", type=click.Path(path_type=Path), default="docs/_static")
def main(
    first, cutouts, store, weights, flux_weights, guidance, n, n_fluxes, epochs, device, output
):
    """Write the figures as generator-*.png."""
    real = real_classes(first)
    images, labels = draw_classes(weights, n, store, guidance=guidance, device=device)
    images, labels, _ = with_sources(images, labels)
    train, test = real["train"], real["test"]
    classifier = trained_classifier(
        store / "classifier",
        train.images,
        train.labels,
        real["valid"],
        epochs=epochs,
        device=device,
    )
    tables = {
        "real test images": confusion(test.labels, classifier.predict(test.images), FIRST_CLASSES),
        "generated": confusion(labels, classifier.predict(images), FIRST_CLASSES),
    }
    cube = draw_fluxes(flux_weights, n_fluxes, store, device=device)
    survey = np.concatenate(real_fluxes(cutouts))
    kept = cube.data.max(axis=(1, 2)) > 0
    peaks = cube.meta["peak_flux"].to_value(u.Jy / u.beam)[kept]
    fit = {"beam": BEAM, "pixel_scale": PIXEL, "store": store / "models"}
    models = [fit_source_models(these, **fit) for these in (survey, cube.data[kept])]
    nearest = np.concatenate([images[np.array(labels) == name][:2] for name in FIRST_CLASSES])
    figures = {
        "statistics": draw_statistics(survey, cube.data[kept], *models, peaks),
        "classes": draw_gallery(real, images, labels),
        "fluxes": draw_fluxes_gallery(survey, cube),
        "confusion": draw_confusion(tables),
        "nearest": draw_nearest(nearest, relative(train.images)),
    }
    output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        path = output / f"generator-{name}.png"
        figure.savefig(path, dpi=DPI, metadata={"Software": None})
        print(f"written to {path}")


if __name__ == "__main__":
    main()
