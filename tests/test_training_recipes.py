"""The scripts that train weights, with tiny numbers: whole, resumed, and what they save."""

import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from diffsky import DiffusionDeconvolver
from diffsky.simulation import SharedNoise

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not beside the tests"),
]


def run(script, folder, *options):
    main = runpy.run_path(str(EXAMPLES / script))["main"]
    arguments = [str(folder), "--device", "cpu", "--batch-size", "1", *options]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def tensors(name):
    return DiffusionDeconvolver.from_pretrained(name, device="cpu").denoiser_.network.state_dict()


def test_later_stages_of_the_bundled_weights(tmp_path):
    """Each starts from the weights before it, goes on, and says where they came from."""
    options = ("--from-weights", "alma-band6")
    run("train_alma_band6.py", tmp_path, *options, "--steps", "1", "1", "1")
    folders = [tmp_path / name for name in ("second-stage", "third-stage", "alma-band6")]
    stages = [tensors(name) for name in ("alma-band6", *folders)]
    for before, after in pairwise(stages):
        moved = max((after[name] - before[name]).abs().max() for name in before)
        assert 0 < moved < 0.01  # a step of 5e-4 or less, with averages
    run("train_alma_band6.py", tmp_path, *options, "--steps", "1", "1", "2")
    again = [tensors(name) for name in folders]
    both = zip(stages[1:], again, strict=True)
    same = [all(torch.equal(b[name], a[name]) for name in a) for a, b in both]
    assert same == [True, True, False]


def test_description_of_the_bundled_weights(tmp_path):
    """Every stage names the one it started from, and shares of priors are whole."""
    options = ("--from-weights", "alma-band6", "--steps", "1", "2", "3")
    run("train_alma_band6.py", tmp_path, *options)
    description = DiffusionDeconvolver.load(tmp_path / "alma-band6", device="cpu").description_
    assert (description["name"], description["version"]) == ("alma-band6", 3)
    last = description["training"]
    third = last["started_from"]
    second = third["started_from"]
    first = second["started_from"]
    assert [stage["steps"] for stage in (second, third, last)] == [1, 2, 3]
    assert [stage.get("balance", False) for stage in (second, third, last)] == [False, False, True]
    assert first["name"] == "alma-band6"
    assert first["steps"] > 3  # of the training itself, as fit notes it
    kinds = [[p["kind"] for p in stage["pairs"]["priors"]] for stage in (second, third, last)]
    faint = ["gaussians"] * 4
    assert kinds == [faint + ["general"] * 2, faint, faint + ["general"] * 2]
    for stage in (second, third, last):
        assert sum(p["share"] for p in stage["pairs"]["priors"]) == pytest.approx(1)


def test_distillation_of_the_bundled_weights(tmp_path):
    """On skies of the priors that they were trained on."""
    run("distil_alma_band6.py", tmp_path / "run", "--steps", "1")
    folder = tmp_path / "run" / "alma-band6-distilled"
    training = DiffusionDeconvolver.load(folder, device="cpu").description_["training"]
    taught, known = (t["pairs"]["priors"] for t in (training["distillation"], training))
    shares = [[prior.pop("share") for prior in priors] for priors in (taught, known)]
    assert shares[0] == pytest.approx(shares[1])
    assert taught == known


def test_tuning_to_a_prior(tmp_path):
    """On skies of that prior alone, from the weights that are given."""
    run("tune_to_prior.py", tmp_path / "run", "--steps", "1")
    folder = tmp_path / "run" / "alma-band6-independent"
    training = DiffusionDeconvolver.load(folder, device="cpu").description_["training"]
    (prior,) = training["pairs"]["priors"]
    assert prior["flux"] == pytest.approx([50 / 48, 500 / 48])  # rms
    assert prior["share"] == 1
    assert training["started_from"]["name"] == "alma-band6"


def test_preset_of_d24(tmp_path):
    """The noise of the published images, and weights that load."""
    pytest.importorskip("casadata")
    run("train_drozdova2024.py", tmp_path / "run", "--steps", "1")
    trained = DiffusionDeconvolver.load(tmp_path / "run" / "drozdova2024", device="cpu")
    pairs = trained.description_["training"]["pairs"]
    assert pairs["instruments"] == 5
    assert 4.6e-5 < pairs["rms"][0] < pairs["rms"][1] < 4.9e-5
    assert trained.preset_.network["channels"] == 32


@pytest.mark.parametrize("preset", ["small", "drozdova2024"])
def test_shared_noise_goes_on_with_its_run(tmp_path, preset):
    """White noise in place of that of CASA, which would take minutes."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(1, 120 * 43 * 42 // 2, 2)) @ [1, 1j]
    about = {"array": "alma.cycle5.3", "total_time": 1200.0, "integration": 10.0, "hour_angle": 0.0}
    SharedNoise(values, np.ones(1), about).write(tmp_path / "noise.npz")
    options = ["--preset", preset, "--n-declinations", "1", "--padding", "1"]
    options = [str(tmp_path / "noise.npz"), *options]
    for steps in ("1", "2"):
        run("train_shared_noise.py", tmp_path / "run", *options, "--steps", steps)
    deconvolver = DiffusionDeconvolver.load(tmp_path / "run" / "shared-noise", device="cpu")
    training = deconvolver.description_["training"]
    assert training["steps"] == 2
    assert training["pairs"]["noise"] == "shared"
    if preset == "small":
        with pytest.raises(ValueError, match="trained on other images"):
            run("train_shared_noise.py", tmp_path / "run", *options, "--field-size", "240")
        options += ["--field-size", "240", "--warm-start", str(tmp_path / "run" / "shared-noise")]
        run("train_shared_noise.py", tmp_path / "more", *options, "--steps", "1")
        path = tmp_path / "more" / "shared-noise"
        training = DiffusionDeconvolver.load(path, device="cpu").description_["training"]
        assert training["pairs"]["field_size"] == 240
        assert training["started_from"]["steps"] == 2
