"""Controlled pairs of sources, and fast observations of them."""

import runpy
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from diffsky.evaluation import normalized_injected_flux
from diffsky.simulation import PairStore, UVCoverage, close_pair_skies, simulate_fast_pair

SMALL = runpy.run_path(str(Path(__file__).with_name("small_pairs.py")))
RMS, FWHM = 5e-5, float(np.sqrt(0.9 * 0.8))


@pytest.fixture(scope="module")
def coverage():
    _, uv = SMALL["make_instrument"]()
    return UVCoverage(uv=uv, weights=np.ones(len(uv)), beam=SMALL["BEAM"], parameters={"pwv": 1.0})


@pytest.fixture(scope="module")
def pair(coverage):
    (sky,) = close_pair_skies(1, seed=3, separation=(1.5, 1.5), snr=(200, 200), size=0.5)
    sources = sky.scaled(flux=RMS, size=FWHM)
    return simulate_fast_pair(sources, coverage, rms=RMS * u.Jy / u.beam, seed=1, number=5)


@given(
    seed=st.integers(0, 1000), n_pairs=st.integers(1, 9), low=st.floats(0.1, 1),
    width=st.floats(0, 1), ratio=st.floats(0.1, 1), size=st.floats(0, 1),
)  # fmt: skip
def test_pairs_are_as_asked_for(seed, n_pairs, low, width, ratio, size):
    skies = close_pair_skies(
        3, seed=seed, separation=(low, low + width), snr=(5, 20), flux_ratio=(ratio, 1), size=size,
        n_pairs=n_pairs,
    )  # fmt: skip
    for sky in skies:
        assert len(sky) == 2 * n_pairs
        one, other = sky[::2], sky[1::2]
        distance = np.hypot(one.x - other.x, one.y - other.y)
        assert ((distance > low - 1e-9) & (distance < low + width + 1e-9)).all()
        share = other.flux / one.flux
        assert ((share > ratio - 1e-9) & (share <= 1 + 1e-9)).all()
        peak = one.flux / (1 + size**2)
        assert ((peak > 5 - 1e-9) & (peak < 20 + 1e-9)).all()
        places = np.stack([one.x + other.x, one.y + other.y]) / 2
        apart = np.hypot(*(places[:, :, None] - places[:, None])) + 100 * np.eye(n_pairs)
        assert apart.min() > 7 - 1e-9
        # Each source of a pair is the other's nearest.
        assert apart.min() > 3 * distance.max()


def test_sky_of_a_seed_is_always_the_same():
    few, many = close_pair_skies(2, seed=4), close_pair_skies(5, seed=4)
    assert_array_equal(few[1].x, many[1].x)
    assert not np.array_equal(few[0].x, few[1].x)
    assert not np.array_equal(few[0].x, close_pair_skies(1, seed=5)[0].x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"separation": (0, 1)}, "separation is"),
        ({"separation": (2, 1)}, "separation is"),
        ({"separation": (0.3, 3)}, "spacing is 8.0 beams"),
        ({"snr": (0, 5)}, "snr is"),
        ({"flux_ratio": (0.5, 2)}, "expected at most 1"),
        ({"size": -1}, "size is -1"),
        ({"n_pairs": 0}, "n_pairs 0"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        close_pair_skies(1, seed=0, **options)


def test_fast_pair_has_the_signal_and_the_noise_that_were_asked_for(coverage, pair):
    gain = pair.primary_beam.data
    rows, columns = (np.rint(pair.sources[k]).astype(int) for k in ("y_centroid", "x_centroid"))
    snr = normalized_injected_flux(
        pair.sources["flux"], pair.sources["major"], pair.sources["minor"],
        rms=RMS * u.Jy / u.beam, beam=pair.beam,
    )  # fmt: skip
    assert_allclose(snr, 200, rtol=0.01)
    # The other source and sidelobes add some per cent.
    peaks = pair.dirty.data[rows, columns] / gain[rows, columns] / RMS
    assert_allclose(peaks, 200, rtol=0.2)
    empty = simulate_fast_pair(
        close_pair_skies(1, seed=3)[0][:0], coverage, rms=RMS * u.Jy / u.beam, seed=1, number=5
    )
    seen = ~empty.dirty.mask
    assert np.std(empty.dirty.data[seen]) == pytest.approx(RMS, rel=0.1)
    assert_array_equal(seen, empty.primary_beam.data >= 0.2)
    # Another number, another noise.
    other = simulate_fast_pair(
        close_pair_skies(1, seed=3)[0][:0], coverage, rms=RMS * u.Jy / u.beam, seed=1, number=6
    )
    assert abs(np.corrcoef(empty.dirty.data[seen], other.dirty.data[seen])[0, 1]) < 0.2


def test_fast_pair_can_be_stored(pair, tmp_path):
    store = PairStore(tmp_path / "store")
    store.write(5, pair)
    back = store.read(5)
    assert_allclose(back.sky.data.sum(), pair.sources["flux"].sum().value, rtol=1e-3)
    assert_array_equal(back.dirty.data, pair.dirty.data)


def test_fast_pair_refuses_a_telescope_it_does_not_know(coverage):
    (sky,) = close_pair_skies(1, seed=0)
    with pytest.raises(ValueError, match="telescope is 'GMRT'; expected one of"):
        simulate_fast_pair(sky, coverage, rms=RMS * u.Jy / u.beam, seed=1, telescope="GMRT")
