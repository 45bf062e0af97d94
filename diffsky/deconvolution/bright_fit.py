"""Fit the sky of bright sources to the data, given the PSF.

A sample of a bright sky says where there is flux and how it is distributed below the beam; its
flux and position are known to a few per cent, the data know them to the noise. The sky becomes
s (1 + g), where g is a Gaussian field of unit variance and `_CORRELATION` beams, and g maximises
the posterior given the dirty image. With natural weighting the likelihood of a sky convolved with
the kernel K has the precision K^-1 P K^-1, P being the PSF, so that the equations to solve hold one
unknown for every pixel of the bright sources alone.
"""

import math

import numpy as np
import torch

from diffsky.deconvolution.grid import resample, resampling_matrix
from diffsky.instrument.constructors import instrument_from_images
from diffsky.instrument.operator import _gaussian_response, _plane_mean

__all__ = ["BrightFit", "working_instrument"]

_CORRELATION = 1.4  # beams, FWHM
_ROUNDS = 8
_MOST_PIXELS = 1200
_FAINTEST = 1e-4  # of the brightest pixel
# A kernel of 0.4 beams passes more than this wherever a PSF has power; beyond, the edges of an
# image would be sharpened.
_LEAST_RESPONSE = 0.3


def working_instrument(psf, grid):
    """Bring a PSF to the working grid.

    Parameters
    ----------
    psf : `numpy.ndarray`
        Shape (my, mx): PSF on the pixels of the image, its peak at (my // 2, mx // 2).
    grid : `diffsky.deconvolution.grid.WorkingGrid`
        The working grid in the image.

    Returns
    -------
    instrument : `diffsky.instrument.Instrument`
        Without primary beam, of unit rms, on the shape of the working grid. Offsets beyond the
        PSF count as zero.
    """
    matrices = []
    for n, length in zip(psf.shape, grid.working_shape, strict=True):
        half = min(int((n // 2 - 1) / grid.zoom), length)
        positions = n // 2 + np.arange(-half, half + 1) * grid.zoom
        matrices.append(resampling_matrix(n, positions, conserve="intensity"))
    small = resample(np.asarray(psf, dtype=float), *matrices)
    return instrument_from_images(small / small.max(), np.ones(grid.working_shape), rms=1.0)


class BrightFit:
    """Fits and observes skies on the working grid.

    Parameters
    ----------
    instrument : `diffsky.instrument.Instrument`
        As `working_instrument` makes it.
    kernel_fwhm, beam_fwhm : float
        FWHM of the target kernel and of the beam in working pixels.
    rms : `numpy.ndarray`
        Shape (height, width): noise rms in any unit; only its shape counts. 0 where there is no
        data.
    """

    def __init__(self, instrument, *, kernel_fwhm, beam_fwhm, rms):
        self._instrument, self._kernel = instrument, kernel_fwhm
        self._correlation = _CORRELATION * beam_fwhm
        self._beam = beam_fwhm
        self._rms = torch.from_numpy(np.asarray(rms / rms.max(), dtype=np.float32))
        n = instrument.grid_size
        weights = instrument.weights / _plane_mean(instrument.weights)
        kernel = _gaussian_response(kernel_fwhm, weights).clamp(min=_LEAST_RESPONSE)
        self._sharper = 1 / kernel
        # Negative weights are those of a PSF that ends. They may not enter the precision; the
        # model has them, and the rounds bring the fit to what the model says.
        precision = weights.clamp(min=0) / kernel**2
        self._precision = torch.fft.irfft2(precision + 0j, s=(n, n)).double()

    @property
    def largest_sidelobe(self):
        """float : largest value of the PSF beyond two beams, its peak being 1."""
        psf = self._instrument.psf()
        y, x = (torch.arange(n) - n // 2 for n in psf.shape)
        return float(psf[torch.hypot(y.float()[:, None], x.float()) > 2 * self._beam].max())

    def observe(self, sky):
        """Observe skies without noise.

        Parameters
        ----------
        sky : `torch.Tensor`
            Shape (..., height, width): apparent sky per working pixel in units of the rms.

        Returns
        -------
        dirty : `torch.Tensor`
            Same shape: dirty image over rms, 0 where there is no data.
        """
        if sky.ndim > 2:
            return _one_by_one(self.observe, sky)
        seen = self._instrument.convolve(sky * self._rms, kernel_fwhm=self._kernel)
        return torch.where(self._rms > 0, seen / self._rms, 0.0)

    def noise(self, generators):
        """Draw noise of unit rms.

        Parameters
        ----------
        generators : sequence of `torch.Generator`
            One stream for each image.

        Returns
        -------
        noise : `torch.Tensor`
            Shape (len(generators), height, width), 0 where there is no data.
        """
        draw = self._instrument.noise
        return _one_by_one(lambda one: torch.where(self._rms > 0, draw([one])[0], 0.0), generators)

    def fit(self, sky, dirty):
        """Fit one sky to a dirty image.

        Parameters
        ----------
        sky : `torch.Tensor`
            Shape (height, width): bright sources, 0 elsewhere; only what is above 0 changes.
        dirty : `torch.Tensor`
            Shape (height, width): dirty image over rms, 0 where there is no data.

        Returns
        -------
        sky : `torch.Tensor`
            Same shape. Of skies with more than 1200 pixels the brightest 1200 are fitted.
        """
        rows, columns = _brightest_pixels(sky)
        base = sky[rows, columns].double()
        dy, dx = rows[:, None] - rows, columns[:, None] - columns
        field = torch.exp(-4 * math.log(2) * (dy**2 + dx**2).double() / self._correlation**2)
        covariance = base[:, None] * field * base
        n = self._instrument.grid_size
        precision = self._precision[dy % n, dx % n]
        solver = torch.linalg.lu_factor(precision @ covariance + torch.eye(len(base)).double())
        result, dual = sky.clone(), torch.zeros_like(base)
        for _ in range(_ROUNDS):
            left = self._sharpen(dirty - self.observe(result))[rows, columns].double()
            dual += torch.linalg.lu_solve(*solver, (left - dual)[:, None])[:, 0]
            result[rows, columns] = (base + covariance @ dual).float()
        return result

    def _sharpen(self, dirty):
        (ny, nx), n = self._instrument.shape, self._instrument.grid_size
        spectrum = torch.fft.rfft2(dirty, s=(n, n)) * self._sharper
        return torch.fft.irfft2(spectrum, s=(n, n))[..., :ny, :nx]


def _one_by_one(function, images):
    """Stack what a function makes of each image: the padded grid of one is all that it takes."""
    return torch.stack([function(image) for image in images])


def _brightest_pixels(sky):
    rows, columns = torch.nonzero(sky > _FAINTEST * sky.max(), as_tuple=True)
    if len(rows) > _MOST_PIXELS:
        order = torch.argsort(sky[rows, columns], descending=True, stable=True)[:_MOST_PIXELS]
        rows, columns = rows[order], columns[order]
    return rows, columns
