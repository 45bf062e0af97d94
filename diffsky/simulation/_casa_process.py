"""Runs one job of `diffsky.simulation._casa_worker` in a process of its own."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import astropy.units as u
import numpy as np

__all__ = ["CasaError", "CasaTimeoutError", "require_casa", "run_job"]

_WORKER = Path(__file__).with_name("_casa_worker.py")
_PACKAGES = ("casatools", "casatasks", "casadata", "six")
_LAST_LINES = 20
_LONGEST_LINE = 200
_HARMLESS = ("MeasTable::dUTC",)  # the age of the leap-second table


class CasaError(RuntimeError):
    """CASA failed.

    Parameters
    ----------
    message : str
        What happened, with the last lines of CASA.
    log_file : `pathlib.Path`, optional
        The whole log.
    """

    def __init__(self, message, log_file=None):
        super().__init__(message)
        self.log_file = log_file


class CasaTimeoutError(CasaError, TimeoutError):
    """CASA took longer than its time limit and was killed.

    Parameters
    ----------
    message : str
        What happened, with the last lines of CASA.
    log_file : `pathlib.Path`, optional
        The whole log.
    """


def require_casa():
    """Check that CASA is installed, without importing it.

    Raises
    ------
    ImportError
        If it is not; the message names the extra to install.
    """
    missing = [name for name in _PACKAGES if not _is_installed(name)]
    if missing:
        raise ImportError(
            f"simulating observations needs CASA, but {', '.join(missing)} is not installed: "
            'pip install "diffsky-radio[casa]" (Python 3.11 or 3.12)'
        )


def _is_installed(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def run_job(job, *, inputs=None, array=None, timeout, log_file=None, work_dir=None, keep=False):
    """Run a job in a CASA process.

    Parameters
    ----------
    job : dict
        What to do, as plain values (see `diffsky.simulation._casa_worker`).
    inputs : dict of `numpy.ndarray`, optional
        Arrays for the job.
    array : `pathlib.Path`, optional
        Antenna configuration file for the job.
    timeout : `~astropy.units.Quantity` or float
        Time limit, in seconds where it has no unit.
    log_file : path-like, optional
        File to append to. By default a temporary one, kept only where CASA fails.
    work_dir : path-like, optional
        Folder for the temporary folder of the job.
    keep : bool, optional
        Whether to keep the folder of the job.

    Returns
    -------
    arrays : dict of `numpy.ndarray`
        Arrays that the job made.
    values : dict
        Plain values that the job made.
    folder : `pathlib.Path`
        Folder of the job; it exists only if ``keep``.

    Raises
    ------
    CasaError
        If CASA fails.
    CasaTimeoutError
        If it takes too long.
    """
    limit = _seconds(timeout)
    with _log(log_file) as log, _folder(work_dir, keep=keep) as folder:
        job = {**job, "limit": limit, "log_file": str(log)}
        (folder / "job.json").write_text(json.dumps(job))
        np.savez(folder / "inputs.npz", **(inputs or {}))
        if array is not None:
            shutil.copyfile(array, folder / "array.cfg")
        start = log.stat().st_size
        _run(folder, limit=limit, log=log, start=start)
        with np.load(folder / "result.npz", allow_pickle=False) as result:
            arrays = dict(result)
        return arrays, json.loads((folder / "result.json").read_text()), folder


def _run(folder, *, limit, log, start):
    """Start the worker, wait for it, and leave no process behind however that ends."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), str(folder)],
            cwd=folder,
            env={**os.environ, "MPLBACKEND": "Agg", "PYTHONNODEBUGRANGES": "1"},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        message = f"CASA did not finish within {limit:g} s and was killed"
        raise CasaTimeoutError(_with_last_lines(message, log, start), log) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status:
        how = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
        raise CasaError(_with_last_lines(f"CASA {how}", log, start), log)


def _with_last_lines(message, log, start):
    with log.open("rb") as stream:
        stream.seek(start)
        lines = stream.read().decode(errors="replace").splitlines()
    lines = [line for line in lines if not any(word in line for word in _HARMLESS)]
    lines = [f"    {line[:_LONGEST_LINE]}" for line in lines[-_LAST_LINES:]]
    return "\n".join([f"{message}. Its last lines:", *lines, f"The whole log: {log}"])


def _seconds(timeout):
    try:
        limit = float(u.Quantity(timeout, u.s, dtype=float).value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"timeout is {timeout!r}; expected a time or seconds") from error
    if not 0 < limit < np.inf:
        raise ValueError(f"timeout is {timeout}; expected a positive, finite time")
    return limit


@contextlib.contextmanager
def _log(log_file):
    """The file to log to; one that nobody asked for goes unless CASA failed."""
    if log_file is not None:
        path = Path(log_file).expanduser().resolve()
        path.touch()
        yield path
        return
    handle, name = tempfile.mkstemp(prefix="diffsky-casa-", suffix=".log")
    os.close(handle)
    path = Path(name)
    keep = False
    try:
        yield path
    except CasaError:
        keep = True
        raise
    finally:
        if not keep:
            path.unlink()


@contextlib.contextmanager
def _folder(work_dir, *, keep):
    if work_dir is not None:
        work_dir = Path(work_dir).expanduser().resolve()
        work_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="diffsky-casa-", dir=work_dir)).resolve()
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
