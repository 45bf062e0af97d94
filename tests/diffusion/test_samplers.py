"""Samplers against the closed form of a Gaussian prior.

For x ~ N(mean, C) the exact denoiser is D = mean + C (C + sigma**2)^-1 (x - mean), and the flow of
V24 eq. 24 carries x at sigma_max to mean + C^(1/2) (C + sigma_max**2)^(-1/2) (x - mean).
"""

import pytest
import torch
from torch.testing import assert_close

from diffsky.backend import draw_normal, sample_generator
from diffsky.diffusion import SAMPLERS, edm_sigmas, get_sampler, network_calls
from diffsky.diffusion.samplers import STOCHASTIC_SAMPLERS

MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
EYE = torch.eye(2, dtype=torch.float64)
DETERMINISTIC = [name for name in SAMPLERS if name not in STOCHASTIC_SAMPLERS]
ENOUGH_STEPS = {"euler": 1000, "heun": 60, "dpmpp-2m": 100, "dpmpp-3m": 60, "ddim": 1000}
ORDER = {"euler": 1, "heun": 2, "dpmpp-2m": 2, "dpmpp-3m": 3, "ddim": 1}


def denoise(x, sigma):
    gain = COVARIANCE @ torch.linalg.inv(COVARIANCE + sigma.double() ** 2 * EYE)
    return MEAN + (x - MEAN) @ gain.T


def root(matrix, power):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**power) @ vectors.T


def exact_flow(x, sigma_max):
    matrix = root(COVARIANCE, 0.5) @ root(COVARIANCE + sigma_max**2 * EYE, -0.5)
    return MEAN + (x - MEAN) @ matrix.T


def geometric_sigmas(n, sigma_max, sigma_min):
    """Levels equally spaced in ln sigma, and no last step to zero."""
    return torch.logspace(0, 1, n + 1, base=sigma_min / sigma_max, dtype=torch.float64) * sigma_max


