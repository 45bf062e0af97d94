"""CLEAN and PyBDSF, the real ones: known answers, refusals and faults."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from radio_beam import Beam
from scipy import ndimage

from diffsky.catalog import SourceFlag, check_catalog, read_catalog, write_catalog
from diffsky.evaluation._clean import centred
from diffsky.evaluation.baselines import (
    CleanedImages,
    PyBDSFError,
    PyBDSFTimeoutError,
    clean,
    clean_image,
    clean_pybdsf,
    matched_filter,
    pybdsf,
)
from diffsky.instrument import instrument_from_uv
from diffsky.simulation import (
    CasaError,
    CasaTimeoutError,
    Observation,
    ObservationSetup,
    simulate_observation,
)

needs_casa = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("casatools", "casatasks", "casadata")),
    reason="CASA is not installed",
)
needs_pybdsf = pytest.mark.skipif(
    importlib.util.find_spec("bdsf") is None, reason="PyBDSF is not installed"
)
ROOT = Path(__file__).resolve().parents[2]
SETUP = ObservationSetup(
    image_size=192, cell=0.15 * u.arcsec, total_time=10 * u.min, integration=60 * u.s
)
PIXELS = np.array([[70.3, 110.2], [130.6, 60.7]])
FLUX = [2.0, 4.0] * u.mJy
BEAM = Beam(0.9 * u.arcsec, 0.8 * u.arcsec, 20 * u.deg)
RMS = 50 * u.uJy / u.beam
FWHM = np.sqrt(8 * np.log(2))


def processes(word):
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if word in line]


def check_two_sources(catalog):
    """A point and a Gaussian, each found once."""
    check_catalog(catalog)
    assert len(catalog) == 2
    true = SETUP.wcs.pixel_to_world(*PIXELS.T)
    index, apart, _ = true.match_to_catalog_sky(catalog["sky_centroid"])
    assert sorted(index) == [0, 1]
    assert (apart < 0.1 * u.arcsec).all()
    found = catalog[index]
    assert (np.abs(found["flux"] - FLUX) < 3 * found["flux_err"]).all()
    assert (found["flux_err"] < 0.12 * found["flux"]).all()
    return found


# ---- CLEAN ----


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """A point of 2 mJy and a Gaussian of 4 mJy, with noise, the measurement set kept."""
    sources = QTable(
        {
            "flux": FLUX,
            "sky_centroid": SETUP.wcs.pixel_to_world(*PIXELS.T),
            "major": [0, 1.2] * u.arcsec,
            "minor": [0, 0.8] * u.arcsec,
            "pa": [0, 30] * u.deg,
        }
    )
    folder = tmp_path_factory.mktemp("kept")
    return simulate_observation(sources, SETUP, seed=3, work_dir=folder, keep_measurement_set=True)


@pytest.fixture(scope="module")
def cleaned(observed):
    return clean(observed)


@needs_casa
def test_images_of_clean(observed, cleaned):
    blank = observed.dirty.mask
    for image in (cleaned.image, cleaned.residual):
        assert image.unit == u.Jy / u.beam
        assert np.array_equal(np.isnan(image.data), blank)
        assert image.meta["beam"].major == observed.beam.major
        assert image.meta["frequency"] == 230 * u.GHz
        assert image.wcs.wcs.compare(observed.dirty.wcs.wcs)
    assert cleaned.parameters["algorithm"] == "tclean"
    assert cleaned.parameters["iterations"] > 20
    # Restored = components with the beam + residual: the peak of the point stays.
    x, y = np.round(PIXELS[0]).astype(int)
    assert cleaned.image.data[y, x] == pytest.approx(observed.dirty.data[y, x], rel=0.05)
    gain = observed.primary_beam.data[y, x]
    assert cleaned.corrected.data[y, x] == pytest.approx(cleaned.image.data[y, x] / gain)
    assert np.isnan(cleaned.corrected.data[blank]).all()


@needs_casa
def test_components_of_clean(observed, cleaned):
    assert cleaned.model.unit == u.Jy / u.pix
    allowed = cleaned.clean_mask
    assert 0 < allowed.mean() < 0.1
    assert not np.any(cleaned.model.data[~allowed])
    y, x = np.indices(allowed.shape)
    for (x0, y0), flux in zip(PIXELS, FLUX.to_value(u.Jy), strict=True):
        near = np.hypot(x - x0, y - y0) < 10
        gain = observed.primary_beam.data[int(y0), int(x0)]
        assert cleaned.model.data[near].sum() / gain == pytest.approx(flux, rel=0.15)
    # What is left is noise: nothing above the noise threshold of the masks, and its rms.
    residual = cleaned.residual.data[~cleaned.residual.mask]
    noise = cleaned.rms.to_value(u.Jy / u.beam)
    assert 5e-5 < noise < 8e-5
    assert residual.std() == pytest.approx(noise, rel=0.1)
    assert np.abs(residual).max() < 5.5 * noise


@needs_casa
@needs_pybdsf
def test_catalogue_of_clean(observed, cleaned, tmp_path):
    catalog = pybdsf(cleaned)
    point, gaussian = check_two_sources(catalog)
    assert point["major"] < 0.4 * u.arcsec
    assert abs(gaussian["major"] - 1.2 * u.arcsec) < 0.3 * u.arcsec
    assert abs(gaussian["minor"] - 0.8 * u.arcsec) < 0.3 * u.arcsec
    assert abs(gaussian["pa"] - 30 * u.deg) < 15 * u.deg
    assert abs(point["snr"] - 27) < 5
    assert np.isnan(catalog["reliability"]).all()
    assert list(catalog["n_detections"]) == [1, 1]
    assert list(catalog["flags"]) == [0, 0]
    np.testing.assert_allclose(catalog["flux_upper"] - catalog["flux"], catalog["flux_err"])
    write_catalog(catalog, tmp_path / "found.ecsv")
    assert read_catalog(tmp_path / "found.ecsv").colnames == catalog.colnames
    # The matched filter finds the same, without CLEAN, and its table has the same columns.
    known = matched_filter(
        observed.dirty, _centred(observed.psf.data), rms=cleaned.rms, threshold=8,
        primary_beam=observed.primary_beam,
    )  # fmt: skip
    check_two_sources(known)
    assert known.colnames == catalog.colnames


def _centred(psf):
    """CASA's PSF is wrong at its edge."""
    return psf[20:-20, 20:-20]


