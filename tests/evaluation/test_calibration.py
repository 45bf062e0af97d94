"""Calibration against models whose posteriors are exact, or wrong in a known way."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from diffsky.evaluation import (
    IsotonicRecalibration,
    gaussian_coverage,
    interval_coverage,
    rank_test,
    reliability_diagram,
    sbc_ranks,
    tarp_curve,
)

N, N_SAMPLES = 2000, 20


def detections(n=N, *, seed=0, power=1.0):
    """Reliabilities in steps of 1/20, each true with the probability r ** power."""
    rng = np.random.default_rng(seed)
    reliability = rng.integers(1, 21, n) / 20
    return reliability, rng.uniform(size=n) < reliability**power


def posteriors(n=N, *, spread=1.0, n_dim=1, n_samples=N_SAMPLES, seed=0):
    """Prior N(0, 1), data of noise 1: exact posteriors N(data / 2, 1 / 2)."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, n_dim))
    data = truth + rng.normal(size=(n, n_dim))
    noise = rng.normal(size=(n, n_samples, n_dim)) * np.sqrt(0.5) * spread
    return truth, data[:, None] / 2 + noise


def test_calibrated_reliabilities_have_no_more_error_than_chance():
    diagram = reliability_diagram(*detections())
    assert diagram.ece - diagram.ece_chance < 3 * diagram.ece_err
    assert diagram.ece == pytest.approx(0, abs=diagram.ece_chance + 3 * diagram.ece_err)
    assert diagram.p_value > 0.01
    table = diagram.table
    assert (
        (table["lower"] < table["reliability"]) & (table["reliability"] < table["upper"])
    ).sum() > 3


def test_error_of_chance_falls_with_the_root_of_the_number():
    chance = [
        reliability_diagram(*detections(n), n_bootstrap=200).ece_chance for n in (1000, 16000)
    ]
    assert chance[0] / chance[1] == pytest.approx(4, rel=0.15)


def test_p_values_of_calibrated_sets_are_uniform():
    values = [
        reliability_diagram(*detections(300, seed=k), n_bootstrap=100).p_value for k in range(100)
    ]
    assert np.mean(values) == pytest.approx(0.5, abs=0.12)
    assert np.mean(np.array(values) < 0.1) < 0.25


def test_overconfident_reliabilities_have_the_known_error():
    # True with r^2: the mean of r - r^2 over r = 1/20 ... 20/20.
    r = np.arange(1, 21) / 20
    diagram = reliability_diagram(*detections(20000, power=2.0), n_bootstrap=100)
    assert diagram.ece == pytest.approx(np.mean(r - r**2), abs=3 * diagram.ece_err)
    assert diagram.ece_err < 0.01
    assert diagram.p_value == 0


def test_bootstrap_takes_whole_fields():
    # Ten detections of a field that are all right or all wrong are worth one.
    reliability = np.full(2000, 0.5)
    is_true = np.repeat(np.arange(200) % 2 == 0, 10)
    alone = reliability_diagram(reliability, is_true)
    together = reliability_diagram(reliability, is_true, field=np.repeat(np.arange(200), 10))
    assert together.ece_err == pytest.approx(np.sqrt(10) * alone.ece_err, rel=0.15)


def test_bins_have_their_upper_edge():
    table = reliability_diagram([0.1, 0.2, 0.3, 0.6, 0.7, 1.0, 0.0], np.ones(7, bool)).table
    assert table["n"].tolist() == [2, 1, 1, 0, 0, 1, 1, 0, 0, 1]


def test_diagram_without_detections():
    diagram = reliability_diagram([], np.zeros(0, bool))
    assert np.isnan(diagram.ece)
    assert diagram.table["n"].sum() == 0


@pytest.mark.parametrize(
    ("reliability", "is_true", "message"),
    [([1.2], [True], "between 0 and 1"), ([np.nan], [True], "between 0 and 1"),
     ([0.5, 0.5], [True], "of one length")],
)  # fmt: skip
def test_diagram_refuses(reliability, is_true, message):
    with pytest.raises(ValueError, match=message):
        reliability_diagram(reliability, is_true)


