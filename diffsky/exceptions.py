"""Warnings and errors of diffsky."""

from astropy.utils.exceptions import AstropyUserWarning

__all__ = ["DiffskyWarning", "NotFittedError", "PredictionError", "WeightsError"]


class DiffskyWarning(AstropyUserWarning):
    """Base class of every warning that diffsky gives."""


class NotFittedError(RuntimeError):
    """An estimator was used before ``fit``, ``load`` or ``from_pretrained``."""


class PredictionError(RuntimeError):
    """Some images of a list could not be deconvolved.

    Parameters
    ----------
    message : str
        Names the images and what was wrong.
    results : list
        What `diffsky.DiffusionDeconvolver.predict` returns, None for images that failed.
    errors : dict of int to Exception
        Place in the list and error of each image that failed.
    """

    def __init__(self, message, results, errors):
        super().__init__(message)
        self.results, self.errors = results, errors

    def __reduce__(self):
        return type(self), (*self.args, self.results, self.errors)


class WeightsError(ValueError):
    """A weights folder is damaged, altered, or of another architecture."""