@needs_casa
@pytest.mark.parametrize("deconvolver", ["hogbom", "multiscale"])
def test_without_measurement_set(observed, cleaned, deconvolver):
    """Minor cycles on dirty image and true PSF give what tclean gives."""
    instrument = instrument_from_uv(
        observed.uv, weights=observed.weights, pixel_scale=0.15, rms=0.0,
        primary_beam=observed.primary_beam.data,
    )  # fmt: skip
    psf = instrument.psf().numpy()
    assert psf.shape > observed.dirty.shape
    rms = None if deconvolver == "hogbom" else cleaned.rms
    images = clean_image(
        observed.dirty, psf, primary_beam=observed.primary_beam, rms=rms, deconvolver=deconvolver
    )
    assert images.parameters["algorithm"] == "deconvolve"
    if deconvolver == "multiscale":
        assert float(images.parameters["threshold"].removesuffix("Jy")) == 2 * rms.value
        assert images.parameters["scales"] == [0, 6, 17]
        assert np.count_nonzero(images.model.data) > 2 * np.count_nonzero(cleaned.model.data)
    difference = (images.image.data - cleaned.image.data)[~observed.dirty.mask]
    limit = 0.1 if deconvolver == "hogbom" else 0.3
    assert difference.std() < limit * cleaned.rms.value
    assert u.isclose(images.rms, cleaned.rms, rtol=0.05)


@needs_casa
@needs_pybdsf
def test_noise_alone_gives_next_to_nothing(observed):
    rng = np.random.default_rng(0)
    power = np.fft.fft2(np.fft.ifftshift(observed.psf.data)).real.clip(0)
    white = np.fft.fft2(rng.normal(size=power.shape))
    noise = np.fft.ifft2(white * np.sqrt(power)).real
    noise *= 7e-5 / noise.std()
    empty = replace(
        observed,
        dirty=CCDData(noise, unit="Jy/beam", wcs=SETUP.wcs, meta={"beam": observed.beam}),
        measurement_set=None,
    )
    catalog = clean_pybdsf(empty, finding={"thresh_pix": 5})
    check_catalog(catalog)
    assert len(catalog) <= 1
    made_by = catalog.meta["clean"]
    assert made_by["algorithm"] == "deconvolve"
    assert made_by["rms"] == pytest.approx(7e-5, rel=0.05)


