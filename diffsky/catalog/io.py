"""Catalogues as files and as regions."""

import json
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import votable
from astropy.table import MaskedColumn, QTable

from .table import check_catalog, describe_catalog

__all__ = ["catalog_to_regions", "read_catalog", "write_catalog"]

_FORMATS = {".ecsv": "ascii.ecsv", ".fits": "fits", ".vot": "votable", ".xml": "votable"}
_META_NAME = "DIFFSKY"
SHAPES = ("ellipse", "circle", "point")


def write_catalog(catalog, path, *, overwrite=False):
    """Write a catalogue in the format of the file's extension.

    A VOTable has no type for positions: there ``sky_centroid`` becomes the columns ra and
    dec (ICRS, deg), which `read_catalog` joins again. ``meta`` is kept in all formats (in
    FITS and VOTable as JSON), with values that are no plain numbers, strings, lists or
    dictionaries turned into strings.

    Parameters
    ----------
    catalog : astropy.table.QTable
        The catalogue.
    path : str or pathlib.Path
        File name, ending in .ecsv, .fits, .vot or .xml (the last two are VOTables).
    overwrite : bool, optional
        Whether to replace an existing file. Default False.

    Raises
    ------
    ValueError
        For another extension, or a table that is not a catalogue.
    FileExistsError
        If the file exists and ``overwrite`` is False.
    FileNotFoundError
        If its folder does not exist.
    """
    path = Path(path)
    kind = _format(path)
    check_catalog(catalog)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} to write {path.name} into")
    plain = QTable(catalog, copy=False)
    plain.meta = _plain(catalog.meta)
    if kind == "votable":
        _write_votable(plain, path)
        return
    if kind == "fits":
        plain.meta = {_META_NAME: json.dumps(plain.meta)}
    plain.write(path, format=kind, overwrite=overwrite)


def read_catalog(path):
    """Read a catalogue that `write_catalog` wrote.

    Parameters
    ----------
    path : str or pathlib.Path
        File name, ending in .ecsv, .fits, .vot or .xml.

    Returns
    -------
    astropy.table.QTable
        The catalogue.

    Raises
    ------
    ValueError
        For another extension, or a table that is not a catalogue.
    FileNotFoundError
        If there is no such file.
    """
    path = Path(path)
    kind = _format(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    catalog = _read_votable(path) if kind == "votable" else QTable.read(path, format=kind)
    if kind == "fits":
        catalog.meta = _unpacked(catalog.meta.get(_META_NAME))
    try:
        check_catalog(catalog)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return describe_catalog(catalog)


def catalog_to_regions(
    catalog, *, shape="ellipse", radius=None, min_axis=0.1 * u.arcsec, label="reliability"
):
    """Turn a catalogue into sky regions with labels.

    ``regions.Regions.write`` writes them as DS9, CRTF or FITS, with what each format holds:
    DS9 and CRTF keep positions, shapes and labels (CRTF to 6 decimals of a degree, more
    with ``fmt=".9f"``; `regions` writes points to CRTF but cannot read them back). FITS
    holds pixel regions only, without labels: convert each with ``region.to_pixel(wcs)``.

    Parameters
    ----------
    catalog : astropy.table.QTable
        The catalogue.
    shape : {"ellipse", "circle", "point"}, optional
        "ellipse" (default) has the FWHM of the source as axes.
    radius : astropy.units.Quantity, optional
        Radius of circles, an angle; needed for circles only.
    min_axis : astropy.units.Quantity, optional
        Least axis of an ellipse, so that point sources can be seen. Default 0.1 arcsec.
    label : str or None, optional
        Column that labels the regions; floats are written with two decimals, and a NaN
        gives no label. Default "reliability"; None gives no labels.

    Returns
    -------
    regions.Regions
        One region per source, in the order of the catalogue.

    Raises
    ------
    TypeError
        If ``catalog`` is no QTable.
    ValueError
        For a table that is not a catalogue, an unknown shape or label, or circles without
        a radius.
    """
    from regions import Regions

    check_catalog(catalog)
    if shape not in SHAPES:
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
    if shape == "circle" and (radius is None or not u.Quantity(radius) > 0 * u.arcsec):
        raise ValueError(f"circles need a radius, a positive angle; got {radius!r}")
    if label is not None and label not in catalog.colnames:
        raise ValueError(f"label must be one of {', '.join(catalog.colnames)}, got {label!r}")
    return Regions([_region(row, shape, radius, min_axis, label) for row in catalog])


def _region(row, shape, radius, min_axis, label):
    from regions import CircleSkyRegion, EllipseSkyRegion, PointSkyRegion, RegionMeta

    text = "" if label is None else _text(row[label])
    meta = RegionMeta({"text": text, "label": text} if text else {})
    centre = row["sky_centroid"]
    if shape == "point":
        return PointSkyRegion(centre, meta=meta)
    if shape == "circle":
        return CircleSkyRegion(centre, u.Quantity(radius), meta=meta)
    major, minor = (_axis(row[name], min_axis) for name in ("major", "minor"))
    pa = row["pa"] if np.isfinite(row["pa"]) else 0 * u.deg
    # regions measure the angle of the width from west to north; pa is that of the height.
    return EllipseSkyRegion(centre, width=minor, height=major, angle=pa, meta=meta)


def _axis(value, least):
    return max(value, least) if np.isfinite(value) else least


def _text(value):
    if not np.issubdtype(np.asarray(value).dtype, np.floating):
        return str(value)
    return f"{value:.2f}" if np.isfinite(value) else ""


def _format(path):
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"{path} must end in one of {', '.join(_FORMATS)}")
    return _FORMATS[path.suffix.lower()]


