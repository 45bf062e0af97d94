"""Find and measure the sources of one sky plane (D24 section 3.4)."""

import numpy as np
from astropy.stats import sigma_clipped_stats
from astropy.table import Table
from scipy import ndimage

__all__ = ["detect_sources", "drozdova2024_detect", "drozdova2024_threshold", "empty_detections"]

_COLUMNS = {
    "x": (float, "Centroid along the first FITS axis, 0-based [pixel]"),
    "y": (float, "Centroid along the second FITS axis, 0-based [pixel]"),
    "flux": (float, "Sum over the grown segment [image unit x pixel]"),
    "peak": (float, "Highest pixel [image unit]"),
    "major": (float, "Major FWHM from second moments [pixel]"),
    "minor": (float, "Minor FWHM from second moments [pixel]"),
    "pa": (float, "Angle of the major axis, from +x to +y [deg, 0 to 180)"),
    "label": (int, "Number of the segment, from 1"),
    "area": (float, "Pixels above the threshold [pixel2]"),
    "deblended": (bool, "Split from a segment with more than one source"),
    "edge": (bool, "Within a pixel of the border of the image or of the mask"),
}
_LEAST_GROWTH = 2.0
_LOST_FLUX = 0.002


def detect_sources(
    image,
    *,
    threshold,
    n_pixels=4,
    deblend=True,
    contrast=0.005,
    smooth_fwhm=None,
    grow=6.0,
    mask=None,
):
    """Detect, deblend and measure the sources of a nearly noise-free sky plane.

    Segmentation, deblending (multi-threshold watershed) and moments are those of
    photutils (D24 section 3.4). Fluxes, centroids and moments are taken over segments
    that are first grown, because a segment ends where the source falls below the
    threshold: for a Gaussian of peak ``p`` over a threshold ``t`` it misses the share
    ``t / p`` of the flux. Each segment grows by the distance at which a Gaussian of its
    area and peak has lost 0.2 % of its flux, at least 2 and at most ``grow`` pixels, and
    never into a neighbour.

    Parameters
    ----------
    image : numpy.ndarray
        Sky plane, shape (ny, nx), flux per pixel in any unit, background about zero.
    threshold : float or numpy.ndarray
        Smallest value of a source pixel, a number or a map of the shape of the image, in
        the unit of the image, >= 0.
    n_pixels : int, optional
        Smallest number of connected pixels above the threshold. Default 4: a point source
        of 1.7 pixels FWHM has them when its peak is about four times the threshold.
    deblend : bool, optional
        Whether to split segments with several maxima.
    contrast : float, optional
        Least share of its segment's flux that a split source must have, 0 to 1.
        Default 0.005.
    smooth_fwhm : float, optional
        FWHM in pixels of a Gaussian that smooths the image before segmentation (only
        there; measurements use the image itself). None (default) smooths nothing.
    grow : float, optional
        Largest growth of a segment, in pixels. Default 6; 0 measures the segments as they
        are.
    mask : numpy.ndarray, optional
        Boolean map, True where there is no data. Pixels that are not finite are always
        masked.

    Returns
    -------
    astropy.table.Table
        One row per source, brightest peak first: x, y, flux, peak, major, minor (FWHM in
        pixels), pa (deg from +x towards +y), label, area, deblended, edge. Without
        detections the table is empty with the same typed columns.

    Raises
    ------
    ValueError
        For an image that is not a real 2-D array, a threshold or mask of another shape, a
        negative or NaN threshold, or an option out of range.
    """
    image, threshold, mask = _checked(image, threshold, mask)
    _check_options(n_pixels=n_pixels, contrast=contrast, smooth_fwhm=smooth_fwhm, grow=grow)
    seen = image
    if smooth_fwhm:
        sigma = smooth_fwhm / np.sqrt(8 * np.log(2))
        seen = ndimage.gaussian_filter(image, sigma, mode="constant")
    labels, deblended = _segment(seen, threshold, n_pixels, contrast if deblend else None, mask)
    if labels is None:
        return empty_detections()
    return _measure(image, threshold, labels, deblended, grow, mask)


