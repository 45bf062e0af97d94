"""From samples to sources."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from diffsky.deconvolution import STRATEGIES
from diffsky.deconvolution.strategies import check_strategy, find_sources, summarize_samples

SHAPE, KERNEL, RADIUS = (64, 72), 1.7, 2.1


@pytest.fixture
def samples(blob):
    """20 samples: a source of 20 in all, one of 8 in 15, one of 6 in 5; positions jitter."""
    rng = np.random.default_rng(0)
    samples = np.zeros((20, *SHAPE))
    for k, sample in enumerate(samples):
        for x, y, flux, share in ((20.3, 30.6, 20, 20), (50.2, 12.9, 8, 15), (44.7, 50.1, 6, 5)):
            if k < share:
                dx, dy = 0.2 * rng.normal(size=2)
                sample += blob(SHAPE, x + dx, y + dy, KERNEL, flux * (1 + 0.1 * rng.normal()))
    return samples


def find(samples, strategy, **options):
    return find_sources(samples, strategy, radius=RADIUS, mask=np.zeros(SHAPE, bool), **options)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sources_of_all_strategies(samples, strategy):
    sources = find(samples, strategy)
    sources.sort("flux", reverse=True)
    n = 2 if strategy == "median" else 3  # the median has no source of fewer than half
    assert len(sources) == n
    assert_allclose(sources["x"], [20.3, 50.2, 44.7][:n], atol=0.3)
    assert_allclose(sources["y"], [30.6, 12.9, 50.1][:n], atol=0.3)
    assert_allclose(sources["flux"], [20, 8, 6][:n], rtol=0.1)
    assert_array_equal(sources["reliability"], [1, 0.75, 0.25][:n])
    assert_array_equal(sources["n_detections"], [20, 15, 5][:n])
    assert (sources["flux_lower"] < sources["flux"]).all()
    assert (sources["flux"] < sources["flux_upper"]).all()
    assert_allclose(sources["position_err"], 0.2, atol=0.12)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fluxes_are_those_of_the_samples(samples, strategy):
    # The median of jittered sources is fainter than every one of them.
    brightest = find(samples, strategy)
    brightest = brightest[np.argmax(brightest["flux"])]
    inside = samples[:, 20:42, 10:31].sum(axis=(1, 2))
    assert_allclose(brightest["flux"], inside.mean(), rtol=0.01)
    assert_allclose(brightest["flux_err"], inside.std(ddof=1), rtol=0.02)


def test_least_reliability(samples):
    assert len(find(samples, "detect-aggregate", min_reliability=0.3)) == 2
    assert len(find(samples, "mean", min_reliability=0.8)) == 1


def test_least_flux_of_a_detection(samples):
    assert len(find(samples, "detect-aggregate", min_flux=12)) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_masked_sources_are_not_found(samples, strategy):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[20:40, 10:30] = True
    sources = find_sources(samples, strategy, radius=RADIUS, mask=mask)
    assert len(sources) == len(find(samples, strategy)) - 1
    assert sources["flux"].max() < 15


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n", [1, 4])
def test_empty_sky_gives_an_empty_table(strategy, n):
    sources = find(np.zeros((n, *SHAPE)), strategy)
    assert len(sources) == 0
    assert sources["flux"].dtype == float
    assert sources["flags"].dtype.kind == "i"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_sample(samples, strategy):
    sources = find(samples[:1], strategy)
    assert len(sources) == 3
    assert_array_equal(sources["reliability"], 1)
    assert np.isnan(sources["flux_err"]).all()


def test_summary(samples):
    assert_array_equal(summarize_samples(samples, "median"), np.median(samples, axis=0))
    for strategy in ("mean", "detect-aggregate"):
        assert_array_equal(summarize_samples(samples, strategy), samples.mean(axis=0))


@pytest.mark.parametrize("refuse", [check_strategy, lambda s: summarize_samples(np.ones(3), s)])
def test_unknown_strategy_lists_the_valid_ones(refuse):
    with pytest.raises(ValueError, match=r"'mode'; expected one of median, mean, detect-aggregate"):
        refuse("mode")
