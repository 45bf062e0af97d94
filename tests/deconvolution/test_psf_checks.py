"""PSFs that belong to an image or not, and PSFs unlike those of the training."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from numpy.testing import assert_allclose

from diffsky.deconvolution.psf_checks import (
    fit_beam,
    fit_beam_shape,
    load_matching_psf,
    psf_content,
    warn_if_foreign,
)
from diffsky.deconvolution.reweighting import find_taper, reweight
from diffsky.exceptions import DiffskyWarning

SIZE = 193
OPTIONS = {"n_samples": 2, "seed": 1, "primary_beam": 1.0}


def gaussian_psf(major, minor, pa=0.0, size=SIZE):
    y, x = np.indices((size, size)) - size // 2
    c, s = np.cos(pa), np.sin(pa)
    along, across = x * c + y * s, y * c - x * s
    return np.exp(-4 * np.log(2) * ((along / major) ** 2 + (across / minor) ** 2))


def pedestal_psf(share=0.35, width=3.0, fwhm=4.25, size=SIZE):
    """A narrow lobe on a wide one; at short spacings most of the weight."""
    return (1 - share) * gaussian_psf(fwhm, fwhm, size=size) + share * gaussian_psf(
        width * fwhm, width * fwhm, size=size
    )


@pytest.mark.parametrize(("major", "minor", "pa"), [(5, 5, 0), (6.2, 3.9, 0.7), (8, 4, 2.9)])
def test_beam_of_a_gaussian(major, minor, pa):
    assert_allclose(fit_beam(gaussian_psf(major, minor, pa)), (major, minor), rtol=1e-4)


def test_beam_of_too_few_pixels_is_none():
    psf = np.zeros((33, 33))
    psf[16, 16] = 1
    assert np.isnan(fit_beam(psf)).all()


def test_content_of_a_gaussian():
    # Beyond two FWHM lie 2**-16 of a Gaussian.
    assert_allclose(psf_content(gaussian_psf(7, 7), 7.0), 1, atol=2e-3)


def test_content_of_a_pedestal():
    # The wide lobe holds width**2 as much, but for what lies beyond two beams.
    share, width = 0.2, 2.0
    inside = 1 - 2.0 ** (-((2 * 2 / width) ** 2))
    expected = 0.8 + share * width**2 * inside
    assert_allclose(psf_content(pedestal_psf(share, width), 4.25), expected, rtol=0.02)


@pytest.mark.parametrize("axes", [(4.25, 4.25), (4.6, 4.25), (4.25, 3.9)])
def test_psf_of_the_image_is_taken(dirty, axes):
    psf = load_matching_psf(0.98 * gaussian_psf(*axes), like=dirty())
    assert psf.max() == 1


@pytest.mark.parametrize("axes", [(4.8, 4.25), (4.25, 3.7), (8.5, 8.5), (2.2, 2.2)])
def test_psf_of_another_image_is_refused(dirty, axes):
    message = rf"psf has a beam of {axes[0] / 10:.2g}.* the image of 0\.425 x 0\.425 arcsec"
    with pytest.raises(ValueError, match=message):
        load_matching_psf(gaussian_psf(*axes), like=dirty())


@pytest.mark.parametrize("method", ["predict", "sample", "residual"])
def test_foreign_psf_is_refused_before_the_network_runs(local_estimator, dirty, method):
    deconvolver = local_estimator()
    image = dirty([(40.3, 50.7, 0.002)])
    arguments = OPTIONS
    if method == "residual":
        image = (image, CCDData(np.zeros(image.shape), unit=u.Jy / u.pix, wcs=image.wcs))
        arguments = {"primary_beam": 1.0}
    image = image if isinstance(image, tuple) else (image,)
    with pytest.raises(ValueError, match="the PSF belongs to another image"):
        getattr(deconvolver, method)(*image, psf=gaussian_psf(6, 6), **arguments)
    assert deconvolver.denoiser_.calls == 0


@pytest.mark.parametrize(("content", "what"), [(0.5, "too low"), (2.17, "reweighted in the uv")])
def test_psf_unlike_those_of_the_training(content, what):
    with pytest.warns(DiffskyWarning, match=rf"holds {content}0? .* 0\.8 to 1\.7: .*{what}"):
        warn_if_foreign(content)


def test_psf_like_those_of_the_training():
    warn_if_foreign(0.9)  # a warning would be an error
    warn_if_foreign(1.6)


def test_taper_brings_a_pedestal_into_the_range():
    psf = pedestal_psf()
    assert psf_content(psf, np.sqrt(np.prod(fit_beam(psf)))) > 1.7
    steepness, width = find_taper(psf)
    assert steepness > 0.1
    assert 0 < width < 0.1


def test_reweighted_point_keeps_its_flux(dirty):
    psf = pedestal_psf()
    beam = np.sqrt(np.prod(fit_beam(psf)))
    image = dirty(shape=(96, 96), fwhm=beam, noise=False)
    image.data[:] = 0.5 * psf[96 - 40 : 96 - 40 + 96, 96 - 50 : 96 - 50 + 96]  # a point at (50, 40)
    new, new_psf, noise = reweight(image, ~image.mask, psf)
    assert_allclose(new.data[40, 50], 0.5, rtol=0.02)
    assert np.unravel_index(new.data.argmax(), new.shape) == (40, 50)
    fwhm = np.sqrt(np.prod(fit_beam(new_psf)))
    assert_allclose(psf_content(new_psf, fwhm), 1.5, atol=0.05)
    assert fwhm < beam
    assert_allclose(new.meta["beam"].major.to_value(u.arcsec), 0.1 * fit_beam(new_psf)[0])
    assert_allclose(new_psf[SIZE // 2, SIZE // 2], 1)
    assert 1 < noise < 1.3


def test_reweighted_image_keeps_its_mask(dirty):
    psf = pedestal_psf()
    image = dirty(shape=(96, 96), fwhm=np.sqrt(np.prod(fit_beam(psf))))
    valid = np.ones(image.shape, dtype=bool)
    valid[:10] = False
    image.data[:10] = np.nan
    new, _, _ = reweight(image, valid, psf)
    assert (new.mask == ~valid).all()
    assert np.isfinite(new.data[valid]).all()


def test_range_of_the_weights_is_taken(local_estimator, dirty):
    # As wide as those of its training: no warning, which would be an error, and no other beam.
    psf = pedestal_psf()
    beam = np.sqrt(np.prod(fit_beam(psf)))
    image = dirty([(40.3, 50.7, 0.002)], fwhm=beam)
    deconvolver = local_estimator()
    content = psf_content(psf, beam)
    deconvolver.description_["training"] = {"pairs": {"psf_content": [0.9, 1.01 * content]}}
    sky, _ = deconvolver.predict(image, psf=psf, **OPTIONS)
    assert_allclose(sky.meta["beam"].major.to_value(u.arcsec), 0.1 * beam)
    deconvolver.description_["training"] = {"pairs": {"psf_content": [0.9, 1.4]}}
    with pytest.warns(DiffskyWarning, match=r"those of the training 0\.9 to 1\.4: .*reweighted"):
        sky, _ = deconvolver.predict(image, psf=psf, **OPTIONS)
    assert sky.meta["beam"].major.to_value(u.arcsec) < 0.099 * beam


@pytest.mark.parametrize("pa", [0.0, 0.5, 1.6, 2.9])
def test_position_angle_is_east_of_north(pa):
    """North is up, east to the left."""
    y, x = np.indices((65, 65)) - 32
    along, across = y * np.cos(pa) - x * np.sin(pa), y * np.sin(pa) + x * np.cos(pa)
    psf = np.exp(-4 * np.log(2) * ((along / 9) ** 2 + (across / 6) ** 2))
    major, minor, found = fit_beam_shape(psf)
    assert (major, minor) == pytest.approx((9, 6), rel=1e-3)
    assert np.cos(2 * (found - pa)) == pytest.approx(1, abs=1e-4)
