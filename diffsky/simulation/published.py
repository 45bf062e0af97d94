"""The simulated pairs that the authors of D24 published, in the layout of their files."""

from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import FK5, SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS

from diffsky._reading import make_beam
from diffsky.images import load_image
from diffsky.simulation._plain_pickle import load_plain_pickle
from diffsky.simulation.rendering import render_sources
from diffsky.simulation.sources import SourceList

__all__ = ["PublishedPair", "read_drozdova2024"]

_CELL = 0.1  # arcsec
_BEAM = (0.89 * u.arcsec, 0.82 * u.arcsec, 84 * u.deg)
_FREQUENCY = 230 * u.GHz
_COLUMNS = ("ra", "dec", "flux / 50 uJy", "snr", "flux", "minor", "major")
_ROUNDS = 4  # sources whose images touch each other need a few to agree on their angles


@dataclass(frozen=True, kw_only=True)
class PublishedPair:
    """One pair of the published data: a dirty image with its truth.

    Parameters
    ----------
    key : str
        The authors' name of it.
    dirty : `~astropy.nddata.CCDData`
        Dirty image in Jy/beam, apparent sky; NaN and masked where the primary beam is below 0.2.
        ``meta`` has "beam", "frequency" and "telescope", so `diffsky.DiffusionDeconvolver.predict`
        takes it as it is.
    sky : `~astropy.nddata.CCDData`
        True sky in Jy/pix, before the primary beam, on the WCS of the dirty image;
        ``meta["kernel_fwhm"]`` is 0 arcsec.
    sources : `~astropy.table.QTable`
        id, sky_centroid, x_centroid, y_centroid (0-based pixels), flux (Jy), major, minor (FWHM),
        pa (east of north, measured on the sky: the files do not give it) and snr as published
        (normalised).
    """

    key: str
    dirty: CCDData
    sky: CCDData
    sources: QTable


def read_drozdova2024(folder, *, beam=None):
    """Read the simulated pairs published with D24.

    The folder holds ``sky_keys.npy``, ``ra_dec.npy``, ``sky_sources_snr_extended.npy`` and, by
    their place among the keys, ``dirty/00000.npy`` and ``true/00000.npy``: images of 0.1 arcsec
    in Jy/beam and Jy/pixel. The phase centre is at pixel ``n // 2``. Two of the files are
    pickled; dicts, lists, str, floats and NumPy scalars are all that is read from them, and
    nothing in them is executed.

    Parameters
    ----------
    folder : str or path-like
        The folder.
    beam : `~radio_beam.Beam`, `~astropy.units.Quantity` or tuple, optional
        The restoring beam, which the files do not give. By default 0.89 x 0.82 arcsec (D24
        section 3.5) at 84 deg, as CASA finds for this array and field.

    Returns
    -------
    iterator of `PublishedPair`
        In the order of the keys, each read when it is asked for.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is not as expected, or a pickled one holds anything but plain values. What
        concerns an image is raised when that pair is asked for.
    """
    folder = Path(folder).expanduser()
    beam = make_beam(_BEAM if beam is None else beam)
    keys = [str(key) for key in _load_array(folder / "sky_keys.npy", kinds="U", ndim=1)]
    centres = load_plain_pickle(folder / "ra_dec.npy")
    tables = load_plain_pickle(folder / "sky_sources_snr_extended.npy")
    entries = []
    for place, key in enumerate(keys):
        for name in ("dirty", "true"):
            path = folder / name / f"{place:05d}.npy"
            if not path.is_file():
                raise FileNotFoundError(f"{path}, image of the key {key}, is missing")
        entries.append((key, _find_centre(centres, key), _find_rows(tables, key)))
    return (_read_pair(folder, place, *entry, beam=beam) for place, entry in enumerate(entries))


def _load_array(path, *, kinds, ndim):
    """Array of a file, never unpickled."""
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not readable: {error}") from error
    if array.dtype.kind not in kinds or array.ndim != ndim:
        raise ValueError(
            f"{path} holds {array.ndim} axes of {array.dtype}; expected {ndim} of the kind {kinds}"
        )
    return array


