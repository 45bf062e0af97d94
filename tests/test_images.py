import copy
import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from astropy import constants
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from radio_beam import Beam

from diffsky.images import beam_area_pixels, load_image, load_map, load_psf, pixel_scale

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


@pytest.fixture
def image():
    return load_image(make_hdu(PIXELS[None, None]))


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


# What is accepted


def test_contents():
    image = load_image(make_hdu(PIXELS[None, None]))
    assert_valid(image)
    beam = image.meta["beam"]
    assert_allclose(beam.major.to_value("arcsec"), MAJOR)
    assert_allclose(beam.minor.to_value("arcsec"), MINOR)
    assert_allclose(beam.pa.to_value("deg"), PA)
    assert_allclose(image.meta["frequency"].to_value("Hz"), FREQUENCY)
    assert image.meta["telescope"] == "ALMA"
    assert image.meta["object"] == "J1000+0212"
    assert image.meta["header"]["DATE-OBS"] == "2020-01-01T00:00:00"
    centre = image.wcs.pixel_to_world(NX // 2, NY // 2)
    assert_allclose([centre.ra.deg, centre.dec.deg], [150.1, 2.2])


def test_contents_missing():
    image = load_image(make_hdu(TELESCOP=None, OBJECT=" "))
    assert image.meta["telescope"] is None
    assert image.meta["object"] is None
    assert image.meta["frequency"] is None


DTYPES = [order + kind for order in "<>" for kind in ("f2", "f4", "f8", "i2", "i4", "u2")]
SHAPES = [(NY, NX), (1, NY, NX), (1, 1, NY, NX)]


@settings(max_examples=60, deadline=None)
@given(
    pixels=hnp.arrays(np.float32, (12, 14), elements=st.integers(0, 1000), fill=st.just(7)),
    dtype=st.sampled_from(DTYPES),
    n_axes=st.integers(2, 4),
    container=st.sampled_from(["hdu", "list", "ccd", "nddata", "array"]),
    contiguous=st.booleans(),
)
def test_dtype_order_axes_container(pixels, dtype, n_axes, container, contiguous):
    data = pixels.astype(dtype).reshape((1,) * (n_axes - 2) + pixels.shape)
    if not contiguous:
        data = np.repeat(data, 2, axis=-1)[..., ::2]
    given_data = data.copy()
    header = make_header(n_axes)
    del header["DATE-OBS"]
    options = {}
    if container in ("hdu", "list"):
        hdu = fits.PrimaryHDU(data.astype("f4") if dtype[1:] == "f2" else data, header)
        value = hdu if container == "hdu" else fits.HDUList([hdu])
    elif container == "ccd":
        value = CCDData(data, unit="Jy/beam", wcs=WCS(header), meta=header)
    elif container == "nddata":
        meta = {"beam": Beam(MAJOR * u.arcsec, MINOR * u.arcsec, PA * u.deg)}
        value = NDData(data, unit="Jy/beam", wcs=WCS(header), meta=meta)
    else:
        value, options = data, {"unit": "Jy/beam", "beam": MAJOR * u.arcsec, "wcs": WCS(header)}
    image = load_image(value, **options)
    assert_valid(image, pixels)
    assert not np.shares_memory(image.data, data)
    assert_array_equal(data, given_data)


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1), (0, 1, 2)])
def test_celestial_axes_anywhere(order):
    """The degenerate axis may come before, between or after the celestial ones."""
    header, source = fits.Header(), make_header(3)
    for new, old in enumerate(order, start=1):
        for key in ("CTYPE", "CRVAL", "CRPIX", "CDELT", "CUNIT"):
            header[f"{key}{new}"] = source[f"{key}{old + 1}"]
    for key in ("BUNIT", "BMAJ", "BMIN", "BPA"):
        header[key] = source[key]
    axis = 2 - order.index(2)
    image = load_image(fits.PrimaryHDU(np.expand_dims(PIXELS, axis), header))
    assert_valid(image)
    assert_allclose(image.meta["frequency"].to_value("Hz"), FREQUENCY)


