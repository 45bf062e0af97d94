"""Preconditioning: a network becomes a denoiser (V24 eq. 17-21, or D24 eq. 7-8)."""

import torch
from torch import nn

from diffsky.diffusion.ddpm import train_sigmas

__all__ = ["PRECONDITIONINGS", "Denoiser", "EpsilonDenoiser", "build_denoiser"]

PRECONDITIONINGS = ("edm", "ddpm")


class Denoiser(nn.Module):
    """Denoiser D(x; sigma | condition) around a network F.

    D = c_skip x + c_out F(c_in x, condition; c_noise), V24 eq. 17. Samplers and training see
    this class alone and know nothing of the network.

    Parameters
    ----------
    network : `torch.nn.Module`
        Called as ``network(channels, c_noise)`` with the scaled image and the condition
        concatenated, or as ``network(channels, c_noise, context)``.
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
            Shape (n, condition channels, ny, nx) for images, or (n, length) for a context vector.

        Returns
        -------
        denoised : `torch.Tensor`
            Same shape as ``x``, float32.
        """
        sigma = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(x.shape[0])
        c_skip, c_out, c_in, c_noise = self.coefficients(sigma)
        channels, context = c_in[:, None, None, None] * x, ()
        if condition is not None and condition.ndim == 2:
            context = (condition,)
        elif condition is not None:
            channels = torch.cat([channels, condition], dim=1)
        channels = channels.contiguous(memory_format=torch.channels_last)
        output = self.network(channels, c_noise, *context).float()
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


class EpsilonDenoiser(Denoiser):
    """Denoiser around a network that predicts the noise of DDPM (D24 eq. 7 and 8).

    The network g(x_t, z, t) of the variance-preserving process x_t = sqrt(a) x_0 + sqrt(1 - a) eps
    estimates eps. Divided by sqrt(a), x_t is what every sampler of this package works on:
    x = x_0 + sigma eps with sigma = sqrt((1 - a) / a). So the noise-free estimate is
    D(x; sigma | z) = x - sigma g(x / sqrt(1 + sigma^2), z, t(sigma)), which is V24 eq. 17 with
    c_skip = 1, c_out = -sigma, c_in = 1 / sqrt(1 + sigma^2) = sqrt(a) and c_noise = t. The weighted
    loss of V24 eq. 22, (D - x_0)^2 / c_out^2, is then (g - eps)^2, D24 eq. 8.

    Parameters
    ----------
    network : `torch.nn.Module`
        Called as ``network(channels, step)`` with the scaled image and the condition
        concatenated, and the time step, 0 to 999.
    limit : float or None, optional
        Outside training, estimates are kept within -limit to limit, the range of the targets (D24
        eq. 2), as the samplers of Palette do: the error of the noise counts sigma-fold, and sigma
        goes up to 157. None leaves them.
    """

    def __init__(self, network, *, limit=1.0):
        super().__init__(network)
        self.limit = limit
        self.register_buffer("_levels", train_sigmas().log().float(), persistent=False)

    def forward(self, x, sigma, condition=None):
        """Estimate the noise-free image.

        Parameters
        ----------
        x : `torch.Tensor`
            Shape (n, channels, ny, nx): target plus Gaussian noise of level ``sigma``.
        sigma : `torch.Tensor`
            Shape (n,) or a scalar, larger than 0.
        condition : `torch.Tensor` or None, optional
            Shape (n, condition channels, ny, nx) for images, or (n, length) for a context vector.

        Returns
        -------
        denoised : `torch.Tensor`
            Same shape as ``x``, float32.
        """
        denoised = super().forward(x, sigma, condition)
        if self.training or self.limit is None:
            return denoised
        return denoised.clamp(-self.limit, self.limit)

    def coefficients(self, sigma):
        """Coefficients of V24 eq. 17 that make it D24 eq. 7: see the class.

        Parameters
        ----------
        sigma : `torch.Tensor`
            Noise levels above 0, of any shape. Between the levels of two steps the step is
            interpolated in ln sigma; beyond the first and the last one it is that one.

        Returns
        -------
        c_skip, c_out, c_in, c_noise : `torch.Tensor`
            Same shape as ``sigma``.
        """
        # The network alone may have been moved to another device.
        self._levels = levels = self._levels.to(sigma.device)
        level = sigma.float().log().contiguous()
        above = torch.searchsorted(levels, level).clamp(1, len(levels) - 1)
        low, high = levels[above - 1], levels[above]
        step = (above - 1 + (level - low) / (high - low)).clamp(0, len(levels) - 1)
        c_in = (1 + sigma**2).rsqrt()
        return torch.ones_like(sigma), -sigma, c_in, step.to(sigma.dtype)


def build_denoiser(network, *, preconditioning="edm", sigma_data=None):
    """Make the denoiser of a preset.

    Parameters
    ----------
    network : `torch.nn.Module`
        From `diffsky.diffusion.build_network`.
    preconditioning : {"edm", "ddpm"}, optional
        `Denoiser`, or `EpsilonDenoiser`.
    sigma_data : float or None, optional
        Standard deviation of the targets, which ``"edm"`` needs.

    Returns
    -------
    denoiser : `Denoiser`
        Around the network.

    Raises
    ------
    ValueError
        If there is no such preconditioning, or ``sigma_data`` is missing.
    """
    if preconditioning not in PRECONDITIONINGS:
        raise ValueError(
            f"preconditioning is {preconditioning!r}; expected one of {', '.join(PRECONDITIONINGS)}"
        )
    if preconditioning == "ddpm":
        return EpsilonDenoiser(network)
    if sigma_data is None:
        raise ValueError("sigma_data is None; expected the deviation of the targets, for 'edm'")
    return Denoiser(network, sigma_data=sigma_data)
