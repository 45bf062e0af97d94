import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from diffsky.catalog import SourceFlag, aggregate_detections, detect_sources, empty_detections


def detections(x, y, flux=None, **columns):
    n = len(x)
    flux = np.ones(n) if flux is None else flux
    rest = {name: np.full(n, 2.0) for name in ("peak", "major", "minor")} | {"pa": np.zeros(n)}
    return Table({"x": np.array(x, float), "y": np.array(y, float), "flux": flux} | rest | columns)


def test_statistics_are_those_of_the_samples():
    rng = np.random.default_rng(0)
    x, y, flux = rng.normal(30, 0.3, 20), rng.normal(40, 0.2, 20), rng.gamma(4, 2, 20)
    major, minor = rng.uniform(3, 4, 20), rng.uniform(2, 3, 20)
    tables = [
        detections([x[k]], [y[k]], [flux[k]], major=[major[k]], minor=[minor[k]]) for k in range(20)
    ]
    (row,) = aggregate_detections(tables, radius=3)
    assert row["x"] == pytest.approx(x.mean())
    assert row["y"] == pytest.approx(y.mean())
    variance = (x.var(ddof=1) + y.var(ddof=1)) / 2
    assert row["position_err"] == pytest.approx(np.sqrt(variance))
    assert row["flux"] == pytest.approx(flux.mean())
    assert row["flux_err"] == pytest.approx(flux.std(ddof=1))
    lower, upper = np.quantile(flux, [0.16, 0.84], method="weibull")
    assert (row["flux_lower"], row["flux_upper"]) == pytest.approx((lower, upper))
    assert (row["major"], row["minor"]) == pytest.approx((major.mean(), minor.mean()))
    assert (row["n_detections"], row["reliability"], row["flags"]) == (20, 1.0, 0)


def test_weibull_interval_covers_68_percent():
    rng = np.random.default_rng(4)
    inside = []
    for _ in range(300):
        flux = rng.normal(10, 2, 20)
        tables = [detections([5], [5], [f]) for f in flux]
        (row,) = aggregate_detections(tables, radius=1)
        inside.append(row["flux_lower"] <= rng.normal(10, 2) <= row["flux_upper"])
    assert np.mean(inside) == pytest.approx(0.68, abs=0.06)


def test_reliability_counts_all_samples():
    tables = [detections([10], [10])] * 6 + [empty_detections()] * 14
    (row,) = aggregate_detections(tables, radius=1)
    assert row["n_detections"] == 6
    assert row["reliability"] == pytest.approx(0.3)
    assert len(aggregate_detections(tables, radius=1, min_reliability=0.3)) == 1
    assert len(aggregate_detections(tables, radius=1, min_reliability=0.31)) == 0


def test_one_detection_per_sample_the_nearest():
    tables = [detections([10, 11.5], [10, 10], [1.0, 5.0]) for _ in range(5)]
    result = aggregate_detections(tables, radius=2)
    assert list(result["n_detections"]) == [5, 5]
    assert sorted(result["flux"]) == [1.0, 5.0]


def test_two_sources_a_beam_apart_stay_two():
    rng = np.random.default_rng(1)
    x, y = np.array([20, 24.25]), np.array([20, 20])
    tables = [
        detections(x + rng.normal(0, 0.4, 2), y + rng.normal(0, 0.4, 2), np.array([3.0, 7.0]))
        for _ in range(20)
    ]
    result = aggregate_detections(tables, radius=4.25 / 2)
    assert list(result["n_detections"]) == [20, 20]
    assert list(result["flux"]) == [7.0, 3.0]
    np.testing.assert_allclose(result["x"], [24.25, 20], atol=0.3)


def test_order_is_reliability_then_flux():
    tables = [detections([10, 30, 50], [10, 10, 10], [1.0, 2.0, 9.0])] * 3
    tables += [detections([10, 30], [10, 10], [1.0, 2.0])]
    assert list(aggregate_detections(tables, radius=1)["flux"]) == [2.0, 1.0, 9.0]


def test_few_detections_have_no_error_and_a_flag():
    tables = [detections([10], [10]), detections([10.2], [10]), empty_detections()]
    (row,) = aggregate_detections(tables, radius=1)
    assert row["flux"] == 1
    assert row["flags"] == SourceFlag.UNRELIABLE
    assert np.isnan(
        [row[n] for n in ("flux_err", "flux_lower", "flux_upper", "position_err")]
    ).all()


def test_flags_of_most_samples():
    def table(deblended, edge):
        return detections([10], [10], deblended=[deblended], edge=[edge])

    tables = [table(True, False)] * 3 + [table(False, False)] * 2
    assert aggregate_detections(tables, radius=1)["flags"][0] == SourceFlag.BLENDED
    tables = [table(False, True)] * 4 + [table(True, False)] * 2
    assert aggregate_detections(tables, radius=1)["flags"][0] == SourceFlag.EDGE


@pytest.mark.parametrize(("angles", "mean"), [([170, 10], 0), ([80, 100], 90), ([20, 40], 30)])
def test_mean_angle_goes_round(angles, mean):
    tables = [detections([10], [10], pa=[float(angle)]) for angle in angles]
    pa = aggregate_detections(tables, radius=1)["pa"][0]
    assert (pa - mean + 90) % 180 - 90 == pytest.approx(0, abs=1e-9)


def test_no_detections():
    result = aggregate_detections([empty_detections()] * 4, radius=1)
    assert len(result) == 0
    assert result["n_detections"].dtype == int
    assert result["flux"].dtype == float
    full = aggregate_detections([detections([1], [1])] * 4, radius=1)
    assert [result[n].dtype for n in result.colnames] == [full[n].dtype for n in full.colnames]


