"""Classifier-free guidance against its closed form."""

import pytest
import torch
from torch.testing import assert_close

from diffsky.diffusion import guide

NONE = float("nan")


class Constant:
    """Estimates 10 with a context of 1, 4 without, and counts its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, sigma, condition):
        self.calls.append(len(x))
        value = torch.where(condition.isnan(), 4.0, 10.0 * condition)
        return value[:, :, None, None].expand_as(x) + sigma[:, None, None, None]


@pytest.mark.parametrize(("strength", "expected"), [(0.0, 10), (0.5, 13), (1.5, 19)])
def test_value(strength, expected):
    """(1 + w) D(c) - w D(none); a plus sign would give 10 (1 + w) + 4 w."""
    denoiser, x = Constant(), torch.zeros(3, 1, 4, 4)
    found = guide(denoiser, torch.ones(3, 1), strength)(x, torch.tensor([0.0, 0.1, 0.2]))
    assert_close(found[:, 0, 0, 0], expected + torch.tensor([0.0, 0.1, 0.2]))
    assert denoiser.calls == [3 if strength == 0 else 6]


def test_scalar_level():
    found = guide(Constant(), torch.ones(2, 1), 1.0)(torch.zeros(2, 1, 2, 2), torch.tensor(0.5))
    assert_close(found, torch.full((2, 1, 2, 2), 16.5))


def test_without_context_guidance_changes_nothing():
    context = torch.full((2, 1), NONE)
    found = guide(Constant(), context, 3.0)(torch.zeros(2, 1, 2, 2), torch.zeros(2))
    assert_close(found, torch.full((2, 1, 2, 2), 4.0))


@pytest.mark.parametrize("strength", [-0.1, NONE, float("inf")])
def test_bad_strength(strength):
    with pytest.raises(ValueError, match="guidance is .*; expected a number of 0 or more"):
        guide(Constant(), torch.ones(1, 1), strength)
