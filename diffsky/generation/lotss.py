"""Fetch mosaics of LoTSS DR2 and the catalogue of Hardcastle et al. (2023) from their archives."""

import http.client
import operator
import re
import shutil
import urllib.error
import urllib.request
import warnings
from functools import partial
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyWarning
from tqdm import tqdm

from diffsky import __version__
from diffsky._reading import parse_unit
from diffsky._store_files import remove_leftovers, scratch_folder
from diffsky.generation.survey_catalog import SURVEY_COLUMNS

__all__ = ["CATALOG_SERVICE", "MOSAIC_SERVICE", "fetch_lotss", "find_lotss_mosaics"]

MOSAIC_SERVICE = "https://vo.astron.nl/__system__/tap/run/tap"
CATALOG_SERVICE = "https://tapvizier.cds.unistra.fr/TAPVizieR/tap"

_MOSAICS = (
    "SELECT mosaic_id, accref, accsize, centeralpha, centerdelta, pixelsize, pixelscale "
    "FROM lotss_dr2.mosaics"
)
_CATALOG = "J/A+A/678/A151/catalog"
_WHOLE_CATALOG = (
    "https://lofar-surveys.org/public/DR2/catalogues/combined-release-v1.2-LM_opt_mass.fits"
)
_NAME = re.compile(r"\w[\w.+-]*")  # of a mosaic, which becomes that of a file
_UCDS = {"ra": "pos.eq.ra;meta.main", "dec": "pos.eq.dec;meta.main"}
_CONE = ("CONE_RA", "CONE_DEC", "CONE_RAD")
_TRUTHS = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False, "": False}
_BLOCK = 2**20
_TIMEOUT = 60  # s without a byte
_SHOWN = 3  # failures that a message tells in full


def find_lotss_mosaics(center, radius, *, n_mosaics=None, service=None):
    """List the mosaics of LoTSS DR2 that overlap a cone.

    Parameters
    ----------
    center : `~astropy.coordinates.SkyCoord`
        Centre of the cone.
    radius : `~astropy.units.Quantity`
        Radius of the cone, an angle up to 180 deg.
    n_mosaics : int or None, optional
        Keep as many mosaics, those whose centres are nearest; None keeps all.
    service : str or None, optional
        Address of the TAP service with the table ``lotss_dr2.mosaics``; None takes ASTRON's,
        ``MOSAIC_SERVICE``.

    Returns
    -------
    mosaics : `~astropy.table.QTable`
        One row a mosaic, the nearest first: ``name``, ``url``, ``size`` (of the file, in bytes),
        ``position`` (`~astropy.coordinates.SkyCoord`) and ``side`` (of the square image).

    Raises
    ------
    ImportError
        If pyvo is missing.
    OSError
        If the service cannot be reached, or refuses.
    ValueError
        If the centre is no position, a number is out of range or no mosaic overlaps the cone.
    """
    center, radius = _checked_cone(center, radius)
    if n_mosaics is not None and operator.index(n_mosaics) < 1:
        raise ValueError(f"n_mosaics is {n_mosaics}; expected 1 or more, or None")
    mosaics = _list_mosaics(MOSAIC_SERVICE if service is None else service)
    mosaics = mosaics[_overlap(center, radius, mosaics["position"], mosaics["side"])]
    if len(mosaics) == 0:
        raise ValueError(
            f"no mosaic of LoTSS DR2 overlaps {_shown_cone(center, radius)}; it covers 5634 square "
            "degrees about 12h45m +44d30m and 1h00m +28d00m"
        )
    return mosaics[np.argsort(mosaics["position"].separation(center))][:n_mosaics]


