"""Instruments from uv points, from CASA measurement sets and from images."""

import numpy as np
import torch

from diffsky.instrument.operator import Instrument, grid_size_for

__all__ = [
    "grid_uv",
    "instrument_from_images",
    "instrument_from_measurement_set",
    "instrument_from_uv",
]

_ARCSEC = np.pi / 180 / 3600
_EDGE_SHARE = 0.1


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
    uv = np.asarray(uv, dtype=float)
    if uv.ndim != 2 or uv.shape[1] != 2 or len(uv) == 0 or not np.isfinite(uv).all():
        raise ValueError(f"uv has shape {uv.shape}; expected (n, 2) finite wavelengths, n > 0")
    weights = np.ones(len(uv)) if weights is None else np.asarray(weights, dtype=float)
    if weights.shape != (len(uv),) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError("weights must hold one number of 0 or more per uv point, not all 0")
    if grid_size < 2 or grid_size % 2:
        raise ValueError(f"grid_size is {grid_size}; expected an even number")
    if not pixel_scale > 0:
        raise ValueError(f"pixel_scale is {pixel_scale}; expected arcsec above 0")
    cells = np.rint(uv * (grid_size * pixel_scale * _ARCSEC))
    if np.abs(cells).max() >= grid_size // 2:
        longest = np.abs(uv).max()
        raise ValueError(
            f"pixel_scale {pixel_scale} arcsec undersamples baselines of {longest:.4g} wavelengths;"
            f" expected less than {0.5 / longest / _ARCSEC:.4g} arcsec"
        )
    cells = cells.astype(int)
    plane = np.zeros((grid_size, grid_size))
    for sign in (1, -1):
        # u grows eastwards and pixel x westwards: the column of a visibility is -u.
        np.add.at(plane, (sign * cells[:, 1], -sign * cells[:, 0]), weights)
    return plane[:, : grid_size // 2 + 1]


def instrument_from_uv(uv, *, pixel_scale, primary_beam, rms, weights=None, padding=4):
    """Make an instrument from uv points.

    Parameters
    ----------
    uv : array_like
        Shape (n, 2): u and v in wavelengths.
    pixel_scale : float
        Pixel of sky and dirty image in arcsec.
    primary_beam : array_like
        Shape (ny, nx): response, not NaN; its shape is that of the field.
    rms : float
        Noise rms in Jy/beam.
    weights : array_like or None, optional
        Shape (n,): weight of each visibility.
    padding : float, optional
        uv grid over field. 4 is enough: nearest-cell gridding then differs from CASA by half a
        percent of the noise rms.

    Returns
    -------
    instrument : `Instrument`
        On the CPU in float32, with the gridded weights scaled to a maximum of 1.

    Raises
    ------
    ValueError
        If the primary beam is not finite or uv and weights are not as `grid_uv` expects them.
    """
    primary_beam = _checked_beam(primary_beam)
    n = grid_size_for(primary_beam.shape, padding)
    gridded = grid_uv(uv, pixel_scale=pixel_scale, grid_size=n, weights=weights)
    return Instrument(
        torch.from_numpy((gridded / gridded.max()).astype(np.float32)),
        torch.from_numpy(primary_beam),
        float(rms),
    )


def instrument_from_measurement_set(path, *, pixel_scale, primary_beam, rms, padding=4):
    """Make an instrument from the uv points of a CASA measurement set.

    Parameters
    ----------
    path : path-like
        The measurement set, as `diffsky.simulation.read_uv` takes it.
    pixel_scale : float
        Pixel of sky and dirty image in arcsec.
    primary_beam : array_like
        Shape (ny, nx): response, not NaN; its shape is that of the field.
    rms : float
        Noise rms in Jy/beam.
    padding : float, optional
        uv grid over field, as for `instrument_from_uv`.

    Returns
    -------
    instrument : `Instrument`
        With the weights of the visibilities that the measurement set holds.

    Raises
    ------
    ImportError
        If CASA is not installed.
    diffsky.simulation.CasaError
        If CASA cannot read the measurement set.
    """
    from diffsky.simulation import read_uv

    coverage = read_uv(path)
    return instrument_from_uv(
        coverage.uv,
        pixel_scale=pixel_scale,
        primary_beam=primary_beam,
        rms=rms,
        weights=coverage.weights,
        padding=padding,
    )


def instrument_from_images(psf, primary_beam, *, rms):
    """Make an instrument from images of the PSF and the primary beam.

    Parameters
    ----------
    psf : array_like
        Shape (my, mx): PSF with its peak of one at pixel (my // 2, mx // 2), on the pixels of
        the field. Wider is better: offsets beyond it count as zero. The outer tenth is tapered,
        because imagers get the edge of a PSF wrong (gridding correction).
    primary_beam : array_like
        Shape (ny, nx): response, not NaN; its shape is that of the field.
    rms : float
        Noise rms in Jy/beam.

    Returns
    -------
    instrument : `Instrument`
        Its weights are those of the tapered PSF, negative ones included: clipping them would
        raise the peak of the PSF, and with it every flux.

    Raises
    ------
    ValueError
        If the PSF is not finite, or has no peak of one (to 1 %) at its centre.
    """
    primary_beam = _checked_beam(primary_beam)
    psf = np.asarray(psf, dtype=float)
    if psf.ndim != 2 or not np.isfinite(psf).all():
        raise ValueError(f"psf has shape {psf.shape}; expected a 2-D image without NaN")
    centre = (psf.shape[0] // 2, psf.shape[1] // 2)
    if abs(psf[centre] - 1) > 0.01 or psf.max() > 1.01:
        raise ValueError(
            f"psf is {psf[centre]:.4g} at its centre and {psf.max():.4g} at its maximum; "
            "expected a peak of 1 at pixel (ny // 2, nx // 2)"
        )
    tapered = psf * np.outer(*(_edge_taper(n) for n in psf.shape))
    n = grid_size_for((max(*psf.shape, 2 * max(primary_beam.shape)),), padding=1)
    plane = np.zeros((n, n))
    rows = (np.arange(psf.shape[0]) - centre[0]) % n
    columns = (np.arange(psf.shape[1]) - centre[1]) % n
    plane[np.ix_(rows, columns)] = tapered
    # A PSF is symmetric: the real part drops what centring or interpolation left over.
    weights = np.fft.rfft2(plane).real
    return Instrument(
        torch.from_numpy(weights.astype(np.float32)), torch.from_numpy(primary_beam), float(rms)
    )


def _checked_beam(primary_beam):
    primary_beam = np.ascontiguousarray(primary_beam, dtype=np.float32)
    if not np.isfinite(primary_beam).all():
        count = np.sum(~np.isfinite(primary_beam))
        raise ValueError(f"primary_beam has {count} pixels that are not finite; expected 0 there")
    return primary_beam


def _edge_taper(n):
    """Cosine taper over the outer tenth of an axis, on either side."""
    from scipy.signal.windows import tukey

    return tukey(n, 2 * _EDGE_SHARE)
