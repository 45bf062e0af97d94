"""Find sources in a dirty image with known PSF by matched filtering."""

import astropy.units as u
import numpy as np
from astropy.nddata import NDData

from ._template_fit import (
    LEAST_IMAGE,
    Field,
    Model,
    drop_faint,
    polish,
    report,
    sample_map,
    search_sources,
)
from .table import pixel_scale, source_table

__all__ = ["inside_regions", "matched_filter", "matched_filter_pixels"]

_ROUNDS = 3


def matched_filter(
    dirty,
    psf,
    *,
    rms,
    wcs=None,
    beam=None,
    primary_beam=None,
    threshold=4.0,
    sizes=(0.0, 0.5, 1.0),
    max_sources=200,
    mask=None,
    regions=None,
):
    """Find sources in a dirty image of natural weighting with its PSF.

    See `matched_filter_pixels` for the method.

    Parameters
    ----------
    dirty : astropy.nddata.CCDData or numpy.ndarray
        Dirty image, shape (ny, nx), not corrected for the primary beam, in Jy/beam (an
        array is taken to be). Its mask and NaN pixels are ignored.
    psf : numpy.ndarray or astropy.nddata.CCDData
        Dirty beam with its peak of 1 at pixel (ny_psf // 2, nx_psf // 2), on the pixels
        of the image, best twice as wide; taken as 0 beyond its edge.
    rms : float or astropy.units.Quantity
        Noise rms of the image, Jy/beam.
    wcs : astropy.wcs.WCS, optional
        Celestial WCS. None (default) takes that of ``dirty``.
    beam : radio_beam.Beam, optional
        Beam. None (default) takes ``dirty.meta["beam"]``.
    primary_beam : numpy.ndarray or astropy.nddata.CCDData, optional
        Primary beam, shape (ny, nx); NaN and 0 are ignored pixels. None (default) is unity.
    threshold : float, optional
        Least signal-to-noise ratio. Default 4.
    sizes : sequence of float, optional
        FWHM of the circular Gaussian templates, in beams. Default (0, 0.5, 1).
    max_sources : int, optional
        Most sources to find. Default 200.
    mask : numpy.ndarray, optional
        Boolean map, True where the image is to be ignored.
    regions : regions.Region or sequence of regions.Region, optional
        Sky or pixel regions; only sources inside one of them are looked for. None
        (default) looks everywhere.

    Returns
    -------
    astropy.table.QTable
        Catalogue as from `diffsky.catalog.source_table`, the most significant source
        first, with fluxes corrected for the primary beam, flux_lower and flux_upper one
        standard deviation away, reliability NaN and n_detections 1.

    Raises
    ------
    ValueError
        For a missing WCS or beam, arrays that do not fit, or options out of range.
    TypeError
        If ``regions`` holds anything else.
    """
    image, blank = _image_of(dirty)
    wcs = getattr(dirty, "wcs", None) if wcs is None else wcs
    beam = getattr(dirty, "meta", {}).get("beam") if beam is None else beam
    for name, value in (("wcs", wcs), ("beam", beam)):
        if value is None:
            raise ValueError(f"dirty has no {name}: pass {name}=")
    gain = _primary_beam(primary_beam, image.shape)
    blank |= ~(np.nan_to_num(gain) > 0)
    if mask is not None:
        blank |= _boolean(mask, image.shape, "mask")
    rms = u.Quantity(rms, u.Jy / u.beam)
    fwhm = np.sqrt(beam.major * beam.minor).to_value(u.arcsec) / pixel_scale(wcs)
    sources = matched_filter_pixels(
        image,
        getattr(psf, "data", psf) if isinstance(psf, NDData) else psf,
        rms=rms.value,
        beam_fwhm=fwhm,
        threshold=threshold,
        sizes=sizes,
        max_sources=max_sources,
        mask=blank,
        search=None if regions is None else inside_regions(regions, image.shape, wcs),
    )
    return source_table(
        _with_intervals(sources),
        wcs=wcs,
        beam=beam,
        rms=rms,
        primary_beam=sample_map(gain, sources["x"], sources["y"]),
        meta={"finder": "matched filter", "threshold": threshold, "rms": str(rms)},
    )


