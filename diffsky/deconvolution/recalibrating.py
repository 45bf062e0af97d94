"""The recalibration of reliabilities that weights may have, and which runs it is used in."""

import dataclasses

from diffsky._warning import warn_caller
from diffsky.catalog import Recalibration

__all__ = ["RecalibratedEstimator"]

_LEAST_DETECTIONS = 400


class RecalibratedEstimator:
    """An estimator whose ``description_`` may hold a recalibration."""

    def calibrate(self, recalibration):
        """Let the weights have a recalibration of their reliabilities and flux intervals.

        It goes into ``description_``, with the weights when they are saved, and is what
        `diffsky.DiffusionDeconvolver.predict` uses where strategy, radius and sampler are those it
        was fitted for and there are half as many samples or more.

        Parameters
        ----------
        recalibration : `diffsky.catalog.Recalibration` or None
            As `diffsky.evaluation.fit_recalibration` makes it of results of these weights; without
            a sampler it gets the present one. None removes it.

        Returns
        -------
        self : `DiffusionDeconvolver`
            This estimator.

        Raises
        ------
        NotFittedError
            Before ``fit`` or ``load``.

        Warns
        -----
        DiffskyWarning
            If it was fitted to fewer than 400 detections.
        """
        fitted = self._fitted()
        description = {k: v for k, v in fitted.description_.items() if k != "recalibration"}
        if recalibration is not None:
            description["recalibration"] = _described(recalibration, self.sampling_plan())
        fitted.description_ = description
        return self

    def recalibration(self, *, n_samples=20, radius=0.5):
        """Give the recalibration that a prediction would use.

        Parameters
        ----------
        n_samples : int, optional
            Posterior samples of the run. Default 20.
        radius : float, optional
            Its radius in beams. Default 0.5.

        Returns
        -------
        recalibration : `diffsky.catalog.Recalibration` or None
            None where reliabilities are shares of the samples, and intervals their quantiles.

        Raises
        ------
        NotFittedError
            Before ``fit`` or ``load``.
        ValueError
            If the description of the weights has one that is none.
        """
        stored = self._fitted().description_.get("recalibration")
        if stored is None:
            return None
        stored = Recalibration.from_dict(stored)
        plan = self.sampling_plan()
        return None if stored.unfit_for(n_samples, radius, plan) else stored

    def _choose_recalibration(self, strategy, n_samples, radius, calibrated):
        """Options of the catalogue, and what they are in words.

        The options are a function from shares of samples to reliabilities, or None, and a factor
        on flux intervals.
        """
        stored, without = self.description_.get("recalibration"), {"recalibration": None}
        if stored is None or not calibrated:
            return without, "none"
        stored = Recalibration.from_dict(stored)
        reason = stored.unfit_for(n_samples, radius, self.sampling_plan())
        if not reason and strategy not in stored.curves:
            reason = f"it is for {', '.join(stored.curves)}"
        if reason:
            return without, f"none: {reason}"
        chosen = {
            "recalibration": stored.curves[strategy],
            "interval_width": stored.width(strategy),
        }
        return chosen, stored.describe(strategy)


def _described(recalibration, sampling):
    """What JSON can hold, with a warning where it is of few detections."""
    fewest = min(recalibration.n_detections.values())
    if fewest < _LEAST_DETECTIONS:
        warn_caller(
            f"the recalibration was fitted to {fewest} detections; with fewer than "
            f"{_LEAST_DETECTIONS} it can be wrong by more than the shares of samples"
        )
    if not recalibration.sampling:
        recalibration = dataclasses.replace(recalibration, sampling=sampling)
    return recalibration.to_dict()
