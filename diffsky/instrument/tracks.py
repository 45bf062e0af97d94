"""Where an array samples the uv plane while the sky turns above it."""

from dataclasses import dataclass

import astropy.units as u
import erfa
import numpy as np
from astropy.coordinates import FK5

__all__ = ["UVTracks", "uv_tracks"]

_LIGHT = 299792458.0
_DAY = 86400.0
_REFERENCE = 2456658.5  # 2014-01-01 0h UTC, the day of simobserve
_LEAP_SECONDS = 35.0  # TAI - UTC on that day
_TERRESTRIAL = 32.184  # TT - TAI in s
_LOWEST_ELEVATION = 8.0  # deg, where simobserve flags


@dataclass(frozen=True, eq=False)
class UVTracks:
    """Points of the uv plane and how they were measured.

    Parameters
    ----------
    uv : `numpy.ndarray`
        Shape (n, 2): u and v in wavelengths, with the signs of a measurement set; the conjugate
        points are not repeated.
    weights : `numpy.ndarray`
        Shape (n,): (D1 D2 / Dmax**2)**2 of the dishes' diameters, as CASA's simulator has it.
    elevation : `numpy.ndarray`
        Shape (n,): elevation of the source in deg.
    areas : `numpy.ndarray`
        Shape (n,): product of the diameters of the two dishes in m**2.
    rows : `numpy.ndarray` of int
        Shape (n,): which of all visibilities a point is, counted integration by integration and
        within one baseline by baseline, those that are left out among them.
    flagged : float
        Share of the visibilities that are left out: shadowed, or too low.
    """

    uv: np.ndarray
    weights: np.ndarray
    elevation: np.ndarray
    areas: np.ndarray
    rows: np.ndarray
    flagged: float


def uv_tracks(array, *, direction, frequency, total_time, integration, hour_angle=0 * u.hourangle):
    """Compute the uv points of an observation, as CASA's ``simobserve`` has them.

    The observation is on 2014-01-01, and its hour angles count from that of the middle. Rows of
    antennas that are shadowed and integrations below 8 deg of elevation are left out. The points
    are those of CASA to 2 wavelengths in 330,000: precession, nutation and aberration are in.

    Parameters
    ----------
    array : `AntennaArray`
        The antennas.
    direction : `~astropy.coordinates.SkyCoord`
        Phase centre.
    frequency : `~astropy.units.Quantity`
        Frequency of the uv points: the centre of the band.
    total_time, integration : `~astropy.units.Quantity`
        Time on source, and of one integration.
    hour_angle : `~astropy.units.Quantity`, optional
        Hour angle in the middle of the observation.

    Returns
    -------
    tracks : `UVTracks`
        The points, integration by integration.

    Raises
    ------
    ValueError
        If the source stays below 8 deg, or every antenna is shadowed.
    """
    centre = direction.transform_to(FK5())
    source = erfa.s2c(centre.ra.rad, centre.dec.rad)
    step = integration.to_value(u.s)
    count = max(1, int(np.ceil(total_time.to_value(u.s) / step - 1e-9)))
    middle = hour_angle.to_value(u.hourangle) * 3600
    times = middle - total_time.to_value(u.s) / 2 + (np.arange(count) + 0.5) * step
    apparent, turns = _rotations(source, array.longitude, times)
    antennas = np.einsum("kj,tij,ai->tak", _axes(source, apparent), turns, array.positions)
    elevation = _elevation(apparent, turns, array)
    first, second = np.triu_indices(len(array.diameters), 1)
    baselines = antennas[:, first] - antennas[:, second]
    dropped = _shadowed(baselines, array.diameters, first, second)
    dropped |= (elevation < _LOWEST_ELEVATION)[:, None]
    if dropped.all():
        raise ValueError(
            f"no visibility is left: the elevation is {elevation.min():.1f} to "
            f"{elevation.max():.1f} deg, expected {_LOWEST_ELEVATION:g} or more, or every antenna "
            "is shadowed"
        )
    integrations, pairs = np.nonzero(~dropped)
    areas = (array.diameters[first] * array.diameters[second])[pairs]
    wavelength = _LIGHT / frequency.to_value(u.Hz)
    return UVTracks(
        uv=baselines[integrations, pairs, :2] / wavelength,
        weights=(areas / array.diameters.max() ** 2) ** 2,
        elevation=elevation[integrations],
        areas=areas,
        rows=integrations * dropped.shape[1] + pairs,
        flagged=float(dropped.mean()),
    )


def _rotations(source, longitude, times):
    """Aberrated direction, and the rotations from the sky to the Earth at hour angles in s.

    simobserve takes the hour angle at 0h of its day, counts from there in seconds that are solar,
    and takes TAI for UT1: hour angles are off by up to two minutes, and so are these.
    """
    tt = (_LEAP_SECONDS + _TERRESTRIAL) / _DAY
    ra, dec, _ = erfa.atci13(*erfa.c2s(source), 0, 0, 0, 0, _REFERENCE, tt)
    midnight = erfa.anpm(erfa.era00(_REFERENCE, 0) + np.deg2rad(longitude) - ra)
    universal = (times - midnight / (2 * np.pi) * _DAY + _LEAP_SECONDS) / _DAY
    turns = erfa.c2t06a(_REFERENCE, universal + tt, _REFERENCE, universal, 0, 0)
    return erfa.c2i06a(_REFERENCE, tt).T @ erfa.s2c(ra, dec), turns


def _axes(source, apparent):
    """Unit vectors of u, v and w: east at the source, moved along to where it appears."""
    east = np.cross([0, 0, 1], source)
    east -= (east @ apparent) * apparent
    east /= np.linalg.norm(east)
    return np.stack([east, np.cross(apparent, east), apparent])


def _elevation(apparent, turns, array):
    zenith = erfa.s2c(*np.deg2rad([array.longitude, array.latitude]))
    return np.rad2deg(np.arcsin(np.clip(turns @ apparent @ zenith, -1, 1)))


def _shadowed(baselines, diameters, first, second):
    """Rows with an antenna whose disk overlaps that of another.

    Of the two, simobserve takes the one whose w is larger: baselines are first minus second.
    """
    near = (
        np.hypot(*np.moveaxis(baselines[..., :2], -1, 0))
        < (diameters[first] + diameters[second]) / 2
    )
    integrations, pairs = np.nonzero(near)
    w = baselines[integrations, pairs, 2]
    antennas = np.zeros((len(baselines), len(diameters)), dtype=bool)
    antennas[integrations[w >= 0], first[pairs[w >= 0]]] = True
    antennas[integrations[w <= 0], second[pairs[w <= 0]]] = True
    return antennas[:, first] | antennas[:, second]
