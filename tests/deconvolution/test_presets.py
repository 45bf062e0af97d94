"""Presets, and that of D24 from pairs to catalogue."""

import dataclasses
import json
import warnings

import astropy.units as u
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from diffsky import DiffusionDeconvolver
from diffsky.deconvolution import (
    FluxScale,
    Preset,
    WorkingScale,
    drozdova2024,
    get_preset,
    make_sky,
)
from diffsky.deconvolution.observation import prepare_observation
from diffsky.deconvolution.presets import PRESETS
from diffsky.diffusion import EpsilonDenoiser, PaletteUNet, build_network
from diffsky.exceptions import DiffskyWarning

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
SCALE = FluxScale(size=32)
OPTIONS = {"n_samples": 2, "seed": 1, "primary_beam": 1.0}
SOURCES = [(40.3, 50.7, 4e-4), (70.2, 30.1, 3e-4)]


@pytest.fixture
def preset():
    """That of D24 with a field of 32 pixels, a tiny network and few steps."""
    network = {"type": "palette", "in_channels": 2, "channels": 8, "groups": 8}
    return dataclasses.replace(
        drozdova2024(),
        network={**network, "head_channels": 8, "multipliers": (1, 1, 2), "attention": (2,)},
        scale=SCALE,
        training={"steps": 3, "batch_size": 2, "learning_rate": 1e-3, "noise_levels": "ddpm"},
        sampling={"sampler": "ddpm", "n_steps": 5, "schedule": "ddpm"},
    )


class Pairs:
    """One bright Gaussian in every field, without noise."""

    scale = SCALE

    def __init__(self, blob):
        self.blob = blob

    def __len__(self):
        return 0

    def batch(self, numbers, device="cpu"):
        sky = [self.blob((32, 32), 10 + k % 9, 15, 1.5, 8.0) for k in numbers]
        dirty = [self.blob((32, 32), 10 + k % 9, 15, 2.2, 40.0) for k in numbers]
        flat = np.ones_like(sky)
        images = torch.tensor(np.stack([sky, dirty, flat, 5e-5 * flat], axis=1))
        return self.scale.encode(images.float())


def deconvolver_of(preset):
    return DiffusionDeconvolver(preset, device="cpu", precision="float32")


def fitted(preset, blob, **options):
    return deconvolver_of(preset).fit(Pairs(blob), progress=False, **options)


@pytest.mark.parametrize("name", PRESETS)
def test_description_is_json(name):
    preset = get_preset(name)
    again = Preset.from_dict(json.loads(json.dumps(preset.to_dict())))
    assert again.scale == preset.scale
    assert json.dumps(again.to_dict()) == json.dumps(preset.to_dict())


def test_description_without_a_type_is_the_working_scale():
    description = get_preset("small").to_dict()
    del description["scale"]["type"], description["preconditioning"]
    preset = Preset.from_dict(description)
    assert preset.scale == WorkingScale()
    assert preset.preconditioning == "edm"
    description["scale"]["type"] = "magic"
    with pytest.raises(ValueError, match="scale is 'magic'; expected one of working, flux"):
        Preset.from_dict(description)


def test_preset_of_d24():
    preset = get_preset("drozdova2024")
    with torch.device("meta"):
        network = build_network(preset.network)
    assert isinstance(network, PaletteUNet)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(95.0e6, rel=1e-3)
    assert preset.scale == FluxScale(pixel=0.4, size=128, gamma=2.0)
    assert preset.sampling == {"sampler": "ddpm", "n_steps": 250, "schedule": "ddpm"}
    small = drozdova2024(gamma=10, channels=32)
    assert (small.scale.gamma, small.network["channels"]) == (10, 32)
    assert get_preset(small) is small


def test_from_pairs_to_catalogue(preset, blob, dirty, tmp_path):
    deconvolver = fitted(preset, blob, seed=4)
    assert isinstance(deconvolver.denoiser_, EpsilonDenoiser)
    image = dirty(SOURCES, fwhm=8.5, rms=5e-5)
    cube = deconvolver.sample(image, **OPTIONS)
    assert cube.shape == (2, 96, 96)
    sky, catalog = deconvolver.predict(image, **OPTIONS)
    assert (sky.meta["sampler"], sky.meta["n_steps"]) == ("ddpm", 5)
    assert sky.meta["kernel_fwhm"] == 0 * u.arcsec
    assert "reliability" in catalog.colnames
    deconvolver.save(tmp_path / "weights")
    loaded = DiffusionDeconvolver.load(tmp_path / "weights", device="cpu", precision="float32")
    assert isinstance(loaded.preset, Preset)
    again = loaded.sample(image, **OPTIONS).data
    assert_allclose(again, cube.data, rtol=0, atol=1e-6 * cube.data.max())


