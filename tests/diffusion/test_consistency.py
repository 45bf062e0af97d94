"""Consistency distillation against the closed form of a Gaussian prior.

For x ~ N(mean, spread**2) the end of the flow through (x, sigma) is
mean + (x - mean) spread / sqrt(spread**2 + sigma**2).
"""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from diffsky.backend import sample_generator, select_backend
from diffsky.diffusion import (
    ConsistencyLoss,
    Denoiser,
    EpsilonDenoiser,
    consistency_loss,
    train_denoiser,
)

MEAN, SPREAD, SIGMA_DATA = 0.3, 0.8, 0.5
SAMPLING = {"sampler": "heun", "n_steps": 8, "sigma_min": 0.02, "sigma_max": 20.0, "rho": 7.0}


class Exact(Denoiser):
    """A closed form in place of the network: the exact denoiser, or the exact end of the flow."""

    def __init__(self, *, ends):
        super().__init__(nn.Identity(), sigma_data=SIGMA_DATA)
        self.ends = ends
        self.levels = []

    def forward(self, x, sigma, condition=None):
        self.levels.append(sigma)
        share = SPREAD**2 / (SPREAD**2 + sigma[:, None, None, None] ** 2)
        return MEAN + (x - MEAN) * (share.sqrt() if self.ends else share)


class Affine(nn.Module):
    """F = slope x its input + offset, both functions of the noise level alone."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 2))

    def forward(self, channels, c_noise):
        slope, offset = self.layers(c_noise[:, None])[:, :, None, None, None].unbind(1)
        return slope * channels + offset


class Pairs:
    """Independent pixels of the Gaussian prior."""

    def __len__(self):
        return 0

    def batch(self, numbers, device):
        streams = [sample_generator(4, k) for k in numbers]
        noise = torch.stack([torch.randn(1, 8, 8, generator=stream) for stream in streams])
        return MEAN + SPREAD * noise, None


def draw(n=64):
    stream = torch.Generator().manual_seed(1)
    target = MEAN + SPREAD * torch.randn(n, 1, 16, 16, generator=stream)
    return target, torch.randn(n, 1, 16, 16, generator=stream)


def loss_of(model, sigma, ratio):
    target, noise = (image.double() for image in draw())
    sigma = torch.full((len(target),), sigma, dtype=torch.float64)
    options = {"lower": sigma / ratio, "teacher": Exact(ends=False)}
    return consistency_loss(model, target, None, sigma, noise, **options).item()


@pytest.mark.parametrize("sigma", [0.05, 150.0])
def test_error_of_the_network_counts_alike_at_every_level(sigma):
    """Of DDPM too: where the end is the teacher's, the loss is that of the predicted noise."""
    target, noise = draw(4)

    def predict(value):
        network = nn.Module()
        network.forward = lambda channels, step: torch.full_like(channels, value)
        return EpsilonDenoiser(network, limit=None)

    levels = torch.full((4,), sigma)
    options = {"lower": torch.zeros(4), "teacher": predict(0.25)}
    loss = consistency_loss(predict(0.75), target, None, levels, noise, **options)
    assert loss.item() == pytest.approx(0.25, rel=1e-2)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
def test_exact_ends_have_no_loss_but_that_of_the_step(sigma):
    """Heun's step is wrong by the third power of its length, the loss is the square of that."""
    exact = Exact(ends=True)
    losses = torch.tensor([loss_of(exact, sigma, 1 + step) for step in (0.04, 0.02)])
    assert losses[0] < 1e-6
    assert losses[1] < losses[0] / 40
    assert loss_of(Exact(ends=False), sigma, 1.04) > 100 * losses[0]


def test_loss_by_hand():
    """Two points of one flow, written out for one pixel."""
    target, noise, sigma, lower = 0.9, -1.3, 2.0, 1.2
    teacher, model = Exact(ends=False), Exact(ends=True)

    def at(denoiser, x, level):
        return denoiser(torch.full((1, 1, 1, 1), x), torch.tensor([level])).item()

    x = target + sigma * noise
    slope = (x - at(teacher, x, sigma)) / sigma
    guess = x + (lower - sigma) * slope
    slope = (slope + (guess - at(teacher, guess, lower)) / lower) / 2
    wanted = at(model, x + (lower - sigma) * slope, lower)
    expected = (1 / sigma**2 + 1 / SIGMA_DATA**2) * (at(model, x, sigma) - wanted) ** 2
    images = [torch.full((1, 1, 1, 1), value) for value in (target, noise)]
    levels = {"lower": torch.tensor([lower]), "teacher": teacher}
    found = consistency_loss(model, images[0], None, torch.tensor([sigma]), images[1], **levels)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_flow_ends_in_the_estimate_of_the_teacher():
    """Below the last level; no network is asked about level 0."""
    target, noise = draw(2)
    sigma = torch.tensor([0.025, 0.025])
    teacher, model = Exact(ends=False), Exact(ends=True)
    loss = ConsistencyLoss(teacher, SAMPLING)
    found = loss(model, target, None, sigma, noise)
    x = target + sigma[:, None, None, None] * noise
    error = model(x, sigma) - teacher(x, sigma)
    assert_close(found, ((1 / 0.025**2 + 1 / SIGMA_DATA**2) * error**2).mean())
    assert all((levels > 0).all() for levels in teacher.levels + model.levels)


