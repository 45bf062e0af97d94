"""Runs `diffsky.evaluation._pybdsf_worker` in processes of its own."""

import contextlib
import importlib.util
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

from diffsky.images import write_image
from diffsky.simulation._casa_process import seconds

__all__ = [
    "PyBDSFError",
    "PyBDSFModels",
    "PyBDSFTimeoutError",
    "require_pybdsf",
    "run_pybdsf",
]

_WORKER = Path(__file__).with_name("_pybdsf_worker.py")
_LAST_LINES = 20
_LONGEST_LINE = 200
_START_LIMIT = 300  # s, to import PyBDSF on a busy machine


class PyBDSFError(RuntimeError):
    """PyBDSF failed; the message has its last lines."""


class PyBDSFRefusal(PyBDSFError):
    """PyBDSF itself gave an image up, as it would again; nothing else went wrong."""


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


class PyBDSFModels:
    """A PyBDSF process that makes model images, one after the other.

    `start` starts it, and again after one that failed. It ends with `close`, or with the process
    that made it, however that ends.

    Parameters
    ----------
    options : dict
        Options of ``bdsf.process_image``, plain values.
    timeout : `~astropy.units.Quantity` or float
        Time limit of one image, in seconds where it has no unit.
    """

    def __init__(self, options, *, timeout):
        self._job = {"limit": seconds(timeout), "options": options, "models": True}
        self._folder = self._process = self._version = None
        self._closed = False
        self._lock = threading.Lock()

    def start(self):
        """Start the process where it does not run.

        Returns
        -------
        str
            Version of PyBDSF.

        Raises
        ------
        PyBDSFError
            If it does not start, or was closed.
        """
        with self._lock:
            if self._closed:
                raise PyBDSFError("the PyBDSF process was closed")
            if self._process is None:
                self._folder = Path(tempfile.mkdtemp(prefix="diffsky-pybdsf-")).resolve()
                (self._folder / "job.json").write_text(json.dumps(self._job))
                with (self._folder / "output.log").open("wb") as stream:
                    self._process = _popen(self._folder, stdout=subprocess.PIPE, stderr=stream)
                self._version = self._answer(_START_LIMIT)["version"]
            return self._version

    def fit(self, image, header):
        """Fit Gaussians to an image.

        Parameters
        ----------
        image : `numpy.ndarray`
            Shape (ny, nx), Jy/beam.
        header : `~astropy.io.fits.Header`
            Its WCS.

        Returns
        -------
        `numpy.ndarray`
            Shape (ny, nx), the model image, Jy/beam; 0 everywhere where PyBDSF found no source.

        Raises
        ------
        PyBDSFRefusal
            If PyBDSF gives the image up.
        PyBDSFTimeoutError
            If it takes too long.
        PyBDSFError
            If its process ends, or memory or disk are full.
        """
        self.start()
        with self._lock:
            if self._process is None:
                raise PyBDSFError("the PyBDSF process was closed")
            fits.writeto(self._folder / "image.fits", image, header, overwrite=True)
            with contextlib.suppress(BrokenPipeError):  # which the answer tells, too
                self._process.stdin.write(b"fit\n")
            answer = self._answer(self._job["limit"])
            if "error" in answer:
                kind = PyBDSFError if answer["lacking"] else PyBDSFRefusal
                raise kind(answer["error"])
            return np.load(self._folder / "model.npy", allow_pickle=False)

    def close(self):
        """Kill the process and an image that it fits; it starts no other one."""
        self._closed = True
        if (process := self._process) is not None:
            _kill_group(process)
        with self._lock:  # a thread that waits for the process hears of it first
            self._end()

    def _answer(self, limit):
        """Wait for a line of the worker; without one, end it."""
        until, answer, process = time.monotonic() + limit, b"", self._process
        message = f"PyBDSF did not finish within {limit:g} s and was killed"
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise self._failure(PyBDSFTimeoutError, message)
                piece = process.stdout.read(4096)
                if not piece:
                    raise self._failure(PyBDSFError, _ending(process.wait()))
                answer += piece
        return json.loads(answer)

    def _failure(self, kind, message):
        output = self._folder / "output.log"
        message = _with_last_lines(message, output) if output.exists() else message
        self._end()
        return kind(message)

    def _end(self):
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
            process.stdout.close()
            shutil.rmtree(self._folder, ignore_errors=True)


def _run(folder, *, limit, output):
    """Start the worker, wait for it, and leave no process behind however that ends."""
    with output.open("wb") as stream:
        process = _popen(folder, stdout=stream, stderr=subprocess.STDOUT)
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        message = f"PyBDSF did not finish within {limit:g} s and was killed"
        raise PyBDSFTimeoutError(_with_last_lines(message, output)) from None
    finally:
        _kill(process)
    if status:
        raise PyBDSFError(_with_last_lines(_ending(status), output))


def _popen(folder, **streams):
    return subprocess.Popen(
        [sys.executable, "-P", str(_WORKER), str(folder)],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg"},
        stdin=subprocess.PIPE,  # its end tells the worker that no one waits any more
        start_new_session=True,
        bufsize=0,
        **streams,
    )


def _kill_group(process):
    # It may have processes of its own, and they may outlive it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _kill(process):
    _kill_group(process)
    process.wait()
    process.stdin.close()


def _ending(status):
    how = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
    return f"PyBDSF {how}"


def _with_last_lines(message, output):
    lines = output.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    return "\n".join([f"{message}. Its last lines:", *(f"    {s[:_LONGEST_LINE]}" for s in lines)])


def _append(logs, log_file):
    with log_file.open("ab") as stream:
        for log in sorted(logs):
            stream.write(log.read_bytes())
