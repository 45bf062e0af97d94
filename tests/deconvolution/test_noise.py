"""The noise of an image: one number, or a map where it varies."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from diffsky.deconvolution.noise import estimate_rms, estimate_rms_map, measure_noise

SHAPE, BEAM = (160, 160), 4.25
VALID = np.ones(SHAPE, dtype=bool)


@pytest.fixture
def gradient():
    """Noise rms that triples from left to right."""
    return np.broadcast_to(1e-4 * 3 ** (np.arange(160) / 159), SHAPE)


@pytest.mark.parametrize("seed", range(6))
def test_uniform_noise_is_one_number(noise_image, blob, seed):
    rng = np.random.default_rng(seed)
    data = 1e-4 * noise_image(SHAPE, BEAM, rng)
    data += sum(2e-3 * blob(SHAPE, x, y, BEAM, 10.0) for x, y in rng.uniform(10, 150, (8, 2)))
    assert measure_noise(data, VALID, beam_fwhm=BEAM) == estimate_rms(data)


@pytest.mark.parametrize("disc", [False, True])
def test_gradient_is_followed(noise_image, gradient, disc):
    data = gradient * noise_image(SHAPE, BEAM, np.random.default_rng(1))
    y, x = np.indices(SHAPE) - 80
    valid = np.hypot(x, y) < 80 if disc else VALID
    data = np.where(valid, data, np.nan)
    rms = measure_noise(data, valid, beam_fwhm=BEAM)
    assert rms.shape == SHAPE
    assert not rms[~valid].any()
    assert_allclose(rms[valid], gradient[valid], rtol=0.35)
    assert np.std(np.log(rms[valid] / gradient[valid])) < 0.1


def test_extended_source_is_not_noise(noise_image, blob):
    data = noise_image(SHAPE, BEAM, np.random.default_rng(1)) + blob(SHAPE, 50, 60, 22, 8000.0)
    rms = estimate_rms_map(data, VALID, beam_fwhm=BEAM)
    assert rms[40:80, 30:70].max() < 1.5


def test_sidelobes_of_a_bright_source_are_not_noise(noise_image, blob, gradient):
    data = gradient * noise_image(SHAPE, BEAM, np.random.default_rng(1))
    data += 1e-2 * blob(SHAPE, 50, 60, BEAM, 20.0)
    assert np.ndim(measure_noise(data, VALID, beam_fwhm=BEAM)) == 0


def test_small_fields_have_one_number(noise_image):
    data = noise_image((96, 96), BEAM, np.random.default_rng(1)) * np.linspace(1, 3, 96)
    assert estimate_rms_map(data, np.ones((96, 96), bool), beam_fwhm=BEAM) is None
    assert measure_noise(data, np.ones((96, 96), bool), beam_fwhm=BEAM) == estimate_rms(data)


def test_scattered_pixels_have_one_number(noise_image):
    data = noise_image(SHAPE, BEAM, np.random.default_rng(1)) * np.linspace(1, 3, 160)
    valid = np.zeros(SHAPE, dtype=bool)
    valid[::7, ::7] = True
    assert np.ndim(measure_noise(data, valid, beam_fwhm=BEAM)) == 0
