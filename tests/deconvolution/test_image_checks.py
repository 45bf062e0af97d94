"""Images with something in them that no network has seen: a warning says what."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from diffsky.backend import sample_generator
from diffsky.deconvolution.image_checks import find_stripes
from diffsky.exceptions import DiffskyWarning
from diffsky.instrument import Instrument, load_psf_bank

SHAPE, BEAM, RMS = (128, 128), 4.25, 1e-4
OPTIONS = {"n_samples": 1, "seed": 1, "primary_beam": 1.0}
VALID = np.ones(SHAPE, dtype=bool)


def wave(period, angle, shape=SHAPE):
    y, x = np.indices(shape)
    along = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    return np.sin(2 * np.pi * along / period + 0.7)


@pytest.mark.parametrize(("period", "angle"), [(9.3, 27.0), (24.0, -60.0), (6.1, 90.0)])
@pytest.mark.parametrize("amplitude", [1.5, 4.0, 30.0])
def test_stripes_are_found(noise_image, period, angle, amplitude):
    image = noise_image(SHAPE, BEAM, np.random.default_rng(1)) + amplitude * wave(period, angle)
    stripes = find_stripes(image, VALID, beam_fwhm=BEAM)
    assert_allclose(stripes.period, period, rtol=0.05)
    assert abs((stripes.angle - angle + 90) % 180 - 90) < 3
    assert 0.75 < stripes.amplitude < 1.5


@pytest.mark.parametrize("row", [0, 20, 41, 60, 79])
@pytest.mark.parametrize("size", [48, 128])
def test_noise_and_sources_are_no_stripes(row, size, blob):
    bank, rng = load_psf_bank(), np.random.default_rng(row)
    shape = (size, size)
    instrument = Instrument(bank.weights[row], torch.ones(shape), 1.0, bank.noise_weights[row])
    places = rng.uniform(8, size - 8, (4, 2))
    sky = sum(
        blob(shape, x, y, fwhm, flux)
        for (x, y), fwhm, flux in zip(places, (1.7, 1.7, 4, 8), (12, 400, 15, 60), strict=True)
    )
    sky = torch.from_numpy(sky.astype(np.float32))[None]
    for skies in (0 * sky, sky):
        image = instrument.observe(skies, [sample_generator(1, row)])[0].numpy()
        assert find_stripes(image, np.ones(shape, bool), beam_fwhm=BEAM) is None


def test_stripes_in_part_of_a_field_are_none(noise_image):
    image = noise_image(SHAPE, BEAM, np.random.default_rng(1))
    image[:60, :60] += 3 * wave(9.3, 27.0)[:60, :60]
    assert find_stripes(image, VALID, beam_fwhm=BEAM) is None


@pytest.mark.parametrize("shape", [(24, 24), (3, 90)])
def test_small_fields_are_not_searched(shape):
    assert find_stripes(wave(6.0, 0, shape), np.ones(shape, bool), beam_fwhm=BEAM) is None


def test_constant_image_has_no_stripes():
    assert find_stripes(np.ones(SHAPE), VALID, beam_fwhm=BEAM) is None


def altered(dirty, change, **options):
    image = dirty([(40.3, 50.7, 2e-3)], shape=SHAPE, rms=RMS, **options)
    image.data = image.data + RMS * change
    return image


@pytest.mark.parametrize("method", ["predict", "sample"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (3 * wave(10.0, 90.0), r"stripes of 1\.. rms .* period of 0\.9\d* arcsec, 90 deg"),
        (2.0, r"the background of the image is at 2\.. rms; expected 0"),
        (np.where((np.indices(SHAPE) - 90 > -4).all(0), -25.0, 0), "has a trough of 2.* rms"),
    ],
    ids=["stripes", "offset", "trough"],
)
def test_predict_says_what_it_found(local_estimator, dirty, change, message, method):
    image = altered(dirty, change)
    with pytest.warns(DiffskyWarning, match=message) as record:
        getattr(local_estimator(), method)(image, **OPTIONS, rms=RMS)
    assert [w.filename for w in record] == [__file__] * len(record)


def test_map_of_the_noise_is_announced(local_estimator, dirty, noise_image):
    image = dirty(shape=(160, 160), noise=False)
    growth = 4 ** (np.arange(160) / 159)
    image.data = (RMS * growth * noise_image((160, 160), BEAM, np.random.default_rng(3))).astype(
        "f4"
    )
    with pytest.warns(DiffskyWarning, match="noise varies .* from .* to .* Jy/beam"):
        _, catalog = local_estimator(threshold=5.0).predict(image, **OPTIONS)
    assert len(catalog) == 0
    # The same noise in units of one rms has peaks that are sources.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DiffskyWarning)
        _, catalog = local_estimator(threshold=5.0).predict(image, **OPTIONS, rms=RMS * 1.6)
    assert len(catalog) > 0


def test_small_field_needs_its_noise(local_estimator, dirty):
    """A source of S/N 20 is most of a field of one beam, and hides in the noise measured there."""
    image = dirty([(3.0, 3.0, 20 * RMS)], shape=(7, 7), rms=RMS)
    with pytest.warns(DiffskyWarning, match=r"was measured in \d beam areas, .* Give rms="):
        local_estimator(threshold=5.0).predict(image, **OPTIONS)
    _, catalog = local_estimator(threshold=5.0).predict(image, **OPTIONS, rms=RMS)
    assert_allclose(catalog["flux"].value, [20 * RMS], rtol=0.2)


def test_plain_images_pass(local_estimator, dirty):
    local_estimator().predict(altered(dirty, 0.0), **OPTIONS)  # a warning would be an error
