"""The scaling of sky and dirty image, and its way back."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from diffsky.deconvolution.scaling import WorkingScale

scales = st.builds(
    WorkingScale,
    gamma=st.floats(1, 4),
    unit=st.floats(1e-3, 10),
    dirty_unit=st.floats(0.1, 100),
)
pixels = st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=20).map(torch.tensor)


@given(scale=scales, apparent=pixels)
def test_round_trip(scale, apparent):
    assert_close(
        scale.unscale_target(scale.scale_target(apparent)), apparent, rtol=2e-5, atol=1e-30
    )


@given(scale=scales, target=pixels)
def test_other_round_trip(scale, target):
    double = target.double()
    assert_close(scale.scale_target(scale.unscale_target(double)), double, rtol=1e-9, atol=1e-70)


@given(scale=scales)
def test_flux_of_one_unit_is_one(scale):
    assert_close(scale.scale_target(torch.tensor([scale.unit])), torch.ones(1))
    assert_close(scale.unscale_target(torch.ones(1)), torch.tensor([scale.unit]))


def test_closed_values():
    """D24 eq. 1 with gamma = 2: the square root."""
    scale = WorkingScale(unit=0.25)
    assert_close(scale.scale_target(torch.tensor([0.0, 1.0, 4.0])), torch.tensor([0.0, 2.0, 4.0]))
    cubic = WorkingScale(unit=2.0, gamma=3.0)
    assert_close(cubic.unscale_target(torch.tensor([2.0])), torch.tensor([16.0]))


def test_negative_is_nothing():
    scale = WorkingScale()
    assert torch.equal(scale.scale_target(torch.tensor([-1.0, -0.0])), torch.zeros(2))
    assert torch.equal(scale.unscale_target(torch.tensor([-0.3])), torch.zeros(1))


def test_condition():
    dirty, beam = torch.randn(3, 4, 5), torch.rand(3, 4, 5)
    condition = WorkingScale(dirty_unit=5.0).condition(dirty, beam)
    assert condition.shape == (3, 2, 4, 5)
    assert_close(condition[:, 0] * 5, dirty)
    assert torch.equal(condition[:, 1], beam)


def test_kernel_is_a_share_of_the_beam():
    scale = WorkingScale(pixels_per_beam=5.0, kernel_beams=0.3)
    assert scale.kernel_fwhm == pytest.approx(1.5)
    assert WorkingScale().kernel_fwhm == pytest.approx(0.4 * 4.25)


@given(scale=scales)
def test_dictionary_round_trip(scale):
    assert WorkingScale(**json.loads(json.dumps(scale.to_dict()))) == scale
