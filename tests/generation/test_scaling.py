"""Scaling of images and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from diffsky.generation import scale_images, unscale_images


def test_known_values():
    images = np.array([[[-3.0, 0.0], [1.0, 4.0]]])
    scaled, peaks = scale_images(images)
    assert scaled.tolist() == [[[-1, -1], [-0.5, 1]]]
    assert peaks == 4


def test_a_floor_is_taken_out():
    """FIRST images have none of their pixels below three times the noise."""
    scaled, peaks = scale_images(np.array([[[1.0, 2.0], [3.0, 5.0]]]))
    assert scaled.tolist() == [[[-1, -0.5], [0, 1]]]
    assert peaks == 5


def test_root():
    scaled, _ = scale_images(np.array([[[-3.0, 0.25], [1.0, 4.0]]]), gamma=2, offset=0)
    assert scaled.tolist() == [[[0, 0.5], [1, 2]]]


@given(
    arrays(np.float32, (2, 3, 3), elements=st.floats(-1, 1, width=32)),
    st.floats(2**-16, 2**10, width=32),
    st.sampled_from([{}, {"gamma": 2.0, "offset": 0.0}, {"gamma": 3.0}]),
)
def test_round_trip(images, unit, scale):
    images = np.concatenate([images, images[:1]])
    images[:, 0, 0], images[:, 1, 1] = -0.5, 1.0
    scaled, peaks = scale_images(unit * images, **scale)
    assert scaled.min() == scale.get("offset", -1)
    assert scaled.max() == scaled.min() + 2
    known = np.clip(unit * images, 0, None)
    np.testing.assert_allclose(unscale_images(scaled, peaks, **scale), known, atol=1e-6 * unit)


def test_what_a_network_oversteps_is_clamped():
    assert unscale_images(np.array([[[-1.2, 1.3]]]), 2.0).tolist() == [[[0, 2]]]


def test_peak_is_reached_as_eq_11_has_it():
    """Whatever the network fell short by; an image of nothing stays empty."""
    short = np.array([[[-1.0, 0.0, -0.5]], [[-1.0, -1.0, -1.0]]])
    assert unscale_images(short, [4.0, 4.0]).tolist() == [[[0, 4, 2]], [[0, 0, 0]]]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 4)), r"shape \(4, 4\); expected \(n, ny, nx\)"),
        (np.full((2, 3, 3), np.nan), r"images 0, 1 \(2 in all\) have pixels that are not finite"),
        (np.zeros((1, 3, 3)), r"images 0 \(1 in all\) are flat"),
        (-np.ones((9, 3, 3)), r"images 0, 1, 2, 3, 4, ... \(9 in all\) are flat"),
    ],
)
def test_bad_images(images, message):
    with pytest.raises(ValueError, match=message):
        scale_images(images)


@pytest.mark.parametrize("gamma", [0, -1, float("nan"), float("inf")])
def test_bad_gamma(gamma):
    with pytest.raises(ValueError, match="expected a number above 0"):
        scale_images(np.eye(3)[None], gamma=gamma)
