"""The weights that come with the package draw what they say."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose

import diffsky
from diffsky import RadioGalaxyGenerator

NAMES = ("first", "first-flux")
MAX_BYTES = 16e6


@pytest.mark.parametrize("name", NAMES)
def test_size_and_terms(name):
    folder = Path(diffsky.__file__).parent / "data" / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < MAX_BYTES
    description = RadioGalaxyGenerator.from_pretrained(name, device="cpu").description_
    assert description["name"] == name
    assert "non-commercial" in description["data"]["terms"]
    assert description["merits"]


def test_classes_have_their_shapes():
    """A compact source is one beam, 5.4 arcsec or 3 pixels; an FRII is longer than that."""
    generator = RadioGalaxyGenerator.from_pretrained("first", device="cpu")
    assert generator.condition_.classes == ("Bent", "Compact", "FRI", "FRII")
    areas = {}
    for label in ("Compact", "FRII"):
        cube = generator.sample(8, label=label, seed=3)
        assert cube.shape == (8, 80, 80)
        areas[label] = (cube.data > 0.1).sum(axis=(1, 2))
        y, x = np.unravel_index(cube.data.reshape(8, -1).argmax(axis=1), (80, 80))
        assert np.median(np.hypot(x - 39.5, y - 39.5)) < 12  # pixels from the middle
    assert np.median(areas["FRII"]) > 2 * np.median(areas["Compact"])
    assert areas["Compact"].max() < 200


def test_peaks_are_those_asked_for_and_faint_sources_noisier():
    generator = RadioGalaxyGenerator.from_pretrained("first-flux", device="cpu")
    peaks = np.repeat([2.0, 40.0], 6)
    cube = generator.sample(12, peak_flux=peaks * u.mJy / u.beam, seed=3)
    assert cube.unit == u.Jy / u.beam
    assert_allclose(cube.data.max(axis=(1, 2)), peaks * 1e-3, rtol=1e-5)
    background = np.median(cube.data, axis=(1, 2)) / cube.data.max(axis=(1, 2))
    assert np.median(background[:6]) > 2 * np.median(background[6:])