def flow_error(name, n, start=10.0):
    """Largest error of the flow down to a level of 0.1, over a few starting points."""
    end = 0.1
    x = start * torch.tensor([[0.3, 0.1], [-0.8, 0.5], [1.0, 1.0]], dtype=torch.float64)
    result = SAMPLERS[name](denoise, x, geometric_sigmas(n, start, end))
    middle = root(COVARIANCE + end**2 * EYE, 0.5) @ root(COVARIANCE + start**2 * EYE, -0.5)
    return (result - (MEAN + (x - MEAN) @ middle.T)).abs().max().item()


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_mean_and_covariance(name):
    """The sampler is an affine map here, so its moments are exact, without drawing."""
    sigmas = edm_sigmas(ENOUGH_STEPS[name])
    points = torch.cat([torch.zeros(1, 2, dtype=torch.float64), EYE])
    images = SAMPLERS[name](denoise, points, sigmas)
    matrix = (images[1:] - images[:1]).T
    assert_close(images[0], MEAN, rtol=0, atol=0.03)  # |mean| / sigma_max remains
    assert_close(sigmas[0].double() ** 2 * matrix @ matrix.T, COVARIANCE, rtol=0.01, atol=0.002)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_samples(name):
    n = 4000
    noise = 80 * draw_normal([sample_generator(3, k) for k in range(n)], (2,))
    samples = SAMPLERS[name](denoise, noise.double(), edm_sigmas(ENOUGH_STEPS[name]))
    assert_close(samples.mean(0), MEAN, rtol=0, atol=0.08)
    assert_close(torch.cov(samples.T), COVARIANCE, rtol=0.1, atol=0)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_flow(name):
    x = 80 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).double()
    result = SAMPLERS[name](denoise, x, edm_sigmas(ENOUGH_STEPS[name]))
    assert_close(result, exact_flow(x, 80.0), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_of_convergence(name):
    """From 80, where the estimate changes so little that the first steps count for nothing."""
    errors = torch.tensor([flow_error(name, n, start=80.0) for n in (160, 320, 640)])
    orders = torch.log2(errors[:-1] / errors[1:])
    assert_close(orders, torch.full((2,), float(ORDER[name])), rtol=0, atol=0.2)


def test_heun_beats_euler_at_equal_cost():
    assert flow_error("heun", 40) < 0.15 * flow_error("euler", 80)


def test_third_order_beats_second_at_equal_cost():
    assert flow_error("dpmpp-3m", 24, 80.0) < 0.3 * flow_error("dpmpp-2m", 24, 80.0)


def test_third_order_extrapolates_too_far_in_long_steps():
    assert flow_error("dpmpp-3m", 5, 80.0) > 3 * flow_error("dpmpp-2m", 5, 80.0)


@pytest.mark.parametrize("n_steps", [1, 2, 7])
@pytest.mark.parametrize("name", SAMPLERS)
def test_network_calls_and_callback(name, n_steps):
    levels, steps = [], []

    def counted(x, sigma):
        levels.append(sigma.item())
        return denoise(x, sigma)

    x = torch.zeros(1, 2, dtype=torch.float64)
    noise = {"noise": lambda: torch.ones_like(x)} if name in STOCHASTIC_SAMPLERS else {}
    SAMPLERS[name](counted, x, edm_sigmas(n_steps), callback=steps.append, **noise)
    assert len(levels) == network_calls(name, n_steps)
    assert min(levels) > 0
    assert steps == list(range(n_steps))


def test_network_calls_by_hand():
    assert [network_calls(name, 7) for name in ("euler", "heun", "dpmpp-3m")] == [7, 13, 7]
    with pytest.raises(ValueError, match="n_steps is 0; expected 1 or more"):
        network_calls("heun", 0)
    with pytest.raises(ValueError, match="sampler is 'rk4'"):
        network_calls("rk4", 3)


def exact_consistency(x, sigma):
    """The end of the flow through x, which distilled weights are to give."""
    return exact_flow(x, float(sigma))


@pytest.mark.parametrize("n_steps", [1, 2, 4])
def test_consistency_model_samples_the_prior(n_steps):
    """With the exact one any number of calls has the moments of the prior; a denoiser has not."""
    name, stream = "consistency", sample_generator(5, 0)

    def draw():
        return torch.randn(8000, 2, generator=stream).double()

    sigmas = edm_sigmas(n_steps, sigma_min=1.0)
    samples = SAMPLERS[name](exact_consistency, 80 * draw(), sigmas, noise=draw)
    assert_close(samples.mean(0), MEAN, rtol=0, atol=0.08)
    assert_close(torch.cov(samples.T), COVARIANCE, rtol=0.1, atol=0)
    narrow = SAMPLERS[name](denoise, 80 * draw(), sigmas, noise=draw)
    assert torch.cov(narrow.T).trace() < 0.5 * COVARIANCE.trace()


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_one_step_is_the_denoiser(name):
    x = torch.randn(3, 2, dtype=torch.float64)
    sigmas = edm_sigmas(1)
    assert_close(SAMPLERS[name](denoise, x, sigmas), denoise(x, sigmas[0]))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_input_is_kept(name):
    x = torch.ones(1, 2, dtype=torch.float64)
    SAMPLERS[name](denoise, x, edm_sigmas(3))
    assert torch.equal(x, torch.ones(1, 2, dtype=torch.float64))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_sample_does_not_depend_on_the_batch(name):
    streams = [sample_generator(1, k) for k in range(6)]
    noise = 80 * draw_normal(streams, (2,)).double()
    together = SAMPLERS[name](denoise, noise, edm_sigmas(10))
    apart = torch.cat([SAMPLERS[name](denoise, part, edm_sigmas(10)) for part in noise.split(4)])
    assert_close(together, apart, rtol=1e-12, atol=1e-12)


def test_get_sampler():
    assert get_sampler("heun") is SAMPLERS["heun"]
    with pytest.raises(ValueError, match="sampler is 'rk4'; expected one of heun, euler, dpmpp-2m"):
        get_sampler("rk4")
