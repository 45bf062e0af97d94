"""Pairs made on the fly on the grid of D24: true sky in Jy, dirty image in Jy/beam."""

import json

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from astropy.wcs import WCS
from numpy.testing import assert_allclose
from radio_beam import Beam
from torch.testing import assert_close

from diffsky.deconvolution import FluxScale, WorkingScale
from diffsky.deconvolution.observation import prepare_observation
from diffsky.exceptions import DiffskyWarning
from diffsky.instrument import Instrument, grid_uv
from diffsky.simulation import PRIORS, FluxPairs, Prior, SkyPrior, render_sources
from diffsky.simulation.counter import CounterStreams
from diffsky.simulation.noise_check import NoiseWatch

SIZE, CELL, RMS = 64, 0.2, 5e-5
SCALE = FluxScale(size=32)
PRIOR = SkyPrior(n_sources=(3, 3), flux=(1e-3, 2e-3), fwhm=(0.6, 1.4), half_width=3.0)
NOTHING = SkyPrior(n_sources=(0, 0))


def make_weights():
    """Two observations with a beam of about 1.2 arcsec."""
    rng = np.random.default_rng(3)
    uv = [rng.normal(0, 7e4, (400, 2)) for _ in range(2)]
    gridded = [grid_uv(points, pixel_scale=CELL, grid_size=2 * SIZE) for points in uv]
    return torch.from_numpy(np.stack(gridded)).float()


def make_gain():
    y, x = np.indices((SIZE, SIZE)) - SIZE // 2
    return np.exp(-4 * np.log(2) * (x**2 + y**2) / 40**2)


WEIGHTS, GAIN = make_weights(), make_gain()


def make_pairs(**options):
    options = {"rms": (RMS, RMS), "cell": CELL, "prior": PRIOR, "scale": SCALE, **options}
    return FluxPairs(options.pop("weights", WEIGHTS), options.pop("gain", GAIN), **options)


def true_sky(target):
    """Jy per working pixel."""
    return SCALE.unit * 16 * ((target[:, 0].double().numpy() + 1) / 2) ** SCALE.gamma


