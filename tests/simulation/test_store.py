"""Stores of pairs: what goes in comes out, and damage is found."""

import io
import json
import pickle
import shutil
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
from stored_pairs import (
    PAIR,
    alter,
    assert_same_image,
    assert_same_pair,
    assert_same_table,
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
