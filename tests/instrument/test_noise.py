"""Thermal noise against what CASA's simulator adds."""

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffsky.instrument import image_rms, system_temperature, visibility_noise

# Standard deviation in Jy of the real and imaginary parts that sm.setnoise("tsys-atm") of CASA 6.7
# adds to visibilities of 12 m dishes, 1.875 GHz and 10 s, to 0.3 %: by frequency in GHz and
# elevation in deg, for these amounts of water in mm.
PWV = (0.472, 0.913, 1.796, 2.748, 5.186)
CASA = {
    (90, 64.84): (0.01308, 0.01326, 0.01364, 0.01405, 0.01511),
    (150, 27.05): (0.01505, 0.01631, 0.01892, 0.02183, 0.02983),
    (230, 64.84): (0.01716, 0.01872, 0.02194, 0.02557, 0.03566),
    (230, 27.05): (0.01973, 0.02297, 0.02989, 0.03804, 0.06262),
    (345, 64.84): (0.03026, 0.03709, 0.05239, 0.07161, 0.1373),
    (460, 64.84): (0.09649, 0.1657, 0.4058, 0.9497, 7.153),
    (650, 64.84): (0.1444, 0.2952, 0.9675, 3.078, 52.78),
}
DISH = {"areas": 144.0, "bandwidth": 1.875e9, "integration": 10.0}


@pytest.mark.parametrize("place", CASA)
def test_noise_of_casa(place):
    frequency, elevation = place
    noise = [visibility_noise(frequency * 1e9, pwv=pwv, elevation=elevation, **DISH) for pwv in PWV]
    assert_allclose(noise, CASA[place], rtol=0.015)


@given(
    frequency=st.floats(35, 950),
    pwv=st.floats(0.1, 10),
    elevation=st.floats(10, 89),
)
def test_more_air_is_worse(frequency, pwv, elevation):
    """More water, or a lower elevation, never lowers the noise; the receiver is always in it."""
    try:
        wetter = system_temperature(frequency * 1e9, pwv=1.1 * pwv, elevation=elevation)
    except ValueError:  # opaque
        reject()
    here = system_temperature(frequency * 1e9, pwv=pwv, elevation=elevation)
    assert 28 < here < wetter
    assert system_temperature(frequency * 1e9, pwv=pwv, elevation=elevation + 1) < here * 1.001


def test_elevations_together():
    elevation = np.array([[20.0, 40.0], [60.0, 90.0]])
    together = system_temperature(230e9, pwv=1.0, elevation=elevation)
    singles = [system_temperature(230e9, pwv=1.0, elevation=e) for e in elevation.flat]
    assert_allclose(together.ravel(), singles)


def test_radiometer_equation():
    """Noise falls with the area, and with the root of bandwidth and time."""
    options = {"pwv": 1.0, "elevation": 50.0}
    noise = visibility_noise(230e9, **options, **DISH)
    assert_allclose(visibility_noise(230e9, **options, **DISH | {"areas": 72.0}), 2 * noise)
    longer = DISH | {"integration": 40.0, "bandwidth": 4 * 1.875e9}
    assert_allclose(visibility_noise(230e9, **options, **longer), noise / 4)
    seven = visibility_noise(230e9, **options, **DISH | {"areas": 49.0}, telescope="ACA")
    assert 2.5 < seven / noise < 3.1


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1, max_size=50),
    st.sampled_from([1, 2]),
)
def test_image_rms(visibilities, n):
    """Natural weights give the smallest rms, that of the inverse variances added up."""
    weights, noise = np.array(visibilities).T
    best = image_rms(1 / noise**2, noise, n_polarizations=n)
    assert best == pytest.approx(1 / np.sqrt(n * (1 / noise**2).sum()))
    assert image_rms(weights, noise, n_polarizations=n) >= best * (1 - 1e-9)


def test_rms_of_drawn_visibilities():
    rng = np.random.default_rng(2)
    weights, noise = rng.uniform(0.5, 2, 200), rng.uniform(1, 3, 200)
    drawn = rng.normal(0, noise, (20000, 2, 200)).mean(axis=1)
    pixels = drawn @ weights / weights.sum()
    assert image_rms(weights, noise) == pytest.approx(pixels.std(), rel=0.02)


@pytest.mark.parametrize(
    ("frequency", "options", "message"),
    [
        (20e9, {}, "frequency is 20 GHz; expected 35 to 950 GHz"),
        (230.0, {}, "expected 35 to 950 GHz"),
        (230e9, {"pwv": 0}, "pwv is 0; expected mm above 0"),
        (230e9, {"pwv": np.nan}, "pwv is nan"),
        (230e9, {"elevation": -3.0}, "elevation is -3 deg"),
        (230e9, {"elevation": np.array([30, np.nan])}, "elevation"),
        (557e9, {}, r"the air is opaque at 557 GHz with 1 mm of water: its opacity is \d+"),
        (230e9, {"telescope": "VLA"}, "receivers of telescope 'VLA' are not known; .* ALMA, ACA"),
    ],
)
def test_refused(frequency, options, message):
    with pytest.raises(ValueError, match=message):
        visibility_noise(frequency, **{"pwv": 1.0, "elevation": 50.0, **DISH, **options})
