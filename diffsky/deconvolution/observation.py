"""From a user's image to what the network sees, and samples back to the sky."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData

from diffsky._warning import warn_caller
from diffsky.deconvolution.grid import WorkingGrid
from diffsky.deconvolution.noise import measure_noise
from diffsky.images import load_image, load_map
from diffsky.instrument.primary_beam import KNOWN_DISHES, airy_primary_beam

__all__ = ["PreparedObservation", "prepare_observation"]

_PBLIMIT = 0.1
_LEAST_BLANKS = 0.01  # share of the pixels
_LEAST_SAMPLING = 1.5  # pixels of a fixed grid across the minor axis of the beam; D24 have 2


@dataclass(frozen=True)
class PreparedObservation:
    """An observation without units, and what gives them back.

    Parameters
    ----------
    image : `astropy.nddata.CCDData`
        The validated dirty image.
    rms : `numpy.ndarray` or float
        Noise rms in Jy/beam, a map on the image's pixels or one number.
    primary_beam : `numpy.ndarray`
        Shape of the image.
    valid : `numpy.ndarray`
        Shape of the image, True where there is data.
    grid : `diffsky.deconvolution.grid.WorkingGrid`
        Where the working pixels lie in the image.
    dirty_working, primary_beam_working, rms_working : `numpy.ndarray`
        Dirty image over rms, primary beam, and rms in Jy on the working grid; the first two are
        0 where there is no data.
    """

    image: CCDData
    rms: object
    primary_beam: np.ndarray
    valid: np.ndarray
    grid: WorkingGrid
    dirty_working: np.ndarray
    primary_beam_working: np.ndarray
    rms_working: np.ndarray

    def true_sky(self, apparent):
        """Sky in Jy per working pixel.

        Parameters
        ----------
        apparent : `numpy.ndarray`
            Shape (..., height, width) of the working grid: apparent sky in units of the rms.

        Returns
        -------
        sky : `numpy.ndarray`
            Primary beam divided out; 0 where there is no data.
        """
        gain = self.primary_beam_working
        factor = np.divide(self.rms_working, gain, out=np.zeros_like(gain), where=gain > 0)
        return apparent * factor


def prepare_observation(
    dirty,
    *,
    pixels_per_beam=None,
    pixel=None,
    size=None,
    stride,
    primary_beam=None,
    rms=None,
    mask=None,
    beam=None,
):
    """Validate an observation and bring it to the working grid.

    Parameters
    ----------
    dirty : `astropy.nddata.CCDData`, path or other
        Whatever `diffsky.images.load_image` takes, in Jy/beam.
    pixels_per_beam : float or None, optional
        Working pixels per geometric mean FWHM, on a grid that covers the data.
    pixel, size : float and int, or None, optional
        Instead of ``pixels_per_beam``: a grid of ``size`` x ``size`` pixels of ``pixel`` arcsec
        around the centre of the image, as D24 has it.
    stride : int
        Height and width of the first kind of grid are multiples of this.
    primary_beam : array, number, CCDData, path or None, optional
        None takes that of the telescope and frequency in the header where the dish is known,
        else unity, with a warning.
    rms : array, number, Quantity, CCDData, path or None, optional
        Noise rms in Jy/beam; None measures it, locally where it varies over the field (see
        `diffsky.deconvolution.noise.measure_noise`). Blocks of pixels that are exactly 0 then count
        as blank, with a warning.
    mask : `numpy.ndarray` or None, optional
        True where there is no data, beside the image's own mask.
    beam : `radio_beam.Beam`, Quantity or None, optional
        Beam, if the image does not say it.

    Returns
    -------
    prepared : `PreparedObservation`
        Image, maps and grid.

    Raises
    ------
    ValueError
        If the image cannot be used (see `diffsky.images.load_image`), has no noise, has data
        beyond a grid of fixed size, or a beam that a grid of fixed pixels does not sample.
    """
    image = load_image(dirty, beam=beam)
    valid = ~image.mask
    if mask is not None:
        valid &= ~load_mask(mask, shape=valid.shape)
    if primary_beam is None:
        gain = _telescope_primary_beam(image)
    else:
        gain = load_map(primary_beam, like=image, name="primary_beam")
    valid = valid & (np.nan_to_num(gain) > _PBLIMIT)
    if not valid.any():
        raise ValueError("no pixel has both data and a primary beam above 0.1")
    beam_fwhm = np.sqrt(image.meta["beam"].major * image.meta["beam"].minor)
    beam_fwhm = (beam_fwhm / image.meta["pixel_scale"]).to_value(u.one)
    if rms is None:
        valid = _without_zeros(image.data, valid)
        noise = measure_noise(image.data, valid, beam_fwhm=beam_fwhm)
    else:
        noise = load_map(rms, like=image, name="rms")
    gain = np.where(valid, gain, 0)
    noise = np.broadcast_to(np.asarray(noise, dtype=np.float32), valid.shape)
    valid = valid & (np.nan_to_num(noise) > 0)
    if not valid.any():
        raise ValueError("the noise rms is 0; expected an image with noise, or rms= above 0")
    if pixels_per_beam is None:
        zoom = pixel / image.meta["pixel_scale"].to_value(u.arcsec)
        _check_fixed_pixel(pixel, image.meta["beam"])
        grid = WorkingGrid.fixed(valid, zoom, size)
    else:
        grid = WorkingGrid.around(valid, beam_fwhm / pixels_per_beam, stride)
    valid_working = grid.valid_to_working(valid)
    dirty_over_rms = np.divide(image.data, noise, out=np.zeros_like(image.data), where=valid)
    resampled = [grid.to_working(fill_from_nearest(dirty_over_rms, valid))]
    resampled += [grid.to_working(fill_from_nearest(m, valid), linear=True) for m in (gain, noise)]
    dirty_working, gain_working, rms_working = (
        np.where(valid_working, m, 0).astype(np.float32) for m in resampled
    )
    return PreparedObservation(
        image, noise, gain, valid, grid, dirty_working, gain_working, rms_working
    )


def load_mask(mask, *, shape):
    """Read the mask that goes with an image.

    Parameters
    ----------
    mask : array_like of bool
        True where there is no data.
    shape : tuple of int
        That of the image.

    Returns
    -------
    mask : `numpy.ndarray`
        Of bool.

    Raises
    ------
    ValueError
        If it has another shape.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != shape:
        raise ValueError(f"mask has shape {mask.shape}; expected that of the image {shape}")
    return mask


