"""Where north is among the pixels of an image."""

import numpy as np

__all__ = ["check_not_mirrored", "north_angle"]


def north_angle(wcs):
    """Angle of north, by which position angles are larger among pixels than on the sky.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial WCS of an image that is not mirrored.

    Returns
    -------
    float
        Degrees from +y towards -x; 0 where north is up.
    """
    x, y = np.linalg.solve(wcs.pixel_scale_matrix, [0.0, 1.0])
    return float(np.degrees(np.arctan2(-x, y)))


def check_not_mirrored(wcs, *, name):
    """Refuse an image in which east is not 90 deg left of north.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial WCS of the image.
    name : str
        What the image is, used in the message.

    Raises
    ------
    ValueError
        If it is mirrored.
    """
    if np.linalg.det(wcs.pixel_scale_matrix) > 0:
        raise ValueError(f"{name} is mirrored; expected east 90 deg left of north")
