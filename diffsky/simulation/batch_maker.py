"""Version 2 of simulated pairs: every step for a whole batch at once, on any device."""

import math

import numpy as np
import torch

from diffsky.simulation.rendering import render_sources
from diffsky.simulation.sources import SourceList
from diffsky.simulation.uv_bank import UVBank

__all__ = ["BEAM_WIDTHS", "FLAT_SHARE", "BatchMaker"]

FLAT_SHARE = 0.1  # of primary beams
BEAM_WIDTHS = (100, 600)  # pixels
_PAIR, _NOISE = 0, 3  # purposes of the streams, beside those of the priors
_PAIR_UNIFORMS = 11


class BatchMaker:
    """Makes the images of `SimulatedPairs` in three steps: draw, render, observe.

    Parameters
    ----------
    pairs : `diffsky.simulation.SimulatedPairs`
        What the pairs are.
    device : str or `torch.device`, optional
        Where they are made.
    """

    def __init__(self, pairs, device="cpu"):
        self._pairs = pairs
        shares = np.array([share for _, share in pairs.priors], dtype=float)
        self._edges = (shares.cumsum() / shares.sum())[:-1].tolist()
        self._kernel = pairs.scale.kernel_fwhm
        self._bank = UVBank(pairs.weights, pairs.noise_weights, self._kernel, device)

    def make(self, streams):
        """Make the images of some pairs.

        Parameters
        ----------
        streams : `~diffsky.simulation.counter.CounterStreams`
            One random stream for each pair.

        Returns
        -------
        images : `torch.Tensor`
            As `observe` gives them.
        """
        return self.observe(self.render(*self.draw(streams), len(streams)), streams)

    def draw(self, streams):
        """Draw the sources of all pairs.

        Parameters
        ----------
        streams : `~diffsky.simulation.counter.CounterStreams`
            One random stream for each pair.

        Returns
        -------
        sources : `SourceList`
            In rms and beams, as tensors.
        owner : `torch.Tensor`
            Shape (len(sources),): the pair each source belongs to.
        """
        uniform = streams.uniform(_PAIR, _PAIR_UNIFORMS)[:, 0]
        which = sum((uniform >= edge).long() for edge in self._edges) + torch.zeros_like(uniform)
        scale, size = self._pairs.scale, self._pairs.field_size
        lists, owners = [], []
        for number, (prior, _) in enumerate(self._pairs.priors):
            here = torch.nonzero(which == number)[:, 0]
            sources, owner = prior.draw_many(
                streams[here],
                # The last pixel is nearer to the centre of the field than the first.
                within=((size - 1) // 2) / scale.pixels_per_beam,
                kernel_fwhm=scale.kernel_beams,
            )
            lists.append(sources)
            owners.append(here[owner])
        return SourceList.join(lists), torch.cat(owners)

    def render(self, sources, owner, n):
        """Draw sources on the working grid.

        Parameters
        ----------
        sources : `SourceList`
            In rms and beams.
        owner : `torch.Tensor`
            Shape (len(sources),): the pair each source belongs to.
        n : int
            Number of pairs.

        Returns
        -------
        sky : `torch.Tensor`
            Shape (n, field, field): true skies in rms per pixel.
        """
        size = self._pairs.field_size
        pixel = 1 / self._pairs.scale.pixels_per_beam
        return render_sources(
            sources, owner, n, (size, size), pixel=pixel, kernel_fwhm=self._kernel
        )

    def observe(self, sky, streams):
        """Observe skies and cut patches.

        Parameters
        ----------
        sky : `torch.Tensor`
            Shape (n, field, field): true skies in rms per pixel.
        streams : `~diffsky.simulation.counter.CounterStreams`
            One random stream for each pair.

        Returns
        -------
        images : `torch.Tensor`
            Shape (n, 3, size, size): apparent sky, dirty image and primary beam.
        """
        uniforms = streams.uniform(_PAIR, _PAIR_UNIFORMS).unbind(1)[1:]
        choice, flat, width, aside, y, x, flip, turn, row, column = uniforms
        beam = _primary_beams(flat, width, aside, y, x, self._pairs.field_size)
        sky = sky * beam
        choice = _whole_number(choice, len(self._pairs.weights))
        dirty = self._bank.observe(sky, choice, streams, _NOISE)
        images = torch.stack([sky, dirty, beam], dim=1)
        images = images * (beam > self._pairs.pblimit)[:, None]
        return self._cut(images, flip, turn, row, column)

    def _cut(self, images, flip, turn, row, column):
        """Random patches, flips and right-angle rotations."""
        field = self._pairs.field_size
        size = self._pairs.patch_size or field
        row, column = (_whole_number(u, field - size + 1) for u in (row, column))
        turn = _whole_number(turn, 4) + 4 * (flip < 0.5)
        pixels = torch.arange(size * size, device=images.device).view(size, size)
        ways = [torch.rot90(p, k) for p in (pixels, pixels.flip(-1)) for k in range(4)]
        pixels = torch.stack(ways).flatten(1)[turn]
        rows, columns = pixels // size + row[:, None], pixels % size + column[:, None]
        place = (rows * field + columns)[:, None].expand(-1, images.shape[1], -1)
        return images.flatten(2).gather(2, place).unflatten(2, (size, size))


def _whole_number(uniform, n):
    """0 to n - 1; n has fewer bits than the uniform number, so that the product is below n."""
    return (uniform * n).long()


def _primary_beams(flat, width, aside, y, x, size):
    """Gaussian primary beams of random width and pointing, shape (n, size, size)."""
    low, high = BEAM_WIDTHS
    width = low * (high / low) ** width
    axis = torch.arange(size, device=width.device) - size // 2
    aside = 0.5 * size * (aside < 0.5)
    y, x = (
        torch.exp(
            -4 * math.log(2) * ((axis - (aside * (2 * u - 1))[:, None]) / width[:, None]) ** 2
        )
        for u in (y, x)
    )
    beam = y[:, :, None] * x[:, None, :]
    return torch.where((flat < FLAT_SHARE)[:, None, None], 1.0, beam)