def matched_filter_pixels(
    dirty,
    psf,
    *,
    rms,
    beam_fwhm,
    threshold=4.0,
    sizes=(0.0, 0.5, 1.0),
    max_sources=200,
    mask=None,
    search=None,
):
    r"""Find sources in a dirty image, in pixels.

    A source of flux S and shape g gives the dirty image ``d = S P g + n``; P convolves
    with the PSF, and with natural weights the noise has the covariance ``C = rms^2 P``.
    The estimate of least variance is therefore

    .. math:: \hat S = \frac{(P g)^T C^{-1} d}{(P g)^T C^{-1} P g} = \frac{g^T d}{g^T P g},
       \qquad \sigma_S = \left[(P g)^T C^{-1} P g\right]^{-1/2} = \frac{rms}{\sqrt{g^T P g}},

    since ``P C^-1 = 1 / rms^2``: the dirty image is correlated with the source, not with
    its dirty image. The most significant position and size is taken, refined to a fraction
    of a pixel, all fluxes found so far are fitted jointly (the normal equations are
    ``(G^T P G) S = G^T d``), their dirty image is subtracted, and so on. Positions and
    sizes of sources within two beams of each other, and in the end of all, are refined
    with all others subtracted, and the fluxes fitted again. flux_err holds for known
    position and size; positions chosen for the highest ratio raise faint fluxes a little.

    Parameters
    ----------
    dirty : numpy.ndarray
        Dirty image, shape (ny, nx), unit U/beam; pixels that are not finite are ignored.
    psf : numpy.ndarray
        Dirty beam with its peak of 1 at pixel (ny_psf // 2, nx_psf // 2), taken as 0
        beyond its edge.
    rms : float
        Noise rms, U/beam.
    beam_fwhm : float
        FWHM of the beam, pixels.
    threshold : float, optional
        Least signal-to-noise ratio. Default 4.
    sizes : sequence of float, optional
        FWHM of the circular Gaussian templates, in beams. Default (0, 0.5, 1).
    max_sources : int, optional
        Most sources to find. Default 200.
    mask : numpy.ndarray, optional
        Boolean map, shape (ny, nx), True where the image is to be ignored.
    search : numpy.ndarray, optional
        Boolean map, shape (ny, nx), True where sources may be. None (default) is
        everywhere.

    Returns
    -------
    astropy.table.Table
        x, y (0-based pixels), flux, flux_err (U), snr, major, minor (template FWHM,
        pixels), pa (deg), position_err (standard deviation of one coordinate, pixels),
        flags (`diffsky.catalog.SourceFlag`), the most significant source first. Templates
        are left out where less than 98 % of them lies on pixels that count.

    Raises
    ------
    ValueError
        For arrays that do not fit, a PSF without its peak of 1 at its centre, or options
        out of range.
    """
    dirty, valid, psf = _checked(dirty, psf, mask)
    _check_options(rms, beam_fwhm, threshold, sizes, max_sources)
    search = None if search is None else _boolean(search, dirty.shape, "search")
    sigmas = np.asarray(sizes, dtype=float) * beam_fwhm / np.sqrt(8 * np.log(2))
    field = Field(dirty, psf, valid, search, sigmas, beam_fwhm)
    model = Model()
    for _ in range(_ROUNDS):
        n_before = len(model)
        search_sources(field, model, rms, threshold, max_sources)
        if len(model) == n_before:
            break
        polish(field, model, range(len(model)))
        drop_faint(field, model, rms, threshold)
    return report(field, model, rms, np.asarray(sizes, dtype=float) * beam_fwhm)


def _with_intervals(sources):
    table = sources.copy()
    table["flux_lower"] = table["flux"] - table["flux_err"]
    table["flux_upper"] = table["flux"] + table["flux_err"]
    table["reliability"] = np.full(len(table), np.nan)
    table["n_detections"] = np.ones(len(table), dtype=int)
    return table


