"""Test fields of the protocol `independent`: own noise and own sky in each, never trained on."""

import functools

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from telescope import RMS, Telescope

from diffsky.simulation import ObservationSetup

# Seeds: the first number of a field's stream. None of them is used in training.
VALIDATION, FAST, CASA = 9001, 9012, 9003
TUNING = 9100  # for experiments and samplers; no figure of quality is from these
N_POINTINGS = 4  # of the fast fields


def pointing(seed, number):
    """A direction within 2 deg of the COSMOS field in both coordinates."""
    offset = np.random.default_rng([seed, 1, number]).uniform(-2, 2, 2)
    return SkyCoord((150.119 + offset[0]) * u.deg, (2.206 + offset[1]) * u.deg)


def fast_pairs(n, seed):
    """Fields of 128 x 128 working pixels from the fast instrument, at four pointings.

    They are what `diffsky.evaluation.evaluate_pair` takes.
    """
    for number in range(n):
        yield fast_telescope(seed, number % N_POINTINGS).pair(seed, number)


@functools.cache
def fast_telescope(seed, place):
    """The fast instrument at one of the pointings of a seed."""
    return Telescope(ObservationSetup(direction=pointing(seed, place)), rms=RMS)
