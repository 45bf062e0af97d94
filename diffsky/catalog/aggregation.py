"""One table of sources from the detections in many posterior samples (D24 section 3.4.1)."""

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from .matching import match_pixels
from .table import SourceFlag

__all__ = ["aggregate_detections"]

_COLUMNS = {
    "x": (float, "Position along the first FITS axis, 0-based [pixel]"),
    "y": (float, "Position along the second FITS axis, 0-based [pixel]"),
    "position_err": (float, "Standard deviation of one coordinate over the samples [pixel]"),
    "flux": (float, "Mean over the samples with the source [image unit x pixel]"),
    "flux_err": (float, "Standard deviation over these samples [image unit x pixel]"),
    "flux_lower": (float, "Lower quantile [image unit x pixel]"),
    "flux_upper": (float, "Upper quantile [image unit x pixel]"),
    "peak": (float, "Mean highest pixel [image unit]"),
    "major": (float, "Mean major FWHM [pixel]"),
    "minor": (float, "Mean minor FWHM [pixel]"),
    "pa": (float, "Mean angle of the major axis, from +x to +y [deg, 0 to 180)"),
    "n_detections": (int, "Samples with the source"),
    "reliability": (float, "Share of the samples with the source"),
    "flags": (int, "Bits of SourceFlag"),
}
_MEASURED = ("x", "y", "flux", "peak", "major", "minor", "pa")
_LEAST_DETECTIONS = 3
_N_RECENTRE = 2


def aggregate_detections(
    tables,
    *,
    radius,
    growth=0.0,
    compact_fwhm=0.0,
    positions=None,
    position_fwhm=None,
    min_reliability=0.0,
    quantiles=(0.16, 0.84),
):
    """Combine the detections in n samples of one sky into one source table.

    This is *detect-aggregate* of D24 section 3.4.1. The position within whose radius the
    most samples have a detection is taken, with the nearest detection of each sample; it
    is recentred on their mean, the source is noted, its detections are removed, and so on
    until none is left. The result depends neither on the order of the samples nor on that
    of the detections.

    The flux is the mean over the samples in which the source was detected, not over all:
    samples without it speak about its existence, which is the reliability. The mean and
    not the median, because the mean of the posterior is the estimate whose error averages
    to zero over the sources that the samples describe, whatever the skew; the median of
    the skewed posterior of a faint source is lower. The 16 and 84 % quantiles use
    Weibull's plotting positions, k / (n + 1), which cover 68 % for small n where the usual
    interpolation covers less.

    Parameters
    ----------
    tables : sequence of astropy.table.Table
        Detections of each sample, as from `diffsky.catalog.detect_sources`: columns x, y
        (pixels), flux, peak (image units), major, minor (pixels), pa (deg), and where
        present deblended and edge. Samples without detections are empty tables and count.
    radius : float
        Largest distance of a detection from its source, in pixels.
    growth, compact_fwhm : float, optional
        The positions of an extended source scatter with its size. For one of FWHM s, the geometric
        mean of its axes, the radius is ``sqrt(radius**2 + growth**2 (s**2 - compact_fwhm**2))``
        where s is larger than ``compact_fwhm``, in pixels. Default 0: ``radius`` for all.
    positions : tuple of array_like, optional
        Positions (x, y) of sources found elsewhere, say on the mean or median image; then
        these are measured, each with the detections of each sample that are paired with
        them one to one within the radius. None (default) clusters the detections.
    position_fwhm : array_like, optional
        FWHM of these sources, pixels. None (default) takes ``radius`` for all of them.
    min_reliability : float, optional
        Sources below this share of the samples are left out, 0 to 1. Default 0; D24 use
        0.3.
    quantiles : tuple of float, optional
        Lower and upper quantile of the flux. Default (0.16, 0.84).

    Returns
    -------
    astropy.table.Table
        x, y, position_err (standard deviation of one coordinate), flux, flux_err,
        flux_lower, flux_upper, peak, major, minor, pa, n_detections, reliability, flags
        (`diffsky.catalog.SourceFlag`), in pixels and image units. Most reliable first, then
        brightest; with ``positions``, in their order and at these positions. With fewer
        than 3 detections position_err, flux_err, flux_lower and flux_upper are NaN and the
        flag 16 is set; without any the flux is NaN too.

    Raises
    ------
    ValueError
        Without tables, for missing columns, or for a radius, growth, reliability or quantiles
        out of range.
    """
    _check_options(tables, radius, min_reliability, quantiles)
    if not (0 <= growth < np.inf and 0 <= compact_fwhm < np.inf):
        raise ValueError(f"growth and compact_fwhm must be >= 0, got {growth!r}, {compact_fwhm!r}")
    detections, sample = _pool(tables)
    if positions is None:
        size = np.sqrt(detections["major"] * detections["minor"])
        reach = _reach(radius, growth, size, compact_fwhm)
        members = _cluster(detections["x"], detections["y"], sample, reach)
    else:
        x, y = _positions(positions)
        size = np.zeros(len(x)) if position_fwhm is None else np.asarray(position_fwhm, float)
        reach = _reach(radius, growth, size, compact_fwhm)
        members = _pair(detections["x"], detections["y"], sample, x, y, reach)
    columns = _summarise(detections, members, len(tables), quantiles)
    result = Table({name: columns[name].astype(kind) for name, (kind, _) in _COLUMNS.items()})
    for name, (_, description) in _COLUMNS.items():
        result[name].description = description
    if positions is None:
        result = result[_order(result)]
    else:
        result["x"], result["y"] = x, y
    return result[result["reliability"] >= min_reliability]


