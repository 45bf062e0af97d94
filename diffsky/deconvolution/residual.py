"""What a sky leaves of the dirty image."""

import astropy.units as u
import numpy as np
import torch
from astropy.nddata import CCDData

from diffsky.deconvolution.noise import estimate_rms
from diffsky.images import load_psf
from diffsky.instrument.constructors import instrument_from_images

__all__ = ["residual_image", "residual_statistics"]


def residual_image(prepared, sky, psf, *, kernel_fwhm):
    """Dirty image less the re-observed sky.

    Parameters
    ----------
    prepared : `diffsky.deconvolution.observation.PreparedObservation`
        The observation that the sky was made from.
    sky : `astropy.nddata.CCDData`
        Shape of the image, true sky in Jy/pix convolved with the target kernel.
    psf : array, CCDData or path
        PSF on the pixels of the image; its peak (1 within 10 %) is brought to 1.
    kernel_fwhm : float
        FWHM of the target kernel in pixels of the image; it is divided out.

    Returns
    -------
    residual : `astropy.nddata.CCDData`
        Jy/beam.

    Raises
    ------
    ValueError
        If the sky is not on the pixels of the image, or the PSF does not belong to it.
    """
    image = prepared.image
    if sky.shape != image.shape or sky.unit != u.Jy / u.pix:
        raise ValueError(
            f"sky has shape {sky.shape} and unit {sky.unit}; expected {image.shape} and Jy/pix"
        )
    response = load_psf(psf, like=image)
    instrument = instrument_from_images(response / response.max(), prepared.primary_beam, rms=0.0)
    seen = torch.from_numpy(np.where(prepared.valid, sky.data, 0).astype(np.float32))
    model = instrument.forward(seen, kernel_fwhm=kernel_fwhm).numpy()
    meta = {key: image.meta[key] for key in ("beam", "pixel_scale", "frequency", "telescope")}
    return CCDData(
        np.where(prepared.valid, image.data - model, np.nan),
        unit=u.Jy / u.beam,
        mask=~prepared.valid,
        wcs=image.wcs,
        meta=meta,
    )


def residual_statistics(residual, rms):
    """Say how much a sky leaves of the dirty image.

    Parameters
    ----------
    residual : `astropy.nddata.CCDData`
        As `residual_image` makes it.
    rms : `numpy.ndarray`
        Noise rms in Jy/beam, shape of the image.

    Returns
    -------
    statistics : dict
        Of the pixels with data: ``residual_rms``, the standard deviation, and
        ``residual_robust_rms``, that from the median absolute deviation after clipping at 3 sigma,
        in Jy/beam; ``residual_peak``, the largest absolute value over the noise rms there.
    """
    values = residual.data[~residual.mask]
    return {
        "residual_rms": float(np.std(values)),
        "residual_robust_rms": estimate_rms(values),
        "residual_peak": float(np.max(np.abs(values) / rms[~residual.mask])),
    }
