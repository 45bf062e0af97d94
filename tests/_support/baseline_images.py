"""Images with known sources for CLEAN and PyBDSF, and what is checked in every catalogue."""

import importlib.util

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.wcs import WCS
from radio_beam import Beam
from scipy import ndimage

from diffsky.catalog import check_catalog
from diffsky.simulation import ObservationSetup

needs_pybdsf = pytest.mark.skipif(
    importlib.util.find_spec("bdsf") is None, reason="PyBDSF is not installed"
)
# What the fixture `observed` shows: a point and a Gaussian.
SETUP = ObservationSetup(
    image_size=192, cell=0.15 * u.arcsec, total_time=10 * u.min, integration=60 * u.s
)
PIXELS = np.array([[70.3, 110.2], [130.6, 60.7]])
FLUX = [2.0, 4.0] * u.mJy

BEAM = Beam(0.9 * u.arcsec, 0.8 * u.arcsec, 20 * u.deg)
LONG_BEAM = Beam(1.6 * u.arcsec, 0.8 * u.arcsec, 20 * u.deg)
RMS = 50 * u.uJy / u.beam
FWHM = np.sqrt(8 * np.log(2))
CELL = 0.2


def schema(table):
    """Names, types and units of the columns, in their order."""
    return [
        (name, type(column), str(getattr(column, "dtype", "")), str(getattr(column, "unit", None)))
        for name, column in ((name, table[name]) for name in table.colnames)
    ]


def check_two_sources(catalog):
    """The point and the Gaussian of `observed`, each found once; in this order."""
    check_catalog(catalog)
    assert len(catalog) == 2
    true = SETUP.wcs.pixel_to_world(*PIXELS.T)
    index, apart, _ = true.match_to_catalog_sky(catalog["sky_centroid"])
    assert sorted(index) == [0, 1]
    assert (apart < 0.1 * u.arcsec).all()
    found = catalog[index]
    assert (np.abs(found["flux"] - FLUX) < 3 * found["flux_err"]).all()
    assert (found["flux_err"] < 0.12 * found["flux"]).all()
    return found


def without_edge(psf):
    """A PSF image of CASA without its edge, where it is wrong."""
    return psf[20:-20, 20:-20]


def wcs_of(rotation=0.0, *, flip=1, size=128, stretch=1.0):
    """A WCS with pixels of 0.2 arcsec, turned by an angle in deg."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---SIN", "DEC--SIN"], [150.1, -45.2]
    wcs.wcs.crpix = [size // 2, size // 2]
    wcs.wcs.cdelt = [-flip * CELL * stretch / 3600, CELL / 3600]
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    wcs.wcs.pc = [[c, -s], [s, c]]
    wcs.wcs.set()
    return wcs


def quarter_turn(image):
    """The same image with its pixels turned by 90 deg (`numpy.rot90`), and its WCS with them."""
    wcs = image.wcs.deepcopy()
    x, y = image.wcs.wcs.crpix
    wcs.wcs.crpix = [y, image.shape[1] + 1 - x]
    wcs.wcs.pc = image.wcs.wcs.pc @ [[0, -1], [1, 0]]
    wcs.wcs.set()
    return CCDData(np.rot90(image.data), unit=image.unit, wcs=wcs, meta=dict(image.meta))


def covariance(major, minor, pa, wcs):
    """Covariance in pixels of a Gaussian with FWHM in arcsec and pa in deg, east of north."""
    c, s = np.cos(np.radians(pa)), np.sin(np.radians(pa))
    axes = np.array([[s, c], [c, -s]])
    on_sky = axes @ np.diag([major**2, minor**2]) @ axes.T / FWHM**2
    to_pixels = np.linalg.inv(wcs.pixel_scale_matrix * 3600)
    return to_pixels @ on_sky @ to_pixels.T


def beam_covariance(beam, wcs):
    """Covariance in pixels of a beam."""
    axes = [axis.to_value(u.arcsec) for axis in (beam.major, beam.minor)]
    return covariance(*axes, beam.pa.to_value(u.deg), wcs)


def restored(sources, wcs=None, *, beam=BEAM, seed=2, size=128):
    """Image of sources (x, y, flux in Jy, major, minor, pa) with noise of 50 uJy/beam."""
    wcs = wcs_of(size=size) if wcs is None else wcs
    noise = np.random.default_rng(seed).normal(size=(size, size))
    image = ndimage.gaussian_filter(noise, 0.85 / CELL / FWHM)
    image *= RMS.to_value(u.Jy / u.beam) / image.std()
    point = beam_covariance(beam, wcs)
    y, x = np.indices(image.shape)
    for x0, y0, flux, *shape in sources:
        seen = point + covariance(*shape, wcs)
        offset = np.stack([x - x0, y - y0], -1)
        chi2 = np.einsum("...i,ij,...j", offset, np.linalg.inv(seen), offset)
        share = np.sqrt(np.linalg.det(point) / np.linalg.det(seen))
        image += flux * share * np.exp(-chi2 / 2)
    return CCDData(image, unit="Jy/beam", wcs=wcs, meta={"beam": beam})


def dirty_and_psf(beam=LONG_BEAM, *, rotation=0, size=65, flux=10e-3, offset=(6, -9), seed=4):
    """Dirty image of one point source and its PSF, from random uv points that give the beam."""
    wcs = wcs_of(rotation, size=size)
    rng = np.random.default_rng(seed)
    spread = np.linalg.inv(beam_covariance(beam, wcs)) / (2 * np.pi) ** 2
    u_, v_ = rng.multivariate_normal([0, 0], spread, size=400).T[:, :, None, None]
    noise = 2e-3 * rng.normal(size=(2, len(u_)))[:, :, None, None]

    def image(width, x0=0, y0=0, values=(1, 0)):
        y, x = np.indices((width, width)) - width // 2
        phase = 2 * np.pi * (u_ * (x - x0) + v_ * (y - y0))
        return (values[0] * np.cos(phase) + values[1] * np.sin(phase)).mean(axis=0)

    dirty = flux * image(size, *offset) + image(size, values=noise)
    meta = {"beam": beam}
    return CCDData(dirty, unit="Jy/beam", wcs=wcs, meta=meta), image(2 * size + 1)
