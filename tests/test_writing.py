"""Images written with their beam, and read again."""

import os

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from radio_beam import Beam

from diffsky.images import load_image, write_image

NY, NX = 30, 40
JY_BEAM, JY_PIXEL = u.Jy / u.beam, u.Jy / u.pix
BEAM = Beam(0.6 * u.arcsec, 0.4 * u.arcsec, 30 * u.deg)
PIXELS = np.random.default_rng(7).normal(0, 1e-4, (NY, NX)).astype(np.float32)


def make_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---SIN", "DEC--SIN"
    wcs.wcs.crval = 150.1, 2.2
    wcs.wcs.crpix = NX // 2 + 1, NY // 2 + 1
    wcs.wcs.cdelt = -0.1 / 3600, 0.1 / 3600
    return wcs


def make_image(unit=JY_BEAM, **meta):
    return CCDData(PIXELS, unit=unit, wcs=make_wcs(), meta={"beam": BEAM, **meta})


def test_round_trip(tmp_path):
    mask = PIXELS > 2e-4
    meta = {"frequency": 230 * u.GHz, "telescope": "ALMA", "object": "M 87"}
    image = load_image(make_image(**meta), mask=mask)
    write_image(image, tmp_path / "image.fits")
    again = load_image(tmp_path / "image.fits")
    assert mask.any()
    assert_array_equal(again.mask, mask)
    assert_array_equal(again.data, image.data)
    assert again.unit == image.unit
    assert again.wcs.wcs.compare(image.wcs.wcs, tolerance=1e-12)
    for axis in ("major", "minor", "pa"):
        assert_allclose(getattr(again.meta["beam"], axis) / getattr(BEAM, axis), 1, rtol=1e-12)
    assert_allclose(again.meta["frequency"].to_value("GHz"), 230, rtol=1e-12)
    assert again.meta["telescope"] == "ALMA"
    assert again.meta["object"] == "M 87"


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty])
def test_sky_with_uncertainty(tmp_path, kind):
    image = make_image(JY_PIXEL)
    image.mask = PIXELS > 2e-4
    image.uncertainty = kind(PIXELS**2)
    write_image(image, str(tmp_path / "sky.fits"))
    assert fits.getheader(tmp_path / "sky.fits")["BUNIT"] == "Jy/pixel"
    again = CCDData.read(tmp_path / "sky.fits")
    assert again.unit == JY_PIXEL
    assert type(again.uncertainty) is kind
    assert_array_equal(again.uncertainty.array, PIXELS**2)
    assert_array_equal(again.mask, image.mask)
    assert_array_equal(again.data, PIXELS)
    assert again.data.dtype.kind == "f"
    assert again.data.dtype.itemsize == 4


def test_image_is_not_changed(tmp_path):
    image = make_image(seed=3)
    image.uncertainty = StdDevUncertainty(PIXELS**2)
    write_image(image, tmp_path / "image.fits")
    assert image.meta == {"beam": BEAM, "seed": 3}
    assert image.uncertainty.parent_nddata is image


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (JY_BEAM, "Jy/beam"),
        (u.mJy / u.beam, "mJy/beam"),
        (JY_PIXEL, "Jy/pixel"),
        (u.Unit("uJy/pixel"), "uJy/pixel"),
        (u.K, "K"),
        (u.dimensionless_unscaled, None),
    ],
)
def test_unit(tmp_path, unit, text):
    write_image(make_image(unit), tmp_path / "image.fits")
    assert fits.getheader(tmp_path / "image.fits").get("BUNIT") == text
    if text is not None:
        assert CCDData.read(tmp_path / "image.fits").unit == unit