def _reach(radius, growth, size, compact_fwhm):
    """Radius of each source; a size that is not known counts as none."""
    extent = np.clip(np.nan_to_num(size) ** 2 - compact_fwhm**2, 0, None)
    return np.sqrt(radius**2 + growth**2 * extent)


def _positions(positions):
    x, y = (np.atleast_1d(np.asarray(v, dtype=float)) for v in positions)
    if x.ndim != 1 or x.shape != y.shape or not np.isfinite([x, y]).all():
        raise ValueError(
            f"positions must be finite x and y of one length, got shapes {x.shape} and {y.shape}"
        )
    return x, y


def _order(result):
    return np.lexsort((result["y"], result["x"], -result["flux"], -result["n_detections"]))


def _check_options(tables, radius, min_reliability, quantiles):
    if len(tables) == 0:
        raise ValueError("tables must hold the detections of at least one sample, got none")
    for k, table in enumerate(tables):
        missing = [name for name in _MEASURED if name not in table.colnames]
        if missing:
            raise ValueError(f"tables[{k}] lacks the columns {', '.join(missing)}")
    if not 0 < radius < np.inf:
        raise ValueError(f"radius must be a positive number of pixels, got {radius!r}")
    if not 0 <= min_reliability <= 1:
        raise ValueError(f"min_reliability must be between 0 and 1, got {min_reliability!r}")
    if len(quantiles) != 2 or not 0 < quantiles[0] < quantiles[1] < 1:
        raise ValueError(f"quantiles must be two ascending numbers in (0, 1), got {quantiles!r}")


def _pool(tables):
    """Put all detections in one set of arrays, in an order of their own."""
    sample = np.repeat(np.arange(len(tables)), [len(t) for t in tables])
    pooled = {
        name: np.concatenate([np.asarray(t[name], dtype=float) for t in tables])
        for name in _MEASURED
    }
    for name in ("deblended", "edge"):
        pooled[name] = np.concatenate(
            [np.asarray(t[name] if name in t.colnames else np.zeros(len(t)), bool) for t in tables]
        )
    order = np.lexsort((pooled["flux"], pooled["y"], pooled["x"]))
    return {name: values[order] for name, values in pooled.items()}, sample[order]


def _cluster(x, y, sample, reach):
    """Return the members of each cluster, at most one per sample; a reach for each detection."""
    points = np.stack([x, y], axis=1)
    if len(points) == 0:
        return []
    tree = cKDTree(points)
    neighbours = [np.sort(near) for near in tree.query_ball_point(points, reach)]
    counts = np.zeros((len(points), sample.max() + 1), dtype=int)
    owners = np.repeat(np.arange(len(points)), [len(near) for near in neighbours])
    near = np.concatenate(neighbours)
    np.add.at(counts, (owners, sample[near]), 1)
    order = np.argsort(near, kind="stable")
    ends = np.cumsum(np.bincount(near, minlength=len(points)))[:-1]
    reached_by = np.split(owners[order], ends)
    support = (counts > 0).sum(axis=1)
    active = np.ones(len(points), dtype=bool)
    clusters = []
    while support.max() > 1:
        best = int(np.argmax(support))
        members = _gather(tree, points, sample, active, best, neighbours[best], reach[best])
        clusters.append(members)
        active[members] = False
        for k in members:
            counts[reached_by[k], sample[k]] -= 1
        touched = np.unique(np.concatenate([reached_by[k] for k in members]))
        support[touched] = np.where(active[touched], (counts[touched] > 0).sum(axis=1), 0)
    return clusters + [np.array([k]) for k in np.flatnonzero(active)]


