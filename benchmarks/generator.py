"""How good generated radio galaxies are: their class, statistics, memory and speed (V24 sect. 5).

    python benchmarks/generator.py FIRST CUTOUTS --store RESULTS

FIRST is galaxy_data_h5.zip of Griese et al. (2023), CUTOUTS the survey cutouts in Jy/beam that
`diffsky.generation.read_cutout_cube` reads. Generated images and classifiers are kept in the store,
so the same command goes on where it was interrupted. Real test images are looked at by the
classifiers alone; distributions are compared with the validation images, which no training of a
generator saw. Errors of accuracies are binomial.
"""

import json
from functools import partial
from pathlib import Path

import astropy.units as u
import click
import numpy as np
from generated_sets import (
    SCAN_SEED,
    balanced,
    draw_classes,
    draw_fluxes,
    held_apart,
    of_class,
    real_classes,
    real_fluxes,
    trained_classifier,
    with_sources,
)
from speed import median_time, time_call
from targets import Targets

from diffsky import RadioGalaxyGenerator
from diffsky.backend import select_backend
from diffsky.diffusion import build_network
from diffsky.evaluation import (
    compare_distributions,
    compare_pixels,
    diversity,
    fit_source_models,
    image_statistics,
    memorised_share,
    residual_flux_relation,
)
from diffsky.generation import FIRST_CLASSES, PRESETS, accuracy, confusion, recall

GUIDANCE = (0.1, 0.2, 0.5, 0.75, 1.0, 1.5)
V24_CALLS, V24_GIGAFLOP = 98, 83.2  # Heun in 25 steps with guidance
MARGIN = 0.03  # of KS distances
N_DIVERSE, N_TIMED = 200, 64
BEAM, PIXEL = 5.4 * u.arcsec, 1.5 * u.arcsec


def check_accuracy(name, true, predicted, targets, low=None):
    """Accuracy with its binomial error, and what each class is taken for."""
    counts = confusion(true, predicted, FIRST_CLASSES)
    share = accuracy(counts)
    error = np.sqrt(share * (1 - share) / len(true))
    targets.check_number(f"accuracy, {name} ({len(true)})", share, error, low)
    return counts


def print_confusion(counts):
    """What the images of each class are taken for."""
    print("  " + " " * 10 + "".join(f"{name:>9}" for name in FIRST_CLASSES) + "   recall")
    for name, row, share in zip(FIRST_CLASSES, counts, recall(counts), strict=True):
        print(f"  {name:<10}" + "".join(f"{count:>9}" for count in row) + f"{share:>9.3f}")


def check_classes(real, weights, store, n, n_scan, epochs, device, targets):
    """Class-conditioned images before a classifier that knows real ones (V24 figs. 18 and 19)."""
    train, test = real["train"], real["test"]
    options = {"epochs": epochs, "device": device}
    classifier = trained_classifier(
        store / "classifier", train.images, train.labels, real["valid"], **options
    )
    counts = check_accuracy(
        "real test images", test.labels, classifier.predict(test.images), targets, 0.815
    )
    print_confusion(counts)
    check_one_view(classifier, "real test images", test.images, test.labels, targets)
    tables, scanned = {}, {}
    for guidance in GUIDANCE:
        scan = {"guidance": guidance, "device": device, "seed": SCAN_SEED}
        images, labels = draw_classes(weights, n_scan, store, **scan)
        images, labels, n_flat = with_sources(images, labels)
        predicted = classifier.predict(images)
        counts = check_accuracy(f"generated, guidance {guidance:g}", labels, predicted, targets)
        print(f"    without a source {n_flat}, least recall {recall(counts).min():.3f}")
        print_confusion(counts)
        tables[guidance], scanned[guidance] = counts, images
    best = max(tables, key=lambda guidance: accuracy(tables[guidance]))
    print(f"\n  best guidance {best:g}")
    images, labels = draw_classes(weights, n, store, guidance=best, device=device)
    images, labels, _ = with_sources(images, labels)
    predicted = classifier.predict(images)
    counts = check_accuracy("generated, best guidance", labels, predicted, targets, 0.834)
    print_confusion(counts)
    check_one_view(classifier, "generated, best guidance", images, labels, targets)
    targets.check_number("least recall", recall(counts).min(), 0.0, 0.7)
    check_diversity(real["train"], images, labels, targets)
    learned = trained_classifier(store / "learned", *held_apart(images, labels), **options)
    predicted = learned.predict(test.images)
    counts = check_accuracy(
        "trained on generated, real test", test.labels, predicted, targets, 0.70
    )
    print_confusion(counts)
    return images, labels, scanned[min(scanned)]


