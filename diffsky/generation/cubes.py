"""Generated images as CCDData."""

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData

from diffsky._reading import make_beam
from diffsky.generation.scaling import unscale_images

__all__ = ["describe_images", "join_cubes", "make_cube"]


def describe_images(size, pixel_scale, beam):
    """What the weights note of their images, in what JSON can hold.

    Parameters
    ----------
    size : int
        Pixels of a side.
    pixel_scale : `~astropy.units.Quantity` or None
        Side of a pixel.
    beam : `~radio_beam.Beam` or None
        Beam of the images.

    Returns
    -------
    description : dict
        ``size``, ``pixel_scale`` in arcsec and ``beam`` (FWHM in arcsec, position angle in deg),
        those that are known.

    Raises
    ------
    ValueError
        If the pixel scale is no angle above 0, or the beam is none.
    """
    known = {"size": int(size)}
    if pixel_scale is not None:
        try:
            scale = float(pixel_scale.to_value(u.arcsec))
        except (AttributeError, TypeError, u.UnitConversionError) as error:
            raise ValueError(f"pixel_scale is {pixel_scale!r}; expected an angle") from error
        if not 0 < scale < np.inf:
            raise ValueError(f"pixel_scale is {pixel_scale}; expected an angle above 0")
        known["pixel_scale"] = scale
    if beam is not None:
        beam = make_beam(beam)
        axes = [float(axis.to_value(u.arcsec)) for axis in (beam.major, beam.minor)]
        known["beam"] = [*axes, float(beam.pa.to_value(u.deg))]
    return known


def make_cube(scaled, values, about, meta):
    """Images in their unit.

    Parameters
    ----------
    scaled : `numpy.ndarray`
        Shape (n, ny, ny), as from `diffsky.generation.scale_images`.
    values : list of str or `~astropy.units.Quantity`
        Class or peak flux density of each.
    about : dict
        As from `describe_images`, and ``scale``, what the images were scaled by, if it is not the
        default.
    meta : dict
        What else ``meta`` shall hold.

    Returns
    -------
    cube : `~astropy.nddata.CCDData`
        In the unit of the peaks, or relative to the peak.
    """
    meta = dict(meta)
    if isinstance(values, u.Quantity):
        meta["peak_flux"], unit, peaks = values, values.unit, values.value
    else:
        meta["label"], unit, peaks = list(values), u.dimensionless_unscaled, 1.0
    if "pixel_scale" in about:
        meta["pixel_scale"] = about["pixel_scale"] * u.arcsec
    if "beam" in about:
        major, minor, pa = about["beam"]
        meta["beam"] = make_beam((major * u.arcsec, minor * u.arcsec, pa * u.deg))
    return CCDData(unscale_images(scaled, peaks, **about.get("scale", {})), unit=unit, meta=meta)


def join_cubes(cubes):
    """One cube of several from one run.

    Parameters
    ----------
    cubes : sequence of `~astropy.nddata.CCDData`
        As from `make_cube`, one or more.

    Returns
    -------
    cube : `~astropy.nddata.CCDData`
        All images, with the class or peak of each.
    """
    meta = dict(cubes[0].meta)
    if "label" in meta:
        meta["label"] = [label for cube in cubes for label in cube.meta["label"]]
    else:
        meta["peak_flux"] = np.concatenate([cube.meta["peak_flux"] for cube in cubes])
    return CCDData(np.concatenate([cube.data for cube in cubes]), unit=cubes[0].unit, meta=meta)