@pytest.mark.parametrize("kind", [str, Path])
def test_path(tmp_path, kind):
    path = tmp_path / "dirty.fits"
    make_hdu(PIXELS[None, None]).writeto(path)
    assert_valid(load_image(kind(path)))


def test_path_compressed(tmp_path):
    path = tmp_path / "dirty.fits.gz"
    make_hdu().writeto(tmp_path / "dirty.fits")
    path.write_bytes(gzip.compress((tmp_path / "dirty.fits").read_bytes()))
    assert_valid(load_image(path))


def test_compressed_extension(tmp_path):
    path = tmp_path / "dirty.fits"
    hdu = fits.CompImageHDU(PIXELS, make_header(), compression_type="GZIP_1", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    assert_valid(load_image(path))
    with fits.open(path) as hdus:
        assert_valid(load_image(hdus))
        assert_valid(load_image(hdus[1]))


def test_image_extension():
    assert_valid(load_image(fits.ImageHDU(PIXELS, make_header(), name="SCI")))


@pytest.mark.parametrize("hdu", [2, "SECOND"])
def test_choose_hdu(tmp_path, hdu):
    first = fits.ImageHDU(PIXELS * 2, make_header(), name="FIRST")
    second = fits.ImageHDU(PIXELS, make_header(), name="SECOND")
    hdus = fits.HDUList([fits.PrimaryHDU(), first, second])
    assert_valid(load_image(hdus, hdu=hdu))
    with pytest.raises(ValueError, match=r"one HDU with an image .*FIRST ImageHDU.*SECOND"):
        load_image(hdus)
    with pytest.raises(ValueError, match="no HDU 'THIRD'.*'FIRST', 'SECOND'"):
        load_image(hdus, hdu="THIRD")
    with pytest.raises(ValueError, match="one HDU with an image"):
        load_image(hdus, hdu=0)


def test_round_trip_ccddata(tmp_path):
    mask = np.zeros((NY, NX), bool)
    mask[3, 4:9] = True
    first = make_ccd(PIXELS.astype("f8"))
    first.mask = mask
    first.write(tmp_path / "image.fits")
    image = load_image(tmp_path / "image.fits")
    assert_valid(image, np.where(mask, np.nan, PIXELS))
    assert_array_equal(image.mask, mask)
    read = load_image(CCDData.read(tmp_path / "image.fits"))
    assert_array_equal(read.data, image.data)
    assert read.meta["beam"] == image.meta["beam"]


def test_load_twice(image):
    again = load_image(image)
    assert_valid(again)
    assert_array_equal(again.data, image.data)
    for key in ("beam", "pixel_scale", "frequency", "telescope", "object"):
        assert again.meta[key] == image.meta[key]
    assert again.meta["header"] == image.meta["header"]
    assert again.meta["header"] is not image.meta["header"]
    assert not np.shares_memory(again.data, image.data)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))]
)
def test_beam_survives_copies(image, copied):
    beam = copied(image.meta["beam"])
    assert beam == image.meta["beam"]
    assert beam.minor == image.meta["beam"].minor
    assert image.copy().meta["beam"] == beam
    assert load_image(image.copy()).meta["beam"] == beam


def test_meta_of_plain_dictionary():
    meta = {"BMAJ": MAJOR / 3600, "telescope": "VLA", "object": "M 87", "frequency": 1.4 * u.GHz}
    image = load_image(NDData(PIXELS, unit="mJy/beam", wcs=make_wcs(), meta=meta))
    assert image.meta["beam"] == Beam(MAJOR * u.arcsec)
    assert image.meta["telescope"] == "VLA"
    assert image.meta["object"] == "M 87"
    assert image.meta["frequency"].to_value("Hz") == 1.4e9


# Masks and missing values