def check_one_view(classifier, name, images, labels, targets):
    """Accuracy on the images as they are, as V24 have it."""
    predicted = classifier.predict(images, n_views=1)
    check_accuracy(f"{name}, one view", labels, predicted, targets)


def check_diversity(train, images, labels, targets):
    """Mean distance within a class, over that of real images."""
    for label in FIRST_CLASSES:
        own = images[np.array(labels) == label]
        parts = [of_class(train, label), own]
        (real, real_error), (made, error) = (
            diversity(part, n_images=min(N_DIVERSE, len(part))) for part in parts
        )
        total = made / real * np.hypot(error / made, real_error / real)
        targets.check_number(f"diversity of {label} over real", made / real, total, 0.9)


def check_distributions(reference, sets, targets, name):
    """KS distances to the validation images; all sets but the training are of generated ones."""
    for which, values in sets.items():
        table = compare_distributions(reference, values).table
        for row in table:
            high = None if which == "training" else row["ks_limit"] + MARGIN
            label = f"{name}: KS of {row['name']}, {which}"
            targets.check_number(label, row["ks"], row["ks_limit"] / 1.358 * 0.26, high=high)
            print(f"    Wasserstein distance over the deviation {row['wasserstein_std']:.3f}")


def statistics(images, peaks=None):
    """Mean and standard deviation of scaled images."""
    known = image_statistics(images, peaks=peaks)
    return {"mean": known.mean, "standard deviation": known.std}


def print_pixels(real, generated, peaks=1.0):
    """Distances of the pixel values of scaled images (V24 fig. 12)."""
    found = compare_pixels(image_statistics(real), image_statistics(generated, peaks=peaks)).meta
    print(f"  pixel values: KS {found['ks']:.3f}, Wasserstein {found['wasserstein']:.4f}")


def check_memory(generated, validation, training, targets, name):
    """Share of images that are too near to one of the training."""
    found = memorised_share(generated, validation, training)
    error = (found.upper - found.lower) / 2
    targets.check_number(f"{name}: memorised share", found.share, error, high=0.03)
    print(f"    expected {found.expected:.3f}, by chance up to {found.chance_upper:.3f}")


def relative(images):
    """Images over their peaks."""
    return images / images.max(axis=(1, 2), keepdims=True)


def check_fluxes(parts, weights, store, n, device, targets):
    """Statistics of the images of given peaks, and their noise beside these."""
    cube = draw_fluxes(weights, n, store, device=device)
    asked = cube.meta["peak_flux"].to_value(u.Jy / u.beam)
    images = dict(zip(("training", "validation"), parts, strict=True))
    values, relations = {}, {}
    for name, these in (*images.items(), ("generated", cube.data)):
        peaks = asked if name == "generated" else these.max(axis=(1, 2))
        kept = these.max(axis=(1, 2)) > 0
        these, peaks = these[kept], peaks[kept]
        models = fit_source_models(these, beam=BEAM, pixel_scale=PIXEL, store=store / "models")
        print(f"  {name}: {models.counts}, flat {int((~kept).sum())}")
        table = models.table
        values[name] = statistics(these, peaks) | {
            "model flux over peak": np.asarray(table["model_flux"]) / peaks,
            "A_50%": np.asarray(table["area_50"]),
        }
        residual = np.asarray(table["residual"]) / peaks
        relations[name] = {
            "positive residual": residual_flux_relation(peaks, residual),
            "background rms": residual_flux_relation(peaks, np.asarray(table["rms"]) / peaks),
        }
    reference = values.pop("validation")
    check_distributions(reference, values, targets, "first-flux")
    kept = cube.data.max(axis=(1, 2)) > 0
    print_pixels(images["validation"], cube.data[kept], asked[kept])
    for quantity in ("positive residual", "background rms"):
        real, made = (relations[which][quantity] for which in ("training", "generated"))
        for key in ("spearman", "slope"):
            a, b = getattr(made, key), getattr(real, key)
            error = np.hypot(
                getattr(made, f"{key}_err") / b, getattr(real, f"{key}_err") * a / b**2
            )
            targets.check_number(f"{quantity}: {key} over real ({b:.3f})", a / b, error, 0.9, 1.1)
    drawn = cube.data[kept] / asked[kept, None, None]
    training, validation = map(relative, parts)
    check_memory(drawn, validation, training, targets, "first-flux")


