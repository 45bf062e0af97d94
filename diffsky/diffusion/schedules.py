"""Noise levels that samplers step through."""

import torch

from diffsky.diffusion.ddpm import ddpm_sigmas

__all__ = ["SCHEDULES", "edm_sigmas", "make_sigmas"]


def edm_sigmas(n_steps, *, sigma_min=0.002, sigma_max=80.0, rho=7.0):
    """Noise levels of V24 eq. 25.

    Parameters
    ----------
    n_steps : int
        Number of steps N, 1 or more.
    sigma_min, sigma_max : float, optional
        Last level before zero, and first level.
    rho : float, optional
        Exponent; larger puts more steps at low noise.

    Returns
    -------
    sigmas : `torch.Tensor`
        Shape (N + 1,), decreasing: sigma_0 = sigma_max, sigma_(N-1) = sigma_min, sigma_N = 0.

    Raises
    ------
    ValueError
        If there is no step, or the levels are not 0 < sigma_min < sigma_max.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; expected 1 or more")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(
            f"sigma_min {sigma_min} and sigma_max {sigma_max}; expected 0 < sigma_min < sigma_max"
        )
    ramp = torch.linspace(0, 1, n_steps, dtype=torch.float64)
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels = (first + ramp * (last - first)) ** rho
    return torch.cat([levels, levels.new_zeros(1)]).float()


SCHEDULES = {"edm": edm_sigmas, "ddpm": ddpm_sigmas}


def make_sigmas(n_steps, *, schedule="edm", **options):
    """Noise levels of a schedule by its name.

    Parameters
    ----------
    n_steps : int
        Number of steps.
    schedule : {"edm", "ddpm"}, optional
        `edm_sigmas`, or `diffsky.diffusion.ddpm_sigmas`.
    **options
        Other keywords of that function.

    Returns
    -------
    sigmas : `torch.Tensor`
        Shape (n_steps + 1,), decreasing, the last one 0.

    Raises
    ------
    ValueError
        If there is no such schedule, or a number is out of range.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}; expected one of {', '.join(SCHEDULES)}")
    return SCHEDULES[schedule](n_steps, **options)
