"""One stored pair on the working grid: what the network sees, and what it learns to give."""

import dataclasses
import math

import astropy.units as u
import numpy as np

from diffsky.deconvolution.grid import WorkingGrid, resample, resampling_matrix
from diffsky.deconvolution.observation import prepare_observation
from diffsky.simulation.rendering import render_sources
from diffsky.simulation.sources import SHAPES, SourceList

__all__ = ["prepare_pair", "working_truth"]

_KERNEL_TOLERANCE = 0.02  # relative, of the square of a FWHM
_NARROWEST = 1.5  # pixels


def prepare_pair(pair, *, scale, pblimit):
    """Bring a pair to the working grid, its dirty image as `predict` does it.

    Parameters
    ----------
    pair : `diffsky.simulation.SimulatedPair`
    scale : `diffsky.deconvolution.WorkingScale` or `diffsky.deconvolution.FluxScale`
    pblimit : float
        There is no data where the primary beam is this or less.

    Returns
    -------
    images : `numpy.ndarray`
        Shape (planes, height, width), float32, with the ``planes`` of the scale, 3 or 4: apparent
        sky per working pixel over rms, convolved with the kernel of the scale; dirty image over
        rms; primary beam; rms in Jy/beam. 0 where there is no data.
    largest : float
        Largest apparent flux of a source over rms; of a sky without a table, the largest pixel of
        the dirty image.

    Raises
    ------
    ValueError
        If the observation cannot be used, or the sky is smoother than the kernel of the scale.
    """
    prepared = prepare_observation(
        pair.dirty,
        **scale.grid,
        stride=1,
        primary_beam=pair.primary_beam,
        mask=~(np.nan_to_num(pair.primary_beam.data) > pblimit),
    )
    gain, rms = prepared.primary_beam_working, prepared.rms_working
    if len(pair.sources) or not np.any(pair.sky.data):
        sky, sources = working_truth(pair.sources, prepared, scale)
        largest = _largest_flux(sources, gain, rms)
    else:
        sky = _resampled(pair.sky, prepared, scale.kernel_fwhm)
        largest = float(prepared.dirty_working.max())
    apparent = np.divide(sky * gain, rms, out=np.zeros_like(gain), where=rms > 0)
    return np.stack([apparent, prepared.dirty_working, gain, rms][: scale.planes]), largest


def working_truth(table, prepared, scale, *, points=False):
    """True sky of a table of sources, as a network of this scale is taught to give it.

    Parameters
    ----------
    table : `astropy.table.Table`
        ``sources`` of a pair.
    prepared : `diffsky.deconvolution.observation.PreparedObservation`
        Its observation on the grid of the scale.
    scale : `diffsky.deconvolution.WorkingScale` or `diffsky.deconvolution.FluxScale`
    points : bool, optional
        Whether a scale without a kernel, which no point has an image for, gets sources that are
        narrower than 1.5 pixels of the observation widened to these.

    Returns
    -------
    sky : `numpy.ndarray`
        Shape of the working grid: Jy per working pixel, at the resolution of the targets.
    sources : `SourceList`
        In Jy and working pixels from the centre of the working grid.
    """
    sources = _working_sources(table, prepared)
    if scale.kernel_fwhm:
        shape = prepared.primary_beam_working.shape
        return _rendered(sources, shape, scale.kernel_fwhm), sources
    return _interpolated(_sharp_sky(table, prepared, points), prepared.grid), sources


def _working_sources(table, prepared):
    """Sources in Jy and working pixels from the centre of the working grid."""
    image, grid = prepared.image, prepared.grid
    positions, pa = table["sky_centroid"], np.nan_to_num(u.Quantity(table["pa"]))
    x, y = image.wcs.world_to_pixel(positions)
    # where a step along the major axis leads, whatever way the axes of the image run
    scale = image.meta["pixel_scale"]
    ahead = image.wcs.world_to_pixel(positions.directional_offset_by(pa, scale))
    first = grid.to_image_pixels(0, 0)
    ny, nx = grid.working_shape
    pixel = scale * grid.zoom
    return SourceList(
        x=(x - first[0]) / grid.zoom - nx // 2,
        y=(y - first[1]) / grid.zoom - ny // 2,
        flux=u.Quantity(table["flux"]).to_value(u.Jy),
        major=(u.Quantity(table["major"]) / pixel).to_value(u.one),
        minor=(u.Quantity(table["minor"]) / pixel).to_value(u.one),
        pa=np.arctan2(x - ahead[0], ahead[1] - y),
        shape=_shapes(table),
    )


