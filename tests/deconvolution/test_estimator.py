"""DiffusionDeconvolver: options, faults, training, and weights on disk."""

import inspect
import json

import numpy as np
import pytest
import torch
from astropy import units as u
from numpy.testing import assert_array_equal

from diffsky import DiffusionDeconvolver, NotFittedError, WeightsError
from diffsky.deconvolution import WorkingScale

SOURCES = [(40.3, 50.7, 0.1), (70.2, 30.1, 0.05)]
# Lightning and the torch of the day; nothing that a test of this module could mend.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
OPTIONS = {"n_samples": 3, "seed": 1, "primary_beam": 1.0}


class Pairs:
    """Point sources on a patch, their dirty image that of a Gaussian beam without noise."""

    def __init__(self, scale, blob, *, interrupt_at=None):
        self.scale, self.blob, self.interrupt_at, self.seen = scale, blob, interrupt_at, []

    def __len__(self):
        return 0

    def describe(self):
        return {"made_by": "test"}

    def batch(self, numbers, device="cpu"):
        if self.interrupt_at is not None and self.interrupt_at in numbers:
            raise KeyboardInterrupt
        self.seen += numbers
        images = []
        for k in numbers:
            x, y = np.random.default_rng(k).uniform(4, 12, 2)
            sky = self.blob((16, 16), x, y, 1.7, 20.0)
            images.append([sky, self.blob((16, 16), x, y, 4.25, 20.0 * 20), np.ones((16, 16))])
        sky, dirty, gain = torch.tensor(np.array(images), dtype=torch.float32).unbind(1)
        return self.scale.scale_target(sky)[:, None], self.scale.condition(dirty, gain)


@pytest.fixture
def pairs(tiny_preset, blob):
    return Pairs(tiny_preset.scale, blob)


def fit(name, pairs, **options):
    deconvolver = DiffusionDeconvolver(name, device="cpu", precision="float32")
    return deconvolver.fit(pairs, progress=False, **options)


def weights_of(deconvolver):
    return {k: v.clone() for k, v in deconvolver.denoiser_.network.state_dict().items()}


def assert_same_weights(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, **tolerance)


def test_constructor_stores_keywords_unchanged():
    given = {
        "preset": "no such preset",
        "device": "no such device",
        "precision": object(),
        "compile": True,
        "sampler": ["heun"],
        "n_steps": -3,
    }
    deconvolver = DiffusionDeconvolver(**given)
    assert vars(deconvolver).keys() == given.keys()
    assert all(getattr(deconvolver, name) is value for name, value in given.items())
    assert inspect.signature(DiffusionDeconvolver).parameters.keys() == given.keys()
    again = DiffusionDeconvolver(**vars(deconvolver))
    assert vars(again) == vars(deconvolver)


@pytest.mark.parametrize("method", ["predict", "sample", "residual", "save"])
def test_before_fit(method, tmp_path):
    arguments = {
        "predict": ("missing.fits",),
        "sample": ("missing.fits",),
        "residual": ("missing.fits", None),
        "save": (tmp_path,),
    }
    psf = {"psf": None} if method == "residual" else {}
    with pytest.raises(NotFittedError, match=r"call fit\(\), or make it with .*from_pretrained"):
        getattr(DiffusionDeconvolver(), method)(*arguments[method], **psf)


@pytest.mark.parametrize("n_samples", [0, -1, 1.5, "3", None])
@pytest.mark.parametrize("method", ["predict", "sample"])
def test_number_of_samples(untrained, dirty, method, n_samples):
    with pytest.raises(ValueError, match="n_samples is .*; expected an integer of 1 or more"):
        getattr(untrained, method)(dirty(), n_samples=n_samples)


@pytest.mark.parametrize("seed", [-1, 0.5, "a"])
def test_seed(untrained, dirty, seed):
    with pytest.raises(ValueError, match="seed is .*; expected an integer of 0 or more, or None"):
        untrained.predict(dirty(), seed=seed)


def test_unknown_strategy_lists_the_valid_ones(untrained):
    with pytest.raises(ValueError, match="'mode'; expected one of median, mean, detect-aggregate"):
        untrained.predict("missing.fits", strategy="mode")


def test_unknown_preset(pairs):
    with pytest.raises(ValueError, match="preset is 'huge'; expected one of small"):
        DiffusionDeconvolver("huge").fit(pairs)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("device", "abacus", "device 'abacus' is not known; expected cuda, mps or cpu"),
        ("precision", "float16", "precision is 'float16'; expected one of auto, float32, bfloat16"),
        ("sampler", "rk4", "sampler is 'rk4'; expected one of heun, euler, dpmpp-2m"),
        ("n_steps", 0, "n_steps"),
    ],
)
def test_unknown_choices(untrained, dirty, name, value, message):
    setattr(untrained, name, value)
    with pytest.raises(ValueError, match=message):
        untrained.predict(dirty(SOURCES), **OPTIONS)


