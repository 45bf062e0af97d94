"""Between images in Jy/beam and what a network sees (V24 section 3.1)."""

import numpy as np

from diffsky._units import plain_values

__all__ = ["scale_images", "unscale_images"]


def scale_images(images, *, gamma=1.0, offset=-1.0):
    """Scale each image to -1 to 1, and keep its peak.

    Negative pixels are set to 0, the range of each image goes to 0 to 1 (V24 eq. 11), and this to
    -1 to 1. A root shows faint emission and noise beside a peak, and 0 as offset gives an empty
    background the value 0.

    Parameters
    ----------
    images : `numpy.ndarray`, `~astropy.units.Quantity` or `~astropy.nddata.CCDData`
        Shape (n, ny, nx), finite; with a unit in Jy/beam or what converts to it.
    gamma : float, optional
        Root that is taken of the values from 0 to 1, above 0. Default 1, V24's.
    offset : float, optional
        Scaled value of the least pixel; that of the largest one is 2 more. Default -1, V24's.

    Returns
    -------
    scaled : `numpy.ndarray`
        Shape (n, ny, nx), float32.
    peaks : `numpy.ndarray`
        Shape (n,): largest pixel of each image, in Jy/beam where they have a unit.

    Raises
    ------
    ValueError
        If gamma is not above 0, the shape or the unit is another, or an image has a pixel that is
        not finite or none above its least one, which is 0 or more after the clipping.
    """
    if not 0 < gamma < np.inf:
        raise ValueError(f"gamma is {gamma!r}; expected a number above 0")
    images = plain_values(images, name="images").astype(np.float32)
    if images.ndim != 3:
        raise ValueError(f"images have the shape {images.shape}; expected (n, ny, nx)")
    bad = ~np.isfinite(images).all(axis=(1, 2))
    if bad.any():
        raise ValueError(f"{_some(bad)} have pixels that are not finite; expected finite images")
    clipped = np.clip(images, 0, None)
    low, peaks = (function(clipped, axis=(1, 2)) for function in (np.min, np.max))
    flat = peaks <= low
    if flat.any():
        raise ValueError(f"{_some(flat)} are flat; expected a pixel above the others and above 0")
    span = (peaks - low)[:, None, None]
    relative = (clipped - low[:, None, None]) / span
    return (2 * relative ** (1 / gamma) + offset).astype(np.float32), peaks


def unscale_images(scaled, peaks=1.0, *, gamma=1.0, offset=-1.0):
    """Undo `scale_images` for images whose least pixel is 0.

    Parameters
    ----------
    scaled : `numpy.ndarray`
        Shape (n, ny, nx): what a network gives. Values beyond the range of scaled images are
        clamped (V24 section 4.3). Scaled images have a maximum of 1 by eq. 11, those of a network
        nearly so: they are divided by their own.
    peaks : array-like, optional
        The largest pixel of each image, or of all. Default 1. Images without a pixel above 0 stay
        without.
    gamma, offset : float, optional
        As `scale_images` was given.

    Returns
    -------
    images : `numpy.ndarray`
        Shape (n, ny, nx), in the unit of the peaks.
    """
    relative = np.clip((scaled - offset) / 2, 0, 1)
    largest = relative.max(axis=(1, 2), keepdims=True)
    relative = (relative / np.where(largest > 0, largest, 1)) ** gamma
    return relative * np.reshape(np.asarray(peaks, dtype=relative.dtype), (-1, 1, 1))


def _some(which, n=5):
    """Numbers of the images that something is wrong with."""
    numbers = np.flatnonzero(which)
    listed = ", ".join(map(str, numbers[:n]))
    return f"images {listed}{', ...' if len(numbers) > n else ''} ({len(numbers)} in all)"
