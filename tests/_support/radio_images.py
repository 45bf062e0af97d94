"""Small radio images with the headers that CASA writes."""

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal
from radio_beam import Beam

NY, NX = 30, 40
SCALE = 0.1  # arcsec
FREQUENCY = 230e9
MAJOR, MINOR, PA = 0.6, 0.4, 30.0  # arcsec, arcsec, deg
JY_BEAM = u.Jy / u.beam
PIXELS = np.random.default_rng(5).normal(0, 1e-4, (NY, NX)).astype(np.float32)


def make_header(n_axes=2, *, unit="Jy/beam", beam=True, scale=SCALE, **cards):
    """Header as CASA writes it; cards=None removes one."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---SIN", "DEC--SIN"
    header["CRVAL1"], header["CRVAL2"] = 150.1, 2.2
    header["CRPIX1"], header["CRPIX2"] = NX // 2 + 1, NY // 2 + 1
    header["CDELT1"], header["CDELT2"] = -scale / 3600, scale / 3600
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    header["RADESYS"] = "ICRS"
    if n_axes > 2:
        header["CTYPE3"], header["CRVAL3"], header["CRPIX3"] = "FREQ", FREQUENCY, 1
        header["CDELT3"], header["CUNIT3"] = 1e9, "Hz"
    if n_axes > 3:
        header["CTYPE4"], header["CRVAL4"], header["CRPIX4"] = "STOKES", 1, 1
        header["CDELT4"] = 1
    if unit is not None:
        header["BUNIT"] = unit
    if beam:
        header["BMAJ"], header["BMIN"], header["BPA"] = MAJOR / 3600, MINOR / 3600, PA
    header["TELESCOP"], header["OBJECT"] = "ALMA", "J1000+0212"
    header["DATE-OBS"] = "2020-01-01T00:00:00"
    for key, value in cards.items():
        header[key] = value
        if value is None:
            del header[key]
    return header


def make_hdu(data=PIXELS, **options):
    return fits.PrimaryHDU(data, make_header(np.ndim(data), **options))


def make_ccd(data=PIXELS, *, unit="Jy/beam", **options):
    header = make_header(np.ndim(data), unit=None, **options)
    return CCDData(data, unit=unit, meta=header, wcs=make_wcs(np.ndim(data), **options))


def make_wcs(n_axes=2, **options):
    header = make_header(n_axes, **options)
    del header["DATE-OBS"]
    return WCS(header)


def assert_valid(image, pixels=PIXELS, rtol=1e-6):
    assert type(image) is CCDData
    assert image.unit == JY_BEAM
    assert image.data.dtype == np.dtype("=f4")
    assert image.data.flags.c_contiguous
    assert image.mask.dtype == bool
    assert_array_equal(image.mask, np.isnan(image.data))
    assert_allclose(image.data, pixels, rtol=rtol)
    assert image.wcs.naxis == 2
    assert image.wcs.has_celestial
    assert isinstance(image.meta["beam"], Beam)
    assert image.meta["pixel_scale"].unit == u.arcsec
    assert_allclose(image.meta["pixel_scale"].value, SCALE, rtol=1e-6)
    assert isinstance(image.meta["header"], fits.Header)


def beams_table(rows, **units):
    columns = [
        fits.Column(name=key, format="1E", unit=units.get(key), array=[row[i] for row in rows])
        for i, key in enumerate(("BMAJ", "BMIN", "BPA"))
    ]
    return fits.BinTableHDU.from_columns(columns, name="BEAMS")


def other_wcs():
    return make_wcs(CRVAL2=2.2 + 0.2 * SCALE / 3600)
