"""Pairs made on the workers of a dask cluster, one of which is killed on the way."""

import contextlib
import os
import signal
import threading
import time

import numpy as np
import psutil
import pytest
from small_casa import SMALL, needs_casa, processes_in, wait_for

from diffsky.simulation import PairStore, SkyPrior, _casa_pool, simulate_pairs

PRIOR = SkyPrior(n_sources=(2, 4), flux=(0.01, 0.05), half_width=4.0)
N = 5
pytestmark = [needs_casa, pytest.mark.slow]


@pytest.fixture
def client(tmp_path):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        local_directory=tmp_path / "dask",
    )
    with cluster, distributed.Client(cluster) as client:
        yield client


def kill_a_worker_at_work(work, killed, done):
    """Kill the parent of the first CASA process that has a job."""

    def kill():
        for casa in processes_in(work):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "diffsky-casa-" in casa.cwd():
                    killed.append((casa.ppid(), casa))
                    os.kill(casa.ppid(), signal.SIGKILL)
                    return True
        return bool(done)

    return kill


def test_a_killed_worker_loses_nothing(client, tmp_path):
    work, killed, done = tmp_path / "work", [], []
    work.mkdir()
    kill = kill_a_worker_at_work(work, killed, done)
    killer = threading.Thread(target=wait_for, args=(kill,), kwargs={"limit": 1800})
    killer.start()
    workers = set(client.run(os.getpid).values())
    store = simulate_pairs(
        PRIOR,
        SMALL,
        seed=9,
        n=N,
        store=tmp_path / "store",
        client=client,
        timeout=600,
        work_dir=work,
        log_dir=tmp_path / "logs",
    )
    done.append(True)
    killer.join()
    (worker, casa) = killed[0]
    assert worker in workers
    assert not psutil.pid_exists(worker)
    assert wait_for(lambda: not casa.is_running(), limit=60)
    assert store.numbers() == list(range(N))
    assert not PairStore(store.path).damaged
    assert wait_for(lambda: not processes_in(work), limit=60)
    assert wait_for(lambda: not list(work.iterdir()), limit=60)
    here = simulate_pairs(PRIOR, SMALL, seed=9, n=1, store=tmp_path / "here", timeout=600)
    one, other = here.read(0), store.read(0)
    peak = np.nanmax(one.dirty.data)
    np.testing.assert_allclose(one.dirty.data, other.dirty.data, rtol=0, atol=1e-5 * peak)
    assert one.parameters == other.parameters


def test_a_result_that_cannot_be_fetched_is_an_error(client, monkeypatch):
    """It does not leave the run waiting without end."""
    here = os.getpid()

    def unreadable(run, task, log_file, options):
        def rebuild():
            if os.getpid() == here:
                raise AttributeError("no such field")

        class Result:
            def __reduce__(self):
                return rebuild, ()

        return Result()

    monkeypatch.setattr(_casa_pool, "run_task", unreadable)
    run = _casa_pool.ClusterRun(client, {})
    future = run.submit("task", None)
    with pytest.raises(AttributeError, match="no such field"):
        future.result(timeout=120)
    run.stop([])


def test_processes_without_work_end(monkeypatch):
    """A client that died cannot end them."""
    monkeypatch.setattr(_casa_pool, "_RESTING", 0.1)
    pool = _casa_pool._Pool(None)
    with pool.maker() as first:
        time.sleep(0.3)
        with pool.maker() as second:
            pass
    with pool.maker() as third:
        assert third in (first, second)
    assert wait_for(lambda: not pool._makers, limit=20)
    with pool.maker() as another:
        assert another not in (first, second)
    pool.close()
