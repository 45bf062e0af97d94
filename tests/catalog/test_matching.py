from itertools import permutations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from hypothesis import assume, given
from hypothesis import strategies as st

from diffsky.catalog import (
    detection_scores,
    match_catalogs,
    match_nearest,
    match_pixels,
    score_catalogs,
)


def sky(dx, dy):
    """Positions some arcsec from a point near the pole, where coordinates are skewed."""
    centre = SkyCoord(10 * u.deg, 85 * u.deg)
    return centre.spherical_offsets_by(np.array(dx) * u.arcsec, np.array(dy) * u.arcsec)


def table(dx, dy, flux=None):
    result = QTable({"sky_centroid": sky(dx, dy)})
    if flux is not None:
        result["flux"] = np.array(flux, dtype=float) * u.uJy
    return result


def test_more_pairs_come_before_nearer_pairs():
    # Greedy matching would take 1 with 0 and leave the others alone.
    matches = match_pixels([0.0, 1.9], [0.0, 0.0], [1.0, -1.0], [0.0, 0.0], radius=1.0)
    assert list(zip(matches.catalog_index, matches.truth_index, strict=True)) == [(0, 1), (1, 0)]
    np.testing.assert_allclose(matches.separation, [1.0, 0.9])


points = st.lists(st.tuples(st.floats(0, 6), st.floats(0, 6)), max_size=5)


def brute_force(distance, radius):
    """Most pairs and their least sum of distances, by trying all."""
    n, m = distance.shape
    if n > m:
        return brute_force(distance.T, radius)
    best = (0, 0.0)
    for columns in permutations(range(m), n):
        near = [d for d in distance[np.arange(n), list(columns)] if d <= radius]
        best = min(best, (-len(near), sum(near)))
    return -best[0], best[1]


@given(points, points, st.floats(0.01, 8))
def test_match_is_the_best_of_all(found, truth, radius):
    found, truth = np.array(found).reshape(-1, 2), np.array(truth).reshape(-1, 2)
    matches = match_pixels(*found.T, *truth.T, radius=radius)
    assert len(set(matches.catalog_index)) == len(set(matches.truth_index)) == len(matches)
    distance = np.hypot(*np.moveaxis(found[:, None] - truth[None], -1, 0))
    np.testing.assert_allclose(
        matches.separation, distance[matches.catalog_index, matches.truth_index]
    )
    edge = np.abs(distance - radius) < 1e-9
    if not edge.any():
        assert (matches.separation <= radius).all()
        count, total = brute_force(distance, radius) if distance.size else (0, 0.0)
        assert len(matches) == count
        assert np.sum(matches.separation) == pytest.approx(total, abs=1e-6)


@given(points, points, st.floats(0.01, 8))
def test_match_is_symmetric(found, truth, radius):
    found, truth = np.array(found).reshape(-1, 2), np.array(truth).reshape(-1, 2)
    one = match_pixels(*found.T, *truth.T, radius=radius)
    two = match_pixels(*truth.T, *found.T, radius=radius)
    assert len(one) == len(two)
    assert np.sum(one.separation) == pytest.approx(np.sum(two.separation), abs=1e-6)


def test_many_sources_match_themselves():
    x, y = np.random.default_rng(0).uniform(0, 1000, (2, 3000))
    matches = match_pixels(x, y, x[::-1], y[::-1], radius=5)
    assert len(matches) == 3000
    np.testing.assert_array_equal(matches.truth_index, np.arange(3000)[::-1])


def test_radius_is_included():
    assert len(match_pixels([0.0], [0.0], [3.0], [4.0], radius=5)) == 1
    assert len(match_pixels([0.0], [0.0], [3.0], [4.0], radius=4.999)) == 0


def test_catalogs_on_the_sky():
    matches = match_catalogs(
        table([0, 5, 9], [0, 0, 0]), table([5.1, 0.2], [0, 0]), radius=0.3 * u.arcsec
    )
    assert list(matches.catalog_index) == [0, 1]
    assert list(matches.truth_index) == [1, 0]
    assert matches.separation.unit == u.arcsec
    np.testing.assert_allclose(matches.separation.value, [0.2, 0.1], rtol=1e-5)


