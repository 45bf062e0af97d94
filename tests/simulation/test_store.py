"""Stores of pairs: what goes in comes out, whatever happens to writers and files."""

import errno
import io
import json
import os
import pickle
import random
import runpy
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
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from diffsky.exceptions import DiffskyWarning
from diffsky.simulation import PairStore

HELPER = Path(__file__).with_name("small_pairs.py")
ROOT = HELPER.parents[2]
make_pair = runpy.run_path(str(HELPER))["make_pair"]
IMAGES = ("dirty", "sky", "psf", "primary_beam")
PAIR = make_pair(0, size=32)


@pytest.fixture
def path(tmp_path):
    """Folder of a store of four pairs with one set-up."""
    store = PairStore(tmp_path / "store")
    for number in range(4):
        store.write(number, small(number))
    return store.path


def small(number):
    return make_pair(number, size=32)


def assert_same_image(one, other):
    assert_array_equal(one.data, other.data)
    assert one.data.dtype == np.float32
    assert (one.mask is None) == (other.mask is None)
    assert one.mask is None or np.array_equal(one.mask, other.mask)
    assert one.unit == other.unit
    assert one.wcs.array_shape == one.shape
    x, y = np.array([0, 10, 31]), np.array([31, 7, 0])
    separation = one.wcs.pixel_to_world(x, y).separation(other.wcs.pixel_to_world(x, y))
    assert separation.max() < 1 * u.uas


def assert_same_pair(one, other):
    for name in IMAGES:
        assert_same_image(getattr(one, name), getattr(other, name))
    assert_array_equal(one.uv, other.uv)
    assert_array_equal(one.weights, other.weights)
    assert one.parameters == other.parameters
    assert (one.beam.major, one.beam.minor, one.beam.pa) == (
        other.beam.major,
        other.beam.minor,
        other.beam.pa,
    )
    assert one.sky.meta["kernel_fwhm"] == other.sky.meta["kernel_fwhm"]
    assert_same_table(one.sources, other.sources)


def assert_same_table(one, other):
    assert one.colnames == other.colnames
    for name in one.colnames:
        if isinstance(other[name], SkyCoord):
            assert len(one[name]) == len(other[name])
            assert (one[name].separation(other[name].icrs) < 1 * u.uas).all()
        else:
            assert_array_equal(one[name], other[name])
            assert one[name].dtype == other[name].dtype
            assert one[name].unit == other[name].unit


def scratch_folders(path):
    return list(path.glob(".writing*"))


# Round trip


def test_round_trip(tmp_path):
    pair = replace(PAIR, parameters={"seed": 3, "array": "alma.cycle5.3", "pwv": 0.5, "x": None})
    assert PairStore(tmp_path / "new" / "store").write(12, pair)
    store = PairStore(tmp_path / "new" / "store", mode="r")
    assert store.numbers() == [12]
    found = store.read(12)
    assert_same_pair(found, pair)
    for key in ("frequency", "telescope", "pixel_scale"):
        assert found.dirty.meta[key] == pair.dirty.meta[key]
    assert found.dirty.meta["header"] == pair.dirty.meta["header"]
    assert found.measurement_set is None
    assert store.parameters(12) == pair.parameters


def test_reading_gives_arrays_of_its_own(path):
    """Changing what was read changes nothing for the next reader."""
    store = PairStore(path)
    first = store.read(0)
    first.psf.data[:], first.uv[:] = 0, 0
    assert_same_pair(store.read(1), small(1))


@pytest.fixture(scope="module")
def odd_store(tmp_path_factory):
    return PairStore(tmp_path_factory.mktemp("odd"))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=3).filter(lambda key: not key.startswith("__")), inner, max_size=3
        )
    ),
    max_leaves=5,
)
numbers = st.floats(allow_nan=True, allow_infinity=True)