def check_speed(weights, device, targets):
    """Images a second of each of the weights over those of V24's work."""
    backend = select_backend(device)
    network = build_network({**PRESETS["vicanek2024"].network, "context": 1}).eval()
    batch = 4 if backend.device.type == "cpu" else 256
    call = time_call(
        "V24's network", network, backend, batch, 3, shape=(1, 80, 80), cost=V24_GIGAFLOP
    )
    n = N_TIMED if backend.device.type == "cpu" else 16 * N_TIMED
    for name in weights:
        generator = RadioGalaxyGenerator.from_pretrained(name, device=device)
        seconds = median_time(partial(generator.sample, n, seed=1), 1, backend.device) / n
        print(
            f"  {backend.device.type}: {1 / seconds:.2f} images a second of {name}, V24's work "
            f"{1 / (V24_CALLS * call):.4f}"
        )
        ratio = V24_CALLS * call / seconds
        targets.check_number(f"{name}: times faster than V24's work", ratio, 0.0, 30)


@click.command()
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("cutouts", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--store", type=click.Path(path_type=Path), default="generated", show_default=True)
@click.option("--weights", default="first", show_default=True, help="Of classes.")
@click.option("--flux-weights", default="first-flux", show_default=True)
@click.option("--n", default=500, show_default=True, help="Images of each class.")
@click.option("--n-scan", default=60, show_default=True, help="The same, to choose the guidance.")
@click.option("--n-fluxes", default=1000, show_default=True, help="Images of given peaks.")
@click.option("--epochs", default=200, show_default=True, help="Of the classifiers.")
@click.option("--device", default=None)
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(first, cutouts, store, weights, flux_weights, n, n_scan, n_fluxes, epochs, device,
         record):  # fmt: skip
    """Print the figures of generators beside their targets."""
    store.mkdir(parents=True, exist_ok=True)
    targets, real = Targets(), real_classes(first)
    print(f"weights {weights}, {n} images of each class; {flux_weights}, {n_fluxes} images")
    images, labels, natural = check_classes(
        real, weights, store, n, n_scan, epochs, device, targets
    )
    print("\ndistributions of scaled images, all classes alike")
    train, valid = (balanced(real[name], n) for name in ("train", "valid"))
    least = f"guidance {min(GUIDANCE):g} ({len(natural)})"
    sets = {"training": train, "generated": images, least: natural}
    sets = {name: statistics(these, None if name == "training" else 1.0)
            for name, these in sets.items()}  # fmt: skip
    check_distributions(statistics(valid), sets, targets, "first")
    print_pixels(valid, images)
    for label in FIRST_CLASSES:  # compact sources are all alike, and near to each other
        own = images[np.array(labels) == label]
        parts = (relative(of_class(real[name], label)) for name in ("valid", "train"))
        check_memory(own, *parts, targets, label)
    print("\nimages of given peak flux densities")
    check_fluxes(real_fluxes(cutouts), flux_weights, store, n_fluxes, device, targets)
    print("\nspeed")
    check_speed((weights, flux_weights), device, targets)
    if record is not None:
        record.write_text(json.dumps(targets.rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
