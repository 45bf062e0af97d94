"""A bank of instruments that keeps the measured uv cells alone, for many pairs at once."""

import torch

from diffsky.instrument.operator import _LEAST_RESPONSE, _gaussian_response, _plane_mean

__all__ = ["UVBank"]


class UVBank:
    """What `~diffsky.instrument.Instrument` does to images of many instruments, on their uv cells.

    An interferometer measures a few hundredths of the cells of its grid. Noise is drawn for
    these alone, and columns without any are not transformed.

    Parameters
    ----------
    weights, noise_weights : `torch.Tensor`
        Shape (n, N, N // 2 + 1): gridded uv weights, and the power of the noise in the same
        cells, as for `Instrument`.
    kernel_fwhm : float
        FWHM in pixels of the Gaussian that the skies are convolved with; it is divided out.
    device : str or `torch.device`
        Where the bank computes.
    """

    def __init__(self, weights, noise_weights, kernel_fwhm, device):
        weights, noise_weights = weights.cpu(), noise_weights.cpu().clamp(min=0)
        measured = (weights != 0) | (noise_weights != 0)
        self._n = n = weights.shape[1]
        self._columns = int(measured.any(0).any(0).nonzero().max()) + 1
        size = int(measured.sum((1, 2)).max())
        self._cells = torch.zeros(len(weights), size, dtype=torch.long)
        self._response, self._amplitude = (torch.zeros(len(weights), size) for _ in range(2))
        edges = torch.ones(n // 2 + 1)
        edges[[0, -1]] = 2**0.5  # the inverse transform halves their power
        for place, (plane, power) in enumerate(zip(weights, noise_weights, strict=True)):
            rows, columns = torch.nonzero(measured[place], as_tuple=True)
            response = plane / _plane_mean(plane)
            if kernel_fwhm:
                gaussian = _gaussian_response(kernel_fwhm, plane)
                response = response / gaussian.clamp(min=_LEAST_RESPONSE)
            amplitude = n * torch.sqrt(power / (2 * _plane_mean(power))) * edges
            end = len(rows)
            self._cells[place, :end] = rows * self._columns + columns
            self._response[place, :end] = response[rows, columns]
            self._amplitude[place, :end] = amplitude[rows, columns]
        for name in ("_cells", "_response", "_amplitude"):
            setattr(self, name, getattr(self, name).to(device))

    def observe(self, apparent, choice, streams=None, purpose=None):
        """Dirty images with noise of unit rms.

        Parameters
        ----------
        apparent : `torch.Tensor`
            Shape (n, ny, nx): skies times primary beams in rms per pixel.
        choice : `torch.Tensor`
            Shape (n,): the instrument of each.
        streams : `~diffsky.simulation.counter.CounterStreams` or None, optional
            One for each image; None observes without noise.
        purpose : int or None, optional
            Which of its numbers make the noise.

        Returns
        -------
        dirty : `torch.Tensor`
            Shape (n, ny, nx) in rms per beam.
        """
        cells, n = self._cells[choice], self._n
        cells = cells[:, :, None].expand(-1, -1, 2)
        rows = torch.fft.rfft(apparent, n=n, dim=-1)[..., : self._columns]
        plane = torch.view_as_real(torch.fft.fft(rows, n=n, dim=-2)).flatten(1, 2)
        values = plane.gather(1, cells) * self._response[choice][:, :, None]
        if streams is not None:
            white = streams.complex_normal(purpose, cells.shape[1])
            values = values + white * self._amplitude[choice][:, :, None]
        # Instruments with fewer cells than the largest add zeros to the first.
        plane = torch.zeros_like(plane).scatter_add_(1, cells, values)
        plane = torch.view_as_complex(plane.unflatten(1, (n, self._columns)))
        rows = torch.fft.ifft(plane, dim=-2)[:, : apparent.shape[1]]
        return torch.fft.irfft(rows, n=n, dim=-1)[..., : apparent.shape[2]]
