"""Primary beams of telescopes whose dishes we know."""

import numpy as np

__all__ = ["KNOWN_DISHES", "airy_primary_beam"]

_ARCSEC = np.pi / 180 / 3600
_LIGHT = 299792458.0

# Effective diameter and blockage in metres. ALMA: the Airy pattern CASA uses. VLA: a width of
# 42.1 arcmin at 1 GHz.
KNOWN_DISHES = {"ALMA": (10.65, 0.75), "ACA": (6.25, 0.75), "VLA": (25.0, 0.0), "EVLA": (25.0, 0.0)}


def airy_primary_beam(separation, *, frequency, diameter, blockage=0.0):
    """Power pattern of a uniformly lit dish with a hole.

    Parameters
    ----------
    separation : array_like
        Distance from the pointing centre in arcsec.
    frequency : float
        Hz.
    diameter, blockage : float, optional
        Effective diameter of the dish and of the blocked part, in metres.

    Returns
    -------
    response : `numpy.ndarray`
        1 at the centre.
    """
    from scipy.special import j1

    x = np.pi * np.asarray(separation) * _ARCSEC * frequency / _LIGHT
    x = np.maximum(x, 1e-9)
    voltage = diameter**2 * j1(x * diameter) / (x * diameter)
    if blockage:
        voltage = voltage - blockage**2 * j1(x * blockage) / (x * blockage)
    return (voltage / (0.5 * (diameter**2 - blockage**2))) ** 2
