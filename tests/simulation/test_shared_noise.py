"""The noise of CASA's default seed: in another direction it is what CASA makes there."""

import warnings
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import FK5, SkyCoord
from numpy.testing import assert_allclose, assert_array_equal
from small_casa import needs_casa

from diffsky.instrument import read_array, uv_tracks
from diffsky.simulation import (
    ObservationSetup,
    SharedNoise,
    SourceList,
    simulate_shared_pair,
)
from diffsky.simulation.shared_noise import observe_noise

TIMEOUT = 600
SETUP = ObservationSetup(
    direction=SkyCoord(150 * u.deg, 2.2 * u.deg, frame=FK5()),
    n_channels=4,
    total_time=1 * u.min,
    integration=20 * u.s,
    image_size=256,
)
AT_REST = {"total_time": 60.0, "integration": 20.0, "hour_angle": 0.0}


def at(declination, **changes):
    direction = SkyCoord(150 * u.deg, declination * u.deg, frame=FK5())
    return replace(SETUP, direction=direction, **changes)


@pytest.fixture(scope="module")
def drawn():
    """White noise in place of that of CASA."""
    tracks = uv_tracks(
        read_array(SETUP.array),
        direction=SETUP.direction,
        frequency=SETUP.frequency,
        total_time=SETUP.total_time,
        integration=SETUP.integration,
    )
    assert_array_equal(tracks.rows, np.arange(3 * 43 * 42 // 2))
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, len(tracks.rows), 2)) @ [1, 1j]
    return SharedNoise(values, np.array([0.999, 1.001]), {"array": SETUP.array, **AT_REST})


def test_image_is_linear_in_the_noise_of_the_weather(drawn):
    """More water, more noise: by the ratio of the system temperatures, at any elevation."""
    dry, wet = (drawn.image(at(2.2, pwv=pwv * u.mm)) for pwv in (0.5, 5.0))
    ratio = wet.std() / dry.std()
    assert ratio > 1.3
    assert_allclose(wet, ratio * dry, atol=1e-3 * wet.std())


def test_directions_share_their_noise(drawn):
    here, near, far = (drawn.image(at(declination)) for declination in (2.2, 2.21, 8.0))
    assert np.corrcoef(here.ravel(), near.ravel())[0, 1] > 0.9
    assert np.corrcoef(here.ravel(), far.ravel())[0, 1] < 0.7


def test_pair_is_its_noise_and_the_response_to_its_sky(drawn):
    """A source of 1 Jy has a peak of the primary beam there, on the pixel where it is."""
    sources = SourceList([3.0], [-4.0], [1.0], [0.0], [0.0], [0.0])
    pair, empty = (
        simulate_shared_pair(these, SETUP, drawn)
        for these in (sources, SourceList(*([] for _ in range(6))))
    )
    pixels = [one.dirty.data for one in (pair, empty)]
    inside = ~pair.dirty.mask
    assert_allclose(pixels[1][inside], drawn.image(SETUP)[inside], rtol=1e-5, atol=1e-9)
    signal = np.where(inside, pixels[0] - pixels[1], 0)
    y, x = np.unravel_index(signal.argmax(), signal.shape)
    assert (x - 128, y - 128) == (30, -40)
    assert_allclose(signal.max(), pair.primary_beam.data[y, x], rtol=0.02)
    assert_allclose(pair.sources["x_centroid"], x, atol=0.01)
    assert 0.5 < pair.beam.minor.to_value(u.arcsec) < pair.beam.major.to_value(u.arcsec) < 1.5
    assert pair.parameters["noise"] == "shared"


def test_round_trip(drawn, tmp_path):
    drawn.write(tmp_path / "noise.npz")
    again = SharedNoise.read(tmp_path / "noise.npz")
    assert_array_equal(again.values, drawn.values)
    assert_array_equal(again.frequencies, drawn.frequencies)
    assert again.about == drawn.about


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"array": "alma.cycle5.4"}, "array of the set-up is alma.cycle5.4; expected alma.cycle5"),
        ({"total_time": 2 * u.min}, "total_time of the set-up is 120.0; expected 60.0"),
        ({"hour_angle": 1 * u.hourangle}, "hour_angle of the set-up is 1.0; expected 0.0"),
    ],
)
def test_other_rows_are_refused(drawn, changes, message):
    with pytest.raises(ValueError, match=message):
        drawn.image(replace(SETUP, **changes))


def test_what_is_no_noise_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        SharedNoise.read(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("noise")
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    np.savez(tmp_path / "objects.npz", values=np.array([{}], dtype=object), about="{}")
    for name in ("text", "other", "objects"):
        with pytest.raises(ValueError, match=f"{name}.npz holds no noise"):
            SharedNoise.read(tmp_path / f"{name}.npz")
    about = {"array": SETUP.array, **AT_REST}
    for values, frequencies, own, message in [
        (np.zeros((2, 3)), np.ones(1), about, "expected .groups, rows. and .groups,."),
        (np.full((1, 3), np.nan), np.ones(1), about, "not finite"),
        (np.zeros((1, 3)), np.ones(1), {"array": "a"}, "about has"),
    ]:
        with pytest.raises(ValueError, match=message):
            SharedNoise(values, frequencies, own)


@pytest.mark.parametrize("n_groups", [0, 3, 1.5])
def test_groups_are_checked_before_casa_starts(n_groups):
    with pytest.raises(ValueError, match="n_groups is"):
        SharedNoise.from_casa(SETUP, n_groups=n_groups)


@needs_casa
@pytest.mark.slow
def test_noise_of_casa_at_another_declination(tmp_path):
    """Within the primary beam: CASA grids with a kernel, `image` in the nearest cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noise = SharedNoise.from_casa(at(2.2), n_groups=2, timeout=TIMEOUT)
    assert_allclose((noise.values.real**2).mean(), 2 / 2, rtol=0.05)
    theirs = observe_noise(at(-5.0), 1, imaged=True, timeout=TIMEOUT)["dirty"]
    ours = noise.image(at(-5.0), padding=4)
    y, x = np.indices(theirs.shape) - theirs.shape[0] // 2
    inside = np.hypot(x, y) * 0.1 < 10
    assert np.corrcoef(theirs[inside], ours[inside])[0, 1] > 0.99
    assert_allclose(ours[inside].std(), theirs[inside].std(), rtol=0.01)
