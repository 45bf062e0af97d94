"""Sources of a survey catalogue: where a cutout goes, and which are resolved (V24 section 3.1)."""

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import QTable

__all__ = ["ENVELOPE", "SURVEY_COLUMNS", "read_survey_sources", "resolved_by_flux"]

# What is needed of a catalogue, and under which names LoTSS has it: Shimwell et al. (2019, 2022),
# Williams et al. (2019), Hardcastle et al. (2023).
SURVEY_COLUMNS = {
    "name": ("Source_Name",),
    "ra": ("RA",),
    "dec": ("DEC", "Dec"),
    "optical_ra": ("ID_RA", "ID_ra", "optRA"),
    "optical_dec": ("ID_DEC", "ID_dec", "optDec"),
    "mosaic": ("Mosaic_ID", "Mosaic"),
    "resolved": ("Resolved",),
    "total_flux": ("Total_flux",),
    "total_flux_err": ("E_Total_flux",),
    "peak_flux": ("Peak_flux",),
}
ENVELOPE = (0.42, 1.08, 96.57, 2.49)  # of point sources: Shimwell et al. (2022), section 3.2
_NEEDED = ("ra", "dec")
_OPTICAL = ("optical_ra", "optical_dec")
_FLUXES = ("total_flux", "total_flux_err", "peak_flux")


def read_survey_sources(catalog, *, columns=None, resolved=True):
    """Find what cutouts need in a catalogue.

    Parameters
    ----------
    catalog : `~astropy.table.Table`, str or path-like
        The catalogue, or a file that `~astropy.table.QTable` reads.
    columns : dict of str to str or None, optional
        Its column for any key of ``SURVEY_COLUMNS``; the names of LoTSS are known. ``ra`` and
        ``dec`` have to be there; the optical position, where it is there and finite, goes before
        the radio position.
    resolved : bool, optional
        Keep resolved sources alone: those that the column ``resolved`` names, else those of
        `resolved_by_flux`. Default True. Another criterion goes into that column.

    Returns
    -------
    sources : `~astropy.table.QTable`
        One row a source: ``name``, ``position`` (`~astropy.coordinates.SkyCoord`, the centre of the
        cutout), ``is_optical``, ``mosaic`` (empty where the catalogue does not say) and ``row``,
        the number in the catalogue.

    Raises
    ------
    ValueError
        If a column is missing, with those that were found, one of the two of the optical position
        is, or a source has no position.
    """
    if not hasattr(catalog, "colnames"):
        catalog = QTable.read(catalog)
    found = _find_columns(catalog, columns or {})
    radio = _positions(catalog, found["ra"], found["dec"])
    ra, dec, is_optical = radio.ra.deg.copy(), radio.dec.deg.copy(), np.zeros(len(catalog), bool)
    if "optical_ra" in found:
        columns = (_plain(catalog[found[name]], u.deg) for name in _OPTICAL)
        optical_ra, optical_dec = columns
        # -99 and the like stand for none.
        is_optical = np.isfinite(optical_ra) & (np.abs(optical_dec) <= 90) & (optical_ra >= 0)
        ra, dec = (
            np.where(is_optical, optical_ra, ra),
            np.where(is_optical, optical_dec, dec),
        )
    names = catalog[found["name"]] if "name" in found else np.arange(len(catalog))
    mosaics = catalog[found["mosaic"]] if "mosaic" in found else np.full(len(catalog), "")
    sources = QTable(
        {
            "name": _words(names),
            "position": SkyCoord(ra * u.deg, dec * u.deg),
            "is_optical": is_optical,
            "mosaic": _words(mosaics),
            "row": np.arange(len(catalog)),
        }
    )
    return sources[_resolved(catalog, found)] if resolved else sources


