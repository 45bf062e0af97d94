"""What is in an image that is neither noise nor sky: a network takes it for sky."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np

from diffsky._warning import warn_caller
from diffsky.deconvolution.noise import estimate_rms

__all__ = ["Stripes", "find_stripes", "warn_about_image"]

_CLIP = 3.0  # rms: sources do not count as stripes
# Amplitudes in rms. Noise and sources have less in every quarter of the field; in a small one the
# few Fourier components have more each.
_STRIPES, _STRIPES_SMALL, _SMALL, _LEAST = 0.75, 1.0, 20.0, 10.0
_SLOWEST = 3  # periods across the field
_COHERENT = 0.8
_TROUGH, _SIDELOBE = 6.5, 0.5  # rms; share of the brightest positive pixel
_OFFSET = 0.5  # rms of the background
_FEW_BEAMS = 30.0  # beam areas, a tenth of which one source may cover


@dataclass(frozen=True)
class Stripes:
    """A sinusoid that runs through an image.

    Attributes
    ----------
    amplitude : float
        In units of the rms of the image, stripes included.
    period : float
        In pixels.
    angle : float
        Direction across the stripes in deg, from +x towards +y, -90 to 90.
    """

    amplitude: float
    period: float
    angle: float


def find_stripes(image, valid, *, beam_fwhm):
    """Find the stripes that one disturbed visibility makes.

    Its Fourier component stands out, and has the same amplitude and phase in every quarter of the
    field, which no source has.

    Parameters
    ----------
    image : `numpy.ndarray`
        Shape (ny, nx), any unit.
    valid : `numpy.ndarray`
        Shape (ny, nx), True where there is data.
    beam_fwhm : float
        Geometric mean FWHM of the beam in pixels.

    Returns
    -------
    stripes : `Stripes` or None
        None if there are none of more than 0.75 rms (1 in fields of less than 20 beams), or the
        field is less than 10 beams across.
    """
    rows, columns = (np.flatnonzero(valid.any(axis=axis)) for axis in (1, 0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    image, valid = image[part], valid[part]
    across = min(image.shape) / beam_fwhm
    rms = estimate_rms(image[valid])
    if across < _LEAST or not rms > 0:
        return None
    clipped = np.clip((image - np.median(image[valid])) / rms, -_CLIP, _CLIP) * valid
    ky, kx = _strongest_component(clipped, valid)
    quarters = _amplitudes(clipped, valid, ky, kx)
    least = _STRIPES_SMALL if across < _SMALL else _STRIPES
    coherent = abs(sum(quarters)) > _COHERENT * np.sum(np.abs(quarters))
    if not (len(quarters) == 4 and coherent and np.min(np.abs(quarters)) > least):
        return None
    angle = np.degrees(np.arctan2(ky, kx))
    return Stripes(float(abs(np.mean(quarters))), float(1 / np.hypot(ky, kx)), float(angle))


def warn_about_image(prepared, *, measured):
    """Warn about what a network would take for sky.

    Parameters
    ----------
    prepared : `diffsky.deconvolution.observation.PreparedObservation`
        The observation.
    measured : bool
        Whether the noise was measured.

    Warns
    -----
    DiffskyWarning
        If a measured noise varies over the image or is that of a few beams, or there are stripes
        through the whole of it, troughs that are neither noise nor sidelobes, or a background that
        is not 0.
    """
    for text in _faults(prepared, measured):
        warn_caller(text)


def _faults(prepared, measured):
    image, valid = prepared.dirty_working, prepared.primary_beam_working > 0
    beam, pixel = prepared.image.meta["beam"], prepared.image.meta["pixel_scale"]
    fwhm = (np.sqrt(beam.major * beam.minor) / pixel).to_value(u.one) / prepared.grid.zoom
    rms = prepared.rms[prepared.valid]
    if measured and rms.max() > rms.min():
        yield (
            f"the noise varies over the image, from {rms.min():.3g} to {rms.max():.3g} Jy/beam: it "
            "was measured locally. Give rms= if you know it."
        )
    values = image[valid]
    if not len(values):
        return
    n_beams = len(values) * 4 * np.log(2) / (np.pi * fwhm**2)
    if measured and n_beams < _FEW_BEAMS:
        yield (
            f"the noise, {np.median(rms):.3g} Jy/beam, was measured in {n_beams:.0f} beam areas, "
            "where a source counts as noise and is lost. Give rms="
        )
    stripes = find_stripes(image, valid, beam_fwhm=fwhm)
    if stripes is not None:
        period = stripes.period * prepared.grid.zoom * pixel.to_value(u.arcsec)
        yield (
            f"stripes of {stripes.amplitude:.1f} rms run through the whole image, with a period of "
            f"{period:.3g} arcsec, {stripes.angle:.0f} deg from the first axis: interference or a "
            "bad visibility. The network has never seen any; results are not trusted."
        )
    trough = -values.min()
    if trough > max(_TROUGH, _SIDELOBE * values.max()):
        yield (
            f"the image has a trough of {trough:.1f} rms, which neither noise nor the sidelobes of "
            f"its brightest pixel ({values.max():.1f} rms) explain: absorption, a source outside "
            "of the image, interference or a wrong rms. The sky is never negative; results are not "
            "trusted there."
        )
    own, independent = estimate_rms(values), max(1.0, len(values) / fwhm**2)
    offset = np.median(values) / own if own > 0 else 0.0
    if offset > max(_OFFSET, 5 / np.sqrt(independent)):
        yield (
            f"the background of the image is at {offset:.1f} rms; expected 0, as an interferometer "
            "measures no total power. Is emission all over the image, or an offset added to it?"
        )


def _strongest_component(image, valid):
    """Spatial frequency (ky, kx), in cycles per pixel, with the largest amplitude."""
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in image.shape)) * valid
    shape = [2 * n for n in image.shape]
    level = (window * image).sum() / window.sum()
    amplitude = np.abs(np.fft.rfft2((image - level) * window, s=shape))
    ky, kx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    amplitude[np.hypot(ky * image.shape[0], kx * image.shape[1]) < _SLOWEST] = 0
    row, column = np.unravel_index(amplitude.argmax(), amplitude.shape)
    return ky[row, 0], kx[column]


def _amplitudes(image, valid, ky, kx):
    """Complex amplitudes of a component in the quarters of a field that have data."""
    y, x = np.indices(image.shape)
    wave = np.exp(-2j * np.pi * (ky * y + kx * x))
    amplitudes = []
    for lower in (True, False):
        for left in (True, False):
            quarter = ((y < image.shape[0] / 2) == lower) & ((x < image.shape[1] / 2) == left)
            quarter &= valid
            if quarter.any():
                amplitudes.append(2 * (image[quarter] * wave[quarter]).mean())
    return amplitudes
