"""Looking for sources in posterior samples, and counting them, as D24 do (sections 3.4 and 3.5)."""

import astropy.units as u
import numpy as np
from astropy.table import QTable

from diffsky.catalog.aggregation import aggregate_detections
from diffsky.catalog.detection import drozdova2024_detect
from diffsky.catalog.table import pixel_scale
from diffsky.deconvolution.strategies import summarize_samples
from diffsky.evaluation.reconstruction import reconstruction_scores
from diffsky.evaluation.results import Detections, offsets

__all__ = ["DROZDOVA2024_RADIUS", "drozdova2024_catalogs", "drozdova2024_matches"]

DROZDOVA2024_RADIUS = 0.18 * u.arcsec
_FEWER = (2, 5, 10)  # runs beside all of them, for D24 figures 8 and 10
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
    """
    mask = prepared.primary_beam_working <= 0
    runs = [drozdova2024_detect(sample, mask=mask) for sample in samples]
    tables = {f"run {k}": run for k, run in enumerate(runs, start=1)}
    pixel = pixel_scale(prepared.image.wcs) * prepared.grid.zoom
    radius = DROZDOVA2024_RADIUS.to_value(u.arcsec) / pixel
    for n in (*(n for n in _FEWER if n < len(samples)), len(samples)):
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
    """
    scores = reconstruction_scores(samples, truth)
    for n in (n for n in _FEWER if n < len(samples)):
        fewer = reconstruction_scores(samples[:n], truth)
        scores |= {f"{name} of {n}": fewer[name] for name in _AVERAGES}
    return scores


def drozdova2024_matches(found, truth, *, radius=DROZDOVA2024_RADIUS):
    """Match detections with true sources as D24 section 3.5.2: each with any within the radius.

    One source may be the partner of many, and two sources at one place both count as found by one
    detection. For anything but a comparison with D24 see `pool_fields`.

    Parameters
    ----------
    found : `Detections`
        What was found in a field.
    truth : `TrueSources`
        What was there.
    radius : `~astropy.units.Quantity`, optional
        An angle. Default 0.18 arcsec, the paper's.

    Returns
    -------
    partner : `numpy.ndarray`
        Shape (n_found,), int: the nearest true source within the radius, -1 where there is none.
    is_found : `numpy.ndarray`
        Shape (n_truth,): whether a true source has a detection within the radius.
    """
    distance = np.hypot(found.x[:, None] - truth.x, found.y[:, None] - truth.y)
    near = distance <= radius.to_value(u.arcsec)
    if not near.size:
        return np.full(len(found), -1), np.zeros(len(truth), dtype=bool)
    return np.where(near.any(axis=1), distance.argmin(axis=1), -1), near.any(axis=0)


def _detections(table, prepared, centre):
    """Positions on the sky, and fluxes in Jy."""
    x, y = prepared.grid.to_image_pixels(table["x"], table["y"])
    sky = QTable({"sky_centroid": prepared.image.wcs.pixel_to_world(x, y)})
    rows, columns = (
        np.clip(np.rint(np.asarray(table[name])).astype(int), 0, size - 1)
        for name, size in zip(("y", "x"), prepared.grid.working_shape, strict=True)
    )
    gain = prepared.primary_beam_working[rows, columns]
    flux = np.asarray(table["flux"], dtype=float)
    # Single images have neither.
    known = {"flux_err": np.full(len(table), np.nan), "reliability": np.ones(len(table))}
    known |= {name: np.array(table[name]) for name in known if name in table.colnames}
    return Detections(
        *offsets(sky, centre),
        flux=flux,
        flux_err=known["flux_err"],
        snr=flux * gain / prepared.rms_working[rows, columns],
        score=known["reliability"],
    )
