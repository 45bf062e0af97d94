"""The noise process of DDPM (Ho et al. 2020) in discrete steps, as D24 section 3.3 uses it.

D24 eq. 7 with the erratum of eq. 6: x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps, where a_t (alpha-bar)
is the product of 1 - beta_s up to step t. Divided by sqrt(a_t) that is x_0 + sigma_t eps with
sigma_t = sqrt((1 - a_t) / a_t): the variance-preserving process is the one that samplers and
denoisers of this package know, at other noise levels.
"""

import torch

__all__ = ["alpha_bars", "ddpm_sigmas", "draw_ddpm_sigmas", "train_sigmas"]

TRAIN_STEPS = 1000


def alpha_bars(n_steps=TRAIN_STEPS, *, beta_first=1e-4, beta_last=0.02):
    """Share of the variance that is signal, after each step of a linear schedule.

    Parameters
    ----------
    n_steps : int, optional
        Steps of the schedule, 1000 in D24.
    beta_first, beta_last : float, optional
        Variance that the first and the last step add, D24 as Ho et al. (2020).

    Returns
    -------
    alpha_bars : `torch.Tensor`
        Shape (n_steps,), float64, decreasing, from step 1 on.
    """
    betas = torch.linspace(beta_first, beta_last, n_steps, dtype=torch.float64)
    return (1 - betas).cumprod(0)


def train_sigmas():
    """Noise levels of the 1000 steps that a network is trained on.

    Returns
    -------
    sigmas : `torch.Tensor`
        Shape (1000,), float64, increasing from 0.01 to 157: sqrt((1 - a_t) / a_t).
    """
    signal = alpha_bars()
    return ((1 - signal) / signal).sqrt()


def ddpm_sigmas(n_steps):
    """Noise levels of the 1000 steps, or of some of them that are evenly spaced.

    The kept steps keep their alpha-bar, and so their sigma; what a step adds follows from the
    levels at its ends. D24 keep 250 of 1000.

    Parameters
    ----------
    n_steps : int
        Number of steps N, 1 to 1000. The last step is always kept, the first where N > 1.

    Returns
    -------
    sigmas : `torch.Tensor`
        Shape (N + 1,), decreasing, the last one 0.

    Raises
    ------
    ValueError
        If ``n_steps`` is out of range.
    """
    if not 1 <= n_steps <= TRAIN_STEPS:
        raise ValueError(f"n_steps is {n_steps}; expected 1 to {TRAIN_STEPS} for the ddpm schedule")
    kept = torch.linspace(TRAIN_STEPS - 1, 0, n_steps, dtype=torch.float64).round().long()
    levels = train_sigmas()[kept]
    return torch.cat([levels, levels.new_zeros(1)]).float()


def draw_ddpm_sigmas(n, *, generator):
    """Draw noise levels for training: every step is as likely as any other, D24 eq. 8.

    Parameters
    ----------
    n : int
        How many.
    generator : `torch.Generator`
        Stream on the CPU, from `diffsky.backend.sample_generator`.

    Returns
    -------
    sigmas : `torch.Tensor`
        Shape (n,), some of those of `train_sigmas`.
    """
    steps = torch.randint(TRAIN_STEPS, (n,), generator=generator)
    return train_sigmas()[steps].float()
