"""Source models of cutouts: known Gaussians through PyBDSF, and what it cannot fit."""

import contextlib
import os
import signal
import tempfile
import threading

import astropy.units as u
import numpy as np
import pytest
from baseline_images import needs_pybdsf
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from small_casa import processes_in, wait_for

from diffsky.evaluation import _pybdsf_process
from diffsky.evaluation._pybdsf_process import PyBDSFError, PyBDSFRefusal
from diffsky.evaluation.source_models import (
    STATUSES,
    background_rms,
    fit_source_models,
    half_flux_area,
    positive_residual,
)

FWHM = np.sqrt(8 * np.log(2))
BEAM = 4.0  # pixels
GRID = {"beam": 6 * u.arcsec, "pixel_scale": 1.5 * u.arcsec}
BEAM_AREA = np.pi * BEAM**2 / (4 * np.log(2))
RMS = 2e-4  # Jy/beam


def gaussian(x0, y0, flux, *, major=BEAM, minor=BEAM, angle=0.0, size=80):
    """Gaussian of a flux in Jy, Jy/beam; FWHM in pixels, angle from +x in deg."""
    y, x = np.indices((size, size))
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, across = (x - x0) * c + (y - y0) * s, (y - y0) * c - (x - x0) * s
    shape = np.exp(-4 * np.log(2) * ((along / major) ** 2 + (across / minor) ** 2))
    return flux * BEAM_AREA / (np.pi * major * minor / (4 * np.log(2))) * shape


def noise(seed, size=80):
    """Noise with the correlation of the beam."""
    white = np.random.default_rng(seed).normal(size=(size, size))
    image = ndimage.gaussian_filter(white, BEAM / FWHM / np.sqrt(2), mode="wrap")
    return RMS * image / image.std()


def single(image, **options):
    """The only row and model of an image."""
    found = fit_source_models(image[None], n_workers=1, **GRID, **options)
    return found.table[0], found.models[0]


SHAPES = [(9.0, 9.0, 0), (14.0, 6.0, 30), (20.0, 8.0, 110)]


@pytest.mark.parametrize(("major", "minor", "angle"), SHAPES)
def test_half_flux_area_is_that_of_the_half_power_ellipse(major, minor, angle):
    model = gaussian(39.8, 40.3, 1.0, major=major, minor=minor, angle=angle)
    expected = np.pi * major * minor / 4
    assert half_flux_area(model) == pytest.approx(expected, abs=0.5 + 0.02 * expected)
    assert half_flux_area(7 * model) == half_flux_area(model)


def test_half_flux_area_of_pixels():
    assert half_flux_area(np.zeros((5, 5))) == 0
    assert half_flux_area(np.ones((5, 5))) == 13
    image = np.zeros((5, 5))
    image[0, 0], image[4, 4] = 3.0, 2.0
    assert half_flux_area(image) == 1
    image[2, 2] = 2.0
    assert half_flux_area(image) == 2


def test_positive_residual_of_noise():
    """Eq. 26: normal noise has sigma / sqrt(2 pi) a pixel above 0, clipped or not."""
    x = np.random.default_rng(3).normal(0, 2.0, size=(4, 80, 80))
    residual = positive_residual(x, np.zeros_like(x))
    assert_allclose(residual, 6400 * 2 / np.sqrt(2 * np.pi), rtol=0.04)
    assert_array_equal(positive_residual(np.clip(x, 0, None), np.zeros_like(x)), residual)
    assert_array_equal(positive_residual(x, x + 1), 0)


def test_background_rms_does_not_see_the_clipping():
    images = np.array([noise(k) for k in range(8)]) + gaussian(40, 40, 0.02)
    rms = background_rms(images)
    assert_allclose(rms, RMS, rtol=0.1)
    assert rms.mean() == pytest.approx(RMS, rel=0.04)
    assert_array_equal(background_rms(np.clip(images, 0, None)), rms)
    assert np.isnan(background_rms(np.stack([images[0] * 0, images[0] * 0 + 1]))).all()
    assert np.isnan(background_rms(np.where(images > 3 * RMS, images, 0))).all()


