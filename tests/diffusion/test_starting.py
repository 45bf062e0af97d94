"""Folders of checkpoints that know what their run started from."""

import pytest
import torch
from torch import nn

from diffsky.diffusion.starting import check_start, weights_checksum

START = {"method": "fit", "name": "a", "sha256": "1" * 64}
OTHERS = [
    {**START, "sha256": "2" * 64, "name": "b"},
    {**START, "method": "distill"},
    None,
]


def test_checksum_knows_the_weights():
    torch.manual_seed(0)
    one, other = nn.Linear(3, 3), nn.Linear(3, 3)
    assert weights_checksum(one) == weights_checksum(one) != weights_checksum(other)
    other.load_state_dict(one.state_dict())
    assert weights_checksum(one) == weights_checksum(other)


@pytest.mark.parametrize("other", OTHERS)
def test_folder_remembers_what_a_run_started_from(tmp_path, other):
    folder = tmp_path / "run"
    check_start(folder, other)  # stopped before its first checkpoint
    check_start(folder, START)
    (folder / "last.ckpt").touch()
    check_start(folder, START)
    with pytest.raises(ValueError, match=r"from 'a', sha256 1{12}, with fit\(\); this one"):
        check_start(folder, other)
    check_start(folder, START)


@pytest.mark.parametrize("noted", [True, False])
def test_run_from_random_weights(tmp_path, noted):
    if noted:
        check_start(tmp_path, None)
    (tmp_path / "last.ckpt").touch()
    check_start(tmp_path, None)
    before = "random weights" if noted else "what no training-start.json tells"
    with pytest.raises(ValueError, match=f"from {before}; this one would start from 'a'"):
        check_start(tmp_path, START)


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_start(None, START)
    assert not list(tmp_path.iterdir())


def test_damaged_note_is_named(tmp_path):
    check_start(tmp_path, START)
    (tmp_path / "last.ckpt").touch()
    (tmp_path / "training-start.json").write_text("{")
    with pytest.raises(ValueError, match="training-start.json is damaged"):
        check_start(tmp_path, START)
