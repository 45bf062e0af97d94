"""The operator against CASA: the same sky, the same uv points, the same dirty image."""

import importlib.util
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.coordinates import SkyCoord

from diffsky.backend import sample_generator
from diffsky.instrument import (
    grid_uv,
    instrument_from_images,
    instrument_from_measurement_set,
    instrument_from_setup,
    instrument_from_uv,
    read_array,
    uv_tracks,
)
from diffsky.simulation.casa import ObservationSetup, observe_uv, simulate_observation
from diffsky.simulation.skymodels import PRIORS, render_sources

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("casatools", "casatasks")),
        reason="CASA is not installed",
    ),
]
SETUP = ObservationSetup()
SHAPE = (SETUP.image_size, SETUP.image_size)
PIXEL = SETUP.cell.to_value(u.arcsec)
RMS = 48e-6  # Jy/beam of this setup


@pytest.fixture(scope="module")
def sky():
    """Three draws of the prior on one field: up to 15 sources of 50 to 500 uJy, on no grid."""
    rng = np.random.default_rng(8)
    sources = [PRIORS["independent"].draw(rng) for _ in range(3)]
    images = [render_sources(one, [0] * len(one), 1, SHAPE, pixel=PIXEL)[0] for one in sources]
    sky = torch.stack(images).sum(0)
    assert sum(map(len, sources)) >= 6
    assert not torch.allclose(sky, sky.flip(-1), atol=1e-6)
    return sky


@pytest.fixture(scope="module")
def observation(sky):
    return simulate_observation(sky.numpy(), SETUP, seed=0, noise=False)


@pytest.fixture(scope="module")
def noise(sky, observation):
    """CASA's noise image: the difference of a noisy and a noise-free observation."""
    noisy = simulate_observation(sky.numpy(), SETUP, seed=3)
    return noisy.dirty.data - observation.dirty.data


@pytest.fixture(scope="module")
def instrument(observation):
    return instrument_from_uv(
        observation.uv,
        weights=observation.weights,
        pixel_scale=PIXEL,
        primary_beam=observation.primary_beam.data,
        rms=RMS,
    )


def residual(instrument, sky, observation):
    """Standard deviation of operator minus CASA where CASA has data, in noise rms."""
    difference = instrument.forward(sky).numpy() - observation.dirty.data
    return np.nanstd(difference) / RMS


def test_signal(instrument, sky, observation):
    """The residual is below 1 % of the noise rms, and any mirror image is far off."""
    assert np.nanmax(observation.dirty.data) > 2 * RMS
    assert residual(instrument, sky, observation) < 0.01
    mirrored = replace(instrument, weights=torch.roll(instrument.weights.flip(0), 1, 0))
    assert residual(mirrored, sky, observation) > 0.2


def test_signal_from_antenna_positions(sky, observation):
    """Without anything of CASA: its uv points, primary beam and dirty image."""
    instrument = instrument_from_setup(SETUP)
    assert residual(instrument, sky, observation) < 0.015
    names = ("direction", "frequency", "total_time", "integration", "hour_angle")
    tracks = uv_tracks(read_array(SETUP.array), **{name: getattr(SETUP, name) for name in names})
    np.testing.assert_allclose(tracks.uv, observation.uv, atol=3)
    beam = observation.primary_beam.data
    np.testing.assert_allclose(instrument.primary_beam, beam, atol=0.01)
    known = beam > 0.2
    np.testing.assert_allclose(instrument.primary_beam[known], beam[known], atol=1e-3)


def test_psf(instrument, observation):
    """CASA's PSF is right inside its outer tenth."""
    inner = (slice(52, -52), slice(52, -52))
    difference = instrument.psf(SHAPE).numpy() - observation.psf.data
    assert np.abs(difference[inner]).max() < 5e-4


