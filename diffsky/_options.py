"""Options that several commands share."""

import secrets

import click

__all__ = ["PRECISIONS", "device_options", "draw_seed", "sampling_options", "seed_option"]

PRECISIONS = ("auto", "float32", "bfloat16")
_SEEDS = 10**6  # seeds that are drawn stay below this, to be short

seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    help="Repeats a run. By default a new one is drawn and printed.",
)
_DEVICE = (
    click.option("--device", help="cuda, mps or cpu; by default the first that is there."),
    click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True),
)
_SAMPLING = (
    click.option("--sampler", help="By default that of the weights."),
    click.option("--n-steps", type=click.IntRange(min=1), help="By default those of the weights."),
)


def draw_seed(seed):
    """The seed that was given, or a new one.

    Parameters
    ----------
    seed : int or None
        What `seed_option` gave.

    Returns
    -------
    seed : int
        Below a million where it is new.
    """
    return secrets.randbelow(_SEEDS) if seed is None else seed


def device_options(command):
    """Give a command ``--device`` and ``--precision``."""
    return _add(command, _DEVICE)


def sampling_options(command):
    """Give a command ``--sampler`` and ``--n-steps``."""
    return _add(command, _SAMPLING)


def _add(command, options):
    for option in reversed(options):
        command = option(command)
    return command