def test_masks_join():
    nan, own, given_mask = (np.zeros((NY, NX), bool) for _ in range(3))
    nan[0], own[1], given_mask[2] = True, True, True
    data = np.where(nan, np.nan, PIXELS)
    data[5, 5] = np.inf
    ccd = make_ccd(data)
    ccd.mask = own
    image = load_image(ccd, mask=given_mask)
    expected = nan | own | given_mask
    expected[5, 5] = True
    assert_array_equal(image.mask, expected)
    assert_valid(image, np.where(expected, np.nan, PIXELS))
    assert_array_equal(ccd.mask, own)


def test_mask_of_masked_array():
    masked = np.ma.masked_less(PIXELS, 0)
    image = load_image(masked, unit="Jy/beam", wcs=make_wcs(), beam=MAJOR * u.arcsec)
    assert_array_equal(image.mask, PIXELS < 0)


def test_mask_in_full_shape():
    mask = PIXELS[None, None] < 0
    image = load_image(make_hdu(PIXELS[None, None]), mask=mask)
    assert_array_equal(image.mask, PIXELS < 0)


# Units


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("Jy/beam", 1),
        ("JY/BEAM", 1),
        ("Jy beam-1", 1),
        ("beam-1 Jy", 1),
        ("Jy.beam^-1", 1),
        ("Jy/bm", 1),
        ("mJy/beam", 1e-3),
        ("mJy/BEAM", 1e-3),
        ("uJy/beam", 1e-6),
    ],
)
def test_unit_spelling(unit, factor):
    assert_valid(load_image(make_hdu(unit=unit)), PIXELS * factor)
    assert_valid(load_image(make_hdu(unit=None), unit=unit), PIXELS * factor)


@pytest.mark.parametrize("unit", ["K", "KELVIN", "mK"])
def test_kelvin(unit):
    image = load_image(make_hdu(PIXELS[None, None], unit=unit))
    area = np.pi / (4 * np.log(2)) * MAJOR * MINOR * u.arcsec**2
    kelvin = u.mK if unit == "mK" else u.K
    flux = 2 * constants.k_B * kelvin * (FREQUENCY * u.Hz / constants.c) ** 2 * area / u.sr
    assert_valid(image, PIXELS * flux.to_value("Jy"), rtol=1e-5)


@pytest.mark.parametrize(
    ("ctype", "value", "frequency"),
    [
        ("FREQ", 100e9, 100e9),
        ("VRAD", 1e7, 110e9 * (1 - 1e7 / 299792458)),
        ("VOPT", 1e7, 110e9 / (1 + 1e7 / 299792458)),
        ("WAVE", 3e-3, 299792458 / 3e-3),
    ],
)
def test_frequency_of_spectral_axis(ctype, value, frequency):
    unit = {"FREQ": "Hz", "WAVE": "m"}.get(ctype, "m/s")
    cards = {"CTYPE3": ctype, "CRVAL3": value, "CDELT3": value / 10, "CUNIT3": unit}
    image = load_image(make_hdu(PIXELS[None], RESTFRQ=110e9, **cards))
    assert_allclose(image.meta["frequency"].to_value("Hz"), frequency, rtol=1e-9)


def test_frequency_of_the_plane():
    """CASA puts the reference pixel of a single channel anywhere."""
    image = load_image(make_hdu(PIXELS[None], CRPIX3=0.0))
    assert_allclose(image.meta["frequency"].to_value("Hz"), FREQUENCY + 1e9)


def test_frequency_of_given_wcs():
    beam = (MAJOR * u.arcsec, MINOR * u.arcsec, PA * u.deg)
    image = load_image(PIXELS[None] * u.K, beam=beam, wcs=make_wcs(3))
    assert_allclose(image.data, load_image(make_hdu(PIXELS[None], unit="K")).data)


