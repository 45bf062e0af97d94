"""Priors: ranges, distributions, descriptions."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffsky.simulation.counter import CounterStreams
from diffsky.simulation.skymodels import (
    PRIORS,
    GeneralPrior,
    Prior,
    SkyPrior,
    SourceList,
)

seeds = st.integers(0, 2**32)


def join(*lists):
    return SourceList.join(lists)


# Priors

ranges = st.tuples(st.floats(1e-3, 10), st.floats(0, 10)).map(lambda r: (r[0], r[0] + r[1]))
priors = st.builds(
    SkyPrior,
    n_sources=st.tuples(st.integers(0, 5), st.integers(0, 5)).map(lambda r: (r[0], r[0] + r[1])),
    flux=ranges,
    flux_law=st.sampled_from(["uniform", "log-uniform"]),
    fwhm=ranges,
    half_width=st.floats(0.1, 20),
    step=st.sampled_from([0.0, 1.0, 0.3]),
    point_share=st.floats(0, 1),
    empty_share=st.floats(0, 1),
)


@given(prior=priors, seed=seeds)
def test_draws_lie_in_their_ranges(prior, seed):
    sources = prior.draw(np.random.default_rng(seed))
    n = len(sources)
    assert n == 0 or prior.n_sources[0] <= n <= prior.n_sources[1]
    assert all(getattr(sources, name).shape == (n,) for name in ("x", "y", "major", "minor", "pa"))
    low, high = prior.flux
    assert ((sources.flux >= low * (1 - 1e-9)) & (sources.flux <= high * (1 + 1e-9))).all()
    for offset in (sources.x, sources.y):
        assert (np.abs(offset) <= prior.half_width + prior.step / 2 + 1e-9).all()
    assert (sources.minor <= sources.major).all()
    sizes = np.concatenate([sources.major, sources.minor])
    low, high = prior.fwhm
    assert ((sizes == 0) | ((sizes >= low) & (sizes <= high))).all()
    assert ((sources.major == 0) == (sources.minor == 0)).all()
    assert ((sources.pa >= 0) & (sources.pa <= np.pi)).all()


@given(prior=priors, seed=seeds)
def test_draws_are_repeatable(prior, seed):
    one, other = (prior.draw(np.random.default_rng(seed)) for _ in range(2))
    assert all(np.array_equal(getattr(one, n), getattr(other, n)) for n in vars(one))


@given(prior=st.one_of(priors, st.sampled_from(list(PRIORS.values()))), seed=seeds)
def test_json_round_trip(prior, seed):
    again = Prior.from_json(prior.to_json())
    assert again == prior
    one, other = (p.draw(np.random.default_rng(seed)) for p in (prior, again))
    assert all(np.array_equal(getattr(one, n), getattr(other, n)) for n in vars(one))


def test_numbers_of_numpy_become_plain():
    """As an rms that was measured in a float32 image is."""
    rms, beam = np.float32(48e-6), np.float32(0.854)
    prior = PRIORS["independent"].in_units_of(rms, beam)
    again = Prior.from_json(prior.to_json())
    assert again.flux == pytest.approx((50e-6 / 48e-6, 500e-6 / 48e-6), rel=1e-6)
    numbers = np.array([1, 5])
    assert Prior.from_json(SkyPrior(n_sources=numbers).to_json()).n_sources == (1, 5)
    shares = np.array([1.0, 0, 0, 0])
    assert Prior.from_json(GeneralPrior(shares=shares).to_json()).shares == (1, 0, 0, 0)


def draws(prior, n=1000):
    rng = np.random.default_rng(3)
    return [prior.draw(rng) for _ in range(n)]


def test_independent():
    """1 to 5 sources of 50 to 500 uJy and 0.4 to 0.8 arcsec within 10 arcsec, on no grid."""
    skies = draws(PRIORS["independent"])
    assert np.bincount([len(s) for s in skies], minlength=6) == pytest.approx(
        [0, 200, 200, 200, 200, 200], abs=55
    )
    everything = join(*skies)
    assert everything.flux.min() >= 50e-6
    assert everything.flux.max() <= 500e-6
    assert everything.flux.mean() == pytest.approx(275e-6, rel=0.03)
    assert everything.minor.min() >= 0.4
    assert everything.major.max() <= 0.8
    assert np.abs(everything.x).max() <= 10
    assert everything.x.std() == pytest.approx(10 / math.sqrt(3), rel=0.04)
    assert np.corrcoef(everything.x, everything.y)[0, 1] == pytest.approx(0, abs=0.08)
    assert len(np.unique(everything.x)) == len(everything)


def test_drozdova2024_is_on_a_grid():
    everything = join(*draws(PRIORS["drozdova2024"]))
    for offset in (everything.x, everything.y):
        assert_allclose(offset, np.rint(offset))
        assert set(np.rint(offset)) == set(range(-10, 11))
    assert everything.flux.min() >= 50e-6
    assert everything.flux.max() <= 500e-6


def test_grid_survives_the_change_of_units():
    prior = PRIORS["drozdova2024"].in_units_of(48e-6, 0.854)
    everything = join(*draws(prior, 100))
    assert_allclose(everything.x * 0.854, np.rint(everything.x * 0.854), atol=1e-9)


def test_wide():
    skies = draws(PRIORS["wide"])
    assert {len(s) for s in skies} == set(range(13))
    everything = join(*skies)
    assert everything.flux.min() >= 0.5
    assert everything.flux.max() <= 150
    assert np.log(everything.flux).mean() == pytest.approx(math.log(0.5 * 150) / 2, abs=0.08)
    assert (everything.major == 0).mean() == pytest.approx(0.2, abs=0.025)
    assert everything.major.max() <= 3


def test_empty_share():
    skies = draws(SkyPrior(n_sources=(2, 2), empty_share=0.3))
    assert np.mean([len(s) == 0 for s in skies]) == pytest.approx(0.3, abs=0.06)


@settings(max_examples=30)
@given(rms=st.floats(1e-7, 1e-3), beam=st.floats(0.05, 20), seed=seeds)
def test_units(rms, beam, seed):
    """The same random numbers, in rms and beams."""
    prior = PRIORS["independent"]
    relative = prior.in_units_of(rms, beam)
    assert relative.relative
    one, other = (p.draw(np.random.default_rng(seed)) for p in (prior, relative))
    assert_allclose(other.flux * rms, one.flux)
    for name in ("x", "y", "major", "minor"):
        assert_allclose(getattr(other, name) * beam, getattr(one, name), atol=1e-12)
    assert_allclose(other.pa, one.pa)
    assert relative.in_units_of(7, 7) is relative


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flux_law": "power"}, "flux_law is 'power'; expected 'uniform' or 'log-uniform'"),
        ({"n_sources": (3, 2)}, r"n_sources is \(3, 2\); expected 0 <= low <= high"),
        ({"n_sources": (-1, 2)}, "n_sources"),
        ({"flux": (-1.0, 2.0)}, "flux is"),
        ({"flux": (math.nan, 2.0)}, "flux is"),
        ({"flux": (0.0, 2.0), "flux_law": "log-uniform"}, "flux is"),
        ({"fwhm": (0.8, 0.4)}, r"fwhm is \(0.8, 0.4\)"),
        ({"half_width": 0.0}, "half_width is 0.0; expected a number above 0"),
        ({"half_width": math.nan}, "half_width is nan"),
        ({"step": -1.0}, "step is -1.0"),
        ({"point_share": 1.5}, "point_share is 1.5"),
        ({"empty_share": -0.1}, "empty_share is -0.1"),
    ],
)
def test_prior_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SkyPrior(**options)


# What training was done with stays as it is.

DRAWN = {
    "independent": (
        {
            "x": [-8.481042745889198, -2.2856338923035002],
            "y": [-8.14742432010682, -5.969469845403941],
            "flux": [0.00028462259599140667, 0.00014425172495344862],
            "major": [0.475639093318851, 0.6006913886011402],
            "minor": [0.4639821046236201, 0.5727875288144576],
            "pa": [0.3362004121693689, 1.916879583358906],
        },
        "84f354d6e411cea7fac6109c2bc7dc638f7281eb557d1ecefdf4eb4740b6b46e",
    ),
    "drozdova2024": (
        {"x": [-8.0, -2.0], "y": [-8.0, -6.0], "major": [0.475639093318851, 0.6006913886011402]},
        "f2d6424fa9a36c71bc02ad8e61508df331eab818caba6b0fb49f5d7d61f58c3a",
    ),
    "wide": (
        {
            "x": [10.754044070292837, 2.032150002476497],
            "y": [-12.91626290592604, 11.01976470242627],
            "flux": [6.586189198301187, 0.7106737085813489],
            "major": [0.0, 0.0],
            "minor": [0.0, 0.0],
            "pa": [2.8651685236314304, 0.9642832006508116],
        },
        None,  # exp differs by a rounding between processors
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_of_a_stream_never_change(name):
    """Numbers and hashes of the priors as they were first published."""
    skies = [PRIORS[name].draw(np.random.default_rng([7, k])) for k in range(200)]
    expected, digest = DRAWN[name]
    for column, values in expected.items():
        assert_allclose(getattr(skies[1], column)[:2], values, rtol=1e-14)
    assert [len(sky) for sky in skies[:8]] == (
        [12, 11, 3, 9, 6, 7, 11, 0] if name == "wide" else [5, 5, 2, 4, 3, 3, 5, 1]
    )
    columns = ("x", "y", "flux", "major", "minor", "pa")
    data = b"".join(
        np.ascontiguousarray(getattr(sky, c), dtype=float).tobytes()
        for sky in skies
        for c in columns
    )
    assert digest in (None, hashlib.sha256(data).hexdigest())


# Many skies at once


def many(prior, n=2000, **options):
    sources, owner = prior.draw_many(CounterStreams(5, range(n)), **options)
    arrays = (getattr(sources, name).numpy() for name in SourceList.__dataclass_fields__)
    return SourceList(*arrays), owner.numpy()


@pytest.mark.parametrize("name", ["independent", "drozdova2024", "wide"])
def test_many_skies_have_the_distribution_of_single_ones(name):
    together, owner = many(PRIORS[name])
    single = draws(PRIORS[name], 2000)
    counts = [np.bincount(np.bincount(owner, minlength=2000), minlength=13)]
    counts.append(np.bincount([len(sky) for sky in single], minlength=13))
    assert_allclose(*counts, atol=90)
    single = join(*single)
    for column in ("x", "y", "flux", "major", "minor", "pa"):
        one, other = getattr(together, column), getattr(single, column)
        quantiles = np.linspace(0.05, 0.95, 10)
        spread = np.ptp(other)
        assert_allclose(
            np.quantile(one, quantiles), np.quantile(other, quantiles), atol=0.04 * spread
        )


@settings(max_examples=20)
@given(prior=priors, numbers=st.lists(st.integers(0, 2**40), min_size=1, max_size=5, unique=True))
def test_a_sky_does_not_depend_on_the_others(prior, numbers):
    together, owner = prior.draw_many(CounterStreams(3, numbers))
    for place, number in enumerate(numbers):
        alone, _ = prior.draw_many(CounterStreams(3, [number]))
        for column in SourceList.__dataclass_fields__:
            torch.testing.assert_close(
                getattr(together, column)[owner == place], getattr(alone, column)
            )


@given(prior=priors, seed=seeds, within=st.floats(0.5, 20), kernel=st.floats(0, 2))
def test_sources_lie_whole_in_a_field(prior, seed, within, kernel):
    options = {"within": within, "kernel_fwhm": kernel}
    one = prior.draw(np.random.default_rng(seed), **options)
    other, _ = many(prior, 20, **options)
    for sources in (one, other):
        assert sources.whole((within * (1 + 1e-5),) * 2, kernel_fwhm=kernel).all()


def test_a_field_leaves_numbers_and_fluxes_alone():
    """Only positions change, and only of the sources that had to move."""
    free, owner = many(PRIORS["wide"])
    whole, same = many(PRIORS["wide"], within=14.8, kernel_fwhm=0.4)
    assert np.array_equal(owner, same)
    for column in ("flux", "major", "minor", "pa", "shape"):
        assert np.array_equal(getattr(free, column), getattr(whole, column))
    points = free.reach(0.4) < 14.8 - 14.6
    assert np.array_equal(free.x[points], whole.x[points])
    room = 14.8 - whole.reach(0.4)
    assert (whole.x / room).std() == pytest.approx(1 / math.sqrt(3), rel=0.03)


def test_a_grid_in_a_narrow_field():
    prior = SkyPrior(step=1.0, fwhm=(1.0, 1.0))
    sources, _ = many(prior, within=5.2)
    assert_allclose(sources.x, np.rint(sources.x))
    assert set(np.rint(sources.x)) == {-3, -2, -1, 0, 1, 2, 3}


# Descriptions


def test_description_names_kind_and_version():
    description = json.loads(PRIORS["wide"].to_json())
    assert description["kind"] == "gaussians"
    assert description["version"] == 1
    assert description["n_sources"] == [0, 12]


def test_description_from_before_there_were_kinds():
    assert Prior.from_dict({"n_sources": [2, 3], "step": 1.0}) == SkyPrior(n_sources=(2, 3), step=1)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"fwhmm": [0, 1], "share": 1.0}, "'gaussians' has no fwhmm, share; expected n_sources"),
        ({"kind": "general", "fwhm": [0, 1]}, "'general' has no fwhm; expected .*slope"),
        ({"kind": "galaxies"}, "kind is 'galaxies'; expected one of .*general"),
        ({"version": 2}, "version of the prior is 2; this is 1"),
        ({"flux": 3}, r"flux is 3; expected two numbers \(low, high\)"),
        ({"flux": ["a", "b"]}, "flux is"),
        ([1], "expected the description of a prior, got"),
    ],
)
def test_description_refused(description, message):
    with pytest.raises(ValueError, match=message):
        Prior.from_dict(description)


def test_text_that_is_no_json():
    with pytest.raises(ValueError, match="Expecting"):
        Prior.from_json("{")
