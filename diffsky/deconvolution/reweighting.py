"""Make an image look like those of the training, by other weights in the uv plane.

A PSF with a wide pedestal comes of visibilities that crowd at short baselines. A network that has
never seen one takes the pedestal of a source for its extent, and its flux for more. Weighing the
short baselines less, as robust weighting does, is a multiplication in the uv plane, which the image
and its PSF can undergo without the visibilities. It costs some noise and narrows the beam.
"""

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData
from radio_beam import Beam

from diffsky.deconvolution.psf_checks import fit_beam, psf_content

__all__ = ["find_taper", "reweight"]

_CONTENT = 1.5  # beam areas within two beams, inside the range of most trainings
_WIDTH = 0.18  # cycles per beam: where the taper ends
_CORE = 16  # beams: half of the part of the PSF that decides the taper
_STEEPEST, _HALVINGS = 300.0, 30


def reweight(image, valid, psf, *, content=_CONTENT):
    """Weigh the short baselines of an image less.

    Parameters
    ----------
    image : `astropy.nddata.CCDData`
        Dirty image, as `diffsky.images.load_image` returns it.
    valid : `numpy.ndarray`
        Shape of the image, True where there is data; elsewhere it counts as 0.
    psf : `numpy.ndarray`
        Its PSF, with its peak of 1 at (my // 2, mx // 2).
    content : float, optional
        Beam areas that the new PSF shall hold within two beams. Default 1.5.

    Returns
    -------
    image : `astropy.nddata.CCDData`
        The image in Jy per new beam. ``meta`` holds the beam, its position angle that of before.
    psf : `numpy.ndarray`
        Its PSF, shape as it was, its peak of 1.
    noise : float
        New noise rms over the old one, for noise of natural weights.
    """
    beam, pixel = image.meta["beam"], image.meta["pixel_scale"]
    steepness, width = find_taper(psf, content=content)
    size = max(2 * max(image.shape), *psf.shape)
    size += size % 2
    taper = _taper(size, steepness, width)
    centre = [n // 2 for n in psf.shape]
    plane = np.zeros((size, size))
    plane[: psf.shape[0], : psf.shape[1]] = psf
    weights = np.fft.rfft2(np.roll(plane, [-c for c in centre], (0, 1))).real
    new_psf = np.roll(np.fft.irfft2(weights * taper, s=(size, size)), centre, (0, 1))
    new_psf = new_psf[: psf.shape[0], : psf.shape[1]]
    peak = new_psf[tuple(centre)]
    data = np.where(valid, image.data, 0)
    spectrum = np.fft.rfft2(data, s=(size, size)) * (taper / peak)
    data = np.fft.irfft2(spectrum, s=(size, size))[: image.shape[0], : image.shape[1]]
    positive = _both_halves(weights.clip(min=0))
    noise = np.sqrt((positive * taper**2).sum() / positive.sum()) / peak
    major, minor = (fwhm * pixel for fwhm in fit_beam(new_psf / peak))
    new = CCDData(
        np.where(valid, data, np.nan).astype(np.float32),
        unit=u.Jy / u.beam,
        wcs=image.wcs,
        mask=~valid,
        meta={"beam": Beam(major=major, minor=minor, pa=beam.pa)},
    )
    return new, new_psf / peak, float(noise)


def find_taper(psf, *, content=_CONTENT):
    """Find the taper 1 / (1 + a exp(-(k / w)^2)) that brings a PSF into the range of the training.

    Parameters
    ----------
    psf : `numpy.ndarray`
        Shape (my, mx), its peak of 1 at (my // 2, mx // 2).
    content : float, optional
        Beam areas that the new PSF shall hold within two beams. Default 1.5.

    Returns
    -------
    steepness : float
        a, 0 or more, with which the new PSF holds ``content``.
    width : float
        w in cycles per pixel.
    """
    beam = np.sqrt(np.prod(fit_beam(psf)))
    width = _WIDTH / beam
    half = int(min(_CORE * beam, *(n // 2 - 1 for n in psf.shape)))
    rows, columns = (slice(n // 2 - half, n // 2 + half) for n in psf.shape)
    spectrum = np.fft.rfft2(psf[rows, columns], s=(4 * half, 4 * half))
    low, high = 0.0, _STEEPEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        plane = np.fft.irfft2(spectrum * _taper(4 * half, middle, width))[: 2 * half, : 2 * half]
        plane /= plane[half, half]
        held = psf_content(plane, np.sqrt(np.prod(fit_beam(plane))))
        low, high = (middle, high) if held > content else (low, middle)
    return high, width


def _taper(n, steepness, width):
    square = np.fft.fftfreq(n)[:, None] ** 2 + np.fft.rfftfreq(n) ** 2
    return 1 / (1 + steepness * np.exp(-square / width**2))


def _both_halves(half_plane):
    """Count the columns of rfft2 that stand for their mirror images twice."""
    twice = half_plane.copy()
    twice[:, 1:-1] *= 2
    return twice