def _plain(value):
    """Values that every format can hold."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, str | bool | int | float | None) else str(value)


def _unpacked(text):
    """Meta from its JSON; a file that another program wrote may have none."""
    try:
        meta = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _write_votable(catalog, path):
    tree = votable.from_table(_without_skycoord(catalog))
    meta = json.dumps(catalog.meta)
    options = {"datatype": "unicodeChar", "arraysize": "*", "value": meta}
    tree.get_first_table().params.append(
        votable.tree.Param(tree, ID=_META_NAME, name=_META_NAME, **options)
    )
    tree.to_xml(str(path))


def _read_votable(path):
    table = votable.parse_single_table(path)
    catalog = _with_skycoord(_unmasked(QTable(table.to_table(use_names_over_ids=True))))
    params = [param for param in table.params if param.name == _META_NAME]
    catalog.meta = _unpacked(params[0].value) if params else {}
    return catalog


def _without_skycoord(catalog):
    plain = QTable(catalog, copy=False)
    sky = plain["sky_centroid"].icrs
    at = plain.colnames.index("sky_centroid")
    plain.remove_column("sky_centroid")
    plain.add_columns([sky.ra.deg * u.deg, sky.dec.deg * u.deg], [at, at], ["ra", "dec"])
    return plain


def _unmasked(catalog):
    """Astropy masks the NaN of a VOTable: give them back."""
    for name in catalog.colnames:
        column = catalog[name]
        if isinstance(column, u.Quantity | MaskedColumn) and hasattr(column, "filled"):
            blank = np.nan if column.dtype.kind == "f" else 0
            catalog[name] = column.filled(blank)
    return catalog


def _with_skycoord(plain):
    missing = {"ra", "dec"} - set(plain.colnames)
    if missing:
        return plain
    at = plain.colnames.index("ra")
    sky = SkyCoord(u.Quantity(plain["ra"]), u.Quantity(plain["dec"]), frame="icrs")
    plain.remove_columns(["ra", "dec"])
    plain.add_column(sky, at, "sky_centroid")
    return plain
