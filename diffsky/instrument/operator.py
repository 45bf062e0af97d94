"""The instrument: a linear operator from the sky to the dirty image, in torch.

With gridded uv weights W on an N x N grid around the field,

    dirty = crop[F^-1 (W F pad(A s))] / mean(W),

where A is the primary beam and the division makes the peak of the PSF one. W is the transform of
the PSF out to the largest offset between two pixels of the field; it can be negative in places,
since a PSF that ends is not that of any visibilities. The noise has weights of its own, the gridded
variances of the visibilities: F^-1 (sqrt(V) F white), scaled to the rms.
"""

import math
from dataclasses import dataclass, replace

import torch

from diffsky.backend import draw_normal

__all__ = ["Instrument", "grid_size_for"]

# A kernel of 0.4 beams passes more than this at every frequency that shapes the beam.
_LEAST_RESPONSE = 0.02


@dataclass(frozen=True, eq=False)
class Instrument:
    """What an interferometer does to a sky of fixed pixel grid.

    Use `instrument_from_setup`, `instrument_from_uv`, `instrument_from_measurement_set` or
    `instrument_from_images` to make one.

    Parameters
    ----------
    weights : `torch.Tensor`
        Shape (..., N, N // 2 + 1), real: gridded uv weights in the order of `torch.fft.rfft2`.
        Leading axes hold several instruments, one for each image of a batch.
    primary_beam : `torch.Tensor`
        Shape (..., ny, nx): response between 0 and 1.
    rms : float
        Noise rms of the dirty image in Jy/beam (or in the unit of the sky per beam).
    noise_weights : `torch.Tensor` or None, optional
        Shape of ``weights``, 0 or more: power of the noise in the cells of the grid, to any
        scale. None takes ``weights``, which is right for natural weighting; negative ones count
        as 0.

    Notes
    -----
    Every method takes skies of shape (..., ny, nx) in Jy/pix and is differentiable.
    """

    weights: torch.Tensor
    primary_beam: torch.Tensor
    rms: float
    noise_weights: torch.Tensor | None = None

    def __post_init__(self):
        n = self.weights.shape[-2]
        if self.weights.shape[-1] != n // 2 + 1 or n % 2:
            raise ValueError(
                f"weights have shape {tuple(self.weights.shape)}; expected (N, N // 2 + 1), N even"
            )
        if self.noise_weights is not None and self.noise_weights.shape != self.weights.shape:
            raise ValueError(
                f"noise_weights have shape {tuple(self.noise_weights.shape)}; expected that of "
                f"weights, {tuple(self.weights.shape)}"
            )
        if self.primary_beam.ndim < 2 or max(self.shape) > n:
            raise ValueError(
                f"primary_beam has shape {tuple(self.primary_beam.shape)}; "
                f"expected two axes of at most {n} pixels"
            )
        if not self.rms >= 0:
            raise ValueError(f"rms is {self.rms}; expected a number of 0 or more")

    @property
    def shape(self):
        """tuple of int : (ny, nx) of the field."""
        return tuple(self.primary_beam.shape[-2:])

    @property
    def grid_size(self):
        """int : N, pixels along one side of the uv grid's image."""
        return self.weights.shape[-2]

    @property
    def device(self):
        """`torch.device` : where the operator computes."""
        return self.weights.device

    def to(self, device):
        """Copy the instrument to a device.

        Parameters
        ----------
        device : str or `torch.device`
            Where the copy computes: ``"cuda"``, ``"mps"``, ``"cpu"`` or an indexed device.

        Returns
        -------
        instrument : `Instrument`
            The same weights, primary beam and rms there.
        """
        names = ("weights", "primary_beam", "noise_weights")
        tensors = {name: getattr(self, name) for name in names}
        moved = {name: t.to(device) for name, t in tensors.items() if t is not None}
        return replace(self, **moved)

    def forward(self, sky, *, kernel_fwhm=0.0):
        """Observe a sky without noise.

        Parameters
        ----------
        sky : `torch.Tensor`
            Shape (..., ny, nx), true sky in Jy/pix.
        kernel_fwhm : float, optional
            FWHM in pixels of a Gaussian that the sky was convolved with; it is divided out.

        Returns
        -------
        dirty : `torch.Tensor`
            Same shape, in Jy/beam: a 1 Jy point source at the centre of the primary beam has a
            peak of 1 Jy/beam.
        """
        return self.convolve(sky * self.primary_beam, kernel_fwhm=kernel_fwhm)

    def observe(self, sky, generators, *, kernel_fwhm=0.0):
        """Observe a sky with noise.

        Parameters
        ----------
        sky : `torch.Tensor`
            Shape (n, ny, nx), true sky in Jy/pix.
        generators : sequence of `torch.Generator`
            One CPU stream per image, from `diffsky.backend.sample_generator`.
        kernel_fwhm : float, optional
            FWHM in pixels of a Gaussian that the sky was convolved with; it is divided out.

        Returns
        -------
        dirty : `torch.Tensor`
            Same shape, in Jy/beam.
        """
        spectrum = self._convolved_spectrum(sky * self.primary_beam, kernel_fwhm)
        return self._crop(spectrum + self._noise_spectrum(generators))

    def convolve(self, apparent, *, kernel_fwhm=0.0):
        """Convolve an apparent sky with the PSF.

        Parameters
        ----------
        apparent : `torch.Tensor`
            Shape (..., ny, nx), sky times primary beam in Jy/pix.
        kernel_fwhm : float, optional
            FWHM in pixels of a Gaussian that the sky was convolved with; it is divided out,
            at the spatial frequencies that the instrument measures.

        Returns
        -------
        dirty : `torch.Tensor`
            Same shape, in Jy/beam.
        """
        return self._crop(self._convolved_spectrum(apparent, kernel_fwhm))

    def adjoint(self, dirty):
        """Apply the transpose of `forward`.

        Parameters
        ----------
        dirty : `torch.Tensor`
            Shape (..., ny, nx), in Jy/beam.

        Returns
        -------
        sky : `torch.Tensor`
            Same shape. W is real and the PSF symmetric, so this is the primary beam times the
            PSF convolved with the image.
        """
        return self.primary_beam * self.convolve(dirty)

    def noise(self, generators):
        """Draw noise images.

        Parameters
        ----------
        generators : sequence of `torch.Generator`
            One CPU stream per image, from `diffsky.backend.sample_generator`.

        Returns
        -------
        noise : `torch.Tensor`
            Shape (len(generators), ny, nx) in Jy/beam. Of natural weights, its covariance is
            rms**2 x PSF.
        """
        return self._crop(self._noise_spectrum(generators))

    def psf(self, shape=None):
        """Point spread function.

        Parameters
        ----------
        shape : tuple of int or None, optional
            (ny, nx) of the image; None takes twice the field less one, which holds every
            offset between two pixels of the field; the PSF fades out beyond these.

        Returns
        -------
        psf : `torch.Tensor`
            Peak one at pixel (ny // 2, nx // 2).
        """
        ny, nx = shape or tuple(2 * n - 1 for n in self.shape)
        grid = (self.grid_size, self.grid_size)
        if max(ny, nx) > self.grid_size:
            raise ValueError(f"psf of {ny} x {nx} pixels; expected at most {self.grid_size}")
        image = torch.fft.irfft2(self.weights / _plane_mean(self.weights) + 0j, s=grid)
        image = torch.fft.fftshift(image, dim=(-2, -1))
        cy, cx = self.grid_size // 2 - ny // 2, self.grid_size // 2 - nx // 2
        return image[..., cy : cy + ny, cx : cx + nx]

    def _convolved_spectrum(self, apparent, kernel_fwhm):
        response = self.weights / _plane_mean(self.weights)
        if kernel_fwhm:
            response = response / _gaussian_response(kernel_fwhm, response).clamp(
                min=_LEAST_RESPONSE
            )
        return torch.fft.rfft2(apparent, s=(self.grid_size, self.grid_size)) * response

    def _noise_spectrum(self, generators):
        """White noise of the half plane times the root of its power.

        The inverse transform keeps the Hermitian part of the first and the last column alone,
        which holds half of their power; the other columns stand for their mirror images too.
        """
        n = self.grid_size
        power = self.weights if self.noise_weights is None else self.noise_weights
        power = power.clamp(min=0)
        amplitude = self.rms * n * torch.sqrt(power / (2 * _plane_mean(power)))
        edges = torch.ones(n // 2 + 1, device=self.device)
        edges[[0, -1]] = 2**0.5
        white = draw_normal(generators, (n, n // 2 + 1, 2), self.device)
        return torch.view_as_complex(white) * (amplitude * edges)

    def _crop(self, spectrum):
        ny, nx = self.shape
        image = torch.fft.irfft2(spectrum, s=(self.grid_size, self.grid_size))
        return image[..., :ny, :nx]


def _plane_mean(half_plane):
    """Mean over the whole uv plane: columns of rfft2 between the first and the last count twice."""
    n = half_plane.shape[-2]
    exact = torch.float32 if half_plane.device.type == "mps" else torch.float64  # mps has no more
    twice = half_plane[..., 1 : n // 2].sum((-2, -1), dtype=exact)
    once = half_plane[..., [0, n // 2]].sum((-2, -1), dtype=exact)
    return ((2 * twice + once) / n**2).float()[..., None, None]


def _gaussian_response(fwhm, half_plane):
    """Fourier transform of a Gaussian of unit sum on the half plane of rfft2."""
    n = half_plane.shape[-2]
    ky = torch.fft.fftfreq(n, device=half_plane.device)[:, None]
    kx = torch.fft.rfftfreq(n, device=half_plane.device)[None, :]
    return torch.exp(-(math.pi**2) * fwhm**2 * (kx**2 + ky**2) / (4 * math.log(2)))


def grid_size_for(shape, padding=4):
    """Side of the uv grid's image for a field.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the field.
    padding : float, optional
        Grid over field. From 2 on the PSF does not wrap around; 4 gives the noise of nearby cells
        its own place.

    Returns
    -------
    n : int
        An even number of the form 2**i or 3 x 2**i.
    """
    least = padding * max(shape)
    powers = [factor * 2**i for factor in (1, 3) for i in range(1, int(math.log2(least)) + 2)]
    return min(n for n in powers if n >= least)