def fetch_lotss(
    folder,
    *,
    center,
    radius,
    n_mosaics=None,
    catalog=True,
    progress=None,
    mosaic_service=None,
    catalog_service=None,
):
    """Download the mosaics of LoTSS DR2 that overlap a cone, and the sources in the cone.

    A file gets its name when it is whole; what is there and whole is not fetched again, so that
    the same call goes on where it was interrupted. A mosaic has 0.6 to 0.9 GB.

    Parameters
    ----------
    folder : path-like
        Where they go: ``mosaics/NAME.fits`` and ``catalog.fits``.
    center : `~astropy.coordinates.SkyCoord`
        Centre of the cone.
    radius : `~astropy.units.Quantity`
        Radius of the cone, an angle up to 180 deg.
    n_mosaics : int or None, optional
        Fetch as many mosaics, those whose centres are nearest; None fetches all.
    catalog : bool, optional
        Fetch the part of the catalogue of Hardcastle et al. (2023) that lies in the cone, with the
        columns that `make_cutouts` uses, under the names of ``SURVEY_COLUMNS``. Default True.
    progress : bool or None, optional
        Show a progress bar; None shows one on a terminal.
    mosaic_service, catalog_service : str or None, optional
        Addresses of the TAP services; None takes ASTRON's, ``MOSAIC_SERVICE``, and VizieR's,
        ``CATALOG_SERVICE``.

    Returns
    -------
    mosaics : list of `pathlib.Path`
        The files, the nearest first.
    catalog : `pathlib.Path` or None
        The file of the catalogue, if it was asked for.

    Raises
    ------
    ImportError
        If pyvo is missing.
    OSError
        If a service cannot be reached or refuses, the disk is too small, or files could not be
        fetched, with their addresses; all others are fetched before that.
    ValueError
        If ``folder`` has the catalogue of another cone, the centre is no position, a number is
        out of range, no mosaic overlaps the cone, or the table at VizieR lacks a column.
    KeyboardInterrupt
        On Ctrl-C; files that are whole stay.
    """
    cone = _checked_cone(center, radius)
    folder = Path(folder)
    target = folder / "catalog.fits" if catalog else None
    has_catalog = target is None or _has_catalog(target, cone)
    found = find_lotss_mosaics(*cone, n_mosaics=n_mosaics, service=mosaic_service)
    paths = [folder / "mosaics" / f"{name}.fits" for name in found["name"]]
    missing = [k for k, path in enumerate(paths) if not path.exists() or _fault(path)]
    (folder / "mosaics").mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    _check_space(folder, found["size"][missing])
    with scratch_folder(folder) as scratch:
        if not has_catalog:
            service = CATALOG_SERVICE if catalog_service is None else catalog_service
            sources = _cone_catalog(service, *cone)
            sources.write(scratch / target.name)
            (scratch / target.name).replace(target)
        orders = [(found["url"][k], paths[k]) for k in missing]
        _download_all(orders, scratch, found["size"][missing].sum(), progress)
    return paths, target


def _checked_cone(center, radius):
    if not (isinstance(center, SkyCoord) and center.isscalar):
        raise ValueError(f"center is {center!r}; expected one position as SkyCoord")
    try:
        radius = u.Quantity(radius).to(u.deg)
    except (TypeError, u.UnitConversionError) as error:
        raise ValueError(f"radius is {radius!r}; expected an angle") from error
    if not (radius.isscalar and 0 < radius.value <= 180):
        raise ValueError(f"radius is {radius}; expected one angle above 0 and up to 180 deg")
    return center.icrs, radius


def _shown_cone(center, radius):
    return f"the cone of {radius:.6g} about {center.to_string('hmsdms', precision=1)}"


def _list_mosaics(service):
    """All mosaics that a service has, about 840."""
    rows = _query(service, _MOSAICS)
    names, urls = ([str(one) for one in rows[key]] for key in ("mosaic_id", "accref"))
    for name, url in zip(names, urls, strict=True):
        if not (_NAME.fullmatch(name) and url.startswith(("https://", "http://"))):
            raise ValueError(
                f"{service} lists a mosaic {name!r} at {url!r}; expected a name that a file can "
                "have, and a web address"
            )
    grids = zip(rows["pixelsize"], rows["pixelscale"], strict=True)
    sides = [np.max(np.multiply(*grid)) for grid in grids]
    return QTable(
        {
            "name": names,
            "url": urls,
            "size": np.ma.filled(rows["accsize"], 0).astype(int),
            "position": SkyCoord(rows["centeralpha"], rows["centerdelta"], unit=u.deg),
            "side": sides * u.deg,
        }
    )


