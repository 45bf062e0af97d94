"""Samplers: plain functions that carry noise to a sample with a denoiser.

Most of them solve dx/dsigma = (x - D(x; sigma)) / sigma (V24 eq. 24) over given noise levels. The
ancestral sampler of DDPM and that of distilled weights draw new noise in every step; what draws it
is an argument, so that every sample keeps a random stream of its own.
"""

import torch

__all__ = [
    "SAMPLERS",
    "STOCHASTIC_SAMPLERS",
    "get_sampler",
    "network_calls",
    "sample_consistency",
    "sample_ddim",
    "sample_ddpm",
    "sample_dpmpp_2m",
    "sample_dpmpp_3m",
    "sample_euler",
    "sample_heun",
    "sample_sde_dpmpp_2m",
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


def sample_dpmpp_3m(denoiser, x, sigmas, *, callback=None):
    """Third-order multistep DPM-Solver++ (Lu et al. 2022): one network call a step.

    In lambda = -ln sigma the flow is dx/dlambda = D - x. Over a step h the estimate is taken as
    the parabola through this one and the last two, for which that equation has an exact solution.
    The first step knows one estimate and the second two, and they are of first and second order:
    at high noise, where the estimate hardly changes, this does not show.

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
    estimates, steps = [], []
    for i, (sigma, following) in enumerate(_steps(sigmas)):
        estimates = [denoiser(x, sigma), *estimates[:2]]
        if following == 0:
            x = estimates[0]
        else:
            steps = [torch.log(sigma / following), *steps[:2]]
            kept = following / sigma
            x = kept * x + (1 - kept) * estimates[0] + _curved_part(estimates, steps)
        _report(callback, i)
    return x


def sample_consistency(denoiser, x, sigmas, *, noise, callback=None):
    """Multistep sampler of a consistency model (Song et al. 2023, algorithm 1): one call a step.

    Such a denoiser does not estimate the mean of all noise-free images behind ``x``, but the one at
    the end of the flow through ``x`` (V24 eq. 24): one call gives a sample. More calls mend what it
    gets wrong: noise of the next level is added to the sample, and the denoiser called again.

    Parameters
    ----------
    denoiser : callable
        ``denoiser(x, sigma)`` gives the end of the flow; of distilled weights.
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
    for i, (sigma, following) in enumerate(_steps(sigmas)):
        x = denoiser(x, sigma)
        if following > 0:
            x = x + following * noise()
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


def sample_sde_dpmpp_2m(denoiser, x, sigmas, *, noise, callback=None):
    """SDE-DPM-Solver++(2M) of Lu et al. (2022), arXiv:2211.01095: ancestral, of second order.

    `sample_ddpm` takes the estimate as constant over a step; this one takes it as linear in the
    logarithm of the level, with the slope between this estimate and the last one, so that it needs
    fewer steps and its samples are not too narrow. One network call a step. With h = ln(sigma / s)
    a step from sigma to s is e^(-2h) x + (1 - e^(-2h)) D + (h - (1 - e^(-2h)) / 2) D' + v z, with
    the slope D', v^2 = s^2 (1 - e^(-2h)) and standard normal z.

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
    slope, last = 0.0, None
    for i, (sigma, following) in enumerate(_steps(sigmas)):
        denoised = denoiser(x, sigma)
        if last is not None:
            slope = (denoised - last[0]) / torch.log(last[1] / sigma)
        last = (denoised, sigma)
        if following == 0:
            x = denoised
        else:
            h = torch.log(sigma / following)
            changed = -torch.expm1(-2 * h)
            x = (1 - changed) * x + changed * denoised + (h - changed / 2) * slope
            x = x + following * torch.sqrt(changed) * noise()
        _report(callback, i)
    return x


SAMPLERS = {
    "heun": sample_heun,
    "euler": sample_euler,
    "dpmpp-2m": sample_dpmpp_2m,
    "dpmpp-3m": sample_dpmpp_3m,
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
    "sde-dpmpp-2m": sample_sde_dpmpp_2m,
    "consistency": sample_consistency,
}
STOCHASTIC_SAMPLERS = frozenset({"ddpm", "sde-dpmpp-2m", "consistency"})


def get_sampler(name):
    """Find a sampler by its name.

    Parameters
    ----------
    name : str
        Name, one of the keys of ``SAMPLERS``: ``"heun"``, ``"euler"``, ``"dpmpp-2m"``,
        ``"dpmpp-3m"``, ``"ddim"``, ``"ddpm"``, ``"sde-dpmpp-2m"`` or ``"consistency"``.

    Returns
    -------
    sampler : callable
        ``sampler(denoiser, x, sigmas, callback=None)``: `sample_heun`, `sample_euler`,
        `sample_dpmpp_2m`, `sample_dpmpp_3m`, `sample_ddim`, `sample_ddpm`, `sample_sde_dpmpp_2m` or
        `sample_consistency`. Those of ``STOCHASTIC_SAMPLERS`` need the keyword ``noise`` too.

    Raises
    ------
    ValueError
        If there is no such sampler.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler is {name!r}; expected one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def network_calls(name, n_steps):
    """Count the network calls that one sample takes.

    Parameters
    ----------
    name : str
        Name of a sampler: see `get_sampler`.
    n_steps : int
        Steps N, 1 or more.

    Returns
    -------
    calls : int
        2 N - 1 for ``"heun"``, N for all others.

    Raises
    ------
    ValueError
        If there is no such sampler, or no step.
    """
    get_sampler(name)
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; expected 1 or more")
    return 2 * n_steps - 1 if name == "heun" else n_steps


def _curved_part(estimates, steps):
    """What the change of the estimate adds to a step of `sample_dpmpp_3m`.

    The integrals of exp(s - h) s and exp(s - h) s^2 over s from 0 to h, each times its coefficient
    of the line or parabola through the estimates at 0, -h_1 and -h_1 - h_2.
    """
    if len(estimates) == 1:
        return 0.0
    h, linear = steps[0], steps[0] + torch.expm1(-steps[0])
    slope = (estimates[0] - estimates[1]) / steps[1]
    if len(estimates) == 2:
        return linear * slope
    earlier = (estimates[1] - estimates[2]) / steps[2]
    curvature = (slope - earlier) / (steps[1] + steps[2])
    return linear * (slope + steps[1] * curvature) + (h**2 - 2 * linear) * curvature


def _steps(sigmas):
    return zip(sigmas[:-1], sigmas[1:], strict=True)


def _report(callback, step):
    if callback is not None:
        callback(step)
