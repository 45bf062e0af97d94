"""What a CASA job needs, checked: antenna file, direction, sky, seed, plain values."""

import hashlib
import re

import astropy.units as u
import numpy as np
from astropy.coordinates import FK4, FK5, ICRS, Galactic, SkyCoord
from astropy.nddata import NDData
from astropy.table import Table

from diffsky.instrument.antennas import find_array, read_array
from diffsky.simulation._casa_checks import check_elevation, check_sampling
from diffsky.simulation.sources import SHAPES
from diffsky.simulation.user_skies import source_columns

__all__ = [
    "casa_seed",
    "check_count",
    "check_quantity",
    "observation_job",
    "parse_direction",
    "setup_values",
    "sky_inputs",
    "telescope",
]

_DEFAULT_SEED = 11111  # of simobserve, and so of simalma
_LARGEST_SEED = 2**31 - 1
_SIMULATORS = ("simobserve", "simalma")
_ALMA = ("ALMA", "ACA")  # names in the headers of antenna files
_FRAMES = {"J2000": FK5, "ICRS": ICRS, "B1950": FK4, "GALACTIC": Galactic}
_SAME_POSITION = 0.1  # pixels


def check_quantity(name, value, unit):
    """Refuse what is not one positive Quantity like ``unit``; an hour angle may have any sign."""
    if not isinstance(value, u.Quantity) or not value.isscalar:
        raise TypeError(f"{name} is {value!r}; expected one Quantity in {unit} or the like")
    number = value.to_value(unit)
    if not np.isfinite(number) or (number <= 0 and name != "hour_angle"):
        raise ValueError(f"{name} is {value}; expected a positive, finite value")


def check_count(name, value, step):
    """Refuse what is not a positive int, a multiple of ``step``."""
    is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_int or value < step or value % step:
        kind = "an even" if step == 2 else "a"
        raise ValueError(f"{name} is {value!r}; expected {kind} positive int")


def parse_direction(text):
    """Read a direction as CASA writes it, with units and perhaps a frame.

    Parameters
    ----------
    text : str
        Such as "J2000 10h00m28.6s +02d12m21.0s" or "150.119deg 2.2deg".

    Returns
    -------
    `~astropy.coordinates.SkyCoord`

    Raises
    ------
    ValueError
        If it cannot be read, or has no units.
    """
    frame, _, rest = text.strip().partition(" ")
    known = frame.upper() in _FRAMES
    frame, place = (_FRAMES[frame.upper()](), rest) if known else (ICRS(), text)
    try:
        return SkyCoord(place, frame=frame)
    except ValueError as error:
        raise ValueError(
            f"direction is {text!r}; expected a SkyCoord or a text such as 'J2000 10h00m28.6s "
            "+02d12m21.0s' or 'J2000 150.119deg 2.2deg'"
        ) from error


def setup_values(setup, array):
    """Plain values of an `ObservationSetup`, as the worker reads them.

    Parameters
    ----------
    setup : `diffsky.simulation.casa.ObservationSetup`
    array : `pathlib.Path`
        Its antenna file.

    Returns
    -------
    dict
        Frequencies in Hz, times in s, hour angle in h, pwv in mm, cell in arcsec, angles in deg;
        "antennas" is the text of the antenna file, "telescope" the name in its header and
        "latitude" that of the array, None where the file does not say it.

    Raises
    ------
    ValueError
        If the direction stays below 10 deg of elevation, or the pixels are too large for the
        longest baseline.
    """
    direction = setup.direction.transform_to(FK5())
    ra = direction.ra.to_string(unit=u.hourangle, sep="hms", precision=7, pad=True)
    dec = direction.dec.to_string(unit=u.deg, sep="dms", precision=6, pad=True, alwayssign=True)
    values = {
        "array": array.stem,
        "direction": f"J2000 {ra} {dec}",  # CASA predicts zeros for decimal degrees
        "ra": float(direction.ra.deg),
        "dec": float(direction.dec.deg),
        "frequency": float(setup.frequency.to_value(u.Hz)),
        "bandwidth": float(setup.bandwidth.to_value(u.Hz)),
        "n_channels": int(setup.n_channels),
        "total_time": float(setup.total_time.to_value(u.s)),
        "integration": float(setup.integration.to_value(u.s)),
        "hour_angle": float(setup.hour_angle.to_value(u.hourangle)),
        "pwv": float(setup.pwv.to_value(u.mm)),
        "weighting": setup.weighting,
        "robust": float(setup.robust),
        "cell": float(setup.cell.to_value(u.arcsec)),
        "image_size": int(setup.image_size),
        "pblimit": float(setup.pblimit),
        "telescope": telescope(array),
        "latitude": _latitude(array),
        "antennas": array.read_text(errors="replace"),
    }
    values["antennas_sha256"] = hashlib.sha256(values["antennas"].encode()).hexdigest()
    check_elevation(values)
    check_sampling(values)
    return values


def _latitude(array):
    try:
        return round(read_array(array).latitude, 6)
    except ValueError:  # for CASA to judge
        return None


def telescope(array):
    """Name of the telescope in the header of an antenna file, "" if it has none."""
    match = re.search(r"#\s*observatory\s*=\s*(\w+)", array.read_text(errors="replace"))
    return match[1] if match else ""


