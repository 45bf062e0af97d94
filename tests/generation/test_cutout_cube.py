"""Cubes of cutouts: interpolated without a change of flux, selected, and split."""

import os
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits

from diffsky.generation import read_cutout_cube

WIDTH = 3.0  # arcsec, standard deviation
RMS = 0.01
PIXEL = 1.5 * u.arcsec


def write(path, n=20, size=108, pixel=1.8, unit="mJy/beam", name="CUTOUTS"):
    """Gaussians of a peak of 1 in noise, in the centre."""
    rows, columns = (np.indices((size, size)) - (size - 1) / 2) * pixel
    noise = RMS * np.random.default_rng(1).normal(size=(n, size, size))
    cube = np.exp(-(rows**2 + columns**2) / (2 * WIDTH**2)) + noise
    header = fits.Header({"BUNIT": unit, "CDELT1": -pixel / 3600, "CDELT2": pixel / 3600})
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(cube, header, name)]).writeto(path)
    return path


def test_flux_and_place_stay(tmp_path):
    images, selection = read_cutout_cube(write(tmp_path / "cube.fits"))
    assert images.shape == (20, 80, 80)
    assert selection.kept.all()
    grid = (np.arange(80) - 39.5) * 1.5
    mean = images.mean(axis=0, dtype=float)
    assert mean.sum() * 1.5**2 == pytest.approx(1e-3 * 2 * np.pi * WIDTH**2, rel=0.03)
    core = mean * (mean > 1e-4)
    for axis in (0, 1):
        assert (core.sum(axis=1 - axis) * grid).sum() / core.sum() == pytest.approx(0, abs=0.1)


def test_split(tmp_path):
    path = write(tmp_path / "cube.fits")
    every, train, valid = (read_cutout_cube(path, one)[0] for one in (None, "train", "valid"))
    assert (len(train), len(valid)) == (18, 2)
    np.testing.assert_array_equal(valid, every[[0, 10]])
    np.testing.assert_array_equal(train, np.delete(every, [0, 10], axis=0))


def test_bad_pixel_beyond_the_image(tmp_path):
    path = write(tmp_path / "cube.fits", n=2)
    good, _ = read_cutout_cube(path)
    with fits.open(path, mode="update") as file:
        file["CUTOUTS"].data[0, :3, :3] = np.nan
    images, selection = read_cutout_cube(path)
    assert selection.kept.all()
    np.testing.assert_allclose(images, good)


@pytest.mark.parametrize(("size", "pixel"), [(80, 1.5), (80, 1.5 * u.Jy), (0, PIXEL), (80, -PIXEL)])
def test_sizes_that_are_none(tmp_path, size, pixel):
    with pytest.raises(ValueError, match="expected angles, the size of 8 pixels or more"):
        read_cutout_cube(tmp_path / "none.fits", size=size, pixel=pixel)


def test_refused(tmp_path):
    path = write(tmp_path / "cube.fits", n=1)
    with pytest.raises(ValueError, match="split is 'test'; expected one of train, valid, or None"):
        read_cutout_cube(path, "test")
    with pytest.raises(ValueError, match="200 pixels of 1.5 arcsec are wider than the cutouts"):
        read_cutout_cube(path, size=200)
    with pytest.raises(FileNotFoundError):
        read_cutout_cube(tmp_path / "none.fits")
    with pytest.raises(ValueError, match="has no cube CUTOUTS"):
        read_cutout_cube(write(tmp_path / "a.fits", n=1, name="IMAGES"))
    with pytest.raises(ValueError, match="BUNIT K and CDELT2"):
        read_cutout_cube(write(tmp_path / "b.fits", n=1, unit="K"))
    (tmp_path / "c.fits").write_text("text")
    with pytest.raises(ValueError, match="has no cube CUTOUTS"):
        read_cutout_cube(tmp_path / "c.fits")


@pytest.mark.skipif("DIFFSKY_DATA" not in os.environ, reason="DIFFSKY_DATA is not set")
def test_real_cutouts():
    images, selection = read_cutout_cube(Path(os.environ["DIFFSKY_DATA"]) / "mirabest/cutouts.fits")
    assert len(images) == 980
    assert dict(zip(*selection.to_table()["step", "removed"].columns.values(), strict=True)) == {
        "cutouts": 0,
        "broken": 0,
        "S/N_sigma": 0,
        "edge pixels": 20,
        "incomplete": 0,
    }
    assert images.max(axis=(1, 2)).min() > 5e-4
