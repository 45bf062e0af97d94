"""DDPM and DDIM: the noise process, its denoiser, and samplers against closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from diffsky.backend import draw_normal, sample_generator
from diffsky.diffusion import (
    EpsilonDenoiser,
    alpha_bars,
    build_denoiser,
    ddpm_sigmas,
    denoising_loss,
    draw_ddpm_sigmas,
    edm_sigmas,
    make_sigmas,
    sample_ddim,
    sample_ddpm,
    sample_euler,
    sample_sde_dpmpp_2m,
)
from diffsky.diffusion.ddpm import train_sigmas

MEAN, DEVIATION = 0.3, 0.4


class EpsilonNetwork(nn.Module):
    """Exact noise of a Gaussian prior in the variables of DDPM."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def forward(self, channels, step):
        self.steps.append(step[0].item())
        signal = alpha_bars()[step.round().long()].float()[:, None, None, None]
        variance = signal * DEVIATION**2 + 1 - signal
        return (1 - signal).sqrt() * (channels[:, :1] - signal.sqrt() * MEAN) / variance


def denoise(x, sigma):
    variance = DEVIATION**2
    return (variance * x + sigma**2 * MEAN) / (variance + sigma**2)


def streams_of(n, seed=5):
    return [sample_generator(seed, k) for k in range(n)]


def sample(sampler, n_samples, n_steps, *, shape=(2,), seed=5, denoiser=denoise, **options):
    sigmas = ddpm_sigmas(n_steps)
    streams = streams_of(n_samples, seed)
    x = sigmas[0] * draw_normal(streams, shape)
    if sampler is sample_ddpm or options.get("eta"):
        options["noise"] = lambda: draw_normal(streams, shape)
    return sampler(denoiser, x, sigmas, **options)


# The noise process


def test_linear_schedule():
    """The product of 1 - beta of Ho et al. (2020), in plain numbers."""
    betas = np.linspace(1e-4, 0.02, 1000)
    assert_close(alpha_bars(), torch.tensor(np.cumprod(1 - betas)))
    assert alpha_bars()[0].item() == pytest.approx(1 - 1e-4)
    assert alpha_bars()[-1].item() == pytest.approx(4.0358e-5, rel=1e-4)


def test_all_steps():
    sigmas = ddpm_sigmas(1000)
    assert sigmas.shape == (1001,)
    assert (sigmas.diff() < 0).all()
    assert_close(1 / (1 + sigmas[:-1].double().flip(0) ** 2), alpha_bars(), rtol=1e-6, atol=0)
    assert sigmas[-1] == 0


@pytest.mark.parametrize("n_steps", [250, 25, 7, 2])
def test_respacing_keeps_alpha_bar(n_steps):
    kept = np.rint(np.linspace(999, 0, n_steps)).astype(int)
    assert len(set(kept)) == n_steps
    expected = alpha_bars()[torch.from_numpy(kept)]
    sigmas = ddpm_sigmas(n_steps)[:-1].double()
    assert_close(1 / (1 + sigmas**2), expected, rtol=1e-6, atol=0)