def test_cards_of_meta(tmp_path):
    meta = {
        "rms": 4.8e-5 * JY_BEAM,
        "weights": "alma-band6",
        "weights_version": "1.0",
        "n_samples": 20,
        "seed": np.int64(3),
        "threshold": np.float32(0.5),
        "complete": True,
        "worst": np.nan,
        "note": "x" * 200,
        "author": "Vicánek",
        "frequency": 1.4e9,
        "nothing": None,
        "pixel_scale": 0.1 * u.arcsec,
        "grid": np.zeros((2, 2)),
        "header": fits.Header({"NAXIS3": 7, "DATE-OBS": "2020-01-01"}),
        "ctype1": "GLON-TAN",
        "BITPIX": 16,
    }
    write_image(make_image(**meta), tmp_path / "image.fits")
    header = fits.getheader(tmp_path / "image.fits")
    assert_allclose(header["RMS"], 4.8e-5)
    assert header.comments["RMS"] == "[Jy/beam]"
    assert header["WEIGHTS"] == "alma-band6"
    assert header["WEIGHTS_VERSION"] == "1.0"
    assert header["NSAMPLES"] == 20
    assert header["SEED"] == 3
    assert header["THRESHOLD"] == 0.5
    assert header["COMPLETE"] is True
    assert header["WORST"] == "nan"
    assert header["NOTE"] == "x" * 200
    assert header["AUTHOR"] == "Vic?nek"
    assert header["FREQ"] == 1.4e9
    assert header["CTYPE1"] == "RA---SIN"
    assert header["BITPIX"] == -32
    assert not {"NOTHING", "GRID", "HEADER", "BEAM", "NAXIS3", "PIXELSCALE"} & set(header)


def test_meta_that_is_a_header(tmp_path):
    """Beam and other cards of a header survive; its own grid and unit do not."""
    cards = {"BMAJ": 2e-4, "BMIN": 1e-4, "BPA": 10.0, "NAXIS3": 1, "CTYPE1": "GLON-TAN"}
    cards |= {"BUNIT": "K", "OBSERVER": "A. Nonym", "BSCALE": 2.0, "HISTORY": "made"}
    image = make_image()
    image.meta = fits.Header(cards)
    write_image(image, tmp_path / "image.fits")
    again = load_image(tmp_path / "image.fits")
    assert_allclose(again.meta["beam"].major.to_value("deg"), 2e-4)
    assert again.meta["header"]["OBSERVER"] == "A. Nonym"
    assert_array_equal(again.data, PIXELS)


SCALARS = st.one_of(
    st.text(max_size=200), st.integers(), st.floats(), st.booleans(), st.none(), st.binary()
)
KEYS = st.one_of(st.text(max_size=90), st.text("ABZ_abz 09-", min_size=1, max_size=90))


@settings(max_examples=50)
@given(meta=st.dictionaries(KEYS.filter(lambda key: key != "beam"), SCALARS, max_size=4))
def test_any_meta_makes_a_readable_file(tmp_path_factory, meta):
    path = tmp_path_factory.mktemp("any") / "image.fits"
    write_image(make_image(**{"beam": BEAM, **meta}), path)
    assert_array_equal(load_image(path).data, PIXELS)
    with fits.open(path) as hdus:
        hdus.verify("exception")


def test_existing_file(tmp_path):
    path = tmp_path / "image.fits"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="image.fits exists; overwrite=True replaces it"):
        write_image(make_image(), path)
    assert path.read_text() == "precious"
    write_image(make_image(), path, overwrite=True)
    assert_array_equal(load_image(path).data, PIXELS)


def test_folder_that_is_not_there(tmp_path):
    path = tmp_path / "nowhere" / "image.fits"
    with pytest.raises(OSError, match=f"cannot write {path}"):
        write_image(make_image(), path)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file/image.fits"):
        write_image(make_image(), tmp_path / "file" / "image.fits")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'image.fits'}"):
        write_image(make_image(), tmp_path / "image.fits")


def test_refused(tmp_path):
    with pytest.raises(TypeError, match="type ndarray, expected CCDData"):
        write_image(PIXELS, tmp_path / "image.fits")
    with pytest.raises(ValueError, match="beam: expected a Beam"):
        write_image(make_image(beam="round"), tmp_path / "image.fits")
    image = make_image()
    image.uncertainty = UnknownUncertainty(PIXELS)
    with pytest.raises(ValueError, match="uncertainties"):
        write_image(image, tmp_path / "image.fits")
    assert not list(tmp_path.iterdir())