def _find_centre(centres, key):
    try:
        ra, dec = (float(centres[key][name]) for name in ("RA", "DEC"))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"ra_dec.npy has no phase centre (RA and DEC in deg) of the key {key}: {error!r}"
        ) from error
    return ra, dec


def _find_rows(tables, key):
    try:
        return np.array(tables[key], dtype=float).reshape(-1, len(_COLUMNS))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"sky_sources_snr_extended.npy has no rows of {len(_COLUMNS)} numbers {_COLUMNS} of "
            f"the key {key}: {error!r}"
        ) from error


def _read_pair(folder, place, key, centre, rows, *, beam):
    dirty, sky = (
        _load_array(folder / name / f"{place:05d}.npy", kinds="f", ndim=2)
        for name in ("dirty", "true")
    )
    if sky.shape != dirty.shape:
        raise ValueError(
            f"{folder / 'true'}/{place:05d}.npy has the shape {sky.shape}; expected that of the "
            f"dirty image, {dirty.shape}"
        )
    wcs = _make_wcs(*centre, dirty.shape)
    meta = {"beam": beam, "frequency": _FREQUENCY, "telescope": "ALMA"}
    return PublishedPair(
        key=key,
        dirty=load_image(CCDData(dirty, unit=u.Jy / u.beam, wcs=wcs, meta=meta)),
        sky=CCDData(sky, unit=u.Jy / u.pix, wcs=wcs, meta={"kernel_fwhm": 0 * u.arcsec}),
        sources=_make_table(rows, sky, wcs),
    )


def _make_wcs(ra, dec, shape):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---SIN", "DEC--SIN"], ["deg", "deg"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [n // 2 + 1 for n in shape[::-1]]
    wcs.wcs.cdelt = [-_CELL / 3600, _CELL / 3600]
    wcs.wcs.radesys, wcs.wcs.equinox = "FK5", 2000.0
    wcs.array_shape = shape
    wcs.wcs.set()
    return wcs


def _make_table(rows, sky, wcs):
    values = dict(zip(_COLUMNS, rows.T, strict=True))
    positions = SkyCoord(values["ra"] * u.deg, values["dec"] * u.deg, frame=FK5())
    x, y = (np.asarray(axis, dtype=float) for axis in wcs.world_to_pixel(positions))
    ny, nx = sky.shape
    sources = SourceList(
        x - nx // 2,
        y - ny // 2,
        values["flux"],
        values["major"] / _CELL,
        values["minor"] / _CELL,
        np.zeros(len(rows)),
    )
    return QTable(
        {
            "id": np.arange(1, len(rows) + 1),
            "sky_centroid": positions.icrs,
            "x_centroid": x,
            "y_centroid": y,
            "flux": values["flux"] * u.Jy,
            "major": values["major"] * u.arcsec,
            "minor": values["minor"] * u.arcsec,
            "pa": np.degrees(_measure_angles(sources, sky)) * u.deg,
            "snr": values["snr"],
        }
    )


def _measure_angles(sources, sky):
    """Position angles from the second moments of each source, the others taken off."""
    pa = sources.pa
    ny, nx = sky.shape
    y, x = np.indices(sky.shape)
    for _ in range(_ROUNDS):
        found = np.zeros_like(pa)
        for k in range(len(sources)):
            turned = SourceList(
                sources.x, sources.y, sources.flux, sources.major, sources.minor, pa
            )
            others = turned[np.arange(len(pa)) != k]
            owner = np.zeros(len(others), dtype=int)
            left = sky - render_sources(others, owner, 1, sky.shape)[0].numpy()
            dx, dy = x - nx // 2 - sources.x[k], y - ny // 2 - sources.y[k]
            near = np.hypot(dx, dy) < 1.5 * sources.major[k]
            weight, dx, dy = left[near], dx[near], dy[near]
            xx, yy, xy = ((weight * one).sum() for one in (dx * dx, dy * dy, dx * dy))
            found[k] = 0.5 * np.arctan2(-2 * xy, yy - xx) % np.pi
        pa = found
    return pa