def test_intervals_of_exact_posteriors_cover():
    truth, samples = posteriors(6000)
    table = interval_coverage(truth[:, 0], samples[:, :, 0])
    assert_allclose(table["coverage"], table["level"], atol=0.02)


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_intervals_of_wrong_posteriors_cover_as_known(spread):
    truth, samples = posteriors(spread=spread, n_samples=400)
    table = interval_coverage(truth[:, 0], samples[:, :, 0], levels=[0.68])
    expected = 2 * norm.cdf(spread * norm.ppf(0.84)) - 1
    assert table["coverage"][0] == pytest.approx(expected, abs=0.04)
    assert not table["lower"][0] < 0.68 < table["upper"][0]


def test_ends_are_the_quantiles_of_numpy():
    _, samples = posteriors(200, n_samples=15)
    samples = samples[:, :, 0]
    samples[::3, 4:] = np.nan
    for level in (0.5, 0.68, 0.9):
        share = [(1 - level) / 2, (1 + level) / 2]
        ends = np.nanquantile(samples, share, axis=1, method="weibull")
        for inside, nudge in ((True, 1e-9), (False, -1e-9)):
            truth = np.where(np.arange(200) % 2, ends[0] + nudge, ends[1] - nudge)
            table = interval_coverage(truth, samples, levels=[level])
            assert table["coverage"][0] == (1.0 if inside else 0.0)


def test_few_samples_cannot_cover_much_and_are_expected_not_to():
    truth, samples = posteriors(8000, n_samples=10)
    table = interval_coverage(truth[:, 0], samples[:, :, 0])
    assert_allclose(table["expected"], [0.5, 0.68, 9 / 11])
    # Between two samples the quantile is interpolated, which covers 1 to 2 % more.
    assert_allclose(table["coverage"], table["expected"], atol=0.03)
    assert table["coverage"][2] < 0.85
    mixed = interval_coverage([0.0, 0.0], [[1, 2, 3, 4], [1, 2, 3, np.nan]], levels=[0.9])
    assert mixed["expected"][0] == pytest.approx((3 / 5 + 2 / 4) / 2)


def test_samples_without_the_source_are_left_out():
    truth, samples = posteriors(4000)
    samples = samples[:, :, 0]
    samples[::2, :10] = np.nan
    samples[1, 2:] = np.nan
    table = interval_coverage(truth[:, 0], samples, levels=[0.68])
    assert table["n"][0] == 3999
    assert table["coverage"][0] == pytest.approx(0.68, abs=0.025)


def test_gaussian_intervals():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=20000)
    exact = gaussian_coverage(truth, 0.0, 1.0)
    assert_allclose(exact["coverage"], exact["level"], atol=0.012)
    assert gaussian_coverage(truth, 0.0, 0.5)["coverage"][1] == pytest.approx(0.381, abs=0.015)
    assert gaussian_coverage(truth, 0.0, np.full(20000, np.nan))["n"].tolist() == [0, 0, 0]


def test_coverage_refuses_levels_and_shapes():
    with pytest.raises(ValueError, match="between 0 and 1"):
        interval_coverage([0.0], [[1.0, 2.0, 3.0]], levels=[68])
    with pytest.raises(ValueError, match="n_samples"):
        interval_coverage([0.0, 1.0], [[1.0, 2.0, 3.0]])


def test_ranks_of_exact_posteriors_are_uniform():
    values = []
    for seed in range(40):
        truth, samples = posteriors(500, seed=seed)
        ranks = sbc_ranks(truth[:, 0], samples[:, :, 0])
        values.append(rank_test(ranks, N_SAMPLES).p_value)
    assert np.mean(values) == pytest.approx(0.5, abs=0.15)
    assert min(values) > 1e-4


@pytest.mark.parametrize("spread", [0.6, 1.6])
def test_ranks_of_wrong_posteriors_are_not(spread):
    truth, samples = posteriors(spread=spread)
    test = rank_test(sbc_ranks(truth[:, 0], samples[:, :, 0]), N_SAMPLES)
    assert test.p_value < 1e-6
    ends = test.counts[[0, -1]] / test.expected[[0, -1]]
    assert (ends > 1.2).all() if spread < 1 else (ends < 0.8).all()


def test_equal_values_have_random_ranks():
    rng = np.random.default_rng(2)
    counts = rng.poisson(2, (N, N_SAMPLES + 1))
    ranks = sbc_ranks(counts[:, 0], counts[:, 1:])
    assert rank_test(ranks, N_SAMPLES).p_value > 1e-3
    assert_array_equal(ranks, sbc_ranks(counts[:, 0], counts[:, 1:]))
    assert set(sbc_ranks(np.zeros(500), np.zeros((500, 2)))) == {0, 1, 2}