def drawn(pairs, numbers):
    return pairs.prior.draw_many(CounterStreams(pairs.seed, numbers), within=(SIZE - 1) // 2 * CELL)


def test_target_is_the_true_sky():
    """Its flux and its centre, before the primary beam."""
    pairs = make_pairs(seed=4)
    target, condition = pairs.batch(range(6))
    assert target.shape == condition.shape == (6, 1, 32, 32)
    sources, owner = drawn(pairs, range(6))
    # Working pixel k lies at this offset from the reference pixel of the image.
    offset = ((np.arange(32) - 15.5) * 2 - 0.5) * CELL
    for k, sky in enumerate(true_sky(target)):
        flux = sources.flux[owner == k].double().numpy()
        assert sky.sum() == pytest.approx(flux.sum(), rel=0.02)
        for axis, places in ((0, sources.x), (1, sources.y)):
            expected = np.average(places[owner == k].double().numpy(), weights=flux)
            assert np.average(offset, weights=sky.sum(axis)) == pytest.approx(expected, abs=0.03)


def test_dirty_image_and_gain_are_what_predict_makes_of_the_image():
    pairs = make_pairs()
    rng = np.random.default_rng(0)
    dirty = rng.normal(size=(SIZE, SIZE)).astype(np.float32)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---SIN", "DEC--SIN"], ["deg", "deg"]
    wcs.wcs.crpix, wcs.wcs.cdelt = [33, 33], [-CELL / 3600, CELL / 3600]
    image = CCDData(dirty * RMS, unit="Jy/beam", wcs=wcs, meta={"beam": Beam(1.2 * u.arcsec)})
    options = {"primary_beam": GAIN, "mask": GAIN <= 0.2, "rms": RMS, "stride": 1}
    prepared = prepare_observation(image, **SCALE.grid, **options)
    sky, rms = torch.zeros(1, SIZE, SIZE), torch.full((1, 1, 1), RMS)
    planes = pairs._grid.to_working(sky, torch.from_numpy(dirty)[None], rms)[0].numpy()
    assert_allclose(planes[1], prepared.dirty_working, atol=1e-5)
    assert_allclose(planes[2], prepared.primary_beam_working, atol=1e-6)
    assert_allclose(planes[3], prepared.rms_working, rtol=1e-5)


def test_noise_has_the_rms_that_was_asked_for():
    """In Jy/beam, and none where there is no data."""
    _, condition = make_pairs(prior=NOTHING, rms=(2e-5, 6e-5)).batch(range(64))
    noise = (condition[:, 0].double() + 1) / 2 * SCALE.dirty_unit
    seen = noise.abs().amax(0) > 0
    assert 0.2 < seen.double().mean() < 0.8
    levels = noise[:, seen].std(1)
    assert 1.2e-5 < levels.min() < 3e-5
    assert 5e-5 < levels.max() < 8e-5
    assert levels.mean() == pytest.approx(4e-5, rel=0.1)


def test_dirty_image_is_that_of_the_instrument():
    """Bright sources: the attenuated sky, convolved with the PSF of the pair."""
    prior = SkyPrior(n_sources=(1, 1), flux=(1e3, 1e3), fwhm=(0.6, 0.6), half_width=2.0)
    pairs = make_pairs(prior=prior, weights=WEIGHTS[:1])
    _, condition = pairs.batch([5])
    sources, owner = drawn(pairs, [5])
    sky = render_sources(sources, owner, 1, (SIZE, SIZE), pixel=CELL)
    instrument = Instrument(WEIGHTS[0], torch.from_numpy(GAIN).float(), 0.0)
    dirty = instrument.forward(sky) / RMS
    planes = pairs._grid.to_working(sky, dirty, torch.full((1, 1, 1), RMS))
    expected = SCALE.encode(planes)[1]
    assert_close(condition, expected, rtol=0, atol=1e-4 * float(expected.max()))


def test_pairs_depend_on_seed_and_number_alone():
    pairs = make_pairs(seed=1)
    together, alone = pairs.batch([3, 9, 4]), pairs.batch([9])
    for one, other in zip(together, alone, strict=True):
        assert_close(one[1:2], other, rtol=0, atol=1e-5)
    assert not torch.equal(alone[0], make_pairs(seed=2).batch([9])[0])
    assert len(pairs) == 0


def test_autocast_leaves_pairs_alone():
    pairs = make_pairs()
    expected = pairs.batch([2])
    with torch.autocast("cpu", torch.bfloat16):
        for one, other in zip(pairs.batch([2]), expected, strict=True):
            assert torch.equal(one, other)


def test_description_is_json():
    description = make_pairs(rms=(4e-5, 5e-5)).describe()
    (prior,) = json.loads(json.dumps(description))["priors"]
    assert prior.pop("share") == 1
    assert Prior.from_dict(prior) == PRIOR
    assert description["largest_flux"] == pytest.approx(50)
    assert description["instruments"] == 2
    # FWHM of the transform of a Gaussian distribution of baselines
    fwhm = np.degrees(np.sqrt(8 * np.log(2)) / (2 * np.pi * 7e4)) * 3600
    assert_allclose(description["beam"], fwhm, rtol=0.05)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scale": "small"}, TypeError, "expected a FluxScale or a WorkingScale"),
        ({"scale": FluxScale(size=8)}, ValueError, "expected none beyond the 8 x 8 working"),
        ({"prior": PRIORS["wide"]}, ValueError, "expected one in Jy and arcsec"),
        ({"prior": "independent"}, TypeError, "prior is 'independent'; expected a Prior"),
        ({"gain": np.ones((64, 32))}, ValueError, r"\(64, 32\); expected \(size, size\)"),
        ({"weights": WEIGHTS[:, :, :9]}, ValueError, r"expected \(n, N, N // 2 \+ 1\)"),
        ({"gain": np.ones((256, 256))}, ValueError, "with N of 256"),
        ({"rms": (5e-5, 4e-5)}, ValueError, "expected two numbers above 0"),
        ({"rms": (0.0, 4e-5)}, ValueError, "expected two numbers above 0"),
        ({"cell": -1.0}, ValueError, "cell is -1.0"),
        ({"pblimit": 0.0}, ValueError, "pblimit is 0.0; expected 0.1 to 1"),
    ],
)
def test_refused(options, error, message):
    with pytest.raises(error, match=message):
        make_pairs(**options)


# Shared noise, and the grid in beams


def noise_images():
    generator = torch.Generator().manual_seed(2)
    return 1e-4 * torch.randn(2, SIZE, SIZE, generator=generator)


