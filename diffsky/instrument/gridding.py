"""Visibilities on a uv grid: counted in cells, weighted for imaging, and as the PSF they make."""

import numpy as np

__all__ = [
    "grid_uv",
    "image_visibilities",
    "imaging_weights",
    "psf_weights",
    "working_weights",
]

_ARCSEC = np.pi / 180 / 3600
_TAPS = 8  # cells under the gridding kernel
_SHAPE = 2.1 * _TAPS  # its steepness, best for a grid 1.5 times as wide as its image
_MARGIN = 1.5
_CHUNK = 2**16  # points gridded at once


def grid_uv(uv, *, pixel_scale, grid_size, weights=None):
    """Count visibilities in the nearest cells of a uv grid.

    Parameters
    ----------
    uv : array_like
        Shape (n, 2): u and v in wavelengths. The conjugate points -u, -v are added here.
    pixel_scale : float
        Pixel of the image in arcsec; the cell of the grid is 1 / (grid_size x pixel).
    grid_size : int
        N, even.
    weights : array_like or None, optional
        Shape (n,): weight of each visibility; None weighs all alike.

    Returns
    -------
    gridded : `numpy.ndarray`
        Shape (N, N // 2 + 1), float64, in the order of `numpy.fft.rfft2` of an image whose
        first axis is north and whose second axis is *decreasing* right ascension, as FITS has
        it.

    Raises
    ------
    ValueError
        If the arrays do not fit, are not finite, or points lie beyond the grid: then the pixel
        undersamples the beam.
    """
    uv, weights = _checked_points(uv, weights)
    columns, rows = _cells(uv, pixel_scale=pixel_scale, grid_size=grid_size)
    columns, rows = np.rint(columns).astype(int), np.rint(rows).astype(int)
    plane = np.zeros((grid_size, grid_size))
    for sign in (1, -1):
        np.add.at(plane, (sign * rows, sign * columns), weights)
    return plane[:, : grid_size // 2 + 1]


def image_visibilities(uv, visibilities, *, pixel_scale, image_size, weights=None):
    """Make an image of visibilities by the inverse transform of the nearest cells.

    The grid is as wide as the image and there is no gridding kernel, so sources are wrong towards
    the edges, and more so the farther out. The images published with D24 are made like this; an
    imager such as CASA's ``tclean`` pads the grid and convolves.

    Parameters
    ----------
    uv : array_like
        Shape (n, 2): u and v in wavelengths, with the signs of a measurement set. The conjugate
        points -u, -v are added here.
    visibilities : array_like
        Shape (n,), complex, in Jy, as a measurement set has them.
    pixel_scale : float
        Pixel of the image in arcsec.
    image_size : int
        Pixels along a side of the image, an even number.
    weights : array_like or None, optional
        Shape (n,): weight of each visibility; None weighs all alike.

    Returns
    -------
    image : `numpy.ndarray`
        Shape (image_size, image_size), in Jy/beam: the first axis is north, the second
        *decreasing* right ascension, with the phase centre at pixel ``image_size // 2``.

    Raises
    ------
    ValueError
        As `grid_uv`, or if there is not one finite visibility per point.
    """
    uv, weights = _checked_points(uv, weights)
    visibilities = np.asarray(visibilities, dtype=complex)
    if visibilities.shape != weights.shape or not np.isfinite(visibilities).all():
        raise ValueError(
            f"visibilities have shape {visibilities.shape}; expected {weights.shape}, one finite "
            "number per uv point"
        )
    columns, rows = _cells(uv, pixel_scale=pixel_scale, grid_size=image_size)
    plane = np.zeros((image_size, image_size), dtype=complex)
    # A measurement set has the conjugate phase. The real part adds the conjugate points.
    place = np.rint(rows).astype(int), np.rint(columns).astype(int)
    np.add.at(plane, place, weights * visibilities.conj())
    image = np.fft.fftshift(np.fft.ifft2(plane).real)
    return image * (image_size**2 / weights.sum())


def working_weights(uv, *, pixel_scale, grid_size, weights=None):
    """Count visibilities as `grid_uv` does, without those that the pixel does not sample.

    Parameters
    ----------
    uv : array_like
        Shape (n, 2): u and v in wavelengths.
    pixel_scale : float
        Pixel of the image in arcsec.
    grid_size : int
        N, even.
    weights : array_like or None, optional
        Shape (n,): weight of each visibility; None weighs all alike.

    Returns
    -------
    gridded : `numpy.ndarray`
        Shape (N, N // 2 + 1), float32, scaled to a maximum of 1.

    Raises
    ------
    ValueError
        As `grid_uv`, and if no visibility is left.
    """
    uv, weights = _checked_points(uv, weights)
    measured = np.hypot(*uv.T) * pixel_scale * _ARCSEC < 0.49
    if not weights[measured].any():
        raise ValueError(
            f"pixel_scale is {pixel_scale:.4g} arcsec, too large for every visibility; expected "
            f"less than {0.49 / np.hypot(*uv.T).min() / _ARCSEC:.4g} arcsec"
        )
    gridded = grid_uv(
        uv[measured], pixel_scale=pixel_scale, grid_size=grid_size, weights=weights[measured]
    )
    return (gridded / gridded.max()).astype(np.float32)


def imaging_weights(uv, weights, *, weighting, pixel_scale, image_size, robust=0.5):
    """Weigh visibilities for imaging as CASA's ``tclean`` does.

    Uniform weights are w / W and Briggs weights are w / (1 + f W), where W is the sum of the
    weights in the cell of the visibility and f = (5 x 10**-robust)**2 / <W>, the average W being
    that over visibilities (Briggs 1995, section 3). The cells are those of the image without
    padding.

    Parameters
    ----------
    uv : array_like
        Shape (n, 2): u and v in wavelengths, with the signs of a measurement set.
    weights : array_like
        Shape (n,): statistical weight of each visibility, the inverse of its variance.
    weighting : {"natural", "uniform", "briggs"}
        The scheme.
    pixel_scale : float
        Pixel of the image in arcsec.
    image_size : int
        Pixels along a side of the image, an even number.
    robust : float, optional
        From -2 (nearly uniform) to 2 (nearly natural), used by Briggs weighting alone.

    Returns
    -------
    imaging : `numpy.ndarray`
        Shape (n,): weight of each visibility in the image.

    Raises
    ------
    ValueError
        If the scheme is unknown, or uv and weights are not as `grid_uv` expects them.
    """
    if weighting not in ("natural", "uniform", "briggs"):
        raise ValueError(f"weighting is {weighting!r}; expected 'natural', 'uniform' or 'briggs'")
    uv, weights = _checked_points(uv, weights)
    columns, rows = _cells(uv, pixel_scale=pixel_scale, grid_size=image_size)
    if weighting == "natural":
        return weights
    n = image_size
    density = np.zeros(n * n)
    for sign in (-1, 1):
        # CASA's u grows with its column, and it cuts fractions off.
        place = (sign * rows + n // 2).astype(int) * n + (n // 2 - sign * columns).astype(int)
        np.add.at(density, place, weights)
    if weighting == "uniform":
        return weights / density[place]
    mean = (density**2).sum() / density.sum()
    return weights / (1 + (5 * 10**-robust) ** 2 / mean * density[place])


def psf_weights(uv, *, pixel_scale, grid_size, extent, weights=None):
    """Transform the PSF of visibilities, which need not lie on cells.

    The visibilities are gridded with a kernel (Barnett, Magland & af Klinteberg 2019), whose
    transform is divided out of the PSF. Within the extent, the PSF is then that of the sum over
    visibilities to about 1e-5 of its peak; from there it fades out.

    Parameters
    ----------
    uv : array_like
        Shape (n, 2): u and v in wavelengths. The conjugate points -u, -v are added here.
    pixel_scale : float
        Pixel of the image in arcsec.
    grid_size : int
        N, even.
    extent : int
        The PSF is needed at offsets below this many pixels; at most N // 2.
    weights : array_like or None, optional
        Shape (n,): weight of each visibility; None weighs all alike.

    Returns
    -------
    weights : `numpy.ndarray`
        Shape (N, N // 2 + 1), float64: transform of a PSF of peak 1, in the order of `grid_uv`.
        It is negative in places, since a PSF that ends is not that of any visibilities.

    Raises
    ------
    ValueError
        As `grid_uv`.
    """
    uv, weights = _checked_points(uv, weights)
    _cells(uv, pixel_scale=pixel_scale, grid_size=grid_size)
    half = min(grid_size // 2, max(extent, int(grid_size / 2 / _MARGIN)))
    fine = max(grid_size, 2 * int(np.ceil(_MARGIN * half)))
    plane = _spread(*_cells(uv, pixel_scale=pixel_scale, grid_size=fine), weights, fine)
    offsets = np.arange(-half, half)
    psf = np.fft.irfft2(plane, s=(fine, fine))[np.ix_(offsets, offsets)]
    window = _fade(offsets, extent, half) / _kernel_transform(offsets / fine)
    psf *= np.outer(window, window)
    image = np.zeros((grid_size, grid_size))
    image[np.ix_(offsets, offsets)] = psf / psf[half, half]
    return np.fft.rfft2(image).real


def _checked_points(uv, weights):
    uv = np.asarray(uv, dtype=float)
    if uv.ndim != 2 or uv.shape[1] != 2 or len(uv) == 0 or not np.isfinite(uv).all():
        raise ValueError(f"uv has shape {uv.shape}; expected (n, 2) finite wavelengths, n > 0")
    weights = np.ones(len(uv)) if weights is None else np.asarray(weights, dtype=float)
    if weights.shape != (len(uv),) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError("weights must hold one number of 0 or more per uv point, not all 0")
    return uv, weights


def _cells(uv, *, pixel_scale, grid_size):
    """Columns and rows of points in cells: u grows eastwards and pixel x westwards."""
    if grid_size < 2 or grid_size % 2:
        raise ValueError(f"grid_size is {grid_size}; expected an even number")
    if not pixel_scale > 0:
        raise ValueError(f"pixel_scale is {pixel_scale}; expected arcsec above 0")
    cells = uv * (grid_size * pixel_scale * _ARCSEC)
    if np.abs(np.rint(cells)).max() >= grid_size // 2:
        longest = np.abs(uv).max()
        raise ValueError(
            f"pixel_scale {pixel_scale} arcsec undersamples baselines of {longest:.4g} wavelengths;"
            f" expected less than {0.5 / longest / _ARCSEC:.4g} arcsec"
        )
    return -cells[:, 0], cells[:, 1]


def _spread(columns, rows, weights, n):
    """Half plane of points and their conjugates, spread over the cells under the kernel."""
    plane = np.zeros(n * n)
    taps = np.arange(_TAPS)
    for start in range(0, len(weights), _CHUNK):
        part = slice(start, start + _CHUNK)
        x, y = (np.ceil(c[part] - _TAPS / 2)[:, None] + taps for c in (columns, rows))
        along_x = _kernel(x - columns[part, None]) * weights[part, None]
        along_y = _kernel(y - rows[part, None])
        x, y = x.astype(int) % n, (y.astype(int) % n) * n
        for tap in taps:
            np.add.at(plane, y[:, tap, None] + x, along_y[:, tap, None] * along_x)
    plane = plane.reshape(n, n)
    mirrored = np.roll(plane[::-1, ::-1], 1, (0, 1))
    return plane[:, : n // 2 + 1] + mirrored[:, : n // 2 + 1]


def _kernel(offset):
    """Exponential of a semicircle over `_TAPS` cells."""
    inside = np.maximum(1 - (2 * offset / _TAPS) ** 2, 0)
    return np.exp(_SHAPE * (np.sqrt(inside) - 1)) * (inside > 0)


def _kernel_transform(frequency):
    """Fourier transform of the kernel, at frequencies in cycles per cell."""
    nodes, areas = np.polynomial.legendre.leggauss(100)
    places = nodes * _TAPS / 2
    waves = np.cos(2 * np.pi * np.multiply.outer(frequency, places))
    return waves @ (_kernel(places) * areas * _TAPS / 2)


def _fade(offsets, flat, end):
    """1 up to ``flat``, falling to 0 at ``end`` as a cosine."""
    if flat >= end:
        return np.ones(len(offsets))
    along = np.clip((np.abs(offsets) - flat) / (end - flat), 0, 1)
    return 0.5 * (1 + np.cos(np.pi * along))
