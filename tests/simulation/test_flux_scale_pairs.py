"""Stored pairs on the grid of D24: true sky in Jy, dirty image in Jy/beam."""

import runpy
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from numpy.testing import assert_allclose

from diffsky.deconvolution import FluxScale
from diffsky.deconvolution.observation import prepare_observation
from diffsky.simulation import PairDataset, PairStore, SimulatedPairs, SkyPrior, render_sources

HELPER = runpy.run_path(str(Path(__file__).with_name("small_pairs.py")))
make_pair = HELPER["make_pair"]
PRIOR = SkyPrior(n_sources=(3, 3), flux=(1e-3, 2e-3), fwhm=(0.6, 1.4), half_width=3.0)
SCALE = FluxScale(size=32)
OPTIONS = {"scale": SCALE, "patch_size": 32, "augment": False}


def store_of(pair, tmp_path):
    store = PairStore(tmp_path / "pairs")
    store.write(0, pair)
    return store


def true_sky(target):
    """Jy per working pixel."""
    return SCALE.unit * 16 * ((target[0, 0].numpy() + 1) / 2) ** SCALE.gamma


def test_target_is_the_true_sky(tmp_path):
    """Its flux, and its value at every working pixel between the image's own."""
    pair = make_pair(0, prior=PRIOR)
    target, condition = PairDataset(store_of(pair, tmp_path), **OPTIONS).batch([0])
    assert target.shape == condition.shape == (1, 1, 32, 32)
    sky = true_sky(target)
    total = pair.sources["flux"].to_value(u.Jy).sum()
    assert sky.sum() == pytest.approx(total, rel=0.01)
    grid = prepare_observation(
        pair.dirty, **SCALE.grid, stride=1, primary_beam=pair.primary_beam
    ).grid
    y, x = np.indices(sky.shape)
    for positions, name in zip(grid.to_image_pixels(x, y), ("x", "y"), strict=True):
        expected = np.average(pair.sources[f"{name}_centroid"], weights=pair.sources["flux"].value)
        assert (sky * positions).sum() / sky.sum() == pytest.approx(expected, abs=0.05)


def test_condition_is_the_dirty_image_in_units_of_c_d(tmp_path):
    """Whatever the noise: it is not divided out."""
    pair = make_pair(0, prior=PRIOR)
    _, condition = PairDataset(store_of(pair, tmp_path), **OPTIONS).batch([0])
    prepared = prepare_observation(
        pair.dirty, **SCALE.grid, stride=1, primary_beam=pair.primary_beam
    )
    dirty = prepared.dirty_working * prepared.rms_working
    assert_allclose(condition[0, 0], 2 * dirty / 5e-4 - 1, atol=1e-5)


def test_sky_without_a_table(tmp_path):
    """An image of sharp pixels gives what the table gives."""
    pair = make_pair(0, prior=PRIOR)
    expected, _ = PairDataset(store_of(pair, tmp_path / "one"), **OPTIONS).batch([0])
    sources = PRIOR.draw(np.random.default_rng([0, 5]))
    sharp = render_sources(sources, [0] * len(sources), 1, (64, 64), pixel=0.2)[0].numpy()
    sky = CCDData(sharp, unit=u.Jy / u.pix, wcs=pair.sky.wcs, meta={"kernel_fwhm": 0 * u.arcsec})
    bare = replace(pair, sky=sky, sources=pair.sources[:0])
    target, _ = PairDataset(store_of(bare, tmp_path / "other"), **OPTIONS).batch([0])
    assert_allclose(true_sky(target), true_sky(expected), atol=1e-3 * true_sky(expected).max())


def test_whole_fields_alone(tmp_path):
    store = store_of(make_pair(0, prior=PRIOR), tmp_path)
    with pytest.raises(ValueError, match="patch_size is 64; expected 32"):
        PairDataset(store, scale=SCALE)


def test_pairs_in_units_of_the_rms_are_refused():
    with pytest.raises(ValueError, match=r"scale is FluxScale.*expected a WorkingScale"):
        SimulatedPairs(torch.ones(1, 64, 33), scale=SCALE, field_size=32, patch_size=None)
