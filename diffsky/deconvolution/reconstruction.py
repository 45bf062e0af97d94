"""From samples on the working grid to images and catalogues with units."""

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty
from scipy.ndimage import distance_transform_edt

from diffsky.catalog import SourceFlag, inside_regions, source_table
from diffsky.deconvolution.strategies import find_sources, summarize_samples

__all__ = ["make_catalog", "make_cube", "make_sky", "pixels_per_beam", "radius_in_beams"]

_SKY_UNIT = u.Jy / u.pix


def make_cube(prepared, apparent, meta):
    """Put samples on the pixels of the image.

    Parameters
    ----------
    prepared : `diffsky.deconvolution.observation.PreparedObservation`
        The observation that the samples belong to.
    apparent : `numpy.ndarray`
        Shape (n, height, width) of the working grid: apparent sky per working pixel in units
        of the rms.
    meta : dict
        What the cube's ``meta`` shall hold.

    Returns
    -------
    cube : `astropy.nddata.CCDData`
        Shape (n, ny, nx): true sky in Jy/pix. The third axis of its WCS is the number of the
        sample, from 0.
    """
    cube = prepared.grid.to_image(prepared.true_sky(apparent))
    cube[:, ~prepared.valid] = 0
    mask = np.broadcast_to(~prepared.valid, cube.shape)
    wcs = prepared.image.wcs.sub([1, 2, 0])
    wcs.wcs.ctype = [*list(wcs.wcs.ctype)[:2], "SAMPLE"]
    wcs.wcs.crpix = [*wcs.wcs.crpix[:2], 1]
    return CCDData(cube, unit=_SKY_UNIT, mask=mask, wcs=wcs, meta=meta)


def make_sky(prepared, apparent, strategy, meta, *, scale=None):
    """Average the samples.

    Parameters
    ----------
    prepared : `diffsky.deconvolution.observation.PreparedObservation`
        The observation that the samples belong to.
    apparent : `numpy.ndarray`
        Shape (n, height, width) of the working grid: apparent sky per working pixel in units
        of the rms.
    strategy : {"median", "mean", "detect-aggregate"}
        The last one gives the mean.
    meta : dict
        What the sky's ``meta`` shall hold.
    scale : `diffsky.deconvolution.WorkingScale` or `diffsky.deconvolution.FluxScale`, optional
        That of the weights: it says whether fluxes or normalised images are averaged. None
        averages fluxes.

    Returns
    -------
    sky : `astropy.nddata.CCDData`
        Shape (ny, nx): true sky in Jy/pix, with the standard deviation of the samples (D24
        eq. 17, in flux) as uncertainty.
    """
    sky = prepared.true_sky(apparent)
    root = 1.0 if scale is None else scale.average_root
    average = prepared.grid.to_image(summarize_samples(sky, strategy, root=root))
    spread = _spread(prepared.grid, sky)
    for image in (average, spread):
        image[~prepared.valid] = 0
    return CCDData(
        average,
        unit=_SKY_UNIT,
        uncertainty=StdDevUncertainty(spread),
        mask=~prepared.valid,
        wcs=prepared.image.wcs,
        meta=meta,
    )