def resolved_by_flux(total_flux, total_flux_err, peak_flux, *, envelope=ENVELOPE):
    """Whether a source of LoTSS is resolved, by its total over its peak flux density.

    Parameters
    ----------
    total_flux, total_flux_err, peak_flux : array_like
        Shape (n,), all in the same flux unit.
    envelope : tuple of float, optional
        a, b, c and d of the envelope of point sources. Default that of LoTSS DR2.

    Returns
    -------
    resolved : `numpy.ndarray` of bool
        Shape (n,): ln(total / peak) > a + b / (1 + (S/N / c)^d), with the S/N of the total flux
        density (Shimwell et al. 2022, section 3.2).
    """
    a, b, c, d = envelope
    total, error, peak = (
        np.asarray(values, dtype=float) for values in (total_flux, total_flux_err, peak_flux)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(total / peak) > a + b / (1 + (total / error / c) ** d)


def _find_columns(catalog, columns):
    unknown = sorted(set(columns) - set(SURVEY_COLUMNS))
    if unknown:
        raise ValueError(
            f"columns has {', '.join(unknown)}; expected keys out of {', '.join(SURVEY_COLUMNS)}"
        )
    found = {}
    for key, usual in SURVEY_COLUMNS.items():
        names = (columns[key],) if key in columns else usual
        there = [name for name in names if name in catalog.colnames]
        if there:
            found[key] = there[0]
        elif key in columns:
            raise ValueError(f"{_has(catalog)}; columns says {key} is {columns[key]!r}")
    missing = [key for key in _NEEDED if key not in found]
    if missing:
        usual = ", ".join(SURVEY_COLUMNS[key][0] for key in missing)
        raise ValueError(
            f"{_has(catalog)}; {' and '.join(missing)} are missing, usually {usual}: say with "
            "columns= which they are"
        )
    one = [key for key in _OPTICAL if key in found]
    if len(one) == 1:
        raise ValueError(
            f"{_has(catalog)}; {one[0]} is {found[one[0]]}, but its other coordinate is missing: "
            "say with columns= which it is"
        )
    return found


def _has(catalog):
    return f"the catalogue has the columns {', '.join(catalog.colnames) or 'none'}"


def _positions(catalog, ra, dec):
    values = [_plain(catalog[name], u.deg) for name in (ra, dec)]
    good = np.isfinite(values[0]) & np.isfinite(values[1]) & (np.abs(values[1]) <= 90)
    if not good.all():
        rows = ", ".join(map(str, np.flatnonzero(~good)[:5]))
        raise ValueError(f"rows {rows} have no position in {ra}, {dec}; expected degrees")
    return SkyCoord(values[0] * u.deg, values[1] * u.deg)


def _plain(column, unit):
    """A column as floats in a unit, NaN where it is masked; without a unit it is in that one."""
    own = getattr(column, "unit", None)
    values = np.ma.asarray(getattr(column, "value", column))
    if values.dtype.kind not in "biuf":
        name = getattr(column, "name", None) or column.info.name
        raise ValueError(f"{name} holds {values.dtype}; expected numbers")
    values = np.ma.filled(values.astype(float), np.nan)
    mask = getattr(column, "mask", None)
    values = np.where(mask, np.nan, values) if mask is not None else values
    return values * own.to(unit) if own else values


def _words(column):
    """Words without blanks around them, empty where there is none."""
    filled = column.filled("") if getattr(column, "mask", None) is not None else column
    words = (one.decode() if isinstance(one, bytes) else str(one) for one in filled)
    return [word.strip() for word in words]


def _resolved(catalog, found):
    if "resolved" in found:
        name = found["resolved"]
        if np.asarray(catalog[name]).dtype.kind not in "biuf":
            raise ValueError(f"{name} holds {catalog[name].dtype}; expected bool, or 0 and 1")
        return _plain(catalog[name], u.one) == 1
    missing = [key for key in _FLUXES if key not in found]
    if missing:
        raise ValueError(
            f"{_has(catalog)}; expected resolved, or {', '.join(_FLUXES)}, to tell which sources "
            "are resolved: say with columns= which they are, or resolved=False to take all"
        )
    columns = [catalog[found[key]] for key in _FLUXES]
    units = [getattr(column, "unit", None) for column in columns]
    if any(units) and not all(units):
        named = ", ".join(
            f"{found[key]} in {unit}" for key, unit in zip(_FLUXES, units, strict=True)
        )
        raise ValueError(f"{named}: expected a unit for all of them, or for none")
    return resolved_by_flux(*map(_fluxes, columns))


def _fluxes(column):
    """Flux densities in Jy, those of a peak for each beam; without a unit as they are."""
    unit = getattr(column, "unit", None)
    if unit is None:
        return _plain(column, u.one)
    per_beam = "beam" in unit.to_string()
    return _plain(column, unit) * (unit * u.beam if per_beam else unit).to(u.Jy)
