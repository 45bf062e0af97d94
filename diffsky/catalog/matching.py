"""Compare a catalogue with the truth, one to one (D24 section 4.2)."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord, search_around_sky
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

__all__ = [
    "Matches",
    "Scores",
    "detection_scores",
    "match_catalogs",
    "match_nearest",
    "match_pixels",
    "score_catalogs",
]

PROTOCOLS = ("one-to-one", "drozdova2024")


@dataclass(frozen=True)
class Matches:
    """Pairs of a catalogue and a truth table.

    Attributes
    ----------
    catalog_index : numpy.ndarray
        Rows of the catalogue, int, shape (n_matches,), ascending.
    truth_index : numpy.ndarray
        Rows of the truth they belong to, int, shape (n_matches,).
    separation : numpy.ndarray or astropy.units.Quantity
        Distances: arcsec from `match_catalogs`, pixels from `match_pixels`.
    """

    catalog_index: np.ndarray
    truth_index: np.ndarray
    separation: np.ndarray | u.Quantity

    def __len__(self):
        return len(self.catalog_index)


@dataclass(frozen=True)
class Scores:
    """Figures of merit of a catalogue; sum the counts of several fields, then score.

    Attributes
    ----------
    n_true_positive, n_found, n_truth : int
        True detections, all detections, true sources.
    purity, completeness, f1 : float
        D24 eq. 14 to 16, between 0 and 1, NaN where undefined (see `detection_scores`).
    n_flux_within : int or None
        Matched sources with the flux within the tolerance; None if it was not asked for.
    flux_share, flux_share_truth : float or None
        ``n_flux_within`` over the matched and over all the true sources.
    """

    n_true_positive: int
    n_found: int
    n_truth: int
    purity: float
    completeness: float
    f1: float
    n_flux_within: int | None = None
    flux_share: float | None = None
    flux_share_truth: float | None = None


def match_pixels(x, y, x_truth, y_truth, *, radius):
    """Match two sets of positions one to one.

    Among all ways to pair positions no farther apart than the radius, the one with the
    most pairs is taken, and of these the one with the least sum of distances (Hungarian
    algorithm, run on each group of positions that can compete).

    Parameters
    ----------
    x, y : array_like
        Found positions, shape (n,), pixels.
    x_truth, y_truth : array_like
        True positions, shape (m,), pixels.
    radius : float or array_like
        Largest distance of a pair, pixels, included; one number, or one for each true position.

    Returns
    -------
    Matches
        Pairs, with separations in pixels.

    Raises
    ------
    ValueError
        For positions that are not finite or of unequal lengths, or a radius that is not
        a positive number.
    """
    found, truth = _points(x, y, "x and y"), _points(x_truth, y_truth, "x_truth and y_truth")
    return _assign(*_close_points(found, truth, radius), len(found), len(truth))


def match_nearest(x, y, x_truth, y_truth, *, radius):
    """Match each true source with the detection nearest to it, as D24 section 3.5.2.

    Two true sources may have the same detection, and a detection near a source that has a nearer
    one is neither true nor false. It is how ``score_catalogs(protocol="drozdova2024")`` counts; for
    anything but a comparison with D24 see `match_pixels`.

    Parameters
    ----------
    x, y : array_like
        Found positions, shape (n,), pixels.
    x_truth, y_truth : array_like
        True positions, shape (m,), pixels.
    radius : float or array_like
        Largest distance, pixels, included; one number, or one for each true position.

    Returns
    -------
    matches : Matches
        One for each true source that has a detection within the radius, in the order of the truth.
    n_false : int
        Detections without any true source within the radius.

    Raises
    ------
    ValueError
        As `match_pixels`.
    """
    found, truth = _points(x, y, "x and y"), _points(x_truth, y_truth, "x_truth and y_truth")
    return _nearest(*_close_points(found, truth, radius), len(found))


def match_catalogs(catalog, truth, *, radius):
    """Match a catalogue with the truth one to one on the sky.

    Parameters
    ----------
    catalog, truth : astropy.table.QTable or astropy.coordinates.SkyCoord
        Tables with a column ``sky_centroid``, or positions. The frames may differ.
    radius : astropy.units.Quantity
        Largest separation of a pair, an angle.

    Returns
    -------
    Matches
        Pairs, with separations in arcsec. The most pairs, and of these the least sum of
        separations, as in `match_pixels`.

    Raises
    ------
    TypeError
        If one has no sky positions or the radius is no angle.
    ValueError
        If the radius is not positive.
    """
    found, true, radius = _sky(catalog, "catalog"), _sky(truth, "truth"), _angle(radius)
    i, j, separation = _close_pairs(found, true, radius)
    matches = _assign(i, j, separation, len(found), len(true))
    return Matches(matches.catalog_index, matches.truth_index, matches.separation * u.arcsec)


def detection_scores(n_true_positive, n_found, n_truth):
    """Purity, completeness and F1 from counts (D24 eq. 14 to 16).

    Parameters
    ----------
    n_true_positive : int
        True detections; no more than the other two.
    n_found : int
        All detections: true and false positives.
    n_truth : int
        All true sources: true positives and false negatives.

    Returns
    -------
    Scores
        ``purity = tp / n_found``, NaN if nothing was found: no claim was made;
        ``completeness = tp / n_truth``, NaN if there was nothing to find;
        ``f1 = 2 tp / (n_found + n_truth)``, which is the harmonic mean of the two where
        both exist, 0 where one exists, NaN if nothing was found and nothing was there.

    Raises
    ------
    ValueError
        For counts that are negative, not whole, or contradict one another.
    """
    tp, found, truth = counts = [int(n) for n in (n_true_positive, n_found, n_truth)]
    if counts != [n_true_positive, n_found, n_truth] or min(counts) < 0 or tp > min(found, truth):
        raise ValueError(
            "expected whole numbers with 0 <= n_true_positive <= n_found and n_truth, got "
            f"n_true_positive={n_true_positive}, n_found={n_found}, n_truth={n_truth}"
        )
    return Scores(
        n_true_positive=tp,
        n_found=found,
        n_truth=truth,
        purity=_share(tp, found),
        completeness=_share(tp, truth),
        f1=_share(2 * tp, found + truth),
    )


def score_catalogs(catalog, truth, *, radius, flux_tolerance=None, protocol="one-to-one"):
    """Score a catalogue against the truth.

    Parameters
    ----------
    catalog, truth : astropy.table.QTable
        Tables with a column ``sky_centroid``, and ``flux`` if ``flux_tolerance`` is given.
    radius : astropy.units.Quantity
        Largest separation of a pair, an angle.
    flux_tolerance : astropy.units.Quantity or float, optional
        Largest error of a correct flux: a flux, or a number for a share of the true flux.
        None (default) leaves the fluxes out.
    protocol : {"one-to-one", "drozdova2024"}, optional
        "one-to-one" (default) pairs each detection with at most one source. In
        "drozdova2024" a detection is true when any source is within the radius: a true
        positive is a source with a detection, a false positive a detection without a
        source, and further detections of the same source count nowhere.

    Returns
    -------
    Scores
        Counts, purity, completeness, F1 and shares of correct fluxes (each true source
        against its nearest detection in "drozdova2024"); a flux that is not finite is not
        correct.

    Raises
    ------
    TypeError
        If a table lacks sky positions or fluxes, or the radius is no angle.
    ValueError
        For an unknown protocol, or a radius or tolerance that is not positive.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    if flux_tolerance is not None:
        _check_fluxes(catalog, truth, flux_tolerance)
    if protocol == "one-to-one":
        matches = match_catalogs(catalog, truth, radius=radius)
        n_found = len(_sky(catalog, "catalog"))
    else:
        matches, n_found = _match_any(catalog, truth, radius)
    scores = detection_scores(len(matches), n_found, len(_sky(truth, "truth")))
    if flux_tolerance is None:
        return scores
    return _with_fluxes(scores, catalog, truth, matches, flux_tolerance)


