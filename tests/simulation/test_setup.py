"""What is observed how: refusals, directions, and what CASA is told."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import FK5, SkyCoord
from hypothesis import given
from hypothesis import strategies as st
from small_casa import SMALL, needs_casa

from diffsky.exceptions import DiffskyWarning
from diffsky.instrument import find_array
from diffsky.simulation._casa_checks import longest_baseline, warn_small_image
from diffsky.simulation._casa_inputs import setup_values
from diffsky.simulation.setup import ObservationSetup


def values_of(setup):
    return setup_values(setup, find_array(setup.array))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"frequency": 230}, TypeError),
        ({"frequency": 1 * u.m}, u.UnitConversionError),
        ({"pwv": -1 * u.mm}, ValueError),
        ({"cell": np.nan * u.arcsec}, ValueError),
        ({"n_channels": 0}, ValueError),
        ({"n_channels": 2.0}, ValueError),
        ({"image_size": 511}, ValueError),
        ({"weighting": "superuniform"}, ValueError),
        ({"robust": 3}, ValueError),
        ({"pblimit": 0}, ValueError),
        ({"integration": 1 * u.h}, ValueError),
        ({"direction": "150.119 2.2"}, ValueError),
        ({"direction": "J2000 somewhere"}, ValueError),
        ({"direction": (150.1, 2.2)}, TypeError),
        ({"direction": SkyCoord([1, 2], [1, 2], unit="deg")}, TypeError),
    ],
)
def test_setup_refused(values, error):
    with pytest.raises(error, match=f"{next(iter(values))}|not convertible"):
        ObservationSetup(**values)


def test_setup_of_drozdova2024():
    direction = SkyCoord(150.4, 0.5, unit="deg")
    setup = ObservationSetup.drozdova2024(direction)
    assert (setup.n_channels, setup.image_size, setup.weighting) == (240, 512, "natural")
    assert setup.bandwidth / setup.n_channels == 7.8 * u.MHz
    assert setup.direction is direction


@needs_casa
@given(ra=st.floats(0, 359.9999999), dec=st.floats(-89.9, 40))
def test_direction_is_written_in_sexagesimal(ra, dec):
    """CASA predicts zeros for decimal degrees."""
    for direction in (
        SkyCoord(ra, dec, unit="deg", frame="fk5"),
        f"J2000 {ra:.12f}deg {dec:.12f}deg",
    ):
        setup = ObservationSetup(direction=direction)
        equinox, written = values_of(setup)["direction"].split(" ", 1)
        assert equinox == "J2000"
        assert "deg" not in written
        apart = SkyCoord(written, frame="fk5").separation(SkyCoord(ra, dec, unit="deg", frame=FK5))
        assert apart < 10 * u.uas


@pytest.mark.parametrize(
    ("text", "frame"),
    [("150.119deg 2.2deg", "icrs"), ("galactic 120d 30d", "galactic"), ("B1950 10h +2d", "fk4")],
)
def test_direction_in_another_frame(text, frame):
    assert ObservationSetup(direction=text).direction.frame.name == frame


@needs_casa
def test_cell_that_undersamples_the_beam():
    """Half a fringe of the longest baseline is the largest pixel (Nyquist)."""
    longest = longest_baseline(find_array(SMALL.array).read_text())
    fringe = np.rad2deg(299792458 / 230e9 / longest) * 3600
    values_of(replace(SMALL, cell=0.5 * fringe * u.arcsec))
    with pytest.raises(ValueError, match=r"cell is .* half a fringe of the longest baseline"):
        values_of(replace(SMALL, cell=0.6 * fringe * u.arcsec))
    values_of(replace(SMALL, cell=0.6 * fringe * u.arcsec, frequency=150 * u.GHz))


@needs_casa
def test_cell_of_a_low_source():
    """North-south baselines are foreshortened at low elevation, east-west ones are not."""
    longest = longest_baseline(find_array(SMALL.array).read_text())
    fringe = np.rad2deg(299792458 / 230e9 / longest) * 3600
    low = replace(SMALL, direction=SkyCoord(150, 40, unit="deg"))
    values_of(replace(low, cell=0.49 * fringe * u.arcsec))
    with pytest.raises(ValueError, match="half a fringe"):
        values_of(replace(low, cell=0.6 * fringe * u.arcsec))


def test_longest_baseline():
    text = "# observatory=ALMA\n# x y z diam pad\n0 0 0 12. A\n3 4 0 12. B\n1 1 1 12. C\n"
    assert longest_baseline(text) == 5
    assert longest_baseline("# nothing\n") == 0
    assert longest_baseline("not an antenna\n") == 0


@needs_casa
def test_image_smaller_than_the_primary_beam():
    """The primary beam of a 12 m dish at 230 GHz is 25 to 27 arcsec wide (FWHM)."""
    values_of_half = values_of(replace(SMALL, pblimit=0.5, image_size=124))
    with pytest.warns(DiffskyWarning, match=r"image is 24\.8 arcsec wide, the primary beam 2[5-7]"):
        warn_small_image(values_of_half, stacklevel=1)
    warn_small_image(values_of(replace(SMALL, pblimit=0.5, image_size=140)), stacklevel=1)
    warn_small_image({**values_of_half, "telescope": "unknown"}, stacklevel=1)


@needs_casa
@pytest.mark.parametrize(("declination", "hour_angle"), [(60, 0), (89, 0), (20, 6), (2, -5.5)])
def test_direction_below_the_horizon(declination, hour_angle):
    setup = ObservationSetup(
        direction=SkyCoord(150, declination, unit="deg"), hour_angle=hour_angle * u.hourangle
    )
    with pytest.raises(ValueError, match="deg of elevation at ALMA"):
        values_of(setup)


@needs_casa
@pytest.mark.parametrize(
    ("array", "declination"),
    [("atca_6a", 70), ("meerkat", 60), ("ngvla-main-revC", -60), ("vla.a", -60)],
)
def test_horizon_of_other_telescopes(array, declination):
    below = replace(SMALL, array=array, direction=SkyCoord(150, declination, unit="deg"))
    with pytest.raises(ValueError, match="deg of elevation at"):
        values_of(below)
    above = replace(below, direction=SkyCoord(150, -declination, unit="deg"), cell=0.1 * u.mas)
    assert values_of(above)["latitude"] * declination < 0


@needs_casa
def test_direction_above_the_horizon():
    setup = ObservationSetup(direction=SkyCoord(150, -85, unit="deg"))
    assert values_of(setup)["dec"] == pytest.approx(-85)
