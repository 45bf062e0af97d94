"""Runs `diffsky.evaluation._pybdsf_worker` in a process of its own."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from diffsky.images import write_image
from diffsky.simulation._casa_process import seconds

__all__ = ["PyBDSFError", "PyBDSFTimeoutError", "require_pybdsf", "run_pybdsf"]

_WORKER = Path(__file__).with_name("_pybdsf_worker.py")
_LAST_LINES = 20
_LONGEST_LINE = 200


class PyBDSFError(RuntimeError):
    """PyBDSF failed; the message has its last lines."""


class PyBDSFTimeoutError(PyBDSFError, TimeoutError):
    """PyBDSF took longer than its time limit and was killed."""


def require_pybdsf():
    """Check that PyBDSF is installed, without importing it.

    Raises
    ------
    ImportError
        If it is not; the message names the extra to install.
    """
    try:
        found = importlib.util.find_spec("bdsf") is not None
    except ImportError:
        found = False
    if not found:
        raise ImportError(
            "finding sources with PyBDSF needs bdsf, which is not installed: "
            'pip install "diffsky-radio[bdsf]"'
        )


def run_pybdsf(image, options, *, timeout, log_file=None):
    """Find the sources of an image with PyBDSF.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        The image, as `diffsky.images.load_image` returns it.
    options : dict
        Options of ``bdsf.process_image``, plain values.
    timeout : `~astropy.units.Quantity` or float
        Time limit, in seconds where it has no unit.
    log_file : path-like, optional
        File to append what PyBDSF says to.

    Returns
    -------
    dict
        See `diffsky.evaluation._pybdsf_worker`.

    Raises
    ------
    PyBDSFError
        If PyBDSF fails.
    PyBDSFTimeoutError
        If it takes too long.
    """
    limit = seconds(timeout)
    with tempfile.TemporaryDirectory(prefix="diffsky-pybdsf-") as name:
        folder = Path(name).resolve()
        write_image(image, folder / "image.fits")
        (folder / "job.json").write_text(json.dumps({"limit": limit, "options": options}))
        output = folder / "output.log"
        try:
            _run(folder, limit=limit, output=output)
        finally:
            if log_file is not None:
                _append(folder.glob("*.log"), Path(log_file).expanduser())
        return json.loads((folder / "result.json").read_text())


def _run(folder, *, limit, output):
    """Start the worker, wait for it, and leave no process behind however that ends."""
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), str(folder)],
            cwd=folder,
            env={**os.environ, "MPLBACKEND": "Agg"},
            stdin=subprocess.PIPE,  # its end tells the worker that no one waits any more
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        message = f"PyBDSF did not finish within {limit:g} s and was killed"
        raise PyBDSFTimeoutError(_with_last_lines(message, output)) from None
    finally:
        # It may have processes of its own, and they may outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
    if status:
        how = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
        raise PyBDSFError(_with_last_lines(f"PyBDSF {how}", output))


def _with_last_lines(message, output):
    lines = output.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    return "\n".join([f"{message}. Its last lines:", *(f"    {s[:_LONGEST_LINE]}" for s in lines)])


def _append(logs, log_file):
    with log_file.open("ab") as stream:
        for log in sorted(logs):
            stream.write(log.read_bytes())
