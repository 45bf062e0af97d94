"""Distillation of an estimator: contracts, interruptions, and weights on disk."""

import json

import numpy as np
import pytest
import torch

from diffsky import DiffusionDeconvolver, NotFittedError
from diffsky.deconvolution import WorkingScale

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
PLAN = {"steps": 4, "batch_size": 2, "progress": False}
OPTIONS = {"n_samples": 3, "seed": 1, "primary_beam": 1.0}


class Pairs:
    """Smooth patches that follow from their numbers, without end."""

    def __init__(self, scale, *, interrupt_at=None):
        self.scale, self.interrupt_at, self.seen = scale, interrupt_at, []

    def __len__(self):
        return 0

    def describe(self):
        return {"made_by": "test"}

    def batch(self, numbers, device="cpu"):
        if self.interrupt_at in numbers:
            raise KeyboardInterrupt
        self.seen += numbers
        phases = torch.tensor([0.7 * k for k in numbers])[:, None, None]
        sky = 3 * (torch.arange(16.0)[:, None] / 4 + torch.arange(16.0) / 3 + phases).sin() ** 2
        condition = self.scale.condition(2 * sky, torch.ones_like(sky))
        return self.scale.scale_target(sky)[:, None], condition


@pytest.fixture
def pairs(tiny_preset):
    return Pairs(tiny_preset.scale)


@pytest.fixture
def teacher(untrained, tmp_path):
    """Function that loads the same weights again."""
    untrained.description_["training"] = {"pairs": {"largest_flux": 1e4}}
    untrained.save(tmp_path / "teacher")
    return lambda: load(tmp_path / "teacher")


def load(folder):
    return DiffusionDeconvolver.load(folder, device="cpu", precision="float32")


def weights_of(deconvolver):
    state = deconvolver.denoiser_.network.state_dict()
    return torch.cat([value.flatten() for value in state.values()]).clone()


def test_distilled_weights(teacher, pairs, dirty, tmp_path):
    deconvolver = teacher()
    deconvolver.description_["recalibration"] = {"of": "the teacher"}
    before = weights_of(deconvolver)
    assert deconvolver.distill(pairs, seed=3, **PLAN) is deconvolver
    assert pairs.seen == list(range(8))
    assert not torch.equal(weights_of(deconvolver), before)
    assert deconvolver.sampling_plan()["sampler"] == "consistency"
    # Neither checksum nor recalibration of the teacher.
    assert deconvolver.description_.keys() == {"name", "version", "preset", "training", "merits"}
    training = deconvolver.description_["training"]
    assert training["pairs"] == {"largest_flux": 1e4}  # the range that is trusted stays
    how = training["distillation"]
    assert (how["steps"], how["seed"], how["pairs"]) == (4, 3, {"made_by": "test"})
    assert how["teacher"]["name"] == "test"
    deconvolver.save(tmp_path / "student")
    loaded = load(tmp_path / "student")
    expected = deconvolver.sample(dirty(), **OPTIONS)
    found = loaded.sample(dirty(), **OPTIONS)
    np.testing.assert_array_equal(found.data, expected.data)
    assert (found.meta["weights"], found.meta["sampler"]) == ("test-distilled", "consistency")


@pytest.mark.parametrize("n_steps", [1, 2, 4])
def test_number_of_calls(teacher, pairs, dirty, n_steps):
    deconvolver = teacher().distill(pairs, **PLAN)
    deconvolver.n_steps = n_steps
    calls = []
    deconvolver.denoiser_.network.register_forward_pre_hook(lambda *_: calls.append(1))
    cube = deconvolver.sample(dirty(), **OPTIONS)
    assert len(calls) == n_steps
    assert np.isfinite(cube.data).all()
    assert np.abs(cube.data[0] - cube.data[1]).max() > 0


def test_samplers_are_not_mixed(teacher, pairs, dirty):
    deconvolver = teacher()
    deconvolver.sampler = "consistency"
    with pytest.raises(ValueError, match="'consistency' for weights 'test'; expected another, or"):
        deconvolver.sample(dirty(), **OPTIONS)
    deconvolver.sampler = None
    deconvolver.distill(pairs, **PLAN)
    deconvolver.sampler = "heun"
    with pytest.raises(ValueError, match="'heun' for weights 'test-distilled'; expected 'consist"):
        deconvolver.predict(dirty(), **OPTIONS)


