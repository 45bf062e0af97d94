"""Thermal noise of ALMA from the weather: what CASA's simulator calls ``tsys-atm``.

The atmosphere is that of CASA's ATM library (Pardo, Cernicharo & Serabyn 2001) above 5000 m, as a
table. Efficiencies and receivers are those of CASA's ``simobserve``.
"""

import functools
from importlib.resources import files

import numpy as np

__all__ = ["image_rms", "system_temperature", "visibility_noise"]

_BOLTZMANN = 1.380649e-23  # J / K
_KELVIN_PER_GHZ = 0.04799274551  # h / k
_LIGHT = 299792458.0
_JY = 1e-26  # W / m**2 / Hz
_BACKGROUND, _GROUND = 2.73, 270.0  # K
_SPILLOVER, _TAPER = 0.95, 0.72
_BLOCKAGE = 0.75  # m
_OPAQUE = 10  # opacity along the line of sight
# Diameter in m, rms of the surface in m, efficiency of the correlator.
_DISHES = {"ALMA": (12.0, 25e-6, 0.845), "ACA": (7.0, 20e-6, 0.88)}
# A receiver serves from its frequency in GHz up to the next one; noise in K.
_BANDS = (35, 50, 84, 116, 162, 211, 275, 373, 500, 720)
_RECEIVERS = (28, 30, 40, 42, 50, 50, 72, 135, 105, 230)


def system_temperature(frequency, *, pwv, elevation):
    """System temperature, referred to above the atmosphere.

    With the occupation J(T) = 1 / (exp(x) - 1), x = h nu / k T, and the opacity tau along the
    line of sight,

        J(Tsys) = exp(tau) [s (J(background) exp(-tau) + (1 - exp(-tau)) / x(air))
                            + (1 - s) J(ground) + J(receiver)],

    where s is the spillover efficiency. The air emits as in the limit of Rayleigh and Jeans: so
    CASA's simulator behaves, to 0.4 % from 90 to 690 GHz.

    Parameters
    ----------
    frequency : float
        Hz, 35 to 950 GHz.
    pwv : float
        Precipitable water vapour in mm, above 0.
    elevation : array_like
        deg, above 0.

    Returns
    -------
    temperature : `numpy.ndarray`
        K, shape of ``elevation``.

    Raises
    ------
    ValueError
        If the frequency, the water vapour or an elevation is out of range, or the air is opaque.
    """
    ghz, elevation = frequency / 1e9, np.asarray(elevation, dtype=float)
    table = _atmosphere()
    low, high = table["frequency"][[0, -1]]
    if not low <= ghz <= high:
        raise ValueError(f"frequency is {ghz:g} GHz; expected {low:g} to {high:g} GHz")
    if not 0 < pwv < np.inf:
        raise ValueError(f"pwv is {pwv}; expected mm above 0")
    if not ((elevation > 0) & (elevation <= 90)).all():
        raise ValueError(f"elevation is {elevation.min():g} deg; expected above 0, up to 90 deg")
    airmass = 1 / np.sin(np.deg2rad(elevation))
    tau = airmass * (_at(ghz, table["dry"]) + pwv * _at(ghz, table["wet"]))
    if np.max(tau) > _OPAQUE:
        raise ValueError(
            f"the air is opaque at {ghz:g} GHz with {pwv:g} mm of water: its opacity is "
            f"{np.max(tau):.0f}; expected {_OPAQUE} or less"
        )
    photon = _KELVIN_PER_GHZ * ghz
    emitted = _air_temperature(ghz, pwv, airmass) / photon
    sky = _occupation(photon / _BACKGROUND) * np.exp(-tau) - emitted * np.expm1(-tau)
    receiver = _RECEIVERS[max(np.searchsorted(_BANDS, ghz) - 1, 0)]
    before = _SPILLOVER * sky + (1 - _SPILLOVER) * _occupation(photon / _GROUND)
    return photon / np.log1p(np.exp(-tau) / (before + _occupation(photon / receiver)))


def visibility_noise(frequency, *, pwv, elevation, areas, bandwidth, integration, telescope="ALMA"):
    """Noise of a visibility: 2 k Tsys / (efficiencies x area x sqrt(2 bandwidth x time)).

    Parameters
    ----------
    frequency : float
        Hz.
    pwv : float
        Precipitable water vapour in mm.
    elevation : array_like
        deg.
    areas : array_like
        Product of the diameters of the two dishes in m**2.
    bandwidth : float
        Hz.
    integration : float
        s.
    telescope : {"ALMA", "ACA"}, optional
        Whose dishes and correlator.

    Returns
    -------
    noise : `numpy.ndarray`
        Standard deviation in Jy of the real part, and of the imaginary part, in one polarisation.

    Raises
    ------
    ValueError
        If the telescope has no known receivers, or as `system_temperature`.
    """
    if telescope not in _DISHES:
        raise ValueError(
            f"the receivers of telescope {telescope!r} are not known; expected one of "
            f"{', '.join(_DISHES)}, or a noise rms of your own"
        )
    diameter, surface, correlator = _DISHES[telescope]
    ruze = np.exp(-((4 * np.pi * surface * frequency / _LIGHT) ** 2))
    efficiency = ruze * _SPILLOVER * (1 - (_BLOCKAGE / diameter) ** 2) * _TAPER * correlator
    temperature = system_temperature(frequency, pwv=pwv, elevation=elevation)
    density = 2 * _BOLTZMANN * temperature / (efficiency * np.pi / 4 * np.asarray(areas)) / _JY
    return density / np.sqrt(2 * bandwidth * integration)


def image_rms(imaging_weights, noise, *, n_polarizations=2):
    """Noise rms of a dirty image of visibilities whose noise is independent.

    Parameters
    ----------
    imaging_weights : array_like
        Shape (n,): weight of each visibility in the image.
    noise : array_like
        Shape (n,): of the real part in one polarisation, from `visibility_noise`, in Jy.
    n_polarizations : int, optional
        How many are averaged.

    Returns
    -------
    rms : float
        Jy/beam: sqrt(sum w**2 noise**2 / polarisations) / sum w.
    """
    weights = np.asarray(imaging_weights, dtype=float)
    variance = (weights * np.asarray(noise)) ** 2 / n_polarizations
    return float(np.sqrt(variance.sum()) / weights.sum())


@functools.cache
def _atmosphere():
    """Opacities at the zenith (of water for 1 mm) and temperatures of the air, by frequency."""
    path = files("diffsky") / "data" / "atmosphere" / "chajnantor.npz"
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        return dict(stored)


def _occupation(x):
    return 1 / np.expm1(x)


def _at(ghz, column):
    return np.interp(ghz, _atmosphere()["frequency"], column)


def _air_temperature(ghz, pwv, airmass):
    """Mean temperature of what emits, between the nodes of the table."""
    table = _atmosphere()
    first = min(np.searchsorted(table["frequency"], ghz), len(table["frequency"]) - 2)
    span = slice(first, first + 2)
    at_frequency = [
        np.interp(ghz, table["frequency"][span], plane[span].astype(float))
        for plane in table["air"].reshape(-1, len(table["frequency"]))
    ]
    nodes = np.reshape(at_frequency, table["air"].shape[:2])
    logs = np.log(table["pwv"])
    at_pwv = [np.interp(np.log(pwv), logs, column) for column in nodes.T]
    return np.interp(airmass, table["airmass"], at_pwv)
