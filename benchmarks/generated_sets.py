"""Real radio galaxies, and generated ones that are drawn once and kept."""

from pathlib import Path

import numpy as np

from diffsky import RadioGalaxyGenerator
from diffsky.generation import (
    FIRST_CLASSES,
    LabelledImages,
    MorphologyClassifier,
    read_cutout_cube,
    read_first,
    read_images,
)

DRAW_SEED, CLASSIFIER_SEED, BALANCE_SEED, SCAN_SEED = 9201, 9202, 9203, 9250


def real_classes(path):
    """Images of FIRST with their classes, of each split."""
    return {name: read_first(path, name).with_sources() for name in ("train", "valid", "test")}


def real_fluxes(path):
    """Survey cutouts in Jy/beam, clipped at 0 as generated ones are: training, validation."""
    return tuple(np.clip(read_cutout_cube(path, name)[0], 0, None) for name in ("train", "valid"))


def of_class(images, label):
    """Images of one class."""
    return images.images[[k for k, own in enumerate(images.labels) if own == label]]


def balanced(images, n, seed=BALANCE_SEED):
    """As many images of every class, drawn without replacement."""
    rng = np.random.default_rng(seed)
    parts = [of_class(images, label) for label in FIRST_CLASSES]
    n = min(n, *map(len, parts))
    return np.concatenate([part[rng.permutation(len(part))[:n]] for part in parts])


def draw_classes(weights, n, store, *, guidance, device=None, seed=DRAW_SEED):
    """As many images of every class, and their labels; all of one guidance are in one file each."""
    generator = RadioGalaxyGenerator.from_pretrained(weights, device=device)
    images, labels = [], []
    for k, label in enumerate(FIRST_CLASSES):
        name = f"{generator.description_['name']}-{label}-{guidance:g}-{n}-{seed}.fits"
        path, asked = Path(store) / name, {"label": label, "guidance": guidance}
        asked["seed"] = seed + 10 * k
        generator.write(path, n, **asked, resume=True)
        images.append(read_images(path).data)
        labels += [label] * n
    return np.concatenate(images), labels


def draw_fluxes(weights, n, store, *, device=None):
    """Images with peaks drawn as in the training: a cube in Jy/beam."""
    generator = RadioGalaxyGenerator.from_pretrained(weights, device=device)
    path = Path(store) / f"{generator.description_['name']}-{n}.fits"
    generator.write(path, n, seed=DRAW_SEED, resume=True)
    return read_images(path)


def trained_classifier(folder, images, labels, validation, *, epochs, device=None):
    """A classifier, trained once on these images; an interrupted training goes on."""
    return MorphologyClassifier(device=device).fit(
        images,
        labels,
        validation=(validation.images, validation.labels),
        epochs=epochs,
        checkpoint_dir=Path(folder) / "checkpoints",
        resume=True,
        seed=CLASSIFIER_SEED,
    )


def held_apart(images, labels):
    """Images and labels to train on, and every tenth to validate on: no real image decides."""
    aside = np.arange(len(labels)) % 10 == 0
    kept, held = ([labels[k] for k in np.flatnonzero(these)] for these in (~aside, aside))
    return images[~aside], kept, LabelledImages(images[aside], held, [])


def with_sources(images, labels=None):
    """Images that are not flat, how many were, and the labels of the former."""
    kept = np.flatnonzero(np.ptp(images, axis=(1, 2)) > 0)
    labels = None if labels is None else [labels[k] for k in kept]
    return images[kept], labels, len(images) - len(kept)