def test_same_seed_same_training(preset, blob):
    one, other = (fitted(preset, blob, seed=2).denoiser_.network.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("sampler", "n_steps"), [("ddim", 3), ("heun", 4), ("dpmpp-2m", 4)])
def test_every_sampler_takes_the_preset(preset, blob, dirty, sampler, n_steps):
    deconvolver = fitted(preset, blob)
    deconvolver.sampler, deconvolver.n_steps = sampler, n_steps
    image = dirty(SOURCES, fwhm=8.5, rms=5e-5)
    one, other = (deconvolver.sample(image, **OPTIONS).data for _ in range(2))
    assert np.isfinite(one).all()
    assert_array_equal(one, other)


def test_ddpm_takes_the_default_preset(untrained, dirty):
    untrained.sampler, untrained.n_steps = "ddpm", 4
    cube = untrained.sample(dirty(), **OPTIONS)
    assert not np.array_equal(cube.data[0], cube.data[1])


class Truth(torch.nn.Module):
    """A denoiser that knows the normalised sky."""

    def __init__(self, target):
        super().__init__()
        self.target, self.network = target, torch.nn.Identity()
        self.network.stride = 4
        self.network.memory_per_pixel = lambda *_: 1000.0

    def forward(self, x, sigma, condition):
        return self.target.expand_as(x)


@pytest.mark.parametrize("strategy", ["median", "mean", "detect-aggregate"])
def test_true_sky_comes_back(preset, blob, dirty, strategy):
    """Fluxes and positions in Jy and pixels, through the gain, at another rms than in D24."""
    image = dirty(fwhm=8.5, rms=2e-5)
    gain = blob(image.shape, 48, 48, 250, 1)
    gain = gain / gain.max()
    prepared = prepare_observation(image, **SCALE.grid, stride=1, primary_beam=gain)
    on_image = sum(blob(image.shape, x, y, 7.0, flux) for x, y, flux in SOURCES)
    sky = prepared.grid.to_working(on_image) * prepared.grid.zoom**2
    target = 2 * SCALE.normalize_sky(torch.from_numpy(sky)) - 1
    deconvolver = deconvolver_of(preset)
    description = {"name": "test", "version": 1, "preset": "custom", "training": {}}
    deconvolver._adopt(Truth(target), preset, description)
    plan = {**OPTIONS, "primary_beam": gain, "n_samples": 3}
    found, catalog = deconvolver.predict(image, strategy=strategy, **plan)
    assert len(catalog) == 2
    assert_allclose(catalog["flux"].to_value(u.Jy), [4e-4, 3e-4], rtol=0.03)
    assert_allclose(catalog["x_centroid"], [40.3, 70.2], atol=0.1)
    assert_allclose(catalog["y_centroid"], [50.7, 30.1], atol=0.1)
    assert found.data.sum() == pytest.approx(7e-4, rel=0.02)


def test_normalised_images_are_averaged(dirty):
    """D24 eq. 9: the mean of roots, squared; that of fluxes elsewhere."""
    image = dirty(fwhm=8.5)
    prepared = prepare_observation(image, **SCALE.grid, stride=1, primary_beam=1.0)
    samples = np.stack([np.full((32, 32), value) for value in (1.0, 4.0)])
    by_root = make_sky(prepared, samples, "mean", {}, scale=SCALE).data[48, 48]
    by_flux = make_sky(prepared, samples, "mean", {}).data[48, 48]
    assert by_root / by_flux == pytest.approx(1.5**2 / 2.5, rel=1e-3)


def test_field_that_is_too_large(preset, blob, dirty):
    deconvolver = fitted(preset, blob)
    with pytest.raises(ValueError, match="expected none beyond the 32 x 32 working pixels"):
        deconvolver.sample(dirty(shape=(160, 160), fwhm=8.5), **OPTIONS)


def test_pairs_of_another_gamma(preset, blob):
    other = dataclasses.replace(preset, scale=FluxScale(size=32, gamma=10))
    with pytest.raises(ValueError, match=r"pairs have .*gamma=2.*has .*gamma=10"):
        fitted(other, blob)


@pytest.mark.parametrize(("fwhm", "known"), [(8.5, True), (9.2, True), (9.5, False), (7.5, False)])
def test_beam_unlike_that_of_the_one_observation(preset, blob, dirty, fwhm, known):
    deconvolver = fitted(preset, blob)
    deconvolver.description_["training"]["pairs"] = {"beam": [0.84, 0.85]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DiffskyWarning)
        deconvolver.sample(dirty(fwhm=fwhm), **OPTIONS)
    said = [str(w.message) for w in caught if "those of the training" in str(w.message)]
    assert bool(said) != known
    assert known or said[0].startswith(f"the image has a beam of {fwhm / 10:.3g} arcsec")
