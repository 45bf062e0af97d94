"""The bank of PSFs: what is in it, and files of the user's own."""

import re
from importlib.resources import files

import astropy.units as u
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from diffsky.backend import sample_generator
from diffsky.deconvolution import get_preset
from diffsky.instrument import (
    Instrument,
    beam_fwhm,
    instrument_from_uv,
    load_psf_bank,
    working_weights,
    write_psf_bank,
)

ARCSEC = np.pi / 180 / 3600
LARGEST = 10e6  # bytes


@pytest.fixture(scope="module")
def bank():
    return load_psf_bank()


def test_bundled_bank(bank):
    """At least 64 PSFs over resolution, declination and hour angle, of both weightings."""
    table = bank.table
    assert len(bank) == len(table) == len(bank.weights) >= 64
    assert bank.weights.shape == bank.noise_weights.shape == (len(bank), 256, 129)
    assert (files("diffsky") / "data" / "psf-bank" / "psf-bank.npz").stat().st_size < LARGEST
    assert table["beam"].min() < 0.12 * u.arcsec
    assert 2.5 * u.arcsec < table["beam"].max() < 3.2 * u.arcsec
    assert table["declination"].min() == -70 * u.deg
    assert table["declination"].max() == 30 * u.deg
    assert table["hour_angle"].min() == -2 * u.hourangle
    assert table["hour_angle"].max() == 2 * u.hourangle
    natural = table["weighting"] == "natural"
    assert natural.sum() == (~natural).sum() == len(bank) // 2
    assert np.isnan(table["robust"][natural]).all()
    assert_allclose(table["robust"][~natural], 0.5)


def test_arrays_kept_for_tests(bank):
    """Neither configuration 4 of any cycle nor the ACA."""
    for array in set(bank.table["array"]):
        found = re.fullmatch(r"alma\.cycle\d+\.(\d+)", array)
        assert found
        assert found[1] != "4"


def test_weights_of_the_bundled_bank(bank):
    assert bank.weights.dtype == torch.float32
    assert (bank.weights >= 0).all()
    assert_allclose(bank.weights.amax((1, 2)), 1)
    natural = torch.from_numpy(np.array(bank.table["weighting"] == "natural"))
    assert torch.equal(bank.weights[natural], bank.noise_weights[natural])
    assert not torch.equal(bank.weights[~natural], bank.noise_weights[~natural])


def test_working_grid_of_the_bundled_bank(bank):
    """The main lobe of every PSF is as wide as the preset says, and no two are alike."""
    psf = torch.fft.irfft2(bank.weights + 0j, s=(256, 256))
    psf = psf / psf[:, :1, :1]
    width = 2 * torch.sqrt((psf > 0.5).sum((1, 2)) / np.pi)
    expected = get_preset("small").scale.pixels_per_beam
    assert_allclose(width, expected, rtol=0.12)
    assert width.mean().item() == pytest.approx(expected, rel=0.03)
    flat = torch.nn.functional.normalize(psf.flatten(1) - psf.flatten(1).mean(1, keepdim=True))
    alike = flat @ flat.T - torch.eye(len(flat))
    assert alike.max() < 0.999


def test_instruments_of_the_bundled_bank(bank):
    """Noise of unit rms, and a point of flux 1 has a peak of 1."""
    one = bank.select([0, -1])
    instrument = Instrument(one.weights, torch.ones(2, 64, 64), 1.0, one.noise_weights)
    noise = instrument.noise([sample_generator(1, k) for k in range(2)])
    assert_allclose(noise.std((1, 2)), 1, atol=0.15)
    sky = torch.zeros(2, 64, 64)
    sky[:, 30, 20] = 1
    assert_allclose(instrument.forward(sky)[:, 30, 20], 1, rtol=1e-5)


def test_select(bank):
    natural = bank.select(bank.table["weighting"] == "natural")
    assert len(natural) == len(bank) // 2
    assert set(natural.table["weighting"]) == {"natural"}
    assert torch.equal(natural.weights[1], bank.weights[2])
    assert bank.select([3]).table["array"][0] == bank.table["array"][3]


# Files of the user's own

ROW = {
    "array": "mine",
    "frequency": 100.0,
    "declination": 5.0,
    "hour_angle": 0.5,
    "weighting": "natural",
    "robust": np.nan,
    "beam": 1.5,
}


def random_planes(n=3):
    planes = np.random.default_rng(1).uniform(0, 1, (n, 16, 9))
    planes[planes < 0.7] = 0
    return planes


