"""Antenna configurations: where the dishes of an array stand."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

import erfa
import numpy as np

__all__ = ["AntennaArray", "find_array", "read_array"]

_WGS84 = 1  # erfa's number of the ellipsoid

# Longitude and latitude in deg and height in m, as CASA has them for local coordinates.
_OBSERVATORIES = {
    "ALMA": (-67.754929, -23.022886, 5056.8),
    "ACA": (-67.75487666, -23.02781576, 5056.8),
    "ATCA": (149.55013881, -30.31288462, 236.87),
    "EVLA": (-107.618, 34.07882683, 2118.61),
    "IRAM_PDB": (5.90671008, 44.63368279, 2616.38),
    "MEERKAT": (21.4439, -30.7132, 1050.0),
    "NGVLA": (-107.6410218, 34.08296317, 2126.71),
    "SMA": (-155.47752222, 19.94717696, 6581.49),
    "VLA": (-107.61833368, 34.07881334, 2114.89),
    "WSRT": (6.60416667, 52.91691667, 5.0),
}


@dataclass(frozen=True, eq=False)
class AntennaArray:
    """The antennas of an array.

    Parameters
    ----------
    positions : `numpy.ndarray`
        Shape (n, 3): geocentric x, y and z (ITRF) in metres.
    diameters : `numpy.ndarray`
        Shape (n,): diameters of the dishes in metres.
    telescope : str
        Name of the observatory in capitals, "" if it has none.
    longitude, latitude : float
        Of the array, geodetic, in deg.
    """

    positions: np.ndarray
    diameters: np.ndarray
    telescope: str
    longitude: float
    latitude: float


def find_array(array):
    """Find an antenna configuration file.

    Parameters
    ----------
    array : str or path-like
        A path, or the name of a file of CASA's ``alma/simmos`` with or without ``.cfg``; names
        need the extra ``casa``.

    Returns
    -------
    path : `pathlib.Path`
        Of the file.

    Raises
    ------
    ImportError
        If ``array`` is no file and CASA's data are not installed.
    ValueError
        If there is none; the message lists similar names.
    """
    given = Path(array).expanduser()
    if given.is_file():
        return given.resolve()
    try:
        import casadata
    except ImportError as error:
        raise ImportError(
            f"array is {str(array)!r}, which is no file; the names of CASA's configurations need "
            'pip install "diffsky-radio[casa]"'
        ) from error
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


def read_array(array):
    """Read an antenna configuration file.

    Parameters
    ----------
    array : str or path-like
        The path of a file as CASA's ``simobserve`` takes it, or the name of one that comes with
        CASA, with or without ``.cfg``; names need the extra ``casa``. A line of the file is x, y
        and z in metres and the diameter; ``# coordsys=`` is XYZ (geocentric), or LOC or ENU (east,
        north and up of the array, whose place is ``# COFA=longitude,latitude`` or that of
        ``# observatory=``).

    Returns
    -------
    array : `AntennaArray`
        Its antennas in the order of the file.

    Raises
    ------
    ImportError
        If ``array`` is a name and CASA's data are not installed.
    ValueError
        If there is no such file, or it has no coordinate system that can be used, unknown
        coordinates of the array, lines that are no antennas, or less than two antennas.
    """
    path = find_array(array)
    header, rows = _parse(path)
    places, diameters = np.array([row[:3] for row in rows]), np.array([row[3] for row in rows])
    if not (np.isfinite(places).all() and (diameters > 0).all()):
        raise ValueError(f"{path}: expected finite positions and diameters above 0")
    system = header.get("coordsys", "").upper()[:3]
    telescope = header.get("observatory", "").upper()
    if system in ("LOC", "ENU"):
        longitude, latitude, height = _location(header, telescope, path)
        places = _geocentric(places, longitude, latitude, height)
    elif system == "XYZ":
        longitude, latitude, _ = erfa.gc2gd(_WGS84, places.mean(axis=0))
        longitude, latitude = np.rad2deg([longitude, latitude])
    else:
        found = header.get("coordsys", "none")
        raise ValueError(f"{path}: coordsys is {found!r}; expected XYZ, LOC or ENU")
    return AntennaArray(places, diameters, telescope, float(longitude), float(latitude))


def _parse(path):
    """Header and rows of (x, y, z, diameter)."""
    header, rows = {}, []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        match = re.match(r"#+\s*(\w+)\s*=\s*([^\s#]+)", line)
        if match:
            header[match[1]] = match[2]
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words[:4]])
        except ValueError:
            raise ValueError(f"{path}, line {number}: expected x y z diameter") from None
        if len(words) < 4:
            raise ValueError(f"{path}, line {number}: expected x y z diameter, in metres")
    if len(rows) < 2:
        raise ValueError(f"{path} has {len(rows)} antennas; expected at least 2")
    return header, rows


def _location(header, telescope, path):
    if "COFA" in header:
        longitude, latitude = (float(word) for word in header["COFA"].split(","))
        return longitude, latitude, 0.0
    if telescope not in _OBSERVATORIES:
        raise ValueError(
            f"{path}: observatory is {telescope or 'none'}; expected '# COFA=longitude,latitude' "
            f"or one of {', '.join(_OBSERVATORIES)}"
        )
    return _OBSERVATORIES[telescope]


def _geocentric(places, longitude, latitude, height):
    """East, north and up at a place on the ellipsoid, as geocentric coordinates."""
    lon, lat = np.deg2rad([longitude, latitude])
    origin = erfa.gd2gc(_WGS84, lon, lat, height)
    east = [-np.sin(lon), np.cos(lon), 0]
    north = [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)]
    up = [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]
    return origin + places @ np.array([east, north, up])
