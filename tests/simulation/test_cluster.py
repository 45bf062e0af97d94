"""Pairs made on the workers of a dask cluster, one of which is killed on the way."""

import os
import signal
import threading

import numpy as np
import psutil
import pytest
from small_casa import SMALL, needs_casa, processes_in, wait_for

from diffsky.simulation import PairStore, SkyPrior, simulate_pairs

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


def kill_a_worker_at_work(work, killed):
    """Kill the parent of the first CASA process that has a job."""

    def kill():
        for casa in processes_in(work):
            if "diffsky-casa-" in casa.cwd():
                killed.append((casa.ppid(), casa))
                os.kill(casa.ppid(), signal.SIGKILL)
                return True
        return False

    return kill


def test_a_killed_worker_loses_nothing(client, tmp_path):
    work, killed = tmp_path / "work", []
    work.mkdir()
    kill = kill_a_worker_at_work(work, killed)
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
    killer.join()
    (worker, casa) = killed[0]
    assert worker in workers
    assert not psutil.pid_exists(worker)
    assert wait_for(lambda: not casa.is_running(), limit=20)
    assert store.numbers() == list(range(N))
    assert not PairStore(store.path).damaged
    assert wait_for(lambda: not processes_in(work), limit=20)
    assert wait_for(lambda: not list(work.iterdir()), limit=20)
    here = simulate_pairs(PRIOR, SMALL, seed=9, n=1, store=tmp_path / "here", timeout=600)
    one, other = here.read(0), store.read(0)
    assert np.array_equal(one.dirty.data, other.dirty.data, equal_nan=True)
    assert one.parameters == other.parameters