def test_interrupted_and_resumed(teacher, tiny_preset, tmp_path):
    expected = weights_of(teacher().distill(Pairs(tiny_preset.scale), **PLAN))
    plan = {**PLAN, "checkpoint_dir": tmp_path / "run", "checkpoint_every": 1}
    deconvolver = teacher()
    before, description = weights_of(deconvolver), deconvolver.description_
    with pytest.raises(KeyboardInterrupt):
        deconvolver.distill(Pairs(tiny_preset.scale, interrupt_at=4), **plan)
    assert torch.equal(weights_of(deconvolver), before)
    assert deconvolver.description_ is description
    with pytest.raises(FileExistsError, match="pass resume=True"):
        deconvolver.distill(Pairs(tiny_preset.scale), **plan)
    rest = Pairs(tiny_preset.scale)
    deconvolver.distill(rest, **plan, resume=True)
    assert rest.seen == [4, 5, 6, 7]
    torch.testing.assert_close(weights_of(deconvolver), expected, rtol=1e-5, atol=1e-6)


def test_other_weights_do_not_resume_a_run(teacher, pairs, tmp_path):
    plan = {**PLAN, "checkpoint_dir": tmp_path / "run"}
    teacher().distill(pairs, **plan)
    other = teacher()
    with torch.no_grad():
        next(other.denoiser_.network.parameters()).add_(1e-3)
    with pytest.raises(ValueError, match="started from 'test', sha256"):
        other.distill(pairs, **plan, resume=True)
    noted = json.loads((tmp_path / "run" / "training-start.json").read_text())
    assert noted["name"] == "test"


def test_distilled_weights_are_not_distilled_again(teacher, pairs):
    deconvolver = teacher().distill(pairs, **PLAN)
    with pytest.raises(ValueError, match="'test-distilled' are distilled already"):
        deconvolver.distill(pairs, **PLAN)


@pytest.mark.parametrize(
    "options", [{"devices": 0}, {"num_nodes": 2}, {"strategy": "horovod"}, {"batch_size": 3}]
)
def test_processes_are_checked_first(teacher, pairs, options):
    plan = {"batch_size": 2, **options} | ({"devices": 2} if "batch_size" in options else {})
    with pytest.raises(ValueError, match=next(iter(options))):
        teacher().distill(pairs, **plan)
    assert pairs.seen == []


def test_the_first_of_several_processes_saves(teacher, pairs, tmp_path, monkeypatch):
    """As in the second of two, and then in the first."""
    asked = {}

    def train(*args, **options):
        asked.update(options)
        return {"steps": 4, "loss": 1.0}

    monkeypatch.setattr("diffsky.diffusion.distilling.train_denoiser", train)
    for is_first in (False, True):
        monkeypatch.setattr("diffsky.diffusion.estimator.is_writer", lambda first=is_first: first)
        several = {"devices": 2, "num_nodes": 3, "strategy": "ddp"}
        teacher().distill(pairs, **several).save(tmp_path / "student")
        assert (tmp_path / "student").exists() == is_first
        assert several.items() <= asked.items()


def test_preset_of_distilled_weights_is_not_trained_anew(teacher, pairs, tiny_preset, tmp_path):
    """New weights would be sampled as if they were distilled."""
    deconvolver = teacher()
    deconvolver.description_["preset"] = "custom"
    deconvolver.distill(pairs, **PLAN).save(tmp_path / "student")
    loaded, pairs.seen = load(tmp_path / "student"), []
    with pytest.raises(ValueError, match="preset has the sampler 'consistency', which weights fr"):
        loaded.fit(pairs, **PLAN)
    with pytest.raises(ValueError, match="are distilled; expected those that they were distilled"):
        loaded.fit(pairs, warm_start=True, **PLAN)
    assert pairs.seen == []
    assert loaded.sampling_plan()["sampler"] == "consistency"
    loaded.preset = tiny_preset
    assert loaded.fit(pairs, **PLAN).sampling_plan()["sampler"] == "euler"


def test_refused(teacher, pairs, monkeypatch):
    with pytest.raises(NotFittedError):
        DiffusionDeconvolver().distill(pairs)
    with pytest.raises(ValueError, match="steps is 0; expected 1 or more"):
        teacher().distill(pairs, steps=0)
    pairs.scale = WorkingScale(gamma=3.0)
    with pytest.raises(ValueError, match=r"pairs have WorkingScale\(.*gamma=3.0"):
        teacher().distill(pairs)


def test_bundled_distilled_weights(dirty):
    """One network call a sample; a source of S/N 20 on the pixels of the training."""
    deconvolver = DiffusionDeconvolver.from_pretrained("alma-band6-distilled", device="cpu")
    calls = []
    deconvolver.denoiser_.network.register_forward_pre_hook(lambda *_: calls.append(1))
    image = dirty([(44.3, 51.6, 2e-3)], rms=1e-4)
    _, catalog = deconvolver.predict(image, primary_beam=1.0, rms=1e-4, n_samples=8, seed=1)
    brightest = catalog[catalog["snr"].argmax()]
    assert len(calls) == 1
    assert abs(brightest["x_centroid"] - 44.3) < 1
    assert abs(brightest["y_centroid"] - 51.6) < 1
    assert abs(brightest["flux"].to_value("Jy") / 2e-3 - 1) < 0.35
