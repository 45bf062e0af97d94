"""Warnings that name the line of the user's code, or that are kept for another process."""

import contextlib
import contextvars
import sys
import warnings

from diffsky.exceptions import DiffskyWarning

__all__ = ["collect_warnings", "warn_caller"]

_collected = contextvars.ContextVar("_collected", default=None)


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
    collected = _collected.get()
    if collected is not None:
        collected.append((message, category))
        return
    frame, level = sys._getframe(), 1
    while frame is not None and _is_ours(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@contextlib.contextmanager
def collect_warnings():
    """Keep what `warn_caller` would say in this thread, without saying it.

    `warnings.catch_warnings` changes the state of the whole process, as other threads do too.

    Yields
    ------
    collected : list of tuple
        Message and category of each, in their order.
    """
    token = _collected.set([])
    try:
        yield _collected.get()
    finally:
        _collected.reset(token)


def _is_ours(frame):
    return frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]
