"""Images written batch by batch: round trips, interruptions and full disks."""

import errno
import os

import astropy.units as u
import numpy as np
import pytest
import torch
import zarr
from astropy.io import fits
from astropy.table import QTable
from radio_beam import Beam
from small_generator import fit_small

from diffsky import RadioGalaxyGenerator
from diffsky.diffusion import drawing
from diffsky.generation import image_files, read_images

KINDS = ["fits", "zarr"]


@pytest.fixture(scope="module")
def of_classes():
    return fit_small(pixel_scale=1.5 * u.arcsec, beam=Beam(6 * u.arcsec))


@pytest.fixture(scope="module")
def of_peaks():
    return fit_small(labels=None, peak_flux=True)


@pytest.fixture
def batches_of_two(monkeypatch):
    monkeypatch.setattr(drawing, "fit_batch_size", lambda *_, **__: 2)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(of_classes, of_peaks, tmp_path, kind, batches_of_two):
    for name, generator in {"a": of_classes, "b": of_peaks}.items():
        path = generator.write(tmp_path / f"{name}.{kind}", 5, seed=3)
        cube, known = read_images(path), generator.sample(5, seed=3)
        np.testing.assert_array_equal(cube.data, known.data)
        assert (cube.unit, cube.data.dtype) == (known.unit, np.float32)
        assert cube.meta.keys() == known.meta.keys()
        for key, value in known.meta.items():
            assert np.all(cube.meta[key] == value), key


def test_fits_file_is_one_for_everybody(of_classes, of_peaks, tmp_path):
    path = of_classes.write(tmp_path / "a.fits", 3, label="wide", seed=3)
    with fits.open(path) as file:
        file.verify("exception")
        header = file[0].header
        assert file[0].data.shape == (3, 16, 16)
        assert (header["BMAJ"] * 3600, header["PIXSCALE"]) == (pytest.approx(6), 1.5)
        assert (header["SEED"], header["GUIDANCE"]) == (3, 0.75)
        assert list(file["CONDITION"].data["label"]) == ["wide"] * 3
    path = of_peaks.write(tmp_path / "b.fits", 2, peak_flux=5 * u.mJy / u.beam, seed=3)
    assert fits.getheader(path)["BUNIT"] == "Jy/beam"
    table = QTable.read(path, hdu="CONDITION")
    assert u.allclose(table["peak_flux"], 5 * u.mJy / u.beam)