def test_dither_hides_what_is_below_it():
    truth, samples = np.zeros(N), np.full((N, N_SAMPLES), 1e-6)
    assert rank_test(sbc_ranks(truth, samples), N_SAMPLES).p_value < 1e-6
    assert rank_test(sbc_ranks(truth, samples, dither=0.1), N_SAMPLES).p_value > 1e-3


def test_expected_ranks_follow_the_width_of_the_bins():
    test = rank_test(np.arange(21).repeat(2), 20, n_bins=2)
    assert test.counts.tolist() == [22, 20]
    assert_allclose(test.expected, [22, 20])
    assert test.p_value == 1
    with pytest.raises(ValueError, match="from 0 to 5"):
        rank_test([6], 5)
    assert np.isnan(rank_test([1, 2], 5).p_value)


@pytest.mark.parametrize("n_dim", [1, 8])
def test_tarp_of_exact_posteriors_is_on_the_diagonal(n_dim):
    curve = tarp_curve(*posteriors(1000, n_dim=n_dim, seed=3))
    assert curve.distance < 0.05
    assert curve.p_value > 0.01
    assert (curve.credibility[0], curve.credibility[-1]) == (0, 1)
    assert_allclose(curve.coverage[[0, -1]], [0, 1], atol=1e-12)
    off = np.abs(curve.coverage - curve.credibility)
    assert (off <= 4 * curve.coverage_err + 1e-9).all()


@pytest.mark.parametrize("spread", [0.4, 2.5])
def test_tarp_of_wrong_posteriors_is_not(spread):
    curve = tarp_curve(*posteriors(1000, n_dim=8, spread=spread, seed=3))
    assert curve.distance > 0.1
    assert curve.p_value == 0


def test_tarp_of_few_fields_in_many_dimensions_favours_nobody():
    options = {"n_bootstrap": 1}
    curves = [tarp_curve(*posteriors(8, n_dim=16, seed=k), seed=k, **options) for k in range(60)]
    mean = np.mean([curve.coverage for curve in curves], axis=0)
    assert_allclose(mean, curves[0].credibility, atol=0.09)  # 480 fields: 4 standard deviations


def test_tarp_of_whole_numbers_needs_dither():
    counts = np.random.default_rng(4).poisson(3, (1000, N_SAMPLES + 1, 1)).astype(float)
    truth, samples = counts[:, 0], counts[:, 1:]
    assert tarp_curve(truth, samples).p_value < 0.01
    assert tarp_curve(truth, samples, dither=0.5).p_value > 0.05


def test_tarp_leaves_the_random_state_and_its_input_alone():
    truth, samples = posteriors(50)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    kept = truth.copy(), samples.copy()
    one, other = tarp_curve(truth, samples, seed=1), tarp_curve(truth, samples, seed=1)
    assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert_array_equal(one.coverage, other.coverage)
    assert_array_equal(kept[0], truth)
    assert_array_equal(kept[1], samples)


def test_tarp_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tarp", None)
    with pytest.raises(ImportError, match=r"diffsky-radio\[evaluation\]"):
        tarp_curve(*posteriors(50))


def test_tarp_refuses_shapes():
    with pytest.raises(ValueError, match=r"\(n, n_samples, d\)"):
        tarp_curve(np.zeros(5), np.zeros((5, 20)))


def test_recalibration_recovers_the_probabilities():
    reliability, is_true = detections(40000, power=2.0)
    fitted = IsotonicRecalibration.fit(reliability, is_true)
    assert_allclose(fitted(np.arange(1, 21) / 20), (np.arange(1, 21) / 20) ** 2, atol=0.04)
    other, other_true = detections(20000, seed=9, power=2.0)
    raw = reliability_diagram(other, other_true, n_bootstrap=10)
    assert reliability_diagram(fitted(other), other_true, n_bootstrap=10).ece < 0.02 < raw.ece