def test_unknown_observation_keyword(untrained, dirty):
    with pytest.raises(TypeError, match="pwv"):
        untrained.predict(dirty(SOURCES), pwv=1.0, **OPTIONS)


def test_missing_file(untrained):
    with pytest.raises(FileNotFoundError, match=r"there is no file missing\.fits"):
        untrained.predict("missing.fits")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"radius": 0}, ValueError),
        ({"radius": 1 * u.Jy}, ValueError),
        ({"radius": "0.5"}, ValueError),
        ({"min_reliability": 2}, ValueError),
        ({"regions": 3}, TypeError),
        ({"psf": np.ones((3, 3))}, ValueError),
    ],
)
def test_options_are_refused_before_the_network_runs(local_estimator, dirty, options, error):
    deconvolver = local_estimator()
    with pytest.raises(error):
        deconvolver.predict(dirty(SOURCES), **OPTIONS, **options)
    assert deconvolver.denoiser_.calls == 0


def test_sampler_and_steps_are_used(local_estimator, dirty):
    deconvolver = local_estimator()
    deconvolver.sampler, deconvolver.n_steps = "heun", 6
    sky, _ = deconvolver.predict(dirty(SOURCES), **OPTIONS)
    assert deconvolver.denoiser_.calls == 2 * 6 - 1
    assert (sky.meta["sampler"], sky.meta["n_steps"]) == ("heun", 6)


def test_interrupted_prediction_leaves_the_estimator_usable(untrained, dirty, monkeypatch):
    image = dirty(SOURCES)
    expected = untrained.sample(image, **OPTIONS)
    before = weights_of(untrained)

    def interrupt(module, inputs):
        raise KeyboardInterrupt

    hook = untrained.denoiser_.network.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        untrained.predict(image, **OPTIONS)
    hook.remove()
    assert_same_weights(before, weights_of(untrained), rtol=0, atol=0)
    assert_array_equal(untrained.sample(image, **OPTIONS).data, expected.data)


def test_interrupted_first_prediction(untrained, dirty):
    untrained.device = "abacus"
    with pytest.raises(ValueError, match="abacus"):
        untrained.sample(dirty(SOURCES), **OPTIONS)
    untrained.device = "cpu"
    assert untrained.sample(dirty(SOURCES), **OPTIONS).shape == (3, 96, 96)


def test_fit_returns_self(tiny, pairs, dirty):
    deconvolver = DiffusionDeconvolver(tiny, device="cpu", precision="float32")
    assert deconvolver.fit(pairs, progress=False) is deconvolver
    assert pairs.seen == list(range(8))
    assert deconvolver.preset_.network["channels"] == (8, 16)
    training = deconvolver.description_["training"]
    assert training["steps"] == 4
    assert training["pairs"] == {"made_by": "test"}
    assert deconvolver.sample(dirty(SOURCES), **OPTIONS).shape == (3, 96, 96)


def test_fit_is_repeatable(tiny, pairs):
    one, same, other = (weights_of(fit(tiny, pairs, seed=seed)) for seed in (1, 1, 2))
    assert_same_weights(one, same, rtol=0, atol=0)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_fit_learns(tiny, pairs):
    short = fit(tiny, pairs, steps=20).description_["training"]["loss"]
    longer = fit(tiny, pairs, steps=200, batch_size=8).description_["training"]["loss"]
    assert longer < 0.7 * short