def fill_from_nearest(image, valid):
    """Replace pixels without data by the nearest with data, so that interpolation has no edge.

    Parameters
    ----------
    image : `numpy.ndarray`
        Shape (ny, nx).
    valid : `numpy.ndarray`
        Shape (ny, nx), True where there is data.

    Returns
    -------
    filled : `numpy.ndarray`
        Shape (ny, nx).
    """
    if valid.all():
        return np.asarray(image)
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return np.asarray(image)[tuple(nearest)]


def _without_zeros(data, valid):
    """Valid pixels without blocks of exact zeros, which noise never has and blank regions do."""
    from scipy.ndimage import binary_opening

    blank = binary_opening((data == 0) & valid, np.ones((3, 3)))
    share = blank.sum() / valid.sum()
    if share <= _LEAST_BLANKS or (blank == valid).all():
        return valid
    warn_caller(
        f"{share:.0%} of the pixels are exactly 0, in blocks: they count as blank. Mask them "
        "with mask= or NaN, or give rms= to use them as they are."
    )
    return valid & ~blank


def _check_fixed_pixel(pixel, beam):
    minor = beam.minor.to_value(u.arcsec)
    if minor < _LEAST_SAMPLING * pixel:
        raise ValueError(
            f"the weights have working pixels of {pixel:g} arcsec, the image a beam of "
            f"{minor:.4g} arcsec (minor axis); expected {_LEAST_SAMPLING:g} pixels or more across "
            "it, or weights whose grid follows the beam"
        )


def _telescope_primary_beam(image):
    telescope, frequency = image.meta.get("telescope"), image.meta.get("frequency")
    dish = KNOWN_DISHES.get(str(telescope).upper().split()[0]) if telescope else None
    if dish is None or frequency is None:
        warn_caller(
            f"no primary beam is known for telescope {telescope!r} at frequency {frequency}: the "
            "sky is apparent, not true. Pass primary_beam= to correct it."
        )
        return np.ones(image.shape, dtype=np.float32)
    header = image.meta["header"]
    centre = _pointing_centre(image, header)
    y, x = np.indices(image.shape)
    scale = image.meta["pixel_scale"].to_value(u.arcsec)
    separation = np.hypot(x - centre[0], y - centre[1]) * scale
    return airy_primary_beam(
        separation, frequency=frequency.to_value(u.Hz), diameter=dish[0], blockage=dish[1]
    ).astype(np.float32)


def _pointing_centre(image, header):
    """Pixel of the pointing: OBSRA and OBSDEC where the header has them, else the reference."""
    if "OBSRA" in header and "OBSDEC" in header:
        return image.wcs.all_world2pix(header["OBSRA"], header["OBSDEC"], 0)
    return image.wcs.wcs.crpix - 1
