"""Maps and PSFs that belong to an image, pixel scale and beam area."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from radio_beam import Beam
from radio_images import FREQUENCY, MAJOR, NX, NY, PA, PIXELS, SCALE, make_hdu, make_wcs, other_wcs

from diffsky.images import beam_area_pixels, load_image, load_map, load_psf, pixel_scale

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
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