def test_frequency_of_keyword_but_not_of_rest():
    assert load_image(make_hdu(FREQ=1.4e9)).meta["frequency"] == 1.4 * u.GHz
    assert load_image(make_hdu(RESTFRQ=1.9e12)).meta["frequency"] is None
    velocity = {"CTYPE3": "VRAD", "CRVAL3": 1e5, "CDELT3": 1e3, "CUNIT3": "m/s"}
    assert load_image(make_hdu(PIXELS[None], **velocity)).meta["frequency"] is None


def test_surface_brightness():
    image = load_image(make_hdu(unit="MJy/sr"))
    area = (np.pi / (4 * np.log(2)) * MAJOR * MINOR * u.arcsec**2).to_value("sr")
    assert_valid(image, PIXELS * 1e6 * area, rtol=1e-5)


def test_unit_that_agrees_or_is_unreadable():
    assert_valid(load_image(make_hdu(unit="JY/BEAM"), unit=JY_BEAM))
    assert_valid(load_image(make_hdu(unit="Janskys"), unit="mJy/beam"), PIXELS * 1e-3)


# Beams


@pytest.mark.parametrize(
    "beam",
    [
        Beam(MAJOR * u.arcsec, MINOR * u.arcsec, PA * u.deg),
        (MAJOR * u.arcsec, MINOR * u.arcsec, PA * u.deg),
        [MAJOR / 60 * u.arcmin, MINOR * u.arcsec, (PA + 180) * u.deg],
        (MAJOR * 1.005 * u.arcsec, MINOR * u.arcsec, (PA + 0.5) * u.deg),
    ],
)
def test_beam_given(beam):
    for has_beam in (True, False):
        image = load_image(make_hdu(beam=has_beam), beam=beam)
        assert_allclose(image.meta["beam"].minor.to_value("arcsec"), MINOR)
        assert_allclose(np.sin(2 * image.meta["beam"].pa), np.sin(2 * PA * u.deg), atol=0.02)


def test_beam_circular():
    for cards in (
        {},
        {"BMAJ": MAJOR / 3600},
        {"BMAJ": MAJOR / 3600, "BMIN": MAJOR / 3600, "BPA": 90},
    ):
        image = load_image(make_hdu(beam=False, **cards), beam=MAJOR * u.arcsec)
        assert_allclose(image.meta["beam"].minor.to_value("arcsec"), MAJOR)


def beams_table(rows, **units):
    columns = [
        fits.Column(name=key, format="1E", unit=units.get(key), array=[row[i] for row in rows])
        for i, key in enumerate(("BMAJ", "BMIN", "BPA"))
    ]
    return fits.BinTableHDU.from_columns(columns, name="BEAMS")


@pytest.mark.parametrize("n_rows", [1, 3])
@pytest.mark.parametrize("per_unit", [{}, {"BMAJ": "arcsec", "BMIN": "arcsec", "BPA": "deg"}])
def test_beam_of_casa_table(tmp_path, n_rows, per_unit):
    table = beams_table([(MAJOR, MINOR, PA)] * n_rows, **per_unit)
    hdus = fits.HDUList([make_hdu(PIXELS[None, None], beam=False, CASAMBM=True), table])
    hdus.writeto(tmp_path / "dirty.fits")
    beam = load_image(tmp_path / "dirty.fits").meta["beam"]
    got = [beam.major.to_value("arcsec"), beam.minor.to_value("arcsec"), beam.pa.to_value("deg")]
    assert_allclose(got, [MAJOR, MINOR, PA], rtol=1e-6)


# Refusals of images


def hdu_with(data=PIXELS, **options):
    return lambda: (make_hdu(data, **options), {})


def given_with(**options):
    return lambda: (make_hdu(), options)


def other_wcs():
    return make_wcs(CRVAL2=2.2 + 0.2 * SCALE / 3600)


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


# Maps


@pytest.mark.parametrize("value", [0.5, 1, np.float64(0.5), 50 * u.percent, u.Quantity(0.5)])
def test_map_number(image, value):
    result = load_map(value, like=image, name="primary_beam")
    assert result.dtype == np.float32
    assert result.shape == (NY, NX)
    assert_array_equal(result, np.float32(u.Quantity(value).to_value("")))