def same(one, other):
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@settings(max_examples=30)
@given(
    rows=st.integers(0, 3),
    data=st.data(),
    parameters=st.dictionaries(st.sampled_from(["seed", "ü", "a b"]), plain),
    masked=st.lists(st.tuples(st.integers(0, 31), st.integers(0, 31)), max_size=20),
)
def test_odd_values(odd_store, rows, data, parameters, masked):
    """Masked pixels, tables without rows, names in any script, numbers that are none."""

    def draw(strategy):
        return data.draw(st.lists(strategy, min_size=rows, max_size=rows))

    names = draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
    sources = QTable(
        {
            "flux": np.array(draw(numbers)) * u.Jy,
            "sky_centroid": SkyCoord(
                draw(st.floats(0, 360, exclude_max=True)), draw(st.floats(-90, 90)), unit="deg"
            ),
            "major": np.array(draw(st.floats(width=32)), dtype=np.float32) * u.arcsec,
            "minor": np.array(draw(numbers)) * u.arcmin,
            "pa": np.array(draw(numbers)) * u.rad,
            "Name ☄": np.array(names, dtype=str),
            "kept": MaskedColumn(np.ones(rows, dtype=bool), mask=draw(st.booleans())),
        },
        meta={"about": names},
    )
    pixels, mask = PAIR.dirty.data.copy(), PAIR.dirty.mask.copy()
    for pixel in masked:
        mask[pixel] = True
    pixels[mask] = np.nan
    meta = PAIR.dirty.meta | {"observer": "ünïcode", "note": np.float32(2.5), "skipped": object()}
    dirty = CCDData(pixels, unit=PAIR.dirty.unit, wcs=PAIR.dirty.wcs, mask=mask, meta=meta)
    pair = replace(PAIR, sources=sources, dirty=dirty, parameters=parameters)
    number = len(odd_store)
    assert odd_store.write(number, pair)
    found = odd_store.read(number)
    assert same(found.parameters, parameters)
    assert_same_image(found.dirty, dirty)
    assert found.dirty.meta["observer"] == "ünïcode"
    assert found.dirty.meta["note"] == 2.5
    assert "skipped" not in found.dirty.meta
    assert_same_table(found.sources, sources)
    assert found.sources.meta == {"about": names}


def test_masked_values_are_nan(tmp_path):
    """Whatever lies under a mask."""
    mask = np.zeros((32, 32), dtype=bool)
    mask[3, 4] = True
    beam = CCDData(PAIR.primary_beam.data, unit="", wcs=PAIR.primary_beam.wcs, mask=mask)
    store = PairStore(tmp_path)
    store.write(0, replace(PAIR, primary_beam=beam))
    found = store.read(0).primary_beam
    assert np.isnan(found.data[3, 4])
    assert_array_equal(found.mask, mask)


def test_zarr_reads_it(path):
    import zarr

    group = zarr.open_group(path, mode="r")
    assert group.attrs["format"] == "diffsky-pairs"
    assert sorted(name for name, _ in group["pairs"].groups()) == [f"0000000{k}" for k in range(4)]
    pair = group["pairs/00000002"]
    assert_array_equal(pair["dirty"][...], small(2).dirty.data)
    assert pair["dirty"].dtype == pair["sky"].dtype == np.float32
    assert pair.attrs["parameters"]["seed"] == 2
    assert pair["dirty"].nbytes_stored() < pair["dirty"].nbytes


def test_set_ups_are_stored_once(tmp_path):
    store = PairStore(tmp_path)
    for number, uv_seed in enumerate([0, 0, 1, 0, 1]):
        store.write(number, make_pair(number, size=32, uv_seed=uv_seed))
    assert len(list((tmp_path / "setups").glob("*/"))) == 2
    for number, uv_seed in enumerate([0, 0, 1, 0, 1]):
        assert_same_pair(store.read(number), make_pair(number, size=32, uv_seed=uv_seed))


def test_pickled_store(path):
    """As it reaches a worker of dask."""
    store = PairStore(path)
    store.read(0)
    text = pickle.dumps(store)
    assert len(text) < 2000
    assert_same_pair(pickle.loads(text).read(1), small(1))


# Numbers


def test_first_one_stays(path):
    store = PairStore(path)
    assert not store.write(1, small(7))
    assert_same_pair(store.read(1), small(1))


def test_numbers(path):
    store = PairStore(path)
    store.write(np.int64(11), small(11))
    assert store.numbers() == [0, 1, 2, 3, 11]
    assert len(store) == 5
    assert 11 in store
    assert 4 not in store
    assert "pairs" not in store
    assert -1 not in store
    assert PairStore(path, mode="r").numbers() == store.numbers()
    assert "5 pairs" in repr(store)


def test_pairs_of_another_writer_are_seen(path):
    here, there = PairStore(path, mode="r"), PairStore(path)
    there.write(8, small(8))
    assert 8 in here
    assert_same_pair(here.read(8), small(8))


# Refusals