def test_fit_refuses_pairs_of_another_scale(tiny, blob):
    other = WorkingScale(pixels_per_beam=5.0)
    with pytest.raises(ValueError, match=r"pairs have .*5\.0.*preset 'tiny' has .*4\.25"):
        fit(tiny, Pairs(other, blob))


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"resume": True}]
)
def test_fit_refuses_numbers_out_of_range(tiny, pairs, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        fit(tiny, pairs, **options)
    assert pairs.seen == []


def test_interrupted_fit_resumes(tiny, tiny_preset, blob, tmp_path):
    plan = {"steps": 6, "batch_size": 2, "seed": 3}
    straight = fit(tiny, Pairs(tiny_preset.scale, blob), **plan)
    stopped = DiffusionDeconvolver(tiny, device="cpu", precision="float32")
    plan |= {"checkpoint_dir": tmp_path / "run", "progress": False}
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        stopped.fit(Pairs(tiny_preset.scale, blob, interrupt_at=7), **plan)
    assert not hasattr(stopped, "denoiser_")
    with pytest.raises(FileExistsError, match="resume=True"):
        stopped.fit(Pairs(tiny_preset.scale, blob), **plan)
    rest = Pairs(tiny_preset.scale, blob)
    stopped.fit(rest, resume=True, **plan)
    assert rest.seen == list(range(6, 12))
    assert_same_weights(weights_of(straight), weights_of(stopped), rtol=1e-5, atol=1e-6)


@pytest.fixture
def saved(untrained, tmp_path):
    untrained.save(tmp_path / "weights", name="mine")
    return tmp_path / "weights"


def load(folder):
    return DiffusionDeconvolver.load(folder, device="cpu", precision="float32")


def test_round_trip(untrained, dirty, saved):
    loaded = load(saved)
    assert loaded.preset_ == untrained.preset_ or loaded.preset_.scale == untrained.preset_.scale
    assert loaded.description_["name"] == "mine"
    image = dirty(SOURCES)
    expected = untrained.sample(image, **OPTIONS)
    assert_array_equal(loaded.sample(image, **OPTIONS).data, expected.data)
    assert load(str(saved)).preset == "tiny"
    named = DiffusionDeconvolver.from_pretrained(saved, device="cpu", precision="float32")
    assert_array_equal(named.sample(image, **OPTIONS).data, expected.data)


def test_second_round_trip_keeps_the_description(tiny, pairs, tmp_path):
    fit(tiny, pairs, steps=2).save(tmp_path / "one", name="mine")
    load(tmp_path / "one").save(tmp_path / "two")
    one, two = (
        json.loads((tmp_path / name / "description.json").read_text()) for name in ("one", "two")
    )
    assert one == two
    assert one["name"] == "mine"
    assert one["training"]["steps"] == 2
    assert one["training"]["pairs"] == {"made_by": "test"}


def tensors_file(folder):
    (path,) = folder.glob("weights-*.safetensors")
    return path


def test_half_precision_is_close(untrained, dirty, tmp_path):
    untrained.save(tmp_path / "half", half=True)
    untrained.save(tmp_path / "full")
    sizes = [tensors_file(tmp_path / n).stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    image = dirty(SOURCES)
    full, half = (load(tmp_path / n).sample(image, **OPTIONS).data for n in ("full", "half"))
    assert 0 < np.abs(half - full).max() < 0.05 * full.max()


def test_weights_of_a_compiled_network(untrained, tmp_path):
    class Compiled(torch.nn.Module):  # as torch.compile wraps one
        def __init__(self, network):
            super().__init__()
            self._orig_mod = network
            self.stride = network.stride

    expected = weights_of(untrained)
    untrained.denoiser_.network = Compiled(untrained.denoiser_.network)
    untrained.save(tmp_path / "compiled")
    assert_same_weights(expected, weights_of(load(tmp_path / "compiled")), rtol=0, atol=0)


def test_existing_weights_are_kept(untrained, saved):
    before = tensors_file(saved).read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        untrained.save(saved)
    assert tensors_file(saved).read_bytes() == before
    untrained.save(saved, name="other", overwrite=True)
    assert load(saved).description_["name"] == "other"


def test_folder_that_cannot_be_written(untrained, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        untrained.save(tmp_path / "file" / "weights")
    assert (tmp_path / "file").read_text() == "in the way"


def test_read_only_folder(untrained, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(30, "Read-only file system", str(tmp_path))

    monkeypatch.setattr("tempfile.mkstemp", refuse)  # root may write everywhere
    with pytest.raises(PermissionError, match="Read-only"):
        untrained.save(tmp_path / "weights")
    assert list((tmp_path / "weights").iterdir()) == []


def test_unknown_weights_list_the_bundled_ones():
    with pytest.raises(FileNotFoundError, match="no weights 'nope'; .*bundled|alma-band6"):
        DiffusionDeconvolver.from_pretrained("nope")


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no file description\.json"):
        load(tmp_path / "nope")


@pytest.mark.parametrize("fault", ["truncated", "altered", "empty", "pickle"])
def test_damaged_tensors(saved, fault):
    path = tensors_file(saved)
    content = bytearray(path.read_bytes())
    if fault == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "altered":
        content[-10] ^= 1
        path.write_bytes(content)
    elif fault == "empty":
        path.write_bytes(b"")
    else:
        torch.save({"weight": torch.ones(3)}, path)
    with pytest.raises(WeightsError, match="truncated or was altered"):
        load(saved)


def rewrite(folder, change):
    """Change the description by hand."""
    path = folder / "description.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def test_weights_of_another_architecture(saved):
    rewrite(saved, lambda d: d["recipe"]["network"].update(channels=[8, 8]))
    with pytest.raises(WeightsError):
        load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("recipe"),
        lambda d: d["recipe"].pop("network"),
        lambda d: d["recipe"]["network"].update(type="transformer"),
        lambda d: d["recipe"]["network"].update(colour="red"),
        lambda d: d["recipe"]["scale"].update(colour="red"),
        lambda d: d.update(format=99),
        lambda d: d.pop("sha256"),
    ],
    ids=["recipe", "network", "type", "keyword", "scale", "format", "checksum"],
)
def test_altered_description(saved, change):
    rewrite(saved, change)
    with pytest.raises(WeightsError):
        load(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x04\x95", b"[1, 2]", b"3"])
def test_description_that_is_none(saved, content):
    (saved / "description.json").write_bytes(content)
    with pytest.raises(WeightsError):
        load(saved)
