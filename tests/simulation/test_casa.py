"""Observations by real CASA, a process for each: known answers and what is kept."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from small_casa import needs_casa, point_sky

from diffsky.instrument import image_visibilities
from diffsky.simulation.casa import (
    ObservationSetup,
    observe_uv,
    read_uv,
    read_visibilities,
    simulate_observation,
)

SETUP = ObservationSetup()
X, Y = 176, 297  # a pixel 8.0 arcsec east and 4.1 arcsec north of the centre
pytestmark = [needs_casa, pytest.mark.slow]


@pytest.fixture(scope="module")
def point(tmp_path_factory):
    """A point source of 1 Jy without noise, the measurement set kept."""
    return simulate_observation(
        point_sky(SETUP, X, Y),
        SETUP,
        seed=1,
        noise=False,
        work_dir=tmp_path_factory.mktemp("kept"),
        keep_measurement_set=True,
    )


def test_point_source_is_where_it_was_put(point):
    peak = np.unravel_index(np.nanargmax(point.dirty.data), point.dirty.shape)
    assert peak == (Y, X)
    assert point.dirty.data[peak] == pytest.approx(point.primary_beam.data[peak], rel=0.01)
    assert 0.7 < point.primary_beam.data[peak] < 0.76
    where = point.dirty.wcs.pixel_to_world(X, Y)
    east, north = SETUP.direction.spherical_offsets_to(where)
    assert (east.arcsec, north.arcsec) == (
        pytest.approx(8.0, abs=0.01),
        pytest.approx(4.1, abs=0.01),
    )


def test_images_are_labelled(point):
    blank = point.primary_beam.data < SETUP.pblimit
    assert blank.mean() == pytest.approx(0.570, abs=0.005)
    assert np.array_equal(point.dirty.mask, blank)
    assert np.array_equal(np.isnan(point.dirty.data), blank)
    assert point.dirty.unit == u.Jy / u.beam
    assert point.primary_beam.data[256, 256] == 1
    assert point.psf.data[256, 256] == pytest.approx(1, abs=1e-6)
    assert np.unravel_index(np.argmax(point.psf.data), point.psf.shape) == (256, 256)
    assert point.beam.major.to_value(u.arcsec) == pytest.approx(0.89, abs=0.01)
    assert point.beam.minor.to_value(u.arcsec) == pytest.approx(0.82, abs=0.01)
    for image in (point.dirty, point.psf, point.primary_beam):
        assert image.meta["beam"].major == point.beam.major
        assert image.meta["telescope"] == "ALMA"
        assert image.copy().meta["frequency"] == 230 * u.GHz
    assert point.parameters["casa_version"].startswith("6.")
    assert point.parameters["array"] == "alma.cycle5.3"


def test_uv_points_predict_the_images(point):
    """Direct Fourier sums over the uv points give CASA's PSF and dirty image."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(-15, 16, (2, 40))
    step = SETUP.cell.to_value(u.rad)
    phase = 2 * np.pi * step * (np.outer(y, point.uv[:, 1]) - np.outer(x, point.uv[:, 0]))
    psf = np.average(np.cos(phase), axis=1, weights=point.weights)
    assert np.ptp(psf) > 0.5
    np.testing.assert_allclose(point.psf.data[256 + y, 256 + x], psf, atol=2e-3)
    apparent = psf * point.primary_beam.data[Y, X]
    np.testing.assert_allclose(point.dirty.data[Y + y, X + x], apparent, atol=4e-3)


def test_measurement_set_kept_and_read(point):
    assert point.measurement_set.is_dir()
    coverage = read_uv(point.measurement_set)
    assert np.array_equal(coverage.uv, point.uv)
    assert np.array_equal(coverage.weights, point.weights)
    assert coverage.beam is None


def test_visibilities_kept_and_read(point):
    """Those of a point have one amplitude and the phase of its place; they image it there."""
    read = read_visibilities(point.measurement_set)
    assert np.array_equal(read.uv, point.uv)
    assert np.array_equal(read.weights, point.weights)
    gain = point.primary_beam.data[Y, X]
    np.testing.assert_allclose(np.abs(read.values), gain, rtol=5e-3)
    step = SETUP.cell.to_value(u.rad)
    phase = 2 * np.pi * step * ((256 - X) * read.uv[:, 0] + (Y - 256) * read.uv[:, 1])
    np.testing.assert_allclose(read.values, gain * np.exp(1j * phase), atol=0.02)
    image = image_visibilities(read.uv, read.values, pixel_scale=0.1, image_size=512)
    assert np.unravel_index(np.argmax(image), image.shape) == (Y, X)
    assert 0.8 * gain < image[Y, X] < gain  # without a gridding correction


def test_uv_of_another_declination_leaves_out_shadowed_antennas():
    north = ObservationSetup(direction=SkyCoord(150.1, 20, unit="deg"))
    coverage = observe_uv(north)
    n_visibilities = 43 * 42 // 2 * 120
    assert 0.9 * n_visibilities < len(coverage.uv) < 0.97 * n_visibilities
    assert coverage.uv.shape == (len(coverage.weights), 2)
    assert coverage.beam.major.to_value(u.arcsec) == pytest.approx(1.0, abs=0.02)