def _overlap(center, radius, positions, sides):
    """Whether the nearest point of each square lies in the cone."""
    others = SkyCoord(np.full(len(positions), center))
    offsets = positions.spherical_offsets_to(others)
    inside = (np.clip(offset.wrap_at(180 * u.deg), -sides / 2, sides / 2) for offset in offsets)
    return positions.spherical_offsets_by(*inside).separation(center) <= radius


def _query(service, adql):
    """Table that a TAP service gives."""
    try:
        from pyvo.dal import DALAccessError, DALOverflowWarning, TAPService
    except ImportError as error:
        raise ImportError("fetching LoTSS needs pyvo: pip install diffsky-radio[survey]") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # of VOTables that bend the standard
        warnings.simplefilter("error", DALOverflowWarning)
        try:
            return TAPService(service).run_sync(adql).to_table()
        except DALOverflowWarning as error:
            raise OSError(
                f"{service} has more rows than it gives: ask for less ({adql})"
            ) from error
        except DALAccessError as error:
            reason = " ".join(str(error).split())
            raise OSError(f"{service} did not answer {adql!r}: {reason}") from error


def _has_catalog(path, cone):
    """Whether the catalogue of the cone is there; another one is refused."""
    if not path.exists() or _fault(path):
        return False
    wanted = _cone_numbers(*cone)
    header = fits.getheader(path, 1)
    there = [header.get(key, np.nan) for key in _CONE]
    if not np.allclose(there, wanted, rtol=0, atol=1e-6):
        numbers = ", ".join(f"{key} {value}" for key, value in zip(_CONE, there, strict=True))
        raise ValueError(
            f"{path} is of another cone ({numbers}) than {_shown_cone(*cone)}; expected a folder "
            "of its own for each cone"
        )
    return True


def _cone_numbers(center, radius):
    return [float(angle.to_value(u.deg)) for angle in (center.ra, center.dec, radius)]


def _cone_catalog(service, center, radius):
    """Part of the catalogue in a cone, with the names that LoTSS has for the columns."""
    numbers = _cone_numbers(center, radius)
    columns = _find_columns(service, _query(service, f'SELECT TOP 1 * FROM "{_CATALOG}"'))
    selected = ", ".join(f'"{column}"' for column in columns.values())
    circle = ", ".join(map(repr, numbers))
    rows = _query(
        service,
        f"SELECT {selected} FROM \"{_CATALOG}\" WHERE 1 = CONTAINS(POINT('ICRS', "
        f'"{columns["ra"]}", "{columns["dec"]}"), CIRCLE(\'ICRS\', {circle}))',
    )
    if len(rows) == 0:
        raise ValueError(
            f"the catalogue of Hardcastle et al. (2023) has no source in "
            f"{_shown_cone(center, radius)}; catalog=False fetches the mosaics alone"
        )
    named = {SURVEY_COLUMNS[key][0]: _plain(rows[name], key) for key, name in columns.items()}
    return Table(named, meta=dict(zip(_CONE, numbers, strict=True)))


