"""A run of the generator: everything that decides its images, and the images."""

from typing import NamedTuple

import torch

from diffsky.diffusion.drawing import draw_batches
from diffsky.diffusion.guidance import guide
from diffsky.generation.cubes import make_cube
from diffsky.generation.requests import draw_conditions

__all__ = ["Run", "draw_run", "plan_run"]


class Run(NamedTuple):
    """What is drawn.

    Parameters
    ----------
    context : `torch.Tensor`
        Shape (n, length of the context).
    values : list of str or `~astropy.units.Quantity`
        What they stand for.
    sampling : dict
        Sampler and noise levels.
    meta : dict
        What ``meta`` of the images says of the run, in what JSON can hold.
    """

    context: torch.Tensor
    values: list
    sampling: dict
    meta: dict


def plan_run(condition, about, sampling, n, *, seed, guidance=None, **asked):
    """Decide a run.

    Parameters
    ----------
    condition : `diffsky.generation.ClassCondition` or `diffsky.generation.PeakFluxCondition`
        That of the weights.
    about : dict
        Description of the weights.
    sampling : dict
        Sampler and noise levels, as ``sampling_plan()`` of the generator gives them.
    n : int
        Number of images.
    seed : int
        Image k of a seed is always the same.
    guidance : float or None, optional
        Strength; None takes that of the weights.
    **asked
        ``label``, ``peak_flux`` and ``extrapolate`` as for
        `diffsky.generation.requests.draw_conditions`.

    Returns
    -------
    run : `Run`
        The context on the CPU.

    Raises
    ------
    ValueError
        As from `diffsky.generation.requests.draw_conditions`.
    """
    context, values = draw_conditions(condition, n, seed=seed, **asked)
    meta = {
        "weights": about["name"],
        "weights_version": about["version"],
        "guidance": float(about["guidance"] if guidance is None else guidance),
        "seed": seed,
        **sampling,
    }
    return Run(context, values, sampling, meta)


def draw_run(denoiser, run, backend, image, *, first=0, progress=None):
    """Draw the images of a run, one batch after the other.

    Parameters
    ----------
    denoiser : `diffsky.diffusion.Denoiser`
        On the device of the backend.
    run : `Run`
        As from `plan_run`.
    backend : `diffsky.backend.Backend`
        Device and precision; its memory decides how many images are drawn at once.
    image : dict
        As from `diffsky.generation.cubes.describe_images`.
    first : int, optional
        Number of the first image that is drawn. Default 0.
    progress : bool or None, optional
        Show a progress bar; None shows one on a terminal.

    Yields
    ------
    cube : `~astropy.nddata.CCDData`
        The next images.
    """
    size, strength = image["size"], run.meta["guidance"]
    context = run.context.to(backend.device)
    calls = 1 if strength == 0 else 2
    batches = draw_batches(
        lambda numbers: guide(denoiser, context[numbers.start : numbers.stop], strength),
        (1, size, size),
        n_samples=len(context),
        first=first,
        seed=run.meta["seed"],
        sampling=run.sampling,
        backend=backend,
        bytes_per_sample=calls * size**2 * denoiser.network.memory_per_pixel(),
        progress=progress,
    )
    for batch in batches:
        values = run.values[first : first + len(batch)]
        yield make_cube(batch[:, 0].numpy(), values, image, run.meta)
        first += len(batch)
