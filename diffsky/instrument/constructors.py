"""Instruments from uv points, from CASA measurement sets and from images."""

import os

import numpy as np
import torch

from diffsky.instrument.gridding import grid_uv, psf_weights
from diffsky.instrument.operator import Instrument, grid_size_for

__all__ = [
    "instrument_from_images",
    "instrument_from_measurement_set",
    "instrument_from_uv",
]

_EDGE_SHARE = 0.1


def rms_value(rms):
    """Take a noise rms as a number.

    Parameters
    ----------
    rms : float or `~astropy.units.Quantity`
        In Jy/beam where it has no unit.

    Returns
    -------
    float
        In Jy/beam.

    Raises
    ------
    `~astropy.units.UnitConversionError`
        If it is in another unit.
    """
    if not hasattr(rms, "unit"):
        return float(rms)
    import astropy.units as u

    return float(rms.to_value(u.Jy / u.beam))


def instrument_from_uv(
    uv, *, pixel_scale, primary_beam, rms, weights=None, noise_variance=None, padding=4
):
    """Make an instrument from uv points.

    Parameters
    ----------
    uv : array_like
        Shape (n, 2): u and v in wavelengths.
    pixel_scale : float
        Pixel of sky and dirty image in arcsec.
    primary_beam : array_like
        Shape (ny, nx): response, not NaN; its shape is that of the field.
    rms : float or `~astropy.units.Quantity`
        Noise rms in Jy/beam.
    weights : array_like or None, optional
        Shape (n,): weight of each visibility in the image; None weighs all alike.
    noise_variance : array_like or None, optional
        Shape (n,): variance of each visibility, to any scale. None takes the inverse of the
        weights, as natural weighting has it.
    padding : float, optional
        uv grid over field. The signal does not depend on it, from 2 on; the noise counts
        visibilities in the nearest cells of the grid, and 4 is enough for it.

    Returns
    -------
    instrument : `Instrument`
        On the CPU in float32. Its PSF is that of the sum over visibilities (`psf_weights`),
        its noise weights are gridded by `grid_uv`; both are scaled to a maximum of 1.

    Raises
    ------
    ValueError
        If the primary beam is not finite or uv and weights are not as `grid_uv` expects them.
    """
    primary_beam = _checked_beam(primary_beam)
    grid = {"pixel_scale": pixel_scale, "grid_size": grid_size_for(primary_beam.shape, padding)}
    power = weights
    if noise_variance is not None:
        power = (1 if weights is None else np.asarray(weights) ** 2) * np.asarray(noise_variance)
    noise = grid_uv(uv, weights=power, **grid)
    extent = min(max(primary_beam.shape), grid["grid_size"] // 2)
    signal = psf_weights(uv, weights=weights, extent=extent, **grid)
    signal, noise = (torch.from_numpy((w / w.max()).astype(np.float32)) for w in (signal, noise))
    return Instrument(signal, torch.from_numpy(primary_beam), rms_value(rms), noise)


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
    rms : float or `~astropy.units.Quantity`
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
    psf : array_like, `~astropy.nddata.CCDData` or path-like
        Shape (my, mx), or a FITS file: PSF with its peak of one at pixel (my // 2, mx // 2), on
        the pixels of the field. Wider is better: offsets beyond it count as zero. The outer tenth
        is tapered, because imagers get the edge of a PSF wrong (gridding correction).
    primary_beam : array_like, `~astropy.nddata.CCDData` or path-like
        Shape (ny, nx), or a FITS file: response; its shape is that of the field. An array has no
        NaN; where an image has no data, it counts as zero.
    rms : float or `~astropy.units.Quantity`
        Noise rms in Jy/beam.

    Returns
    -------
    instrument : `Instrument`
        Its weights are those of the tapered PSF, negative ones included: clipping them would
        raise the peak of the PSF, and with it every flux.

    Raises
    ------
    ValueError
        If the PSF is not finite, or has no peak of one (to 1 %) at its centre, or if the pixels of
        the two images differ by more than 1 %.
    """
    psf, psf_scale = _read(psf, "psf")
    primary_beam, scale = _read(primary_beam, "primary_beam", blank=0.0)
    if scale is not None and psf_scale is not None and abs(psf_scale / scale - 1) > 0.01:
        raise ValueError(
            f"psf has pixels of {psf_scale:.6g}, primary_beam of {scale:.6g}; expected the same"
        )
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
        torch.from_numpy(weights.astype(np.float32)), torch.from_numpy(primary_beam), rms_value(rms)
    )


def _read(image, name, blank=np.nan):
    """Pixels of an array, and of an image or a file with the size of its pixels."""
    if not isinstance(image, str | os.PathLike) and not hasattr(image, "wcs"):
        return image, None
    from diffsky._reading import only_plane, read_source
    from diffsky.images import pixel_scale

    source = read_source(image, hdu=None, name=name)
    data, mask = only_plane(source, name=name)
    scale = None if source.wcs is None else pixel_scale(source.wcs.celestial)
    return np.where(mask | ~np.isfinite(data), blank, data), scale


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
