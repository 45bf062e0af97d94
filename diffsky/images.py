"""Any radio image in, one validated two-dimensional image out.

Everything in diffsky that takes an image, a primary beam, a noise map or a PSF reads it through
this module, so units, beams, WCS, blanks and degenerate axes are dealt with here alone.
"""

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs.utils import proj_plane_pixel_scales

from diffsky._reading import (
    JY_BEAM,
    TOLERANCE,
    centred_slice,
    check_same_wcs,
    check_sampling,
    choose_beam,
    choose_unit,
    choose_wcs,
    conversion_factor,
    find_frequency,
    given_mask,
    header_text,
    only_plane,
    parse_unit,
    read_source,
    same_beam,
    scaled,
)
from diffsky._writing import make_header, unit_text

__all__ = ["beam_area_pixels", "load_image", "load_map", "load_psf", "pixel_scale", "write_image"]

_MAP_UNITS = {"primary_beam": u.dimensionless_unscaled, "rms": JY_BEAM}
_PSF_TOLERANCE = 0.1  # relative, of the peak of a PSF and of its beam


def load_image(image, *, beam=None, unit=None, mask=None, wcs=None, hdu=None):
    """
    Read and validate a radio image.

    Parameters
    ----------
    image : `~astropy.nddata.NDData`, str, path-like, HDU, `~astropy.io.fits.HDUList` or array
        The image, of any real dtype and byte order, with any number of axes of length 1 beside
        the two celestial ones. Its unit has to be convertible to Jy/beam: a flux density per
        beam, per solid angle, or K where the frequency is known. An array needs ``unit``,
        ``beam`` and ``wcs``. Uncertainties are not used.
    beam : `~radio_beam.Beam`, `~astropy.units.Quantity` or tuple, optional
        The restoring beam: an angle (FWHM of a circular beam) or the angles (major FWHM, minor
        FWHM, position angle east of north). By default that of the header (BMAJ, BMIN, BPA in
        deg) or of a CASA table BEAMS.
    unit : `~astropy.units.Unit` or str, optional
        The unit of the data where the image does not say it.
    mask : array of bool, optional
        True where there is no data, (ny, nx); joined with the mask of the image.
    wcs : `~astropy.wcs.WCS`, optional
        The WCS where the image has none.
    hdu : int or str, optional
        Which HDU to read. By default the only one that holds an image; the mask written by
        `~astropy.nddata.CCDData` belongs to it.

    Returns
    -------
    `~astropy.nddata.CCDData`
        A new image, (ny, nx), float32 in native byte order, in Jy/beam, with a two-dimensional
        celestial WCS. ``mask`` is a bool array, and the data are NaN exactly where it is True.
        ``meta`` holds ``"beam"`` (`~radio_beam.Beam`, safe to copy), ``"pixel_scale"``
        (arcsec), ``"frequency"`` (Hz, of the spectral axis or the keyword FREQ, else None:
        RESTFRQ is the rest frame's), ``"telescope"`` and ``"object"`` (str or None) and
        ``"header"`` (`~astropy.io.fits.Header`, the cards as they came).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the image is not a FITS file, not numeric or an integer image with blanks, has no
        unit, no beam, no celestial WCS, more than one plane, pixels that are not square, no
        valid pixel, fewer than one beam across or fewer than 2 pixels across the minor axis of
        the beam; or if ``beam``, ``unit`` or ``wcs`` contradict what the image says (beam: 1 %,
        WCS: 0.1 pixel).
    `~astropy.units.UnitConversionError`
        If its unit cannot be converted to Jy/beam (also a ValueError).
    """
    source = read_source(image, hdu=hdu, name="image")
    data, blank = only_plane(source, name="image")
    unit = choose_unit(source.unit, unit, name="image")
    grid = choose_wcs(source.wcs, wcs, shape=data.shape)
    frequency = source.frequency
    frequency = find_frequency(wcs, source.header) if frequency is None else frequency
    scale = pixel_scale(grid)
    beam = choose_beam(source.beam, beam)
    check_sampling(data.shape, beam=beam, scale=scale)
    factor = conversion_factor(unit, JY_BEAM, beam=beam, frequency=frequency, name="image")
    given = given_mask(mask, shape=data.shape, full_shape=source.data.shape)
    data = scaled(data, factor=factor, mask=blank | given)
    blank = np.isnan(data)
    if blank.all():
        raise ValueError(f"image: none of its {data.size} pixels is finite and unmasked.")
    meta = {
        "beam": beam,
        "pixel_scale": scale,
        "frequency": frequency,
        "telescope": header_text(source.header, "TELESCOP"),
        "object": header_text(source.header, "OBJECT"),
        "header": source.header,
    }
    return CCDData(data, unit=JY_BEAM, wcs=grid, mask=blank, meta=meta)


