"""Stored pairs: what the same pair is, and how to damage one."""

import runpy
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from numpy.testing import assert_array_equal

ROOT = Path(__file__).parents[2]
HELPER = ROOT / "tests" / "simulation" / "small_pairs.py"
make_pair = runpy.run_path(str(HELPER))["make_pair"]
IMAGES = ("dirty", "sky", "psf", "primary_beam")
PAIR = make_pair(0, size=32)


def small(number):
    return make_pair(number, size=32)


def assert_same_image(one, other):
    assert_array_equal(one.data, other.data)
    assert one.data.dtype == np.float32
    assert (one.mask is None) == (other.mask is None)
    assert one.mask is None or np.array_equal(one.mask, other.mask)
    assert one.unit == other.unit
    assert one.wcs.array_shape == one.shape
    x, y = np.array([0, 10, 31]), np.array([31, 7, 0])
    separation = one.wcs.pixel_to_world(x, y).separation(other.wcs.pixel_to_world(x, y))
    assert separation.max() < 1 * u.uas


def assert_same_pair(one, other):
    for name in IMAGES:
        assert_same_image(getattr(one, name), getattr(other, name))
    assert_array_equal(one.uv, other.uv)
    assert_array_equal(one.weights, other.weights)
    assert one.parameters == other.parameters
    assert (one.beam.major, one.beam.minor, one.beam.pa) == (
        other.beam.major,
        other.beam.minor,
        other.beam.pa,
    )
    assert one.sky.meta["kernel_fwhm"] == other.sky.meta["kernel_fwhm"]
    assert_same_table(one.sources, other.sources)


def assert_same_table(one, other):
    assert one.colnames == other.colnames
    for name in one.colnames:
        if isinstance(other[name], SkyCoord):
            assert len(one[name]) == len(other[name])
            assert (one[name].separation(other[name].icrs) < 1 * u.uas).all()
        else:
            assert_array_equal(one[name], other[name])
            assert one[name].dtype == other[name].dtype
            assert one[name].unit == other[name].unit


def scratch_folders(path):
    return list(path.glob(".writing*"))


def alter(file):
    text = bytearray(file.read_bytes())
    text[len(text) // 2] ^= 1
    file.write_bytes(text)
