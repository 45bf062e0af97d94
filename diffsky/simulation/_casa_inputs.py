"""What a CASA job needs, checked: antenna file, elevation, sky, seed, plain values."""

import difflib
import re
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import FK5
from astropy.nddata import NDData
from astropy.table import Table

__all__ = [
    "casa_seed",
    "check_count",
    "check_quantity",
    "find_array",
    "setup_values",
    "sky_inputs",
    "telescope",
]

_DEFAULT_SEED = 11111  # of simobserve, and so of simalma
_LARGEST_SEED = 2**31 - 1
_LATITUDES = {"ALMA": -23.03, "ACA": -23.03, "VLA": 34.08, "SMA": 19.82}  # deg
_LOWEST_ELEVATION = 10.0  # deg; CASA flags what is lower
_SHAPE_COLUMNS = {"major": u.arcsec, "minor": u.arcsec, "pa": u.deg}
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
        Frequencies in Hz, times in s, hour angle in h, pwv in mm, cell in arcsec, angles in deg.

    Raises
    ------
    ValueError
        If the direction stays below 10 deg of elevation.
    """
    direction = setup.direction.transform_to(FK5())
    ra = direction.ra.to_string(unit=u.hourangle, sep="hms", precision=7, pad=True)
    dec = direction.dec.to_string(unit=u.deg, sep="dms", precision=6, pad=True, alwayssign=True)
    values = {
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
    }
    _check_elevation(values, telescope(array))
    return values


def find_array(array):
    """Path of an antenna file.

    Parameters
    ----------
    array : str or path-like
        A path, or the name of a file of CASA's ``alma/simmos`` with or without ``.cfg``.

    Returns
    -------
    `pathlib.Path`

    Raises
    ------
    ValueError
        If there is none; the message lists similar names.
    """
    import casadata

    given = Path(array).expanduser()
    if given.is_file():
        return given.resolve()
    folder = Path(casadata.datapath) / "alma" / "simmos"
    names = sorted(path.stem for path in folder.glob("*.cfg"))
    name = given.name.removesuffix(".cfg")
    if len(given.parts) == 1 and name in names:
        return folder / f"{name}.cfg"
    similar = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    raise ValueError(
        f"array is {str(array)!r}; expected the path of a .cfg file or one of the {len(names)} "
        f"names in {folder}, such as {', '.join(similar or names[:5])}"
    )


def telescope(array):
    """Name of the telescope in the header of an antenna file, "" if it has none."""
    match = re.search(r"#\s*observatory\s*=\s*(\w+)", array.read_text(errors="replace"))
    return match[1] if match else ""


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
        "sky" in Jy/pix, or the columns "flux" (Jy), "ra", "dec" (deg), "major", "minor" (arcsec)
        and "pa" (deg).

    Raises
    ------
    ValueError
        If the sky cannot be observed as it is.
    """
    if isinstance(sky, Table):
        return _source_columns(sky)
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


def _source_columns(table):
    missing = {"flux", "sky_centroid"} - set(table.colnames)
    if missing or not len(table):
        raise ValueError(
            f"sky is a table of {len(table)} rows with the columns {table.colnames}; expected "
            "flux, sky_centroid and, for Gaussians, major, minor, pa, and at least one row"
        )
    centres = table["sky_centroid"].transform_to(FK5())
    columns = {
        "flux": u.Quantity(table["flux"]).to_value(u.Jy),
        "ra": centres.ra.deg,
        "dec": centres.dec.deg,
    }
    for name, unit in _SHAPE_COLUMNS.items():
        given = u.Quantity(table[name]).to_value(unit) if name in table.colnames else 0.0
        columns[name] = np.broadcast_to(given, len(table))
    columns = {name: np.asarray(column, dtype=float) for name, column in columns.items()}
    broken = [name for name, column in columns.items() if not np.isfinite(column).all()]
    if broken:
        raise ValueError(f"sky has values that are not finite in {', '.join(broken)}")
    _check_fluxes(columns["flux"], "fluxes")
    major, minor = columns["major"], columns["minor"]
    if np.any(minor > major) or np.any((minor <= 0) & (major > 0)):
        raise ValueError("sky has sizes other than 0 < minor <= major, or 0 and 0 for a point")
    return columns


def _check_fluxes(values, what):
    if not np.isfinite(values).all():
        raise ValueError(f"sky has {np.sum(~np.isfinite(values))} {what} that are not finite")
    if np.any(values < 0):
        raise ValueError(f"sky has {np.sum(values < 0)} negative {what}; expected 0 and more")
    if not np.any(values):
        raise ValueError(f"sky has no flux: all its {what} are 0")


def _check_elevation(values, name):
    """Refuse what stays below CASA's limit during the whole observation."""
    if name not in _LATITUDES:
        return
    latitude, dec = np.deg2rad([_LATITUDES[name], values["dec"]])
    half = values["total_time"] / 3600 / 2
    angle = np.deg2rad(15 * (values["hour_angle"] + np.linspace(-half, half, 101)))
    sine = np.sin(latitude) * np.sin(dec) + np.cos(latitude) * np.cos(dec) * np.cos(angle)
    highest = np.rad2deg(np.arcsin(sine.max()))
    if highest < _LOWEST_ELEVATION:
        raise ValueError(
            f"direction reaches {highest:.1f} deg of elevation at {name} during the observation; "
            f"expected at least {_LOWEST_ELEVATION:g} deg (declination {values['dec']:.2f} deg, "
            f"hour angle {values['hour_angle']:g} h)"
        )