def load_map(value, *, like, name, unit=None):
    """
    Read a map that goes with an image: a primary beam or a noise rms.

    Parameters
    ----------
    value : number, `~astropy.units.Quantity`, array, or anything `load_image` reads
        The map. Numbers and arrays without a unit are in ``unit``; a FITS file or NDData
        without one is dimensionless.
    like : `~astropy.nddata.CCDData`
        The image, as `load_image` returns it.
    name : {"primary_beam", "rms"} or str
        What the map is, used in messages and for the default of ``unit``.
    unit : `~astropy.units.Unit`, optional
        The unit to return. By default none for a primary beam and Jy/beam for an rms; any other
        ``name`` needs it.

    Returns
    -------
    `~numpy.ndarray`
        (ny, nx) of ``like``, float32, in ``unit``, NaN where the map has no data.

    Raises
    ------
    ValueError
        If its shape or WCS (0.1 pixel) is not that of ``like``, if a value is negative or none
        is positive, if a primary beam exceeds 1.1, or if its unit does not convert to ``unit``
        (`~astropy.units.UnitConversionError`).
    """
    if unit is None and name not in _MAP_UNITS:
        raise ValueError(f"unit is needed for {name!r}; only {list(_MAP_UNITS)} have a default.")
    unit = _MAP_UNITS[name] if unit is None else u.Unit(unit)
    source = read_source(value, hdu=None, name=name)
    if source.data.ndim == 0:
        source.data = np.broadcast_to(source.data, like.shape)
        source.mask = np.broadcast_to(source.mask, like.shape)
    data, mask = only_plane(source, name=name)
    if data.shape != like.shape:
        raise ValueError(f"{name} has shape {data.shape}, the image {like.shape}: expected equal.")
    if source.wcs is not None:
        check_same_wcs(source.wcs.celestial, like.wcs, shape=like.shape, names=(name, "the image"))
    found = unit if source.unit is None else parse_unit(source.unit, name=name)
    about = {"beam": like.meta["beam"], "frequency": like.meta["frequency"]}
    data = scaled(data, factor=conversion_factor(found, unit, **about, name=name), mask=mask)
    if np.isnan(data).all():
        raise ValueError(f"{name}: none of its {data.size} pixels is finite and unmasked.")
    low, high = np.nanmin(data), np.nanmax(data)
    if low < 0 or not high > 0 or (name == "primary_beam" and high > 1.1):
        expected = "0 to 1" if name == "primary_beam" else "positive ones"
        raise ValueError(f"{name} has values from {low:g} to {high:g}, expected {expected}.")
    return data