def _gather(tree, points, sample, active, best, near, radius):
    """Nearest active detection of each sample about a point, recentred on their mean."""
    members = _nearest_each(points, sample, near[active[near]], points[best])
    for _ in range(_N_RECENTRE):
        centre = points[members].mean(axis=0)
        near = np.sort(tree.query_ball_point(centre, radius))
        moved = _nearest_each(points, sample, near[active[near]].astype(int), centre)
        if len(moved) < len(members) or np.array_equal(moved, members):
            break
        members = moved
    return members


def _nearest_each(points, sample, candidates, centre):
    distance = np.hypot(*(points[candidates] - centre).T)
    order = np.lexsort((distance, sample[candidates]))
    _, first = np.unique(sample[candidates][order], return_index=True)
    return np.sort(candidates[order[first]])


def _pair(x, y, sample, x_source, y_source, reach):
    """Pair the detections of each sample with given positions, one to one."""
    members = [[] for _ in x_source]
    for k in np.unique(sample):
        mine = np.flatnonzero(sample == k)
        matches = match_pixels(x[mine], y[mine], x_source, y_source, radius=reach)
        for i, j in zip(matches.catalog_index, matches.truth_index, strict=True):
            members[j].append(mine[i])
    return [np.array(m, dtype=int) for m in members]


def _summarise(detections, members, n_samples, quantiles):
    """Columns of the result, one value per source."""
    source = np.repeat(np.arange(len(members)), [len(m) for m in members])
    which = np.concatenate([*members, np.zeros(0, dtype=int)]).astype(int)
    values = {name: column[which] for name, column in detections.items()}
    n = np.bincount(source, minlength=len(members))
    few = n < _LEAST_DETECTIONS

    def mean(name):
        return _ratio(np.bincount(source, values[name], len(members)), n)

    def variance(name):
        squares = (values[name] - mean(name)[source]) ** 2
        return np.where(few, np.nan, _ratio(np.bincount(source, squares, len(members)), n - 1))

    columns = {name: mean(name) for name in _MEASURED}
    columns["pa"] = _mean_angle(values["pa"], source, len(members))
    columns["position_err"] = np.sqrt((variance("x") + variance("y")) / 2)
    columns["flux_err"] = np.sqrt(variance("flux"))
    columns["flux_lower"], columns["flux_upper"] = _intervals(
        detections["flux"], members, quantiles
    )
    columns["n_detections"], columns["reliability"] = n, n / n_samples
    flags = np.where(few, int(SourceFlag.UNRELIABLE), 0)
    for name, bit in (("deblended", SourceFlag.BLENDED), ("edge", SourceFlag.EDGE)):
        flags |= np.where(np.nan_to_num(mean(name)) >= 0.5, int(bit), 0)
    columns["flags"] = flags
    return columns


def _ratio(total, n):
    return np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)


def _intervals(flux, members, quantiles):
    ends = np.full((2, len(members)), np.nan)
    for k, rows in enumerate(members):
        if len(rows) >= _LEAST_DETECTIONS:
            ends[:, k] = np.quantile(flux[rows], quantiles, method="weibull")
    return ends


def _mean_angle(pa, source, n_sources):
    """Mean of directions without a head: of their doubled angles."""
    finite = np.isfinite(pa)
    doubled = np.radians(2 * pa[finite])
    c, s = (np.bincount(source[finite], f(doubled), n_sources) for f in (np.cos, np.sin))
    known = np.bincount(source[finite], minlength=n_sources) > 0
    return np.where(known, np.degrees(np.arctan2(s, c) / 2) % 180.0, np.nan)
