"""The fit of templates to a dirty image: what `matched_filter` is made of."""

import numpy as np
from astropy.table import Table
from scipy import fft, linalg, ndimage
from scipy.interpolate import RectBivariateSpline

from .table import SourceFlag

__all__ = [
    "LEAST_IMAGE",
    "Field",
    "Model",
    "drop_faint",
    "polish",
    "report",
    "sample_map",
    "search_sources",
]

_PATCH = 4
_COVERAGE = 0.98
_SWEEPS = 12
_SETTLED = 1e-3
_NEAR_BEAMS = 3.0
_RIVAL = 0.7
_RIVAL_BEAMS = 4.0
LEAST_IMAGE = 2 * _PATCH + 1


class Model:
    """The sources found so far: positions, number of the template, flux."""

    def __init__(self):
        self.x, self.y, self.flux = np.zeros((3, 0))
        self.kind = np.zeros(0, dtype=int)

    def __len__(self):
        return len(self.x)

    def add(self, x, y, kind):
        self.x, self.y = np.append(self.x, x), np.append(self.y, y)
        self.kind, self.flux = np.append(self.kind, kind), np.append(self.flux, 0.0)

    def copy(self):
        new = Model()
        new.x, new.y, new.kind, new.flux = (
            values.copy() for values in (self.x, self.y, self.kind, self.flux)
        )
        return new

    def keep(self, rows):
        self.x, self.y, self.kind, self.flux = (
            values[rows] for values in (self.x, self.y, self.kind, self.flux)
        )


class Field:
    """An image correlated with every template, and the responses to them."""

    def __init__(self, dirty, psf, valid, search, sigmas, beam_fwhm):
        self.shape, self.valid, self.beam_fwhm = dirty.shape, valid, beam_fwhm
        self.grid = tuple(fft.next_fast_len(2 * n, real=True) for n in dirty.shape)
        self.v, self.u = fft.fftfreq(self.grid[0]), fft.rfftfreq(self.grid[1])
        # A dirty beam is symmetric, so its transform is real.
        self.transfer = fft.rfft2(_embed(psf, self.grid)).real
        frequency2 = self.v[:, None] ** 2 + self.u**2
        self.templates = [np.exp(-2 * np.pi**2 * s**2 * frequency2) for s in sigmas]
        self.maps = self._correlate(fft.rfft2(dirty, self.grid))
        self._responses, self._splines = {}, {}
        self.norms = np.array([self._at_zero(t, 1.0) for t in self.templates])
        # Minus the second derivatives along x and y of the response of each to itself.
        squares = self.u**2, self.v[:, None] ** 2
        self.curvatures = np.array(
            [[4 * np.pi**2 * self._at_zero(t, f) for f in squares] for t in self.templates]
        )
        self.allowed = [
            (cover >= _COVERAGE) & valid & (True if search is None else search)
            for cover in self._correlate(fft.rfft2(valid.astype(float), self.grid))
        ]

    def _correlate(self, transform):
        ny, nx = self.shape
        return [fft.irfft2(t * transform, self.grid)[:ny, :nx] for t in self.templates]

    def _at_zero(self, template, factor):
        return fft.irfft2(template**2 * self.transfer * factor, self.grid)[0, 0]

    def response(self, a, b, dx, dy):
        """Correlation of template a with the dirty image of a template b at a distance."""
        pair = (min(a, b), max(a, b))
        if pair not in self._responses:
            product = self.templates[a] * self.templates[b] * self.transfer
            image = fft.irfft2(product, self.grid)
            self._responses[pair] = ndimage.spline_filter(image, 5, mode="grid-wrap")
        dx, dy = np.broadcast_arrays(dx, dy)
        return ndimage.map_coordinates(
            self._responses[pair], [dy, dx], order=5, mode="grid-wrap", prefilter=False
        )

    def value(self, kind, x, y):
        """Image correlated with a template, at sub-pixel positions."""
        if kind not in self._splines:
            self._splines[kind] = ndimage.spline_filter(self.maps[kind], 5, mode="mirror")
        return ndimage.map_coordinates(
            self._splines[kind], [y, x], order=5, mode="mirror", prefilter=False
        )

    def patch_of(self, model, which, kind, rows, columns):
        """Some sources of a model correlated with a template, in a patch."""
        row, column = np.mgrid[rows, columns]
        values = np.zeros(row.shape)
        for k in np.flatnonzero(which):
            at = column - model.x[k], row - model.y[k]
            values += model.flux[k] * self.response(kind, model.kind[k], *at)
        return values

    def residuals(self, model):
        """Maps with the model subtracted."""
        transform = np.zeros(self.transfer.shape, dtype=complex)
        for b, template in enumerate(self.templates):
            k = model.kind == b
            along_y = np.exp(-2j * np.pi * np.outer(self.v, model.y[k])) * model.flux[k]
            along_x = np.exp(-2j * np.pi * np.outer(model.x[k], self.u))
            transform += template * (along_y @ along_x)
        models = self._correlate(transform * self.transfer)
        return [data - model for data, model in zip(self.maps, models, strict=True)]


