"""Version 2 of simulated pairs, step by step, against the instrument and closed forms."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from diffsky.backend import sample_generator
from diffsky.instrument import Instrument, grid_uv, instrument_from_images
from diffsky.simulation.batch_maker import BatchMaker
from diffsky.simulation.counter import CounterStreams
from diffsky.simulation.pairs import SimulatedPairs
from diffsky.simulation.skymodels import PRIORS, SkyPrior
from diffsky.simulation.uv_bank import UVBank

KERNEL, FIELD, N = 1.7, 32, 128
EMPTY = SkyPrior(n_sources=(0, 0), relative=True)


def make_weights(seed):
    """Weights of random uv points, for a beam of about 4.25 pixels; each of another number."""
    points = np.random.default_rng(seed).normal(0, 0.08, (400 + 30 * seed, 2))
    uv = np.clip(points, -0.3, 0.3) * 180 * 3600 / np.pi
    gridded = grid_uv(uv, pixel_scale=1.0, grid_size=N)
    return torch.from_numpy((gridded / gridded.max()).astype(np.float32))


BANK = torch.stack([make_weights(k) for k in range(3)])


def make_pairs(prior, **options):
    options = {"field_size": FIELD, "patch_size": 16, "pblimit": 0.0, **options}
    if options["field_size"] > FIELD:
        options["weights"] = torch.rand(2, 2 * options["field_size"], options["field_size"] + 1)
    return SimulatedPairs(options.pop("weights", BANK), priors=[(prior, 1.0)], **options)


def observe(weights, apparent, choice, seed=0, noise_weights=None):
    streams = CounterStreams(seed, range(len(apparent)))
    bank = UVBank(weights, weights if noise_weights is None else noise_weights, KERNEL, "cpu")
    return bank.observe(apparent, torch.tensor(choice), streams, 3)


def test_signal_is_that_of_the_instrument():
    """The difference of two skies under the same noise, for the kernel divided out."""
    choice = [2, 0, 1, 2]
    sky = torch.rand(4, FIELD, FIELD, generator=torch.Generator().manual_seed(1)) ** 8 * 50
    noise = observe(BANK, torch.zeros_like(sky), choice)
    expected = Instrument(BANK[choice], torch.ones(FIELD, FIELD), 1.0).convolve(
        sky, kernel_fwhm=KERNEL
    )
    assert_close(observe(BANK, sky, choice) - noise, expected, rtol=1e-4, atol=1e-3)


def test_noise_has_the_covariance_of_the_instrument():
    """Its mean power at every frequency, and so its correlation, is the PSF's."""
    n = 1500
    noise = observe(BANK[:1], torch.zeros(n, FIELD, FIELD), [0] * n)
    psf = Instrument(BANK[0], torch.ones(FIELD, FIELD), 1.0).psf((9, 9))
    centre = noise[:, FIELD // 2, FIELD // 2]
    for y, x in ((0, 0), (0, 2), (3, 0), (2, -3)):
        other = noise[:, FIELD // 2 + y, FIELD // 2 + x]
        assert (centre * other).mean() == pytest.approx(psf[4 + y, 4 + x].item(), abs=0.09)


def test_noise_of_its_own_power():
    """Of imaging weights that are not natural, the noise has another correlation than the PSF."""
    n, power = 1500, torch.zeros_like(BANK[:1])
    power[:, :6, :6] = 1  # the shortest baselines, some of them not in the weights
    noise = observe(BANK[:1], torch.zeros(n, FIELD, FIELD), [0] * n, noise_weights=power)
    ones = torch.ones(FIELD, FIELD)
    expected = Instrument(BANK[0], ones, 1.0, power[0]).noise(
        [sample_generator(5, k) for k in range(n)]
    )
    for shift in (0, 4):
        alike = [(i[:, 20, 20] * i[:, 20, 20 + shift]).mean().item() for i in (noise, expected)]
        assert alike[0] == pytest.approx(alike[1], abs=0.12)
        assert alike[1] > 0.5


def test_instrument_from_images():
    """Weights that are negative in places count in the signal and not in the noise."""
    psf = Instrument(BANK[0], torch.ones(FIELD, FIELD), 1.0).psf().numpy()
    instrument = instrument_from_images(psf, np.ones((FIELD, FIELD)), rms=1.0)
    assert (instrument.weights < 0).any()
    sky = torch.zeros(300, FIELD, FIELD)
    noise = observe(instrument.weights[None], sky, [0] * 300)
    assert noise.std().item() == pytest.approx(1, abs=0.03)
    sky[:, 10, 12] = 100
    signal = observe(instrument.weights[None], sky, [0] * 300) - noise
    expected = instrument.convolve(sky[:1], kernel_fwhm=KERNEL)
    assert_close(signal[:1], expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("name", ["wide", "general"])
def test_sources_lie_whole_in_the_field(name):
    """No flux is lost, and none lies on the border."""
    maker = BatchMaker(make_pairs(PRIORS[name], field_size=128))
    streams = CounterStreams(1, range(20))
    sources, owner = maker.draw(streams)
    sky = maker.render(sources, owner, 20)
    flux = torch.zeros(20).index_add_(0, owner, sources.flux)
    assert_close(sky.sum((1, 2)), flux, rtol=1e-3, atol=1e-3)
    border = torch.cat([sky[:, 0], sky[:, -1], sky[:, :, 0], sky[:, :, -1]], dim=1)
    assert border.amax() < 1e-3 * sky.amax()


def test_field_too_small_for_its_sources():
    """What has no room is not drawn."""
    wide = PRIORS["wide"]
    maker = BatchMaker(make_pairs(wide, field_size=16, patch_size=None))
    sources, _ = maker.draw(CounterStreams(1, range(50)))
    assert 0 < len(sources) < 6 * 50
    assert sources.reach(0.4).max() <= 7 / 4.25


def test_steps_make_the_pairs():
    pairs = make_pairs(PRIORS["general"], patch_size=None, seed=7, version=2)
    maker, streams = BatchMaker(pairs), CounterStreams(7, [3, 1])
    sky = maker.render(*maker.draw(streams), 2)
    images = maker.observe(sky, streams)
    target, condition = pairs.batch([3, 1])
    assert_close(pairs.scale.unscale_target(target), images[:, :1], rtol=1e-4, atol=1e-5)
    assert_close(condition[:, 0] * pairs.scale.dirty_unit, images[:, 1])
    assert_close(condition[:, 1], images[:, 2])


def test_primary_beams_have_the_distribution_of_version_1():
    """Mean response and its spread at the centre and in a corner."""
    stats = []
    for version in (1, 2):
        pairs = make_pairs(EMPTY, patch_size=None, version=version)
        beams = pairs.batch(range(300))[1][:, 1]
        corner, mean = beams[:, 0, 0], beams.mean((1, 2))
        stats.append([corner.mean(), corner.std(), mean.mean(), mean.std()])
    assert torch.tensor(stats[0]).tolist() == pytest.approx(
        torch.tensor(stats[1]).tolist(), abs=0.02
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
def test_a_gpu_makes_the_same_pairs():
    pairs = make_pairs(PRIORS["general"], version=2)
    for one, other in zip(pairs.batch(range(8)), pairs.batch(range(8), "cuda"), strict=True):
        assert_close(one, other.cpu(), rtol=1e-3, atol=1e-3)