def test_catalogs_in_other_frames_and_as_coordinates():
    found = sky([0, 5], [0, 0])
    for truth in (found.galactic, found.fk5):
        assert len(match_catalogs(found, truth, radius=0.01 * u.arcsec)) == 2
    assert len(match_catalogs(found[0], found[0], radius=1 * u.arcsec)) == 1


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 2), (2, 0)])
def test_empty_catalogs(n, m):
    one, two = table(np.arange(n) * 5, np.zeros(n)), table(np.arange(m) * 5, np.zeros(m))
    assert len(match_catalogs(one, two, radius=1 * u.arcsec)) == 0
    scores = score_catalogs(one, two, radius=1 * u.arcsec)
    assert (scores.n_true_positive, scores.n_found, scores.n_truth) == (0, n, m)


def test_scores():
    scores = detection_scores(6, 8, 12)
    assert scores.purity == 0.75
    assert scores.completeness == 0.5
    assert scores.f1 == pytest.approx(2 * 0.75 * 0.5 / (0.75 + 0.5))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((0, 0, 0), (np.nan, np.nan, np.nan)),
        ((0, 0, 5), (np.nan, 0, 0)),
        ((0, 5, 0), (0, np.nan, 0)),
        ((0, 5, 5), (0, 0, 0)),
        ((5, 5, 5), (1, 1, 1)),
    ],
)
def test_scores_at_the_ends(counts, expected):
    scores = detection_scores(*counts)
    np.testing.assert_equal((scores.purity, scores.completeness, scores.f1), expected)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_f1_lies_between_purity_and_completeness(tp, false, missed):
    scores = detection_scores(tp, tp + false, tp + missed)
    ends = [v for v in (scores.purity, scores.completeness) if not np.isnan(v)]
    if tp:
        assert min(ends) - 1e-12 <= scores.f1 <= max(ends) + 1e-12


@pytest.mark.parametrize("counts", [(-1, 2, 2), (3, 2, 5), (3, 5, 2), (0.5, 2, 2)])
def test_impossible_counts(counts):
    with pytest.raises(ValueError, match="expected whole numbers"):
        detection_scores(*counts)


def test_protocols_differ_in_what_shares_a_source():
    # Two detections of one source, one false one, one source that was missed.
    found = table([0.1, -0.1, 9], [0, 0, 0])
    truth = table([0, 30], [0, 0])
    scores = score_catalogs(found, truth, radius=0.5 * u.arcsec)
    assert (scores.n_true_positive, scores.n_found, scores.n_truth) == (1, 3, 2)
    paper = score_catalogs(found, truth, radius=0.5 * u.arcsec, protocol="drozdova2024")
    assert (paper.n_true_positive, paper.n_found, paper.n_truth) == (1, 2, 2)
    # And one detection of two sources.
    scores = score_catalogs(table([0], [0]), table([0.1, -0.1], [0, 0]), radius=1 * u.arcsec)
    assert scores.completeness == 0.5
    paper = score_catalogs(
        table([0], [0]), table([0.1, -0.1], [0, 0]), radius=1 * u.arcsec, protocol="drozdova2024"
    )
    assert paper.completeness == 1


def test_flux_shares():
    found = table([0, 5, 10, 40], [0] * 4, [100, 200, np.nan, 7])
    truth = table([0, 5, 10, 20], [0] * 4, [140, 251, 300, 80])
    radius = 1 * u.arcsec
    scores = score_catalogs(found, truth, radius=radius, flux_tolerance=50 * u.uJy)
    assert scores.n_flux_within == 1
    assert scores.flux_share == pytest.approx(1 / 3)
    assert scores.flux_share_truth == pytest.approx(1 / 4)
    scores = score_catalogs(found, truth, radius=radius, flux_tolerance=0.3)
    assert scores.n_flux_within == 2
    assert score_catalogs(found, truth, radius=radius).flux_share is None


