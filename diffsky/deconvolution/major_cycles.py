"""Bright sources with a known PSF: major cycles around the sampler, as CLEAN has them.

A network has seen sources up to some signal-to-noise ratio, and the sidelobes of brighter ones hide
faint ones. Where the dirty image is too bright, the bright sources are sampled from it as if its
noise were larger, fitted to the data, observed and subtracted, until what is left is within the
range of the network. The network then samples the rest, one residual for each bright sky. The fit
of every sample sees noise of its own on top of the data, so that the bright skies spread as their
posterior does.
"""

import logging
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from diffsky._warning import warn_caller
from diffsky.backend import sample_generator
from diffsky.deconvolution.bright_fit import BrightFit, working_instrument
from diffsky.deconvolution.noise import estimate_rms, measure_noise

__all__ = ["bright_limits", "bright_part", "draw_skies"]

logger = logging.getLogger(__name__)

_MOST_CYCLES = 6
_FITS = 2
# Peaks over rms: above the first, sources are subtracted; a brighter image is shown to the network
# with the second. Shares of the trained range for networks that have seen less.
_BRIGHT, _SHOWN = 30.0, 100.0
_BRIGHT_SHARE, _SHOWN_SHARE = 0.2, 0.67
# A source fainter than this many times the sidelobes of the brightest may be one of them; it waits
# for the next cycle. Bounds are shares of the peak.
_SIDELOBES, _LEAST_SHARE = 1.5, (0.1, 0.5)
_BORDER = 1e-3  # of the brightest pixel: where a bright source ends
_STEADY = 0.99  # the noise is measured again while it falls by more
_SWAMPED = 0.5  # of a measured rms: sidelobes that large are subtracted, whatever the peak


def bright_limits(trained_snr):
    """Say what is too bright for a network.

    Parameters
    ----------
    trained_snr : float
        Largest flux over rms that the network was trained on.

    Returns
    -------
    bright, shown : float
        Sources with a peak above ``bright`` rms are subtracted; the dirty image is shown to the
        network with a peak of at most ``shown`` rms.
    """
    return min(_BRIGHT, _BRIGHT_SHARE * trained_snr), min(_SHOWN, _SHOWN_SHARE * trained_snr)


def draw_skies(prepared, psf, sample, *, scale, n_samples, seed, trained_snr, measure_rms=False):
    """Sample the apparent sky, in major cycles where the PSF is known and sources are bright.

    Parameters
    ----------
    prepared : `diffsky.deconvolution.observation.PreparedObservation`
        The observation.
    psf : `numpy.ndarray` or None
        PSF on the pixels of the image, its peak of 1 at (my // 2, mx // 2).
    sample : callable
        ``sample(prepared)`` gives apparent skies, shape (n_samples, height, width); the
        ``dirty_working`` of what it gets may be one image for all samples, or one for each.
    scale : `diffsky.deconvolution.WorkingScale` or `diffsky.deconvolution.FluxScale`
        Working pixels per beam and target kernel. On a grid that does not follow the beam the
        samples are those of ``sample``.
    n_samples : int
        Number of samples.
    seed : int
        Of the noise that spreads the bright skies: sample k of a seed is always the same.
    trained_snr : float
        Largest flux over rms that the network was trained on; infinite if it is not known.
    measure_rms : bool, optional
        Measure the noise again after each cycle, since sidelobes count as noise before.

    Returns
    -------
    apparent : `numpy.ndarray`
        Shape (n_samples, height, width): apparent sky per working pixel in units of the rms.
    prepared : `diffsky.deconvolution.observation.PreparedObservation`
        The observation with the noise that was used. Without bright sources it is the one that
        was given.

    Warns
    -----
    DiffskyWarning
        If the image is too bright to be sampled without its PSF, or on a grid that does not follow
        the beam; or if bright sources are left, as they are at the border of the data.
    """
    if psf is None or scale.pixels_per_beam is None:
        _warn_if_bright(prepared, trained_snr, psf)
        return sample(prepared), prepared
    limits = bright_limits(trained_snr)
    if measure_rms:
        # Sidelobes of the brightest source may be most of what was measured as noise.
        sidelobes = _rms_of_sidelobes(psf, prepared.grid.zoom * scale.pixels_per_beam)
        limits = (_SWAMPED / max(sidelobes, _SWAMPED / limits[0]), limits[1])
    if prepared.dirty_working.max() <= limits[0]:
        return sample(prepared), prepared
    fitter = BrightFit(
        working_instrument(psf, prepared.grid),
        kernel_fwhm=scale.kernel_fwhm,
        beam_fwhm=scale.pixels_per_beam,
        rms=prepared.rms_working * (prepared.primary_beam_working > 0),
    )
    noise = fitter.noise([sample_generator(seed, k, 1) for k in range(n_samples)])
    bright, left, prepared = _subtract_bright(
        prepared, fitter, noise, sample, scale, limits, measure_rms
    )
    _warn_if_left(left.max(), bright_limits(trained_snr)[0])
    rest = sample(replace(prepared, dirty_working=left))
    return np.maximum(bright + rest, 0), prepared


