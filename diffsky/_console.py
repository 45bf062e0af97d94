"""What the commands say on a terminal."""

import contextlib
import sys
import time
import warnings

import click

__all__ = ["fail", "plain_warnings", "start"]


def start(title):
    """Say what runs.

    Parameters
    ----------
    title : str
        The command and its seed.

    Returns
    -------
    step : callable
        ``step(text)`` says, with the time elapsed, what comes next.
    """
    began = time.monotonic()
    click.echo(title, err=True)
    return lambda text: click.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=True)


@contextlib.contextmanager
def plain_warnings():
    """Show warnings as a line on stderr."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: click.echo(
            f"warning: {' '.join(str(message).split())}", err=True
        )
        yield


def fail(message, code):
    """End with a message on stderr.

    Parameters
    ----------
    message : str
        What went wrong.
    code : int
        Exit status.
    """
    click.echo(f"diffsky: {message}", err=True)
    sys.exit(code)
