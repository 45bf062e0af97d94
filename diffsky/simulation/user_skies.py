"""Skies of one's own: a table of sources or an image, checked and brought to a grid."""

import warnings

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import Table

from diffsky._reading import JY_BEAM, choose_beam, only_plane, parse_unit, read_source
from diffsky.exceptions import DiffskyWarning
from diffsky.images import beam_area_pixels, pixel_scale
from diffsky.simulation.sources import SHAPES, SourceList

__all__ = ["sky_from_image", "source_columns", "sources_from_table"]

_JY_PIX = u.Jy / u.pix
_SAME_GRID = 1e-3  # pixels
_LOST = 1e-3  # share of the flux
_SHOWN = 5


def sources_from_table(table, wcs, *, kernel_fwhm=0 * u.arcsec):
    """Put the sources of a table on a field.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        As `source_columns` takes it.
    wcs : `~astropy.wcs.WCS`
        The celestial WCS of the field, with ``array_shape`` and square pixels, of any rotation.
    kernel_fwhm : `~astropy.units.Quantity`, optional
        FWHM of the Gaussian that the sky will be convolved with, an angle.

    Returns
    -------
    sources : `SourceList`
        In Jy and arcsec from pixel (ny // 2, nx // 2). A source that would cross the border of
        the field is left out, as is one outside; one warning names their rows.

    Raises
    ------
    ValueError
        As `source_columns`, or if the WCS has no ``array_shape`` or no square pixels.
    """
    columns = source_columns(table)
    ny, nx = _shape_of(wcs)
    scale = pixel_scale(wcs).to_value(u.arcsec)
    places, pa = columns["sky_centroid"], columns["pa"]
    x, y = wcs.celestial.world_to_pixel(places)
    aside = wcs.celestial.world_to_pixel(places.directional_offset_by(pa * u.rad, 1 * u.arcsec))
    pa = np.arctan2(x - aside[0], aside[1] - y)
    x, y = (x - nx // 2) * scale, (y - ny // 2) * scale
    flux, major, minor, shape = (columns[name] for name in ("flux", "major", "minor", "shape"))
    sources = SourceList(x, y, flux, major, minor, pa, shape)
    within = [((n - 1) // 2) * scale for n in (nx, ny)]
    inside = sources.whole(within, kernel_fwhm=kernel_fwhm.to_value(u.arcsec))
    if not inside.all():
        warnings.warn(
            f"{np.sum(~inside)} of {len(table)} sources do not lie whole in the field and are left "
            f"out: {_rows(~inside)}",
            DiffskyWarning,
            stacklevel=2,
        )
    return sources[inside]


def source_columns(table):
    """Check a table of sources and read its columns.

    Parameters
    ----------
    table : `~astropy.table.Table`
        ``flux`` with a unit, ``sky_centroid`` (`~astropy.coordinates.SkyCoord`) and, for sources
        that are no points, ``major``, ``minor`` (FWHM, or diameters of disks and rings; without
        ``minor`` they are round) and ``pa`` (east of north, 0 where there is none), angles with
        units. ``shape`` has names of `SHAPES`; without it sources are Gaussians, and points where
        ``major`` is 0.

    Returns
    -------
    columns : dict
        Arrays of the length of the table: "sky_centroid", "flux" (Jy), "major", "minor" (arcsec),
        "pa" (radians) and "shape" (index into `SHAPES`).

    Raises
    ------
    TypeError
        If it is no table, or its positions are no SkyCoord.
    ValueError
        If a column is missing or has no unit, or if values are masked, not finite, negative, or
        axes are not 0 < minor <= major; the message names the rows, counted from 0.
    """
    if not isinstance(table, Table):
        raise TypeError(f"sources are of type {type(table).__name__}; expected an astropy table")
    missing = {"flux", "sky_centroid"} - set(table.colnames)
    if missing:
        raise ValueError(
            f"the table has no {', '.join(sorted(missing))} but {', '.join(table.colnames)}; "
            "expected flux, sky_centroid and, for extended sources, major, minor, pa, shape"
        )
    if not isinstance(table["sky_centroid"], SkyCoord):
        kind = type(table["sky_centroid"]).__name__
        raise TypeError(f"sky_centroid is of type {kind}; expected SkyCoord")
    columns = {"flux": _values(table, "flux", u.Jy)}
    columns["major"] = _values(table, "major", u.arcsec)
    columns["minor"] = _values(table, "minor", u.arcsec, default=columns["major"])
    columns["pa"] = _values(table, "pa", u.rad)
    for name in ("flux", "major", "minor"):
        _refuse(columns[name] < 0, f"{name} is negative")
    major, minor = columns["major"], columns["minor"]
    _refuse(minor > major, "minor is larger than major")
    _refuse((minor == 0) & (major > 0), "minor is 0 and major is not")
    centre = table["sky_centroid"].icrs
    _refuse(~np.isfinite(centre.ra.deg + centre.dec.deg), "sky_centroid is not finite")
    columns["shape"] = _shapes(table, major)
    return {"sky_centroid": centre, **columns}


def sky_from_image(image, wcs, *, unit=None, beam=None, hdu=None):
    """Bring an image to the grid of a field, flux conserved.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`, path or HDU
        The true sky with a celestial WCS, in Jy/pix, or in Jy/beam or Jy/sr.
    wcs : `~astropy.wcs.WCS`
        The celestial WCS of the field, with ``array_shape``.
    unit : `~astropy.units.Unit` or str, optional
        The unit of the image where it does not say it.
    beam : `~radio_beam.Beam`, `~astropy.units.Quantity` or tuple, optional
        The beam of an image in Jy/beam whose header has none, as for `diffsky.images.load_image`.
    hdu : int or str, optional
        Which HDU of a file to read.

    Returns
    -------
    sky : `~astropy.nddata.CCDData`
        Shape ``wcs.array_shape``, Jy/pix. What was in Jy/beam is still convolved with its beam,
        ``meta["beam"]``. Pixels are split by the area that they share
        (`reproject.reproject_exact`). Flux outside the field is lost, with a warning where it
        is more than 0.1 %.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the image has no unit, another unit, no WCS, more than one plane, or pixels that are
        masked, not finite or negative; if it is in Jy/beam without a beam.
    """
    source = read_source(image, hdu=hdu, name="sky")
    data, mask = only_plane(source, name="sky")
    if source.wcs is None:
        raise ValueError("sky has no celestial WCS; expected an image with one")
    shape = _shape_of(wcs)
    data = np.asarray(data, dtype=float)
    _refuse_pixels(mask | ~np.isfinite(data), "masked or not finite")
    _refuse_pixels(data < 0, "negative")
    grid = source.wcs.celestial
    found = source.unit if unit is None else unit
    per_pixel, beam = _per_pixel(found, grid, source.beam, beam)
    data = data * per_pixel
    if not _same_grid(grid, data.shape, wcs, shape):
        data = _reproject(data, grid, wcs, shape)
    meta = {} if beam is None else {"beam": beam}
    return CCDData(data, unit=_JY_PIX, wcs=wcs, meta=meta)


def _values(table, name, unit, *, default=0.0):
    """One column as plain floats."""
    if name not in table.colnames:
        return np.broadcast_to(np.asarray(default, dtype=float), len(table)).copy()
    column = table[name]
    _refuse(np.ma.getmaskarray(column) | getattr(column, "mask", False), f"{name} is masked")
    if getattr(column, "unit", None) in (None, u.dimensionless_unscaled):
        raise ValueError(f"{name} has no unit; expected {unit} or what converts to it")
    try:
        values = u.Quantity(np.asarray(column), column.unit).to_value(unit).astype(float)
    except u.UnitConversionError as error:
        raise ValueError(f"{name} is in {column.unit}; expected {unit} or the like") from error
    _refuse(~np.isfinite(values), f"{name} is not finite")
    return values


def _shapes(table, major):
    if "shape" not in table.colnames:
        return (major > 0).astype(np.int8)
    names = np.asarray(table["shape"]).astype(str)
    _refuse(~np.isin(names, SHAPES), f"shape is none of {', '.join(SHAPES)}")
    _refuse((names == "point") != (major == 0), "shape is 'point' and major is not 0, or reversed")
    return np.array([SHAPES.index(name) for name in names], dtype=np.int8)


def _refuse(bad, what):
    if np.any(bad):
        raise ValueError(f"{what} in {_rows(bad)} of the table")


def _rows(chosen):
    rows = np.flatnonzero(chosen)
    names = ", ".join(map(str, rows[:_SHOWN].tolist()))
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {names}{more}"


def _refuse_pixels(bad, what):
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"sky has {int(bad.sum())} pixels that are {what}, the first of them {first} [y, x]; "
            "expected 0 or more everywhere"
        )


def _per_pixel(unit, grid, found_beam, beam):
    """Jy/pix in one unit of the image, and the beam that it was divided by."""
    if not str(unit or "").strip():
        raise ValueError("sky has no unit (BUNIT); expected one, such as Jy/pix, or unit=")
    unit = parse_unit(unit, name="sky")
    if unit.is_equivalent(_JY_PIX):
        return unit.to(_JY_PIX), None
    scale = pixel_scale(grid)
    if unit.is_equivalent(JY_BEAM):
        beam = choose_beam(found_beam, beam)
        return unit.to(JY_BEAM) / beam_area_pixels(beam, scale), beam
    if unit.is_equivalent(u.Jy / u.sr):
        return unit.to(u.Jy / u.sr) * (scale**2).to_value(u.sr), None
    raise ValueError(f"sky is in {unit}; expected Jy/pix, Jy/beam or Jy/sr")


def _shape_of(wcs):
    if wcs.array_shape is None:
        raise ValueError("wcs has no array_shape; expected the (ny, nx) of the field")
    return tuple(wcs.array_shape)


def _same_grid(one, one_shape, other, shape):
    if one_shape != shape:
        return False
    x, y = np.meshgrid(*([0, n - 1] for n in shape[::-1]))
    moved = other.celestial.world_to_pixel(one.pixel_to_world(x, y))
    return bool(np.hypot(moved[0] - x, moved[1] - y).max() < _SAME_GRID)


def _reproject(data, grid, wcs, shape):
    """Jy/pix on another grid, by way of a brightness, which areas average."""
    from reproject import reproject_exact

    ratio = float((pixel_scale(wcs) / pixel_scale(grid)).to_value(u.one)) ** 2
    moved, covered = reproject_exact((data, grid), wcs.celestial, shape_out=shape)
    moved = np.clip(np.nan_to_num(moved * covered), 0, None) * ratio
    lost = 1 - moved.sum() / data.sum() if data.any() else 0.0
    if lost > _LOST:
        warnings.warn(
            f"{lost:.1%} of the flux of the sky lies outside the field and is left out",
            DiffskyWarning,
            stacklevel=3,
        )
    return moved
