"""What was found in a simulated field beside its truth, and many fields matched together."""

from dataclasses import dataclass, field, fields

import astropy.units as u
import numpy as np

from diffsky.catalog.matching import match_pixels

__all__ = ["Detections", "FieldResult", "Pool", "TrueSources", "match_counts", "pool_fields"]


@dataclass(frozen=True)
class TrueSources:
    """The sources that a field was simulated from.

    Parameters
    ----------
    x, y : `numpy.ndarray`
        Shape (n,): offsets from the centre of the field, arcsec.
    flux : `numpy.ndarray`
        Shape (n,): flux density, Jy.
    snr : `numpy.ndarray`
        Shape (n,): normalised injected flux (`normalized_injected_flux`).
    size : `numpy.ndarray`
        Shape (n,): geometric mean FWHM, arcsec.
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    snr: np.ndarray
    size: np.ndarray

    def __post_init__(self):
        _check_columns(self)

    def __len__(self):
        return len(self.x)


@dataclass(frozen=True)
class Detections:
    """The sources that one method found in a field.

    Parameters
    ----------
    x, y : `numpy.ndarray`
        Shape (n,): offsets from the centre of the field, arcsec.
    flux, flux_err : `numpy.ndarray`
        Shape (n,): flux density and its standard deviation, Jy; the latter may be NaN.
    snr : `numpy.ndarray`
        Shape (n,): estimated apparent peak over the noise rms.
    score : `numpy.ndarray`
        Shape (n,): what decides whether a detection counts. The reliability, or for a method
        that has none its signal-to-noise ratio.
    flux_samples : `numpy.ndarray` or None, optional
        Shape (n, n_samples): fluxes in the posterior samples, Jy, NaN in those without the source.
        None where a method has no samples; its score is then no reliability, and its intervals
        are Gaussian.
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    snr: np.ndarray
    score: np.ndarray
    flux_samples: np.ndarray | None = None

    def __post_init__(self):
        _check_columns(self)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        """Select detections by anything that selects elements of their arrays."""
        columns = (getattr(self, one.name) for one in fields(self))
        return Detections(*(None if column is None else column[index] for column in columns))

    @classmethod
    def from_catalog(cls, catalog, *, centre, score=None, flux_samples=None):
        """Take the columns of a catalogue.

        Parameters
        ----------
        catalog : `~astropy.table.QTable`
            As from `diffsky.catalog.source_table`.
        centre : `~astropy.coordinates.SkyCoord`
            Centre of the field.
        score : array_like or None, optional
            None takes the column ``reliability``.
        flux_samples : array_like or None, optional
            Shape (n, n_samples), Jy.

        Returns
        -------
        detections : `Detections`
            The detections in the order of the catalogue.
        """
        x, y = offsets(catalog, centre)
        columns = {name: catalog[name].to_value(u.Jy) for name in ("flux", "flux_err")}
        score = catalog["reliability"] if score is None else score
        columns |= {"snr": np.asarray(catalog["snr"]), "score": np.asarray(score, dtype=float)}
        return cls(x, y, **columns, flux_samples=flux_samples)


@dataclass(frozen=True)
class FieldResult:
    """One simulated field: what was there, what each method found, what the samples say.

    Parameters
    ----------
    number : int
        Number of the field in its group.
    beam : float
        Geometric mean FWHM of the beam, arcsec.
    rms : float
        Noise rms, Jy/beam.
    truth : `TrueSources`
        What was there.
    catalogs : dict of str to `Detections`
        What each method found, by its name.
    posterior : dict of str to tuple, optional
        By the name of a quantity, its true values, shape (d,), and its values in the posterior
        samples, shape (n_samples, d).
    group : str, optional
        What the field has in common with others, for instance an amount of water vapour.
    reconstruction : dict of str to `numpy.ndarray`, optional
        How close the samples are to the true sky, as `reconstruction_scores` or
        `drozdova2024_reconstruction` gives it.
    """

    number: int
    beam: float
    rms: float
    truth: TrueSources
    catalogs: dict
    posterior: dict = field(default_factory=dict)
    group: str = ""
    reconstruction: dict = field(default_factory=dict)

    def radius(self, radius):
        """Convert a matching radius.

        Parameters
        ----------
        radius : float or `~astropy.units.Quantity`
            In beams, or an angle.

        Returns
        -------
        radius : float
            In arcsec.
        """
        is_angle = isinstance(radius, u.Quantity)
        return float(radius.to_value(u.arcsec)) if is_angle else float(radius) * self.beam


@dataclass(frozen=True)
class Pool:
    """The detections of one method in many fields, matched one to one with the truth.

    Parameters
    ----------
    found : `Detections`
        All detections, field after field; their positions are those in their own fields.
    field : `numpy.ndarray`
        Shape (n,): place of each detection's field in the list that was pooled.
    separation : `numpy.ndarray`
        Shape (n,): arcsec to the true source, NaN where there is none.
    true_flux, true_snr, true_size : `numpy.ndarray`
        Shape (n,): those of the true source, NaN where there is none.
    truth : `TrueSources`
        All true sources, field after field.
    truth_field : `numpy.ndarray`
        Shape (m,): as ``field``, of the true sources.
    truth_match : `numpy.ndarray`
        Shape (m,): which detection is theirs, -1 where none is.
    field_beam, field_radius, field_rms : `numpy.ndarray`
        Shape (n_fields,), fields without any source included: FWHM of the beam and matching
        radius in arcsec, and noise rms in Jy/beam.
    """

    found: Detections
    field: np.ndarray
    separation: np.ndarray
    true_flux: np.ndarray
    true_snr: np.ndarray
    true_size: np.ndarray
    truth: TrueSources
    truth_field: np.ndarray
    truth_match: np.ndarray
    field_beam: np.ndarray
    field_radius: np.ndarray
    field_rms: np.ndarray

    @property
    def is_true(self):
        """`numpy.ndarray` : shape (n,), whether each detection has a true source."""
        return np.isfinite(self.separation)

    @property
    def is_found(self):
        """`numpy.ndarray` : shape (m,), whether each true source has a detection."""
        return self.truth_match >= 0


