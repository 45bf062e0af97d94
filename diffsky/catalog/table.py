"""The catalogue: one QTable schema for everything that finds sources."""

from enum import IntFlag

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.wcs.utils import pixel_to_skycoord, proj_plane_pixel_scales, skycoord_to_pixel
from scipy.spatial import cKDTree

__all__ = ["SourceFlag", "check_catalog", "empty_catalog", "near_bright_source", "source_table"]


class SourceFlag(IntFlag):
    """Bits of the column ``flags`` of a catalogue."""

    EDGE = 1
    """At the edge of the image or of its mask."""
    BLENDED = 2
    """Not well separated from another source."""
    NEAR_BRIGHT = 4
    """Near a source much brighter than itself."""
    OUT_OF_RANGE = 8
    """Brighter than the sources of the training."""
    UNRELIABLE = 16
    """The fit or its errors cannot be relied on, for instance too few detections."""


_JY_BEAM = u.Jy / u.beam
_NEAR_BEAMS = 2.0
# name: (kind of the values, unit, description); sky_centroid is a SkyCoord.
_SCHEMA = {
    "id": ("i", None, "Number of the source, from 1"),
    "sky_centroid": ("O", None, "Position (ICRS)"),
    "x_centroid": ("f", None, "Position along the first FITS axis, 0-based pixels of the image"),
    "y_centroid": ("f", None, "Position along the second FITS axis, 0-based pixels of the image"),
    "flux": ("f", u.Jy, "Flux density, primary beam corrected"),
    "flux_err": ("f", u.Jy, "Standard deviation of the flux"),
    "flux_lower": ("f", u.Jy, "Lower end of the 68 % interval of the flux"),
    "flux_upper": ("f", u.Jy, "Upper end of the 68 % interval of the flux"),
    "peak": ("f", _JY_BEAM, "Peak at the resolution of the beam, primary beam corrected"),
    "snr": ("f", None, "Apparent peak over the noise rms"),
    "major": ("f", u.arcsec, "Major axis (FWHM) without the beam"),
    "minor": ("f", u.arcsec, "Minor axis (FWHM) without the beam"),
    "pa": ("f", u.deg, "Position angle of the major axis, east of north, 0 to 180"),
    "position_err": ("f", u.arcsec, "Standard deviation of one coordinate"),
    "reliability": ("f", None, "Share of the posterior samples with the source, recalibrated"),
    "share": ("f", None, "Share of the posterior samples with the source"),
    "n_detections": ("i", None, "Posterior samples with the source"),
    "flags": ("i", None, "1 edge, 2 blended, 4 near bright, 8 out of range, 16 unreliable"),
}


