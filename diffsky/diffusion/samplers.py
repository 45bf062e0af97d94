"""Samplers: plain functions that carry noise to a sample with a denoiser.

All of them solve dx/dsigma = (x - D(x; sigma)) / sigma (V24 eq. 24) over given noise levels.
"""

import torch

__all__ = ["SAMPLERS", "get_sampler", "sample_dpmpp_2m", "sample_euler", "sample_heun"]


def sample_euler(denoiser, x, sigmas, *, callback=None):
    """Euler's method: one network call a step.

    Parameters
    ----------
    denoiser : callable
        ``denoiser(x, sigma)`` gives the noise-free estimate.
    x : `torch.Tensor`
        Gaussian noise of standard deviation ``sigmas[0]``.
    sigmas : `torch.Tensor`
        Shape (N + 1,): decreasing levels, the last one 0.
    callback : callable or None, optional
        Called as ``callback(step)`` after each step.

    Returns
    -------
    x : `torch.Tensor`
        The sample.
    """
    for i, (sigma, following) in enumerate(_steps(sigmas)):
        x = x + (following - sigma) * (x - denoiser(x, sigma)) / sigma
        _report(callback, i)
    return x


def sample_heun(denoiser, x, sigmas, *, callback=None):
    """Heun's second-order method, V24 algorithm 1: 2 N - 1 network calls.

    Parameters
    ----------
    denoiser : callable
        ``denoiser(x, sigma)`` gives the noise-free estimate.
    x : `torch.Tensor`
        Gaussian noise of standard deviation ``sigmas[0]``.
    sigmas : `torch.Tensor`
        Shape (N + 1,): decreasing levels, the last one 0.
    callback : callable or None, optional
        Called as ``callback(step)`` after each step.

    Returns
    -------
    x : `torch.Tensor`
        The sample.
    """
    for i, (sigma, following) in enumerate(_steps(sigmas)):
        slope = (x - denoiser(x, sigma)) / sigma
        guess = x + (following - sigma) * slope
        if following > 0:
            slope = (slope + (guess - denoiser(guess, following)) / following) / 2
            guess = x + (following - sigma) * slope
        x = guess
        _report(callback, i)
    return x


def sample_dpmpp_2m(denoiser, x, sigmas, *, callback=None):
    """DPM-Solver++(2M) of Lu et al. (2022), arXiv:2211.01095: one network call a step.

    A second-order multistep method in lambda = -ln sigma that keeps the last estimate.

    Parameters
    ----------
    denoiser : callable
        ``denoiser(x, sigma)`` gives the noise-free estimate.
    x : `torch.Tensor`
        Gaussian noise of standard deviation ``sigmas[0]``.
    sigmas : `torch.Tensor`
        Shape (N + 1,): decreasing levels, the last one 0.
    callback : callable or None, optional
        Called as ``callback(step)`` after each step.

    Returns
    -------
    x : `torch.Tensor`
        The sample.
    """
    previous, last_step = None, None
    for i, (sigma, following) in enumerate(_steps(sigmas)):
        denoised = denoiser(x, sigma)
        if following == 0:
            x = denoised
        else:
            step = torch.log(sigma / following)
            target = denoised
            if previous is not None:
                target = denoised + (denoised - previous) * step / (2 * last_step)
            ratio = following / sigma
            x = ratio * x + (1 - ratio) * target
            previous, last_step = denoised, step
        _report(callback, i)
    return x


SAMPLERS = {"heun": sample_heun, "euler": sample_euler, "dpmpp-2m": sample_dpmpp_2m}


def get_sampler(name):
    """Find a sampler by its name.

    Parameters
    ----------
    name : {"heun", "euler", "dpmpp-2m"}
        Name, one of the keys of ``SAMPLERS``.

    Returns
    -------
    sampler : callable
        ``sampler(denoiser, x, sigmas, callback=None)``: `sample_heun`, `sample_euler` or
        `sample_dpmpp_2m`.

    Raises
    ------
    ValueError
        If there is no such sampler.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler is {name!r}; expected one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def _steps(sigmas):
    return zip(sigmas[:-1], sigmas[1:], strict=True)


def _report(callback, step):
    if callback is not None:
        callback(step)
