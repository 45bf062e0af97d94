"""CLEAN by CASA: what it makes of known skies, and how it ends."""

import tempfile

import astropy.units as u
import numpy as np
import psutil
import pytest
from baseline_images import (
    FLUX,
    LONG_BEAM,
    PIXELS,
    beam_covariance,
    dirty_and_psf,
    needs_pybdsf,
    quarter_turn,
)
from small_casa import needs_casa, processes_in

from diffsky.evaluation import clean, clean_image, pybdsf
from diffsky.instrument import instrument_from_uv
from diffsky.simulation import CasaError, CasaTimeoutError

pytestmark = needs_casa


def check_restored(images, beam):
    """The restored image is the components seen with a beam, and the residual."""
    covariance = beam_covariance(beam, images.image.wcs)
    k = np.stack(np.meshgrid(*map(np.fft.fftfreq, images.image.shape), indexing="ij")[::-1], -1)
    response = np.exp(-2 * np.pi**2 * np.einsum("...i,ij,...j", k, covariance, k))
    area = 2 * np.pi * np.sqrt(np.linalg.det(covariance))
    expected = area * np.fft.ifft2(np.fft.fft2(images.model.data) * response).real
    found = np.nan_to_num(images.image.data - images.residual.data)
    limit = 0.01 * expected.max()
    np.testing.assert_allclose(found, np.where(images.image.mask, 0, expected), atol=limit)


def test_images_of_clean(observed, cleaned):
    blank = observed.dirty.mask
    for image in (cleaned.image, cleaned.residual):
        assert image.unit == u.Jy / u.beam
        assert np.array_equal(np.isnan(image.data), blank)
        assert u.isclose(image.meta["beam"].major, observed.beam.major, rtol=1e-6)
        assert u.isclose(image.meta["beam"].pa, observed.beam.pa, rtol=1e-6)
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


def test_beam_is_that_of_the_data_used(observed):
    """Without its long baselines the same observation has another beam."""
    images = clean(observed, options={"uvrange": "<150m"})
    beam = images.image.meta["beam"]
    check_restored(images, beam)
    assert beam.major > 1.2 * observed.beam.major
    for image in (images.residual, images.model):
        assert image.meta["beam"] == beam


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


def test_beam_in_a_rotated_image():
    """The position angle of the beam is east of north, wherever north is."""
    dirty, psf = dirty_and_psf(rotation=30)
    images = clean_image(dirty, psf)
    assert images.model.data.sum() == pytest.approx(10e-3, rel=0.05)
    check_restored(images, LONG_BEAM)


def test_turned_image_is_cleaned_alike():
    dirty, psf = dirty_and_psf()
    images = clean_image(dirty, psf)
    check_restored(images, LONG_BEAM)
    turned = clean_image(quarter_turn(dirty), np.rot90(psf))
    assert turned.parameters["iterations"] > 10
    for name in ("image", "residual"):
        expected = np.rot90(getattr(images, name).data)
        np.testing.assert_allclose(getattr(turned, name).data, expected, atol=1e-4)


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


def test_clean_is_quiet_and_tidy(observed, tmp_path, monkeypatch, capfd):
    here, work, log = tmp_path / "here", tmp_path / "work", tmp_path / "casa.log"
    here.mkdir()
    monkeypatch.chdir(here)
    clean_image(observed.dirty, observed.psf, max_iterations=2, log_file=log, work_dir=work)
    assert "Task deconvolve complete" in log.read_text()
    assert list(here.iterdir()) == []
    assert list(work.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_time_limit_and_failure_of_clean(observed, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    log, work = tmp_path / "casa.log", tmp_path / "work"
    before = psutil.Process().children(recursive=True)
    with pytest.raises(CasaTimeoutError, match=r"within 0\.5 s"):
        clean(observed, timeout=0.5, log_file=log, work_dir=work)
    assert psutil.Process().children(recursive=True) == before
    assert processes_in(tmp_path) == []
    with pytest.raises(CasaError, match="no_such_parameter") as caught:
        clean(observed, options={"no_such_parameter": 1}, log_file=log)
    assert caught.value.log_file == log
    assert list(work.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["casa.log", "work"]


def test_log_of_a_failure_is_kept(observed, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(CasaError, match="The whole log") as caught:
        clean(observed, timeout=0.5)
    assert list(tmp_path.iterdir()) == [caught.value.log_file]