@pytest.mark.parametrize("n_axes", [2, 4])
def test_map_containers(tmp_path, image, n_axes):
    pb = np.linspace(0, 1, NY * NX).reshape(NY, NX)
    pb[0] = np.nan
    data = pb.reshape((1,) * (n_axes - 2) + pb.shape).astype(">f8")
    hdu = make_hdu(data, unit=None, beam=False)
    hdu.writeto(tmp_path / "pb.fits")
    ccd = CCDData(data, unit="", wcs=make_wcs(n_axes))
    for value in (data, np.ma.masked_invalid(data), hdu, tmp_path / "pb.fits", ccd):
        result = load_map(value, like=image, name="primary_beam")
        assert result.dtype == np.dtype("=f4")
        assert_allclose(result, pb, rtol=1e-6)


def test_map_units(image):
    for value in (2e-5, 20 * u.uJy / u.beam, np.full((NY, NX), 0.02) * u.mJy / u.beam):
        assert_allclose(load_map(value, like=image, name="rms"), 2e-5, rtol=1e-6)
    kelvin = (20 * u.uJy / u.beam).to(
        u.K, u.brightness_temperature(FREQUENCY * u.Hz, image.meta["beam"].sr)
    )
    assert_allclose(load_map(kelvin, like=image, name="rms"), 2e-5, rtol=1e-6)
    weights = load_map(3 * u.s, like=image, name="time", unit="min")
    assert_allclose(weights, 0.05, rtol=1e-6)


def test_map_masked_becomes_nan(image):
    ccd = CCDData(np.ones((NY, NX)), unit="", mask=PIXELS < 0)
    result = load_map(ccd, like=image, name="primary_beam")
    assert_array_equal(np.isnan(result), PIXELS < 0)


