"""Large fields in overlapping tiles, network call by network call."""

import torch

__all__ = ["TiledDenoiser", "tile_slices"]


def tile_slices(length, tile, overlap):
    """Cut one axis into tiles.

    Parameters
    ----------
    length : int
        Pixels along the axis.
    tile : int
        Pixels of a tile; the last tile ends with the axis.
    overlap : int
        Least overlap of two tiles.

    Returns
    -------
    slices : list of (slice, slice)
        For each tile the pixels it sees, and the part of the axis that it decides. The decided
        parts cover the axis once.

    Raises
    ------
    ValueError
        If the overlap leaves nothing to decide.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap is {overlap}; expected 0 or more and less than tile {tile}")
    if length <= tile:
        return [(slice(0, length), slice(0, length))]
    starts = list(range(0, length - tile, tile - overlap)) + [length - tile]
    borders = [0]
    for start, following in zip(starts[:-1], starts[1:], strict=True):
        borders.append((start + tile + following) // 2)
    borders.append(length)
    return [
        (slice(start, start + tile), slice(low, high))
        for start, low, high in zip(starts, borders[:-1], borders[1:], strict=True)
    ]


class TiledDenoiser:
    """A denoiser that sees large fields in overlapping tiles.

    Each call of the network is tiled by itself, so all tiles of a sample share one noise and the
    result is that of the whole field wherever the border of a tile is farther away than the
    network reaches.

    Parameters
    ----------
    denoiser : callable
        ``denoiser(x, sigma, condition)``.
    tile : int
        Side of a tile in pixels, a multiple of the network's stride.
    overlap : int
        Overlap of neighbouring tiles, likewise.
    """

    def __init__(self, denoiser, *, tile, overlap):
        self.denoiser, self.tile, self.overlap = denoiser, tile, overlap

    def __call__(self, x, sigma, condition):
        """Estimate the noise-free image tile by tile.

        Parameters
        ----------
        x : `torch.Tensor`
            Shape (n, channels, ny, nx).
        sigma : `torch.Tensor`
            Noise level, (n,) or a scalar.
        condition : `torch.Tensor`
            Shape (n, condition channels, ny, nx).

        Returns
        -------
        denoised : `torch.Tensor`
            Shape of ``x``.
        """
        rows, columns = (tile_slices(n, self.tile, self.overlap) for n in x.shape[-2:])
        denoised = torch.empty_like(x)
        for seen_y, own_y in rows:
            for seen_x, own_x in columns:
                seen = (..., seen_y, seen_x)
                part = self.denoiser(x[seen], sigma, condition[seen])
                inner = (..., _shift(own_y, seen_y), _shift(own_x, seen_x))
                denoised[..., own_y, own_x] = part[inner]
        return denoised


def _shift(own, seen):
    return slice(own.start - seen.start, own.stop - seen.start)
