"""Nearest training images: scikit-image's similarity, orientation, and copies that are found."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from skimage import metrics

from diffsky.evaluation import memorisation
from diffsky.evaluation.memorisation import (
    align_images,
    diversity,
    memorised_share,
    nearest_images,
    similarity_matrix,
)

SIZE = 28


def sources(n, seed, *, size=SIZE, angle=None, noise=0.01):
    """Lobes of random brightness and distance about a core, turned at random, 0 to 1."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size)) - (size - 1) / 2
    images = []
    for _ in range(n):
        turn = rng.uniform(0, np.pi) if angle is None else angle
        image = rng.normal(0, noise, size=(size, size)) if noise else np.zeros((size, size))
        for side in (-1, 0, 1):
            offset = side * rng.uniform(0.12, 0.3) * size
            width, peak = rng.uniform(1.2, 2.5), rng.uniform(0.3, 1)
            away = (x - offset * np.cos(turn)) ** 2 + (y - offset * np.sin(turn)) ** 2
            image += peak * np.exp(-away / (2 * width**2))
        image = np.clip(image, 0, None)
        images.append(image / image.max())
    return np.array(images, dtype=np.float32)


def scikit_image(one, other):
    pair = (image.astype(float) for image in (one, other))
    return metrics.structural_similarity(*pair, data_range=1)


def test_similarity_is_that_of_scikit_image():
    rng = np.random.default_rng(0)
    noise = rng.uniform(size=(3, 80, 80)).astype(np.float32)
    images = np.concatenate(
        [sources(6, 1, size=80), noise, 0.01 * noise, sources(2, 2, size=80, noise=0)]
    )
    images = np.concatenate([images, [0 * images[0], 0 * images[0] + 1]])
    expected = [[scikit_image(one, other) for other in images] for one in images]
    found = similarity_matrix(images, images, mirrored=False)
    assert_allclose(found, expected, atol=1e-5)
    assert_allclose(np.diag(found), 1, atol=1e-6)
    flips = [images, images[:, ::-1], images[:, :, ::-1], images[:, ::-1, ::-1]]
    best = np.max([similarity_matrix(images, flip, mirrored=False) for flip in flips], axis=0)
    assert_allclose(similarity_matrix(images, images), best, atol=1e-6)


def test_similarity_does_not_depend_on_the_chunks(monkeypatch):
    images, others = sources(3, 1), sources(11, 2)
    whole = similarity_matrix(images, others)
    monkeypatch.setattr(memorisation, "_CPU_CHUNK", 4)
    assert_allclose(similarity_matrix(images, others), whole, atol=1e-6)
    assert similarity_matrix(images[:0], others).shape == (0, 11)
    assert similarity_matrix(images, others[:0]).shape == (3, 0)


@pytest.mark.parametrize("angle", [0.3, 1.1, np.pi / 2, 2.5])
def test_principal_component_becomes_horizontal(angle):
    """An ellipse at any angle becomes the one that lies along x."""
    y, x = np.indices((61, 61)) - 30.0
    image, lying = (
        np.exp(
            -((x * np.cos(t) + y * np.sin(t)) ** 2) / 200
            - (y * np.cos(t) - x * np.sin(t)) ** 2 / 30
        )
        for t in (angle, 0.0)
    )
    assert_allclose(align_images(image[None])[0], lying, atol=0.02)


def test_threshold_of_the_component():
    """Eq. A.1: what is fainter than 0.1 + 0.5 sigma has no part in it."""
    image = np.zeros((41, 41))
    image[20, 5:36] = 1.0
    image[5:36, 20] = 0.09
    assert_allclose(align_images(image[None])[0], image, atol=1e-6)
    image[5:36, 20], image[20, 5:36] = 1.0, 0.09
    assert_allclose(align_images(image[None])[0], image.T, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), turns=st.integers(0, 3), mirror=st.booleans())
def test_turns_and_mirror_images_are_found_again(seed, turns, mirror):
    image = sources(1, seed)[0]
    other = np.rot90(image[:, ::-1] if mirror else image, turns)
    one, same = align_images([image, other])
    flips = [same, same[::-1], same[:, ::-1], same[::-1, ::-1]]
    assert min(np.abs(one - flip).max() for flip in flips) < 1e-4
    found = nearest_images([other], np.concatenate([sources(3, seed + 1), [image]]), n_nearest=1)
    assert found.index[0, 0] == 3
    assert found.similarity[0, 0] > 0.9999


def test_images_without_a_component_stay():
    images = np.zeros((2, 20, 20), dtype=np.float32)
    images[1, 3, 4] = 1
    assert_array_equal(align_images(images), images)