@needs_casa
@needs_pybdsf
def test_real_observation(data_dir):
    """The extended [CII] source, from the dirty image."""
    stem = str(data_dir / "alma_pisco" / "Pisco.cii.455kms")
    images = clean_image(f"{stem}.dirty.fits", f"{stem}.psf.fits", primary_beam=f"{stem}.pb.fits")
    assert 25 < images.rms.to_value(u.uJy / u.beam) < 45
    # Its width is odd; the components are restored where they are.
    parts = images.model.data, np.nan_to_num(images.image.data - images.residual.data)
    y, x = np.indices(images.image.shape)
    for axis in (x, y):
        centres = [np.average(axis, weights=part) for part in parts]
        assert centres[0] == pytest.approx(centres[1], abs=0.1)
    # By default PyBDSF drops a Gaussian whose half-power ellipse leaves its island, as here.
    catalog = pybdsf(images, options={"flag_maxsize_fwhm": 0.3})
    source = catalog[np.argmax(catalog["snr"])]
    assert 2 < source["flux"].to_value(u.mJy) < 3.5
    assert 0.4 < source["major"].to_value(u.arcsec) < 1.2
    peak = np.unravel_index(np.argmax(images.image.data), images.image.shape)
    assert np.hypot(source["x_centroid"] - peak[1], source["y_centroid"] - peak[0]) < 7  # a beam


@needs_casa
def test_clean_is_quiet_and_tidy(observed, tmp_path, monkeypatch, capfd):
    here, work, log = tmp_path / "here", tmp_path / "work", tmp_path / "casa.log"
    here.mkdir()
    monkeypatch.chdir(here)
    clean_image(observed.dirty, observed.psf, max_iterations=2, log_file=log, work_dir=work)
    assert "Task deconvolve complete" in log.read_text()
    assert list(here.iterdir()) == []
    assert list(work.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@needs_casa
def test_time_limit_and_failure_of_clean(observed, tmp_path):
    log, work = tmp_path / "casa.log", tmp_path / "work"
    with pytest.raises(CasaTimeoutError, match=r"within 0\.5 s"):
        clean(observed, timeout=0.5, log_file=log, work_dir=work)
    assert list(work.iterdir()) == []
    assert processes(str(work)) == []
    with pytest.raises(CasaError, match="no_such_parameter") as caught:
        clean(observed, options={"no_such_parameter": 1}, log_file=log)
    assert caught.value.log_file == log


@needs_casa
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_sigma": 0}, "n_sigma is 0; expected a positive"),
        ({"gain": 1.5}, "a gain at most 1"),
        ({"max_iterations": 0.5}, "max_iterations is 0.5; expected an int"),
        ({"deconvolver": "clark"}, "deconvolver is 'clark'; expected one of"),
        ({"deconvolver": "multiscale", "scales": [-1]}, r"scales is \[-1\]; expected numbers"),
        ({"rms": [1, 2] * RMS}, "rms is .*; expected one positive number"),
        ({"rms": 0}, "rms is 0; expected one positive number"),
        ({"rms": 1 * u.K}, "not convertible"),
        ({"masking": "vla"}, "masking is 'vla'; expected one of .*alma-12m"),
        ({"masking": {"noise": 4}}, "masking has noise; expected some of"),
        ({"options": {"vis": "other.ms"}}, "options set vis, which the observation decides"),
    ],
)
def test_parameters_of_clean(observed, options, message):
    for call in (clean, lambda o, **kw: clean_image(o.dirty, o.psf, **kw)):
        with pytest.raises(ValueError, match=message):
            call(observed, **options)


@needs_casa
def test_observations_that_cannot_be_cleaned(observed, tmp_path):
    with pytest.raises(TypeError, match=r"of type CCDData; expected an Observation .*clean_image"):
        clean(observed.dirty)
    with pytest.raises(ValueError, match=r"no measurement set; .*keep_measurement_set=True"):
        clean(replace(observed, measurement_set=None))
    with pytest.raises(ValueError, match="no measurement set at .*gone.ms"):
        clean(replace(observed, measurement_set=tmp_path / "gone.ms"))


