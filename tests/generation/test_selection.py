"""The cuts of V24 section 3.1."""

import numpy as np
import pytest
from astropy.stats import sigma_clipped_stats
from numpy.testing import assert_allclose, assert_array_equal

from diffsky.generation import select_cutouts, source_signal
from diffsky.generation.selection import STEPS


def make_image(peak=100.0, background=1.0, *, at=(20, 20), n=40, seed=0):
    """A Gaussian source on positive noise."""
    y, x = np.indices((n, n))
    rng = np.random.default_rng(seed)
    source = peak * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 8)
    return source + background + 0.1 * background * rng.standard_normal((n, n))


def test_signal_of_known_regions():
    # 4 pixels of 50 and the rest 1 and 3 in equal shares: median 2, standard deviation 1.
    image = np.ones((20, 20))
    image[::2] = 3
    image[9:11, 9:11] = 50
    signal, uncertain = source_signal(image[None])
    rest = (image.sum() - 200) / 396
    assert_allclose(signal, 50 / rest)
    assert not uncertain


def naive_signal(image):
    """V24 eq. 9 and 10 as they are printed."""
    _, median, deviation = sigma_clipped_stats(image)
    tau = 5.0
    while not (image > median + tau * deviation).any():
        tau -= 0.5
    source = image > median + tau * deviation
    return image[source].mean() / image[~source].mean()


@pytest.mark.parametrize("peak", [0.2, 0.5, 0.7, 3, 100])
def test_signal_as_printed(peak):
    images = [make_image(peak, seed=seed) for seed in range(5)]
    assert_allclose(source_signal(np.array(images))[0], [naive_signal(one) for one in images])


def test_background_of_zero_mean():
    image = make_image(20.0, 1.0) - 1.0
    image -= image[:10].mean()
    image[:5] -= 1  # the background is below zero
    signal, uncertain = source_signal(image[None])
    assert uncertain
    _, median, deviation = sigma_clipped_stats(image)
    source = image > median + 5 * deviation
    assert_allclose(signal, image[source].mean() / (deviation / np.sqrt((~source).sum())))


def test_first_reason_counts():
    good = make_image()
    broken = good.copy()
    broken[3, 3] = np.nan
    faint = make_image(peak=1.0)
    cropped = make_image(at=(0, 20))
    partial = good.copy()
    partial[:, :5] = 0
    blank = np.full_like(good, 2.0)
    both = cropped.copy()
    both[:, :5] = 0  # fails the edge first
    images = np.array([good, broken, faint, cropped, partial, blank, both])
    found = select_cutouts(images)
    reasons = ["", "broken", "S/N_sigma", "edge pixels", "incomplete", "broken", "edge pixels"]
    assert_array_equal(found.reason, reasons)
    table = found.to_table()
    assert_array_equal(table["step"], ["cutouts", *STEPS])
    assert_array_equal(table["removed"], [0, 2, 1, 2, 1])
    assert_array_equal(table["kept"], [7, 5, 4, 2, 1])


def test_coverage():
    images = np.array([make_image(), make_image()])
    found = select_cutouts(images, coverage=[1.0, 0.9])
    assert_array_equal(found.kept, [True, False])
    assert_array_equal(select_cutouts(images, [1.0, 0.9], min_coverage=0.85).kept, True)


def test_thresholds_are_parameters():
    faint = make_image(peak=1.0)[None]
    assert not select_cutouts(faint).kept
    assert select_cutouts(faint, min_signal=1.0).kept
    cropped = make_image(at=(0, 20))[None]
    assert select_cutouts(cropped, max_edge=1.0).kept
    # Pixels 8, 8 and 5.5 deviations above the median: tau decides which of them count.
    steps = np.ones((1, 20, 20))
    steps[0, ::2] = 3
    steps[0, 9, 9:12] = 11, 11, 8.5
    at_start = source_signal(steps)[0]
    assert_allclose(source_signal(steps, tau=7)[0] / at_start, 11 / 10.17, rtol=0.01)
    signal = float(at_start[0])
    assert select_cutouts(steps, tau=7, min_signal=1.03 * signal).kept
    assert not select_cutouts(steps, min_signal=1.03 * signal).kept
    assert_allclose(source_signal(steps, tau=20, tau_step=5)[0], at_start)


def test_nothing_to_select():
    found = select_cutouts(np.zeros((0, 8, 8)))
    assert len(found.reason) == 0
    assert_array_equal(found.to_table()["kept"], 0)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros((8, 8)), {}, r"shape \(8, 8\); expected \(n, ny, nx\)"),
        (np.zeros((2, 8, 8)), {"coverage": [1]}, r"coverage has the shape \(1,\) for 2"),
        (np.zeros((2, 8, 8)), {"max_edge": 0}, "max_edge 0"),
        (np.zeros((2, 8, 8)), {"min_coverage": 1.5}, "min_coverage 1.5"),
        (np.zeros((2, 8, 8)), {"min_signal": np.nan}, "min_signal is nan"),
        (np.zeros((2, 8, 8)), {"tau_step": 0}, "tau is 5.0 and tau_step 0"),
    ],
)
def test_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        select_cutouts(images, **options)
