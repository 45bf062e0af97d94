"""Distributions of image quantities: known ones, scipy's distances, and refusals."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable, Table
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ks_2samp, spearmanr, wasserstein_distance

from diffsky.evaluation.distributions import (
    compare_distributions,
    compare_pixels,
    image_statistics,
    residual_flux_relation,
)


def test_distances_are_those_of_scipy():
    rng = np.random.default_rng(1)
    real = {"flux": rng.lognormal(size=400), "area": rng.integers(5, 90, size=400)}
    generated = {"area": rng.integers(5, 80, size=300), "flux": rng.lognormal(0.3, size=300)}
    table = compare_distributions(real, generated).table
    assert list(table["name"]) == ["flux", "area"]
    for row in table:
        one, other = real[row["name"]], generated[row["name"]]
        test = ks_2samp(one, other)
        assert row["ks"] == test.statistic
        assert row["p_value"] == test.pvalue
        assert row["wasserstein"] == pytest.approx(wasserstein_distance(one, other))
        assert row["wasserstein_std"] == pytest.approx(row["wasserstein"] / one.std())
        assert row["ks_limit"] == pytest.approx(1.358 * np.sqrt(700 / 120_000), rel=1e-3)


def test_shift_and_separation():
    """A shift by 3 is a Wasserstein distance of 3; samples that do not overlap are 1 apart."""
    x = np.random.default_rng(0).uniform(size=2000)
    row = compare_distributions({"x": x}, {"x": x[:1700] + 3}).table[0]
    assert row["ks"] == 1
    assert row["p_value"] < 1e-100
    assert row["wasserstein"] == pytest.approx(3, abs=0.03)


def test_limit_is_exceeded_in_a_twentieth_of_cases():
    rng = np.random.default_rng(5)
    rows = [
        compare_distributions({"x": rng.normal(size=150)}, {"x": rng.normal(size=200)}).table[0]
        for _ in range(400)
    ]
    beyond = np.mean([row["ks"] > row["ks_limit"] for row in rows])
    assert beyond == pytest.approx(0.05, abs=0.033)  # three standard deviations


def test_histograms_have_poisson_intervals():
    real = {"x": np.repeat([0.5, 1.5, 3.5], [100, 1, 7])}
    generated = {"x": [0.5, np.nan, 3.5, np.inf]}
    found = compare_distributions(real, generated, bins={"x": [0, 1, 2, 3, 4]})
    histogram, row = found.histograms["x"], found.table[0]
    assert list(histogram["real"]) == [100, 1, 0, 7]
    assert list(histogram["generated"]) == [1, 0, 0, 1]
    # Gehrels 1986, table 1 and 2
    assert_allclose(histogram["real_upper"][1:3], [3.300, 1.841], atol=2e-3)
    assert_allclose(histogram["real_lower"][1:3], [0.173, 0], atol=1e-3)
    assert histogram["real_upper"][0] == pytest.approx(111.03, abs=0.1)
    assert [row[name] for name in ("n_real", "n_generated")] == [108, 2]
    assert [row[name] for name in ("left_out_real", "left_out_generated")] == [0, 2]


def test_tables_and_masked_values():
    real = Table({"x": [1.0, 2.0, 3.0, 4.0]}, masked=True)
    real["x"].mask[1] = True
    found = compare_distributions(real, Table({"x": [1.0, 3.0]}), bins=3)
    assert found.table["left_out_real"][0] == 1
    histogram = found.histograms["x"]
    assert_allclose(histogram["low"], [1, 2, 3])
    assert histogram["real"].sum() == 3
    assert histogram["generated"].sum() == 2


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.integers(1, 30))
def test_equal_samples_have_no_distance(values, bins):
    row = compare_distributions({"x": values}, {"x": values[::-1]}, bins=bins).table[0]
    assert row["ks"] == row["wasserstein"] == 0
    assert row["p_value"] == 1


@pytest.mark.parametrize(
    ("real", "generated", "bins", "message"),
    [
        ({}, {}, 5, "real has nothing"),
        ({"x": [1]}, {"y": [1]}, 5, "real has x and generated y; expected the same names"),
        ({"x": [np.nan]}, {"x": [1]}, 5, "x has no finite value"),
        ({"x": [[1.0]]}, {"x": [1]}, 5, r"x has the shape \(1, 1\)"),
        ({"x": [1]}, {"x": [1]}, {"y": [1, 2]}, "bins have no x"),
        ({"x": [1]}, {"x": [1]}, {"x": [2, 1]}, "expected ascending edges"),
    ],
)
def test_refused_quantities(real, generated, bins, message):
    with pytest.raises(ValueError, match=message):
        compare_distributions(real, generated, bins=bins)


def test_statistics_of_scaled_images():
    """Eq. 11: clipped at 0, and each to its own range."""
    images = np.array([[[-4.0, 0.0], [2.0, 8.0]], [[1.0, 3.0], [2.0, 2.0]]])
    scaled = np.array([[0, 0, 0.25, 1], [0, 1, 0.5, 0.5]])
    found = image_statistics(images, bins=4)
    assert_allclose(found.mean, scaled.mean(axis=1), rtol=1e-6)
    assert_allclose(found.std, scaled.std(axis=1), rtol=1e-6)
    assert_array_equal(found.counts, [3, 1, 2, 2])
    assert_allclose(image_statistics(images * 1e-4).mean, found.mean, rtol=1e-6)


def test_generated_images_are_not_scaled_to_their_own_range():
    images = np.array([[[0.0, 0.5]], [[0.0, 1.2]]]) * np.array([2.0, 3.0])[:, None, None]
    assert_allclose(image_statistics(images, peaks=[2.0, 3.0]).mean, [0.25, 0.5])
    assert_allclose(image_statistics(images / 2, peaks=1).mean, [0.25, 0.5])
    assert_allclose(image_statistics(images).mean, [0.5, 0.5])


def test_pixels():
    """Uniform pixels against those of density 2x: the largest distance is 1/4, the area 1/6."""
    rng = np.random.default_rng(2)
    pixels = rng.uniform(size=(40, 100, 100))
    real = image_statistics(pixels, peaks=1, bins=200)
    table = compare_pixels(real, image_statistics(np.sqrt(pixels), peaks=1, bins=200))
    assert table.meta["ks"] == pytest.approx(0.25, abs=0.005)
    assert table.meta["wasserstein"] == pytest.approx(1 / 6, abs=0.002)
    assert_allclose(table["real"], 2000, atol=250)
    assert_allclose(table["real_upper"] - table["real"], np.sqrt(2000), rtol=0.1)
    with pytest.raises(ValueError, match="expected the same edges"):
        compare_pixels(real, image_statistics(pixels, bins=100))


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros((4, 4)), {}, r"shape \(4, 4\)"),
        (np.zeros((2, 4, 4)), {}, "are flat"),
        (np.full((1, 4, 4), np.nan), {"peaks": 1}, "not finite"),
        (np.ones((2, 4, 4)), {"peaks": [1, 0]}, "expected a number above 0"),
        (np.ones((2, 4, 4)), {"peaks": [1, 1, 1]}, "or one for each image"),
        (np.ones((2, 4, 4)), {"bins": [1, 1]}, "ascending edges"),
    ],
)
def test_refused_images(images, options, message):
    with pytest.raises(ValueError, match=message):
        image_statistics(images, **options)


def test_residual_of_equal_noise_falls_as_the_inverse_of_the_peak():
    rng = np.random.default_rng(4)
    peak = 10 ** rng.uniform(-3, -1, size=300)
    residual = 2e-2 / peak * 10 ** rng.normal(0, 0.2, size=300)
    found = residual_flux_relation([*peak, np.nan, 1.0], [*residual, 1.0, 0.0], n_bootstrap=300)
    assert (found.n, found.left_out) == (300, 2)
    assert found.spearman == pytest.approx(spearmanr(peak, residual).statistic)
    # Errors of a line: sigma / (sqrt(n) std(x)), here 0.2 / (17.3 x 0.577).
    assert found.slope_err == pytest.approx(0.02, rel=0.25)
    assert found.slope == pytest.approx(-1, abs=4 * found.slope_err)
    assert 10 ** (found.intercept + found.slope * -2) == pytest.approx(2, rel=0.1)
    spread = [
        spearmanr(peak[k], residual[k]).statistic for k in rng.integers(0, 300, size=(300, 300))
    ]
    assert found.spearman_err == pytest.approx(np.std(spread), rel=0.3)
    assert residual_flux_relation(peak, residual, n_bootstrap=20, seed=3) == (
        residual_flux_relation(peak, residual, n_bootstrap=20, seed=3)
    )


@pytest.mark.parametrize(
    ("peak", "residual", "message"),
    [
        ([1, 2], [1, 2, 3], r"shape \(2,\), residual \(3,\)"),
        ([1, 2, 3], [1, 0, 3], "2 images have a peak flux and a residual above 0"),
        ([2, 2, 2], [1, 2, 3], "not all of the same peak flux"),
    ],
)
def test_refused_relations(peak, residual, message):
    with pytest.raises(ValueError, match=message):
        residual_flux_relation(peak, residual)


def test_units_are_converted():
    """mJy/beam beside Jy/beam, and columns of a table with units."""
    images, peaks = np.abs(np.random.default_rng(1).normal(size=(3, 8, 8))), np.array([4.0, 5, 6])
    known = image_statistics(images, peaks=peaks)
    same = image_statistics(1e3 * images * u.mJy / u.beam, peaks=peaks * u.Jy / u.beam)
    np.testing.assert_allclose(same.mean, known.mean)
    one = QTable({"flux": [1.0, 2, 3] * u.Jy})
    other = QTable({"flux": [1000.0, 2000, 3000] * u.mJy})
    assert compare_distributions(one, other).table["ks"][0] == 0
    with pytest.raises(ValueError, match="flux: .*; expected one unit"):
        compare_distributions(one, QTable({"flux": [1.0] * u.K}))