def _subtract_bright(prepared, fitter, noise, sample, scale, limits, measure_rms):
    """Major cycles: bright skies, what they leave, and the observation with the noise of that.

    No sample depends on another but the first, which the noise comes from.
    """
    bright_snr, shown_snr = limits
    bright = np.zeros(noise.shape, dtype=np.float32)
    left = np.broadcast_to(prepared.dirty_working, bright.shape).copy()
    valid = prepared.primary_beam_working > 0
    share = np.clip(_SIDELOBES * fitter.largest_sidelobe, *_LEAST_SHARE)
    for cycle in range(_MOST_CYCLES):
        peaks = left.max(axis=(1, 2))
        active = peaks > bright_snr
        logger.info("major cycle %d: peaks of up to %.1f rms are left", cycle, peaks.max())
        if not active.any():
            break
        factors = np.maximum(1, peaks / shown_snr)[:, None, None].astype(np.float32)
        found = factors * sample(replace(prepared, dirty_working=left / factors))
        for k in np.flatnonzero(active):
            least = max(bright_snr / 2, share * peaks[k])
            found[k] = bright_part(found[k], valid, least=least, scale=scale)
        if not found[active].any():
            break
        bright[active] += found[active]
        bright, left, prepared = _fit_bright(fitter, bright, active, noise, prepared, measure_rms)
    if measure_rms:
        bright, left, prepared = _measured_locally(bright, left, prepared)
    return bright, left, prepared


def bright_part(sky, valid, *, least, scale):
    """Keep the bright sources of a sample.

    Parameters
    ----------
    sky : `numpy.ndarray`
        Shape (height, width): apparent sky per working pixel in units of the rms.
    valid : `numpy.ndarray`
        Shape (height, width), True where there is data. Sources whose brightest pixel is within a
        beam of the border are left out: the data cannot say enough about them.
    least : float
        Least peak of a bright source, seen with the beam, over the rms.
    scale : `diffsky.deconvolution.WorkingScale`
        Working pixels per beam and target kernel.

    Returns
    -------
    bright : `numpy.ndarray`
        Same shape, 0 outside bright sources.
    """
    beam = scale.pixels_per_beam
    sigma = np.sqrt((beam**2 - scale.kernel_fwhm**2) / (8 * np.log(2)))
    area = np.pi * beam**2 / (4 * np.log(2))
    seen = area * ndimage.gaussian_filter(sky, sigma, mode="constant")
    labels, n = ndimage.label(sky > _BORDER * sky.max(), np.ones((3, 3)))
    keep = np.zeros(n + 1, dtype=bool)
    inside = ndimage.distance_transform_edt(np.pad(valid, 1))[1:-1, 1:-1] > beam
    for label, place in enumerate(ndimage.maximum_position(seen, labels, np.arange(1, n + 1)), 1):
        keep[label] = seen[place] >= least and inside[place]
    return np.where(keep[labels], sky, 0)


def _fit_bright(fitter, bright, active, noise, prepared, measure_rms):
    """Fit the bright skies; what they leave; the observation in units of the noise of that."""
    for _ in range(_MOST_CYCLES):
        dirty, skies = torch.from_numpy(prepared.dirty_working), torch.from_numpy(bright)
        for k in np.flatnonzero(active & bright.any(axis=(1, 2))):
            # A fit shrinks what the data do not want by a factor; the next one, by another.
            for _ in range(_FITS):
                skies[k] = fitter.fit(skies[k].clamp(min=0), dirty + noise[k])
        left = (dirty - fitter.observe(skies)).numpy()
        bright = skies.numpy()
        valid = prepared.primary_beam_working > 0
        factor = np.float32(estimate_rms(left[0][valid]) if measure_rms else 1)
        if factor > _STEADY:
            break
        bright, left = bright / factor, left / factor
        prepared = _with_noise(prepared, factor, prepared.rms * factor)
        active = np.ones_like(active)
    return bright, left, prepared


def _measured_locally(bright, left, prepared):
    """The same with the noise of every place, where what the first sample leaves has another."""
    valid = prepared.primary_beam_working > 0
    beam, pixel = prepared.image.meta["beam"], prepared.image.meta["pixel_scale"]
    fwhm = float(np.sqrt(beam.major * beam.minor) / pixel) / prepared.grid.zoom
    factor = measure_noise(left[0], valid, beam_fwhm=fwhm)
    if np.ndim(factor) == 0:
        return bright, left, prepared
    factor = np.where(valid, factor, 1).astype(np.float32)
    rms = prepared.rms * np.maximum(prepared.grid.to_image(factor, conserve="intensity"), 0)
    return bright / factor, left / factor, _with_noise(prepared, factor, rms)


def _with_noise(prepared, factor, rms):
    return replace(
        prepared,
        rms=rms,
        dirty_working=prepared.dirty_working / factor,
        rms_working=prepared.rms_working * factor,
    )


def _rms_of_sidelobes(psf, beam_fwhm):
    """Root mean square of a PSF beyond two beams from its peak, where the data lie."""
    y, x = (np.arange(n) - n // 2 for n in psf.shape)
    beyond = np.hypot(y[:, None], x) > 2 * beam_fwhm
    beyond &= (np.abs(y) < psf.shape[0] / 4)[:, None] & (np.abs(x) < psf.shape[1] / 4)
    return float(np.sqrt(np.mean(psf[beyond] ** 2))) if beyond.any() else 0.0


def _warn_if_left(peak, bright_snr):
    if peak > bright_snr:
        warn_caller(
            f"{peak:.0f} rms are left of the image after the major cycles, which sources within a "
            "beam of the border of the data do not enter: results are not trusted around the peak"
        )


def _warn_if_bright(prepared, trained_snr, psf):
    peak = prepared.dirty_working.max()
    bright, _ = bright_limits(trained_snr)
    where = "Without psf=" if psf is None else "On a grid that does not follow the beam"
    if np.isfinite(trained_snr) and peak > bright:
        warn_caller(
            f"the image peaks at {peak:.0f} rms. {where}, results are not trusted around "
            f"sources above {bright:g} rms, whose sidelobes hide and imitate others, nor for "
            f"sources above {trained_snr:g} rms, the largest of the training"
        )