def _assign(i, j, distance, n, m):
    """Pair i with j: the most pairs, then the least distance."""
    alone = (np.bincount(i, minlength=n)[i] == 1) & (np.bincount(j, minlength=m)[j] == 1)
    rows, columns, apart = [i[alone]], [j[alone]], [distance[alone]]
    for edges in _groups(i[~alone], j[~alone], n, m):
        chosen = np.flatnonzero(~alone)[edges]
        chosen = chosen[_assign_group(i[chosen], j[chosen], distance[chosen])]
        rows.append(i[chosen])
        columns.append(j[chosen])
        apart.append(distance[chosen])
    rows, columns, apart = (np.concatenate(v) for v in (rows, columns, apart))
    order = np.argsort(rows)
    return Matches(rows[order], columns[order], apart[order])


def _groups(i, j, n, m):
    """Split pairs into groups that have no position in common."""
    if len(i) == 0:
        return []
    graph = coo_array((np.ones(len(i)), (i, n + j)), shape=(n + m, n + m))
    group = connected_components(graph, directed=False)[1][i]
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _assign_group(i, j, distance):
    """Positions, in the arrays given, of the pairs that are kept."""
    rows, row = np.unique(i, return_inverse=True)
    columns, column = np.unique(j, return_inverse=True)
    number = np.full((len(rows), len(columns)), -1)
    number[row, column] = np.arange(len(i))
    # One more pair is worth more than all the distances together.
    worth = (min(number.shape) + 1) * (distance.max() or 1.0)
    cost = np.where(number < 0, 0.0, distance[number] - worth)
    kept = number[linear_sum_assignment(cost)]
    return kept[kept >= 0]


