"""Reconstruction metrics of D24 against their equations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffsky.evaluation import (
    mean_squared_error,
    peak_snr,
    reconstruction_table,
    structural_similarity,
    uncertainty_image,
)

TRUTH = np.random.default_rng(0).uniform(size=(16, 20))


@given(offset=st.floats(-1, 1), data_range=st.floats(0.5, 3))
def test_equations_of_a_constant_error(offset, data_range):
    assert mean_squared_error(TRUTH + offset, TRUTH) == pytest.approx(offset**2, abs=1e-15)
    if abs(offset) > 1e-6:
        expected = 20 * np.log10(data_range) - 20 * np.log10(abs(offset))
        assert peak_snr(TRUTH + offset, TRUTH, data_range=data_range) == pytest.approx(expected)


def test_equal_images():
    assert mean_squared_error(TRUTH, TRUTH) == 0
    assert peak_snr(TRUTH, TRUTH) == np.inf
    assert structural_similarity(TRUTH, TRUTH) == pytest.approx(1)


def test_similarity_in_one_window():
    """Eq. 13 with c1 = 1e-4 and c2 = 9e-4, on images of one window."""
    x, y = np.random.default_rng(1).uniform(size=(2, 7, 7))
    c1, c2, covariance = 1e-4, 9e-4, np.cov(x.ravel(), y.ravel())
    expected = (2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)
    expected /= (x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance.trace() + c2)
    assert structural_similarity(x, y) == pytest.approx(expected)


def test_uncertainty_is_divided_by_n():
    samples = np.stack([np.full((3, 4), value) for value in (0.0, 1.0, 5.0)])
    assert_allclose(uncertainty_image(samples), np.sqrt(14 / 3))
    assert_allclose(uncertainty_image(samples[:1]), 0)


def test_table():
    """Two images, three runs; the errors of run k in image i are known."""
    truths = [TRUTH, TRUTH[::-1]]
    errors = np.array([[0.1, -0.1, 0.3], [0.2, 0.4, -0.6]])
    samples = [t + e[:, None, None] for t, e in zip(truths, errors, strict=True)]
    table = reconstruction_table(iter(samples), truths)
    assert list(table["aggregation"]) == ["single run", "mean", "median"]
    assert table.meta == {"n_images": 2, "n_runs": 3}
    single, means, medians = errors**2, errors.mean(axis=1) ** 2, np.median(errors, axis=1) ** 2
    assert_allclose(table["mse"], [single.mean(), means.mean(), medians.mean()], atol=1e-12)
    expected = [single.mean(axis=0).std(), means.std(), medians.std()]
    assert_allclose(table["mse_err"], expected, atol=1e-12)
    assert_allclose(table["psnr"][2], -10 * np.log10(medians).mean())
    assert (table["ssim"] < 1).all()


def test_table_of_an_image_without_error():
    """An empty sky that is found empty: its peak S/N is infinite, and so is the mean."""
    table = reconstruction_table([np.zeros((2, 8, 8)), np.ones((2, 8, 8))], [np.zeros((8, 8))] * 2)
    assert np.isinf(table["psnr"]).all()
    assert_allclose(table["mse"], 0.5)


@pytest.mark.parametrize("measure", [mean_squared_error, peak_snr, structural_similarity])
def test_images_refused(measure):
    with pytest.raises(ValueError, match=r"shapes \(3, 3\) and \(16, 20\)"):
        measure(np.ones((3, 3)), TRUTH)
    with pytest.raises(ValueError, match="not finite"):
        measure(np.where(TRUTH > 0.5, np.nan, TRUTH), TRUTH)


@pytest.mark.parametrize("measure", [peak_snr, structural_similarity])
def test_range_refused(measure):
    with pytest.raises(ValueError, match="data_range is 0; expected a number above 0"):
        measure(TRUTH, TRUTH, data_range=0)


def test_image_smaller_than_the_window():
    with pytest.raises(ValueError, match=r"shape \(6, 20\); expected at least 7 x 7"):
        structural_similarity(TRUTH[:6], TRUTH[:6])


def test_samples_refused():
    with pytest.raises(ValueError, match=r"shape \(16, 20\); expected \(n, ny, nx\)"):
        uncertainty_image(TRUTH)
    with pytest.raises(ValueError, match=r"\[2, 1\] samples; expected .* the same number"):
        reconstruction_table([[TRUTH, TRUTH], [TRUTH]], [TRUTH, TRUTH])
    with pytest.raises(ValueError, match=r"\[\] samples"):
        reconstruction_table([], [])
    with pytest.raises(ValueError, match="zip"):
        reconstruction_table([[TRUTH]], [])
