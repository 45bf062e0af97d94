"""Whether different pairs have the same noise: independent, shared in whole and in part."""

import contextlib
import runpy
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from small_casa import SMALL, needs_casa

from diffsky import DiffusionDeconvolver
from diffsky.deconvolution import get_preset
from diffsky.exceptions import DiffskyWarning
from diffsky.simulation import (
    PairDataset,
    PairStore,
    SkyPrior,
    measure_noise_correlation,
    read_drozdova2024,
    simulate_pairs,
)
from diffsky.simulation.noise_check import (
    NoiseWatch,
    batch_noise,
    noise_image,
    warn_of_shared_noise,
)

HELPER = runpy.run_path(str(Path(__file__).with_name("small_pairs.py")))
make_pair, PBLIMIT, RMS = HELPER["make_pair"], HELPER["PBLIMIT"], HELPER["RMS"]
N = 8
PRESET = get_preset("small")
TINY = replace(PRESET, network={**PRESET.network, "channels": (4, 4), "blocks": 1})
EMPTY = SkyPrior(n_sources=(0, 0))


def noise(seed, *, share=0.0, shared_seed=99, size=96):
    """Noise of a beam of four pixels; a part of its power is the same for all seeds."""
    own, common = (np.random.default_rng(s).normal(size=(size, size)) for s in (seed, shared_seed))
    return gaussian_filter(np.sqrt(1 - share) * own + np.sqrt(share) * common, 1.7, mode="wrap")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_correlation_is_the_share_of_the_power(share):
    found = measure_noise_correlation([noise(k, share=share) for k in range(N)])
    assert found.n_couples == N * (N - 1) / 2
    assert_allclose(found.mean, share, atol=5 * found.error / found.n_couples**0.5 + 0.02)
    assert found.shared == (share > 0)


def test_error_is_that_of_independent_images():
    images = [noise(k) for k in range(40)]
    couples = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairwise(images)]
    assert_allclose(measure_noise_correlation(images[:N]).error, np.std(couples), rtol=0.25)


def test_few_common_pixels_are_no_alarm():
    """The error of a couple is that of the pixels that both have."""

    def part(k):
        return np.where(np.indices((96, 96))[1] < 8, noise(k), np.nan)

    found = [measure_noise_correlation([part(k), part(k + 100)]) for k in range(60)]
    assert_allclose(found[0].error, np.std([one.mean for one in found]), rtol=0.35)
    assert not any(one.shared for one in found)
    assert measure_noise_correlation([part(0), 2 * part(0)]).shared


def test_one_couple_is_enough():
    images = [noise(k) for k in range(N - 1)]
    assert measure_noise_correlation([*images, 2 * images[0] + 1]).shared