def drozdova2024_threshold(image, *, n_sigma=120.0, clip=2.0, mask=None):
    """Detection threshold of D24 (note 2): 120 times the clipped standard deviation.

    Parameters
    ----------
    image : numpy.ndarray
        Sky plane, shape (ny, nx).
    n_sigma : float, optional
        Factor on the standard deviation. Default 120.
    clip : float, optional
        Clipping of the statistics, in standard deviations. Default 2.
    mask : numpy.ndarray, optional
        Boolean map, True where there is no data.

    Returns
    -------
    float
        Threshold in the unit of the image; 0 where the background is exactly constant.
    """
    image, _, mask = _checked(image, 0.0, mask)
    if mask is not None and mask.all():
        return 0.0
    return float(n_sigma * sigma_clipped_stats(image, mask=mask, sigma=clip)[2])


def drozdova2024_detect(image, *, mask=None):
    """Detect sources with the parameters of D24 (note 2).

    The image is smoothed with a 3 x 3 kernel and segmented at `drozdova2024_threshold`,
    with 10 connected pixels for detection and for deblending; segments are measured
    without growing, as photutils does. The paper does not print the FWHM of the kernel,
    taken as 3 pixels, nor the contrast, taken as photutils' 0.001.

    Parameters
    ----------
    image : numpy.ndarray
        Sky plane, shape (ny, nx), in any unit.
    mask : numpy.ndarray, optional
        Boolean map, True where there is no data.

    Returns
    -------
    astropy.table.Table
        As from `detect_sources`.

    Raises
    ------
    ValueError
        For an image that is not a real 2-D array or a mask of another shape.
    """
    from photutils.segmentation import make_2dgaussian_kernel

    image, _, mask = _checked(image, 0.0, mask)
    threshold = np.broadcast_to(drozdova2024_threshold(image, mask=mask), image.shape)
    kernel = make_2dgaussian_kernel(3.0, size=3).array
    seen = ndimage.convolve(image, kernel, mode="constant")
    labels, deblended = _segment(seen, threshold, 10, 0.001, mask)
    if labels is None:
        return empty_detections()
    return _measure(image, threshold, labels, deblended, 0.0, mask)


def empty_detections():
    """Return a detection table without rows.

    Returns
    -------
    astropy.table.Table
        The columns of `detect_sources`, typed and described.
    """
    return _described(Table(names=list(_COLUMNS), dtype=[kind for kind, _ in _COLUMNS.values()]))


def _described(table):
    for name, (_, description) in _COLUMNS.items():
        table[name].description = description
    return table


def _checked(image, threshold, mask):
    image = np.asanyarray(image)
    if image.ndim != 2 or image.dtype.kind not in "fiu" or 0 in image.shape:
        raise ValueError(
            f"image must be a real 2-D array, got shape {image.shape} of {image.dtype}"
        )
    if mask is None and np.ma.isMaskedArray(image):
        mask = np.ma.getmaskarray(image)
    image = np.asarray(image, dtype=float)
    threshold = np.asarray(threshold, dtype=float)
    if threshold.shape not in ((), image.shape):
        raise ValueError(
            f"threshold must be a number or a map of shape {image.shape}, "
            f"got shape {threshold.shape}"
        )
    bad = ~np.isfinite(image)
    if mask is not None:
        mask = np.asarray(mask)
        if mask.shape != image.shape or mask.dtype != bool:
            raise ValueError(
                f"mask must be boolean of shape {image.shape}, got {mask.dtype} of {mask.shape}"
            )
        bad |= mask
    threshold = np.broadcast_to(threshold, image.shape)
    if not (threshold[~bad] >= 0).all():
        raise ValueError(f"threshold must be >= 0 and not NaN, got {np.min(threshold)}")
    if not bad.any():
        return image, threshold, None
    return np.where(bad, 0.0, image), threshold, bad


def _check_options(*, n_pixels, contrast, smooth_fwhm, grow):
    if int(n_pixels) != n_pixels or n_pixels < 1:
        raise ValueError(f"n_pixels must be an integer >= 1, got {n_pixels}")
    if not 0 <= contrast <= 1:
        raise ValueError(f"contrast must be between 0 and 1, got {contrast}")
    if smooth_fwhm is not None and not 0 <= smooth_fwhm < np.inf:
        raise ValueError(f"smooth_fwhm must be None or a number of pixels >= 0, got {smooth_fwhm}")
    if not 0 <= grow < np.inf:
        raise ValueError(f"grow must be a number of pixels >= 0, got {grow}")


