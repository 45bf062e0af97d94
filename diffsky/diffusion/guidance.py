"""Classifier-free guidance: how strongly a sample follows its context (V24 section 2.3)."""

import functools

import torch

__all__ = ["guide"]


def guide(denoiser, context, strength=0.0):
    """Denoiser of a context with guidance.

    D(x; sigma) = (1 + w) D(x; sigma | c) - w D(x; sigma | none). V24 eq. 8 prints a plus sign, with
    which the estimate of a constant image would be 1 + 2 w times too bright.

    Parameters
    ----------
    denoiser : `diffsky.diffusion.Denoiser`
        Around a network with a context.
    context : `torch.Tensor`
        Shape (n, length); rows with NaN stand for no context.
    strength : float, optional
        The w of V24, 0 or more. 0, the default, asks the network once a step, others twice.

    Returns
    -------
    denoise : callable
        ``denoise(x, sigma)`` for ``x`` of shape (n, channels, ny, nx).

    Raises
    ------
    ValueError
        If ``strength`` is negative or no number.
    """
    if not 0 <= strength < float("inf"):
        raise ValueError(f"guidance is {strength!r}; expected a number of 0 or more")
    if strength == 0:
        return functools.partial(denoiser, condition=context)
    both = torch.cat([context, torch.full_like(context, float("nan"))])
    return functools.partial(_guided, denoiser, both, strength)


def _guided(denoiser, both, strength, x, sigma):
    """Denoise with both contexts in one call, and go on in the direction from the second one."""
    sigma = torch.as_tensor(sigma, device=x.device).expand(len(x))
    estimates = denoiser(torch.cat([x, x]), torch.cat([sigma, sigma]), both)
    conditioned, free = estimates.chunk(2)
    return conditioned + strength * (conditioned - free)
