"""Instruments from uv points and from images."""

import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.testing import assert_close

from diffsky.instrument import grid_uv, instrument_from_images, instrument_from_uv

ARCSEC = np.pi / 180 / 3600
PIXEL = 0.1
GOOD = [[5000.0, 9000.0], [12000.0, 0.0]]  # wavelengths


@settings(max_examples=10)
@given(source=st.tuples(st.integers(0, 31), st.integers(0, 31)), seed=st.integers(0, 100))
def test_instrument_against_the_direct_sum(direct_image, source, seed):
    """Points need not lie on cells."""
    rng = np.random.default_rng(seed)
    uv = np.clip(rng.normal(0, 0.08, (800, 2)), -0.3, 0.3) / (PIXEL * ARCSEC)
    weights = rng.uniform(0.5, 2, 800)
    beam = np.ones((32, 32))
    instrument = instrument_from_uv(
        uv, pixel_scale=PIXEL, primary_beam=beam, rms=1, weights=weights
    )
    sky = torch.zeros(32, 32)
    sky[source] = 1
    expected = direct_image(uv, weights, source, 32)
    residual = instrument.forward(sky).numpy() - expected
    assert np.abs(residual).max() < 1e-4


@pytest.mark.parametrize("weighting", ["natural", "other"])
def test_noise_weights(weighting):
    """Squares of the weights times the variances, in the nearest cells."""
    uv = np.array([[3.3, 2.1], [3.2, 2.3], [-7.4, 1.1]]) / (128 * PIXEL * ARCSEC)
    weights = np.array([1.0, 2.0, 4.0])
    variance = 1 / weights if weighting == "natural" else np.array([3.0, 1.0, 0.5])
    instrument = instrument_from_uv(
        uv,
        pixel_scale=PIXEL,
        primary_beam=np.ones((32, 32)),
        rms=1,
        weights=weights,
        noise_variance=None if weighting == "natural" else variance,
    )
    power = weights**2 * variance
    expected = grid_uv(uv, pixel_scale=PIXEL, grid_size=128, weights=power)
    assert_allclose(instrument.noise_weights, expected / expected.max(), rtol=1e-6)
    assert np.count_nonzero(expected) == 2


def test_instrument_of_uv(make_instrument):
    instrument = make_instrument(rms=2e-5)
    assert instrument.weights.dtype == instrument.primary_beam.dtype == torch.float32
    assert instrument.rms == 2e-5
    assert instrument.shape == (24, 20)
    assert instrument.grid_size == 96
    assert make_instrument(padding=2).grid_size == 48
    assert instrument.noise_weights.min() == 0


@pytest.mark.parametrize("padding", [2, 3, 5])
def test_padding_does_not_matter(make_instrument, padding):
    """The signal is the same on every grid that the PSF fits on."""
    sky = torch.zeros(24, 20)
    sky[2, 19], sky[20, 1] = 1.0, 2.0
    expected = make_instrument().forward(sky)
    assert_close(make_instrument(padding=padding).forward(sky), expected, rtol=0, atol=1e-4)


def test_field_of_doubles_and_big_endian(make_instrument):
    beam = np.linspace(0, 1, 480).reshape(24, 20)
    expected = make_instrument(primary_beam=beam.astype("f4")).primary_beam
    for kind in (">f8", ">f4", "f8"):
        assert torch.equal(make_instrument(primary_beam=beam.astype(kind)).primary_beam, expected)
    assert torch.equal(make_instrument(primary_beam=beam.T.copy().T).primary_beam, expected)


# From images


def test_own_psf_gives_the_instrument_again(make_instrument):
    """Within 1 % of the peak, for a PSF half as wide again as what the field needs."""
    instrument = make_instrument()
    again = instrument_from_images(
        instrument.psf((72, 72)).numpy(), instrument.primary_beam.numpy(), rms=0.02
    )
    sky = torch.zeros(24, 20)
    sky[3, 5], sky[15, 12], sky[20, 2] = 1.0, 0.5, 2.0
    expected = instrument.forward(sky)
    assert_close(again.forward(sky), expected, rtol=0, atol=0.01 * expected.max().item())
    assert_close(again.psf((5, 5)), instrument.psf((5, 5)), rtol=0, atol=0.01)
    assert again.rms == 0.02


