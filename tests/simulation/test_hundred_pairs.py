"""A data set of a hundred pairs by real CASA: made, killed in the middle, resumed and read."""

import os

import numpy as np
import pytest
from small_casa import SMALL, needs_casa, processes_in, start_python, wait_for

from diffsky.simulation import PairDataset, PairStore, SkyPrior, simulate_pairs

PRIOR = SkyPrior(n_sources=(2, 4), flux=(0.01, 0.05), half_width=4.0)
N, KILLED_AT = 100, 40
WRITER = """
from small_casa import SMALL
from diffsky.simulation import SkyPrior, simulate_pairs
prior = SkyPrior(n_sources=(2, 4), flux=(0.01, 0.05), half_width=4.0)
simulate_pairs(
    prior, SMALL, seed=6, n={n}, store={store!r}, workers=2, timeout=600, work_dir={work!r}
)
"""


@needs_casa
@pytest.mark.slow
def test_made_killed_resumed_and_read(tmp_path):
    work, path = tmp_path / "work", tmp_path / "store"
    work.mkdir()
    process = start_python(WRITER.format(n=N, store=str(path), work=str(work)))
    assert wait_for(lambda: len(list(path.glob("pairs/0*"))) >= KILLED_AT, limit=900)
    process.kill()
    process.communicate(timeout=60)
    assert wait_for(lambda: not list(work.iterdir()), limit=60)
    assert not processes_in(work)
    before = PairStore(path, mode="r").numbers()
    assert KILLED_AT <= len(before) < N
    stamps = {number: stamp_of(path, number) for number in before}

    store = simulate_pairs(
        PRIOR, SMALL, seed=6, n=N, store=path, workers=2, timeout=600, work_dir=work
    )
    assert store.numbers() == list(range(N))
    assert not PairStore(path).damaged
    assert {number: stamp_of(path, number) for number in before} == stamps
    assert list(work.iterdir()) == []

    pairs = [store.read(number) for number in range(N)]
    assert len({pair.parameters["seed"] for pair in pairs}) == N
    noise = np.array([np.nanmedian(np.abs(pair.dirty.data)) for pair in pairs])
    assert len(np.unique(noise)) == N
    assert all(2 <= len(pair.sources) <= 4 for pair in pairs)
    target, condition = PairDataset(store, patch_size=16).batch([0, N - 1], "cpu")
    assert target.shape[0] == condition.shape[0] == 2
    assert np.isfinite(target.numpy()).all()


def stamp_of(path, number):
    """When a pair was written."""
    return os.stat(path / "pairs" / f"{number:08d}" / "zarr.json").st_mtime_ns
