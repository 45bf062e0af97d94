"""Consistency distillation: a denoiser learns to end its own sampling in one call.

The flow of V24 eq. 24 carries every point (x, sigma) to one noise-free image. A consistency model
f(x, sigma) gives that end at once (Song et al. 2023, arXiv:2303.01469). The preconditioning of a
denoiser has the boundary condition f(x, 0) = x, so that the same network can become one.
"""

import math

import torch

from diffsky.diffusion.schedules import make_sigmas

__all__ = ["ConsistencyLoss", "consistency_loss"]

DISTILLATION = {"steps": 2000, "learning_rate": 2e-4}
RATIO = 1.5
_CALLS = 1
_AGAIN = 5.0  # level to which the second call adds noise, in units of sigma_data


def consistency_loss(denoiser, target, condition, sigma, noise, *, lower, teacher):
    """Weighted distance of the ends that a consistency model gives to two points of one flow.

    The second point is where one step of Heun's method with the teacher takes the first, and its
    end counts as known (Song et al. 2023, algorithm 2). The weight is that of V24 eq. 22,
    1 / c_out^2: 1 / sigma^2 + 1 / sigma_data^2 for a `Denoiser`, 1 / sigma^2 for an
    `EpsilonDenoiser`.

    Parameters
    ----------
    denoiser : `diffsky.diffusion.Denoiser`
        The consistency model.
    target : `torch.Tensor`
        Shape (n, channels, ny, nx).
    condition : `torch.Tensor` or None
        Shape (n, condition channels, ny, nx).
    sigma : `torch.Tensor`
        Shape (n,): levels of the first points.
    noise : `torch.Tensor`
        Standard normal, the shape of ``target``.
    lower : `torch.Tensor`
        Shape (n,): levels of the second points. Where it is 0, this point is the end itself.
    teacher : `diffsky.diffusion.Denoiser`
        A denoiser, which estimates the mean of all noise-free images.

    Returns
    -------
    loss : `torch.Tensor`
        Mean over pixels.
    """
    level, below = sigma[:, None, None, None], lower[:, None, None, None]
    x = target + level * noise
    # Before the calls without gradient: autocast keeps the weights as it has cast them first.
    end = denoiser(x, sigma, condition)
    with torch.no_grad():
        known = torch.where(lower > 0, lower, sigma)  # at level 0 no network is asked
        slope = (x - teacher(x, sigma, condition)) / level
        guess = x + (below - level) * slope
        next_slope = (guess - teacher(guess, known, condition)) / known[:, None, None, None]
        moved = x + (below - level) * (slope + next_slope) / 2
        wanted = torch.where(below > 0, denoiser(moved, known, condition), guess)
    c_out = denoiser.coefficients(level)[1]
    return (((end - wanted) / c_out) ** 2).mean()


class ConsistencyLoss:
    """`consistency_loss` on the range of levels that a teacher is sampled over.

    The first levels are drawn evenly in ln sigma over that range, the second are ``ratio`` times
    lower. From levels below ``ratio`` times the last one, the flow ends in the teacher's estimate,
    as its own sampling does.

    Parameters
    ----------
    teacher : `diffsky.diffusion.Denoiser`
        Stays as it is.
    sampling : dict
        ``sampler``, ``n_steps`` (2 or more) and other keywords of `diffsky.diffusion.make_sigmas`
        that the teacher is sampled with.
    ratio : float, optional
        Of the two levels, above 1.

    Raises
    ------
    ValueError
        If the teacher is sampled with fewer than two steps.
    """

    def __init__(self, teacher, sampling, *, ratio=RATIO):
        levels = make_sigmas(**{k: v for k, v in sampling.items() if k != "sampler"})
        if len(levels) < 3:
            raise ValueError(f"sampling has {sampling['n_steps']} steps; expected 2 or more")
        self.teacher, self.ratio = teacher.eval(), ratio
        self.sigma_max, self.sigma_min = levels[0].item(), levels[-2].item()

    def __call__(self, denoiser, target, condition, sigma, noise):
        """Compute `consistency_loss`.

        Parameters
        ----------
        denoiser : `diffsky.diffusion.Denoiser`
            The consistency model.
        target, condition, sigma, noise : `torch.Tensor`
            As for `diffsky.diffusion.denoising_loss`.

        Returns
        -------
        loss : `torch.Tensor`
            Mean over pixels.
        """
        lower = sigma / self.ratio
        return consistency_loss(
            denoiser,
            target,
            condition,
            sigma,
            noise,
            lower=torch.where(lower < self.sigma_min, 0, lower),
            teacher=self.teacher.to(target.device),
        )

    def draw(self, n, *, generator):
        """Draw the first levels.

        Parameters
        ----------
        n : int
            How many.
        generator : `torch.Generator`
            Stream on the CPU.

        Returns
        -------
        sigmas : `torch.Tensor`
            Shape (n,).
        """
        first, last = math.log(self.sigma_max), math.log(self.sigma_min)
        return torch.exp(last + (first - last) * torch.rand(n, generator=generator))

    def sampling(self):
        """How the distilled weights are sampled.

        Returns
        -------
        sampling : dict
            ``sampler``, ``n_steps`` and levels. One step is a call at the highest level alone,
            others have the rest between that and ``sigma_min``.
        """
        return {
            "sampler": "consistency",
            "n_steps": _CALLS,
            "sigma_min": min(_AGAIN * self.teacher.sigma_data, self.sigma_max / 2),
            "sigma_max": self.sigma_max,
        }