def test_no_store(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no store .*none"):
        PairStore(tmp_path / "none", mode="r")
    with pytest.raises(ValueError, match="is no store of pairs .*it holds nothing"):
        PairStore(tmp_path, mode="r")
    (tmp_path / "thesis.txt").write_text("...")
    for mode in ("a", "r"):
        with pytest.raises(ValueError, match="is no store of pairs .*thesis.txt"):
            PairStore(tmp_path, mode=mode)
        with pytest.raises(ValueError, match="is a file; expected the folder of a store"):
            PairStore(tmp_path / "thesis.txt", mode=mode)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_other_zarr_group(tmp_path):
    import zarr

    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(ValueError, match="is a zarr group, but no store of pairs"):
        PairStore(tmp_path / "other.zarr")


def test_other_version(path):
    marker = path / "zarr.json"
    marker.write_text(marker.read_text().replace('"version": 1', '"version": 2'))
    for mode in ("a", "r"):
        with pytest.raises(ValueError, match="format version 2; this diffsky .* version 1"):
            PairStore(path, mode=mode)


def test_broken_marker(path):
    (path / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match="zarr.json is not readable"):
        PairStore(path)


def test_mode(tmp_path, path):
    with pytest.raises(ValueError, match="mode is 'w'; expected 'a' .* or 'r'"):
        PairStore(tmp_path, mode="w")
    with pytest.raises(io.UnsupportedOperation, match="opened with mode='r'"):
        PairStore(path, mode="r").write(9, PAIR)


@pytest.mark.parametrize("number", [-1, 1.0, "1", True, None])
def test_number_refused(path, number):
    with pytest.raises(ValueError, match="number is .*; expected an int of 0 or more"):
        PairStore(path).write(number, PAIR)


def test_missing_number(path):
    store = PairStore(path)
    for read in (store.read, store.parameters):
        with pytest.raises(KeyError, match="there is no pair 5 in .*which has 4"):
            read(5)


def shifted():
    wcs = PAIR.dirty.wcs.deepcopy()
    wcs.wcs.crpix += 1
    return CCDData(PAIR.sky.data, unit="Jy/pix", wcs=wcs, meta=PAIR.sky.meta)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sky": PAIR.sky[:20]}, r"sky has the shape \(20, 32\)"),
        ({"sky": PAIR.psf}, "the unit Jy / beam"),
        ({"sky": shifted()}, "sky and the dirty image lie on different grids"),
        ({"sky": CCDData(PAIR.sky.data, unit="Jy/pix", wcs=PAIR.sky.wcs)}, "kernel_fwhm"),
        ({"dirty": PAIR.sky}, "convert"),
        ({"sources": PAIR.sources["id", "flux"]}, "expected also .*major"),
        ({"parameters": {"path": Path("a")}}, r"parameters\['path'\] is of type"),
        ({"parameters": {3: 4}}, "keys"),
    ],
)
def test_pair_refused(tmp_path, changes, message):
    store = PairStore(tmp_path)
    with pytest.raises((ValueError, TypeError), match=message):
        store.write(0, replace(PAIR, **changes))
    assert store.numbers() == []
    assert not scratch_folders(tmp_path)


def test_no_pair(tmp_path):
    with pytest.raises(TypeError, match="pair is of type CCDData; expected a SimulatedPair"):
        PairStore(tmp_path).write(0, PAIR.dirty)


# Damage


def truncate(file):
    file.write_bytes(file.read_bytes()[:-10])


