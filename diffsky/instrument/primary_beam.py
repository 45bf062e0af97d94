"""Primary beams of telescopes whose dishes we know."""

import numpy as np

__all__ = ["KNOWN_DISHES", "airy_primary_beam"]

_ARCSEC = np.pi / 180 / 3600
_LIGHT = 299792458.0

# Effective diameter and blockage in metres. ALMA: those of CASA. VLA: a width of 42.1 arcmin at
# 1 GHz.
KNOWN_DISHES = {"ALMA": (10.7, 0.75), "ACA": (6.25, 0.75), "VLA": (25.0, 0.0), "EVLA": (25.0, 0.0)}


def airy_primary_beam(separation, *, frequency, diameter, blockage=0.0):
    """Power pattern of a uniformly lit dish, as CASA has it.

    Without blockage this is the Airy pattern. CASA's pattern of the blocked part is that of a dish
    wider than the whole, by the ratio of diameter and blockage: with it, the response rises by
    about twice the blocked share of the area everywhere but in the middle.

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
        1 at the centre. CASA has 0 from about the first null on.
    """
    x = np.pi * np.asarray(separation) * _ARCSEC * frequency / _LIGHT * diameter
    voltage = _airy(x)
    if blockage:
        ratio = diameter / blockage
        voltage = (ratio**2 * voltage - _airy(x * ratio)) / (ratio**2 - 1)
    return voltage**2


def _airy(x):
    from scipy.special import j1

    x = np.maximum(x, 1e-9)
    return 2 * j1(x) / x