def test_all_pairs_of_an_observation_have_its_noise():
    """Whatever the seed; in units of the rms that it has where there is data."""
    pairs = make_pairs(rms=None, noise=noise_images(), prior=NOTHING)
    dirty = pairs.batch(range(6))[1]
    kinds = {image.numpy().tobytes() for image in dirty}
    assert len(kinds) == 2
    other = make_pairs(rms=None, noise=noise_images(), prior=NOTHING, seed=9).batch(range(6))[1]
    assert {image.numpy().tobytes() for image in other} == kinds
    assert pairs.describe()["noise"] == "shared"
    low, high = pairs.describe()["rms"]
    assert 0.9e-4 < low < high < 1.1e-4
    assert make_pairs().describe()["noise"] == "independent"


def test_training_on_one_noise_warns():
    """As `fit` looks at them."""
    few = SkyPrior(n_sources=(0, 1), flux=(1e-4, 2e-4), half_width=3.0)
    one = make_pairs(rms=None, noise=noise_images()[:1], weights=WEIGHTS[:1], prior=few)
    watched = NoiseWatch(one)
    with pytest.warns(DiffskyWarning, match="the noise of these pairs is correlated"):
        watched.batch(range(4))
    NoiseWatch(make_pairs(prior=few)).batch(range(8))  # a warning would be an error


def test_sources_are_added_to_the_noise():
    one = make_pairs(rms=None, noise=noise_images()[:1], weights=WEIGHTS[:1])
    empty = make_pairs(rms=None, noise=noise_images()[:1], weights=WEIGHTS[:1], prior=NOTHING)
    signal = one.batch([3])[1] - empty.batch([3])[1]
    quiet = make_pairs(rms=(1e-12, 1e-12), weights=WEIGHTS[:1])
    expected = quiet.batch([3])[1]
    assert_close(signal, expected - expected.flatten()[0], rtol=0, atol=1e-4)


def test_grid_in_beams_is_that_of_a_data_set():
    """Target and condition of a `WorkingScale`, beside what predict makes of the image."""
    scale, beam = WorkingScale(), 1.2
    pairs = make_pairs(scale=scale, beam=beam, weights=WEIGHTS[:1], rms=(1e-9, 1e-9))
    target, condition = pairs.batch([2])
    assert condition.shape[1] == 2
    assert all(n % 8 == 0 for n in target.shape[2:])
    sources, _ = drawn(pairs, [2])
    apparent = scale.unscale_target(target)[0, 0].double() * 1e-9
    gain = condition[0, 1]
    x, y = sources.x.double() / CELL, sources.y.double() / CELL
    expected = sources.flux.double() * torch.exp(-4 * np.log(2) * (x**2 + y**2) / 40**2)
    assert float(apparent.sum()) == pytest.approx(float(expected.sum()), rel=0.02)
    assert gain.max() == pytest.approx(1, abs=0.01)
    wide = make_pairs(scale=WorkingScale(kernel_beams=0.8), beam=beam, weights=WEIGHTS[:1])
    narrow = make_pairs(scale=scale, beam=beam, weights=WEIGHTS[:1])
    peaks = [pairs.scale.unscale_target(pairs.batch([2])[0]).max() for pairs in (wide, narrow)]
    assert peaks[0] < 0.9 * peaks[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rms": None}, "expected either rms or noise images"),
        ({"noise": torch.zeros(2, SIZE, SIZE)}, "expected either rms or noise images"),
        ({"rms": None, "noise": torch.zeros(1, SIZE, SIZE)}, "noise has shape .*an image for each"),
        ({"scale": WorkingScale()}, "beam is None; expected that of a WorkingScale"),
    ],
)
def test_noise_and_beam_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        make_pairs(**options)


def test_fingerprint_tells_pairs_apart():
    """By noise, seed, prior and scale; not by what rounding does to the noise."""
    options = {"rms": None, "noise": noise_images()}
    mark = make_pairs(**options).fingerprint
    near = noise_images() * (1 + 1e-7)
    assert make_pairs(**{**options, "noise": near}).fingerprint == mark
    others = [
        {"noise": noise_images().flip(1)},
        {"seed": 5},
        {"prior": NOTHING},
        {"scale": FluxScale(size=32, gamma=10)},
        {"rms": (RMS, RMS), "noise": None},
    ]
    marks = {make_pairs(**{**options, **other}).fingerprint for other in others}
    assert len(marks | {mark}) == 1 + len(others)