def test_zarr_store_is_one_for_everybody(of_classes, tmp_path):
    path = of_classes.write(tmp_path / "a.zarr", 3, label="wide", seed=3)
    group = zarr.open_group(path, mode="r")
    assert group["images"].shape == (3, 16, 16)
    assert group.attrs["values"] == ["wide"] * 3
    assert sorted(one.name for one in path.iterdir()) == ["images", "zarr.json"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left")])
def test_interrupted_run_goes_on(of_classes, tmp_path, monkeypatch, batches_of_two, kind, error):
    """The first two batches stay readable; the others follow, and none is drawn twice."""
    path, known = tmp_path / f"images.{kind}", of_classes.sample(7, seed=3)
    writer = type(image_files.image_file(path))
    write, numbers = writer.write, []

    def fail_at_the_third(self, first, images):
        numbers.append(first)
        if len(numbers) == 3:
            raise error
        write(self, first, images)

    monkeypatch.setattr(writer, "write", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else OSError):
        of_classes.write(path, 7, seed=3)
    cube = read_images(path)
    np.testing.assert_array_equal(cube.data, known.data[:4])
    assert cube.meta["label"] == known.meta["label"][:4]
    of_classes.write(path, 7, seed=3, resume=True)
    assert numbers == [0, 2, 4, 4, 6]
    np.testing.assert_allclose(read_images(path).data, known.data, atol=1e-6)
    of_classes.write(path, 7, seed=3, resume=True)
    assert numbers == [0, 2, 4, 4, 6]


@pytest.mark.parametrize("kind", KINDS)
def test_other_run_is_not_continued(of_classes, tmp_path, kind):
    path = of_classes.write(tmp_path / f"images.{kind}", 2, seed=3)
    with pytest.raises(ValueError, match="holds images of seed 3; expected seed 4"):
        of_classes.write(path, 2, seed=4, resume=True)
    with pytest.raises(ValueError, match="holds images of n 2; expected n 3"):
        of_classes.write(path, 3, seed=3, resume=True)
    with pytest.raises(ValueError, match="holds images of .*guidance 0.75"):
        of_classes.write(path, 2, seed=3, guidance=0.1, resume=True)
    of_classes.write(path, 2, seed=3, label="wide", overwrite=True)
    with pytest.raises(ValueError, match="other labels"):
        of_classes.write(path, 2, seed=3, label="round", resume=True)


@pytest.mark.parametrize("kind", KINDS)
def test_file_that_is_there_stays(of_classes, tmp_path, kind):
    path = of_classes.write(tmp_path / f"images.{kind}", 2, seed=3)
    with pytest.raises(FileExistsError, match="is there; resume it or overwrite it"):
        of_classes.write(path, 2, seed=4)
    assert read_images(path).meta["seed"] == 3
    of_classes.write(path, 2, seed=4, overwrite=True)
    assert read_images(path).meta["seed"] == 4


@pytest.mark.parametrize("kind", KINDS)
def test_full_disk_is_found_before_the_first_image(of_classes, tmp_path, monkeypatch, kind):
    """And leaves what was there."""
    path = of_classes.write(tmp_path / f"images.{kind}", 2, seed=3)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls = []
    hook = of_classes.denoiser_.network.register_forward_hook(lambda *_: calls.append(1))
    with monkeypatch.context() as patch:
        patch.setattr(image_files.os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            of_classes.write(path, 3, seed=4, overwrite=True)
    hook.remove()
    assert not calls
    assert read_images(path).meta["seed"] == 3
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_device_without_room():
    with (
        open("/dev/full", "wb", buffering=0) as file,
        pytest.raises(OSError, match="No space left"),
    ):
        image_files._fill(file, 3, bytes(100))


@pytest.mark.parametrize("kind", KINDS)
def test_other_weights_of_the_same_name_do_not_go_on(of_classes, tmp_path, kind):
    path = of_classes.write(tmp_path / f"images.{kind}", 2, seed=3)
    other = fit_small(pixel_scale=1.5 * u.arcsec, beam=Beam(6 * u.arcsec))
    with torch.no_grad():
        next(other.denoiser_.network.parameters()).mul_(1.01)
    with pytest.raises(ValueError, match="holds images of sha256"):
        other.write(path, 2, seed=3, resume=True)


def test_half_a_batch_is_drawn_again(of_classes, tmp_path):
    """What a run that was killed while it wrote leaves of an image."""
    path, known = tmp_path / "images.fits", of_classes.sample(4, seed=3)
    of_classes.write(path, 4, seed=3)
    with fits.open(path) as file:
        start = file[0].fileinfo()["datLoc"]
    size = known.data[0].nbytes
    with open(path, "r+b") as file:
        file.seek(start + 2 * size + 600)
        file.write(np.full((2 * size - 600) // 4, np.nan, dtype=">f4").tobytes())
    np.testing.assert_array_equal(read_images(path).data, known.data[:2])
    of_classes.write(path, 4, seed=3, resume=True)
    np.testing.assert_allclose(read_images(path).data, known.data, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_file_stays_where_there_is_no_device(of_classes, tmp_path, monkeypatch, kind):
    path = of_classes.write(tmp_path / f"images.{kind}", 2, seed=3)
    other = RadioGalaxyGenerator(device="none")
    other._adopt(of_classes.denoiser_, of_classes.preset_, of_classes.description_)
    with pytest.raises(ValueError, match="device 'none' is not known"):
        other.write(path, 2, seed=4, overwrite=True)
    assert read_images(path).meta["seed"] == 3


@pytest.mark.parametrize("kind", KINDS)
def test_folder_of_something_else_is_not_overwritten(of_classes, tmp_path, kind):
    folder = tmp_path / f"images.{kind}"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "precious").write_text("mine")
    with pytest.raises(ValueError, match="of generated images"):
        of_classes.write(folder, 2, seed=4, overwrite=True)
    assert (folder / "data" / "precious").read_text() == "mine"


@pytest.mark.parametrize("kind", KINDS)
def test_interruption_of_the_replacement_leaves_one_of_both(
    of_classes, tmp_path, monkeypatch, kind
):
    path = of_classes.write(tmp_path / f"images.{kind}", 2, seed=3)

    with monkeypatch.context() as patch:
        patch.setattr(image_files, "_move", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            of_classes.write(path, 2, seed=4, overwrite=True)
    assert read_images(path).meta["seed"] == 3
    assert list(tmp_path.iterdir()) == [path]


def test_link_is_followed(of_classes, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.zarr").symlink_to(tmp_path / "folder" / "images.zarr")
    for seed in (3, 4):
        of_classes.write(tmp_path / "link.zarr", 2, seed=seed, overwrite=True)
    assert read_images(tmp_path / "folder" / "images.zarr").meta["seed"] == 4


def test_first_images_alone(of_classes, tmp_path):
    path = of_classes.write(tmp_path / "images.fits", 4, seed=3)
    cube = read_images(path, 3)
    assert cube.shape[0] == len(cube.meta["label"]) == 3


def test_labels_that_fits_cannot_hold(tmp_path):
    generator = fit_small(labels=["é", "wide"] * 6)
    with pytest.raises(ValueError, match="FITS has ASCII labels alone; expected a name in .zarr"):
        generator.write(tmp_path / "images.fits", 2, seed=3)
    assert not list(tmp_path.iterdir())
    assert read_images(generator.write(tmp_path / "images.zarr", 2, seed=3)).shape[0] == 2


def test_name_of_another_kind(of_classes, tmp_path):
    with pytest.raises(ValueError, match=r"'images.npy'; expected a name in .fits or .zarr"):
        of_classes.write(tmp_path / "images.npy", 2)


@pytest.mark.parametrize("kind", KINDS)
def test_other_files_are_refused(tmp_path, kind):
    path = tmp_path / f"images.{kind}"
    with pytest.raises(FileNotFoundError):
        read_images(path)
    if kind == "fits":
        fits.PrimaryHDU(np.zeros((2, 4, 4))).writeto(path)
    else:
        zarr.create_array(path, shape=(2, 4, 4), dtype="float32")
    with pytest.raises(ValueError, match="of generated images"):
        read_images(path)


def test_nothing_was_drawn(of_classes, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "draw_normal", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        of_classes.write(tmp_path / "a.fits", 2, seed=3)
    with pytest.raises(ValueError, match="has no image that was drawn"):
        read_images(tmp_path / "a.fits")


def _interrupt(*_, **__):
    raise KeyboardInterrupt