def test_peak_is_kept(make_instrument):
    """Negative weights stay, so a 1 Jy source at the centre has a peak of 1 Jy/beam."""
    psf = make_instrument().psf((47, 39)).numpy()
    instrument = instrument_from_images(psf, np.ones((24, 20)), rms=1)
    assert instrument.weights.min() < 0
    sky = torch.zeros(24, 20)
    sky[12, 10] = 1
    assert_close(instrument.forward(sky)[12, 10], torch.tensor(1.0))


@pytest.mark.parametrize("shape", [(30, 31), (41, 20), (19, 19)])
def test_psf_of_any_shape(shape):
    """Odd, even or smaller than the field: a Gaussian PSF comes back."""
    y, x = np.indices(shape) - np.array([n // 2 for n in shape])[:, None, None]
    psf = np.exp(-(x**2 / 2 + y**2 / 3) / 2)
    instrument = instrument_from_images(psf, np.ones((20, 24)), rms=1)
    sky = torch.zeros(20, 24)
    sky[9, 13] = 1
    y, x = np.indices((20, 24)) - np.array([9, 13])[:, None, None]
    expected = np.exp(-(x**2 / 2 + y**2 / 3) / 2)
    assert_allclose(instrument.forward(sky), expected, atol=0.02)


def centred(peak=1.0, n=21):
    psf = np.zeros((n, n))
    psf[n // 2, n // 2] = peak
    return psf


@pytest.mark.parametrize(
    ("psf", "message"),
    [
        (centred()[0], r"psf has shape \(21,\); expected a 2-D image without NaN"),
        (centred()[None], "2-D image"),
        (np.where(np.eye(21) > 0, np.nan, centred()), "without NaN"),
        (centred(1.2), "psf is 1.2 at its centre .* expected a peak of 1"),
        (np.roll(centred(), 1, 0), r"psf is 0 at its centre and 1 at its maximum"),
        (centred() + np.roll(centred(2), 3), "2 at its maximum"),
    ],
)
def test_psf_refused(psf, message):
    with pytest.raises(ValueError, match=message):
        instrument_from_images(psf, np.ones((10, 10)), rms=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda beam: instrument_from_uv(GOOD, pixel_scale=PIXEL, primary_beam=beam, rms=1),
        lambda beam: instrument_from_images(centred(), beam, rms=1),
    ],
)
def test_primary_beam_with_nan_refused(make):
    beam = np.ones((10, 10))
    beam[0, 0] = np.nan
    with pytest.raises(ValueError, match="primary_beam"):
        make(beam)


# From files


@pytest.fixture
def images(make_instrument):
    """A PSF and a primary beam with their WCS, and the instrument they are of."""
    instrument = make_instrument()
    found = []
    for data in (instrument.psf((72, 72)).numpy(), instrument.primary_beam.numpy()):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
        wcs.wcs.crpix = [data.shape[1] // 2 + 1, data.shape[0] // 2 + 1]
        wcs.wcs.cdelt = [-PIXEL / 3600, PIXEL / 3600]
        found.append(CCDData(data.astype("f4"), unit="", wcs=wcs))
    return *found, instrument


def test_instrument_from_files(images, tmp_path):
    """FITS files and CCDData give what arrays give; a primary beam may have no data outside."""
    psf, beam, instrument = images
    beam.data[:2] = np.nan
    psf.write(tmp_path / "psf.fits")
    beam.write(tmp_path / "pb.fits")
    known = np.nan_to_num(beam.data)
    expected = instrument_from_images(psf.data, known, rms=0.02)
    for one in ((tmp_path / "psf.fits", str(tmp_path / "pb.fits")), (psf, beam)):
        found = instrument_from_images(*one, rms=0.02)
        assert_close(found.weights, expected.weights)
        assert torch.equal(found.primary_beam, expected.primary_beam)
    assert not torch.equal(found.primary_beam, instrument.primary_beam)


def test_images_of_different_pixels_refused(images):
    psf, beam, _ = images
    psf.wcs.wcs.cdelt = 1.1 * psf.wcs.wcs.cdelt
    with pytest.raises(ValueError, match=r"psf has pixels of 0.11 arcsec, primary_beam of 0.1 arc"):
        instrument_from_images(psf, beam, rms=1)


def test_file_that_is_not_there_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.fits"):
        instrument_from_images(tmp_path / "nothing.fits", np.ones((4, 4)), rms=1)