def test_given_positions_are_measured_one_to_one():
    tables = [detections([10.5, 30], [10, 30], [4.0, 8.0]) for _ in range(4)]
    result = aggregate_detections(tables, radius=2, positions=([10, 11.5, 90], [10, 10, 90]))
    # The detection at 10.5 belongs to the nearer of two, and the third has none.
    assert list(result["n_detections"]) == [4, 0, 0]
    assert list(result["x"]) == [10, 11.5, 90]
    assert list(result["reliability"]) == [1, 0, 0]
    assert result["flux"][0] == 4.0
    assert np.isnan(result["flux"][1:]).all()
    assert list(result["flags"]) == [0, SourceFlag.UNRELIABLE, SourceFlag.UNRELIABLE]


def test_no_given_positions():
    result = aggregate_detections([detections([10], [10])], radius=2, positions=([], []))
    assert len(result) == 0


point = st.tuples(st.floats(0, 20), st.floats(0, 20))


@given(
    samples=st.lists(st.lists(point, max_size=6), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    radius=st.floats(0.1, 8),
)
def test_every_detection_is_used_once_in_any_order(samples, seed, radius):
    rng = np.random.default_rng(seed)
    tables = []
    for sample in samples:
        x, y = np.array(sample).reshape(-1, 2).T
        tables.append(detections(x, y, x + 100 * y))
    result = aggregate_detections(tables, radius=radius)
    assert np.sum(result["n_detections"]) == sum(len(s) for s in samples)
    assert (result["n_detections"] <= len(samples)).all()
    total = np.sum(result["flux"] * result["n_detections"])
    assert total == pytest.approx(sum(np.sum(t["flux"]) for t in tables), abs=1e-6)
    shuffled = [tables[k][rng.permutation(len(tables[k]))] for k in rng.permutation(len(tables))]
    again = aggregate_detections(shuffled, radius=radius)
    for name in ("x", "y", "flux", "n_detections"):
        np.testing.assert_allclose(np.sort(again[name]), np.sort(result[name]), atol=1e-9)


def test_from_planes_to_sources(plane):
    rng = np.random.default_rng(8)
    tables = []
    for k in range(20):
        sources = [(20 + rng.normal(0, 0.2), 20, 10 + rng.normal(), 1.7, 1.7, 0)]
        if k < 10:
            sources.append((40, 41, 5, 1.7, 1.7, 0))
        tables.append(detect_sources(plane((64, 64), sources), threshold=0.1))
    result = aggregate_detections(tables, radius=2)
    assert list(result["reliability"]) == [1.0, 0.5]
    assert result["flux"][1] == pytest.approx(5, rel=0.01)
    assert result["flux"][0] == pytest.approx(10, abs=3 / np.sqrt(20))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tables": []}, "at least one sample, got none"),
        ({"tables": [Table({"x": [1.0]})]}, r"tables\[0\] lacks the columns y, flux"),
        ({"radius": 0}, "radius must be a positive number of pixels, got 0"),
        ({"radius": np.nan}, "radius"),
        ({"min_reliability": 1.5}, "min_reliability must be between 0 and 1, got 1.5"),
        ({"quantiles": (0.9, 0.1)}, "quantiles must be two ascending"),
        ({"quantiles": (0.1,)}, "quantiles"),
        ({"positions": ([1, 2], [1])}, r"one length, got shapes \(2,\) and \(1,\)"),
        ({"positions": ([np.nan], [1])}, "finite"),
    ],
)
def test_refusals(options, message):
    arguments = {"tables": [detections([1], [1])], "radius": 1} | options
    with pytest.raises(ValueError, match=message):
        aggregate_detections(arguments.pop("tables"), **arguments)


def scattered(fwhm, spread=4.0, n=20):
    rng = np.random.default_rng(3)
    return [
        detections(*(30 + rng.normal(0, spread, (2, 1))), [5.0], major=[fwhm], minor=[fwhm])
        for _ in range(n)
    ]


@pytest.mark.parametrize("given", [False, True])
def test_radius_grows_with_the_source(given):
    options = {"radius": 2.0}
    if given:
        options |= {"positions": ([30.0], [30.0]), "position_fwhm": [16.0]}
    same = aggregate_detections(scattered(16.0), **options)
    assert same["reliability"].max() < 0.5
    (row,) = aggregate_detections(scattered(16.0), **options, growth=0.75, compact_fwhm=4.0)[:1]
    assert row["reliability"] > 0.8


def test_radius_of_compact_sources_stays():
    tables = scattered(4.0)
    one = aggregate_detections(tables, radius=2.0)
    other = aggregate_detections(tables, radius=2.0, growth=0.75, compact_fwhm=4.0)
    assert list(one["n_detections"]) == list(other["n_detections"])


def test_every_detection_belongs_to_one_source():
    rng = np.random.default_rng(5)
    tables = [
        detections(*rng.uniform(0, 60, (2, 12)), np.ones(12), major=size, minor=size)
        for size in rng.uniform(1, 25, (15, 12))
    ]
    result = aggregate_detections(tables, radius=2.0, growth=0.5, compact_fwhm=4.0)
    assert result["n_detections"].sum() == 15 * 12
    assert result["n_detections"].max() <= 15


@pytest.mark.parametrize("options", [{"growth": -1}, {"growth": np.nan}, {"compact_fwhm": -1}])
def test_growth_out_of_range(options):
    with pytest.raises(ValueError, match="growth and compact_fwhm must be >= 0"):
        aggregate_detections([detections([1], [1])], radius=1, **options)