def test_round_trip(tmp_path):
    """Half precision, zeros exact, every column with its unit."""
    planes, path = random_planes(), tmp_path / "new" / "bank.npz"
    write_psf_bank(path, [ROW] * 3, planes, planes**2)
    bank = load_psf_bank(path)
    assert_allclose(bank.weights, planes, rtol=1e-3)
    assert_allclose(bank.noise_weights, planes**2, rtol=1e-3)
    assert torch.equal(bank.weights == 0, torch.from_numpy(planes == 0))
    assert bank.table["frequency"][2] == 100 * u.GHz
    assert bank.table["hour_angle"].unit == u.hourangle
    assert bank.table["array"].tolist() == ["mine"] * 3


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        (random_planes(2), r"shape \(2, 16, 9\); expected \(3, N, N // 2 \+ 1\)"),
        (random_planes()[:, :, :5], r"shape \(3, 16, 5\)"),
        (2 * random_planes(), "expected 0 to 1"),
        (-random_planes(), "expected 0 to 1"),
        (random_planes() * np.nan, "expected 0 to 1"),
    ],
)
def test_write_refused(tmp_path, planes, message):
    with pytest.raises(ValueError, match=message):
        write_psf_bank(tmp_path / "bank.npz", [ROW] * 3, random_planes(), planes)
    assert not list(tmp_path.iterdir())


def test_other_files_refused(tmp_path):
    np.savez(tmp_path / "other.npz", values=np.arange(3))
    with pytest.raises(ValueError, match="has format None; expected a PSF bank of 1"):
        load_psf_bank(tmp_path / "other.npz")
    np.savez(tmp_path / "newer.npz", format=np.array(2))
    with pytest.raises(ValueError, match="has format 2"):
        load_psf_bank(tmp_path / "newer.npz")
    with pytest.raises(FileNotFoundError):
        load_psf_bank(tmp_path / "nothing.npz")


@pytest.mark.parametrize("width", [0.3, 2.0])
def test_beam_width(width):
    """Points whose density is the transform of a Gaussian have that Gaussian as their PSF."""
    sigma = np.sqrt(2 * np.log(2)) / np.pi / (width * ARCSEC)
    uv = np.random.default_rng(1).normal(0, sigma, (200000, 2))
    uv = uv[np.hypot(*uv.T) < 4 * sigma]
    assert beam_fwhm(uv) == pytest.approx(width, rel=0.02)


def test_width_is_that_of_the_main_lobe():
    """Two antennas far from a third: fringes above one half are not counted."""
    rng = np.random.default_rng(2)
    short = rng.normal(0, 300, (40, 2))
    far = np.array([12000.0, 0])
    uv = np.concatenate([short, far + rng.normal(0, 200, (400, 2))])
    width = beam_fwhm(uv)
    fringe = 1 / 12000 / ARCSEC
    assert width < 3 * fringe
    everywhere = np.concatenate([uv, rng.normal(0, 4000, (4000, 2))])
    assert beam_fwhm(everywhere) == pytest.approx(beam_fwhm(everywhere[::-1]))


def test_missing_column(tmp_path):
    planes = np.zeros((1, 8, 5))
    planes[0, 0, 0] = 1
    with pytest.raises(ValueError, match="row 0 has no frequency, declination"):
        write_psf_bank(tmp_path / "bank.npz", [{"array": "mine"}], planes, planes)


def test_working_pixel_that_is_too_large():
    with pytest.raises(ValueError, match="too large for every visibility; expected less than"):
        working_weights(np.array([[1e6, 0.0]]), pixel_scale=1.0, grid_size=16)


def test_working_weights_have_the_width():
    """Sampled at so many pixels per beam, the PSF is so many pixels wide."""
    uv = np.random.default_rng(2).normal(0, 1e5, (20000, 2))
    pixel = beam_fwhm(uv) / 4.25
    weights = torch.from_numpy(working_weights(uv, pixel_scale=pixel, grid_size=256))
    psf = Instrument(weights, torch.ones(128, 128), 1.0).psf((63, 63))
    assert 2 * np.sqrt((psf > 0.5).sum().item() / np.pi) == pytest.approx(4.25, rel=0.1)
    full = instrument_from_uv(
        uv[np.hypot(*uv.T) * pixel * ARCSEC < 0.49],
        pixel_scale=pixel,
        primary_beam=np.ones((128, 128)),
        rms=1.0,
    )
    assert_allclose(psf, full.psf((63, 63)), atol=0.05)
