"""PyBDSF: known sources, refusals and faults."""

import os
import signal
import tempfile
import time

import astropy.units as u
import numpy as np
import psutil
import pytest
from astropy.nddata import CCDData
from baseline_images import (
    LONG_BEAM,
    RMS,
    beam_covariance,
    covariance,
    needs_pybdsf,
    restored,
    wcs_of,
)
from small_casa import processes_in, start_python, wait_for

from diffsky.catalog import SourceFlag, check_catalog, read_catalog, write_catalog
from diffsky.evaluation import PyBDSFError, PyBDSFTimeoutError, _pybdsf_process, pybdsf
from diffsky.images import write_image

pytestmark = needs_pybdsf

# Does not end when asked to, and has processes of its own.
STUBBORN = """
import multiprocessing, os, signal, subprocess, time
from pathlib import Path

signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
child.start()
command = subprocess.Popen(["sleep", "1000"])
Path({pids!r}).write_text(f"{{os.getpid()}} {{child.pid}} {{command.pid}}")
time.sleep(1000)
"""


def at_work(pid):
    """Whether a process runs; one that waits for its parent to look does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_known_sources(tmp_path, monkeypatch, capfd):
    """One at half power, an extended one, in a rotated image; nothing printed, nothing left."""
    folder, here = tmp_path / "temporary", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(here)
    sources = [(30.2, 40.7, 2e-3, 0, 0, 0), (80.3, 70.6, 5e-3, 2.0, 1.0, 60)]
    image = restored(sources, wcs_of(30))
    gain = np.where(np.arange(128) < 60, 0.5, 1.0) * np.ones((128, 1))
    log = tmp_path / "found.log"
    catalog = pybdsf(image, primary_beam=gain, rms=RMS, log_file=log)
    check_catalog(catalog)
    catalog.sort("x_centroid")
    np.testing.assert_allclose(catalog["x_centroid"], [30.2, 80.3], atol=0.4)
    np.testing.assert_allclose(catalog["y_centroid"], [40.7, 70.6], atol=0.4)
    true = image.wcs.pixel_to_world(catalog["x_centroid"], catalog["y_centroid"])
    assert (catalog["sky_centroid"].separation(true) < 1 * u.mas).all()
    flux, error = catalog["flux"].to_value(u.mJy), catalog["flux_err"].to_value(u.mJy)
    assert (np.abs(flux - [4, 5]) < 3 * error).all()
    assert (error < [0.4, 0.4]).all()
    np.testing.assert_allclose(catalog["major"].to_value(u.arcsec), [0, 2], atol=0.35)
    assert catalog["minor"][1].to_value(u.arcsec) == pytest.approx(1, abs=0.2)
    assert catalog["major"][0] == catalog["minor"][0] == 0
    assert np.isnan(catalog["pa"][0])
    assert catalog["pa"][1].to_value(u.deg) == pytest.approx(60, abs=6)
    np.testing.assert_allclose(catalog["position_err"].to_value(u.mas), [10, 25], rtol=0.4)
    assert catalog["snr"][0] == pytest.approx(40, abs=4)
    assert catalog.meta["finder"] == "PyBDSF"
    assert "Processing image.fits" in log.read_text()
    assert capfd.readouterr() == ("", "")
    assert list(folder.iterdir()) == list(here.iterdir()) == []


@pytest.mark.parametrize("rotation", [30, 90])
def test_long_beam_in_a_rotated_image(rotation):
    """What is left of a source without the beam does not depend on where north is."""
    shape = (2.0, 1.0, 60)
    image = restored([(62.4, 66.3, 80e-3, *shape)], wcs_of(rotation), beam=LONG_BEAM)
    (source,) = pybdsf(image, rms=RMS)
    assert source["major"].to_value(u.arcsec) == pytest.approx(2, abs=0.05)
    assert source["minor"].to_value(u.arcsec) == pytest.approx(1, abs=0.05)
    assert source["pa"].to_value(u.deg) == pytest.approx(60, abs=2)
    point = beam_covariance(LONG_BEAM, image.wcs)
    seen = point + covariance(*shape, image.wcs)
    peak = 80e-3 * np.sqrt(np.linalg.det(point) / np.linalg.det(seen))
    assert source["peak"].to_value(u.Jy / u.beam) == pytest.approx(peak, rel=0.03)
    assert source["snr"] == pytest.approx(peak / RMS.to_value(u.Jy / u.beam), rel=0.03)


def test_flags_masks_and_other_options(tmp_path):
    """Two sources in one island, one source at the edge, one under the mask."""
    blend = [(60, 60, 6e-3, 0, 0, 0), (67, 61, 5e-3, 0, 0, 0)]
    image = restored([*blend, (126.5, 20, 4e-3, 0, 0, 0), (20, 100, 9e-3, 0, 0, 0)])
    image.mask = np.zeros(image.shape, dtype=bool)
    image.mask[85:, :40] = True
    catalog = pybdsf(
        image, thresh_isl=4, thresh_pix=6, rms_box=(60, 20), adaptive_rms_box=True,
        options={"group_tol": 0.1},
    )  # fmt: skip
    catalog.sort("x_centroid")
    np.testing.assert_allclose(catalog["x_centroid"], [60, 67, 126.5], atol=0.5)
    assert list(catalog["flags"]) == [SourceFlag.BLENDED, SourceFlag.BLENDED, SourceFlag.EDGE]
    assert catalog.meta["rms_box"] == [60, 20]
    assert catalog.meta["group_tol"] == 0.1
    for name in ("found.ecsv", "found.fits"):
        write_catalog(catalog, tmp_path / name)
        assert len(read_catalog(tmp_path / name)) == 3


def test_no_detection_is_an_empty_catalogue():
    catalog = pybdsf(restored([]), thresh_pix=8)
    assert len(check_catalog(catalog)) == 0
    assert catalog.meta["thresh_pix"] == 8


def test_image_without_noise():
    image = restored([])
    image.data[:] = 1e-3
    with pytest.raises(PyBDSFError, match="Its last lines"):
        pybdsf(image)


def test_failure_of_pybdsf(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(PyBDSFError, match="'no_such_option' not recognized"):
        pybdsf(restored([]), options={"no_such_option": 1})
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


def test_time_limit_of_pybdsf(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = psutil.Process().children(recursive=True)
    begin = time.monotonic()
    with pytest.raises(PyBDSFTimeoutError, match=r"within 0\.5 s") as caught:
        pybdsf(restored([]), timeout=500 * u.ms)
    assert time.monotonic() - begin < 20
    assert isinstance(caught.value, PyBDSFError)
    assert isinstance(caught.value, TimeoutError)
    assert psutil.Process().children(recursive=True) == before
    assert list(tmp_path.iterdir()) == []


def test_time_limit_ends_all_processes(tmp_path, monkeypatch):
    script, pids = tmp_path / "stubborn.py", tmp_path / "pids"
    script.write_text(STUBBORN.format(pids=str(pids)))
    monkeypatch.setattr(_pybdsf_process, "_WORKER", script)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begin = time.monotonic()
    with pytest.raises(PyBDSFTimeoutError, match="within 5 s"):
        pybdsf(restored([]), timeout=5)
    assert time.monotonic() - begin < 60
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(set(started)) == 3
    try:
        assert wait_for(lambda: not any(map(at_work, started)), limit=10)
    finally:
        for pid in filter(at_work, started):
            os.kill(pid, signal.SIGKILL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pids", "stubborn.py"]


def test_it_does_not_outlive_its_parent(tmp_path):
    """Nor does its folder, even where the parent had no time to clean up."""
    work, image = tmp_path / "work", tmp_path / "noise.fits"
    work.mkdir()
    write_image(restored([], size=900), image)
    parent = start_python(
        "from diffsky.evaluation import pybdsf\n"
        f"pybdsf({str(image)!r}, thresh_isl=1, thresh_pix=1.5, timeout=600)",
        TMPDIR=str(work),
    )
    assert wait_for(lambda: list(work.glob("*/*.pybdsf.log")))
    assert processes_in(work)
    parent.kill()
    parent.communicate(timeout=60)
    assert wait_for(lambda: not processes_in(work), limit=20)
    assert wait_for(lambda: not list(work.iterdir()), limit=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thresh_isl": -1}, "thresh_isl is -1; expected a positive"),
        ({"thresh_pix": np.nan}, "thresh_pix is nan; expected a positive"),
        ({"rms": 0}, "rms is 0; expected one positive number"),
        ({"rms": RMS, "rms_box": (30, 10)}, "rms and rms_box are both given"),
        ({"rms_box": (30,)}, r"rms_box is \(30,\); expected two positive ints"),
        ({"rms_box": (30.5, 10)}, "expected two positive ints"),
        ({"options": {"outdir": "x"}}, "options set outdir, which pybdsf sets by its arguments"),
        ({"options": {"stop_at": "isl"}}, "options set stop_at"),
        ({"timeout": 0}, "timeout is 0; expected a positive"),
        ({"primary_beam": np.ones((3, 3))}, r"primary_beam has shape \(3, 3\)"),
        ({"image": restored([], wcs_of(flip=-1))}, "image is mirrored"),
        ({"image": restored([], wcs_of(stretch=1.005))}, "must have square pixels, got 0.2"),
        ({"image": CCDData(np.ones((64, 64)), unit="Jy/beam", wcs=wcs_of())}, "beam"),
    ],
)
def test_refusals_of_pybdsf(options, message):
    """All before PyBDSF is started, which the time limit would end."""
    with pytest.raises(ValueError, match=message):
        pybdsf(**({"image": restored([]), "timeout": 1e-3} | options))


def test_images_without_data():
    image = restored([])
    nothing = CCDData(np.full((128, 128), np.nan), unit=image.unit, wcs=image.wcs, meta=image.meta)
    with pytest.raises(ValueError, match="none of its 16384 pixels is finite"):
        pybdsf(nothing)
    image.mask = np.arange(128) < 64 * np.ones((128, 1))
    with pytest.raises(ValueError, match="nowhere above 0 where the image has data"):
        pybdsf(image, primary_beam=image.mask.astype(float))