def test_nearest_are_the_most_similar_in_order():
    training = sources(9, 4)
    images = np.concatenate([training[[7]], sources(2, 5)])
    found = nearest_images(images, training, n_nearest=4, align=False)
    assert found.index.shape == found.similarity.shape == (3, 4)
    assert found.index[0, 0] == 7
    flips = [training, training[:, ::-1], training[:, :, ::-1], training[:, ::-1, ::-1]]
    for image, index, similarity in zip(images, found.index, found.similarity, strict=True):
        expected = np.max(
            [[scikit_image(image, other) for other in flip] for flip in flips], axis=0
        )
        assert_allclose(similarity, np.sort(expected)[::-1][:4], atol=1e-5)
        assert_allclose(expected[index], similarity, atol=1e-5)


def test_copies_are_memorised_and_new_draws_are_not():
    training, validation = sources(60, 1), sources(120, 2)
    copies = np.rot90(training[:30, :, ::-1], axes=(1, 2))
    found = memorised_share(copies, validation, training)
    assert found.share == found.upper == 1
    assert found.lower > 0.9
    assert found.generated.min() > 0.999 > found.threshold
    drawn = memorised_share(sources(300, 3), validation, training)
    assert drawn.expected == pytest.approx(1 / 121)
    assert drawn.chance_lower <= drawn.share <= drawn.chance_upper < 0.06
    assert drawn.lower <= drawn.share < drawn.upper
    assert drawn.threshold == drawn.validation.max()
    half = np.concatenate([sources(50, 8), training[:50]])
    assert memorised_share(half, validation, training).share == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("n", "m", "quantile"), [(300, 200, 0.99), (50, 40, 0.9), (100, 20, 0.99)])
def test_share_by_chance(monkeypatch, n, m, quantile):
    """Of draws from one distribution the share has the mean and the interval that are given."""
    rng = np.random.default_rng(6)
    monkeypatch.setattr(
        memorisation,
        "nearest_images",
        lambda images, *args, **options: SimpleNamespace(
            similarity=rng.uniform(size=(len(images), 1))
        ),
    )
    images = np.zeros((n, 7, 7))
    runs = [
        memorised_share(images, images[:m], None, quantile=quantile, align=False)
        for _ in range(700)
    ]
    shares, first = np.array([run.share for run in runs]), runs[0]
    error = shares.std() / np.sqrt(len(runs))
    assert shares.mean() == pytest.approx(first.expected, abs=4 * error)
    within = ((shares >= first.chance_lower) & (shares <= first.chance_upper)).mean()
    assert 0.93 < within < 0.999  # counts are whole: at least 95 %


def test_diversity():
    same = np.repeat(sources(1, 3), 4, axis=0)
    distance, error = diversity(same)
    assert distance == pytest.approx(0, abs=1e-5)
    assert error == pytest.approx(0, abs=1e-5)
    images = sources(12, 5)
    distance, error = diversity(images, align=False)
    pairs = similarity_matrix(images, images)[np.triu_indices(12, 1)]
    assert distance == pytest.approx(1 - pairs.mean(), abs=1e-6)
    few = [diversity(sources(12, seed), align=False)[0] for seed in range(20, 50)]
    assert error == pytest.approx(np.std(few), rel=0.6)
    narrow = [diversity(sources(6, 7, angle=0.2, noise=noise))[0] for noise in (0.01, 0.1)]
    assert narrow[0] < narrow[1]
    some = diversity(images, n_images=5, seed=1)
    assert some == diversity(images, n_images=5, seed=1)
    assert some != diversity(images, n_images=5, seed=2)
    assert np.isnan(diversity(images[:2])[1])


GOOD = np.zeros((3, 8, 8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: align_images(GOOD[0]), r"shape \(8, 8\); expected \(n, ny, ny\)"),
        (lambda: align_images(GOOD + 2), "values from 2.0 to 2.0; expected 0 to 1"),
        (lambda: align_images(GOOD * np.nan), "expected 0 to 1"),
        (lambda: similarity_matrix(GOOD, GOOD[:, :7, :7]), "expected the same number"),
        (lambda: similarity_matrix(GOOD[:, :5, :5], GOOD[:, :5, :5]), "7 x 7 or more"),
        (lambda: nearest_images(GOOD, GOOD), "n_nearest is 5; expected an int from 1 to 3"),
        (lambda: memorised_share(GOOD, GOOD[:0], GOOD), "3 generated and 0 validation images"),
        (lambda: memorised_share(GOOD, GOOD, GOOD, quantile=1), "quantile is 1"),
        (lambda: diversity(GOOD[:1]), "1 of 1 images are asked for"),
        (lambda: diversity(GOOD, n_images=4), "4 of 3 images are asked for"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
