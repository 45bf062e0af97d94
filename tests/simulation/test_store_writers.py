"""Stores of pairs, whatever happens to their writers: several, killed, or on a full disk."""

import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from stored_pairs import (
    HELPER,
    ROOT,
    alter,
    assert_same_image,
    assert_same_pair,
    make_pair,
    scratch_folders,
    small,
)

from diffsky.exceptions import DiffskyWarning
from diffsky.simulation import PairStore


@pytest.fixture
def path(tmp_path):
    """Folder of a store of four pairs with one set-up."""
    store = PairStore(tmp_path / "store")
    for number in range(4):
        store.write(number, small(number))
    return store.path


# Writers that die


def leave(path, host, process, age=0):
    folder = path / f".writing-{host}-{process}-{uuid.uuid4().hex}"
    (folder / "00000009" / "dirty").mkdir(parents=True)
    os.utime(folder, (time.time() - age,) * 2)
    return folder


def dead_process():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_leftovers(path):
    here = socket.gethostname()
    dead = leave(path, here, dead_process())
    reused = leave(path, here, os.getpid(), age=1e7)  # from before this process began
    old = leave(path, "other-host", 1, age=2 * 86400)
    alive, recent = leave(path, here, os.getpid()), leave(path, "other-host", 1)
    PairStore(path, mode="r")
    assert dead.exists()
    store = PairStore(path)
    assert not any(folder.exists() for folder in (dead, reused, old))
    assert alive.exists()
    assert recent.exists()
    assert store.numbers() == [0, 1, 2, 3]


def run_python(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


DIES_BEFORE_THE_LAST_STEP = """
import os, runpy, signal, sys
rename = os.rename
def killed(source, target):
    if str(target).endswith("00000001"):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.rename = killed
runpy.run_path(sys.argv[1])["write_pairs"](sys.argv[2], 0, 3)
"""


def test_killed_before_the_last_step(tmp_path):
    """A pair that is written, but not in its place, is none."""
    with run_python("-c", DIES_BEFORE_THE_LAST_STEP, HELPER, tmp_path / "store") as writer:
        output, errors = writer.communicate(timeout=300)
    assert writer.returncode == -signal.SIGKILL, errors
    assert len(scratch_folders(tmp_path / "store")) == 1
    store = PairStore(tmp_path / "store")
    assert store.numbers() == [0]
    assert not scratch_folders(store.path)
    assert store.write(1, make_pair(1))
    assert_same_pair(store.read(1), make_pair(1))


@pytest.mark.slow
def test_hundred_pairs_with_kills(tmp_path):
    """Killed twice at any moment, resumed, and read: every pair once, and as it should be."""
    path, chance = tmp_path / "store", random.Random(2)
    for count in (20, 45):
        with run_python(HELPER, path, 0, 100) as writer:
            for line in writer.stdout:
                if int(line.split()[0]) >= count:
                    time.sleep(chance.uniform(0, 0.1))
                    writer.kill()
                    break
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = PairStore(path).numbers()
    assert 40 < len(before) < 100
    times = {n: os.stat(path / "pairs" / f"{n:08d}" / "zarr.json").st_mtime_ns for n in before}
    with run_python(HELPER, path, 0, 100) as writer:
        output, errors = writer.communicate(timeout=600)
    assert writer.returncode == 0, errors
    made = [int(line.split()[0]) for line in output.splitlines()]
    assert sorted(before + made) == list(range(100))
    store = PairStore(path, mode="r")
    assert store.numbers() == list(range(100))
    for number, stamp in times.items():
        assert os.stat(path / "pairs" / f"{number:08d}" / "zarr.json").st_mtime_ns == stamp
    assert len(list((path / "setups").glob("*/"))) == 1
    assert not scratch_folders(path)
    seeds = [store.read(number).parameters["seed"] for number in range(100)]
    assert seeds == list(range(100))
    for number in (0, before[-1], made[0], 99):
        assert_same_pair(store.read(number), make_pair(number))


# Several writers


def test_two_processes_with_the_same_numbers(tmp_path):
    path = tmp_path / "store"
    writers = [run_python(HELPER, path, 0, 25) for _ in range(2)]
    outputs = [writer.communicate(timeout=300) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], outputs
    lines = [line.split() for output, _ in outputs for line in output.splitlines()]
    stored = sorted(int(number) for number, was_stored, *_ in lines if was_stored == "1")
    assert stored == list(range(25))
    store = PairStore(path, mode="r")
    assert store.numbers() == list(range(25))
    assert len(list((path / "setups").glob("*/"))) == 1
    assert not scratch_folders(path)
    for number in (0, 12, 24):
        assert_same_pair(store.read(number), make_pair(number))


def test_threads(tmp_path):
    """Eight at a time, two of them with the same number; both stores make the folder."""
    pairs = [small(number) for number in range(6)]

    def write(job):
        return PairStore(tmp_path / "store").write(job % 6, pairs[job % 6])

    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(write, range(12)))
    assert sum(stored) == 6
    store = PairStore(tmp_path / "store")
    for number in range(6):
        assert_same_pair(store.read(number), pairs[number])
    assert not scratch_folders(store.path)


