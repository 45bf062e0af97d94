"""EDM preconditioning, V24 eq. 17 to 21."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from diffsky.diffusion import Denoiser, UNet

sigmas = st.floats(1e-3, 100)
data_sigmas = st.floats(0.05, 10)


class Recorder(nn.Module):
    """A network that keeps what it is given and returns a constant."""

    def __init__(self, value=0.0):
        super().__init__()
        self.value = value

    def forward(self, channels, c_noise):
        self.channels, self.c_noise = channels, c_noise
        return torch.full_like(channels[:, :1], self.value)


def coefficients(sigma, sigma_data):
    denoiser = Denoiser(Recorder(), sigma_data=sigma_data)
    return (c.item() for c in denoiser.coefficients(torch.tensor(sigma, dtype=torch.float64)))


def test_closed_values():
    """At sigma = sigma_data = 0.5."""
    c_skip, c_out, c_in, c_noise = coefficients(0.5, 0.5)
    assert c_skip == pytest.approx(0.5)
    assert c_out == pytest.approx(0.25 * math.sqrt(2))
    assert c_in == pytest.approx(math.sqrt(2))
    assert c_noise == pytest.approx(-0.1732868)


@given(sigma=sigmas, sigma_data=data_sigmas)
def test_equations(sigma, sigma_data):
    total = sigma**2 + sigma_data**2
    c_skip, c_out, c_in, c_noise = coefficients(sigma, sigma_data)
    assert c_skip == pytest.approx(sigma_data**2 / total)
    assert c_out == pytest.approx(sigma * sigma_data / math.sqrt(total))
    assert c_in == pytest.approx(1 / math.sqrt(total))
    assert c_noise == pytest.approx(math.log(sigma) / 4)


@given(sigma=sigmas, sigma_data=data_sigmas)
def test_variances_are_one(sigma, sigma_data):
    """The network's input has variance 1, and so has what it should return."""
    c_skip, c_out, c_in, _ = coefficients(sigma, sigma_data)
    assert c_in**2 * (sigma_data**2 + sigma**2) == pytest.approx(1)
    target = (1 - c_skip) ** 2 * sigma_data**2 + c_skip**2 * sigma**2
    assert target / c_out**2 == pytest.approx(1)


@given(sigma=sigmas, sigma_data=data_sigmas)
def test_errors_of_the_network_count_least(sigma, sigma_data):
    """c_skip is what makes c_out smallest."""
    c_skip, c_out, *_ = coefficients(sigma, sigma_data)
    for other in (c_skip - 0.01, c_skip + 0.01):
        assert (1 - other) ** 2 * sigma_data**2 + other**2 * sigma**2 > c_out**2


@given(sigma=st.floats(1e-3, 100), value=st.floats(-3, 3), n=st.integers(1, 3))
def test_equation_17(sigma, value, n):
    network = Recorder(value)
    denoiser = Denoiser(network, sigma_data=0.7)
    x, condition = torch.randn(n, 1, 4, 6), torch.randn(n, 2, 4, 6)
    c_skip, c_out, c_in, c_noise = coefficients(sigma, 0.7)
    denoised = denoiser(x, torch.tensor(sigma), condition)
    assert_close(denoised, c_skip * x + c_out * value)
    assert_close(network.channels[:, :1], c_in * x)
    assert torch.equal(network.channels[:, 1:], condition)
    assert_close(network.c_noise, torch.full((n,), c_noise), rtol=1e-5, atol=1e-6)


def test_one_sigma_for_each_image():
    torch.manual_seed(0)
    network = UNet(1, channels=(4,), blocks=1, width=8)
    nn.init.normal_(network.last.weight)
    denoiser = Denoiser(network)
    x, sigma = torch.randn(3, 1, 8, 8), torch.tensor([0.01, 1.0, 50.0])
    together = denoiser(x, sigma)
    singles = torch.cat([denoiser(x[k : k + 1], sigma[k]) for k in range(3)])
    assert_close(together, singles, rtol=1e-5, atol=1e-5)
    assert_close(denoiser(x, 1.0), denoiser(x, torch.ones(3)))


@given(sigma_data=data_sigmas)
def test_no_noise_changes_nothing(sigma_data):
    x = torch.randn(1, 1, 4, 4)
    assert_close(Denoiser(Recorder(1.0), sigma_data=sigma_data)(x, 1e-6), x, rtol=1e-4, atol=1e-5)


def test_result_is_float32_in_mixed_precision():
    denoiser = Denoiser(UNet(1, channels=(4,), blocks=1, width=4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert denoiser(torch.randn(1, 1, 4, 4), 1.0).dtype == torch.float32


def test_statistics_of_a_gaussian():
    """For Gaussian data of variance sigma_data**2, D with F = 0 is exact.

    Its output has the variance c_skip sigma_data**2, and its error the posterior variance c_out**2.
    """
    stream = torch.Generator().manual_seed(1)
    data = 0.5 * torch.randn(1, 1, 400, 400, generator=stream)
    noise = torch.randn(1, 1, 400, 400, generator=stream)
    denoiser = Denoiser(Recorder(0.0), sigma_data=0.5)
    for sigma in (0.05, 0.5, 5.0):
        denoised = denoiser(data + sigma * noise, sigma)
        c_skip, c_out, *_ = coefficients(sigma, 0.5)
        assert denoised.var().item() == pytest.approx(c_skip * 0.25, rel=0.02)
        assert (denoised - data).var().item() == pytest.approx(c_out**2, rel=0.02)
