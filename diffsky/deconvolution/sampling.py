"""Posterior samples on the working grid."""

import functools

import torch

from diffsky.deconvolution.tiling import TiledDenoiser
from diffsky.diffusion.drawing import draw_batches

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
    ny, nx = condition.shape[-2:]
    run = denoiser
    if max(ny, nx) > tile:
        run = TiledDenoiser(denoiser, tile=tile, overlap=overlap)
    seen = min(ny, tile) * min(nx, tile)
    condition = condition.to(backend.device).expand(n_samples, -1, -1, -1)
    batches = draw_batches(
        lambda numbers: functools.partial(run, condition=condition[numbers.start : numbers.stop]),
        (1, ny, nx),
        n_samples=n_samples,
        seed=seed,
        sampling=sampling,
        backend=backend,
        bytes_per_sample=seen * denoiser.network.memory_per_pixel(),
        progress=progress,
    )
    return torch.cat([batch[:, 0] for batch in batches])
