"""Samples in batches that fit the memory, each from the noise of its own stream."""

import functools
import sys

import torch

from diffsky.backend import draw_normal, fit_batch_size, sample_generator
from diffsky.diffusion.samplers import STOCHASTIC_SAMPLERS, get_sampler
from diffsky.diffusion.schedules import make_sigmas

__all__ = ["draw_batches"]


def draw_batches(
    make_denoise,
    shape,
    *,
    n_samples,
    first=0,
    seed,
    sampling,
    backend,
    bytes_per_sample,
    progress=None,
):
    """Draw samples, one batch after the other.

    Sample k of a seed starts from the noise of its own stream, and what an ancestral sampler adds
    comes from that stream too, so it is the same whatever the batch size and the number of samples.

    Parameters
    ----------
    make_denoise : callable
        ``make_denoise(numbers)`` gives ``denoise(x, sigma)`` for the samples of a range.
    shape : tuple of int
        Shape of a sample: channels, ny, nx.
    n_samples : int
        Number of samples, 1 or more.
    first : int, optional
        Number of the first one that is drawn, up to ``n_samples``. Default 0.
    seed : int
        Sample k of a seed is always the same, 0 or larger.
    sampling : dict
        ``sampler``, ``n_steps`` and the other keywords of `diffsky.diffusion.make_sigmas`: see
        there and `diffsky.diffusion.get_sampler`.
    backend : `diffsky.backend.Backend`
        Device and precision; its memory decides how many samples are drawn at once.
    bytes_per_sample : float
        Memory that the network takes for one of them.
    progress : bool or None, optional
        Show a progress bar; None shows one on a terminal.

    Yields
    ------
    samples : `torch.Tensor`
        Shape (n, channels, ny, nx), float32, on the CPU.
    """
    from tqdm import tqdm

    plan = dict(sampling)
    name = plan.pop("sampler")
    sampler, sigmas = get_sampler(name), make_sigmas(**plan).to(backend.device)
    size = fit_batch_size(backend, bytes_per_sample, limit=n_samples)
    show = sys.stderr.isatty() if progress is None else progress
    n_batches = -(-(n_samples - first) // size)
    with tqdm(total=n_batches * (len(sigmas) - 1), desc="sampling", disable=not show) as bar:
        for start in range(first, n_samples, size):
            numbers = range(start, min(start + size, n_samples))
            streams = [sample_generator(seed, k) for k in numbers]
            draw = functools.partial(draw_normal, streams, shape, backend.device)
            noise = draw()
            with torch.inference_mode(), backend.autocast():
                result = sampler(
                    make_denoise(numbers),
                    noise * sigmas[0],
                    sigmas,
                    **({"noise": draw} if name in STOCHASTIC_SAMPLERS else {}),
                    callback=lambda step: bar.update(),
                )
            yield result.float().cpu()