@needs_pybdsf
def test_injected_gaussians_and_images_without():
    """Fluxes within their errors, and the same for any number of workers, clipping and unit."""
    sources = [
        gaussian(33.4, 45.2, 0.010),
        gaussian(40.3, 38.6, 0.030, major=9, minor=6, angle=25),
        gaussian(25.0, 30.0, 0.008) + gaussian(55.0, 50.0, 0.016),
    ]
    images = np.array([source + noise(k) for k, source in enumerate(sources)])
    images = np.concatenate([images, [noise(7), np.zeros((80, 80)), np.ones((80, 80))]])
    found = fit_source_models(images, n_workers=2, **GRID)
    table = found.table
    assert list(table["status"]) == ["fitted"] * 3 + ["no source"] + ["failed"] * 2
    assert found.counts == dict(zip(STATUSES, (3, 1, 2, 0), strict=True))
    assert table.meta["failed"] == 2
    assert "no noise to measure" in table["reason"][4]
    assert list(table["reason"][:4]) == [""] * 4
    for row, model, true in zip(table, found.models, sources, strict=False):
        # Condon 1997: an error of rms/peak for a point, of more pixels for larger sources.
        flux, n_beams = true.sum() / BEAM_AREA, half_flux_area(true) / (np.pi * BEAM**2 / 4)
        assert row["model_flux"] == pytest.approx(flux, abs=4 * RMS * np.sqrt(2 * n_beams))
        assert row["area_50"] == pytest.approx(half_flux_area(true), rel=0.12, abs=2)
        assert np.abs(model - true).max() < 6 * RMS
        assert row["residual"] == pytest.approx(6400 * RMS / np.sqrt(2 * np.pi), rel=0.15)
    assert table["model_flux"][3] == table["area_50"][3] == 0
    assert table["residual"][3] == np.clip(images[3], 0, None).sum()
    for name in ("model_flux", "area_50", "residual"):
        assert np.isnan(table[name][4:]).all()
    more = np.concatenate([images, np.clip(images[:3], 0, None)])
    other = fit_source_models(more * 1024, n_workers=1, **GRID)
    same, clipped = other.table[:6], other.table[6:]
    # What differs are subnormal numbers.
    assert_allclose(other.models[:6], found.models * 1024, rtol=1e-6, atol=1e-30)
    assert_array_equal(same["status"], table["status"])
    for name in ("model_flux", "residual", "rms"):
        assert_allclose(same[name], table[name] * 1024, rtol=1e-12)
        assert_allclose(clipped[name], same[name][:3], rtol=0.03)


@needs_pybdsf
def test_image_without_noise_and_a_given_rms():
    """A relative image whose background is 0, as those of FIRST."""
    source = gaussian(38, 43, 1.0, major=10, minor=6, angle=70)
    image = np.clip(source / source.max() - 0.06, 0, None)
    assert single(image)[0]["status"] == "failed"
    row, model = single(image / image.max(), rms=0.02)
    assert row["status"] == "fitted"
    assert row["rms"] == 0.02
    y, x = ndimage.center_of_mass(model)
    assert (x, y) == pytest.approx((38, 43), abs=0.1)
    assert row["model_flux"] == pytest.approx((image / image.max()).sum() / BEAM_AREA, rel=0.1)