def _match_any(catalog, truth, radius):
    """For each true source its nearest detection, and the count of detections."""
    found, true, radius = _sky(catalog, "catalog"), _sky(truth, "truth"), _angle(radius)
    matches, n_false = _nearest(*_close_pairs(found, true, radius), len(found))
    return matches, len(matches) + n_false


def _nearest(i, j, separation, n):
    """Of pairs the nearest i of each j, and how many of n are in none."""
    order = np.lexsort((separation, j))
    _, first = np.unique(j[order], return_index=True)
    kept = order[first]
    return Matches(i[kept], j[kept], separation[kept]), n - len(np.unique(i))


def _close_points(found, truth, radius):
    """All pairs within the radius, and their distances."""
    for value in np.ravel(radius).tolist():
        _positive(value, "radius")
    radius = np.broadcast_to(np.asarray(radius, dtype=float), len(truth))
    near = cKDTree(found).query_ball_point(truth, radius * (1 + 1e-12)) if len(found) else []
    i = np.array([k for row in near for k in row], dtype=int)
    j = np.repeat(np.arange(len(near)), [len(row) for row in near]).astype(int)
    return i, j, np.hypot(*(found[i] - truth[j]).T)


def _close_pairs(found, true, radius):
    if len(found) == 0 or len(true) == 0:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int), np.zeros(0)
    i, j, separation, _ = search_around_sky(found, true.transform_to(found.frame), radius)
    return i, j, separation.to_value(u.arcsec)


def _check_fluxes(catalog, truth, tolerance):
    for name, table in (("catalog", catalog), ("truth", truth)):
        if "flux" not in getattr(table, "colnames", ()):
            raise TypeError(f"{name} must be a table with a flux column to compare fluxes")
    relative = u.Quantity(tolerance).unit.is_equivalent(u.one)
    if not relative and not u.Quantity(tolerance).unit.is_equivalent(u.Jy):
        raise TypeError(f"flux_tolerance must be a flux or a number, got {tolerance!r}")
    if not np.isscalar(u.Quantity(tolerance).value) or not u.Quantity(tolerance).value > 0:
        raise ValueError(f"flux_tolerance must be one positive value, got {tolerance!r}")


def _with_fluxes(scores, catalog, truth, matches, tolerance):
    flux = u.Quantity(catalog["flux"])[matches.catalog_index].to_value(u.Jy)
    true = u.Quantity(truth["flux"])[matches.truth_index].to_value(u.Jy)
    tolerance = u.Quantity(tolerance)
    relative = tolerance.unit.is_equivalent(u.one)
    allowed = tolerance.to_value(u.one) * true if relative else tolerance.to_value(u.Jy)
    n_within = int(np.sum(np.abs(flux - true) <= allowed))
    return Scores(
        **{
            **vars(scores),
            "n_flux_within": n_within,
            "flux_share": _share(n_within, len(matches)),
            "flux_share_truth": _share(n_within, scores.n_truth),
        }
    )


def _share(part, whole):
    return part / whole if whole else float("nan")


def _points(x, y, names):
    x, y = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (x, y))
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"{names} must be of one length, got shapes {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"{names} must be finite")
    return np.stack([x, y], axis=1)


def _positive(value, name):
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return float(value)


def _angle(radius):
    if not isinstance(radius, u.Quantity) or not radius.unit.is_equivalent(u.deg):
        raise TypeError(
            f"radius must be an angle with a unit, such as 0.4 * u.arcsec; got {radius!r}"
        )
    _positive(radius.to_value(u.arcsec), "radius in arcsec")
    return radius


def _sky(table, name):
    if isinstance(table, SkyCoord):
        sky = table
    elif "sky_centroid" in getattr(table, "colnames", ()):
        sky = table["sky_centroid"]
    else:
        raise TypeError(
            f"{name} must be a SkyCoord or a table with a sky_centroid column, "
            f"got {type(table).__name__}"
        )
    return sky.reshape(1) if sky.isscalar else sky