def source_table(
    sources,
    *,
    wcs,
    beam,
    rms,
    flux_unit=u.Jy,
    primary_beam=1.0,
    kernel_fwhm=0.0,
    image_wcs=None,
    meta=None,
):
    """Turn measurements in pixels into a catalogue.

    The peak is that of a Gaussian of the flux and size of the source, seen with the beam:
    ``flux * sqrt(det B / det(B + S))`` with the covariances B of the beam and S of the
    source; for a point source it equals the flux.

    Parameters
    ----------
    sources : astropy.table.Table
        Columns x, y (0-based pixels of ``wcs``), flux, flux_err, flux_lower, flux_upper
        (plain numbers in ``flux_unit``), major, minor (FWHM, pixels), pa (deg, from +x
        towards +y), position_err (pixels), reliability, n_detections, flags, as from
        `diffsky.catalog.aggregate_detections`, and share, which is the reliability where it is
        missing; other columns are ignored.
    wcs : astropy.wcs.WCS
        Celestial WCS of the pixels, with square pixels.
    beam : radio_beam.Beam
        Restoring or dirty beam of the image.
    rms : astropy.units.Quantity
        Noise of the apparent image, Jy/beam, one number or one per source.
    flux_unit : astropy.units.Quantity or astropy.units.Unit, optional
        Flux density of one unit of ``flux``, for instance the rms in Jy. Default Jy.
    primary_beam : float or numpy.ndarray, optional
        Primary beam at each source, by which the fluxes are divided, shape () or
        (n_sources,). Default 1: the fluxes are true already.
    kernel_fwhm : float, optional
        FWHM in pixels of a circular Gaussian that ``sources`` were measured with; taken
        out of major and minor in quadrature. Default 0.
    image_wcs : astropy.wcs.WCS, optional
        Celestial WCS of the image that x_centroid and y_centroid refer to. None (default)
        means ``wcs``.
    meta : dict, optional
        What the table's ``meta`` shall hold.

    Returns
    -------
    astropy.table.QTable
        The catalogue, one row per source in the order given: id, sky_centroid,
        x_centroid, y_centroid, flux, flux_err, flux_lower, flux_upper (Jy), peak
        (Jy/beam), snr, major, minor (arcsec), pa (deg), position_err (arcsec),
        reliability, share, n_detections, flags (`SourceFlag`; the bit 4 is set here, for
        sources within two beams of one ten times brighter).

    Raises
    ------
    ValueError
        For missing columns, a WCS that is not celestial or has no square pixels, or a
        primary beam, rms or kernel out of range.
    astropy.units.UnitConversionError
        For an rms or flux unit that is none.
    """
    columns = _plain_columns(sources)
    scale = pixel_scale(wcs)
    rms = u.Quantity(rms).to_value(_JY_BEAM)
    gain = np.asarray(primary_beam, dtype=float)
    _check_positive(rms=rms, primary_beam=gain)
    if not 0 <= kernel_fwhm < np.inf:
        raise ValueError(f"kernel_fwhm must be a number of pixels >= 0, got {kernel_fwhm!r}")
    factor = (1 * flux_unit).to_value(u.Jy) / gain
    x, y = columns["x"], columns["y"]
    sky = pixel_to_skycoord(x, y, wcs, origin=0).icrs
    major, minor = (
        np.sqrt(np.clip(columns[name] ** 2 - kernel_fwhm**2, 0.0, None)) * scale
        for name in ("major", "minor")
    )
    pa = _position_angle(x, y, columns["pa"], wcs)
    peak = columns["flux"] * factor * _peak_share(major, minor, pa, beam)
    x_image, y_image = (x, y) if image_wcs is None else skycoord_to_pixel(sky, image_wcs, origin=0)
    values = {
        "id": np.arange(1, len(x) + 1),
        "sky_centroid": sky,
        "x_centroid": np.asarray(x_image, dtype=float),
        "y_centroid": np.asarray(y_image, dtype=float),
        **{
            name: columns[name] * factor
            for name in ("flux", "flux_err", "flux_lower", "flux_upper")
        },
        "peak": peak,
        "snr": peak * gain / rms,
        "major": major,
        "minor": minor,
        "pa": pa,
        "position_err": columns["position_err"] * scale,
        "reliability": columns["reliability"],
        "share": columns["share"],
        "n_detections": columns["n_detections"].astype(int),
        "flags": columns["flags"].astype(int) | _near_bright_flag(columns, beam, scale),
    }
    return _build(values, meta)


def empty_catalog(meta=None):
    """Return a catalogue without sources.

    Parameters
    ----------
    meta : dict, optional
        What the table's ``meta`` shall hold.

    Returns
    -------
    astropy.table.QTable
        All columns of `source_table`, with types, units and descriptions.
    """
    values = {
        name: np.zeros(0, dtype=int if k == "i" else float) for name, (k, *_) in _SCHEMA.items()
    }
    values["sky_centroid"] = SkyCoord([] * u.deg, [] * u.deg, frame="icrs")
    return _build(values, meta)


def check_catalog(catalog):
    """Check that a table is a catalogue.

    Parameters
    ----------
    catalog : astropy.table.QTable
        Table to check; further columns are allowed.

    Returns
    -------
    astropy.table.QTable
        The same table.

    Raises
    ------
    TypeError
        If it is no QTable.
    ValueError
        If columns are missing, or have another kind of values or an unfit unit; all of
        them are named.
    """
    if not isinstance(catalog, QTable):
        raise TypeError(f"a catalogue is an astropy QTable, got {type(catalog).__name__}")
    missing = [name for name in _SCHEMA if name not in catalog.colnames]
    wrong = [
        problem
        for name, (kind, unit, _) in _SCHEMA.items()
        if name not in missing and (problem := _column_problem(catalog[name], name, kind, unit))
    ]
    if missing:
        wrong.insert(0, f"no column {', '.join(missing)}")
    if wrong:
        raise ValueError(f"not a catalogue: {'; '.join(wrong)}")
    return catalog


def describe_catalog(catalog):
    """Give the columns of a catalogue their descriptions.

    Parameters
    ----------
    catalog : astropy.table.QTable
        Table with all columns of `source_table`; it is changed in place.

    Returns
    -------
    astropy.table.QTable
        The same table.
    """
    for name, (_, _, description) in _SCHEMA.items():
        catalog[name].info.description = description
    return catalog