def _segment(image, threshold, n_pixels, contrast, mask):
    """Label the sources: (labels or None, whether each label comes from a split)."""
    from photutils import segmentation

    # photutils warns when it finds nothing, and starts from this very question.
    above = image > threshold
    if mask is not None:
        above &= ~mask
    parts, _ = ndimage.label(above, np.ones((3, 3)))
    counts = np.bincount(parts.ravel())[1:]
    if not (counts >= n_pixels).any():
        return None, None
    found = segmentation.detect_sources(image, threshold, n_pixels, mask=mask)
    parents = found.data
    several = _several_maxima(image, parents) if contrast is not None else []
    if len(several) == 0:
        return parents, np.zeros(parents.max(), dtype=bool)
    split = segmentation.deblend_sources(
        image, found, n_pixels, labels=several, contrast=contrast, progress_bar=False
    ).data
    pairs = np.unique(np.stack([parents[split > 0], split[split > 0]]), axis=1)
    children = np.bincount(pairs[0])
    deblended = np.zeros(split.max(), dtype=bool)
    deblended[pairs[1] - 1] = children[pairs[0]] > 1
    return split, deblended


def _several_maxima(image, labels):
    """Return the labels with more than one local maximum: only these can be split."""
    peaks = (ndimage.maximum_filter(image, size=3) == image) & (labels > 0)
    return np.flatnonzero(np.bincount(labels[peaks], minlength=labels.max() + 1) > 1)


def _measure(image, threshold, labels, deblended, grow, mask):
    from photutils.segmentation import SegmentationImage, SourceCatalog

    index = np.arange(1, labels.max() + 1)
    area = np.bincount(labels.ravel())[1:].astype(float)
    peak = np.asarray(ndimage.maximum(image, labels, index), dtype=float)
    base = np.asarray(ndimage.mean(threshold, labels, index), dtype=float)
    grown = _grow(labels, _reach(area, peak, base, grow), mask)
    catalog = SourceCatalog(image, SegmentationImage(grown), mask=mask)
    fwhm = np.sqrt(8 * np.log(2))
    table = Table(
        {
            "x": catalog.x_centroid,
            "y": catalog.y_centroid,
            "flux": catalog.segment_flux,
            "peak": peak,
            "major": catalog.semimajor_axis.value * fwhm,
            "minor": catalog.semiminor_axis.value * fwhm,
            "pa": np.mod(catalog.orientation.to_value("deg"), 180.0),
            "label": index,
            "area": area,
            "deblended": deblended,
            "edge": _touches_edge(labels, index, mask),
        }
    )
    usable = np.isfinite(table["x"]) & np.isfinite(table["y"])
    table = table[usable]
    return _described(table[np.lexsort((table["y"], table["x"], -table["peak"]))])


def _reach(area, peak, base, grow):
    """Distance by which each segment grows: see `detect_sources`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        decline = np.log(np.clip(peak / base, 1.01, 1e12))
    radius = np.sqrt(area / np.pi)
    reach = radius * (np.sqrt(-np.log(_LOST_FLUX) / np.nan_to_num(decline, nan=1.0)) - 1)
    return np.clip(reach, min(_LEAST_GROWTH, grow), grow)


def _grow(labels, reach, mask):
    """Give each pixel to its nearest segment if that reaches it."""
    if not reach.any():
        return labels
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    owner = labels[tuple(nearest)]
    grown = np.where(distance <= np.append(0.0, reach)[owner], owner, 0)
    if mask is not None:
        grown[mask] = 0
    return grown


def _touches_edge(labels, index, mask):
    blank = np.zeros(labels.shape, dtype=bool) if mask is None else mask
    border = ndimage.binary_dilation(np.pad(blank, 1, constant_values=True), np.ones((3, 3)))
    return np.isin(index, labels[border[1:-1, 1:-1]])