def _shapes(table):
    """Index of every source's shape; None without a column: points and Gaussians."""
    if "shape" not in table.colnames:
        return None
    unknown = sorted(set(map(str, table["shape"])) - set(SHAPES))
    if unknown:
        raise ValueError(f"sources have the shapes {unknown}; expected some of {SHAPES}")
    return np.array([SHAPES.index(name) for name in table["shape"]])


def _rendered(sources, shape, kernel):
    owner = np.zeros(len(sources), dtype=int)
    return render_sources(sources, owner, 1, shape, kernel_fwhm=kernel)[0].numpy()


def _sharp_sky(table, prepared, points):
    """Sky of a table on the image's own pixels: a source may be too narrow for the working ones."""
    ny, nx = prepared.image.shape
    whole = WorkingGrid((ny, nx), 1.0, (0, ny, 0, nx))
    sources = _working_sources(table, dataclasses.replace(prepared, grid=whole))
    if points:
        axes = {name: np.maximum(getattr(sources, name), _NARROWEST) for name in ("major", "minor")}
        shape = np.maximum(sources.shape, SHAPES.index("gaussian"))
        sources = dataclasses.replace(sources, **axes, shape=shape)
    return _rendered(sources, (ny, nx), 0.0)


def _interpolated(sky, grid):
    """Sky in Jy per pixel of the image to Jy per working pixel, as D24 did: no averaging."""
    return grid.to_working(sky) * grid.zoom**2


def _largest_flux(sources, gain, rms):
    ny, nx = gain.shape
    x, y = np.rint(sources.x).astype(int) + nx // 2, np.rint(sources.y).astype(int) + ny // 2
    inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    place = (y[inside], x[inside])
    seen = rms[place] > 0
    fluxes = sources.flux[inside][seen] * gain[place][seen] / rms[place][seen]
    return float(fluxes.max(initial=0.0))


def _resampled(sky, prepared, kernel):
    """Sky image in Jy per working pixel, convolved to the kernel (FWHM in working pixels)."""
    grid = prepared.grid
    pixel = prepared.image.meta["pixel_scale"] * grid.zoom
    present = (sky.meta["kernel_fwhm"] / pixel).to_value(u.one)
    if present**2 > (1 + _KERNEL_TOLERANCE) * kernel**2:
        raise ValueError(
            f"the sky is convolved with {sky.meta['kernel_fwhm']}; expected at most the kernel of "
            f"the working scale, {(kernel * pixel).to(u.arcsec):.4g}"
        )
    height, width = grid.working_shape
    columns, rows = grid.to_image_pixels(np.arange(width), np.arange(height))
    image = np.nan_to_num(np.asarray(sky.data, dtype=float))
    if kernel == 0:
        return _interpolated(image, grid)
    if present == 0:
        # every pixel is a point: convolution and resampling are one product
        axes = zip(image.shape, (rows, columns), strict=True)
        left, right = (_gaussian_matrix(n, axis, kernel, grid.zoom) for n, axis in axes)
        return left @ image @ right.T
    rest = math.sqrt(max(0.0, kernel**2 - present**2)) * grid.zoom
    image = _convolved(image, rest)
    matrices = (
        resampling_matrix(n, axis, conserve="intensity")
        for n, axis in zip(image.shape, (rows, columns), strict=True)
    )
    return resample(image, *matrices) * grid.zoom**2


def _gaussian_matrix(n_in, positions, fwhm, zoom):
    """Share of every pixel's flux in every working pixel, along one axis; FWHM in the latter."""
    offset = (positions[:, None] - np.arange(n_in)) / zoom
    shape = 4 * math.log(2) / fwhm**2
    return math.sqrt(shape / math.pi) * np.exp(-shape * offset**2)


def _convolved(image, fwhm):
    """Convolve with a Gaussian of any width, exactly; its FWHM is in pixels."""
    from scipy.fft import irfft2, rfft2
    from scipy.ndimage import fourier_gaussian

    if fwhm == 0:
        return image
    sigma = fwhm / math.sqrt(8 * math.log(2))
    spectrum = fourier_gaussian(rfft2(image), sigma, n=image.shape[1])
    return irfft2(spectrum, s=image.shape)
