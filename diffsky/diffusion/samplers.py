"""Samplers: plain functions that carry noise to a sample with a denoiser.

Most of them solve dx/dsigma = (x - D(x; sigma)) / sigma (V24 eq. 24) over given noise levels. The
ancestral sampler of DDPM draws new noise in every step; what draws it is an argument, so that every
sample keeps a random stream of its own.
"""

import torch

__all__ = [
    "SAMPLERS",
    "STOCHASTIC_SAMPLERS",
    "get_sampler",
    "sample_ddim",
    "sample_ddpm",
    "sample_dpmpp_2m",
    "sample_euler",
    "sample_heun",
]


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


def sample_ddim(denoiser, x, sigmas, *, eta=0.0, noise=None, callback=None):
    """DDIM of Song et al. (2021), arXiv:2010.02502 eq. 12: one network call a step.

    In the variables of this package (x_t over the root of alpha-bar) a step from sigma to s is
    D + sqrt(s^2 - v^2) (x - D) / sigma + v z, with the deviation
    v = eta s sqrt(1 - s^2 / sigma^2) and standard normal z. With eta = 0 that is `sample_euler`.

    Parameters
    ----------
    denoiser : callable
        ``denoiser(x, sigma)`` gives the noise-free estimate.
    x : `torch.Tensor`
        Gaussian noise of standard deviation ``sigmas[0]``.
    sigmas : `torch.Tensor`
        Shape (N + 1,): decreasing levels, the last one 0, as `diffsky.diffusion.ddpm_sigmas`
        gives them for any number of steps.
    eta : float, optional
        0 is deterministic; 1 is the ancestral sampler of DDPM.
    noise : callable or None, optional
        ``noise()`` gives standard normal numbers of the shape of ``x``, each sample's from its own
        stream. Needed where eta > 0.
    callback : callable or None, optional
        Called as ``callback(step)`` after each step.

    Returns
    -------
    x : `torch.Tensor`
        The sample.

    Raises
    ------
    ValueError
        If ``eta`` is not 0 to 1, or ``noise`` is missing.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; expected 0 to 1")
    if eta > 0 and noise is None:
        raise ValueError("noise is None; expected a function that draws it, for eta above 0")
    for i, (sigma, following) in enumerate(_steps(sigmas)):
        denoised = denoiser(x, sigma)
        fresh = eta * following * torch.sqrt(1 - (following / sigma) ** 2)
        kept = torch.sqrt(following**2 - fresh**2)
        x = denoised + (kept / sigma) * (x - denoised)
        if fresh > 0:
            x = x + fresh * noise()
        _report(callback, i)
    return x


def sample_ddpm(denoiser, x, sigmas, *, noise, callback=None):
    """Ancestral sampler of DDPM (Ho et al. 2020, algorithm 2): one network call a step.

    Each step draws from the distribution of the next level given this one and the noise-free
    estimate, whose mean is D + (s / sigma)^2 (x - D) and whose variance is
    s^2 (1 - s^2 / sigma^2). The last step to 0 gives its mean. Over the levels of 250 of 1000
    steps this is what D24 section 3.3 runs. What a finite step leaves out makes the samples too
    narrow, in first order: of a Gaussian posterior of deviation 0.4 by 3 % at 250 steps.

    Parameters
    ----------
    denoiser : callable
        ``denoiser(x, sigma)`` gives the noise-free estimate.
    x : `torch.Tensor`
        Gaussian noise of standard deviation ``sigmas[0]``.
    sigmas : `torch.Tensor`
        Shape (N + 1,): decreasing levels, the last one 0.
    noise : callable
        ``noise()`` gives standard normal numbers of the shape of ``x``, each sample's from its own
        stream.
    callback : callable or None, optional
        Called as ``callback(step)`` after each step.

    Returns
    -------
    x : `torch.Tensor`
        The sample.
    """
    return sample_ddim(denoiser, x, sigmas, eta=1.0, noise=noise, callback=callback)


SAMPLERS = {
    "heun": sample_heun,
    "euler": sample_euler,
    "dpmpp-2m": sample_dpmpp_2m,
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
}
STOCHASTIC_SAMPLERS = frozenset({"ddpm"})


def get_sampler(name):
    """Find a sampler by its name.

    Parameters
    ----------
    name : {"heun", "euler", "dpmpp-2m", "ddim", "ddpm"}
        Name, one of the keys of ``SAMPLERS``.

    Returns
    -------
    sampler : callable
        ``sampler(denoiser, x, sigmas, callback=None)``: `sample_heun`, `sample_euler`,
        `sample_dpmpp_2m`, `sample_ddim` or `sample_ddpm`. Those of ``STOCHASTIC_SAMPLERS`` need
        the keyword ``noise`` too.

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
