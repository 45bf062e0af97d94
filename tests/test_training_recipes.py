"""The scripts that train weights, with tiny numbers: whole, resumed, and what they save."""

import runpy
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from diffsky import DiffusionDeconvolver

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


def test_second_stage_of_the_bundled_weights(tmp_path):
    """It starts from the weights that it is given, goes on, and says where they came from."""
    options = ("--from-weights", "alma-band6")
    run("train_alma_band6.py", tmp_path / "run", *options, "--steps", "1")
    start, one = tensors("alma-band6"), tensors(tmp_path / "run" / "alma-band6")
    moved = max((one[name] - start[name]).abs().max() for name in start)
    assert 0 < moved < 0.01  # a step of 5e-4, with averages
    run("train_alma_band6.py", tmp_path / "run", *options, "--steps", "2")
    two = DiffusionDeconvolver.load(tmp_path / "run" / "alma-band6", device="cpu")
    assert not all(torch.equal(two.denoiser_.network.state_dict()[n], one[n]) for n in one)
    training = two.description_["training"]
    assert (two.description_["name"], training["steps"]) == ("alma-band6", 2)
    assert training["started_from"]["name"] == "alma-band6"
    assert training["started_from"]["steps"] > 2  # of the training itself, as fit notes it
    priors = training["pairs"]["priors"]
    assert [prior["kind"] for prior in priors] == ["gaussians"] * 4 + ["general"] * 2
    assert sum(prior["share"] for prior in priors) == pytest.approx(1)


def test_distillation_of_the_bundled_weights(tmp_path):
    """On skies of the priors that they were trained on."""
    run("distil_alma_band6.py", tmp_path / "run", "--steps", "1")
    folder = tmp_path / "run" / "alma-band6-distilled"
    training = DiffusionDeconvolver.load(folder, device="cpu").description_["training"]
    taught, known = (t["pairs"]["priors"] for t in (training["distillation"], training))
    assert [prior["share"] for prior in taught] == [prior["share"] for prior in known]
    assert [prior["flux"] for prior in taught] == [prior["flux"] for prior in known]


def test_preset_of_d24(tmp_path):
    """The noise of the published images, and weights that load."""
    pytest.importorskip("casadata")
    run("train_drozdova2024.py", tmp_path / "run", "--steps", "1")
    trained = DiffusionDeconvolver.load(tmp_path / "run" / "drozdova2024", device="cpu")
    pairs = trained.description_["training"]["pairs"]
    assert pairs["instruments"] == 5
    assert 4.6e-5 < pairs["rms"][0] < pairs["rms"][1] < 4.9e-5
    assert trained.preset_.network["channels"] == 32