def test_two_writers_mend_one_pair(path):
    alter(path / "pairs" / "00000002" / "dirty" / "c" / "0" / "0")
    with pytest.warns(DiffskyWarning, match="1 of 4"):
        one = PairStore(path)
    with pytest.warns(DiffskyWarning, match="1 of 4"):
        other = PairStore(path)
    assert one.write(2, small(2))
    assert not other.write(2, small(3))
    assert other.damaged == []
    assert_same_pair(other.read(2), small(2))


def test_a_pair_mended_between_two_looks_at_it_stays(path, monkeypatch):
    """One writer finds it damaged, another mends it, and the first is killed right after."""
    alter(path / "pairs" / "00000002" / "dirty" / "c" / "0" / "0")
    with pytest.warns(DiffskyWarning, match="1 of 4"):
        one, other = PairStore(path), PairStore(path)
    rename, asides = os.rename, []

    def rename_after_the_other(source, target):
        if "damaged-" in str(target) and not asides:
            asides.append(target)
            monkeypatch.setattr(os, "rename", rename)
            assert other.write(2, small(2))
            monkeypatch.setattr(os, "rename", rename_after_the_other)
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_after_the_other)
    assert not one.write(2, small(3))
    assert asides
    assert_same_pair(PairStore(path).read(2), small(2))


# Disks that are full


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root and the command mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"mounting is not permitted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def write_many(store, pair):
    """Pairs of growing numbers, with parameters that take space."""
    noise = np.random.default_rng(0)
    for number in range(200):
        store.write(number, replace(pair, parameters={"noise": noise.bytes(5000).hex()}))


def test_full_disk(small_disk):
    store = PairStore(small_disk / "store")
    pair = make_pair(0)
    with pytest.raises(OSError, match="cannot store pair [0-9]+ in .*store") as caught:
        write_many(store, pair)
    number = len(store)
    assert caught.value.errno == errno.ENOSPC
    assert f"cannot store pair {number} in {store.path}: No space" in str(caught.value)
    assert store.numbers() == list(range(number))
    assert not scratch_folders(store.path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(PairStore(store.path)) == number
    assert_same_image(store.read(number - 1).dirty, pair.dirty)
    shutil.rmtree(store.path / "pairs" / "00000000")
    assert store.write(number, pair)
    assert_same_pair(store.read(number), pair)


FILES_THAT_MUST_NOT_GROW = """
import resource, runpy, sys
from diffsky.simulation import PairStore
make_pair = runpy.run_path(sys.argv[1])["make_pair"]
store = PairStore(sys.argv[2])
store.write(0, make_pair(0))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
try:
    store.write(1, make_pair(1))
except OSError as error:
    print(error.errno, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_file_too_large(tmp_path):
    with run_python("-c", FILES_THAT_MUST_NOT_GROW, HELPER, tmp_path / "store") as writer:
        output, errors = writer.communicate(timeout=300)
    assert writer.returncode == 0, errors
    assert output.startswith(f"{errno.EFBIG} ")
    assert f"cannot store pair 1 in {tmp_path / 'store'}: File too large" in output
    store = PairStore(tmp_path / "store")
    assert store.numbers() == [0]
    assert not scratch_folders(store.path)
    assert_same_pair(store.read(0), make_pair(0))
