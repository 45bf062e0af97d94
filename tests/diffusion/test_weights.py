"""Weights on disk: whole, or refused."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsky.diffusion import UNet
from diffsky.diffusion.weights import (
    bundled_weights,
    load_into,
    load_weights,
    resolve_weights,
    save_weights,
)
from diffsky.exceptions import WeightsError

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTION = {
    "name": "test",
    "version": "1.0",
    "preset": "small",
    "recipe": {"network": {"type": "unet", "in_channels": 1}},
    "training": {"seed": 0},
    "merit": {"f1": 0.5},
}
RECORD = "description.json"


def make_network(seed=0, channels=(4,)):
    torch.manual_seed(seed)
    network = UNet(1, channels=channels, blocks=1, width=4)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network


def tensors_of(folder):
    """The file that holds the tensors."""
    (path,) = folder.glob("*.safetensors")
    return path


@pytest.fixture
def folder(tmp_path):
    save_weights(tmp_path / "weights", make_network(), DESCRIPTION)
    return tmp_path / "weights"


def change_record(folder, **changes):
    record = {**json.loads((folder / RECORD).read_text()), **changes}
    record = {key: value for key, value in record.items() if value is not ...}
    (folder / RECORD).write_text(json.dumps(record))


def same(network, tensors):
    state = network.state_dict()
    return state.keys() == tensors.keys() and all(torch.equal(state[k], tensors[k]) for k in state)


def test_round_trip(folder):
    tensors, description = load_weights(folder)
    assert same(make_network(), tensors)
    other = make_network(seed=1)
    load_into(other, tensors, "test")
    assert same(other, tensors)
    assert DESCRIPTION.items() <= description.items()
    assert description["format"] == 1
    assert description["sha256"] == hashlib.sha256(tensors_of(folder).read_bytes()).hexdigest()
    assert {path.name for path in folder.iterdir()} == {RECORD, tensors_of(folder).name}


def test_half(tmp_path):
    for half in (True, False):
        save_weights(tmp_path / str(half), make_network(), DESCRIPTION, half=half)
    small, full = load_weights(tmp_path / "True")[0], load_weights(tmp_path / "False")[0]
    assert all(value.dtype == torch.float32 for value in small.values())
    for name, value in full.items():
        torch.testing.assert_close(small[name], value, rtol=1e-3, atol=1e-6)
    sizes = [tensors_of(tmp_path / str(half)).stat().st_size for half in (True, False)]
    assert sizes[0] < 0.8 * sizes[1]


def test_files_are_readable_by_others(folder):
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in folder.iterdir())


def test_existing_weights(folder):
    with pytest.raises(FileExistsError, match="holds weights; pass overwrite=True"):
        save_weights(folder, make_network(seed=1), DESCRIPTION)
    assert same(make_network(), load_weights(folder)[0])
    save_weights(folder, make_network(seed=1), DESCRIPTION, overwrite=True)
    assert same(make_network(seed=1), load_weights(folder)[0])


# Damage


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A folder of weights and the bytes of its tensors."""
    folder = tmp_path_factory.mktemp("damaged")
    save_weights(folder, make_network(), DESCRIPTION)
    return folder, tensors_of(folder).read_bytes()


@settings(max_examples=20)
@given(data=st.data())
def test_truncated(damaged, data):
    folder, content = damaged
    tensors_of(folder).write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(WeightsError, match="safetensors has sha256 .* truncated or was altered"):
        load_weights(folder)


@settings(max_examples=20)
@given(data=st.data())
def test_one_byte_altered(damaged, data):
    folder, content = damaged
    altered = bytearray(content)
    altered[data.draw(st.integers(0, len(altered) - 1))] ^= data.draw(st.integers(1, 255))
    tensors_of(folder).write_bytes(altered)
    with pytest.raises(WeightsError, match="truncated or was altered"):
        load_weights(folder)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("known", [False, True])
def test_pickle_in_place_of_tensors(tmp_path, folder, known):
    """Refused by its checksum, and where that is right, by its format; never run."""
    data = pickle.dumps(Payload(tmp_path / "ran"))
    path = tensors_of(folder)
    old, new = (hashlib.sha256(content).hexdigest() for content in (path.read_bytes(), data))
    path.write_bytes(data)
    if known:
        change_record(folder, sha256=new)
        path.rename(folder / path.name.replace(old[:12], new[:12]))  # should the name have it
    with pytest.raises(WeightsError, match="is not a safetensors file" if known else "altered"):
        load_weights(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "key", ["format", "name", "version", "preset", "recipe", "training", "sha256"]
)
def test_key_missing(folder, key):
    change_record(folder, **{key: ...})
    with pytest.raises(WeightsError, match=f"{RECORD} lacks {key}; expected a weights description"):
        load_weights(folder)


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_other_format(folder, number):
    change_record(folder, format=number)
    with pytest.raises(WeightsError, match=f"has format {number}; expected 1"):
        load_weights(folder)


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "[]", '"text"', "5", "null", "\udcff"])
def test_description_is_something_else(folder, text):
    (folder / RECORD).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(WeightsError, match=RECORD):
        load_weights(folder)


