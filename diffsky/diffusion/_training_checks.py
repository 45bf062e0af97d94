"""What every training refuses before it starts."""

import math
from numbers import Real
from pathlib import Path

import numpy as np

__all__ = ["check_integers", "check_plan", "find_checkpoint"]


def check_integers(least=1, **values):
    """Refuse what is no integer, or too small.

    Parameters
    ----------
    least : int, optional
        Least value. Default 1.
    **values
        Numbers by their names.

    Raises
    ------
    ValueError
        If one is none.
    """
    for name, value in values.items():
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} is {value}; expected {least} or more, an integer")


def check_plan(learning_rate, resume, checkpoint_dir):
    """Refuse a learning rate that is none, and a run to resume without a folder.

    Parameters
    ----------
    learning_rate : float
        Above 0.
    resume : bool
        Whether a run shall be continued.
    checkpoint_dir : path-like or None
        Its folder.

    Raises
    ------
    ValueError
        If one is refused.
    """
    if not (isinstance(learning_rate, Real) and 0 < learning_rate < math.inf):
        raise ValueError(f"learning_rate is {learning_rate!r}; expected a number above 0")
    if resume and checkpoint_dir is None:
        raise ValueError("resume=True needs checkpoint_dir=, the folder of the run to continue")


def find_checkpoint(checkpoint_dir, resume):
    """Find the checkpoint to go on from.

    Parameters
    ----------
    checkpoint_dir : path-like or None
        Folder of a run.
    resume : bool
        Whether a run that is there shall be continued.

    Returns
    -------
    path : str or None
        ``last.ckpt`` of the folder; None where there is none.

    Raises
    ------
    FileExistsError
        If there is one, and it shall not be continued.
    """
    if checkpoint_dir is None:
        return None
    path = Path(checkpoint_dir) / "last.ckpt"
    if path.exists() and not resume:
        raise FileExistsError(
            f"{path} exists; pass resume=True to continue that run, or another checkpoint_dir"
        )
    return str(path) if path.exists() else None