def test_briggs_weights(sky):
    """The PSF and the noise of another weighting, at another declination and hour angle."""
    setup = replace(
        SETUP,
        weighting="briggs",
        direction=SkyCoord("10h00m00s -41d00m00s"),
        hour_angle=1.2 * u.hourangle,
        pwv=3 * u.mm,
    )
    observed = simulate_observation(sky.numpy(), setup, seed=2)
    instrument = instrument_from_setup(setup)
    inner = (slice(52, -52), slice(52, -52))
    difference = instrument.psf(SHAPE).numpy() - observed.psf.data
    assert np.abs(difference[inner]).max() < 0.002
    noise = observed.dirty.data - instrument.forward(sky).numpy()
    assert np.nanstd(noise) == pytest.approx(instrument.rms, rel=0.07)


def test_instrument_from_images(sky, observation):
    instrument = instrument_from_images(
        observation.psf.data, observation.primary_beam.data, rms=RMS
    )
    assert residual(instrument, sky, observation) < 0.1


def test_uv_without_sky(observation):
    """The points of an observation do not depend on what is observed."""
    coverage = observe_uv(SETUP)
    one, other = (
        grid_uv(c.uv, weights=c.weights, pixel_scale=PIXEL, grid_size=2048)
        for c in (coverage, observation)
    )
    np.testing.assert_allclose(one / one.sum(), other / other.sum(), atol=1e-9)


def test_noise_rms(instrument, noise):
    """The noise of this setup is 46 to 50 uJy/beam, as uniform over the field as our own."""
    assert RMS * 0.94 < np.nanstd(noise) < RMS * 1.06
    assert instrument_from_setup(SETUP).rms == pytest.approx(np.nanstd(noise), rel=0.06)
    ours = instrument.noise([sample_generator(1, k) for k in range(20)])
    assert ours.std().item() == pytest.approx(RMS, rel=0.01)


def test_noise_power(instrument, noise):
    """The same power at every spatial frequency: ratio of power spectra in bands of radius."""
    side = slice(128, 384)  # inside the primary beam limit
    ours = instrument.noise([sample_generator(2, k) for k in range(30)])[:, side, side]
    theirs = torch.from_numpy(np.ascontiguousarray(noise[side, side])) * RMS / np.nanstd(noise)
    assert torch.isfinite(theirs).all()
    window = torch.outer(*[torch.hann_window(256)] * 2)
    spectra = [torch.fft.fft2(image * window).abs() ** 2 for image in (ours, theirs[None])]
    frequency = torch.fft.fftfreq(256)
    radius = torch.hypot(frequency[:, None], frequency[None, :])
    for low, high in ((0.02, 0.04), (0.04, 0.06), (0.06, 0.08)):  # up to 1.2 cycles a beam
        band = (radius >= low) & (radius < high)
        mean, one = (spectrum[:, band].mean().item() for spectrum in spectra)
        assert one == pytest.approx(mean, rel=0.25)


def test_noise_covariance(instrument, noise):
    """Neighbouring pixels of CASA's noise correlate as the PSF says."""
    psf = instrument.psf((31, 31)).numpy()
    power = np.nanmean(noise**2)
    for dy, dx in ((0, 3), (3, 0), (0, 6), (6, 0), (4, 4), (4, -4)):
        moved = np.roll(noise, (dy, dx), (0, 1))
        assert np.nanmean(noise * moved) / power == pytest.approx(psf[15 + dy, 15 + dx], abs=0.08)


def test_measurement_set(tmp_path):
    """An instrument from a measurement set is that of its uv points."""
    setup = ObservationSetup(image_size=64, total_time=2 * u.min, integration=60 * u.s)
    sky = np.zeros((64, 64))
    sky[30, 40] = 1
    kept = simulate_observation(
        sky, setup, seed=1, noise=False, work_dir=tmp_path, keep_measurement_set=True
    )
    options = {"pixel_scale": PIXEL, "primary_beam": kept.primary_beam.data, "rms": RMS}
    one = instrument_from_measurement_set(kept.measurement_set, **options)
    other = instrument_from_uv(kept.uv, weights=kept.weights, **options)
    assert torch.equal(one.weights, other.weights)
    with pytest.raises(FileNotFoundError, match="no measurement set"):
        instrument_from_measurement_set(tmp_path / "nothing.ms", **options)