def test_levels_cover_the_range_of_the_teacher_evenly():
    loss = ConsistencyLoss(Exact(ends=False), SAMPLING)
    logs = loss.draw(20000, generator=torch.Generator().manual_seed(0)).log()
    low, high = math.log(0.02), math.log(20.0)
    assert (logs.min() >= low, logs.max() <= high) == (True, True)
    assert logs.mean().item() == pytest.approx((low + high) / 2, abs=0.06)
    assert logs.std().item() == pytest.approx((high - low) / 12**0.5, rel=0.02)


def test_teacher_of_one_step_is_refused():
    with pytest.raises(ValueError, match="sampling has 1 steps; expected 2 or more"):
        ConsistencyLoss(Exact(ends=False), {**SAMPLING, "n_steps": 1})


def one_call(denoiser, n=20000):
    start = SAMPLING["sigma_max"] * torch.randn(
        n, 1, 1, 1, generator=torch.Generator().manual_seed(8)
    )
    with torch.inference_mode():
        return denoiser(start, torch.full((n,), SAMPLING["sigma_max"]))


def test_training_reaches_the_closed_form():
    """One call has the moments of the prior, where one of the teacher is hardly more than its mean.

    Heun's steps of the ratio 1.5 end 2 per cent too wide, and the last level 1 per cent too narrow.
    """
    torch.manual_seed(0)
    model, teacher = Denoiser(Affine(), sigma_data=SIGMA_DATA), Exact(ends=False)
    loss = ConsistencyLoss(teacher, SAMPLING)
    plan = {"steps": 800, "batch_size": 64, "learning_rate": 1e-2, "noise_levels": loss.draw}
    backend = select_backend("cpu", "float32")
    train_denoiser(model, Pairs(), **plan, loss=loss, backend=backend, progress=False)
    samples = one_call(model)
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.04)
    assert samples.std().item() == pytest.approx(SPREAD, rel=0.05)
    assert one_call(teacher).std() < 0.1 * SPREAD
    x = torch.linspace(-3, 3, 7).reshape(7, 1, 1, 1)
    for level in (0.2, 1.0, 5.0):
        sigma = torch.full((7,), level)
        ends = Exact(ends=True)(x * math.hypot(level, SPREAD), sigma)
        assert_close(model(x * math.hypot(level, SPREAD), sigma), ends, rtol=0, atol=0.15)


def test_gradient_at_mixed_precision():
    """Autocast must not keep weights that were cast without a gradient."""
    torch.manual_seed(0)
    model = Denoiser(nn.Conv2d(1, 1, 3, padding=1), sigma_data=SIGMA_DATA)
    model.network.forward = lambda channels, c_noise: nn.Conv2d.forward(model.network, channels)
    target, noise = draw(4)
    gradients = []
    for precision in ("float32", "bfloat16"):
        with select_backend("cpu", precision).autocast():
            loss = ConsistencyLoss(Exact(ends=False), SAMPLING)
            loss(model, target, None, torch.full((4,), 2.0), noise).backward()
        gradients.append(model.network.weight.grad.clone())
        model.zero_grad()
    assert gradients[0].abs().max() > 0
    assert_close(gradients[1], gradients[0], rtol=0.1, atol=0.05 * gradients[0].abs().max().item())


@pytest.mark.parametrize(("sigma_max", "expected"), [(20.0, 2.5), (157.0, 2.5), (1.0, 0.5)])
def test_second_call_is_at_a_level_of_the_data(sigma_max, expected):
    """Wherever the levels of the teacher start: those of DDPM do at 157."""
    loss = ConsistencyLoss(Exact(ends=False), {**SAMPLING, "sigma_max": sigma_max})
    plan = loss.sampling()
    assert (plan["sigma_max"], plan["sigma_min"]) == pytest.approx((sigma_max, expected))
