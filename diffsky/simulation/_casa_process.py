"""CASA in a process of its own: one job after the other, each with a time limit."""

import contextlib
import importlib.util
import json
import logging
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

import astropy.units as u
import numpy as np

__all__ = [
    "CasaError",
    "CasaProcess",
    "CasaTimeoutError",
    "require_casa",
    "run_job",
    "seconds",
]

_WORKER = Path(__file__).with_name("_casa_worker.py")
_PACKAGES = ("casatools", "casatasks", "casadata", "six")
_LAST_LINES = 20
_LONGEST_LINE = 200
_HARMLESS = ("MeasTable::dUTC",)  # the age of the leap-second table
_SCRATCH_BYTES = 4 * 2**30
# One core each: with more threads, every pair takes longer.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONNODEBUGRANGES": "1"}
_logger = logging.getLogger(__name__)


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

    def __reduce__(self):
        return type(self), (str(self), self.log_file)


class CasaTimeoutError(CasaError, TimeoutError):
    """CASA took longer than its time limit and was killed.

    Parameters
    ----------
    message : str
        What happened, with the last lines of CASA.
    log_file : `pathlib.Path`, optional
        The whole log.
    """


class _CasaRefusal(CasaError):
    """CASA did what it was told, and the result is of no use: no retry helps."""


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
            f"this needs CASA, but {', '.join(missing)} is not installed: "
            'pip install "diffsky-radio[casa]" (Python 3.11 or 3.12)'
        )


def _is_installed(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def run_job(job, *, timeout, inputs=None, log_file=None, work_dir=None, keep=False):
    """Run one job in a CASA process of its own.

    Parameters
    ----------
    job, timeout, inputs, log_file, work_dir, keep
        As `CasaProcess.run` takes them.

    Returns
    -------
    arrays, values, folder
        As `CasaProcess.run` returns them.
    """
    with CasaProcess() as process:
        return process.run(
            job, timeout=timeout, inputs=inputs, log_file=log_file, work_dir=work_dir, keep=keep
        )


class CasaProcess:
    """A CASA process that runs one job after the other.

    The first job starts it, and so does the first after one that failed. It ends with `close`, or
    with the process that made it, however that ends.

    Parameters
    ----------
    scratch_dir : path-like, optional
        Folder for what jobs have in common. By default that of the system.
    """

    def __init__(self, *, scratch_dir=None):
        self._scratch_dir = None if scratch_dir is None else Path(scratch_dir).resolve()
        self._scratch = None
        self._process = None
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Kill the process and a job that it runs; it starts no other one."""
        self._closed = True
        if (process := self._process) is not None:
            _end(process)
        with self._lock:  # a thread that runs a job hears of it first
            self._kill()

    def run(
        self, job, *, timeout, inputs=None, retries=0, log_file=None, work_dir=None, keep=False
    ):
        """Run a job.

        Parameters
        ----------
        job : dict
            What to do, as plain values: ``task``, the name of a function of ``script`` (by
            default `diffsky.simulation._casa_tasks`), which is called with the job in its folder
            and returns arrays and plain values.
        timeout : `~astropy.units.Quantity` or float
            Time limit of one try, in seconds where it has no unit; starting CASA counts.
        inputs : dict of `numpy.ndarray`, optional
            Arrays for the job.
        retries : int, optional
            How often a job that failed is tried again.
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
        limit = seconds(timeout)
        with self._lock, _log(log_file) as log:
            for left in range(retries, -1, -1):
                try:
                    return self._try(job, inputs or {}, limit, log, work_dir, keep)
                except CasaError as error:
                    if not left or self._closed or isinstance(error, _CasaRefusal):
                        raise
                    _logger.info("CASA failed, %d tries left: %s", left, error)

    def _try(self, job, inputs, limit, log, work_dir, keep):
        start = log.stat().st_size
        with _folder(work_dir, keep=keep) as folder:
            try:
                self._start(log)
                common = {"scratch": str(self._scratch), "scratch_bytes": _SCRATCH_BYTES}
                job = {**job, **common, "limit": limit, "log_file": str(log)}
                (folder / "job.json").write_text(json.dumps(job))
                np.savez(folder / "inputs.npz", **inputs)
                answer = self._ask(folder, limit)
                self._check(answer, limit, log, start)
            except _CasaRefusal:
                raise
            except BaseException:
                self._kill()
                raise
            with np.load(folder / "result.npz", allow_pickle=False) as result:
                arrays = dict(result)
            return arrays, json.loads((folder / "result.json").read_text()), folder

    def _check(self, answer, limit, log, start):
        """Say what went wrong where a job did."""
        if answer is None:
            message = f"CASA did not finish within {limit:g} s and was killed"
            raise CasaTimeoutError(_with_last_lines(message, log, start), log)
        if not answer:
            status = self._process.wait()
            how = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
            raise CasaError(_with_last_lines(f"CASA {how}", log, start), log)
        answer = json.loads(answer)
        if "refused" in answer:
            raise _CasaRefusal(f"{answer['refused']}. The whole log: {log}", log)

    def _start(self, log):
        """Start CASA where it does not run."""
        if self._process is None and not self._closed:
            self._scratch = Path(tempfile.mkdtemp(prefix="diffsky-sets-", dir=self._scratch_dir))
            with log.open("ab") as stream:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", str(_WORKER)],
                    cwd=self._scratch,
                    env={**_ENVIRONMENT, **os.environ, "MPLBACKEND": "Agg"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stream,
                    start_new_session=True,
                    bufsize=0,
                )
        if self._closed:
            raise CasaError("the CASA process was closed", log)

    def _ask(self, folder, limit):
        """Give CASA a job; its answer, nothing where it died, None after the time limit."""
        until = time.monotonic() + limit
        order = {"folder": str(folder), "scratch": str(self._scratch)}
        answer, stream = b"", self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                if not selector.select(max(0.0, until - time.monotonic())):
                    return None
                piece = stream.read(4096)
                if not piece:
                    return b""
                answer += piece
        return answer

    def _kill(self):
        process, self._process = self._process, None
        if process is not None:
            _end(process)
            process.wait()
            process.stdin.close()
            process.stdout.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None


def _end(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _with_last_lines(message, log, start):
    with log.open("rb") as stream:
        stream.seek(start)
        lines = stream.read().decode(errors="replace").splitlines()
    lines = [line for line in lines if not any(word in line for word in _HARMLESS)]
    lines = [f"    {line[:_LONGEST_LINE]}" for line in lines[-_LAST_LINES:]]
    return "\n".join([f"{message}. Its last lines:", *lines, f"The whole log: {log}"])


def seconds(timeout):
    """A time limit in seconds; what is none is a TypeError or ValueError."""
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
    descriptor, name = tempfile.mkstemp(prefix="diffsky-casa-", suffix=".log")
    os.close(descriptor)
    path, keep = Path(name), False
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
