"""Changes of an image that leave its class: random ones (V24 section 5.3), flips and turns."""

import math

import torch
from torch.nn import functional

from diffsky.backend import draw_normal

__all__ = ["all_views", "augment_images", "blur_images", "warp_images"]

BLUR = (0.1, 1.0)  # pixels
NOISE = (1e-4, 0.1)
CROP = (0.9, 1.0)  # of the side
N_VIEWS = 8  # of all_views
_EMPTY = -1.0


def all_views(images):
    """Turn images by right angles, as they are and mirrored.

    Parameters
    ----------
    images : `torch.Tensor`
        Shape (..., ny, ny).

    Yields
    ------
    view : `torch.Tensor`
        Eight in all, of the same shape; the first is the images themselves.
    """
    for mirrored in (images, images.flip(-1)):
        for turns in range(4):
            yield torch.rot90(mirrored, turns, (-2, -1))


def augment_images(images, generators):
    """Blur, add noise, crop, rotate and flip, each at random, in this order (V24 section 5.3).

    The standard deviation of the blur is uniform from 0.1 to 1 pixel, that of the noise from 1e-4
    to 0.1. The crop has 0.9 to 1 of the side, anywhere in the image, and is resampled to the size
    of the image. The angle is uniform, and every second image is flipped.

    Parameters
    ----------
    images : `torch.Tensor`
        Shape (n, channels, ny, ny), -1 to 1.
    generators : sequence of `torch.Generator`
        A stream for each image, on the CPU, from `diffsky.backend.sample_generator`.

    Returns
    -------
    changed : `torch.Tensor`
        The same shape. The noise goes beyond -1 and 1.

    Raises
    ------
    ValueError
        If there are not as many streams as images, or the images are not square.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images have the shape {tuple(images.shape)}; expected (n, k, ny, ny)")
    if len(generators) != len(images):
        raise ValueError(f"{len(generators)} streams for {len(images)} images; expected as many")
    draws = torch.stack([torch.rand(7, generator=one) for one in generators]).to(images.device)
    blur, noise, crop, across, up, angle, flip = draws.unbind(dim=1)
    images = blur_images(images, _between(blur, BLUR))
    normal = draw_normal(generators, images.shape[1:], images.device)
    images = images + _between(noise, NOISE)[:, None, None, None] * normal
    side = _between(crop, CROP)
    shift = (1 - side)[:, None] * (2 * torch.stack([across, up], dim=1) - 1)
    return warp_images(images, side=side, shift=shift, angle=2 * math.pi * angle, flip=flip < 0.5)


def blur_images(images, std):
    """Convolve with a Gaussian kernel of 3 x 3 pixels.

    Pixels of the edge are repeated beyond it, which keeps the mean of the image.

    Parameters
    ----------
    images : `torch.Tensor`
        Shape (n, channels, ny, nx).
    std : `torch.Tensor`
        Shape (n,): standard deviations in pixels, above 0.

    Returns
    -------
    blurred : `torch.Tensor`
        The same shape.
    """
    side = torch.exp(-0.5 / std**2)[:, None, None, None]
    side, centre = side / (1 + 2 * side), 1 / (1 + 2 * side)
    wide = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = centre * wide[:, :, 1:-1] + side * (wide[:, :, :-2] + wide[:, :, 2:])
    return centre * rows[..., 1:-1] + side * (rows[..., :-2] + rows[..., 2:])


def warp_images(images, *, side, shift, angle, flip):
    """Crop, resample to the size of the image, rotate about its centre, and flip vertically.

    All are one bilinear interpolation. What the rotated crop does not fill is -1.

    Parameters
    ----------
    images : `torch.Tensor`
        Shape (n, channels, ny, ny).
    side : `torch.Tensor`
        Shape (n,): side of the crop, relative to that of the image.
    shift : `torch.Tensor`
        Shape (n, 2): centre of the crop, x and y, relative to half of the side of the image.
    angle : `torch.Tensor`
        Shape (n,): in radians.
    flip : `torch.Tensor` of bool
        Shape (n,).

    Returns
    -------
    warped : `torch.Tensor`
        The same shape.
    """
    cos, sin, sign = angle.cos(), angle.sin(), 1 - 2 * flip.to(angle.dtype)
    zero = torch.zeros_like(cos)
    rows = [torch.stack(row, dim=1) for row in ((cos, -sin * sign, zero), (sin, cos * sign, zero))]
    grid = functional.affine_grid(torch.stack(rows, dim=1), images.shape, align_corners=False)
    filled = (grid.abs() <= 1).all(dim=-1)[:, None]
    grid = side[:, None, None, None] * grid + shift[:, None, None]
    warped = functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return torch.where(filled, warped, _EMPTY)


def _between(share, limits):
    return limits[0] + (limits[1] - limits[0]) * share