@pytest.mark.parametrize("checksum", [None, 5, "", []])
def test_checksum_is_something_else(folder, checksum):
    change_record(folder, sha256=checksum)
    with pytest.raises(WeightsError, match="sha256"):
        load_weights(folder)


def test_file_missing(folder):
    tensors_of(folder).unlink()
    with pytest.raises(FileNotFoundError, match=r"has no file .*\.safetensors"):
        load_weights(folder)
    (folder / RECORD).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no file {RECORD}"):
        load_weights(folder)


@pytest.mark.parametrize("channels", [(6,), (4, 4)])
def test_other_architecture(folder, channels):
    network = make_network(channels=channels)
    with pytest.raises(WeightsError, match="test was made for another network .*: .+"):
        load_into(network, load_weights(folder)[0], "test")


# Writing that fails

# One interpreter for all: importing torch takes longer than the rest.
FAILING = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from test_weights import DESCRIPTION, make_network
from diffsky.diffusion.weights import save_weights

def kill_at(move):
    calls, replace = [], os.replace
    def counted(*args):
        calls.append(1)
        if len(calls) == move:
            os.kill(os.getpid(), 9)
        replace(*args)
    os.replace = counted

def fill_disk():  # a limit on the size of files stands for a disk that is full
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

faults = {"first": lambda: kill_at(1), "second": lambda: kill_at(2), "full": fill_disk}
for name, fault in faults.items():
    if os.fork() == 0:
        fault()
        new = {**DESCRIPTION, "name": "new"}
        save_weights(f"{sys.argv[2]}/{name}", make_network(seed=1), new, overwrite=True)
        os._exit(0)
    print(name, os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Folders of weights that could not be replaced, and how the attempts ended."""
    parent = tmp_path_factory.mktemp("failed")
    for name in ("first", "second", "full"):
        save_weights(parent / name, make_network(), DESCRIPTION)
    result = subprocess.run(
        [sys.executable, "-c", FAILING, str(Path(__file__).parent), str(parent)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return parent, dict(line.split() for line in result.stdout.splitlines()), result.stderr


@pytest.mark.parametrize("move", ["first", "second"])
def test_killed_before_a_move_leaves_the_old_weights(failed, move):
    parent, exits, _ = failed
    assert exits[move] == "-9"
    tensors, description = load_weights(parent / move)
    assert description["name"] == "test"
    assert same(make_network(), tensors)


def test_full_disk_leaves_the_old_weights(failed):
    parent, exits, printed = failed
    assert exits["full"] not in ("0", "-9")
    assert "OSError" in printed
    assert same(make_network(), load_weights(parent / "full")[0])
    assert not list((parent / "full").glob(".*"))  # no temporary files


def test_description_that_is_not_json(tmp_path, folder):
    bad = {**DESCRIPTION, "recipe": object()}
    with pytest.raises(TypeError):
        save_weights(folder, make_network(seed=1), bad, overwrite=True)
    assert same(make_network(), load_weights(folder)[0])
    with pytest.raises(TypeError):
        save_weights(tmp_path / "new", make_network(), bad)
    assert not list(tmp_path.glob("new/*"))


def test_folder_is_a_file(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for path in (tmp_path / "file", tmp_path / "file" / "weights"):
        with pytest.raises(OSError, match="file"):
            save_weights(path, make_network(), DESCRIPTION)
    assert (tmp_path / "file").read_text() == "no folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_read_only_folder(folder):
    folder.chmod(0o500)
    with pytest.raises(PermissionError, match="weights"):
        save_weights(folder, make_network(seed=1), DESCRIPTION, overwrite=True)
    assert same(make_network(), load_weights(folder)[0])


# Finding weights


def test_resolve(folder):
    assert resolve_weights(folder) == folder
    assert resolve_weights(str(folder)) == folder
    for name in bundled_weights():
        assert load_weights(resolve_weights(name))[1]["name"] == name


def test_resolve_unknown():
    with pytest.raises(
        FileNotFoundError, match="no weights 'nothing'; expected a folder with"
    ) as e:
        resolve_weights("nothing")
    assert all(name in str(e.value) for name in bundled_weights())