def _image_of(dirty):
    if not isinstance(dirty, NDData):
        return np.asarray(dirty, dtype=float), np.zeros(np.shape(dirty), dtype=bool)
    image = np.asarray(dirty.data, dtype=float)
    if dirty.unit is not None:
        image = (image * dirty.unit).to_value(u.Jy / u.beam)
    blank = np.zeros(image.shape, dtype=bool)
    return image, blank if dirty.mask is None else blank | dirty.mask


def _primary_beam(primary_beam, shape):
    if primary_beam is None:
        return np.ones(shape)
    gain = primary_beam.data if isinstance(primary_beam, NDData) else primary_beam
    gain = np.ma.filled(np.ma.asarray(gain, dtype=float), np.nan)
    if gain.shape != shape:
        raise ValueError(f"primary_beam must have the shape {shape} of dirty, got {gain.shape}")
    return gain


def _boolean(values, shape, name):
    values = np.asarray(values)
    if values.shape != shape or values.dtype != bool:
        raise ValueError(
            f"{name} must be boolean of shape {shape}, got {values.dtype} of {values.shape}"
        )
    return values


def inside_regions(regions, shape, wcs):
    """Tell which pixels of an image lie in one of some regions.

    Parameters
    ----------
    regions : regions.Region or sequence of regions.Region
        Sky or pixel regions; a pixel counts when its centre is inside.
    shape : tuple of int
        Shape (ny, nx) of the image.
    wcs : astropy.wcs.WCS
        Celestial WCS of the image, for sky regions.

    Returns
    -------
    numpy.ndarray
        Boolean, shape (ny, nx).

    Raises
    ------
    TypeError
        If there is something else among the regions.
    """
    from regions import PixCoord, PixelRegion, Region, SkyRegion

    inside = np.zeros(shape, dtype=bool)
    pixels = PixCoord(*np.indices(shape)[::-1])
    for region in [regions] if isinstance(regions, Region) else regions:
        if isinstance(region, SkyRegion):
            region = region.to_pixel(wcs)
        if not isinstance(region, PixelRegion):
            raise TypeError(f"regions must hold regions.Region, got {type(region).__name__}")
        inside |= region.contains(pixels)
    return inside


def _checked(dirty, psf, mask):
    dirty, psf = np.asarray(dirty, dtype=float), np.asarray(psf, dtype=float)
    if dirty.ndim != 2 or min(dirty.shape) < LEAST_IMAGE:
        raise ValueError(
            f"dirty must be 2-D, at least {LEAST_IMAGE} pixels wide, got shape {dirty.shape}"
        )
    if psf.ndim != 2 or not np.isfinite(psf).all():
        raise ValueError(f"psf must be a finite 2-D array, got shape {psf.shape}")
    centre = tuple(n // 2 for n in psf.shape)
    peak = tuple(int(k) for k in np.unravel_index(np.argmax(psf), psf.shape))
    if peak != centre or not abs(psf[centre] - 1) < 0.01:
        raise ValueError(
            f"psf must have its peak of 1 at pixel {centre}, found {psf[peak]:.4g} at {peak}"
        )
    valid = np.isfinite(dirty)
    if mask is not None:
        valid &= ~_boolean(mask, dirty.shape, "mask")
    return np.where(valid, dirty, 0.0), valid, psf


def _check_options(rms, beam_fwhm, threshold, sizes, max_sources):
    for name, value in (("rms", rms), ("beam_fwhm", beam_fwhm), ("threshold", threshold)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be a positive number, got {value!r}")
    if len(sizes) == 0 or not all(0 <= size < np.inf for size in sizes):
        raise ValueError(f"sizes must be one or more numbers >= 0 (beams), got {sizes!r}")
    if int(max_sources) != max_sources or max_sources < 1:
        raise ValueError(f"max_sources must be an integer >= 1, got {max_sources!r}")
