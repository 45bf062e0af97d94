"""Instruments from array configurations alone."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose
from torch.testing import assert_close

from diffsky.instrument import (
    image_rms,
    instrument_from_setup,
    instrument_from_uv,
    read_array,
    uv_tracks,
    visibility_noise,
)
from diffsky.simulation import ObservationSetup


def write_array(path, *, observatory="ALMA", diameter=12.0, n=12):
    rng = np.random.default_rng(4)
    rows = "\n".join(f"{x} {y} 0 {diameter}" for x, y in rng.normal(0, 90, (n, 2)))
    path.write_text(f"# observatory={observatory}\n# COFA=-67.75,-23.02\n# coordsys=LOC\n{rows}\n")
    return path


@pytest.mark.parametrize("rms", [2e-5, 20 * u.uJy / u.beam, 0.02 * u.mJy / u.beam])
def test_rms_as_number_and_as_quantity(setup, make_instrument, rms):
    assert instrument_from_setup(setup, rms=rms).rms == pytest.approx(2e-5)
    assert make_instrument(rms=rms).rms == pytest.approx(2e-5)
    with pytest.raises(u.UnitConversionError):
        instrument_from_setup(setup, rms=1 * u.K)


@pytest.fixture
def setup(tmp_path):
    return ObservationSetup(
        array=write_array(tmp_path / "array.cfg"),
        direction=SkyCoord(150 * u.deg, 5 * u.deg),
        image_size=64,
        cell=0.25 * u.arcsec,
        total_time=10 * u.min,
        integration=60 * u.s,
        hour_angle=0.5 * u.hourangle,
    )


def test_made_of_its_parts(setup):
    """Tracks, noise and weights one by one give the same instrument."""
    instrument = instrument_from_setup(setup)
    tracks = uv_tracks(
        read_array(setup.array),
        direction=setup.direction,
        frequency=setup.frequency,
        total_time=setup.total_time,
        integration=setup.integration,
        hour_angle=setup.hour_angle,
    )
    noise = visibility_noise(
        230e9,
        pwv=1.796,
        elevation=tracks.elevation,
        areas=tracks.areas,
        bandwidth=1.875e9,
        integration=60.0,
    )
    assert instrument.rms == pytest.approx(image_rms(tracks.weights, noise))
    expected = instrument_from_uv(
        tracks.uv,
        pixel_scale=0.25,
        primary_beam=instrument.primary_beam,
        rms=instrument.rms,
        noise_variance=noise**2,
    )
    assert_close(instrument.weights, expected.weights)
    assert_close(instrument.noise_weights, expected.noise_weights)


def test_primary_beam(setup):
    """Centred on the phase centre, half at 1.13 lambda / D, and none beyond the first null."""
    beam = instrument_from_setup(replace(setup, image_size=512)).primary_beam.numpy()
    assert beam[256, 256] == 1
    assert_allclose(beam[1:, 1:], beam[:0:-1, :0:-1], atol=1e-6)
    radius = np.hypot(*(np.indices(beam.shape) - 256)) * 0.25
    width = 2 * radius[beam > 0.5].max()
    assert width == pytest.approx(1.13 * 0.299792458 / 230 / 12 * 206265, rel=0.03)
    assert not beam[radius > 31].any()
    assert beam[radius < 29].all()


def test_weather_and_time(setup):
    """The rms follows the weather and the time on source, the PSF does not."""
    one = instrument_from_setup(setup)
    wet = instrument_from_setup(replace(setup, pwv=5 * u.mm))
    assert wet.rms > 1.3 * one.rms
    assert torch.equal(wet.weights, one.weights)
    finer = instrument_from_setup(replace(setup, bandwidth=4 * setup.bandwidth))
    assert finer.rms == pytest.approx(one.rms / 2)


def test_weighting(setup):
    """Uniform weights have a narrower beam and more noise; Briggs lies between."""
    natural, briggs, uniform = (
        instrument_from_setup(replace(setup, weighting=kind))
        for kind in ("natural", "briggs", "uniform")
    )
    assert natural.rms < briggs.rms < uniform.rms
    areas = [(i.psf() > 0.5).sum() for i in (natural, briggs, uniform)]
    assert areas[0] > areas[1] >= areas[2]
    rest = torch.nn.functional.normalize
    signal, noise = (rest(w.flatten(), dim=0) for w in (uniform.weights, uniform.noise_weights))
    assert signal @ noise < 0.9


def test_rms_and_primary_beam_of_the_user(setup, tmp_path):
    """An array of which nothing is known needs both."""
    array = write_array(tmp_path / "mine.cfg", observatory="MINE", diameter=20.0)
    setup = replace(setup, array=array)
    beam = np.full((64, 64), 0.5)
    given = {"rms": 3 * u.uJy / u.beam, "primary_beam": beam}
    instrument = instrument_from_setup(setup, **given)
    assert instrument.rms == pytest.approx(3e-6)
    assert_allclose(instrument.primary_beam, beam)
    with pytest.raises(ValueError, match="primary beam of telescope 'MINE' is not known"):
        instrument_from_setup(setup, rms=given["rms"])
    with pytest.raises(ValueError, match="receivers of telescope 'MINE' are not known"):
        instrument_from_setup(setup, primary_beam=beam)
    with pytest.raises(u.UnitConversionError):
        instrument_from_setup(setup, primary_beam=beam, rms=3 * u.Jy)


def test_small_dishes(setup, tmp_path):
    """The ACA has a wider beam and more noise."""
    alma = instrument_from_setup(setup)
    array = write_array(tmp_path / "aca.cfg", observatory="ACA", diameter=7.0)
    aca = instrument_from_setup(replace(setup, array=array))
    assert 2.5 < aca.rms / alma.rms < 3.1
    assert (aca.primary_beam[32, 40] > alma.primary_beam[32, 40]).item()


def test_undersampled_beam_refused(setup):
    with pytest.raises(ValueError, match=r"pixel_scale 2.0 arcsec undersamples .* less than 0\."):
        instrument_from_setup(replace(setup, cell=2 * u.arcsec))


def test_below_the_horizon_refused(setup):
    with pytest.raises(ValueError, match="no visibility is left"):
        instrument_from_setup(replace(setup, direction=SkyCoord(150 * u.deg, 80 * u.deg)))