def load_psf(psf, *, like):
    """
    Read the image of a point-spread function (dirty beam).

    Parameters
    ----------
    psf : array, or anything `load_image` reads
        The PSF, dimensionless or in Jy/beam, with a peak of 1 (within 10 %), at least as large
        as ``like`` and centred to one beam.
    like : `~astropy.nddata.CCDData`
        The image, as `load_image` returns it.

    Returns
    -------
    `~numpy.ndarray`
        The PSF, two-dimensional, float32, neither rescaled nor tapered. Its peak is at
        ``(ny // 2, nx // 2)``, where `numpy.fft.fftshift` puts the origin; rows and columns
        beyond that are cut off, so a side may be up to two beams shorter than it came.

    Raises
    ------
    ValueError
        If it is smaller than ``like``, not finite, not centred or not of unit peak, has another
        unit, another pixel scale (1 %) or another beam in its header (10 %).
    """
    source = read_source(psf, hdu=None, name="psf")
    data, mask = only_plane(source, name="psf")
    unit = parse_unit("" if source.unit is None else source.unit, name="psf")
    if unit not in (u.dimensionless_unscaled, JY_BEAM):
        raise u.UnitConversionError(f"psf has the unit {unit}, expected none or Jy/beam.")
    data = scaled(data, factor=1.0, mask=mask)
    if any(n < m for n, m in zip(data.shape, like.shape, strict=True)):
        raise ValueError(f"psf has shape {data.shape}, expected at least the image's {like.shape}.")
    if not np.isfinite(data).all():
        raise ValueError(f"psf has {np.sum(~np.isfinite(data))} pixels that are not finite.")
    scale, beam = like.meta["pixel_scale"], like.meta["beam"]
    if source.wcs is not None and abs(pixel_scale(source.wcs) / scale - 1) > TOLERANCE:
        came = pixel_scale(source.wcs)
        raise ValueError(f"psf has pixels of {came:.6g}, the image of {scale:.6g}: expected equal.")
    if source.beam is not None and not same_beam(source.beam, beam, tolerance=_PSF_TOLERANCE):
        raise ValueError(f"psf has another beam than the image: {source.beam!r}, not {beam!r}.")
    peak = np.unravel_index(np.argmax(data), data.shape)
    if abs(data[peak] - 1) > _PSF_TOLERANCE:
        raise ValueError(f"psf has a peak of {data[peak]:.4g}, expected 1 within 10 %.")
    offset = max(abs(int(p) - n // 2) for p, n in zip(peak, data.shape, strict=True))
    if offset > (beam.major / scale).to_value(u.dimensionless_unscaled):
        centre = tuple(n // 2 for n in data.shape)
        came = tuple(int(p) for p in peak)
        raise ValueError(f"psf peaks at pixel {came}, expected {centre} within one beam.")
    cuts = (centred_slice(int(p), n) for p, n in zip(peak, data.shape, strict=True))
    return np.ascontiguousarray(data[tuple(cuts)])


def write_image(image, path, *, overwrite=False):
    """
    Write an image with its beam to a FITS file.

    `~astropy.nddata.CCDData.write` refuses images whose ``meta`` holds a beam; this function
    writes it as BMAJ, BMIN and BPA.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        The image, in any unit. Mask and uncertainty go into the extensions MASK and UNCERT, as
        `~astropy.nddata.CCDData.write` does it. Of ``meta``, plain strings, numbers and scalar
        quantities are written (``"frequency"`` as FREQ in Hz, ``"telescope"`` as TELESCOP); a
        key of more than 8 characters loses its underscores or becomes a HIERARCH card. Nothing
        else of ``meta`` is written, its ``"header"`` included.
    path : str or path-like
        The file; the folder has to exist.
    overwrite : bool, optional
        Replace a file that is there.

    Raises
    ------
    TypeError
        If ``image`` is no `~astropy.nddata.CCDData`.
    ValueError
        If the beam in ``meta`` is none, or the uncertainty has a unit that does not fit.
    FileExistsError
        If the file exists and ``overwrite`` is False.
    OSError
        If the file cannot be written.
    """
    if not isinstance(image, CCDData):
        raise TypeError(f"image is of type {type(image).__name__}, expected CCDData.")
    path = Path(path).expanduser()
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=True replaces it.")
    parts = {name: getattr(image, name) for name in ("unit", "wcs", "mask", "uncertainty")}
    hdus = CCDData(image.data, meta=make_header(image), **parts).to_hdu()
    if image.unit is not u.dimensionless_unscaled:
        hdus[0].header["BUNIT"] = unit_text(image.unit)
    try:
        hdus.writeto(path, overwrite=overwrite)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error}") from error


def pixel_scale(wcs):
    """
    Side of the square pixels of a WCS.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        A WCS with two celestial axes, in any rotation.

    Returns
    -------
    `~astropy.units.Quantity`
        The side in arcsec.

    Raises
    ------
    ValueError
        If there are no celestial axes, or the pixels are not square within 1 %.
    """
    if not wcs.has_celestial:
        raise ValueError(f"expected a celestial WCS, got axes {list(wcs.wcs.ctype)}.")
    matrix = wcs.celestial.pixel_scale_matrix
    metric = matrix.T @ matrix
    side = np.sqrt(np.abs(np.linalg.det(matrix)))
    if not side > 0 or np.abs(metric / side**2 - np.eye(2)).max() > 2 * TOLERANCE:
        sides = " x ".join(f"{s * 3600:.6g}" for s in proj_plane_pixel_scales(wcs.celestial))
        raise ValueError(f"expected square pixels, got {sides} arcsec (or sheared axes).")
    return side * 3600 * u.arcsec


def beam_area_pixels(beam, pixel_scale):
    """
    Area of a Gaussian beam in pixels, pi / (4 ln 2) x major x minor / pixel area.

    Parameters
    ----------
    beam : `~radio_beam.Beam`
        The beam.
    pixel_scale : `~astropy.units.Quantity`
        Side of a pixel, an angle.

    Returns
    -------
    float
        Pixels per beam: a sum in Jy/beam divided by it is in Jy.
    """
    return float((beam.sr / pixel_scale**2).to_value(u.dimensionless_unscaled))
