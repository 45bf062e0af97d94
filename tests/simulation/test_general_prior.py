"""The prior `general`: counts, shapes, pairs, empty fields."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffsky.simulation import PRIORS, GeneralPrior, Prior
from diffsky.simulation.counter import CounterStreams
from diffsky.simulation.rendering import render_sources
from diffsky.simulation.sources import SHAPES, SourceList

GENERAL = PRIORS["general"]
POINTS = GeneralPrior(shares=(1, 0, 0, 0), pair_share=0.0)


def single(prior, n=400, **options):
    rng = np.random.default_rng(3)
    return [prior.draw(rng, **options) for _ in range(n)]


def many(prior, n=400, **options):
    sources, owner = prior.draw_many(CounterStreams(5, range(n)), **options)
    arrays = [getattr(sources, name).numpy() for name in SourceList.__dataclass_fields__]
    ends = np.cumsum(np.bincount(owner.numpy(), minlength=n))[:-1]
    assert (np.diff(owner.numpy()) >= 0).all()
    return [
        SourceList(*columns) for columns in zip(*(np.split(a, ends) for a in arrays), strict=True)
    ]


@pytest.fixture(params=[single, many], ids=["single", "many"])
def draw(request):
    return request.param


@pytest.mark.parametrize("slope", [1.0, 1.5, 2.5])
def test_counts_are_a_power_law(draw, slope):
    """N(>S) of points between 0.3 and 1000 rms, against the integral of the law."""
    prior = dataclasses.replace(POINTS, slope=slope)
    flux = SourceList.join(draw(prior)).flux
    assert flux.min() >= 0.3 * (1 - 1e-6)
    assert flux.max() <= 1000 * (1 + 1e-6)
    for limit in (0.5, 1, 3, 10, 100):
        if slope == 1:
            expected = math.log(1000 / limit) / math.log(1000 / 0.3)
        else:
            powers = [s ** (1 - slope) for s in (0.3, limit, 1000)]
            expected = (powers[1] - powers[2]) / (powers[0] - powers[2])
        error = 4 * math.sqrt(expected / len(flux))
        assert (flux > limit).mean() == pytest.approx(expected, abs=error)


def test_default_shows_what_its_docstring_says():
    """0.7 sources above 5 rms and 2.6 above 2 rms a field."""
    prior = dataclasses.replace(GENERAL, shares=(1, 0, 0, 0), pair_share=0.0)
    flux = SourceList.join(many(prior, 2000)).flux
    assert (flux > 5).sum() / 2000 == pytest.approx(0.67, abs=0.08)
    assert (flux > 2).sum() / 2000 == pytest.approx(2.6, abs=0.2)


def test_shares_of_shapes(draw):
    prior = dataclasses.replace(GENERAL, shares=(4, 3, 2, 1), pair_share=0.0)
    sources = SourceList.join(draw(prior))
    shares = np.bincount(sources.shape, minlength=4) / len(sources)
    assert_allclose(shares, (0.4, 0.3, 0.2, 0.1), atol=0.02)
    points = sources.shape == SHAPES.index("point")
    assert not sources.major[points].any()
    extended = sources[~points]
    assert extended.major.min() >= 0.3
    assert extended.major.max() <= 5 * (1 + 1e-6)
    ratio = extended.minor / extended.major
    assert ratio.min() >= 0.3 * (1 - 1e-6)
    assert ratio.max() <= 1
    assert np.log(extended.major).mean() == pytest.approx(np.log(0.3 * 5) / 2, abs=0.05)


@pytest.mark.parametrize(
    ("name", "size", "peak"),
    [("point", 1, 1), ("gaussian", 4, 1), ("disk", 1, 0.97), ("disk", 5, 0.56), ("ring", 5, 1.24)],
)
def test_signal_to_noise_as_the_docstring_has_it(name, size, peak):
    """The peak through a round beam over ``snr``, on 8 pixels per beam."""
    shares = [float(shape == name) for shape in SHAPES]
    prior = GeneralPrior(
        n_sources=(1, 1),
        shares=shares,
        snr=(7, 7),
        size=(size, size),
        axis_ratio=(1, 1),
        pair_share=0,
        empty_share=0,
    )
    sources = prior.draw(np.random.default_rng(3))
    centred = dataclasses.replace(sources, x=np.zeros(1), y=np.zeros(1))
    image = render_sources(centred, [0], 1, (129, 129), pixel=1 / 8, kernel_fwhm=8)
    beam_area = math.pi * 8**2 / (4 * math.log(2))
    assert image.max().item() * beam_area / 7 == pytest.approx(peak, rel=0.01)


def test_companions(draw):
    """As many as asked for, closer than a beam, fainter than their source, points."""
    prior = dataclasses.replace(GENERAL, n_sources=(20, 20), pair_share=0.25, empty_share=0.0)
    skies = draw(prior)
    assert np.mean([len(sky) for sky in skies]) == pytest.approx(25, abs=0.5)
    alone = draw(dataclasses.replace(prior, pair_share=0.0))
    distances = []
    for sky, sources in zip(skies, alone, strict=True):
        known = np.isin(sky.x, sources.x)
        assert known.sum() == 20
        companions = sky[~known]
        assert (companions.shape == SHAPES.index("point")).all()
        assert not companions.major.any()
        offset = np.hypot(
            companions.x[:, None] - sky.x[known], companions.y[:, None] - sky.y[known]
        )
        distances.extend(offset.min(1))
    assert max(distances) <= 1
    assert np.median(distances) == pytest.approx(0.48, abs=0.06)


def test_companions_of_points_are_fainter():
    prior = dataclasses.replace(POINTS, n_sources=(1, 1), pair_share=1.0, empty_share=0.0)
    flux = np.array([sky.flux for sky in single(prior)])
    ratio = flux[:, 1] / flux[:, 0]
    assert ratio.min() >= 0.1 * (1 - 1e-9)
    assert ratio.max() <= 1
    assert np.log10(ratio).mean() == pytest.approx(-0.5, abs=0.05)


def test_empty_fields(draw):
    skies = draw(dataclasses.replace(GENERAL, n_sources=(1, 10)), 800)
    assert np.mean([len(sky) == 0 for sky in skies]) == pytest.approx(0.1, abs=0.035)
    assert max(len(sky) for sky in skies) <= 20


@given(seed=st.integers(0, 2**32), within=st.floats(0.3, 20), kernel=st.floats(0, 1))
def test_sources_lie_whole_in_a_field(seed, within, kernel):
    prior = dataclasses.replace(GENERAL, n_sources=(0, 20), pair_share=0.5)
    sources = prior.draw(np.random.default_rng(seed), within=within, kernel_fwhm=kernel)
    assert sources.whole((within * (1 + 1e-6),) * 2, kernel_fwhm=kernel).all()


def test_a_field_leaves_numbers_and_fluxes_alone():
    free, whole = (SourceList.join(many(GENERAL, 50, within=w)) for w in (None, 14.8))
    assert np.array_equal(free.flux, whole.flux)
    assert np.array_equal(free.shape, whole.shape)
    assert not np.array_equal(free.x, whole.x)


def test_json_round_trip():
    prior = dataclasses.replace(GENERAL, slope=1.8, shares=(1, 2, 3, 4))
    again = Prior.from_json(prior.to_json())
    assert again == prior
    assert again.to_dict()["kind"] == "general"
    one, other = (p.draw(np.random.default_rng(1)) for p in (prior, again))
    assert np.array_equal(one.flux, other.flux)


def test_units():
    assert GENERAL.in_units_of(1e-5, 2.0) is GENERAL
    sources = GENERAL.draw(np.random.default_rng(1))
    physical = sources.scaled(flux=1e-5, size=2.0)
    assert_allclose(physical.flux, 1e-5 * sources.flux)
    for name in ("x", "y", "major", "minor"):
        assert_allclose(getattr(physical, name), 2 * getattr(sources, name))
    assert np.array_equal(physical.pa, sources.pa)
    assert np.array_equal(physical.shape, sources.shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snr": (0, 10)}, "snr is .*; expected numbers above 0"),
        ({"snr": (10, 1)}, r"snr is \(10, 1\); expected 0 <= low <= high"),
        ({"size": (-1, 1)}, "size is"),
        ({"axis_ratio": (0.5, 1.5)}, "axis_ratio is .*; expected at most 1"),
        ({"flux_ratio": (0, 1)}, "flux_ratio is"),
        ({"n_sources": (-1, 3)}, "n_sources is"),
        ({"shares": (1, 1, 1)}, "shares are .*each of point, gaussian, disk, ring"),
        ({"shares": (0, 0, 0, 0)}, "shares are .*not all 0"),
        ({"shares": (-1, 1, 1, 1)}, "shares are"),
        ({"slope": math.nan}, "slope is nan"),
        ({"pair_share": 2}, "pair_share is 2; expected 0 to 1"),
        ({"empty_share": -1}, "empty_share is -1"),
        ({"separation": 0}, "separation is 0"),
        ({"half_width": math.inf}, "half_width is inf"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GeneralPrior(**options)
