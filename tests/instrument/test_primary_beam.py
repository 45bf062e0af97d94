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


def test_hole_narrows_the_beam():
    dish = {"frequency": 230e9, "diameter": 10.7}
    assert airy_primary_beam(0.0, **dish, blockage=0.75) == pytest.approx(1)
    assert width(**dish, blockage=0.75) < width(**dish)
    wide = airy_primary_beam(np.linspace(0, 60, 300), **dish, blockage=5.0)
    assert wide.max() == pytest.approx(1)
    assert (wide[50:] < 0.9).all()


@pytest.mark.parametrize(
    ("name", "fwhm"),
    [("ALMA", 1.13 * LIGHT / 12 / 230e9 / ARCSEC), ("ACA", 1.13 * LIGHT / 7 / 230e9 / ARCSEC)],
)
def test_alma_handbook(name, fwhm):
    """The ALMA technical handbook: 1.13 lambda / D of the 12 m and 7 m dishes."""
    diameter, blockage = KNOWN_DISHES[name]
    dish = {"frequency": 230e9, "diameter": diameter, "blockage": blockage}
    assert width(**dish) == pytest.approx(fwhm, rel=0.03)


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
