"""Fit the recalibration of reliabilities to fields with a known truth, and use it on others."""

from dataclasses import replace

from diffsky.catalog.recalibration import IsotonicRecalibration, Recalibration
from diffsky.evaluation.results import pool_fields

__all__ = ["IsotonicRecalibration", "Recalibration", "fit_recalibration", "recalibrate"]


def fit_recalibration(results, *, radius=0.5, prior=""):
    """Fit the share of true detections against the share of samples, for each strategy.

    With 400 detections the reliabilities that it gives are about 0.035 off, with 1000 about 0.025,
    with 1600 about 0.02 (mean distance from the true ones, in simulations of known reliability).

    Parameters
    ----------
    results : sequence of `FieldResult`
        Fields of a validation set, as `evaluate_pair` makes them: on no others than those that
        neither thresholds nor figures of merit are later taken from.
    radius : float or `~astropy.units.Quantity`, optional
        Largest distance of a detection from a true source: in beams, or an angle. Default 0.5.
    prior : str, optional
        The skies of these fields, in words: it goes with the recalibration.

    Returns
    -------
    recalibration : `~diffsky.catalog.Recalibration` or None
        For `diffsky.DiffusionDeconvolver.calibrate`. None where no method with posterior samples
        has found anything.

    Raises
    ------
    ValueError
        Without fields.
    """
    if len(results) == 0:
        raise ValueError("results are empty; expected at least one FieldResult")
    curves, counts, n_samples = {}, {}, None
    for method in results[0].catalogs:
        if any(one.catalogs[method].flux_samples is None for one in results):
            continue
        found = pool_fields(results, method, radius=radius)
        if len(found.found):
            curves[method] = IsotonicRecalibration.fit(found.found.score, found.is_true)
            counts[method] = len(found.found)
            n_samples = found.found.flux_samples.shape[1]
    if not curves:
        return None
    return Recalibration(
        curves=curves, n_detections=counts, n_fields=len(results), n_samples=n_samples, prior=prior
    )


def recalibrate(results, recalibration):
    """Replace the shares of samples by recalibrated reliabilities.

    Parameters
    ----------
    results : sequence of `FieldResult`
        Fields whose scores are shares of samples.
    recalibration : `~diffsky.catalog.Recalibration` or None
        Methods without a curve stay as they are; None changes nothing.

    Returns
    -------
    results : list of `FieldResult`
        The same fields with other scores.
    """
    curves = {} if recalibration is None else recalibration.curves
    return [
        replace(one, catalogs={k: _recalibrated(v, curves.get(k)) for k, v in one.catalogs.items()})
        for one in results
    ]


def _recalibrated(found, curve):
    return found if curve is None else replace(found, score=curve(found.score))