@pytest.mark.parametrize(
    ("value", "name", "message"),
    [
        (np.ones((NX, NY)), "rms", r"rms has shape \(40, 30\), the image \(30, 40\)"),
        (np.ones(NX), "rms", "two dimensions"),
        (np.ones((2, NY, NX)), "rms", "one celestial plane"),
        (1 * u.K / u.s, "rms", "rms is in K / s, expected Jy / beam"),
        (u.Quantity(2e-5), "rms", "rms is in no unit, expected Jy / beam"),
        (NDData(np.ones((NY, NX))), "rms", "rms is in no unit, expected Jy / beam"),
        (make_hdu(unit=None), "rms", "rms is in no unit, expected Jy / beam"),
        (1 * u.Jy, "primary_beam", "primary_beam is in Jy, expected no unit"),
        (0.0, "rms", "from 0 to 0, expected positive"),
        (-1e-5, "rms", "expected positive"),
        (np.nan, "rms", "none of its 1200 pixels is finite"),
        (90, "primary_beam", "from 90 to 90, expected 0 to 1"),
        ("nothing.fits", "rms", "rms: there is no file"),
        (None, "rms", "rms: expected real numbers, got NoneType"),
        (True, "rms", "rms: expected real numbers, got bool"),
        (1.0, "pbcor", "unit is needed for 'pbcor'"),
    ],
)
def test_map_refused(image, value, name, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_map(value, like=image, name=name)


def test_map_grid(image):
    value = CCDData(np.ones((NY, NX)), unit="", wcs=other_wcs())
    with pytest.raises(
        ValueError, match="primary_beam and the image .* 0.2 pixels apart.*centre 150"
    ):
        load_map(value, like=image, name="primary_beam")
    value.wcs = make_wcs(scale=2 * SCALE)
    with pytest.raises(ValueError, match=r"0.2 x 0.2 arcsec and centre .* 0.1 x 0.1 arcsec"):
        load_map(value, like=image, name="primary_beam")
    value.wcs = make_wcs(CRVAL2=2.2 + 0.05 * SCALE / 3600)
    assert load_map(value, like=image, name="primary_beam").shape == (NY, NX)


def test_map_grid_in_another_frame(image):
    """Positions on the sky are compared: FK5 and ICRS differ by tens of mas."""
    value = CCDData(np.ones((NY, NX)), unit="", wcs=make_wcs(RADESYS="FK5", EQUINOX=2000.0))
    with pytest.raises(ValueError, match="pixels apart"):
        load_map(value, like=image, name="primary_beam")


# PSF


def make_psf(ny, nx, peak=None):
    y, x = np.indices((ny, nx))
    cy, cx = (ny // 2, nx // 2) if peak is None else peak
    return np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8).astype("f4")


@settings(deadline=None, max_examples=60)
@given(ny=st.integers(NY, 60), nx=st.integers(NX, 60), dy=st.integers(-4, 4), dx=st.integers(-4, 4))
def test_psf_centred(ny, nx, dy, dx):
    like = load_image(make_hdu())
    psf = make_psf(ny, nx, peak=(ny // 2 + dy, nx // 2 + dx))
    result = load_psf(psf, like=like)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert result[result.shape[0] // 2, result.shape[1] // 2] == 1
    assert np.unravel_index(result.argmax(), result.shape) == tuple(n // 2 for n in result.shape)
    assert result.shape[0] >= ny - 2 * abs(dy) - 1
    assert result.shape[1] >= nx - 2 * abs(dx) - 1
    if dy == dx == 0:
        assert_array_equal(result, psf)


@pytest.mark.parametrize("unit", [None, "Jy/beam", "JY/BEAM"])
def test_psf_of_fits(tmp_path, image, unit):
    psf = make_psf(64, 80)
    hdu = make_hdu(psf[None, None], unit=unit)
    hdu.writeto(tmp_path / "psf.fits")
    for value in (psf.astype(">f8"), hdu, tmp_path / "psf.fits"):
        assert_array_equal(load_psf(value, like=image), psf)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (make_psf(NY - 1, NX), r"shape \(29, 40\), expected at least the image's \(30, 40\)"),
        (make_psf(50, 50) * 1.2, "peak of 1.2, expected 1"),
        (make_psf(50, 50) * 0.8, "peak of 0.8, expected 1"),
        (make_psf(50, 50, peak=(25, 40)), r"peaks at pixel \(25, 40\), expected \(25, 25\)"),
        (np.where(np.eye(50) > 0, np.nan, make_psf(50, 50)), "50 pixels that are not finite"),
        (make_psf(50, 50) * u.K, "psf has the unit K, expected none or Jy/beam"),
        (make_psf(50, 50) * u.mJy / u.beam, "psf has the unit mJy / beam"),
        (1.0, "two dimensions"),
        (make_hdu(make_psf(50, 50), scale=0.12), "pixels of 0.12 arcsec, the image of 0.1 arcsec"),
        (make_hdu(make_psf(50, 50), BMAJ=1.2 * MAJOR / 3600), "psf has another beam"),
        (make_hdu(make_psf(50, 50), BPA=PA + 60), "psf has another beam"),
    ],
)
def test_psf_refused(image, value, message):
    with pytest.raises(ValueError, match=message):
        load_psf(value, like=image)


def test_psf_beam_within_tolerance(image):
    hdu = make_hdu(make_psf(50, 50), BMAJ=1.08 * MAJOR / 3600, BPA=PA + 5)
    assert load_psf(hdu, like=image).shape == (50, 50)


# Helpers


@given(angle=st.floats(0, 360), scale=st.floats(1e-3, 1e3))
def test_pixel_scale_rotated(angle, scale):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "GLON-TAN", "GLAT-TAN"
    wcs.wcs.cdelt = -scale / 3600, scale / 3600
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.pc = [[cos, -sin], [sin, cos]]
    assert_allclose(pixel_scale(wcs).to_value("arcsec"), scale, rtol=1e-9)


def test_pixel_scale_refused():
    with pytest.raises(ValueError, match="expected a celestial WCS"):
        pixel_scale(WCS(naxis=2))
    with pytest.raises(ValueError, match="expected square pixels, got 0.1 x 0.2 arcsec"):
        pixel_scale(make_wcs(CDELT2=0.2 / 3600))


def test_beam_area_is_the_sum_of_a_gaussian():
    y, x = np.indices((101, 101)) - 50.0
    a, b = np.array([7.0, 5.0]) / np.sqrt(8 * np.log(2))  # pixels
    total = np.exp(-(x**2 / a**2 + y**2 / b**2) / 2).sum()
    beam = Beam(7 * 1.8 * u.arcsec, 5 * 1.8 * u.arcsec, 20 * u.deg)
    assert_allclose(beam_area_pixels(beam, 0.03 * u.arcmin), total, rtol=1e-6)


def test_import_is_light():
    code = "import sys, diffsky.images; assert not {'torch', 'radio_beam'} & set(sys.modules)"
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


# Real images


@pytest.fixture
def real():
    folder = os.environ.get("DIFFSKY_DATA")
    if not folder:
        pytest.skip("DIFFSKY_DATA, the folder with real images, is not set")
    return Path(folder)


def test_real_alma(real):
    files = str(real / "alma_pisco" / "Pisco.cii.455kms.{}.fits")
    dirty = load_image(files.format("dirty"))
    assert dirty.shape == (257, 257)
    assert not dirty.mask.any()
    assert dirty.meta["telescope"] == "ALMA"
    assert_allclose(dirty.meta["frequency"].to_value("GHz"), 222.51, atol=0.01)
    assert_allclose(dirty.meta["beam"].major.to_value("arcsec"), 0.282, atol=1e-3)
    assert_allclose(dirty.meta["pixel_scale"].to_value("arcsec"), 0.04, rtol=1e-6)
    assert_array_equal(dirty.data, fits.getdata(files.format("dirty"))[0, 0])
    pb = load_map(files.format("pb"), like=dirty, name="primary_beam")
    assert_array_equal(pb, fits.getdata(files.format("pb"))[0, 0])
    psf = load_psf(files.format("psf"), like=dirty)
    assert psf.shape == (257, 257)
    assert_allclose(psf[128, 128], 1)
    assert load_image(files.format("image")).meta["beam"] == dirty.meta["beam"]
    beam = dirty.meta["beam"]  # tclean's residual says neither unit nor beam
    residual = load_image(files.format("residual"), unit="Jy/beam", beam=beam)
    assert residual.meta["frequency"] == dirty.meta["frequency"]
    with pytest.raises(u.UnitConversionError, match="Jy / pix"):
        load_image(files.format("model"))
    with pytest.raises(ValueError, match="no unit"):
        load_image(files.format("pb"))


def test_real_lotss(real):
    path = real / "lotss" / "P205+55-mosaic.fits"
    mosaic = load_image(path)
    assert mosaic.shape == (400, 400)
    assert mosaic.meta["telescope"] == "LOFAR"
    assert_allclose(mosaic.meta["beam"].major.to_value("arcsec"), 6)
    assert_allclose(mosaic.data, fits.getdata(path), rtol=1e-6)


def test_real_first(real):
    files = sorted((real / "mirabest").glob("100_*.fits"))
    assert files
    for path in files:
        image = load_image(path, beam=5.4 * u.arcsec)
        assert image.shape == (300, 300)
        assert_allclose(image.meta["pixel_scale"].to_value("arcsec"), 1.8)
    with pytest.raises(ValueError, match="no beam"):
        load_image(files[0])
    with pytest.raises(ValueError, match=r"one celestial plane.*\(1000, 108, 108\)"):
        load_image(real / "mirabest" / "cutouts.fits")
    with pytest.raises(ValueError, match="one HDU with an image"):
        load_image(real / "lotss" / "catalog.srl.fits")
