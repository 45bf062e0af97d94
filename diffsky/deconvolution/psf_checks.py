"""Whether a PSF belongs to an image, and is of the kind that networks are trained on."""

import astropy.units as u
import numpy as np
from scipy import ndimage
from scipy.optimize import least_squares

from diffsky._warning import warn_caller
from diffsky.images import load_psf

__all__ = [
    "TRAINED_CONTENT",
    "fit_beam",
    "is_foreign",
    "load_matching_psf",
    "psf_content",
    "warn_if_foreign",
    "warn_if_other_beam",
]

# Beam areas within two beams of the peak, of the PSFs that the network has seen, where its
# description does not tell.
TRAINED_CONTENT = (0.8, 1.7)
_TOLERANCE = 0.1  # relative, of either axis
_MAIN_LOBE = 0.35  # of the peak, the level above which imagers fit the beam
_FWHM = np.sqrt(8 * np.log(2))


def load_matching_psf(psf, *, like):
    """Read a PSF and make sure that it belongs to an image.

    Parameters
    ----------
    psf : array, CCDData or path
        As `diffsky.images.load_psf` takes it.
    like : `astropy.nddata.CCDData`
        The image, as `diffsky.images.load_image` returns it.

    Returns
    -------
    psf : `numpy.ndarray`
        Its peak of 1 at (ny // 2, nx // 2).

    Raises
    ------
    ValueError
        If `diffsky.images.load_psf` refuses it, or either axis of the beam fitted to it differs by
        more than 10 % from that of the image's beam.
    """
    psf = load_psf(psf, like=like)
    psf = psf / psf.max()
    pixel, beam = like.meta["pixel_scale"], like.meta["beam"]
    fitted = np.array(fit_beam(psf)) * pixel.to_value(u.arcsec)
    expected = np.array([beam.major.to_value(u.arcsec), beam.minor.to_value(u.arcsec)])
    if not (np.abs(fitted / expected - 1) <= _TOLERANCE).all():
        raise ValueError(
            f"psf has a beam of {fitted[0]:.4g} x {fitted[1]:.4g} arcsec, the image of "
            f"{expected[0]:.4g} x {expected[1]:.4g} arcsec; expected the same within "
            f"{_TOLERANCE:.0%}: the PSF belongs to another image"
        )
    return psf


def fit_beam(psf):
    """Fit a Gaussian to the main lobe of a PSF, where it is above 0.35 of its peak.

    Parameters
    ----------
    psf : `numpy.ndarray`
        Shape (ny, nx), its peak of 1 at (ny // 2, nx // 2).

    Returns
    -------
    major, minor : float
        FWHM in pixels. NaN where the main lobe has too few pixels.
    """
    return fit_beam_shape(psf)[:2]


def fit_beam_shape(psf):
    """Fit a Gaussian to the main lobe of a PSF, with its position angle.

    Parameters
    ----------
    psf : `numpy.ndarray`
        As for `fit_beam`.

    Returns
    -------
    major, minor : float
        FWHM in pixels. NaN where the main lobe has too few pixels.
    pa : float
        Position angle of the major axis in radians, 0 to pi: east of north where the first axis
        is north and the second decreasing right ascension.
    """
    centre = tuple(n // 2 for n in psf.shape)
    lobes, _ = ndimage.label(psf > _MAIN_LOBE)
    rows, columns = np.nonzero(lobes == lobes[centre])
    values = psf[rows, columns]
    y, x = rows - centre[0], columns - centre[1]
    if len(values) < 5:
        return np.nan, np.nan, np.nan

    start = 2 * np.pi * values.mean() / len(values)
    form = least_squares(_misfit, [start, 0.0, start], args=(x, y, values)).x
    curvature, (x_axis, y_axis) = np.linalg.eigh([form[:2], form[1:]])
    major, minor = _FWHM / np.sqrt(curvature)
    return float(major), float(minor), float(np.arctan2(-x_axis[0], y_axis[0]) % np.pi)


def psf_content(psf, beam_fwhm):
    """Sum of a PSF within two beams of its peak, in areas of the Gaussian beam.

    A network takes the pedestal of a PSF for flux if it is not one that it knows.

    Parameters
    ----------
    psf : `numpy.ndarray`
        Shape (ny, nx), its peak of 1 at (ny // 2, nx // 2).
    beam_fwhm : float
        Geometric mean FWHM of the beam in pixels.

    Returns
    -------
    content : float
        1 for a Gaussian, but for its wings beyond two beams.
    """
    y, x = np.indices(psf.shape)
    distance = np.hypot(y - psf.shape[0] // 2, x - psf.shape[1] // 2)
    area = np.pi * beam_fwhm**2 / (4 * np.log(2))
    return float(psf[distance < 2 * beam_fwhm].sum() / area)


def warn_if_foreign(content, trained=TRAINED_CONTENT):
    """Warn where a PSF is not of the kind that networks are trained on.

    Parameters
    ----------
    content : float
        As `psf_content` gives it.
    trained : tuple of float, optional
        Smallest and largest content of the training. Default `TRAINED_CONTENT`.

    Warns
    -----
    DiffskyWarning
        If it is outside of that.
    """
    low, high = trained
    if low <= content <= high:
        return
    what = (
        "the image is reweighted in the uv plane, at a resolution and a noise of its own"
        if content > high
        else "fluxes of extended sources may be too low"
    )
    warn_caller(
        f"the PSF holds {content:.2f} beam areas within two beams, those of the training {low:g} "
        f"to {high:g}: {what}"
    )


def warn_if_other_beam(beam, trained):
    """Warn where an image has not the resolution that weights for one observation know.

    Parameters
    ----------
    beam : `radio_beam.Beam`
        That of the image.
    trained : tuple of float
        Smallest and largest geometric mean FWHM of the training in arcsec.

    Warns
    -----
    DiffskyWarning
        If that of the image is more than 10 % outside.
    """
    fwhm = np.sqrt(beam.major * beam.minor).to_value(u.arcsec)
    low, high = trained
    if not low * (1 - _TOLERANCE) <= fwhm <= high * (1 + _TOLERANCE):
        warn_caller(
            f"the image has a beam of {fwhm:.3g} arcsec, those of the training {low:.3g} to "
            f"{high:.3g}: these weights know no other, and results are not trusted"
        )


def is_foreign(psf, trained, *, like):
    """Whether a PSF stands on a wider pedestal than those of a training.

    Parameters
    ----------
    psf : `numpy.ndarray`
        Shape (ny, nx), its peak of 1 at (ny // 2, nx // 2).
    trained : tuple of float
        Least and largest `psf_content` of the training.
    like : `astropy.nddata.CCDData`
        The image, as `diffsky.images.load_image` returns it.

    Returns
    -------
    foreign : bool
        True beyond the upper end.

    Warns
    -----
    DiffskyWarning
        As `warn_if_foreign`.
    """
    beam = np.sqrt(like.meta["beam"].major * like.meta["beam"].minor)
    content = psf_content(psf, (beam / like.meta["pixel_scale"]).to_value(u.one))
    warn_if_foreign(content, trained)
    return content > trained[1]


def _misfit(form, x, y, values):
    return np.exp(-(form[0] * x**2 + 2 * form[1] * x * y + form[2] * y**2) / 2) - values