def alter(file):
    text = bytearray(file.read_bytes())
    text[len(text) // 2] ^= 1
    file.write_bytes(text)


def add_chunk(file):
    shutil.copy(file, file.with_name("7"))


def alter_seed(node):
    node.write_text(node.read_text().replace('"seed": 2', '"seed": 5'))


def empty_folder(node):
    shutil.rmtree(node.parent)
    node.parent.mkdir()


def file_instead(node):
    shutil.rmtree(node.parent)
    node.parent.write_text("")


DAMAGE = {
    "truncated chunk": ("dirty/c/0/0", truncate, "dirty/c/0/0 is not what was written"),
    "altered chunk": ("sky/c/0/0", alter, "sky/c/0/0 is not what was written"),
    "missing chunk": ("sky/c/0/0", Path.unlink, "sky/c/0/0 is missing"),
    "another chunk": ("sky/c/0/0", add_chunk, "sky/c/0/7 does not belong to it"),
    "altered array": ("dirty/zarr.json", alter, "dirty/zarr.json is not what was written"),
    "missing attributes": ("zarr.json", Path.unlink, "zarr.json is missing"),
    "truncated attributes": ("zarr.json", truncate, "zarr.json is not readable"),
    "altered attributes": ("zarr.json", alter_seed, "zarr.json was altered"),
    "empty folder": ("zarr.json", empty_folder, "zarr.json is missing"),
    "file": ("zarr.json", file_instead, "zarr.json is missing"),
}


@pytest.mark.parametrize(("name", "damage", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_pair(path, name, damage, reason):
    """It is named, skipped, and can be written again; the others are as they were."""
    damage(path / "pairs" / "00000002" / name)
    with pytest.warns(DiffskyWarning, match=rf"1 of 4 pairs are damaged.*: 2 \({reason}\)"):
        store = PairStore(path)
    assert store.numbers() == [0, 1, 3]
    assert store.damaged == [2]
    assert 2 not in store
    with pytest.raises(ValueError, match=f"pair 2 of .* is damaged: {reason}; write it again"):
        store.read(2)
    assert store.write(2, small(2))
    assert store.damaged == []
    assert_same_pair(store.read(2), small(2))
    assert len(PairStore(path)) == 4
    assert not scratch_folders(path)


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda setup: alter(setup / "psf/c/0/0")])
def test_damaged_set_up(path, damage):
    """All its pairs are damaged; the first that is written again mends the others."""
    PairStore(path).write(9, make_pair(9, size=32, uv_seed=1))
    (own,) = (json.loads(n.read_text()) for n in path.glob("pairs/00000009/zarr.json"))
    (shared,) = (s for s in path.glob("setups/*/") if s.name != own["attributes"]["setup"])
    damage(shared)
    with pytest.warns(DiffskyWarning, match=f"4 of 5 .* 0 .in its set-up {shared.name[:8]}, "):
        store = PairStore(path)
    assert store.numbers() == [9]
    assert store.damaged == [0, 1, 2, 3]
    assert store.write(3, make_pair(3, size=32, uv_seed=1))  # this needs another set-up
    assert store.damaged == [0, 1, 2]
    assert_same_pair(store.read(3), make_pair(3, size=32, uv_seed=1))
    store.write(1, small(1))
    assert store.damaged == []
    for number in range(3):
        assert_same_pair(store.read(number), small(number))
    assert len(PairStore(path)) == 5


def test_set_up_that_vanishes_while_open(path):
    store = PairStore(path)
    (setup,) = (path / "setups").glob("*/")
    shutil.rmtree(setup)
    with pytest.raises(ValueError, match="pair 0 .* is damaged: in its set-up"):
        store.read(0)
    assert store.write(5, small(5))
    assert_same_pair(store.read(0), small(0))


def test_one_warning_for_all(path):
    store = PairStore(path)
    for number in range(4, 30):
        store.write(number, small(number))
    for number in range(3, 30):
        (path / "pairs" / f"{number:08d}" / "zarr.json").unlink()
    with pytest.warns(DiffskyWarning, match="27 of 30 pairs .* 3 .*, 22 .* and 7 more") as seen:
        store = PairStore(path, mode="r")
    assert len(seen) == 1
    assert seen[0].filename == __file__
    assert store.numbers() == [0, 1, 2]


def test_without_verification(path):
    alter(path / "pairs" / "00000001" / "dirty" / "c" / "0" / "0")
    store = PairStore(path, verify=False)
    assert store.numbers() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="pair 1 of .* is damaged"):
        store.read(1)
    assert store.numbers() == [0, 2, 3]


def test_hidden_files_do_no_harm(path):
    """Such as those that file systems and file managers leave."""
    (path / "pairs" / "00000001" / ".nfs0000").write_text("")
    (path / "pairs" / ".DS_Store").write_text("")
    (path / "pairs" / "notes").mkdir()
    assert len(PairStore(path)) == 4


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


def test_header_cards(tmp_path):
    """As they came with the image, comments included."""
    header = fits.Header([("OBSERVER", "Jansky", "of Holmdel"), ("FREQ", 2.3e11)])
    meta = PAIR.dirty.meta | {"header": header}
    dirty = CCDData(
        PAIR.dirty.data, unit="Jy/beam", wcs=PAIR.dirty.wcs, mask=PAIR.dirty.mask, meta=meta
    )
    store = PairStore(tmp_path)
    store.write(0, replace(PAIR, dirty=dirty))
    found = store.read(0).dirty.meta["header"]
    assert found == header
    assert found.comments["OBSERVER"] == "of Holmdel"