@needs_casa
def test_images_that_cannot_be_cleaned(observed):
    dirty, psf = observed.dirty, observed.psf
    blank = CCDData(np.full(dirty.shape, np.nan), unit=dirty.unit, wcs=dirty.wcs, meta=dirty.meta)
    bare = CCDData(np.nan_to_num(dirty.data), unit=dirty.unit, wcs=dirty.wcs)
    other = CCDData(psf.data, unit=psf.unit, wcs=replace(SETUP, cell=0.2 * u.arcsec).wcs)
    shifted = np.roll(psf.data, 20, axis=0)
    outside = np.where(dirty.mask, 1.0, 0.0)
    for arguments, message in [
        ({"dirty": blank}, "none of its 36864 pixels is finite"),
        ({"dirty": bare}, "beam"),
        ({"psf": other}, "psf has pixels of 0.2 arcsec, the image of 0.15 arcsec"),
        ({"psf": psf.data[:100, :100]}, r"psf has shape \(100, 100\), expected at least"),
        ({"psf": shifted}, r"psf peaks at pixel \(116, 96\)"),
        ({"primary_beam": outside}, "nowhere above 0 where dirty has data"),
        ({"primary_beam": np.ones((3, 3))}, r"primary_beam has shape \(3, 3\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            clean_image(**({"dirty": dirty, "psf": psf} | arguments))


@needs_casa
@needs_pybdsf
def test_what_the_pair_takes(observed):
    with pytest.raises(TypeError, match="psf is None; expected the PSF of the dirty image"):
        clean_pybdsf(observed.dirty)
    with pytest.raises(TypeError, match="beside an Observation, which has both"):
        clean_pybdsf(observed, observed.psf)
    assert isinstance(observed, Observation)


@given(st.tuples(st.integers(5, 40), st.integers(5, 40)), st.integers(0, 3), st.integers(0, 3))
def test_psf_iscentred_with_its_peak_in_the_middle(shape, more, less):
    size = shape[0] + more, max(shape[1] - less, 3)
    psf = np.zeros(size)
    psf[size[0] // 2, size[1] // 2] = 1
    psf[size[0] // 2 - 1, size[1] // 2 + 1] = 0.5
    placed = centred(psf, shape)
    assert placed.shape == shape
    assert placed[shape[0] // 2, shape[1] // 2] == 1
    assert placed[shape[0] // 2 - 1, shape[1] // 2 + 1] == 0.5
    assert placed.sum() == 1.5


# ---- PyBDSF ----


def wcs_of(rotation=0.0, flip=1):
    """128 x 128 pixels of 0.2 arcsec."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---SIN", "DEC--SIN"], [150.1, -45.2], [64, 64]
    wcs.wcs.cdelt = [-flip * 0.2 / 3600, 0.2 / 3600]
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    wcs.wcs.pc = [[c, -s], [s, c]]
    wcs.wcs.set()
    return wcs


def covariance(major, minor, pa, wcs):
    """Covariance in pixels of a Gaussian with FWHM in arcsec and pa in deg, east of north."""
    c, s = np.cos(np.radians(pa)), np.sin(np.radians(pa))
    axes = np.array([[s, c], [c, -s]])
    on_sky = axes @ np.diag([major**2, minor**2]) @ axes.T / FWHM**2
    to_pixels = np.linalg.inv(wcs.pixel_scale_matrix * 3600)
    return to_pixels @ on_sky @ to_pixels.T


def restored(sources, wcs=None, seed=2):
    """Image of sources (x, y, flux in Jy, major, minor, pa) with noise of 50 uJy/beam."""
    wcs = wcs_of() if wcs is None else wcs
    noise = np.random.default_rng(seed).normal(size=(128, 128))
    image = ndimage.gaussian_filter(noise, 0.85 / 0.2 / FWHM)
    image *= RMS.to_value(u.Jy / u.beam) / image.std()
    beam = covariance(0.9, 0.8, 20, wcs)
    y, x = np.indices(image.shape)
    for x0, y0, flux, *shape in sources:
        seen = beam + covariance(*shape, wcs)
        offset = np.stack([x - x0, y - y0], -1)
        chi2 = np.einsum("...i,ij,...j", offset, np.linalg.inv(seen), offset)
        share = np.sqrt(np.linalg.det(beam) / np.linalg.det(seen))
        image += flux * share * np.exp(-chi2 / 2)
    return CCDData(image, unit="Jy/beam", wcs=wcs, meta={"beam": BEAM})


@needs_pybdsf
def test_known_sources_in_a_rotated_image(tmp_path, monkeypatch, capfd):
    """One at half power, an extended one; nothing printed, nothing left."""
    folder, here = tmp_path / "temporary", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(here)
    sources = [(30.2, 40.7, 2e-3, 0, 0, 0), (80.3, 70.6, 5e-3, 2.0, 1.0, 60)]
    image = restored(sources, wcs_of(rotation=30))
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
    assert catalog["pa"][1].to_value(u.deg) == pytest.approx(60, abs=6)
    assert (np.abs(catalog["position_err"].to_value(u.mas) - [10, 25]) < 10).all()
    assert catalog["snr"][0] == pytest.approx(40, abs=4)
    assert catalog.meta["finder"] == "PyBDSF"
    assert "Processing image.fits" in log.read_text()
    assert capfd.readouterr() == ("", "")
    assert list(folder.iterdir()) == list(here.iterdir()) == []


@needs_pybdsf
def test_flags_masks_and_other_options(tmp_path):
    """A blend of three Gaussians in two sources, one source at the edge, one under the mask."""
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


@needs_pybdsf
def test_no_detection_is_an_empty_catalogue():
    catalog = pybdsf(restored([]), thresh_pix=8)
    assert len(check_catalog(catalog)) == 0
    assert catalog.meta["thresh_pix"] == 8


@needs_pybdsf
def test_time_limit_and_failure_of_pybdsf(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begin = time.monotonic()
    with pytest.raises(PyBDSFTimeoutError, match=r"within 0\.5 s") as caught:
        pybdsf(restored([]), timeout=500 * u.ms)
    assert time.monotonic() - begin < 5
    assert isinstance(caught.value, PyBDSFError)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(PyBDSFError, match="'no_such_option' not recognized"):
        pybdsf(restored([]), options={"no_such_option": 1})
    assert list(tmp_path.iterdir()) == []
    assert processes(str(tmp_path)) == []


@needs_pybdsf
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
        ({"timeout": 0}, "timeout is 0; expected a positive"),
        ({"primary_beam": np.ones((3, 3))}, r"primary_beam has shape \(3, 3\)"),
        ({"image": restored([], wcs_of(flip=-1))}, "image is mirrored"),
        ({"image": CCDData(np.ones((64, 64)), unit="Jy/beam", wcs=wcs_of())}, "beam"),
    ],
)
def test_refusals_of_pybdsf(options, message):
    with pytest.raises(ValueError, match=message):
        pybdsf(**({"image": restored([])} | options))


@needs_pybdsf
def test_images_without_data():
    image = restored([])
    nothing = CCDData(np.full((128, 128), np.nan), unit=image.unit, wcs=image.wcs, meta=image.meta)
    with pytest.raises(ValueError, match="none of its 16384 pixels is finite"):
        pybdsf(nothing)
    image.mask = np.arange(128) < 64 * np.ones((128, 1))
    with pytest.raises(ValueError, match="nowhere above 0 where the image has data"):
        pybdsf(image, primary_beam=image.mask.astype(float))


def test_what_is_missing_is_named():
    code = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith(("casa", "bdsf")):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
import diffsky.evaluation
assert not {"astropy", "torch"} & set(sys.modules)
from diffsky.evaluation import clean, clean_image, clean_pybdsf, pybdsf
for call in (
    lambda: clean("nothing"),
    lambda: clean_image("nothing.fits", "nothing.fits"),
    lambda: clean_pybdsf("nothing.fits", "nothing.fits"),
    lambda: pybdsf("nothing.fits"),
):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('pip install "diffsky-radio[casa]"') == 2
    assert done.stdout.count('pip install "diffsky-radio[bdsf]"') == 2


def test_all_baselines_are_found_in_one_place():
    import diffsky.catalog
    import diffsky.evaluation

    assert diffsky.evaluation.matched_filter is diffsky.catalog.matched_filter
    assert diffsky.evaluation.clean is clean
    assert diffsky.evaluation.CleanedImages is CleanedImages
