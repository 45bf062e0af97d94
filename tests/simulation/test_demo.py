"""A pointing with a known truth: positions, fluxes and seeds against CASA."""

import importlib.util
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest

from diffsky.simulation.casa import ObservationSetup
from diffsky.simulation.demo import render_truth, simulate_pointing
from diffsky.simulation.skymodels import PRIORS

SETUP = ObservationSetup(image_size=256, total_time=2 * u.min, integration=60 * u.s)
BRIGHT = replace(PRIORS["independent"], n_sources=(1, 1), flux=(1.0, 1.0), fwhm=(0.1, 0.2))
needs_casa = pytest.mark.skipif(
    importlib.util.find_spec("casatools") is None, reason="CASA is not installed"
)


def test_columns_are_those_of_the_sources():
    sources = PRIORS["independent"].draw(np.random.default_rng(4))
    table = sources.to_table(SETUP.wcs)
    centre = SETUP.wcs.pixel_to_world(128, 128).icrs
    east, north = centre.spherical_offsets_to(table["sky_centroid"])
    assert east.to_value(u.arcsec) == pytest.approx(-sources.x, abs=1e-4)
    assert north.to_value(u.arcsec) == pytest.approx(sources.y, abs=1e-4)
    assert table["flux"].to_value(u.Jy) == pytest.approx(sources.flux)
    assert table["pa"].to_value(u.rad) == pytest.approx(sources.pa)


def test_the_rendered_truth_has_the_fluxes_at_the_places():
    sources = replace(BRIGHT, n_sources=(4, 4)).draw(np.random.default_rng(5))
    image = render_truth(sources, SETUP, kernel_fwhm=0.35 * u.arcsec)
    table = sources.to_table(SETUP.wcs)
    assert image.unit == u.Jy / u.pix
    assert image.data.sum() == pytest.approx(4, rel=1e-3)
    y, x = np.indices(image.shape)
    for row in table:
        near = np.hypot(x - row["x_centroid"], y - row["y_centroid"]) < 6
        assert np.average(x[near], weights=image.data[near]) == pytest.approx(
            row["x_centroid"], abs=0.3
        )
        assert np.average(y[near], weights=image.data[near]) == pytest.approx(
            row["y_centroid"], abs=0.3
        )


def test_a_relative_prior_is_refused():
    with pytest.raises(ValueError, match="prior is relative"):
        simulate_pointing(1, prior=PRIORS["wide"], setup=SETUP)


@needs_casa
@pytest.mark.slow
def test_casa_sees_the_source_where_the_truth_has_it():
    sources, observation = simulate_pointing(2, prior=BRIGHT, setup=SETUP)
    truth = sources.to_table(SETUP.wcs)[0]
    y, x = np.unravel_index(np.nanargmax(observation.dirty.data), observation.dirty.shape)
    assert (x, y) == (round(truth["x_centroid"]), round(truth["y_centroid"]))
    image = render_truth(sources, SETUP, kernel_fwhm=0.35 * u.arcsec)
    assert np.unravel_index(np.argmax(image.data), image.shape) == (y, x)
    # A source of at most 0.2 arcsec in a beam of 0.9 arcsec keeps its flux in the peak.
    gain = observation.primary_beam.data[y, x]
    assert observation.dirty.data[y, x] == pytest.approx(gain, rel=0.06)


@needs_casa
@pytest.mark.slow
def test_a_seed_repeats_sky_and_noise_and_another_changes_both():
    (one, first), (same, again), (other, third) = (
        simulate_pointing(seed, setup=SETUP) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.flux, same.flux)
    np.testing.assert_array_equal(first.dirty.data, again.dirty.data)
    assert len(one) != len(other) or not np.allclose(one.flux, other.flux)
    valid = ~first.dirty.mask
    assert abs(np.corrcoef(first.dirty.data[valid], third.dirty.data[valid])[0, 1]) < 0.2
