"""Looking for sources in posterior samples as D24 do (sections 3.4 and 3.5)."""

import astropy.units as u
import numpy as np
from astropy.table import QTable

from diffsky.catalog.aggregation import aggregate_detections
from diffsky.catalog.detection import drozdova2024_detect
from diffsky.catalog.table import pixel_scale
from diffsky.deconvolution.reconstruction import nearest_pixels
from diffsky.deconvolution.strategies import summarize_samples
from diffsky.evaluation.reconstruction import reconstruction_scores
from diffsky.evaluation.results import Detections, offsets

__all__ = ["DROZDOVA2024_RADIUS", "drozdova2024_catalogs", "drozdova2024_reconstruction"]

DROZDOVA2024_RADIUS = 0.18 * u.arcsec
FEWER_RUNS = (2, 5, 10)  # beside all of them, for D24 figures 8 and 10
_AVERAGES = ("mean", "median")


def drozdova2024_catalogs(prepared, samples, truth, *, centre, gamma):
    """Find sources with the detection of D24 in single runs, their averages, and the true sky.

    Parameters
    ----------
    prepared : `diffsky.deconvolution.observation.PreparedObservation`
        The observation that the samples belong to.
    samples : `numpy.ndarray`
        Shape (n, height, width) of the working grid: true sky in Jy per working pixel.
    truth : `numpy.ndarray`
        Shape (height, width): what was there, alike.
    centre : `~astropy.coordinates.SkyCoord`
        Centre of the field.
    gamma : float
        Root of D24 eq. 1: images are averaged after it is taken (eq. 9 and 10).

    Returns
    -------
    catalogs : dict of str to `Detections`
        ``"D24 run 1"`` and so on, ``"D24 mean"``, ``"D24 median"``, ``"D24 detect-aggregate"``
        (detections of single runs within 0.18 arcsec of each other, reliability as score; all other
        scores are 1), the last three of the first 2, 5 and 10 runs too, as ``"D24 mean of 5"``, and
        ``"D24 true sky"``.

    Raises
    ------
    ValueError
        If the images have not the shape of the working grid.
    """
    shape = prepared.grid.working_shape
    if samples.shape[1:] != shape or truth.shape != shape:
        raise ValueError(
            f"samples have shape {samples.shape} and the truth {truth.shape}; expected images of "
            f"{shape}, the working grid"
        )
    mask = prepared.primary_beam_working <= 0
    runs = [drozdova2024_detect(sample, mask=mask) for sample in samples]
    tables = {f"run {k}": run for k, run in enumerate(runs, start=1)}
    pixel = pixel_scale(prepared.image.wcs) * prepared.grid.zoom
    radius = DROZDOVA2024_RADIUS.to_value(u.arcsec) / pixel
    for n in (*(n for n in FEWER_RUNS if n < len(samples)), len(samples)):
        ending = "" if n == len(samples) else f" of {n}"
        for name in _AVERAGES:
            average = summarize_samples(samples[:n], name, root=gamma)
            tables[f"{name}{ending}"] = drozdova2024_detect(average, mask=mask)
        tables[f"detect-aggregate{ending}"] = aggregate_detections(runs[:n], radius=radius)
    tables["true sky"] = drozdova2024_detect(truth, mask=mask)
    return {f"D24 {name}": _detections(table, prepared, centre) for name, table in tables.items()}


def drozdova2024_reconstruction(samples, truth):
    """Metrics of D24 section 3.5.1, and those of the averages of fewer runs (figure 8).

    Parameters
    ----------
    samples : `numpy.ndarray`
        Shape (n, height, width): normalised samples.
    truth : `numpy.ndarray`
        Shape (height, width): the normalised truth.

    Returns
    -------
    scores : dict of str to `numpy.ndarray`
        As `reconstruction_scores`, and with ``"mean of 5"`` and so on.

    Raises
    ------
    ValueError
        As `reconstruction_scores`.
    """
    scores = reconstruction_scores(samples, truth)
    for n in (n for n in FEWER_RUNS if n < len(samples)):
        for name in _AVERAGES:
            average = summarize_samples(samples[:n], name)
            scores[f"{name} of {n}"] = reconstruction_scores(average[None], truth)["mean"]
    return scores


def _detections(table, prepared, centre):
    """Positions on the sky, and fluxes in Jy."""
    x, y = prepared.grid.to_image_pixels(table["x"], table["y"])
    sky = QTable({"sky_centroid": prepared.image.wcs.pixel_to_world(x, y)})
    place = nearest_pixels(prepared.primary_beam_working > 0, table["x"], table["y"])
    gain = prepared.primary_beam_working[place]
    flux = np.asarray(table["flux"], dtype=float)
    # Single images have neither.
    known = {"flux_err": np.full(len(table), np.nan), "reliability": np.ones(len(table))}
    known |= {name: np.array(table[name]) for name in known if name in table.colnames}
    return Detections(
        *offsets(sky, centre),
        flux=flux,
        flux_err=known["flux_err"],
        snr=flux * gain / prepared.rms_working[place],
        score=known["reliability"],
    )
