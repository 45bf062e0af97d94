"""Noise levels of V24 eq. 25."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffsky.diffusion import edm_sigmas


def test_closed_value():
    """The middle of three levels: ((80**(1/7) + 0.002**(1/7)) / 2)**7 = 2.5152."""
    sigmas = edm_sigmas(3)
    assert_close(sigmas, torch.tensor([80.0, 2.5152, 0.002, 0.0]), rtol=1e-4, atol=0)


@given(
    n=st.integers(2, 300),
    rho=st.floats(1, 10),
    sigma_min=st.floats(1e-3, 0.5),
    sigma_max=st.floats(1, 200),
)
def test_equation(n, rho, sigma_min, sigma_max):
    sigmas = edm_sigmas(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    a, b = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    expected = [(a + i / (n - 1) * (b - a)) ** rho for i in range(n)]
    assert_close(sigmas, torch.tensor([*expected, 0.0]), rtol=1e-5, atol=0)
    assert (sigmas.diff() < 0).all()


def test_linear():
    sigmas = edm_sigmas(5, sigma_min=1.0, sigma_max=5.0, rho=1.0)
    assert_close(sigmas, torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]))


def test_one_step():
    assert_close(edm_sigmas(1), torch.tensor([80.0, 0.0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_steps": 0}, "n_steps is 0; expected 1 or more"),
        ({"n_steps": -3}, "n_steps is -3"),
        ({"sigma_min": 0.0}, "expected 0 < sigma_min < sigma_max"),
        ({"sigma_min": 90.0}, "sigma_min 90.0 and sigma_max 80.0"),
        ({"sigma_max": math.nan}, "expected 0 < sigma_min"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        edm_sigmas(**{"n_steps": 5, **options})
