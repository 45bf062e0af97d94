"""Warnings that name the line of the user's code."""

import sys
import warnings

from diffsky.exceptions import DiffskyWarning

__all__ = ["warn_caller"]


def warn_caller(message, category=DiffskyWarning):
    """Warn at the line outside of this package that the call came from.

    ``predict`` and ``sample`` notice the same things at different depths, in single images and in
    lists, so that no fixed ``stacklevel`` is right.

    Parameters
    ----------
    message : str
        What to say.
    category : type, optional
        Of the warning. Default `~diffsky.exceptions.DiffskyWarning`.
    """
    frame, level = sys._getframe(), 1
    while frame is not None and _is_ours(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_ours(frame):
    return frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]
