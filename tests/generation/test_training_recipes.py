"""The scripts that train the bundled generators, with a step or two."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from diffsky import RadioGalaxyGenerator

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not beside the tests"),
]


def run(script, *arguments):
    main = runpy.run_path(str(EXAMPLES / script))["main"]
    plan = ["--device", "cpu", "--batch-size", "2"]
    result = CliRunner().invoke(main, [*map(str, arguments), *plan], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def load(folder):
    return RadioGalaxyGenerator.load(folder, device="cpu", n_steps=2)


def largest_change(one, other):
    before, after = (weights.denoiser_.network.state_dict() for weights in (one, other))
    return max(float((after[name] - before[name]).abs().max()) for name in before)


def test_classes(data_dir, tmp_path):
    data = data_dir / "first" / "galaxy_data_h5.zip"
    shown = run("train_first.py", tmp_path, data, "--steps", "1")
    assert "have no source and are left out" in shown
    generator = load(tmp_path / "first")
    about = generator.description_
    assert about["training"]["steps"] == 1
    assert "Griese" in about["data"]["source"]
    assert generator.sample(1, label="FRII", seed=1).shape[0] == 1


def test_classes_from_the_bundled_weights(data_dir, tmp_path):
    data = data_dir / "first" / "galaxy_data_h5.zip"
    plan = ("--learning-rate", "1e-6", "--warm-start", "first")
    run("train_first.py", tmp_path, data, "--steps", "1", *plan)
    known, once = (
        RadioGalaxyGenerator.from_pretrained("first", device="cpu"),
        load(tmp_path / "first"),
    )
    assert 0 < largest_change(known, once) < 1e-3
    assert once.preset_.network == known.preset_.network
    run("train_first.py", tmp_path, data, "--steps", "1", *plan)  # it is done
    assert largest_change(once, load(tmp_path / "first")) == 0


def test_peaks(data_dir, tmp_path):
    shown = run("train_first_flux.py", tmp_path, data_dir / "mirabest/cutouts.fits", "--steps", "1")
    assert "S/N_sigma" in shown
    generator = load(tmp_path / "first-flux")
    assert generator.description_["training"]["steps"] == 1
    cube = generator.sample(1, seed=1)
    assert cube.unit.to_string() == "Jy / beam"
    assert np.isfinite(cube.data).all()
