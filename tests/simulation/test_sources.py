"""Lists of sources: shapes, units, extents, tables."""

import numpy as np
import pytest
from astropy.wcs import WCS
from numpy.testing import assert_allclose

from diffsky.simulation.sources import SHAPES, SourceList

FWHM = 2 * np.sqrt(2 * np.log(2))


@pytest.fixture
def sources():
    """One of each shape."""
    x, y, pa = np.array([1.0, -2, 3, 0]), np.array([0.0, 1, -3, 2]), np.array([0.0, 1, 2, 3])
    major, minor = np.array([0.0, 2, 4, 6]), np.array([0.0, 1, 4, 3])
    return SourceList(x, y, np.arange(1.0, 5), major, minor, pa, np.arange(4))


def test_without_a_shape_sources_are_gaussians(sources):
    columns = [getattr(sources, name) for name in ("x", "y", "flux", "major", "minor", "pa")]
    assert SourceList(*columns).shape.tolist() == [0, 1, 1, 1]


def test_selection_and_join(sources):
    parts = [sources[:1], sources[np.array([False, True, True, False])], sources[[3]]]
    again = SourceList.join(parts)
    for name in SourceList.__dataclass_fields__:
        assert np.array_equal(getattr(again, name), getattr(sources, name))
    assert len(sources[[]]) == 0


def test_reach(sources):
    """4.5 sigma of the kernel beyond a disk's radius, or of a Gaussian convolved with it."""
    sigmas = 4.5 / FWHM
    assert_allclose(sources.reach(), [0, 2 * sigmas, 2, 3])
    wide = [sigmas, sigmas * 5**0.5, 2 + sigmas, 3 + sigmas]
    assert_allclose(sources.reach(1.0), wide)


def test_whole(sources):
    """Both axes count, on both sides."""
    assert sources.whole((5, 5)).tolist() == [True, False, True, True]
    assert sources.whole((5, 4.9)).tolist() == [True, False, False, False]
    assert sources.whole((2.9, 9)).tolist() == [True, False, False, False]


def test_table_keeps_the_shape(sources):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---SIN", "DEC--SIN"], ["deg", "deg"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [10, 20], [51, 51], [-1e-4, 1e-4]
    wcs.array_shape = (100, 100)
    table = sources.to_table(wcs)
    assert table["shape"].tolist() == list(SHAPES)
    assert_allclose(table["major"].to_value("arcsec"), sources.major)