def pool_fields(results, method, *, radius=0.5, threshold=-np.inf):
    """Match the detections of one method with the truth, field by field.

    Parameters
    ----------
    results : sequence of `FieldResult`
        At least one field.
    method : str
        A name of their ``catalogs``.
    radius : float or `~astropy.units.Quantity`, optional
        Largest separation of a match: in beams, or an angle. Default 0.5.
    threshold : float, optional
        Detections of a lower score are left out before the matching. By default none is.

    Returns
    -------
    pool : `Pool`
        Everything in one set of arrays.

    Raises
    ------
    ValueError
        Without fields, or if a field has no such method.
    """
    _check_results(results, method)
    found, truth = [], [one.truth for one in results]
    partners, separations, matches, n_before = [], [], [], 0
    for one in results:
        detections = _above(one.catalogs[method], threshold)
        pairs = _match(detections, one, radius)
        partner = np.full(len(detections), -1)
        partner[pairs.catalog_index] = pairs.truth_index
        separation = np.full(len(detections), np.nan)
        separation[pairs.catalog_index] = pairs.separation
        match = np.full(len(one.truth), -1)
        match[pairs.truth_index] = pairs.catalog_index + n_before
        found.append(detections)
        partners.append(partner)
        separations.append(separation)
        matches.append(match)
        n_before += len(detections)
    lengths, numbers = [len(one) for one in found], np.arange(len(results))
    true = {
        name: np.concatenate(
            [_partner_values(getattr(t, name), p) for t, p in zip(truth, partners, strict=True)]
        )
        for name in ("flux", "snr", "size")
    }
    return Pool(
        found=_join(Detections, found),
        field=np.repeat(numbers, lengths),
        separation=np.concatenate(separations),
        **{f"true_{name}": values for name, values in true.items()},
        truth=_join(TrueSources, truth),
        truth_field=np.repeat(numbers, [len(one) for one in truth]),
        truth_match=np.concatenate(matches),
        field_beam=np.array([one.beam for one in results]),
        field_radius=np.array([one.radius(radius) for one in results]),
        field_rms=np.array([one.rms for one in results]),
    )


def match_counts(results, method, *, thresholds, radius=0.5):
    """Count true positives in each field at several thresholds.

    The matching is done anew at each threshold, since a detection that is left out may have
    taken the source of another.

    Parameters
    ----------
    results : sequence of `FieldResult`
        At least one field.
    method : str
        A name of their ``catalogs``.
    thresholds : array_like
        Least scores, shape (n_thresholds,).
    radius : float or `~astropy.units.Quantity`, optional
        Largest separation of a match: in beams, or an angle. Default 0.5.

    Returns
    -------
    counts : `numpy.ndarray`
        Shape (n_fields, n_thresholds, 3), int: true positives, detections, true sources.

    Raises
    ------
    ValueError
        Without fields, or if a field has no such method.
    """
    _check_results(results, method)
    thresholds = np.atleast_1d(np.asarray(thresholds, dtype=float))
    counts = np.zeros((len(results), len(thresholds), 3), dtype=int)
    for row, one in zip(counts, results, strict=True):
        row[:, 2] = len(one.truth)
        n_before = None
        for entry, threshold in zip(row, thresholds, strict=True):
            detections = _above(one.catalogs[method], threshold)
            if len(detections) != n_before:
                n_true = len(_match(detections, one, radius))
            entry[:2] = n_true, len(detections)
            n_before = len(detections)
    return counts


def offsets(table, centre):
    """Offsets of sources from the centre of a field.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        With a column ``sky_centroid``.
    centre : `~astropy.coordinates.SkyCoord`
        The centre.

    Returns
    -------
    x, y : `numpy.ndarray`
        Shape (n,): east and north in the tangent plane, arcsec.
    """
    positions = table["sky_centroid"].transform_to(centre.frame)
    frame = positions.transform_to(centre.skyoffset_frame())
    return frame.lon.wrap_at(180 * u.deg).to_value(u.arcsec), frame.lat.to_value(u.arcsec)


def _match(detections, result, radius):
    truth = result.truth
    return match_pixels(detections.x, detections.y, truth.x, truth.y, radius=result.radius(radius))


def _above(detections, threshold):
    return detections[detections.score >= threshold]


def _partner_values(values, partner):
    return np.where(partner >= 0, np.append(values, np.nan)[partner], np.nan)


def _join(kind, parts):
    columns = {}
    for one in fields(kind):
        values = [getattr(part, one.name) for part in parts]
        missing = any(value is None for value in values)
        columns[one.name] = None if missing else np.concatenate(values)
    return kind(**columns)


def _check_columns(table):
    lengths = {one.name: np.shape(getattr(table, one.name))[:1] for one in fields(table)
               if getattr(table, one.name) is not None}  # fmt: skip
    if len(set(lengths.values())) != 1 or () in lengths.values():
        raise ValueError(f"columns must be of one length, got {lengths}")


def _check_results(results, method):
    if len(results) == 0:
        raise ValueError("results are empty; expected at least one FieldResult")
    for one in results:
        if method not in one.catalogs:
            known = ", ".join(map(repr, one.catalogs)) or "none"
            raise ValueError(f"field {one.number} has no method {method!r}; it has {known}")
