"""What a sky leaves of the dirty image."""

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.nddata import CCDData
from numpy.testing import assert_allclose, assert_array_equal

from diffsky.backend import sample_generator
from diffsky.deconvolution.observation import prepare_observation
from diffsky.deconvolution.residual import residual_image
from diffsky.instrument import instrument_from_images

SHAPE, BEAM, KERNEL, RMS = (120, 104), 4.25, 1.7, 1e-4
SOURCES = [(40.3, 50.7, 0.05), (70.2, 80.4, 0.02), (60.0, 30.0, -0.0)]


@pytest.fixture(scope="module")
def psf():
    """PSF with sidelobes, as wide as two fields: positive weights between two ellipses."""
    n = 256
    ky, kx = np.meshgrid(np.fft.fftfreq(n), np.fft.rfftfreq(n), indexing="ij")
    k = np.hypot(ky, kx)
    weights = np.where((k > 0.01) & (k < 1.3 / BEAM), np.exp(-((k * BEAM) ** 2)), 0)
    image = np.fft.fftshift(np.fft.irfft2(weights, s=(n, n)))
    return image / image.max()


@pytest.fixture(scope="module")
def gain():
    y, x = np.indices(SHAPE)
    return np.exp(-((x - 52) ** 2 + (y - 60) ** 2) / (2 * 40**2))


@pytest.fixture
def observed(psf, gain, blob, dirty):
    """A sky at the resolution of the kernel, and its dirty image with noise."""
    instrument = instrument_from_images(psf, gain, rms=RMS)
    sky = sum(blob(SHAPE, x, y, KERNEL, flux) for x, y, flux in SOURCES)
    seen = torch.from_numpy(sky.astype(np.float32))[None]
    data = instrument.observe(seen, [sample_generator(3, 0)], kernel_fwhm=KERNEL)[0].numpy()
    noise = instrument.noise([sample_generator(3, 0)])[0].numpy()
    image = dirty(shape=SHAPE, fwhm=BEAM)
    image.data = data
    sky = CCDData(sky, unit=u.Jy / u.pix, wcs=image.wcs)
    return image, sky, noise


def prepare(image, gain, **options):
    return prepare_observation(image, pixels_per_beam=4.25, stride=8, primary_beam=gain, **options)


def test_exact_sky_leaves_the_noise(observed, gain, psf):
    image, sky, noise = observed
    prepared = prepare(image, gain)
    left = residual_image(prepared, sky, psf, kernel_fwhm=KERNEL)
    assert left.unit == u.Jy / u.beam
    assert left.shape == SHAPE
    assert left.wcs.wcs.compare(image.wcs.wcs)
    valid = prepared.valid
    assert_array_equal(left.mask, ~valid)
    assert_allclose(left.data[valid].std(), noise[valid].std(), rtol=0.02)
    # Sources that the mask cuts off still have sidelobes; here there are none.
    assert_allclose(left.data[valid], noise[valid], atol=0.05 * RMS)
    assert image.data[valid].std() > 5 * noise[valid].std()


def test_kernel_is_divided_out(observed, gain, psf):
    image, sky, noise = observed
    prepared = prepare(image, gain)
    left = residual_image(prepared, sky, psf, kernel_fwhm=0.0)
    # Left in, the kernel lowers the peak of the model: here by several per cent.
    assert left.data[51, 40] > 0.05 * image.data[51, 40]
    assert left.data[prepared.valid].std() > 2 * noise.std()


def test_empty_sky_leaves_the_image(observed, gain, psf):
    image, sky, _ = observed
    sky.data[:] = 0
    prepared = prepare(image, gain)
    left = residual_image(prepared, sky, psf, kernel_fwhm=KERNEL)
    assert_allclose(left.data[prepared.valid], image.data[prepared.valid], atol=1e-9)
    assert np.isnan(left.data[~prepared.valid]).all()


def test_files_of_the_psf(observed, gain, psf, tmp_path):
    from astropy.io import fits

    image, sky, _ = observed
    fits.writeto(tmp_path / "psf.fits", psf[None, None].astype(">f4"))
    prepared = prepare(image, gain)
    left, same = (
        residual_image(prepared, sky, value, kernel_fwhm=KERNEL)
        for value in (tmp_path / "psf.fits", psf)
    )
    assert_allclose(left.data, same.data, atol=1e-8)


def test_masked_pixels_stay_blank(observed, gain, psf):
    image, sky, _ = observed
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:20] = True
    sky.data[mask] = np.nan
    left = residual_image(prepare(image, gain, mask=mask), sky, psf, kernel_fwhm=KERNEL)
    assert left.mask[:20].all()
    assert np.isfinite(left.data[~left.mask]).all()


@pytest.mark.parametrize(
    "wrong",
    [
        CCDData(np.zeros((9, 9)), unit=u.Jy / u.pix),
        CCDData(np.zeros(SHAPE), unit=u.Jy / u.beam),
    ],
)
def test_sky_of_another_kind_is_refused(observed, gain, psf, wrong):
    with pytest.raises(ValueError, match=r"sky has shape .* expected \(120, 104\) and Jy/pix"):
        residual_image(prepare(observed[0], gain), wrong, psf, kernel_fwhm=KERNEL)


def test_psf_that_does_not_fit_is_refused(observed, gain, psf):
    image, sky, _ = observed
    prepared = prepare(image, gain)
    with pytest.raises(ValueError, match=r"psf has shape \(60, 60\)"):
        residual_image(prepared, sky, psf[98:158, 98:158], kernel_fwhm=KERNEL)
    with pytest.raises(ValueError, match="peak"):
        residual_image(prepared, sky, 2 * psf, kernel_fwhm=KERNEL)


def test_psf_within_the_tolerance_of_images_is_taken(observed, gain, psf):
    # Gridding corrections and interpolation leave peaks a few per cent from 1.
    image, sky, _ = observed
    left = residual_image(prepare(image, gain), sky, 0.97 * psf, kernel_fwhm=KERNEL)
    assert np.isfinite(left.data[~left.mask]).all()