def _find_columns(service, table):
    """Column for each key of ``SURVEY_COLUMNS``.

    VizieR has names of its own; it gives those of the authors in brackets in the description.
    """
    names = {}
    for column in table.itercols():
        own = [column.name, *re.findall(r"\(\s*(\w+)\s*\)", column.description or "")]
        names |= {name: column.name for name in own if name not in names}
    ucds = {column.meta.get("ucd", "").lower(): column.name for column in table.itercols()}
    found = {}
    for key, usual in SURVEY_COLUMNS.items():
        there = [names[name] for name in usual if name in names]
        there += [ucds[_UCDS[key]]] if _UCDS.get(key) in ucds else []
        found |= {key: there[0]} if there else {}
    missing = [key for key in SURVEY_COLUMNS if key not in found and key != "resolved"]
    if missing:
        raise ValueError(
            f"{_CATALOG} at {service} has the columns {', '.join(table.colnames)}; none is known "
            f"as {', '.join(missing)}. The whole catalogue is at {_WHOLE_CATALOG}, and "
            "catalog=False fetches the mosaics alone"
        )
    return found


def _plain(column, key):
    """A column that FITS can hold: words, or numbers in a unit that astropy knows."""
    if column.dtype.kind in "OSU":
        filled = column.filled("") if hasattr(column, "filled") else column
        words = [one.decode() if isinstance(one, bytes) else str(one or "") for one in filled]
        if key == "resolved":
            return [_truth(word) for word in words]
        return words if words else np.zeros(0, dtype="U1")
    plain = column.copy()
    plain.meta, plain.description, plain.format = {}, None, None
    has_unit = column.unit is not None
    plain.unit = parse_unit(str(column.unit), name=column.name) if has_unit else None
    return plain


def _truth(word):
    if word.strip().lower() not in _TRUTHS:
        raise ValueError(f"Resolved is {word!r} for a source; expected one of {', '.join(_TRUTHS)}")
    return _TRUTHS[word.strip().lower()]


def _check_space(folder, sizes):
    free = shutil.disk_usage(folder).free
    if sizes.sum() > free:
        raise OSError(
            f"{len(sizes)} mosaics have {sizes.sum() / 1e9:.1f} GB and {folder} has "
            f"{free / 1e9:.1f} GB free; expected room for all, or fewer by n_mosaics="
        )


def _download_all(orders, scratch, total, progress):
    """Download files one after the other; go on after one that fails."""
    hidden = None if progress is None else not progress
    failures = []
    with tqdm(total=int(total), unit="B", unit_scale=True, disable=hidden) as bar:
        for url, path in orders:
            bar.set_description_str(path.stem)
            try:
                _download(url, scratch / path.name, bar)
                (scratch / path.name).replace(path)
            except OSError as error:
                failures.append(str(error))
    if failures:
        more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        raise OSError(
            f"{len(failures)} of {len(orders)} mosaics were not fetched: "
            f"{'; '.join(failures[:_SHOWN])}{more}. All others are there, and the same again "
            "fetches the rest"
        )


def _download(url, part, bar):
    """Download a FITS file that is whole, or raise an error that names its address."""
    request = urllib.request.Request(url, headers={"User-Agent": f"diffsky/{__version__}"})
    got = 0
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer, part.open("wb") as file:
            expected = answer.length
            for block in iter(partial(answer.read, _BLOCK), b""):
                file.write(block)
                got += len(block)
                bar.update(len(block))
    except urllib.error.HTTPError as error:
        raise OSError(f"{url} answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url} failed after {got} bytes: {error}") from error
    if expected not in (None, got):
        raise OSError(f"{url} was cut after {got} of {expected} bytes")
    fault = _fault(part)
    if fault:
        with part.open("rb") as file:
            start = file.read(40)
        raise OSError(f"{url} gave no whole FITS file: {fault}; it starts with {start!r}")


def _fault(path):
    """What keeps a file from being a whole FITS file with data, None for nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        warnings.filterwarnings("error", message="File may have been truncated")
        try:
            with path.open("rb") as stream, fits.open(stream) as hdus:
                has_data = any(hdu.header.get("NAXIS", 0) > 0 for hdu in hdus)
        except (OSError, ValueError, UserWarning, fits.VerifyError) as error:
            return " ".join(str(error).split())
    return None if has_data else "it has no data"
