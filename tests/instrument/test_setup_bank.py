"""A bank of one's own array, made of its antenna positions."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose
from scipy.ndimage import map_coordinates

from diffsky.instrument import (
    bank_from_setups,
    instrument_from_setup,
    load_psf_bank,
    write_psf_bank,
)
from diffsky.simulation import PRIORS, ObservationSetup, SimulatedPairs


@pytest.fixture
def setup(tmp_path):
    rng = np.random.default_rng(4)
    rows = "\n".join(f"{x} {y} 0 12.0" for x, y in rng.normal(0, 90, (20, 2)))
    path = tmp_path / "mine.cfg"
    path.write_text(f"# observatory=ALMA\n# COFA=-67.75,-23.02\n# coordsys=LOC\n{rows}\n")
    return ObservationSetup(
        array=path,
        direction=SkyCoord(150 * u.deg, -40 * u.deg),
        image_size=128,
        cell=0.2 * u.arcsec,
        total_time=20 * u.min,
        integration=60 * u.s,
    )


def test_entries_are_the_instruments_of_their_setups(setup):
    """The PSF on the working grid is that of the exact instrument, at offsets in beams."""
    setups = [setup, replace(setup, weighting="briggs", hour_angle=1 * u.hourangle)]
    bank = bank_from_setups(setups)
    assert bank.weights.shape == bank.noise_weights.shape == (2, 256, 129)
    assert bank.columns["weighting"].tolist() == ["natural", "briggs"]
    assert_allclose(bank.columns["hour_angle"], [0, 1])
    assert_allclose(bank.columns["declination"], -40)
    assert np.isnan(bank.columns["robust"][0])
    for entry, one in zip(bank.weights, setups, strict=True):
        exact = instrument_from_setup(one).psf((65, 65)).numpy()
        own = np.fft.fftshift(np.fft.irfft2(entry.numpy(), s=(256, 256)))
        own /= own.max()
        steps = np.arange(-8, 9) * bank.columns["beam"][setups.index(one)] / 4.25
        there = map_coordinates(exact, [np.full(17, 32.0), 32 + steps / 0.2], order=3)
        assert np.ptp(there) > 0.9
        assert_allclose(own[128, 120:137], there, atol=0.05)


def test_half_of_the_noise_weights_are_natural(setup):
    """Natural weights are those of the noise as well; Briggs weights are not."""
    bank = bank_from_setups([setup, replace(setup, weighting="briggs")])
    assert_allclose(bank.noise_weights[0], bank.weights[0], atol=1e-6)
    assert not np.allclose(bank.noise_weights[1], bank.weights[1], atol=0.1)
    assert bank.columns["beam"][1] < bank.columns["beam"][0]


def test_from_a_configuration_to_pairs(setup, tmp_path):
    bank = bank_from_setups([setup])
    rows = [{name: column[0] for name, column in bank.columns.items()}]
    write_psf_bank(tmp_path / "mine.npz", rows, bank.weights, bank.noise_weights)
    stored = load_psf_bank(tmp_path / "mine.npz")
    assert_allclose(stored.weights, bank.weights, atol=1e-3)
    pairs = SimulatedPairs.from_bank(stored, priors=[(PRIORS["general"], 1.0)], seed=1)
    target, condition = pairs.batch(range(4))
    assert target.shape == (4, 1, 64, 64)
    assert torch.isfinite(condition).all()
    assert repr(stored) == "<PSFBank: 1 entries of 256 x 129>"
    assert "1 observations, priors general 1, seed 1" in repr(pairs)


def test_no_setup():
    with pytest.raises(ValueError, match="setups are empty; expected at least one"):
        bank_from_setups([])
