"""From a mosaic of LoTSS and its catalogue to weights and images, with tiny numbers."""

import runpy
import shutil
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable
from click.testing import CliRunner
from numpy.testing import assert_allclose

from diffsky import RadioGalaxyGenerator
from diffsky.generation import CutoutStore

ALL = ("--all-sources",)
SCRIPT = Path(__file__).parents[2] / "examples" / "train_lotss.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.skipif(not SCRIPT.exists(), reason="the examples are not beside the tests"),
]


def run(folder, mosaics, catalog, *options):
    main = runpy.run_path(str(SCRIPT))["main"]
    plan = ["--device", "cpu", "--batch-size", "1", *options]
    arguments = [str(path) for path in (folder, mosaics, catalog)]
    return CliRunner().invoke(main, [*arguments, *plan], catch_exceptions=False)


def tensors(folder):
    return RadioGalaxyGenerator.load(folder, device="cpu").denoiser_.network.state_dict()


def test_mosaic_to_images(data_dir, tmp_path):
    """In two goes, the second of which takes one step more."""
    real = data_dir / "lotss"
    catalog = real / "catalog.srl.fits"
    result = run(tmp_path / "run", real, catalog, *ALL, "--steps", "1")
    assert result.exit_code == 0, result.output
    table = [line.split() for line in result.stdout.splitlines()]
    assert [line[-2:] for line in table[4:9]] == [
        ["6747", "27"],
        ["0", "27"],
        ["0", "27"],
        ["4", "23"],
        ["10", "13"],
    ]
    assert len(CutoutStore(tmp_path / "run" / "cutouts").read()) == 13
    result = run(tmp_path / "run", real, catalog, *ALL, "--steps", "2")
    assert result.exit_code == 0, result.output

    generator = RadioGalaxyGenerator.load(tmp_path / "run" / "lotss", device="cpu", n_steps=2)
    about = generator.description_
    assert (about["name"], about["training"]["steps"]) == ("lotss", 2)
    assert about["training"]["pairs"]["n_images"] == 13
    cube = generator.sample(2, seed=1)
    assert (cube.shape, cube.unit) == ((2, 80, 80), u.Jy / u.beam)
    assert np.isfinite(cube.data).all()
    assert_allclose(cube.meta["beam"].major.to_value(u.arcsec), 6)
    assert_allclose(cube.meta["pixel_scale"].to_value(u.arcsec), 1.5)
    peaks = CutoutStore(tmp_path / "run" / "cutouts").read().catalog["peak_flux"]
    assert ((cube.meta["peak_flux"] >= peaks.min()) & (cube.meta["peak_flux"] <= peaks.max())).all()


def test_resolved_sources_alone(data_dir, tmp_path):
    """What the recipe takes where it is not told otherwise."""
    real = data_dir / "lotss"
    result = run(tmp_path / "run", real, real / "catalog.srl.fits", "--steps", "1")
    assert result.exit_code == 0, result.output
    table = [line.split() for line in result.stdout.splitlines()]
    assert [line[-1] for line in table[3:5]] == ["508", "4"]  # resolved, and on the mosaic
    generator = RadioGalaxyGenerator.load(tmp_path / "run" / "lotss", device="cpu")
    assert generator.description_["training"]["pairs"]["n_images"] == 3


def test_other_cutouts_are_refused(data_dir, tmp_path):
    """A training goes on with the images that it began with, and with no others."""
    mosaics, catalog = tmp_path / "mosaics", tmp_path / "catalog.fits"
    mosaics.mkdir()
    shutil.copy(data_dir / "lotss" / "P205+55-mosaic.fits", mosaics)
    known = QTable.read(data_dir / "lotss" / "catalog.srl.fits")
    known.write(catalog)
    assert run(tmp_path / "run", mosaics, catalog, *ALL, "--steps", "1").exit_code == 0
    first = tensors(tmp_path / "run" / "lotss")
    known[:5000].write(catalog, overwrite=True)  # without three of the cutouts
    with pytest.raises(ValueError, match="is trained on other images, labels or scales"):
        run(tmp_path / "run", mosaics, catalog, *ALL, "--steps", "2")
    known.write(catalog, overwrite=True)
    assert run(tmp_path / "run", mosaics, catalog, *ALL, "--steps", "1").exit_code == 0
    again = tensors(tmp_path / "run" / "lotss")
    assert all(torch.equal(again[name], first[name]) for name in first)


def test_folder_without_mosaics(data_dir, tmp_path):
    """The catalogue alone is none."""
    catalog = shutil.copy(data_dir / "lotss" / "catalog.srl.fits", tmp_path)
    result = run(tmp_path / "run", tmp_path, catalog)
    assert result.exit_code == 1
    assert "has no FITS files; expected mosaics" in result.stderr
    assert not (tmp_path / "run").exists()
