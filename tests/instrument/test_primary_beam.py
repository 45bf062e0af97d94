"""Airy patterns against what is known of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import brentq

from diffsky.instrument.primary_beam import KNOWN_DISHES, airy_primary_beam

ARCSEC = np.pi / 180 / 3600
LIGHT = 299792458.0


def width(**dish):
    """FWHM in arcsec."""
    guess = LIGHT / dish["frequency"] / dish["diameter"] / ARCSEC
    return 2 * brentq(lambda s: airy_primary_beam(s, **dish) - 0.5, 0.1 * guess, guess)


@given(diameter=st.floats(1, 100), frequency=st.floats(1e8, 1e12))
def test_closed_form(diameter, frequency):
    """Half power at 1.02899 lambda / D, first null at 1.21967, first side lobe of 1.75 %."""
    scale = LIGHT / frequency / diameter / ARCSEC
    dish = {"frequency": frequency, "diameter": diameter}
    assert_allclose(airy_primary_beam(0.0, **dish), 1)
    assert_allclose(width(**dish), 1.02899 * scale, rtol=1e-4)
    assert_allclose(airy_primary_beam(1.21967 * scale, **dish), 0, atol=1e-9)
    lobe = airy_primary_beam(np.linspace(1.3, 2.2, 500) * scale, **dish)
    assert_allclose(lobe.max(), 0.0175, atol=1e-4)


@pytest.mark.parametrize(
    ("separation", "response"),
    [(0.0, 1.0), (5.0, 0.914690), (10.0, 0.674355), (15.0, 0.388647), (18.0, 0.239972)],
)
def test_values_of_casa(separation, response):
    """The primary beam of ALMA that tclean of CASA 6.7 makes at 230 GHz."""
    diameter, blockage = KNOWN_DISHES["ALMA"]
    dish = {"frequency": 230e9, "diameter": diameter, "blockage": blockage}
    assert airy_primary_beam(separation, **dish) == pytest.approx(response, abs=3e-4)


def test_blockage_of_casa():
    """Twice the blocked share of the area more than without, but for the very middle."""
    dish = {"frequency": 230e9, "diameter": 10.7}
    separation = np.linspace(3, 20, 50)
    ratio = airy_primary_beam(separation, **dish, blockage=0.75) / airy_primary_beam(
        separation, **dish
    )
    assert_allclose(ratio, 1 + 2 * (0.75 / 10.7) ** 2, atol=2e-3)
    assert airy_primary_beam(0.0, **dish, blockage=0.75) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "fwhm"),
    [("ALMA", 1.13 * LIGHT / 12 / 230e9 / ARCSEC), ("ACA", 1.13 * LIGHT / 7 / 230e9 / ARCSEC)],
)
def test_alma_handbook(name, fwhm):
    """The ALMA technical handbook: 1.13 lambda / D; CASA takes 4 % more for the 7 m dishes."""
    diameter, blockage = KNOWN_DISHES[name]
    dish = {"frequency": 230e9, "diameter": diameter, "blockage": blockage}
    assert width(**dish) == pytest.approx(fwhm, rel=0.045)


@pytest.mark.parametrize("name", ["VLA", "EVLA"])
def test_vla(name):
    """The VLA guide: 42 arcmin / GHz."""
    diameter, blockage = KNOWN_DISHES[name]
    dish = {"frequency": 1.5e9, "diameter": diameter, "blockage": blockage}
    assert width(**dish) / 60 * 1.5 == pytest.approx(42, rel=0.02)


def test_shape():
    grid = np.zeros((3, 4))
    assert airy_primary_beam(grid, frequency=1e9, diameter=25).shape == (3, 4)
    assert_allclose(airy_primary_beam([0, 1], frequency=1e9, diameter=25), 1, rtol=1e-5)
