"""From samples to sources: the three strategies of D24 section 3.4.1."""

import numpy as np

from diffsky.catalog import aggregate_detections, detect_sources

__all__ = ["STRATEGIES", "check_strategy", "find_sources", "summarize_samples"]

STRATEGIES = ("median", "mean", "detect-aggregate")
# Apparent flux per working pixel in rms. One sample is free of noise; in the mean of samples a
# source that few of them contain is as faint as it is unlikely.
_SAMPLE_THRESHOLD, _AVERAGE_THRESHOLD = 0.03, 0.01
# Positions of extended sources scatter with their size: share of the FWHM that the radius grows by.
_GROWTH = 0.5
# FWHM in working pixels of the smoothing before segmentation: half a beam, so that the texture of
# extended sources is not taken for sources; wider where positions jitter between samples.
_SAMPLE_SMOOTHING, _AVERAGE_SMOOTHING = 2.0, 2.5


def check_strategy(strategy):
    """Refuse an unknown strategy.

    Parameters
    ----------
    strategy : str
        Name of a strategy.

    Raises
    ------
    ValueError
        If it is not one of `STRATEGIES`.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}")


def summarize_samples(samples, strategy, *, root=1.0):
    """One sky from many.

    Parameters
    ----------
    samples : `numpy.ndarray`
        Shape (n, ny, nx).
    strategy : {"median", "mean", "detect-aggregate"}
        ``"detect-aggregate"`` makes its catalogue without an average; its sky is the mean.
    root : float, optional
        Average the roots of the samples, which are 0 or more, and raise the average to this power:
        mean and median of normalised images (D24 eq. 9 and 10). Default 1.

    Returns
    -------
    average : `numpy.ndarray`
        Shape (ny, nx).
    """
    check_strategy(strategy)
    if root != 1:
        return summarize_samples(samples ** (1 / root), strategy) ** root
    return np.median(samples, axis=0) if strategy == "median" else samples.mean(axis=0)


def find_sources(
    samples,
    strategy,
    *,
    radius,
    mask,
    compact_fwhm=np.inf,
    min_reliability=0.0,
    min_flux=0.0,
    root=1.0,
):
    """Detect and measure the sources of a set of samples.

    Parameters
    ----------
    samples : `numpy.ndarray`
        Shape (n, ny, nx): apparent sky per working pixel in units of the rms.
    strategy : {"median", "mean", "detect-aggregate"}
        Where positions come from: the average image, or clusters of the detections in the
        samples. Fluxes, intervals and reliability come from the samples in all of them.
    radius : float
        Radius in working pixels within which detections belong to one source.
    mask : `numpy.ndarray`
        Shape (ny, nx), True where there is no data.
    compact_fwhm : float, optional
        FWHM in working pixels above which a source is extended: its radius grows by half of what
        its FWHM has more, in quadrature. Default infinite: the same radius for all.
    min_reliability : float, optional
        Sources found in a smaller share of the samples are left out.
    min_flux : float, optional
        Detections in single samples below this apparent flux, in rms, do not count.
    root : float, optional
        Root of the average image, see `summarize_samples`.

    Returns
    -------
    sources : `astropy.table.Table`
        As `diffsky.catalog.aggregate_detections` gives it.
    """
    check_strategy(strategy)
    detections = [
        detect_sources(
            sample, threshold=_SAMPLE_THRESHOLD, mask=mask, smooth_fwhm=_SAMPLE_SMOOTHING
        )
        for sample in samples
    ]
    detections = [table[table["flux"] >= min_flux] for table in detections]
    positions = size = None
    if strategy != "detect-aggregate":
        average = summarize_samples(samples, strategy, root=root)
        found = detect_sources(
            average, threshold=_AVERAGE_THRESHOLD, mask=mask, smooth_fwhm=_AVERAGE_SMOOTHING
        )
        positions = (found["x"], found["y"])
        size = np.sqrt(found["major"] * found["minor"])
    return aggregate_detections(
        detections,
        radius=radius,
        positions=positions,
        position_fwhm=size,
        growth=_GROWTH if np.isfinite(compact_fwhm) else 0.0,
        compact_fwhm=compact_fwhm if np.isfinite(compact_fwhm) else 0.0,
        min_reliability=min_reliability,
    )
