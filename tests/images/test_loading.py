"""What images are accepted, and what they become."""

import copy
import gzip
import pickle
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
from radio_images import (
    FREQUENCY,
    JY_BEAM,
    MAJOR,
    MINOR,
    NX,
    NY,
    PA,
    PIXELS,
    assert_valid,
    beams_table,
    make_ccd,
    make_hdu,
    make_header,
    make_wcs,
)

from diffsky.images import load_image

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


@pytest.mark.parametrize("n_rows", [1, 3])
@pytest.mark.parametrize("per_unit", [{}, {"BMAJ": "arcsec", "BMIN": "arcsec", "BPA": "deg"}])
def test_beam_of_casa_table(tmp_path, n_rows, per_unit):
    table = beams_table([(MAJOR, MINOR, PA)] * n_rows, **per_unit)
    hdus = fits.HDUList([make_hdu(PIXELS[None, None], beam=False, CASAMBM=True), table])
    hdus.writeto(tmp_path / "dirty.fits")
    beam = load_image(tmp_path / "dirty.fits").meta["beam"]
    got = [beam.major.to_value("arcsec"), beam.minor.to_value("arcsec"), beam.pa.to_value("deg")]
    assert_allclose(got, [MAJOR, MINOR, PA], rtol=1e-6)
