"""The noise of an image: one number, or a map where it varies over the field."""

import numpy as np
from scipy import ndimage

__all__ = ["estimate_rms", "estimate_rms_map", "measure_noise"]

_BOX = 6.0  # beams: side of the boxes that the noise is measured in, 32 beam areas
_LEAST_BOXES = 4  # along either axis
_BOX_SHARE = 50.0  # per cent of a box that may have no data
_SOURCE = 4.0  # rms: what is larger than a beam above it is a source
# A box knows its noise to 15 %, the median of nine to 6 %. Where the noise is the same everywhere,
# the ratio of these percentiles is below 1.4 in fields of any size.
_PERCENTILES, _VARIES = (2, 98), 1.5
_BRIGHT = 30.0  # peak over rms: sidelobes of such a source are not noise


def estimate_rms(values):
    """Noise rms of an image with few sources.

    Parameters
    ----------
    values : array_like
        Pixels with data, not corrected for the primary beam.

    Returns
    -------
    rms : float
        Standard deviation from the median absolute deviation after clipping at 3 sigma.
    """
    from astropy.stats import sigma_clipped_stats

    return float(sigma_clipped_stats(values, sigma=3, stdfunc="mad_std")[2])


def estimate_rms_map(data, valid, *, beam_fwhm):
    """Noise rms around every pixel of an image with few sources.

    Parameters
    ----------
    data : `numpy.ndarray`
        Shape (ny, nx), not corrected for the primary beam.
    valid : `numpy.ndarray`
        Shape (ny, nx), True where there is data.
    beam_fwhm : float
        Geometric mean FWHM of the beam in pixels.

    Returns
    -------
    rms : `numpy.ndarray` or None
        Shape (ny, nx), float32: `estimate_rms` in boxes of 6 beams without extended sources, the
        median of 3 x 3 of them, interpolated. None where the data are fewer than 4 boxes across.
    """
    from astropy.stats import SigmaClip
    from photutils.background import Background2D, MADStdBackgroundRMS

    rows, columns = (np.flatnonzero(valid.any(axis=axis)) for axis in (1, 0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    box = max(1, round(_BOX * beam_fwhm))
    if min(valid[part].shape) < _LEAST_BOXES * box:
        return None
    try:
        background = Background2D(
            np.where(valid, data, 0)[part],
            box,
            mask=_extended_sources(data, valid, beam_fwhm)[part],
            coverage_mask=~valid[part],
            exclude_percentile=_BOX_SHARE,
            filter_size=3,
            sigma_clip=SigmaClip(3.0),
            bkg_rms_estimator=MADStdBackgroundRMS(),
        )
    except ValueError:  # no box has enough data
        return None
    rms = np.zeros(valid.shape, dtype=np.float32)
    rms[part] = np.clip(background.background_rms, *_range(background.background_rms_mesh))
    return np.where(valid, rms, 0)


def measure_noise(data, valid, *, beam_fwhm):
    """Measure the noise of an image, locally where it varies over the field.

    Parameters
    ----------
    data : `numpy.ndarray`
        Shape (ny, nx), not corrected for the primary beam.
    valid : `numpy.ndarray`
        Shape (ny, nx), True where there is data.
    beam_fwhm : float
        Geometric mean FWHM of the beam in pixels.

    Returns
    -------
    rms : float or `numpy.ndarray`
        One number; or the map of `estimate_rms_map` where the 98th percentile of its values is more
        than 1.5 times the 2nd, unless the image peaks at more than 30 rms: sidelobes are strongest
        around their source, and are not noise.
    """
    rms = estimate_rms(data[valid])
    if not 0 < data[valid].max() <= _BRIGHT * rms:
        return rms
    local = estimate_rms_map(data, valid, beam_fwhm=beam_fwhm)
    if local is None:
        return rms
    low, high = np.percentile(local[valid], _PERCENTILES)
    return local if high > _VARIES * low > 0 else rms


def _extended_sources(data, valid, beam_fwhm):
    """Pixels within a beam of a source that is larger than the beam."""
    above = valid & (np.where(valid, data, 0) > _SOURCE * estimate_rms(data[valid]))
    labels, n = ndimage.label(above)
    area = np.bincount(labels.ravel(), minlength=n + 1)
    area[0] = 0
    large = (area > np.pi * beam_fwhm**2 / (4 * np.log(2)))[labels]
    if not large.any():
        return large
    return ndimage.distance_transform_edt(~large) <= beam_fwhm


def _range(mesh):
    return np.nanmin(mesh), np.nanmax(mesh)
