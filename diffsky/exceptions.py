"""Warnings and errors of diffsky."""

from astropy.utils.exceptions import AstropyUserWarning

__all__ = ["DiffskyWarning", "NotFittedError", "WeightsError"]


class DiffskyWarning(AstropyUserWarning):
    """Base class of every warning that diffsky gives."""


class NotFittedError(RuntimeError):
    """An estimator was used before ``fit``, ``load`` or ``from_pretrained``."""


class WeightsError(ValueError):
    """A weights folder is damaged, altered, or of another architecture."""
