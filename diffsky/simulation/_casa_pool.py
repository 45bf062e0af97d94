"""CASA processes for the pairs of one run, in threads here or on the workers of a cluster."""

import contextlib
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from diffsky._cluster import submit_to, task_slots
from diffsky.simulation._casa_process import CasaError
from diffsky.simulation._pair_maker import PairMaker

__all__ = ["ClusterRun", "LocalRun", "close_pool", "run_task"]

_RESTING = 300  # s until processes without work end: a client that died does not end them
_TOLERATED = (CasaError, ValueError, OSError)  # of one pair; the others go on


class _Pool:
    """CASA processes of one run in one Python process, as many as are in use at once."""

    def __init__(self, work_dir):
        self._work_dir = work_dir
        self._makers, self._idle = [], []
        self._closed = False
        self._lock = threading.Lock()
        self._timer = None

    @contextlib.contextmanager
    def maker(self):
        with self._lock:
            if self._closed:
                raise CasaError("the run was stopped")
            self._stop_timer()
            if not self._idle:
                self._idle.append(PairMaker(work_dir=self._work_dir))
                self._makers.append(self._idle[-1])
            maker = self._idle.pop()
        try:
            yield maker
        finally:
            with self._lock:
                self._idle.append(maker)
                if len(self._idle) == len(self._makers):
                    self._timer = threading.Timer(_RESTING, self._release)
                    self._timer.daemon = True
                    self._timer.start()

    def _release(self):
        """End all processes, for as long as there is nothing to do."""
        with self._lock:
            if len(self._idle) < len(self._makers):
                return
            makers, self._makers, self._idle = self._makers, [], []
        for maker in makers:
            maker.close()

    def _stop_timer(self):
        if self._timer is not None:
            self._timer.cancel()

    def close(self):
        with self._lock:
            self._closed = True
            self._stop_timer()
        while self._makers:
            self._makers.pop().close()


_pools = {}  # of this process, by run
_lock = threading.Lock()


def _pool(run, work_dir):
    with _lock:
        return _pools.setdefault(run, _Pool(work_dir))


def run_task(run, task, log_file, options):
    """Make a pair where this is called, with a CASA process of the run.

    Parameters
    ----------
    run : str
        The run.
    task : `diffsky.simulation._pair_maker.PairTask`
    log_file : str or None
        Path on the machine that runs it.
    options : dict
        ``timeout`` and ``retries`` as `diffsky.simulation._casa_process.CasaProcess.run` takes
        them, and ``work_dir``, a folder or None. (Keywords would be taken by dask.)

    Returns
    -------
    `diffsky.simulation.SimulatedPair`
    """
    if log_file is not None:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
    limits = {name: options[name] for name in ("timeout", "retries")}
    with _pool(run, options["work_dir"]).maker() as maker:
        return maker.make(task, log_file=log_file, **limits)


def close_pool(run):
    """End the CASA processes of a run in this Python process, for good.

    Parameters
    ----------
    run : str
        The run.
    """
    _pool(run, None).close()


class LocalRun:
    """Threads of this process, each with a CASA process.

    Parameters
    ----------
    workers : int
        Their number.
    options : dict
        Of `run_task`.
    """

    tolerated = _TOLERATED

    def __init__(self, workers, options):
        self._run, self._options = uuid.uuid4().hex, options
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="diffsky-casa")
        self.slots = workers + 1

    def submit(self, task, log_file):
        """Start a task or queue it.

        Parameters
        ----------
        task, log_file
            Of `run_task`.

        Returns
        -------
        `concurrent.futures.Future`
        """
        return self._executor.submit(run_task, self._run, task, log_file, self._options)

    def stop(self, pending):
        """End all that runs."""
        for future in pending:
            future.cancel()
        close_pool(self._run)
        self._executor.shutdown(wait=True, cancel_futures=True)
        _pools.pop(self._run)


class ClusterRun:
    """Workers of a dask cluster, each with a CASA process per thread.

    Parameters
    ----------
    client : `distributed.Client`
        Client of the cluster.
    options : dict
        Of `run_task`.
    """

    def __init__(self, client, options):
        from distributed.scheduler import KilledWorker

        self._run, self._options = uuid.uuid4().hex, options
        self.tolerated = (*_TOLERATED, KilledWorker)
        self._client = client

    def submit(self, task, log_file):
        """Start a task or queue it.

        Parameters
        ----------
        task, log_file
            Of `run_task`.

        Returns
        -------
        `concurrent.futures.Future`
        """
        return submit_to(self._client, run_task, self._run, task, log_file, self._options)

    @property
    def slots(self):
        """int : how many tasks to have submitted, which follows the size of the cluster."""
        return task_slots(self._client)

    def stop(self, pending):
        """End all that runs on the workers that there are."""
        for future in pending:
            future.cancel()
        with contextlib.suppress(Exception):  # a cluster that is gone: what went wrong is known
            self._client.run(close_pool, self._run, on_error="ignore")