def make_catalog(
    prepared,
    apparent,
    strategy,
    *,
    scale,
    radius=0.5,
    min_reliability=0.1,
    trained_snr=np.inf,
    regions=None,
    recalibration=None,
    interval_width=1.0,
    meta=None,
):
    """List the sources of the samples.

    Parameters
    ----------
    prepared : `diffsky.deconvolution.observation.PreparedObservation`
        The observation that the samples belong to.
    apparent : `numpy.ndarray`
        Shape (n, height, width) of the working grid: apparent sky per working pixel in units
        of the rms.
    strategy : {"median", "mean", "detect-aggregate"}
        Where positions come from (D24 section 3.4.1).
    scale : `diffsky.deconvolution.WorkingScale` or `diffsky.deconvolution.FluxScale`
        That of the weights: it gives working pixels per beam, the kernel that is taken out of
        the sizes, and whether fluxes or normalised images are averaged.
    radius : float or `astropy.units.Quantity`, optional
        Detections within this are one source: in beams (geometric mean FWHM), or as an angle.
        Default 0.5.
    min_reliability : float, optional
        Sources with a smaller reliability are not listed, 0 to 1. Default 0.1.
    trained_snr : float, optional
        Sources above this ``snr`` get the flag 8.
    regions : `regions.Region`, `regions.Regions` or None, optional
        List sources inside these alone.
    recalibration : callable or None, optional
        Function from the shares of samples to reliabilities, such as
        `diffsky.catalog.IsotonicRecalibration`. None takes the shares.
    interval_width : float, optional
        Factor on the errors of the fluxes and on the widths of their intervals, whose middles stay
        where they are. Default 1.
    meta : dict or None, optional
        What the table's ``meta`` shall hold.

    Returns
    -------
    catalog : `astropy.table.QTable`
        See `diffsky.catalog.source_table`.
    """
    if not 0 <= min_reliability <= 1:
        raise ValueError(f"min_reliability must be between 0 and 1, got {min_reliability!r}")
    image, grid = prepared.image, prepared.grid
    beam = image.meta["beam"]
    beam_fwhm = scale.pixels_per_beam or pixels_per_beam(prepared)
    sources = find_sources(
        apparent,
        strategy,
        radius=radius_in_beams(radius, beam) * beam_fwhm,
        compact_fwhm=beam_fwhm,
        mask=prepared.primary_beam_working <= 0,
        root=scale.average_root,
    )
    sources["share"] = sources["reliability"]
    if recalibration is not None:
        sources["reliability"] = recalibration(sources["share"])
    _widen(sources, interval_width)
    sources = sources[sources["reliability"] >= min_reliability]
    if regions is not None:
        inside = inside_regions(regions, image.shape, image.wcs)
        x, y = grid.to_image_pixels(sources["x"], sources["y"])
        sources = sources[inside[_pixels(x, y, inside.shape)]]
    place = nearest_pixels(prepared.primary_beam_working > 0, sources["x"], sources["y"])
    rms = prepared.rms_working[place]
    sources["x"], sources["y"] = grid.to_image_pixels(sources["x"], sources["y"])
    for name in ("major", "minor", "position_err"):
        sources[name] = sources[name] * grid.zoom
    for name in ("flux", "flux_err", "flux_lower", "flux_upper"):
        sources[name] = sources[name] * rms
    catalog = source_table(
        sources,
        wcs=image.wcs,
        beam=beam,
        rms=rms * u.Jy / u.beam,
        primary_beam=prepared.primary_beam_working[place],
        kernel_fwhm=scale.kernel_fwhm * grid.zoom,
        meta=meta,
    )
    catalog["flags"][catalog["snr"] > trained_snr] |= int(SourceFlag.OUT_OF_RANGE)
    return catalog


def _widen(sources, factor):
    """Multiply errors, and intervals about their middle; no interval reaches below 0."""
    sources["flux_err"] = factor * sources["flux_err"]
    ends = [sources["flux_lower"], sources["flux_upper"]]
    middle, half = (ends[0] + ends[1]) / 2, factor * (ends[1] - ends[0]) / 2
    sources["flux_lower"] = np.maximum(middle - half, 0)
    sources["flux_upper"] = middle + half


def _spread(grid, sky):
    """Standard deviation of the samples on the image's pixels, which is not that of the grid's."""
    mean = grid.to_image(sky.mean(axis=0))
    squares = np.zeros_like(mean)
    for sample in sky:
        squares += (grid.to_image(sample) - mean) ** 2
    return np.sqrt(squares / max(1, len(sky) - 1))


def radius_in_beams(radius, beam):
    """Convert a radius.

    Parameters
    ----------
    radius : float or `astropy.units.Quantity`
        In beams (geometric mean FWHM), or an angle.
    beam : `radio_beam.Beam`
        The beam.

    Returns
    -------
    radius : float
        In beams.

    Raises
    ------
    ValueError
        If it is neither a number nor an angle.
    """
    if isinstance(radius, u.Quantity) and radius.unit.is_equivalent(u.deg):
        return float((radius / np.sqrt(beam.major * beam.minor)).to_value(u.one))
    if isinstance(radius, u.Quantity | str) or np.ndim(radius):
        raise ValueError(f"radius is {radius!r}; expected a number of beams or an angle")
    return radius


def pixels_per_beam(prepared):
    """Working pixels per geometric mean FWHM, whether the grid follows the beam or not.

    Parameters
    ----------
    prepared : `diffsky.deconvolution.observation.PreparedObservation`
        The observation.

    Returns
    -------
    pixels : float
        Their number.
    """
    beam = prepared.image.meta["beam"]
    pixel = prepared.image.meta["pixel_scale"] * prepared.grid.zoom
    return float((np.sqrt(beam.major * beam.minor) / pixel).to_value(u.one))


def nearest_pixels(valid, x, y):
    """Valid pixels nearest to positions: the centroid of a source around a hole lies in it.

    Parameters
    ----------
    valid : `numpy.ndarray`
        Shape (ny, nx), bool, True somewhere.
    x, y : array_like
        Shape (n,): 0-based pixels.

    Returns
    -------
    rows, columns : `numpy.ndarray`
        Shape (n,): an index.
    """
    indices = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return tuple(axis[_pixels(x, y, valid.shape)] for axis in indices)


def _pixels(x, y, shape):
    """Nearest pixels inside an image, as an index."""
    rows = np.clip(np.rint(np.asarray(y)).astype(int), 0, shape[0] - 1)
    columns = np.clip(np.rint(np.asarray(x)).astype(int), 0, shape[1] - 1)
    return rows, columns
