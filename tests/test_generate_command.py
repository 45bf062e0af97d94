"""The command ``diffsky generate``: what it writes, repeats and refuses."""

import astropy.units as u
import numpy as np
import pytest
from click.testing import CliRunner
from small_generator import fit_small

from diffsky import DiffusionDeconvolver, RadioGalaxyGenerator, WeightsError
from diffsky.cli import main
from diffsky.diffusion import drawing
from diffsky.generation import read_images


def run(*arguments):
    return CliRunner().invoke(main, ["generate", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of classes and of peaks."""
    path = tmp_path_factory.mktemp("weights")
    fit_small().save(path / "classes", name="classes")
    fit_small(labels=None, peak_flux=True).save(path / "peaks", name="peaks")
    return path


def test_images_and_gallery(folder, tmp_path):
    path, picture = tmp_path / "out.fits", tmp_path / "out.png"
    arguments = ["--weights", folder / "classes", "-n", 5, "--label", "wide", "--seed", 4]
    result = run(path, *arguments, "--gallery", picture, "--precision", "float32")
    assert result.exit_code == 0, result.stderr
    assert "The same with --seed 4 repeats it" in result.stdout
    cube = read_images(path)
    generator = RadioGalaxyGenerator.load(folder / "classes", device="cpu", precision="float32")
    np.testing.assert_array_equal(cube.data, generator.sample(5, label="wide", seed=4).data)
    assert picture.read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("peak", ["5mJy", "5 mJy", "0.005", "5mJy/beam", "5 mJy beam-1"])
def test_peak_flux(folder, tmp_path, peak):
    path = tmp_path / "out.zarr"
    result = run(path, "--weights", folder / "peaks", "-n", 2, "--peak-flux", peak, "--n-steps", 2)
    assert result.exit_code == 0, result.stderr
    cube = read_images(path)
    assert u.allclose(cube.meta["peak_flux"], 5 * u.mJy / u.beam)
    assert cube.meta["n_steps"] == 2


def test_interrupted_run_goes_on(folder, tmp_path, monkeypatch):
    path, calls = tmp_path / "out.fits", []
    arguments = [path, "--weights", folder / "classes", "-n", 4, "--seed", 4]
    arguments += ["--sampler", "dpmpp-2m"]  # which draws once a batch
    monkeypatch.setattr(drawing, "fit_batch_size", lambda *_, **__: 2)
    draw = drawing.draw_normal

    def stop(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(*args)

    with monkeypatch.context() as patch:
        patch.setattr(drawing, "draw_normal", stop)
        assert run(*arguments).exit_code == 130
    assert read_images(path).shape[0] == 2
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert "resume it or overwrite it" in refused.stderr
    assert run(*arguments, "--resume").exit_code == 0
    assert read_images(path).shape[0] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.npy"], "'out.npy'; expected a name in .fits or .zarr"),
        (["out.fits", "--label", "FRI"], "label is FRI; expected one of round, wide"),
        (["out.fits", "--peak-flux", "5 K"], "'5 K' is no flux density"),
        (["out.fits", "--peak-flux", "50%"], "'50%' is no flux density"),
        (["out.fits", "--gallery", "nowhere/out.png"], "there is no folder nowhere"),
        (["out.fits", "--device", "none"], "device 'none' is not known"),
        (["out.fits", "--gallery", "out.txt"], "'out.txt' is no picture; expected .png"),
        (["out.fits", "--guidance", "-1"], "guidance is -1.0; expected a number of 0 or more"),
        (["out.fits", "--resume"], "--resume needs the --seed of the run"),
    ],
)
def test_refusals(folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, "--weights", folder / "classes", "-n", 1)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())


def test_picture_that_is_there_stays(folder, tmp_path):
    picture = tmp_path / "out.png"
    picture.write_text("mine")
    result = run(tmp_path / "out.fits", "--weights", folder / "classes", "--gallery", picture)
    assert result.exit_code == 1
    assert picture.read_text() == "mine"
    assert not (tmp_path / "out.fits").exists()


def test_weights_of_another_estimator(folder):
    with pytest.raises(WeightsError, match="without condition, guidance, image.*none of a Radio"):
        RadioGalaxyGenerator.from_pretrained("alma-band6")
    with pytest.raises(WeightsError, match="none of a DiffusionDeconvolver: "):
        DiffusionDeconvolver.load(folder / "classes")