def observation_job(setup, *, seed, simulator):
    """Plain values of one observation, checked.

    Parameters
    ----------
    setup : `diffsky.simulation.ObservationSetup`
    seed : int or None
        As `casa_seed` gives it; None is without noise.
    simulator : {"simobserve", "simalma"}

    Returns
    -------
    dict
        The job but for its task and its sky.

    Raises
    ------
    ValueError
        As `find_array` and `setup_values`, or if simalma cannot do it.
    """
    if simulator not in _SIMULATORS:
        raise ValueError(f"simulator is {simulator!r}; expected one of {_SIMULATORS}")
    job = setup_values(setup, find_array(setup.array))
    job |= {"simulator": simulator, "seed": seed}
    if simulator == "simalma" and job["telescope"] not in _ALMA:
        raise ValueError(f"array is of {job['telescope']!r}; simalma takes ALMA and ACA alone")
    if simulator == "simalma" and seed not in (None, _DEFAULT_SEED):
        raise ValueError(f'seed is {seed}; simalma has none but "casa-default"')
    return job


def casa_seed(seed):
    """CASA's seed for an int or "casa-default"; anything else is a ValueError."""
    if isinstance(seed, str) and seed == "casa-default":
        return _DEFAULT_SEED
    is_int = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not is_int or not 0 <= seed <= _LARGEST_SEED:
        raise ValueError(f'seed is {seed!r}; expected an int from 0 to 2**31 - 1 or "casa-default"')
    return int(seed)


def sky_inputs(sky, setup):
    """Arrays of a sky for the worker.

    Parameters
    ----------
    sky : array_like, `~astropy.nddata.NDData` or `~astropy.table.Table`
        As `diffsky.simulation.casa.simulate_observation` takes it.
    setup : `diffsky.simulation.casa.ObservationSetup`

    Returns
    -------
    dict of `numpy.ndarray`
        "sky" in Jy/pix, or the columns "flux" (Jy), "ra", "dec" (deg), "major", "minor" (arcsec),
        "pa" (deg) and "disk" (1 or 0) of CASA's components; nothing for a table without rows.

    Raises
    ------
    ValueError
        If the sky cannot be observed as it is.
    """
    if isinstance(sky, Table):
        return _components(source_columns(sky), setup)
    if isinstance(sky, NDData):
        _check_nddata(sky, setup)
        sky = sky.data if sky.unit is None else sky.data * sky.unit
    if isinstance(sky, u.Quantity):
        sky = sky.to_value(u.Jy / u.pix)
    image = np.asarray(sky, dtype=float)
    shape = (setup.image_size, setup.image_size)
    if image.shape != shape:
        raise ValueError(f"sky has shape {image.shape}; expected {shape}, that of the image")
    _check_fluxes(image, "pixels")
    return {"sky": image}


def _check_nddata(sky, setup):
    if sky.mask is not None and np.any(sky.mask):
        raise ValueError(f"sky has {np.sum(sky.mask)} masked pixels; expected a value everywhere")
    if sky.wcs is None or sky.data.shape != setup.wcs.array_shape:
        return  # the shape has an error of its own
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * (setup.image_size - 1)
    there = setup.wcs.world_to_pixel(sky.wcs.pixel_to_world(*corners.T))
    shift = np.abs(np.transpose(there) - corners).max()
    if not shift < _SAME_POSITION:
        raise ValueError(
            f"the WCS of sky differs from that of the image by {shift:.3g} pixels; expected "
            f"setup.wcs, centred at {setup.direction.to_string('hmsdms')}"
        )


def _components(columns, setup):
    """Components of CASA, which has points, Gaussians and disks; a ring becomes points."""
    if not len(columns["flux"]):
        return {}
    _check_fluxes(columns["flux"], "fluxes")
    ring = columns["shape"] == SHAPES.index("ring")
    centres = columns["sky_centroid"].transform_to(FK5())
    table = {
        "flux": columns["flux"],
        "ra": centres.ra.deg,
        "dec": centres.dec.deg,
        "major": columns["major"],
        "minor": columns["minor"],
        "pa": np.degrees(columns["pa"]),
        "disk": (columns["shape"] == SHAPES.index("disk")).astype(float),
    }
    cell = setup.cell.to_value(u.arcsec)
    rings = [_ring(*row, cell) for row in zip(*(c[ring] for c in table.values()), strict=True)]
    parts = [{name: column[~ring] for name, column in table.items()}, *rings]
    return {name: np.concatenate([part[name] for part in parts]) for name in table}


def _ring(flux, ra, dec, major, minor, pa, _, cell):
    """Points along a ring, close enough that no baseline tells it from them."""
    from diffsky.simulation.rendering import shape_nodes

    nodes, weights = shape_nodes("ring", major / cell)
    along, across = (nodes * [major, minor] / 2).T
    places = SkyCoord(ra * u.deg, dec * u.deg, frame=FK5())
    angle = pa * u.deg + np.arctan2(across, along) * u.rad
    places = places.directional_offset_by(angle, np.hypot(along, across) * u.arcsec)
    zeros = np.zeros(len(weights))
    return {
        "flux": flux * weights,
        "ra": places.ra.deg,
        "dec": places.dec.deg,
        **dict.fromkeys(("major", "minor", "pa", "disk"), zeros),
    }


def _check_fluxes(values, what):
    if not np.isfinite(values).all():
        raise ValueError(f"sky has {np.sum(~np.isfinite(values))} {what} that are not finite")
    if np.any(values < 0):
        raise ValueError(f"sky has {np.sum(values < 0)} negative {what}; expected 0 and more")
    if not np.any(values):
        raise ValueError(f"sky has no flux: all its {what} are 0")
