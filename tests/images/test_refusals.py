"""What images are refused, and in which words."""

import copy

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import NDData
from astropy.wcs import WCS
from radio_beam import Beam
from radio_images import (
    JY_BEAM,
    MAJOR,
    MINOR,
    NX,
    NY,
    PA,
    PIXELS,
    SCALE,
    assert_valid,
    beams_table,
    make_ccd,
    make_hdu,
    make_header,
    make_wcs,
    other_wcs,
)

from diffsky.images import load_image

# Refusals of images


def hdu_with(data=PIXELS, **options):
    return lambda: (make_hdu(data, **options), {})


def given_with(**options):
    return lambda: (make_hdu(), options)


def integer_blank():
    hdu = make_hdu((PIXELS * 1e6).astype("i2"), unit="uJy/beam")
    hdu.header["BLANK"] = -32768
    return hdu, {}


def two_beams():
    table = beams_table([(MAJOR, MINOR, PA), (1.02 * MAJOR, MINOR, PA)])
    return fits.HDUList([make_hdu(beam=False), table]), {}


def no_wcs(**options):
    return lambda: (
        NDData(PIXELS, unit="Jy/beam"),
        {"beam": MAJOR * u.arcsec, **options},
    )


REFUSED = {
    "no unit": (hdu_with(unit=None), "no unit"),
    "blank unit": (hdu_with(unit="  "), "no unit"),
    "unit unknown": (hdu_with(unit="MJY/BEAM"), "'MJY/BEAM' not understood"),
    "unit given unknown": (given_with(unit="Janskys"), "'Janskys' not understood"),
    "unit contradicts": (given_with(unit="mJy/beam"), "'mJy / beam' contradicts .*Jy / beam"),
    "no beam": (hdu_with(beam=False), "no beam"),
    "beam of zero": (hdu_with(BMAJ=0.0, BMIN=0.0), "no beam"),
    "beam without angle": (hdu_with(BPA=None), "no beam"),
    "beam axes swapped": (hdu_with(BMAJ=1e-5), "major >= minor > 0"),
    "beam a number": (given_with(beam=5.4), "an angle or angles .* got 5.4"),
    "beam of two": (given_with(beam=(1 * u.deg, 1 * u.deg)), "major, minor, pa"),
    "beam negative": (given_with(beam=-1 * u.arcsec), "major >= minor > 0"),
    "beam not finite": (given_with(beam=np.nan * u.arcsec), "major >= minor > 0"),
    "beam contradicts": (given_with(beam=0.7 * u.arcsec), "contradicts that of the image"),
    "beam minor contradicts": (
        given_with(beam=(MAJOR * u.arcsec, 1.02 * MINOR * u.arcsec, PA * u.deg)),
        "contradicts",
    ),
    "beam angle contradicts": (
        given_with(beam=(MAJOR * u.arcsec, MINOR * u.arcsec, (PA + 5) * u.deg)),
        "contradicts",
    ),
    "beams differ": (two_beams, "table of 2 different"),
    "no WCS": (no_wcs(), "no celestial WCS"),
    "WCS linear": (hdu_with(CTYPE1="LINEAR", CTYPE2="LINEAR"), "no celestial WCS"),
    "WCS given linear": (no_wcs(wcs=WCS(naxis=2)), "celestial axes"),
    "WCS given of another type": (no_wcs(wcs=make_header()), "expected an astropy.wcs.WCS"),
    "WCS of another type": (
        lambda: (NDData(PIXELS, unit="Jy/beam", wcs=make_wcs(3)[0]), {}),
        "WCS of type Sliced.* expected astropy.wcs.WCS",
    ),
    "WCS broken": (hdu_with(CTYPE1="RA---TAN"), "no valid WCS"),
    "WCS contradicts": (lambda: (make_hdu(), {"wcs": other_wcs()}), "0.2 pixels apart"),
    "pixels not square": (hdu_with(CDELT2=1.05 * SCALE / 3600), "square pixels, got 0.1 x 0.105"),
    "pixels sheared": (
        hdu_with(PC1_1=1.0, PC1_2=0.1, PC2_1=0.0, PC2_2=1.0),
        "square pixels",
    ),
    "two channels": (hdu_with(np.stack([PIXELS, PIXELS])), r"one celestial plane.*\(2, 30, 40\)"),
    "two Stokes": (hdu_with(np.ones((2, 1, NY, NX), "f4")), "one celestial plane"),
    "one dimension": (hdu_with(PIXELS[0]), r"two dimensions.*\(40,\)"),
    "scalar": (lambda: (np.float32(1), {}), r"two dimensions, got the shape \(\)"),
    "number": (lambda: (3.0, {}), r"two dimensions, got the shape \(\)"),
    "quantity": (lambda: (3.0 * JY_BEAM, {}), r"two dimensions, got the shape \(\)"),
    "None": (lambda: (None, {}), "real numbers, got NoneType"),
    "dictionary": (lambda: ({"a": 1}, {}), "real numbers, got dict"),
    "complex": (lambda: (PIXELS.astype("c8"), {}), "real numbers, got ndarray of complex64"),
    "bool": (lambda: (PIXELS > 0, {}), "real numbers, got ndarray of bool"),
    "text": (lambda: (np.array([["a", "b"]]), {}), "real numbers, got ndarray of <U1"),
    "all NaN": (hdu_with(PIXELS * np.nan), "none of its 1200 pixels is finite"),
    "all masked": (given_with(mask=np.ones((NY, NX), bool)), "none of its 1200 pixels"),
    "too small": (hdu_with(PIXELS[:, :5]), r"\(30, 5\) pixels are 0.833 beams across"),
    "empty": (hdu_with(PIXELS[:, :0].reshape(NY, 0)), "one HDU with an image|beams across"),
    "under-sampled": (hdu_with(scale=0.25), "beam is 1.6 pixels .* expected >= 2"),
    "integer blanks": (integer_blank, "integer pixels with BLANK = -32768"),
    "mask shape": (given_with(mask=np.zeros((NX, NY), bool)), r"\(40, 30\).*\(30, 40\)"),
    "mask scalar": (given_with(mask=True), r"mask has the shape \(\)"),
    "mask dtype": (given_with(mask=np.zeros((NY, NX))), "mask is of float64, expected bool"),
    "hdu for an HDU": (given_with(hdu=0), "hdu=0 is for FITS files .* got PrimaryHDU"),
    "no image": (lambda: (fits.HDUList([fits.PrimaryHDU()]), {}), "one HDU with an image"),
    "table": (lambda: (beams_table([(1, 1, 1)]), {}), "real numbers, got BinTableHDU"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    make, message = REFUSED[case]
    value, options = make()
    with pytest.raises(ValueError, match=message):
        load_image(value, **options)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("Jy/pix", "image is in Jy / pix, expected Jy / beam"),
        ("JY/PIXEL", "image is in Jy / pix, expected Jy / beam"),
        ("Jy", "image is in Jy, expected"),
        ("Jy/beam km/s", "image is in .*km.*, expected"),
        ("K", "image is in K without a frequency"),
        ("m", "image is in m, expected"),
    ],
)
def test_unit_refused(unit, message):
    with pytest.raises(u.UnitConversionError, match=message):
        load_image(make_hdu(unit=unit))