def near_bright_source(x, y, flux, *, radius, ratio=10.0):
    """Tell which sources lie near a source much brighter than themselves.

    Parameters
    ----------
    x, y : numpy.ndarray
        Positions, shape (n,), pixels.
    flux : numpy.ndarray
        Apparent fluxes, shape (n,), any unit.
    radius : float
        What is near, in pixels.
    ratio : float, optional
        What is much brighter. Default 10 times.

    Returns
    -------
    numpy.ndarray
        Boolean, shape (n,).
    """
    x, y, flux = (np.asarray(v, dtype=float) for v in (x, y, flux))
    points = np.stack([x, y], axis=1)
    near = np.zeros(len(points), dtype=bool)
    if len(points) == 0:
        return near
    pairs = cKDTree(points).query_pairs(radius, output_type="ndarray")
    for one, other in (pairs.T, pairs.T[::-1]):
        near[one[flux[other] > ratio * flux[one]]] = True
    return near


def _near_bright_flag(columns, beam, scale):
    fwhm = np.sqrt(beam.major * beam.minor).to_value(u.arcsec) / scale
    x, y, flux = (columns[name] for name in ("x", "y", "flux"))
    near = near_bright_source(x, y, flux, radius=_NEAR_BEAMS * fwhm)
    return np.where(near, int(SourceFlag.NEAR_BRIGHT), 0)


def _build(values, meta):
    table = QTable(meta=dict(meta or {}))
    for name, (_, unit, _) in _SCHEMA.items():
        table[name] = values[name] if unit is None else values[name] * unit
    return describe_catalog(table)


def _plain_columns(sources):
    names = ["x", "y", "flux", "flux_err", "flux_lower", "flux_upper", "major", "minor", "pa"]
    names += ["position_err", "reliability", "n_detections", "flags"]
    missing = [name for name in names if name not in sources.colnames]
    if missing:
        raise ValueError(f"sources lack the columns {', '.join(missing)}")
    columns = {name: np.asarray(sources[name], dtype=float) for name in names}
    share = "share" if "share" in sources.colnames else "reliability"
    return {**columns, "share": np.asarray(sources[share], dtype=float)}


def pixel_scale(wcs):
    """Side of the pixels of an image.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Celestial WCS with two axes.

    Returns
    -------
    float
        Side in arcsec, the geometric mean of the two axes.

    Raises
    ------
    ValueError
        If the WCS is not celestial, has more axes, or the pixels are not square to 0.1 %.
    """
    if not wcs.has_celestial or wcs.naxis != 2:
        raise ValueError(f"wcs must be celestial with two axes, got {wcs.wcs.ctype}")
    scales = proj_plane_pixel_scales(wcs) * 3600.0
    if not np.isclose(*scales, rtol=1e-3):
        raise ValueError(f"wcs must have square pixels, got {scales[0]} x {scales[1]} arcsec")
    return float(np.sqrt(scales.prod()))


def _check_positive(**values):
    for name, value in values.items():
        if not (np.isfinite(value) & (value > 0)).all():
            raise ValueError(f"{name} must be positive at every source, got {value}")


def _position_angle(x, y, pa, wcs):
    """East of north, in deg, for angles in deg from +x towards +y."""
    angle = np.radians(np.nan_to_num(pa))
    start = pixel_to_skycoord(x, y, wcs, origin=0)
    end = pixel_to_skycoord(x + np.cos(angle), y + np.sin(angle), wcs, origin=0)
    east_of_north = start.icrs.position_angle(end.icrs).to_value(u.deg)
    return np.where(np.isfinite(pa), np.mod(east_of_north, 180.0), np.nan)


def _peak_share(major, minor, pa, beam):
    """Peak in Jy/beam of a source of 1 Jy."""
    source = _covariance(np.nan_to_num(major), np.nan_to_num(minor), np.nan_to_num(pa))
    shape = [beam.major.to_value(u.arcsec), beam.minor.to_value(u.arcsec), beam.pa.to_value(u.deg)]
    seen_with = _covariance(*(np.asarray(v) for v in shape))
    return np.sqrt(np.linalg.det(seen_with) / np.linalg.det(seen_with + source))


def _covariance(major, minor, pa):
    """Second moments of Gaussians, in units of FWHM^2, shape (..., 2, 2)."""
    c, s = np.cos(np.radians(pa)), np.sin(np.radians(pa))
    axes = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
    squares = np.stack([major**2, minor**2], -1)
    return (axes * squares[..., None, :]) @ np.swapaxes(axes, -1, -2)


def _column_problem(column, name, kind, unit):
    if name == "sky_centroid":
        return None if isinstance(column, SkyCoord) else "sky_centroid is no SkyCoord"
    if column.dtype.kind not in ("iu" if kind == "i" else "f"):
        return f"{name} holds {column.dtype}, not {'integers' if kind == 'i' else 'floats'}"
    found = getattr(column, "unit", None)
    if unit is None and found not in (None, u.one):
        return f"{name} has the unit {found}, not none"
    if unit is not None and (found is None or not u.Unit(found).is_equivalent(unit)):
        return f"{name} has the unit {found}, not {unit}"
    return None
