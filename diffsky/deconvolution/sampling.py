"""Posterior samples on the working grid."""

import functools
import sys

import torch

from diffsky.backend import draw_normal, fit_batch_size, sample_generator
from diffsky.deconvolution.tiling import TiledDenoiser
from diffsky.diffusion.samplers import STOCHASTIC_SAMPLERS, get_sampler
from diffsky.diffusion.schedules import make_sigmas

__all__ = ["draw_samples"]

_TILE, _OVERLAP = 512, 128


def draw_samples(
    denoiser,
    condition,
    *,
    n_samples,
    seed,
    sampling,
    backend,
    tile=_TILE,
    overlap=_OVERLAP,
    progress=None,
):
    """Sample the targets of one observation.

    Sample k of a seed starts from the noise of its own stream, and what an ancestral sampler adds
    comes from that stream too, so it is the same whatever the batch size and the number of samples.

    Parameters
    ----------
    denoiser : `diffsky.diffusion.Denoiser`
        On the backend's device.
    condition : `torch.Tensor`
        Shape (channels, ny, nx), or (n_samples, channels, ny, nx) with one for each sample; ny and
        nx multiples of the network's stride.
    n_samples : int
        Number of samples, 1 or more.
    seed : int
        Sample k of a seed is always the same, 0 or larger.
    sampling : dict
        ``sampler``, ``n_steps`` and the other keywords of `diffsky.diffusion.make_sigmas`: see
        there and `diffsky.diffusion.get_sampler`.
    backend : `diffsky.backend.Backend`
        Device and precision; its memory decides how many samples are drawn at once.
    tile, overlap : int, optional
        Fields larger than ``tile`` pixels in either direction pass the network in tiles of that
        side that overlap by ``overlap``. Default 512 and 128.
    progress : bool or None, optional
        Show a progress bar; None shows one on a terminal.

    Returns
    -------
    targets : `torch.Tensor`
        Shape (n_samples, ny, nx), float32, on the CPU.
    """
    from tqdm import tqdm

    plan = dict(sampling)
    name = plan.pop("sampler")
    sampler = get_sampler(name)
    sigmas = make_sigmas(**plan).to(backend.device)
    ny, nx = condition.shape[-2:]
    run = denoiser
    if max(ny, nx) > tile:
        run = TiledDenoiser(denoiser, tile=tile, overlap=overlap)
    seen = min(ny, tile) * min(nx, tile)
    size = fit_batch_size(backend, seen * denoiser.network.memory_per_pixel(), limit=n_samples)
    condition = condition.to(backend.device).expand(n_samples, -1, -1, -1)
    show = sys.stderr.isatty() if progress is None else progress
    n_batches = -(-n_samples // size)
    samples = []
    with tqdm(total=n_batches * (len(sigmas) - 1), desc="sampling", disable=not show) as bar:
        for first in range(0, n_samples, size):
            numbers = range(first, min(first + size, n_samples))
            streams = [sample_generator(seed, k) for k in numbers]
            draw = functools.partial(draw_normal, streams, (1, ny, nx), backend.device)
            start = draw()
            repeated = condition[numbers.start : numbers.stop]
            with torch.inference_mode(), backend.autocast():
                result = sampler(
                    lambda x, sigma, given=repeated: run(x, sigma, given),
                    start * sigmas[0],
                    sigmas,
                    **({"noise": draw} if name in STOCHASTIC_SAMPLERS else {}),
                    callback=lambda step: bar.update(),
                )
            samples.append(result[:, 0].float().cpu())
    return torch.cat(samples)
