"""Whether a set-up can be observed as it is: elevation, sampling, size of the image."""

import warnings

import numpy as np

from diffsky.exceptions import DiffskyWarning
from diffsky.instrument.primary_beam import KNOWN_DISHES, airy_primary_beam

__all__ = ["check_elevation", "check_sampling", "longest_baseline", "warn_small_image"]

_LOWEST_ELEVATION = 10.0  # deg; CASA flags what is lower
_SPEED_OF_LIGHT = 299792458.0  # m / s


def check_elevation(values):
    """Refuse what stays below CASA's limit during the whole observation.

    Parameters
    ----------
    values : dict
        As `diffsky.simulation._casa_inputs.setup_values` makes them.

    Raises
    ------
    ValueError
        If it does.
    """
    highest = _highest_elevation(values)
    if highest < _LOWEST_ELEVATION:
        raise ValueError(
            f"direction reaches {highest:.1f} deg of elevation at {values['telescope']} during "
            f"the observation; expected at least {_LOWEST_ELEVATION:g} deg (declination "
            f"{values['dec']:.2f} deg, hour angle {values['hour_angle']:g} h)"
        )


def check_sampling(values):
    """Refuse pixels too large for the longest baseline: imaging would leave it out.

    Parameters
    ----------
    values : dict
        As `diffsky.simulation._casa_inputs.setup_values` makes them.

    Raises
    ------
    ValueError
        If a pixel is larger than half a fringe of the longest baseline.
    """
    baseline = longest_baseline(values["antennas"])
    if not baseline:
        return
    largest = np.rad2deg(_SPEED_OF_LIGHT / values["frequency"] / (2 * baseline)) * 3600
    if values["cell"] > largest:
        raise ValueError(
            f"cell is {values['cell']:g} arcsec; expected at most {largest:.2g} arcsec, half a "
            f"fringe of the longest baseline ({baseline:.0f} m at "
            f"{values['frequency'] / 1e9:g} GHz)"
        )


def longest_baseline(antennas):
    """Longest distance between two antennas.

    Parameters
    ----------
    antennas : str
        An antenna file: x, y, z in metres in the first three columns.

    Returns
    -------
    float
        In metres; 0 where the file lists no two positions, which is for CASA to judge.
    """
    rows = [line.split()[:3] for line in antennas.splitlines() if not line.startswith("#")]
    try:
        places = np.array([row for row in rows if row], dtype=float).reshape(-1, 3)
    except ValueError:
        return 0.0
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    return float(apart.max(initial=0.0))


def warn_small_image(values, *, stacklevel):
    """Warn of an image that does not hold the primary beam down to its limit.

    Parameters
    ----------
    values : dict
        As `diffsky.simulation._casa_inputs.setup_values` makes them.
    stacklevel : int
        Where the warning points.
    """
    if values["telescope"] not in KNOWN_DISHES:
        return
    diameter, blockage = KNOWN_DISHES[values["telescope"]]
    first_null = np.rad2deg(_SPEED_OF_LIGHT / values["frequency"] / diameter) * 3600
    radius = np.linspace(0, 1.2 * first_null, 1000)
    gain = airy_primary_beam(
        radius, frequency=values["frequency"], diameter=diameter, blockage=blockage
    )
    needed = 2 * radius[np.argmax(gain < values["pblimit"])]
    width = values["image_size"] * values["cell"]
    if width < needed:
        warnings.warn(
            f"the image is {width:.1f} arcsec wide, the primary beam {needed:.1f} arcsec down to "
            f"pblimit {values['pblimit']:g}: sources outside the image are not simulated "
            f"(image_size {int(np.ceil(needed / values['cell'] / 2)) * 2} holds it)",
            DiffskyWarning,
            stacklevel=stacklevel + 1,
        )


def _highest_elevation(values):
    """Largest elevation during the observation in deg; the zenith where the place is unknown."""
    if values["latitude"] is None:
        return 90.0
    latitude, dec = np.deg2rad([values["latitude"], values["dec"]])
    half = values["total_time"] / 3600 / 2
    angle = np.deg2rad(15 * (values["hour_angle"] + np.linspace(-half, half, 101)))
    sine = np.sin(latitude) * np.sin(dec) + np.cos(latitude) * np.cos(dec) * np.cos(angle)
    return float(np.rad2deg(np.arcsin(sine.max())))