@needs_pybdsf
def test_time_limit_is_counted_and_ends_no_other_image(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fit, limits = _pybdsf_process.PyBDSFModels.fit, iter([1e-3, 60, 60])

    def hurried(process, image, header):
        process.start()
        process._job["limit"] = next(limits)
        return fit(process, image, header)

    monkeypatch.setattr(_pybdsf_process.PyBDSFModels, "fit", hurried)
    images = np.array([gaussian(40, 40, 0.02) + noise(k) for k in range(3)])
    found = fit_source_models(images, n_workers=1, **GRID)
    assert list(found.table["status"]) == ["timed out", "fitted", "fitted"]
    assert found.table["reason"][0] == "PyBDSF did not finish within 0.001 s and was killed"
    assert np.isnan(found.models[0]).all()
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


@needs_pybdsf
def test_process_that_dies_fails_one_image(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    image = np.zeros((40, 40), dtype="f4")
    process = _pybdsf_process.PyBDSFModels({"beam": [0.001, 0.001, 0.0]}, timeout=60)
    with contextlib.closing(process):
        process.start()
        pid = process._process.pid
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(PyBDSFError, match="ended by signal 9"):
            process.fit(image, None)
        process.start()
        assert process._process.pid != pid
        with pytest.raises(PyBDSFError, match="CTYPE1"):
            process.fit(image, None)
    with pytest.raises(PyBDSFError, match="was closed"):
        process.start()
    assert list(tmp_path.iterdir()) == []


@needs_pybdsf
@pytest.mark.slow
def test_interruption_keeps_what_was_stored(tmp_path, monkeypatch):
    work, store = tmp_path / "work", tmp_path / "store"
    work.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(work))
    images = np.array([gaussian(40, 40, 0.02) + noise(k) for k in range(3)])
    first = fit_source_models(images[:2], n_workers=1, store=store, **GRID)
    assert len(list(store.iterdir())) == 2

    def interrupt(*args):
        wait_for(lambda: list(work.glob("*/image.fits")), limit=60)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        fit_source_models(np.tile(images, (30, 1, 1)) * 1.5, n_workers=2, **GRID)
    assert list(work.iterdir()) == []
    assert processes_in(work) == []

    fitted = []
    fit = _pybdsf_process.PyBDSFModels.fit
    monkeypatch.setattr(
        _pybdsf_process.PyBDSFModels, "fit", lambda *args: fitted.append(1) or fit(*args)
    )
    damaged = sorted(store.iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:50])
    again = fit_source_models(images, n_workers=1, store=store, **GRID)
    assert len(fitted) == 2
    assert_array_equal(again.models[:2], first.models)
    fit_source_models(images, n_workers=1, store=store, thresh_pix=6, **GRID)
    assert len(fitted) == 5


@needs_pybdsf
@pytest.mark.parametrize(("error", "tries"), [(PyBDSFRefusal("no"), 1), (PyBDSFError("killed"), 2)])
def test_what_pybdsf_gives_up_is_not_tried_again(tmp_path, monkeypatch, error, tries):
    calls = []

    def fit(*args):
        calls.append(1)
        raise error

    monkeypatch.setattr(_pybdsf_process.PyBDSFModels, "fit", fit)
    images = (gaussian(40, 40, 0.02) + noise(1))[None]
    for _ in range(2):
        found = fit_source_models(images, n_workers=1, store=tmp_path, **GRID)
        assert list(found.table["status"]) == ["failed"]
        assert list(found.table["reason"]) == [str(error)]
    assert len(calls) == tries


@needs_pybdsf
@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros((80, 80)), {}, r"shape \(80, 80\); expected numbers"),
        (np.full((2, 8, 8), np.nan), {}, "2 images have pixels that are not finite, first 0"),
        (np.ones((2, 8, 8)), {"rms": [1, 2, 3]}, "one for each of 2 images"),
        (np.ones((2, 8, 8)), {"rms": 0}, "rms is 0.0; expected"),
        (np.ones((2, 8, 8)), {"n_workers": 0}, "n_workers is 0; expected"),
        (np.ones((2, 8, 8)), {"thresh_pix": 2}, "thresh_isl is 3.0 and thresh_pix 2"),
        (np.ones((2, 8, 8)), {"pixel_scale": 1.5}, "pixel_scale is 1.5; expected an angle"),
        (np.ones((2, 8, 8)), {"pixel_scale": -1 * u.arcsec}, "expected one angle above 0"),
        (np.ones((2, 8, 8)), {"timeout": -1}, "timeout is -1; expected"),
        (np.ones((2, 8, 8)), {"beam": 5}, "beam: expected"),
    ],
)
def test_refusals(images, options, message):
    with pytest.raises(ValueError, match=message):
        fit_source_models(images, **{**GRID, **options})
