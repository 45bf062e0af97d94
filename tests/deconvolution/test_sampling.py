"""Posterior samples: streams, batches and the closed form."""

import pytest
import torch
from torch import nn

from diffsky.deconvolution.sampling import draw_samples
from diffsky.diffusion import drawing

PLAN = {"sampler": "heun", "n_steps": 3, "sigma_min": 0.05, "sigma_max": 5.0, "rho": 4.0}


@pytest.fixture
def condition():
    return torch.randn(2, 32, 40, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def draw(random_denoiser, condition, cpu):
    """Function that draws samples with a random network."""
    denoiser = random_denoiser()

    def draw(n_samples, seed=5, **options):
        plan = {"sampling": PLAN, "backend": cpu, **options}
        return draw_samples(denoiser, condition, n_samples=n_samples, seed=seed, **plan)

    return draw


class GaussianPosterior(nn.Module):
    """Exact denoiser of independent Gaussians: mean condition[0], deviation condition[1]."""

    def __init__(self):
        super().__init__()
        self.network = nn.Identity()
        self.network.memory_per_pixel = lambda *_: 1e5

    def forward(self, x, sigma, condition):
        mean, variance = condition[:, :1], condition[:, 1:] ** 2
        return (variance * x + sigma**2 * mean) / (variance + sigma**2)


def test_shape_and_type(draw):
    targets = draw(3)
    assert targets.shape == (3, 32, 40)
    assert targets.dtype == torch.float32
    assert targets.device.type == "cpu"
    assert targets.isfinite().all()
    assert targets.std() > 0


def test_same_seed_same_bits(draw):
    assert torch.equal(draw(4), draw(4))


def test_seeds_and_samples_differ(draw):
    one, other = draw(2), draw(2, seed=6)
    assert (one - other).abs().mean() > 0.1 * one.std()
    assert (one[0] - one[1]).abs().mean() > 0.1 * one.std()


def test_sample_does_not_depend_on_their_number(draw):
    torch.testing.assert_close(draw(2), draw(7)[:2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_sample_does_not_depend_on_the_batch(draw, monkeypatch, size):
    reference = draw(5)
    monkeypatch.setattr(drawing, "fit_batch_size", lambda *_, **__: size)
    torch.testing.assert_close(draw(5), reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp-2m", "dpmpp-3m", "euler", "ddim", "ddpm"])
def test_gaussian_posterior(cpu, sampler):
    mean = torch.linspace(-2, 3, 64).reshape(8, 8)
    deviation = torch.linspace(0.2, 1.5, 64).reshape(8, 8).T
    plan = {**PLAN, "sampler": sampler, "n_steps": 200, "sigma_min": 0.002, "sigma_max": 80.0}
    n = 2000
    targets = draw_samples(
        GaussianPosterior(),
        torch.stack([mean, deviation]),
        n_samples=n,
        seed=11,
        sampling={**plan, "rho": 7.0},
        backend=cpu,
    )
    pull = (targets.mean(dim=0) - mean) / deviation * n**0.5
    assert pull.abs().max() < 4.5
    ratio = targets.std(dim=0) / deviation
    error = {"heun": 0.004, "dpmpp-2m": 0.004, "dpmpp-3m": 0.004, "ddpm": 0.035}.get(sampler, 0.02)
    assert abs(ratio.mean() - 1) < 3 / (2 * n * 64) ** 0.5 + error
    assert (ratio - 1).abs().max() < 4.5 / (2 * n) ** 0.5 + error
    pulls = ((targets - mean) / deviation).reshape(n, 64)
    correlation = torch.corrcoef(pulls.T) - torch.eye(64)
    assert correlation.abs().max() < 5.5 / n**0.5


@pytest.mark.parametrize("size", [1, 2, 3])
def test_consistency_noise_does_not_depend_on_the_batch(draw, monkeypatch, size):
    """A sample's own stream gives the noise of its second and later calls."""
    plan = {**PLAN, "sampler": "consistency"}
    reference = draw(5, sampling=plan)
    monkeypatch.setattr(drawing, "fit_batch_size", lambda *_, **__: size)
    torch.testing.assert_close(draw(4, sampling=plan), reference[:4], rtol=1e-5, atol=1e-3)
    one = draw(1, sampling={**plan, "n_steps": 1})
    assert (one - reference[:1]).abs().mean() > 0.01 * reference.std()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ancestral_noise_does_not_depend_on_the_batch(draw, monkeypatch, size):
    plan = {"sampler": "ddpm", "n_steps": 6, "schedule": "ddpm"}
    reference = draw(5, sampling=plan)
    monkeypatch.setattr(drawing, "fit_batch_size", lambda *_, **__: size)
    torch.testing.assert_close(draw(4, sampling=plan), reference[:4], rtol=1e-5, atol=1e-3)
    other = draw(1, sampling={**plan, "sampler": "ddim"})
    assert (other - reference[:1]).abs().mean() > 0.01 * reference.std()


def test_tiles_are_used_beyond_their_size(draw):
    whole = draw(2)
    tiled = draw(2, tile=24, overlap=8)
    assert (tiled - whole).abs().max() > 0
    assert tiled.shape == whole.shape


def test_unknown_sampler_is_refused(draw):
    with pytest.raises(ValueError, match=r"sampler is 'rk4'; expected one of heun, euler, dpm"):
        draw(1, sampling={**PLAN, "sampler": "rk4"})


def test_no_progress_bar_without_a_terminal(draw, capsys):
    draw(1)
    assert capsys.readouterr() == ("", "")


def test_progress_bar_where_asked_for(draw, capsys):
    draw(2, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "sampling: 100%" in shown.err


def test_leaves_the_random_state_alone(draw):
    state = torch.random.get_rng_state()
    draw(1)
    assert torch.equal(torch.random.get_rng_state(), state)