def search_sources(field, model, rms, threshold, max_sources):
    """Add sources until none is above the threshold."""
    free = np.ones(field.shape, dtype=bool)
    for x, y in zip(model.x, model.y, strict=True):
        free &= away_from(field, x, y, 0.5)
    noise = rms * np.sqrt(field.norms)
    while len(model) < max_sources:
        residuals = field.residuals(model)
        ratios = [
            np.where(free & allowed, data / sigma, -np.inf)
            for data, allowed, sigma in zip(residuals, field.allowed, noise, strict=True)
        ]
        picks = _pick(field, ratios, threshold)[: max_sources - len(model)]
        if not picks:
            return
        n_before = len(model)
        for row, column, kind in picks:
            rows, columns = _patch(field.shape, row, column)
            x, y, _ = _summit(residuals[kind][rows, columns], rows, columns, column, row)
            model.add(x, y, kind)
            free &= away_from(field, x, y, 0.5)
        _fit_fluxes(field, model)
        polish(field, model, _close_to(field, model, n_before))


def _pick(field, ratios, threshold):
    """Rows, columns and templates of the highest peak and of those that rival it.

    Peaks of 0.7 of the highest and a few beams apart cannot be sidelobes of each other,
    and taking them together saves transforms.
    """
    best = np.max(ratios, axis=0)
    least = max(threshold, _RIVAL * best.max())
    picks = []
    while (top := best.max()) >= least:
        row, column = np.unravel_index(np.argmax(best), best.shape)
        picks.append((row, column, int(np.argmax([r[row, column] == top for r in ratios]))))
        best[~away_from(field, column, row, _RIVAL_BEAMS)] = -np.inf
    return picks


def _close_to(field, model, first):
    """Sources within two beams of those from a number on, where there are any."""
    apart = np.hypot(model.x[:, None] - model.x[first:], model.y[:, None] - model.y[first:])
    apart[np.arange(first, len(model)), np.arange(len(model) - first)] = np.inf
    near = apart < 2 * field.beam_fwhm
    return np.flatnonzero(near.any(axis=1) | np.append(np.zeros(first, bool), near.any(axis=0)))