def test_flux_share_without_matches():
    scores = score_catalogs(
        table([0], [0], [1]), table([9], [0], [1]), radius=1 * u.arcsec, flux_tolerance=1 * u.uJy
    )
    assert np.isnan(scores.flux_share)
    assert scores.flux_share_truth == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"radius": 0.4}, TypeError, "radius must be an angle with a unit.*got 0.4"),
        ({"radius": 0.4 * u.Jy}, TypeError, "radius must be an angle"),
        ({"radius": -1 * u.arcsec}, ValueError, "radius in arcsec must be a positive number"),
        ({"protocol": "greedy"}, ValueError, "one of one-to-one, drozdova2024, got 'greedy'"),
        ({"catalog": QTable({"ra": [1.0]})}, TypeError, "sky_centroid column, got QTable"),
        ({"truth": [1, 2]}, TypeError, "truth must be a SkyCoord or a table"),
        ({"flux_tolerance": 5 * u.s}, TypeError, "flux_tolerance must be a flux or a number"),
        ({"flux_tolerance": -1.0}, ValueError, "one positive value"),
        ({"flux_tolerance": 1 * u.Jy, "truth": table([0], [0])}, TypeError, "truth .* flux column"),
    ],
)
def test_refusals(options, error, message):
    arguments = {"catalog": table([0], [0], [1]), "truth": table([0], [0], [1])}
    arguments = arguments | {"radius": 1 * u.arcsec} | options
    with pytest.raises(error, match=message):
        score_catalogs(arguments.pop("catalog"), arguments.pop("truth"), **arguments)


@pytest.mark.parametrize(
    ("arguments", "radius", "message"),
    [
        (([0.0], [0.0, 1.0], [0.0], [0.0]), 1, "x and y must be of one length"),
        (([0.0], [0.0], [np.nan], [0.0]), 1, "x_truth and y_truth must be finite"),
        (([0.0], [0.0], [0.0], [0.0]), 0, "radius must be a positive number, got 0"),
    ],
)
def test_pixel_refusals(arguments, radius, message):
    with pytest.raises(ValueError, match=message):
        match_pixels(*arguments, radius=radius)


def test_radius_of_each_true_position():
    matches = match_pixels([3.0, 13.0], [0.0, 0.0], [0.0, 10.0], [0.0, 0.0], radius=[4.0, 2.0])
    assert list(matches.catalog_index) == [0]
    assert list(matches.truth_index) == [0]
    with pytest.raises(ValueError, match="radius must be a positive number, got -2"):
        match_pixels([3.0], [0.0], [0.0, 1.0], [0.0, 0.0], radius=[4.0, -2.0])


def test_nearest_of_two_sources_at_one_place_is_one_detection():
    matches, n_false = match_nearest([0.04, 7], [0, 0], [0, 0.1, 3], [0, 0, 0], radius=0.18)
    assert matches.truth_index.tolist() == [0, 1]
    assert matches.catalog_index.tolist() == [0, 0]
    assert n_false == 1
    matches, n_false = match_nearest([2.9, 3.05], [0, 0], [3], [0], radius=0.18)
    assert matches.catalog_index.tolist() == [1]
    assert n_false == 0  # the farther one is near a source, too


@given(found=points, true=points)
def test_nearest_is_within_the_radius_and_none_is_missed(found, true):
    columns = [np.array(list(zip(*one, strict=True)) or [[], []], float) for one in (found, true)]
    matches, n_false = match_nearest(*columns[0], *columns[1], radius=0.5)
    distance = np.hypot(*(columns[0][:, :, None] - columns[1][:, None, :]))
    near = distance <= 0.5
    assert sorted(matches.truth_index) == np.flatnonzero(near.any(axis=0)).tolist()
    assert n_false == (~near.any(axis=1)).sum()
    least = distance[:, matches.truth_index].min(axis=0, initial=9)
    np.testing.assert_allclose(distance[matches.catalog_index, matches.truth_index], least)
    np.testing.assert_allclose(matches.separation, least)


@given(found=points, true=points)
def test_nearest_counts_as_the_protocol_of_d24(found, true):
    """On the plane and on the sky."""
    columns = [np.array(list(zip(*one, strict=True)) or [[], []], float) for one in (found, true)]
    distance = np.hypot(*(columns[0][:, :, None] - columns[1][:, None, :]))
    assume((np.abs(distance - 0.5) > 1e-6).all())
    matches, n_false = match_nearest(*columns[0], *columns[1], radius=0.5)
    scores = score_catalogs(
        *(table(*one) for one in columns), radius=0.5 * u.arcsec, protocol="drozdova2024"
    )
    assert scores.n_true_positive == len(matches)
    assert scores.n_found == len(matches) + n_false
