"""EDM preconditioning: a network becomes a denoiser (V24 eq. 17-21)."""

import torch
from torch import nn

__all__ = ["Denoiser"]


class Denoiser(nn.Module):
    """Denoiser D(x; sigma | condition) around a network F.

    D = c_skip x + c_out F(c_in x, condition; c_noise), V24 eq. 17. Samplers and training see
    this class alone and know nothing of the network.

    Parameters
    ----------
    network : `torch.nn.Module`
        Called as ``network(channels, c_noise)`` with the scaled image and the condition
        concatenated.
    sigma_data : float, optional
        Standard deviation of the targets, V24 use 0.5.
    """

    def __init__(self, network, *, sigma_data=0.5):
        super().__init__()
        self.network = network
        self.sigma_data = sigma_data

    def forward(self, x, sigma, condition=None):
        """Estimate the noise-free image.

        Parameters
        ----------
        x : `torch.Tensor`
            Shape (n, channels, ny, nx): target plus Gaussian noise of level ``sigma``.
        sigma : `torch.Tensor`
            Shape (n,) or a scalar, larger than 0.
        condition : `torch.Tensor` or None, optional
            Shape (n, condition channels, ny, nx).

        Returns
        -------
        denoised : `torch.Tensor`
            Same shape as ``x``, float32.
        """
        sigma = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(x.shape[0])
        c_skip, c_out, c_in, c_noise = self.coefficients(sigma)
        channels = c_in[:, None, None, None] * x
        if condition is not None:
            channels = torch.cat([channels, condition], dim=1)
        channels = channels.contiguous(memory_format=torch.channels_last)
        output = self.network(channels, c_noise).float()
        return c_skip[:, None, None, None] * x + c_out[:, None, None, None] * output

    def coefficients(self, sigma):
        """Coefficients of V24 eq. 18-21.

        With s = sigma_data: c_skip = s^2 / (sigma^2 + s^2), c_out = sigma s / sqrt(sigma^2 + s^2),
        c_in = 1 / sqrt(sigma^2 + s^2), c_noise = ln(sigma) / 4.

        Parameters
        ----------
        sigma : `torch.Tensor`
            Noise levels above 0, in the unit of the targets, of any shape.

        Returns
        -------
        c_skip, c_out, c_in, c_noise : `torch.Tensor`
            Same shape as ``sigma``.
        """
        total = sigma**2 + self.sigma_data**2
        c_skip = self.sigma_data**2 / total
        c_out = sigma * self.sigma_data / total.sqrt()
        return c_skip, c_out, total.rsqrt(), sigma.log() / 4