def test_recalibration_never_falls():
    # 0.4 is right more often than 0.6: both get the share of all, which is 4 of 6.
    reliability = [0.2, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.9]
    fitted = IsotonicRecalibration.fit(reliability, [0, 1, 1, 1, 0, 0, 1, 1])
    # Half a true detection more at 0.2, half a false one more at 0.9: 0.5 of 1.5, 1 of 1.5.
    assert_allclose(fitted.share, [0, 0.2, 0.4, 0.6, 0.9])
    assert_allclose(fitted.reliability, [0, 1 / 3, 4 / 6, 4 / 6, 2 / 3])
    assert fitted(0.3) == pytest.approx(1 / 2)
    assert fitted(0.5) == fitted(0.4)  # what was right equally often stays equal
    assert_allclose(fitted([0.0, 0.1, 1.0]), [0, 1 / 6, 2 / 3])


@pytest.mark.parametrize("is_true", [True, False])
def test_no_number_of_detections_is_certain(is_true):
    # Jeffreys: (k + 1/2) / (n + 1).
    fitted = IsotonicRecalibration.fit(np.full(9, 1.0), np.full(9, is_true))
    assert fitted(1.0) == pytest.approx(0.95 if is_true else 0.05)
    ends = IsotonicRecalibration.fit([0.1] * 9 + [1.0] * 9, [False] * 9 + [True] * 9)
    assert_allclose(ends([0.1, 1.0]), [0.5 / 9.5, 9 / 9.5])


def detected(n, n_samples, *, seed):
    """Shares of samples with sources whose probability in the samples is q, true with q ** 1.5."""
    rng = np.random.default_rng(seed)
    mixture = rng.uniform(size=3 * n) < 0.6
    q = np.where(mixture, rng.beta(0.5, 2, 3 * n), rng.beta(3, 1, 3 * n))
    is_true = rng.uniform(size=3 * n) < q**1.5
    share = rng.binomial(n_samples, q) / n_samples
    listed = share >= 0.1
    return share[listed][:n], is_true[listed][:n]


@pytest.mark.parametrize(("n", "error"), [(400, 0.035), (1600, 0.02)])
def test_so_many_detections_are_enough(n, error):
    share, is_true = detected(50000, 20, seed=1)
    raw = reliability_diagram(share, is_true, n_bootstrap=2).ece
    fitted = [IsotonicRecalibration.fit(*detected(n, 20, seed=k)) for k in range(2, 22)]
    left = [reliability_diagram(f(share), is_true, n_bootstrap=2).ece for f in fitted]
    assert np.mean(left) == pytest.approx(error, abs=0.005)
    assert max(left) < raw


@pytest.mark.parametrize("n_samples", [10, 15, 40, 100])
def test_from_half_the_samples_on_the_error_stays_below_two_per_cent(n_samples):
    fitted = IsotonicRecalibration.fit(*detected(100000, 20, seed=1))
    share, is_true = detected(50000, n_samples, seed=2)
    raw, left = (
        reliability_diagram(values, is_true, n_bootstrap=2).ece for values in (share, fitted(share))
    )
    assert left < 0.02 < 0.08 < raw


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=60))
def test_recalibration_survives_json(rows):
    reliability, is_true = np.array([r for r, _ in rows]) / 20, [t for _, t in rows]
    fitted = IsotonicRecalibration.fit(reliability, is_true)
    back = IsotonicRecalibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    grid = np.linspace(0, 1, 41)
    assert_array_equal(back(grid), fitted(grid))
    assert (np.diff(fitted(grid)) >= 0).all()
    # Isotonic regression keeps the sum, that of the half detections at both ends included.
    ends = fitted([reliability.min(), reliability.max()])
    total = fitted(reliability).sum() + ends.sum() / 2
    assert total == pytest.approx(np.sum(is_true) + 0.5, abs=1e-9)
    assert 0 < ends[0] <= ends[1] < 1


@pytest.mark.parametrize(
    "values",
    [
        None,
        {"share": [0.1]},
        {"share": [0.2, 0.1], "reliability": [0, 1]},
        {"share": [0.1, 0.2], "reliability": [1, 0]},
        {"share": [0.1, 0.2], "reliability": [0, 2]},
        {"share": [], "reliability": []},
        {"share": ["a"], "reliability": [1]},
    ],
)
def test_recalibration_refuses_what_is_none(values):
    with pytest.raises(ValueError, match="expected|must"):
        IsotonicRecalibration.from_dict(values)


def test_recalibration_refuses_no_detections():
    with pytest.raises(ValueError, match="one or more"):
        IsotonicRecalibration.fit([], [])