def away_from(field, x, y, n_beams):
    """Pixels farther than some beams from a position."""
    rows, columns = np.ogrid[: field.shape[0], : field.shape[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 > (n_beams * field.beam_fwhm) ** 2


def _patch(shape, row, column):
    """Rows and columns about a pixel, inside the image, always of one size."""
    starts = [
        int(np.clip(round(at) - _PATCH, 0, n - 2 * _PATCH - 1))
        for at, n in zip((row, column), shape, strict=True)
    ]
    return tuple(slice(start, start + 2 * _PATCH + 1) for start in starts)


def _spline(values, rows, columns):
    y, x = np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop)
    return RectBivariateSpline(y, x, values, kx=5, ky=5)


def _summit(values, rows, columns, x, y):
    """Sub-pixel maximum within a pixel of (x, y), by Newton's method: x, y, value."""
    spline = _spline(values, rows, columns)
    start = np.array([y, x], dtype=float)
    low = np.maximum(start - 1, [rows.start, columns.start])
    high = np.minimum(start + 1, [rows.stop - 1, columns.stop - 1])
    at = start
    for _ in range(8):
        slope = [spline.ev(*at, dx=1), spline.ev(*at, dy=1)]
        cross = spline.ev(*at, dx=1, dy=1)
        hessian = np.array([[spline.ev(*at, dx=2), cross], [cross, spline.ev(*at, dy=2)]])
        if not (np.linalg.eigvalsh(hessian) < 0).all():
            return x, y, spline.ev(*start)
        step = -np.linalg.solve(hessian, slope)
        at = np.clip(at + step, low, high)
        if np.abs(step).max() < 1e-5:
            break
    if spline.ev(*at) < spline.ev(*start):
        at = start
    return at[1], at[0], spline.ev(*at)


def _normal_matrix(field, model):
    matrix = np.empty((len(model), len(model)))
    dx, dy = model.x[:, None] - model.x, model.y[:, None] - model.y
    for a in np.unique(model.kind):
        for b in np.unique(model.kind):
            block = np.ix_(model.kind == a, model.kind == b)
            matrix[block] = field.response(a, b, dx[block], dy[block])
    return matrix


def _fit_fluxes(field, model):
    seen = np.empty(len(model))
    for kind in np.unique(model.kind):
        rows = model.kind == kind
        seen[rows] = field.value(kind, model.x[rows], model.y[rows])
    model.flux = linalg.lstsq(_normal_matrix(field, model), seen)[0]


def polish(field, model, which):
    """Refine some sources, each with all others subtracted, then all fluxes."""
    if len(which) == 0:
        return
    for _ in range(_SWEEPS):
        residuals, before = field.residuals(model), model.copy()
        for k in which:
            model.x[k], model.y[k], model.kind[k] = _refine(field, residuals, before, model, k)
        _fit_fluxes(field, model)
        if np.hypot(model.x - before.x, model.y - before.y).max() < _SETTLED:
            return


def _refine(field, residuals, before, model, k):
    """Most significant position and template of a source, all others subtracted."""
    x, y = model.x[k], model.y[k]
    near = np.hypot(model.x - x, model.y - y) < _NEAR_BEAMS * field.beam_fwhm
    others = near & (np.arange(len(model)) != k)
    rows, columns = _patch(field.shape, y, x)
    found = []
    for kind, (norm, allowed) in enumerate(zip(field.norms, field.allowed, strict=True)):
        if kind == model.kind[k] or allowed[round(y), round(x)]:
            values = residuals[kind][rows, columns].copy()
            # The residuals are those before this sweep; sources close by may have moved.
            values += field.patch_of(before, near, kind, rows, columns)
            values -= field.patch_of(model, others, kind, rows, columns)
            x_new, y_new, value = _summit(values, rows, columns, x, y)
            found.append((value / np.sqrt(norm), x_new, y_new, kind))
    return max(found)[1:]


def drop_faint(field, model, rms, threshold):
    """Drop what the joint fit left below the threshold."""
    while len(model):
        ratio = model.flux * np.sqrt(field.norms[model.kind]) / rms
        if ratio.min() >= threshold:
            return
        model.keep(np.arange(len(model)) != np.argmin(ratio))
        if len(model):
            _fit_fluxes(field, model)


def report(field, model, rms, fwhm):
    matrix = _normal_matrix(field, model)
    diagonal = field.norms[model.kind]
    error = rms * np.sqrt(np.diag(linalg.pinvh(matrix))) if len(model) else np.zeros(0)
    curvature = field.curvatures[model.kind]
    table = Table(
        {
            "x": model.x,
            "y": model.y,
            "flux": model.flux,
            "flux_err": error,
            "snr": model.flux * np.sqrt(diagonal) / rms,
            "major": fwhm[model.kind],
            "minor": fwhm[model.kind],
            "pa": np.zeros(len(model)),
            "position_err": rms / model.flux * np.sqrt((1 / curvature).mean(axis=1)),
            "flags": _flags(field, model, fwhm[model.kind]),
        }
    )
    return table[np.lexsort((table["y"], table["x"], -table["snr"]))]


def _flags(field, model, fwhm):
    flags = np.zeros(len(model), dtype=int)
    if len(model) == 0:
        return flags
    # Blended: closer than the width of the two as seen with the beam.
    apart = np.hypot(model.x[:, None] - model.x, model.y[:, None] - model.y)
    width2 = field.beam_fwhm**2 + (fwhm[:, None] ** 2 + fwhm**2) / 2
    np.fill_diagonal(apart, np.inf)
    flags[(apart**2 < width2).any(axis=1)] |= int(SourceFlag.BLENDED)
    inside = ndimage.distance_transform_edt(np.pad(field.valid, 1))[1:-1, 1:-1]
    depth = sample_map(inside, model.x, model.y)
    flags[depth <= field.beam_fwhm / 2] |= int(SourceFlag.EDGE)
    return flags


def _embed(psf, grid):
    """PSF on the grid of the transforms, its centre at pixel (0, 0), cropped or padded."""
    placed = np.zeros(grid)
    lags, pixels = [], []
    for n, size in zip(psf.shape, grid, strict=True):
        # The last lag of an even grid has no opposite, so it is left out.
        reach = min((n - 1) // 2, (size - 1) // 2)
        lags.append(np.arange(-reach, reach + 1))
        pixels.append(lags[-1] + n // 2)
    placed[np.ix_(*(lag % size for lag, size in zip(lags, grid, strict=True)))] = psf[
        np.ix_(*pixels)
    ]
    return placed


def sample_map(image, x, y):
    """Values of a map at positions: linear, or the nearest pixel beside a NaN."""
    at = np.array([y, x], dtype=float)
    linear = ndimage.map_coordinates(image, at, order=1, mode="nearest")
    nearest = ndimage.map_coordinates(image, at, order=0, mode="nearest")
    return np.where(np.isfinite(linear), linear, nearest)
