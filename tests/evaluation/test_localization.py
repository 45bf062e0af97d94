"""Scores, positions and fluxes against S/N."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.table import QTable
from evaluated_fields import BEAM, ERROR, RMS, make_field
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import binom

from diffsky.evaluation import (
    Detections,
    FieldResult,
    TrueSources,
    binomial_interval,
    bootstrap_scores,
    close_pairs,
    flux_accuracy,
    match_counts,
    pool_fields,
    position_accuracy,
    scores_by_threshold,
    share_by_snr,
    theoretical_position_error,
)


def make_result(found, truth, *, score=None, flux=None, true_flux=None, beam=1.0):
    """A field of positions along one axis, in beams."""
    found, truth = np.asarray(found, dtype=float), np.asarray(truth, dtype=float)
    score = np.ones(len(found)) if score is None else np.asarray(score, dtype=float)
    flux = np.ones(len(found)) if flux is None else np.asarray(flux, dtype=float)
    true_flux = np.ones(len(truth)) if true_flux is None else np.asarray(true_flux, dtype=float)
    zero = np.zeros(len(found))
    return FieldResult(
        number=0,
        beam=beam,
        rms=0.1,
        truth=TrueSources(
            truth * beam, 0 * truth, true_flux, true_flux / 0.1, np.zeros(len(truth))
        ),
        catalogs={"a": Detections(found * beam, zero, flux, zero, flux / 0.1, score)},
    )


def test_binomial_interval_covers():
    n, probabilities = 40, np.linspace(0.2, 0.8, 301)
    k = np.arange(n + 1)
    share, lower, upper = binomial_interval(k, np.full(n + 1, n))
    assert_allclose(share, k / n)
    # The coverage jumps from one probability to the next; on average it is right.
    covered = [binom.pmf(k, n, p)[(lower <= p) & (p <= upper)].sum() for p in probabilities]
    assert np.mean(covered) == pytest.approx(0.683, abs=0.02)
    assert lower[0] == pytest.approx(0, abs=1e-12)
    assert upper[0] == pytest.approx(1 / (n + 1))  # Wilson: z^2 / (n + z^2) with z = 1


def test_binomial_interval_without_trials_is_not_a_number():
    assert (
        np.isnan(binomial_interval(np.array([0, 1]), np.array([0, 1]))).tolist()
        == [[True, False]] * 3
    )


@pytest.mark.parametrize(("k", "n"), [([3], [2]), ([-1], [2]), ([1, 1], [2])])
def test_binomial_interval_refuses(k, n):
    with pytest.raises(ValueError, match="0 <= n_success <= n_trials"):
        binomial_interval(k, n)


def test_share_by_snr_counts_each_bin():
    table = share_by_snr([1, 2, 2.5, 5, 9], [0, 1, 0, 1, 1], edges=[2, 4, 6, 8])
    assert table["n"].tolist() == [2, 1, 0]
    assert_array_equal(table["share"], [0.5, 1, np.nan])
    assert table["lower"][1] == pytest.approx(0.5)  # n / (n + z^2) with z = 1


def test_share_by_snr_refuses_edges_and_lengths():
    with pytest.raises(ValueError, match="ascending"):
        share_by_snr([1], [True], edges=[2, 1])
    with pytest.raises(ValueError, match="expected that of snr"):
        share_by_snr([1, 2], [True], edges=[0, 3])


def test_threshold_frees_sources_that_were_taken():
    # The detection at 0.1 has the source until it is left out, then the one at 0.3 is true.
    result = make_result([0.1, 0.3], [0.0], score=[0.2, 0.9])
    counts = match_counts([result], "a", thresholds=[0, 0.5, 1])[0]
    assert counts.tolist() == [[1, 2, 1], [1, 1, 1], [0, 0, 1]]
    assert pool_fields([result], "a").is_true.tolist() == [True, False]
    assert pool_fields([result], "a", threshold=0.5).is_true.tolist() == [True]


def test_pool_keeps_fields_apart_and_knows_partners():
    one = make_result([0.0, 5.0], [5.1, 0.2], true_flux=[2.0, 3.0])
    empty = make_result([], [])
    other = make_result([0.0], [9.0])
    pool = pool_fields([one, empty, other], "a")
    assert pool.field.tolist() == [0, 0, 2]
    assert pool.truth_field.tolist() == [0, 0, 2]
    assert_array_equal(pool.true_flux, [3.0, 2.0, np.nan])
    assert_allclose(pool.separation, [0.2, 0.1, np.nan])
    assert pool.truth_match.tolist() == [1, 0, -1]
    assert len(pool.field_beam) == 3


def test_radius_is_in_beams_or_an_angle():
    result = make_result([0.6], [0.0], beam=0.5)
    for radius, n in ((0.5, 0), (0.7, 1), (0.29 * u.arcsec, 0), (0.31 * u.arcsec, 1)):
        assert match_counts([result], "a", thresholds=[0], radius=radius)[0, 0, 0] == n


def test_pool_refuses_unknown_method_and_nothing():
    with pytest.raises(ValueError, match="no method 'b'; it has 'a'"):
        pool_fields([make_result([], [])], "b")
    with pytest.raises(ValueError, match="at least one"):
        match_counts([], "a", thresholds=[0])


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="of one length"):
        TrueSources(np.zeros(2), np.zeros(2), np.zeros(3), np.zeros(2), np.zeros(2))


def test_detections_of_a_catalogue_are_east_and_north_of_the_centre():
    centre = SkyCoord(359.9999, 60, unit="deg")
    catalog = QTable(
        {
            "sky_centroid": centre.spherical_offsets_by([1, -2] * u.arcsec, [3, 4] * u.arcsec),
            "flux": [1, 2] * u.mJy,
            "flux_err": [0.1, 0.2] * u.mJy,
            "snr": [5.0, 6.0],
            "reliability": [0.5, 0.6],
        }
    )
    found = Detections.from_catalog(catalog, centre=centre)
    assert_allclose([found.x, found.y], [[1, -2], [3, 4]], atol=1e-6)
    assert_allclose(found.flux, [1e-3, 2e-3])
    assert found.score.tolist() == [0.5, 0.6]


def test_scores_are_those_of_the_definitions():
    counts = np.array([[[3, 4, 5]], [[1, 4, 5]]])
    table = scores_by_threshold(counts, [0.5])
    assert (table["purity"][0], table["completeness"][0]) == (0.5, 0.4)
    assert table["f1"][0] == pytest.approx(2 * 0.5 * 0.4 / 0.9)


def test_bootstrap_has_the_error_of_a_binomial():
    rng = np.random.default_rng(1)
    true = rng.uniform(size=400) < 0.8
    counts = np.stack([true, np.ones(400), np.ones(400)], axis=-1)
    scores, draws = bootstrap_scores(counts, n_bootstrap=2000)
    assert scores[0] == true.mean()
    expected = np.sqrt(true.mean() * (1 - true.mean()) / 400)
    assert draws[:, 0].std() == pytest.approx(expected, rel=0.06)
    assert_array_equal(draws, bootstrap_scores(counts, n_bootstrap=2000)[1])


def test_scores_without_anything_are_not_numbers():
    table = scores_by_threshold(np.zeros((3, 1, 3), dtype=int), [0.5])
    assert all(np.isnan(table[name][0]) for name in table.colnames[1:])


def fisher_error(snr_peak, beam, size):
    """Position error by numerical derivatives of the dirty image of a source, in uv space."""
    # Noise per visibility is white; P has the transform of a Gaussian of the beam.
    step, n = 0.02, 512
    k = np.fft.fftfreq(n, step)
    kx, ky = np.meshgrid(k, k)
    sigma, extent = (v * gaussian_fwhm_to_sigma for v in (beam, size))
    weight = np.exp(-2 * np.pi**2 * sigma**2 * (kx**2 + ky**2))
    weight /= weight.sum()
    source = np.exp(-2 * np.pi**2 * extent**2 * (kx**2 + ky**2))
    flux = snr_peak / (weight * source).sum()  # the peak of the dirty image is snr_peak rms
    assert (weight * source).sum() > 0
    information = flux**2 * (weight * source**2 * (2 * np.pi * kx) ** 2).sum()
    return 1 / np.sqrt(information)


@pytest.mark.parametrize("size", [0.0, 0.5, 1.2])
def test_theoretical_position_error_is_the_cramer_rao_bound(size):
    # A normalised flux is seen with the beam: b^2 / (b^2 + s^2) of the flux.
    assert theoretical_position_error(7.0, beam=0.85, size=size) == pytest.approx(
        fisher_error(7.0, 0.85, size), rel=1e-3
    )


@given(snr=st.floats(1, 1000), beam=st.floats(0.1, 10))
def test_position_error_of_points_scales(snr, beam):
    error = theoretical_position_error(snr, beam=beam)
    assert error == pytest.approx(beam / (np.sqrt(8 * np.log(2)) * snr))
    assert error < beam / (2 * snr)


@pytest.mark.parametrize("radius", [10.0, 0.1])
def test_position_accuracy_of_ideal_errors_is_one(radius):
    # The smaller radius cuts off many of the errors of S/N 4, of 0.09 arcsec.
    rng = np.random.default_rng(2)
    snr = np.repeat([4.0, 20.0], 20000)
    sigma = theoretical_position_error(snr, beam=0.85)
    separation = np.hypot(*(sigma * rng.normal(size=(2, 40000))))
    near = separation <= radius
    table = position_accuracy(
        separation[near], snr[near], beam=0.85, size=0.0, radius=radius, edges=[1, 10, 30]
    )
    assert_allclose(table["ratio"], 1, atol=0.03)
    assert_allclose(table["theory"], 1 / (2.3548 * np.array([4, 20])), rtol=1e-3)
    assert (np.abs(table["ratio"] - 1) < 4 * table["ratio_err"]).all()
    assert_allclose(table["error"][1], table["theory"][1], rtol=0.03 if radius > 1 else 1)


def test_position_accuracy_sees_errors_twice_too_large():
    rng = np.random.default_rng(3)
    sigma = 2 * theoretical_position_error(np.full(5000, 10.0), beam=0.85)
    separation = np.hypot(*(sigma * rng.normal(size=(2, 5000))))
    table = position_accuracy(
        separation, np.full(5000, 10.0), beam=0.85, size=0, radius=10, edges=[5, 20]
    )
    assert table["ratio"][0] == pytest.approx(2, abs=4 * table["ratio_err"][0])


def test_flux_accuracy_of_posterior_means_is_unbiased_by_estimate_not_by_truth():
    rng = np.random.default_rng(4)
    mean = rng.uniform(3, 12, 50000)
    true = mean + rng.normal(size=50000)
    table = flux_accuracy(mean, true, mean, edges=[4, 6, 8])
    assert (np.abs(table["bias"]) < 4 * table["bias_err"]).all()
    assert_allclose(table["scatter"], [1 / 5, 1 / 7], rtol=0.06)
    raised = flux_accuracy(1.1 * mean, true, mean, edges=[4, 6, 8])
    assert_allclose(raised["mean_bias"], 1 - 1 / 1.1, atol=0.006)


def test_a_single_flux_has_no_error():
    table = flux_accuracy([2.0, 2.0, 3.0], [1.0, 2.0, 3.0], [4.5, 6.5, 7.0], edges=[4, 6, 8])
    assert table["n"].tolist() == [1, 2]
    assert table["bias"].tolist() == [0.5, 0.0]
    assert np.isnan([table["scatter"][0], table["bias_err"][0]]).all()
    pair = make_result([0, 1.2], [0, 1.2], flux=[2.2, 1], true_flux=[2, 1])
    row = close_pairs(pool_fields([pair], "a"), edges=[1, 2])[0]
    assert row["brighter"] == pytest.approx(1.1)
    assert np.isnan(row["brighter_err"])


def test_close_pairs():
    apart = make_result([0, 1.2], [0, 1.2], flux=[2, 1.1], true_flux=[2, 1])
    merged = make_result([0.2], [0.0, 0.4], flux=[2.7], true_flux=[2, 1])
    lonely = make_result([0], [0])
    far = make_result([0, 4], [0, 4])
    # The nearest of the third is the second, whose nearest is the first.
    triple = make_result([0, 1.2, 2.5], [0, 1.2, 2.5], flux=[1, 2.2, 1], true_flux=[1, 2, 1])
    pool = pool_fields([apart, merged, lonely, far, triple], "a")
    table = close_pairs(pool, edges=[0.3, 1, 2])
    assert table["n"].tolist() == [1, 2]
    assert table["told_apart"].tolist() == [0, 1]
    assert_allclose(table["merged"], [0.9, np.nan])
    assert_allclose(table["brighter"], [np.nan, 1.05])
    assert_allclose(table["fainter"], [np.nan, 1.05])
    assert table["n_merged"].tolist() == [1, 0]


def test_fluxes_of_close_pairs_have_the_error_of_a_median():
    rng = np.random.default_rng(6)
    fields = [
        make_result([0, 1.2], [0, 1.2], flux=[2, 1] + 0.1 * rng.normal(size=2), true_flux=[2, 1])
        for _ in range(400)
    ]
    table = close_pairs(pool_fields(fields, "a"), edges=[1, 2])
    # Of a median of n: 1.25 of the standard deviation over the root of n, relative to the flux.
    assert table["brighter_err"][0] == pytest.approx(1.2533 * 0.05 / 20, rel=0.15)
    assert table["fainter_err"][0] == pytest.approx(1.2533 * 0.1 / 20, rel=0.15)
    assert abs(table["fainter"][0] - 1) < 4 * table["fainter_err"][0]
    assert 0.5 < table["lower"][0] < 1


def test_close_pairs_without_pairs():
    table = close_pairs(pool_fields([make_result([], [])], "a"))
    assert table["n"].sum() == 0
    assert np.isnan(table["told_apart"]).all()


def test_made_fields_have_the_errors_they_say():
    results = [make_field(k) for k in range(300)]
    pool = pool_fields(results, "median")
    error = (pool.found.flux - pool.true_flux)[pool.is_true]
    assert error.std() == pytest.approx(ERROR, rel=0.1)
    assert (pool.field_beam == BEAM).all()
    assert (pool.field_rms == RMS).all()