def test_one_step_is_the_noisiest():
    assert_close(ddpm_sigmas(1)[0].double(), train_sigmas()[-1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_steps", [0, 1001])
def test_number_of_steps_refused(n_steps):
    with pytest.raises(ValueError, match=f"n_steps is {n_steps}; expected 1 to 1000"):
        ddpm_sigmas(n_steps)


def test_schedules_by_name():
    assert torch.equal(make_sigmas(9, schedule="ddpm"), ddpm_sigmas(9))
    with pytest.raises(ValueError, match="schedule is 'cosine'; expected one of edm, ddpm"):
        make_sigmas(9, schedule="cosine")


def test_training_draws_every_step_alike():
    drawn = draw_ddpm_sigmas(20000, generator=sample_generator(0))
    steps = np.searchsorted(train_sigmas().float().numpy(), drawn.numpy())
    assert_close(train_sigmas().float()[steps], drawn, rtol=0, atol=0)
    counts = np.bincount(steps // 100, minlength=10)
    assert (abs(counts - 2000) < 5 * np.sqrt(1800)).all()


# The denoiser


@given(step=st.integers(0, 999))
def test_denoiser_is_the_prediction_of_ddpm(step):
    """x_0 = (x_t - sqrt(1 - a) eps) / sqrt(a), and the network gets x_t and t."""

    class Network(nn.Module):
        def forward(self, channels, number):
            self.channels, self.number = channels, number
            return torch.sin(channels[:, :1])

    network = Network()
    denoiser = EpsilonDenoiser(network, limit=None)
    signal = alpha_bars()[step].float()
    x_t = torch.randn(2, 1, 4, 6, generator=torch.Generator().manual_seed(1))
    condition = torch.ones(2, 1, 4, 6)
    denoised = denoiser(x_t / signal.sqrt(), train_sigmas()[step], condition)
    expected = (x_t - (1 - signal).sqrt() * torch.sin(x_t)) / signal.sqrt()
    assert_close(denoised, expected, rtol=1e-4, atol=1e-4 * float(signal) ** -0.5)
    assert_close(network.channels[:, :1], x_t, rtol=1e-5, atol=1e-6)
    assert torch.equal(network.channels[:, 1:], condition)
    assert_close(network.number, torch.full((2,), float(step)), rtol=0, atol=2e-3)


def test_step_between_and_beyond_the_levels():
    denoiser = EpsilonDenoiser(nn.Identity())
    between = (train_sigmas()[10] * train_sigmas()[11]).sqrt().float()
    steps = denoiser.coefficients(torch.stack([between, torch.tensor(1e-9), torch.tensor(1e9)]))[3]
    assert_close(steps, torch.tensor([10.5, 0.0, 999.0]), rtol=0, atol=1e-3)


def test_loss_is_the_error_of_the_noise():
    """D24 eq. 8, whatever the noise level."""
    network = EpsilonNetwork()
    denoiser = EpsilonDenoiser(network).train()
    stream = sample_generator(2)
    target, noise = (torch.randn(5, 1, 6, 6, generator=stream) for _ in range(2))
    sigma = draw_ddpm_sigmas(5, generator=stream)
    loss = denoising_loss(denoiser, target, None, sigma, noise)
    signal = (1 / (1 + sigma**2))[:, None, None, None]
    x_t = signal.sqrt() * target + (1 - signal).sqrt() * noise
    steps = torch.searchsorted(train_sigmas().float(), sigma).float()
    assert_close(loss, ((network(x_t, steps) - noise) ** 2).mean(), rtol=1e-3, atol=1e-5)


def test_estimates_stay_in_the_range_of_targets():
    denoiser = EpsilonDenoiser(EpsilonNetwork())
    x = torch.tensor([-90.0, 0.0, 90.0]).reshape(1, 1, 1, 3)
    assert denoiser.train()(x, 2.0).abs().max() > 1
    estimate = denoiser.eval()(x, 2.0).flatten()
    assert estimate[[0, 2]].tolist() == [-1.0, 1.0]
    assert -1 < estimate[1] < 1


def test_build_denoiser():
    assert isinstance(build_denoiser(nn.Identity(), preconditioning="ddpm"), EpsilonDenoiser)
    edm = build_denoiser(nn.Identity(), sigma_data=0.3)
    assert edm.sigma_data == 0.3
    assert not isinstance(edm, EpsilonDenoiser)
    with pytest.raises(ValueError, match="preconditioning is 'x'; expected one of edm, ddpm"):
        build_denoiser(nn.Identity(), preconditioning="x")
    with pytest.raises(ValueError, match="sigma_data is None"):
        build_denoiser(nn.Identity())


# The samplers


def exact_moments(sampler, n_steps):
    """Mean and deviation of the samples: with the exact denoiser every step is affine."""
    sigmas = ddpm_sigmas(n_steps).double()
    mean, variance = 0.0, sigmas[0].item() ** 2
    for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        points = torch.tensor([mean, mean + 1], dtype=torch.float64)
        options = {"noise": lambda: torch.zeros(2)} if sampler is sample_ddpm else {}
        ends = sampler(denoise, points, torch.stack([sigma, following]), **options)
        fresh = following**2 * (1 - (following / sigma) ** 2) if options else torch.zeros(())
        mean, variance = ends[0].item(), (ends[1] - ends[0]).item() ** 2 * variance + fresh.item()
    return mean, variance**0.5


@pytest.mark.parametrize(
    ("sampler", "n_steps", "short"),
    [(sample_ddpm, 1000, 0.01), (sample_ddpm, 250, 0.035), (sample_ddim, 250, 0.015)],
)
def test_gaussian_posterior(sampler, n_steps, short):
    """Mean and deviation are those of the posterior, but for what finite steps leave."""
    mean, deviation = exact_moments(sampler, n_steps)
    assert mean == pytest.approx(MEAN, abs=0.003)
    assert deviation == pytest.approx(DEVIATION, rel=short)
    n = 200
    drawn = sample(sampler, n, n_steps, shape=(16, 16))
    assert drawn.mean() == pytest.approx(mean, abs=5 * DEVIATION / (n * 256) ** 0.5)
    assert drawn.std() == pytest.approx(deviation, rel=5 / (2 * n * 256) ** 0.5)
    correlation = np.corrcoef(drawn.reshape(n, 256).T) - np.eye(256)
    assert abs(correlation).max() < 6 / n**0.5


def test_what_ancestral_steps_leave_is_of_first_order():
    short = [1 - exact_moments(sample_ddpm, n)[1] / DEVIATION for n in (125, 250, 500)]
    assert short[0] / short[1] == pytest.approx(2, abs=0.3)
    assert short[1] / short[2] == pytest.approx(2, abs=0.3)


def exact_moments_of_many_steps(sampler, n_steps):
    """The same where steps know each other: each number is kept as a sum over what was drawn."""
    sigmas = edm_sigmas(n_steps, sigma_min=0.02, sigma_max=40.0).double()
    basis = torch.eye(n_steps + 2, dtype=torch.float64)
    drawn = iter(basis[2:])

    def denoise_sum(x, sigma):
        return (DEVIATION**2 * x + sigma**2 * MEAN * basis[0]) / (DEVIATION**2 + sigma**2)

    end = sampler(denoise_sum, sigmas[0] * basis[1], sigmas, noise=lambda: next(drawn))
    return end[0].item(), end[1:].square().sum().sqrt().item()


def test_ancestral_sampler_of_second_order():
    """Deviations are right to 1 % in 64 steps, where the first order is 7 % short."""
    moments = {
        sampler: np.array([exact_moments_of_many_steps(sampler, n) for n in (32, 64, 128)])
        for sampler in (sample_ddpm, sample_sde_dpmpp_2m)
    }
    errors = [np.abs(found[:, 1] / DEVIATION - 1) for found in moments.values()]
    assert errors[0][:-1] / errors[0][1:] == pytest.approx([2, 2], abs=0.3)
    assert (errors[1][:-1] / errors[1][1:] > 3.5).all()
    assert errors[0][1] == pytest.approx(0.07, abs=0.01)
    assert errors[1][1] < 0.01
    for found in moments.values():
        np.testing.assert_allclose(found[:, 0], MEAN, atol=0.001)


@pytest.mark.parametrize("sampler", [sample_ddpm, sample_ddim])
def test_gaussian_posterior_through_the_network(sampler):
    """The same with the noise-predicting network of DDPM inside, at the kept steps."""
    network = EpsilonNetwork()
    denoiser = EpsilonDenoiser(network, limit=None).eval()
    drawn = sample(sampler, 2, 100, shape=(1, 16, 16), denoiser=denoiser)
    assert_close(drawn, sample(sampler, 2, 100, shape=(1, 16, 16)), rtol=0, atol=2e-3)
    np.testing.assert_allclose(network.steps, np.linspace(999, 0, 100).round(), atol=2e-3)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_every_step_keeps_the_exact_marginals(eta):
    """The map of one step is affine: its variance is exact, whatever eta.

    For x of variance C + sigma**2 the posterior of the noise-free image has the variance
    C sigma**2 / (C + sigma**2), which a deterministic estimate lacks: what remains short of
    C + s**2 is that variance times the square of the estimate's weight.
    """
    sigma, following, c = 2.0, 1.5, DEVIATION**2
    fresh = eta * following * (1 - (following / sigma) ** 2) ** 0.5
    kept = (following**2 - fresh**2) ** 0.5 / sigma
    points = torch.tensor([0.0, 1.0])
    result = sample_ddim(
        denoise, points, torch.tensor([sigma, following]), eta=eta, noise=lambda: torch.zeros(2)
    )
    slope = (result[1] - result[0]).item()
    assert slope == pytest.approx(kept + (1 - kept) * c / (c + sigma**2))
    short = c * sigma**2 / (c + sigma**2) * (1 - kept) ** 2
    variance = slope**2 * (c + sigma**2) + fresh**2
    assert variance == pytest.approx(c + following**2 - short)


def test_ancestral_step_is_that_of_ho_et_al():
    """Mean and variance of q(x_s | x_t, x_0) in the paper's variables, for respaced steps."""
    sigmas = ddpm_sigmas(250)[100:102]
    signal, following = (1 / (1 + s.item() ** 2) for s in sigmas)
    beta = 1 - signal / following
    x_t, x_0, z = 0.7, -0.2, 1.3
    mean = following**0.5 * beta / (1 - signal) * x_0
    mean += (1 - beta) ** 0.5 * (1 - following) / (1 - signal) * x_t
    variance = (1 - following) / (1 - signal) * beta
    x = torch.tensor([x_t / signal**0.5], dtype=torch.float64)
    result = sample_ddpm(
        lambda x, sigma: torch.full_like(x, x_0), x, sigmas.double(), noise=lambda: torch.tensor(z)
    )
    assert following**0.5 * result.item() == pytest.approx(mean + variance**0.5 * z, rel=1e-5)


def test_last_ancestral_step_adds_no_noise():
    calls = []
    x = torch.ones(3)
    sigmas = ddpm_sigmas(5)
    result = sample_ddpm(denoise, x, sigmas, noise=lambda: calls.append(1) or torch.zeros(3))
    assert len(calls) == 4
    assert result.isfinite().all()


def test_ddim_without_eta_is_deterministic():
    one, other = (sample(sample_ddim, 3, 20) for _ in range(2))
    assert torch.equal(one, other)
    sigmas = ddpm_sigmas(20)
    start = sigmas[0] * draw_normal(streams_of(3), (2,))
    assert_close(one, sample_euler(denoise, start, sigmas))


@pytest.mark.parametrize("n_steps", [1, 2, 13, 1000])
def test_ddim_takes_any_number_of_steps(n_steps):
    calls = []
    sigmas = ddpm_sigmas(n_steps)
    x = sample_ddim(lambda x, s: calls.append(s) or denoise(x, s), torch.ones(1), sigmas)
    assert len(calls) == n_steps
    assert x.isfinite().all()


def test_ddim_with_eta_one_is_ddpm():
    one = sample(sample_ddim, 3, 30, eta=1.0)
    assert torch.equal(one, sample(sample_ddpm, 3, 30))
    assert not torch.allclose(one, sample(sample_ddim, 3, 30))


def test_one_stream_for_each_sample():
    many = sample(sample_ddpm, 6, 30)
    assert_close(sample(sample_ddpm, 2, 30), many[:2], rtol=0, atol=1e-6)
    assert not torch.allclose(many[0], many[1])


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_refused(eta):
    with pytest.raises(ValueError, match=f"eta is {eta}; expected 0 to 1"):
        sample_ddim(denoise, torch.ones(1), ddpm_sigmas(2), eta=eta)


def test_noise_is_needed_for_eta():
    with pytest.raises(ValueError, match="noise is None; expected a function"):
        sample_ddim(denoise, torch.ones(1), ddpm_sigmas(2), eta=0.5)