def test_nothing_to_compare():
    flat, nothing = np.zeros((96, 96)), np.full((96, 96), np.nan)
    sets = [], [noise(0)], [noise(0), noise(1, size=64)], [noise(0), flat], [nothing, nothing]
    for images in sets:
        found = measure_noise_correlation(images)
        assert (found.n_couples, found.shared) == (0, False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_shared_noise(found)


def test_noise_of_a_pair_is_what_the_sky_leaves():
    pair = make_pair(1)
    assert len(pair.sources)
    left = noise_image(pair)
    seen = pair.primary_beam.data > PBLIMIT
    assert np.isnan(left[~seen]).all()
    assert 0.5 < np.isfinite(left[seen]).mean() < 1  # sources are left out
    assert_allclose(np.nanstd(left), RMS, rtol=0.1)


def write(folder, noise):
    """Pairs of different skies whose noise has these numbers."""
    store = PairStore(folder)
    for number, one in enumerate(noise):
        store.write(number, make_pair(number, noise=one))
    return store.path


def test_data_set_of_independent_noise_says_nothing(tmp_path):
    pairs = PairDataset(write(tmp_path / "pairs", range(N)))
    found = pairs.noise_correlation()
    assert abs(found.mean) < 0.1
    assert found.n_images == N


@pytest.mark.parametrize("noise", [[0] * N, [0, 1, 2, 3] * 2], ids=["one", "four"])
def test_data_set_of_shared_noise_warns(tmp_path, noise):
    path = write(tmp_path / "pairs", noise)
    with pytest.warns(DiffskyWarning, match="correlated.*a seed of its own"):
        pairs = PairDataset(path)
    assert pairs.noise_correlation().largest > 0.95


def test_one_pair_is_no_couple(tmp_path):
    assert PairDataset(write(tmp_path / "pairs", [0])).noise_correlation().n_couples == 0


class Batches:
    """Pairs without end, of one source each, with noise of their own or of number 0."""

    def __init__(self, shared, n=0):
        self.shared, self.n = shared, n

    def __len__(self):
        return self.n

    def batch(self, numbers, device):
        numbers = [k % self.n if self.n else k for k in numbers]
        dirty = np.stack([noise(0 if self.shared else k, size=64) for k in numbers])
        target = np.full_like(dirty, -1.0)
        for k, number in enumerate(numbers):
            target[k, 20 + number, 30] = 1.0
            dirty[k, 20 + number, 30] = 50.0
        beam = np.ones_like(dirty)
        condition = np.stack([dirty, beam], axis=1)
        return torch.tensor(target).float()[:, None], torch.tensor(condition).float()


@pytest.mark.parametrize("shared", [False, True])
def test_noise_of_a_batch_is_outside_of_its_sources(shared):
    images = batch_noise(*Batches(shared).batch(range(12), "cpu"))
    assert len(images) == N
    assert all(np.nanmax(image) < 5 for image in images)
    assert measure_noise_correlation(images).shared == shared


def test_first_batch_of_a_training_is_looked_at():
    watched = NoiseWatch(Batches(shared=True))
    with pytest.warns(DiffskyWarning, match=r"correlated: 1\.00 on average"):
        first = watched.batch(range(N))
    expected = Batches(shared=True).batch(range(N), "cpu")
    assert all(torch.equal(one, other) for one, other in zip(first, expected, strict=True))
    watched.batch(range(N))  # a second warning would be an error
    assert (len(watched), watched.shared) == (0, True)
    NoiseWatch(Batches(shared=False)).batch(range(N))


def test_batches_of_one_pair_are_looked_at_together():
    watched = NoiseWatch(Batches(shared=True))
    watched.batch([0])  # one is no couple
    with pytest.warns(DiffskyWarning, match=r"clearest of 1 couples of 2 pairs"):
        watched.batch([1])
    for k in range(2, N + 2):
        watched.batch([k])  # a second warning would be an error
    independent = NoiseWatch(Batches(shared=False))
    for k in range(N + 2):
        independent.batch([k])


@pytest.mark.parametrize("size", [1, 3, 4])
def test_a_pair_is_not_compared_with_itself(size):
    """In the passes of a set of few pairs."""
    watched = NoiseWatch(Batches(shared=False, n=4))
    for start in range(0, 12, size):
        watched.batch(range(start, start + size))  # a warning would be an error
    watched = NoiseWatch(Batches(shared=True, n=4))
    watched.batch([0])
    with pytest.warns(DiffskyWarning, match="correlated"):
        watched.batch(range(4, 4 + max(size, 2)))


@pytest.mark.parametrize("plan", [{"steps": 1, "batch_size": 4}, {"steps": 2, "batch_size": 1}])
def test_fit_warns(plan):
    estimator = DiffusionDeconvolver(TINY, device="cpu")
    pairs = Batches(shared=True)
    pairs.scale = TINY.scale
    with pytest.warns(DiffskyWarning, match=r"correlated: 1\.00 on average"):
        estimator.fit(pairs, **plan)


def test_published_pairs_share_their_noise(data_dir):
    """Pointings 1.2 deg apart still correlate at 0.84; sources are within 14 arcsec."""
    images = []
    for pair in read_drozdova2024(data_dir / "d24"):
        y, x = np.indices(pair.dirty.shape) - 256
        outside = np.hypot(x, y) > 140
        images.append(np.where(outside & ~pair.dirty.mask, pair.dirty.data, np.nan))
    found = measure_noise_correlation(images)
    assert found.shared
    assert_allclose(found.mean, 0.88, atol=0.05)
    assert_allclose(found.largest, 0.983, atol=0.005)


@needs_casa
@pytest.mark.slow
@pytest.mark.parametrize("noise", ["independent", "casa-default"])
def test_pairs_of_casa(tmp_path, noise):
    """Two pointings at the same declination."""
    setups = [
        replace(SMALL, direction=f"J2000 {ra}deg 2.2deg", image_size=128) for ra in (150.0, 150.5)
    ]
    options = {"seed": 1, "noise": noise, "store": tmp_path / "pairs", "timeout": 600}
    store = simulate_pairs(EMPTY, lambda rng: setups[int(rng.integers(2))], n=4, **options)
    warns = pytest.warns(DiffskyWarning, match="correlated")
    with warns if noise == "casa-default" else contextlib.nullcontext():
        pairs = PairDataset(store, pblimit=0.5)
    found = pairs.noise_correlation()
    assert found.n_couples == 6
    assert (found.mean > 0.9) == (noise == "casa-default")