def test_unit_refused_before_the_beam():
    with pytest.raises(u.UnitConversionError, match="Jy / pix"):
        load_image(make_hdu(unit="Jy/pixel", beam=False))


def test_dimensionless_refused():
    with pytest.raises(ValueError, match="image has no unit"):
        load_image(make_ccd(unit=""))
    assert_valid(load_image(make_ccd(unit=""), unit="Jy/beam"))


def test_integers_without_blanks():
    assert_valid(
        load_image(make_hdu(np.arange(1200).reshape(NY, NX))), np.arange(1200).reshape(NY, NX)
    )


def test_integer_ccddata_with_blank():
    with pytest.raises(ValueError, match="BLANK"):
        load_image(make_ccd(np.ones((NY, NX), "i4"), BLANK=-1))


def test_file_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*nothing.fits"):
        load_image(tmp_path / "nothing.fits")


def test_file_is_folder(tmp_path):
    with pytest.raises(ValueError, match="is a folder, expected a FITS file"):
        load_image(tmp_path)


@pytest.mark.parametrize("n_bytes", [0, 100, 2880, 5000])
def test_file_truncated(tmp_path, n_bytes):
    make_hdu().writeto(tmp_path / "whole.fits")
    path = tmp_path / "part.fits"
    path.write_bytes((tmp_path / "whole.fits").read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match="part.fits is not a readable FITS file"):
        load_image(path)


def test_file_is_not_fits(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("Jy/beam " * 1000)
    with pytest.raises(ValueError, match="notes.txt is not a readable FITS file"):
        load_image(path)


def test_copied_beam_without_axes():
    ccd = make_ccd(beam=False)
    ccd.meta = {"beam": copy.copy(Beam(0.6 * u.arcsec)), "header": ccd.header}
    with pytest.raises(ValueError, match="loses them when it is copied"):
        load_image(ccd)
