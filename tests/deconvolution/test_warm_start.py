"""Training that goes on from present weights, and who saves what several processes trained."""

import json

import numpy as np
import pytest
import torch

from diffsky import DiffusionDeconvolver, NotFittedError
from diffsky.deconvolution import WorkingScale
from diffsky.diffusion import estimator as estimator_module

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


class Pairs:
    """A point source in the middle of a patch, as bright as its number says."""

    def __init__(self, scale, *, interrupt_at=None):
        self.scale, self.interrupt_at, self.seen = scale, interrupt_at, []

    def __len__(self):
        return 0

    def describe(self):
        return {"largest_flux": 40.0}

    def batch(self, numbers, device="cpu"):
        if self.interrupt_at in numbers:
            raise KeyboardInterrupt
        self.seen += numbers
        sky = torch.zeros(len(numbers), 16, 16)
        sky[:, 8, 8] = torch.tensor(numbers) % 40
        return self.scale.scale_target(sky)[:, None], self.scale.condition(sky, sky * 0 + 1)


def weights_of(deconvolver):
    state = deconvolver.denoiser_.network.state_dict()
    return np.concatenate([value.numpy().ravel() for value in state.values()])


@pytest.fixture
def pairs(tiny_preset):
    return Pairs(tiny_preset.scale)


@pytest.fixture
def trained(untrained):
    """Weights with a past."""
    untrained.description_ = {
        "name": "alma",
        "version": 3,
        "preset": "tiny",
        "training": {"steps": 70, "pairs": {"largest_flux": 9.0}},
        "merits": {"f1": 0.5},
    }
    return untrained


def test_goes_on_from_present_weights(trained, pairs, tmp_path):
    """One step with next to no learning rate leaves them where they were."""
    before, preset = weights_of(trained), trained.preset_
    trained.preset = "no such preset"
    options = {"steps": 1, "learning_rate": 1e-9, "progress": False}
    assert trained.fit(pairs, warm_start=True, **options) is trained
    np.testing.assert_allclose(weights_of(trained), before, rtol=0, atol=1e-7)
    assert trained.preset_ is preset
    about = trained.description_
    assert (about["name"], about["version"], about["preset"]) == ("unnamed", 1, "tiny")
    assert about["merits"] == {}
    assert about["training"]["steps"] == 1
    assert about["training"]["pairs"] == {"largest_flux": 40.0}
    origin = {"name": "alma", "version": 3, "steps": 70, "pairs": {"largest_flux": 9.0}}
    assert about["training"]["started_from"] == origin
    trained.fit(pairs, warm_start=True, **options)
    assert trained.description_["training"]["started_from"]["started_from"] == origin
    trained.save(tmp_path / "more", name="mine")
    stored = json.loads((tmp_path / "more" / "description.json").read_text())
    assert stored["training"]["started_from"]["started_from"]["name"] == "alma"


def test_without_it_training_starts_anew(trained, pairs):
    before = weights_of(trained)
    trained.fit(pairs, steps=1, learning_rate=1e-9, progress=False)
    assert np.abs(weights_of(trained) - before).max() > 0.1
    assert "started_from" not in trained.description_["training"]


def test_needs_weights(tiny, pairs):
    with pytest.raises(NotFittedError, match=r"call fit\(\)"):
        DiffusionDeconvolver(tiny).fit(pairs, warm_start=True)
    assert pairs.seen == []


def test_refuses_pairs_of_another_scale(trained):
    other = Pairs(WorkingScale(pixels_per_beam=5.0))
    with pytest.raises(ValueError, match=r"pairs have .*5\.0.*preset 'tiny' has .*4\.25"):
        trained.fit(other, warm_start=True)
    assert other.seen == []


def test_interrupted_run_leaves_the_weights_and_resumes(trained, pairs, tiny_preset, tmp_path):
    before = weights_of(trained)
    plan = {"steps": 4, "warm_start": True, "checkpoint_dir": tmp_path / "run", "progress": False}
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        trained.fit(Pairs(tiny_preset.scale, interrupt_at=5), **plan)
    np.testing.assert_array_equal(weights_of(trained), before)
    trained.fit(pairs, resume=True, **plan)
    assert pairs.seen == list(range(4, 8))
    assert trained.description_["training"]["started_from"]["name"] == "alma"


def test_other_weights_do_not_resume_a_run(trained, pairs, tmp_path):
    plan = {"steps": 2, "checkpoint_dir": tmp_path / "run", "progress": False}
    trained.fit(pairs, warm_start=True, **plan)
    seen = list(pairs.seen)
    with pytest.raises(ValueError, match="started from 'alma', .*; this one would start from '"):
        trained.fit(pairs, warm_start=True, resume=True, **plan)
    with pytest.raises(ValueError, match="would start from random weights: load those weights"):
        trained.fit(pairs, resume=True, **plan)
    with pytest.raises(FileExistsError, match="resume=True to continue"):
        trained.fit(pairs, warm_start=True, **plan)
    assert pairs.seen == seen


def test_numbers_are_checked_before_a_folder_is_made(trained, pairs, tmp_path):
    with pytest.raises(ValueError, match="steps is 0"):
        trained.fit(pairs, warm_start=True, steps=0, checkpoint_dir=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_are_saved(trained, pairs, tmp_path):
    """As a loop over an array gives them: the training is over when it shows."""
    plan = {"steps": np.int64(1), "batch_size": np.int32(2), "learning_rate": np.float32(1e-3)}
    trained.fit(pairs, seed=np.int64(3), progress=False, **plan).save(tmp_path / "weights")
    stored = json.loads((tmp_path / "weights" / "description.json").read_text())["training"]
    assert (stored["steps"], stored["batch_size"], stored["seed"]) == (1, 2, 3)
    assert stored["learning_rate"] == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 2.5), ("batch_size", 2.0), ("seed", 1.5), ("seed", -1), ("checkpoint_every", 0)],
)
def test_numbers_are_checked_first(trained, pairs, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; expected [01] or more, an integer"):
        trained.fit(pairs, **{name: value})
    assert pairs.seen == []


@pytest.mark.parametrize(
    "options", [{"devices": 0}, {"num_nodes": 0}, {"strategy": "horovod"}, {"batch_size": 3}]
)
def test_processes_are_checked_first(trained, pairs, monkeypatch, options):
    monkeypatch.setattr("diffsky.diffusion.training._make_trainer", None)
    if "batch_size" in options:
        options = {**options, "devices": 2}
    with pytest.raises(ValueError, match=next(iter(options))):
        trained.fit(pairs, **options)
    assert pairs.seen == []


def test_the_first_of_several_processes_saves(trained, pairs, tmp_path, monkeypatch):
    """As in the second of two, whose training is that of tests/diffusion/test_processes.py."""
    monkeypatch.setattr(estimator_module, "is_writer", lambda: False)
    alone = {"devices": 1}
    trained.fit(pairs, steps=1, progress=False, **alone)
    trained.save(tmp_path / "alone", name="mine")
    assert (tmp_path / "alone" / "description.json").exists()

    def train(*args, **options):
        return {"steps": 1, "loss": 1.0}

    monkeypatch.setattr(estimator_module, "train_denoiser", train)
    trained.fit(pairs, steps=1, devices=2)
    trained.save(tmp_path / "two", name="shared")
    assert not (tmp_path / "two").exists()
    assert trained.description_["name"] == "shared"
    monkeypatch.setattr(estimator_module, "is_writer", lambda: True)
    trained.fit(pairs, steps=1, devices=2)
    trained.save(tmp_path / "two", name="shared")
    assert (tmp_path / "two" / "description.json").exists()
