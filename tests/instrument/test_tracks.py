"""uv tracks: geometry, and points that CASA computed."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffsky.instrument import AntennaArray, read_array, uv_tracks

# The first antennas of ALMA's cycle 5 configuration 3.
CYCLE5 = """# observatory=ALMA
# coordsys=LOC
-33.89412596 -712.7516484 -2.330089496 12. A001
-17.45390887 -709.6086972 -2.32867142 12. A002
15.93453511 -700.6757482 -2.32967552 12. A007
9.482335836 -687.0764746 -2.729176727 12. A008
"""
# u and v of antenna 0 with 1, 2 and 3 in wavelengths at 230 GHz, in the first and in the last of
# 120 integrations of 10 s about transit, by declination: the measurement sets of simobserve.
CASA = {
    2.2: [
        [(-12570.4, -2173.9), (-38071.7, -8361.0), (-32984.7, -17938.5)],
        [(-12643.3, -2214.7), (-38358.8, -8484.5), (-33604.8, -18046.4)],
    ],
    -40.0: [
        [(-12569.8, -2601.2), (-38069.4, -9753.0), (-32980.8, -19520.5)],
        [(-12643.3, -1896.5), (-38358.3, -7617.0), (-33602.5, -17659.5)],
    ],
}
EARTH = 6378137.0
OBSERVATION = {
    "frequency": 299792458.0 * u.Hz,  # so that wavelengths are metres
    "total_time": 20 * u.min,
    "integration": 60 * u.s,
}


def make_array(*places, latitude=0.0, diameter=12.0):
    """Antennas at metres to the east, north and up of longitude 0."""
    lat = np.deg2rad(latitude)
    axes = [[0, 1, 0], [-np.sin(lat), 0, np.cos(lat)], [np.cos(lat), 0, np.sin(lat)]]
    positions = EARTH * np.array(axes[2]) + np.array(places, dtype=float) @ np.array(axes)
    return AntennaArray(positions, np.full(len(places), diameter), "", 0.0, latitude)


@pytest.fixture
def observe(tmp_path):
    """Function that observes with CYCLE5 as simobserve did, at a declination."""
    path = tmp_path / "array.cfg"
    path.write_text(CYCLE5)

    def tracks(declination):
        return uv_tracks(
            read_array(path),
            direction=SkyCoord(150.11916667 * u.deg, declination * u.deg),
            frequency=230 * u.GHz,
            total_time=20 * u.min,
            integration=10 * u.s,
        )

    return tracks


@pytest.mark.parametrize("declination", CASA)
def test_points_of_casa(observe, declination):
    tracks = observe(declination)
    uv = tracks.uv.reshape(120, 6, 2)
    assert_allclose(uv[[0, -1], :3], CASA[declination], atol=2)
    assert tracks.flagged == 0
    assert_allclose(tracks.weights, 1)
    assert_allclose(tracks.areas, 144)
    assert_allclose(tracks.elevation, 90 - abs(declination + 23.022886), atol=0.3)


def test_shadows_of_casa(observe):
    """At +20 deg, simobserve drops the last antenna from 43 of 120 integrations."""
    assert observe(20.0).flagged * 720 == pytest.approx(3 * 43, abs=6)


def test_overhead():
    """At the zenith, u is east and v is north, first antenna minus second."""
    array = make_array((0, 0, 0), (30, 0, 0), (0, 50, 0), (0, 75, 90), latitude=30)
    tracks = uv_tracks(
        array,
        direction=SkyCoord(200 * u.deg, 30 * u.deg),
        **OBSERVATION | {"total_time": 1 * u.s, "integration": 1 * u.s},
    )
    uv = dict(zip([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], tracks.uv, strict=True))
    # simobserve's hour angle may be off by two minutes: half a degree.
    assert_allclose(uv[0, 1], [-30, 0], atol=0.5)
    assert_allclose(uv[0, 2], [0, -50], atol=0.7)
    assert_allclose(uv[0, 3], [0, -75], atol=1.5)
    assert_allclose(uv[1, 2], uv[0, 2] - uv[0, 1])
    assert_allclose(tracks.elevation, 90, atol=1)


@settings(max_examples=20)
@given(
    declination=st.floats(-60, 60),
    ra=st.floats(0, 359),
    latitude=st.floats(-40, 40),
    hour_angle=st.floats(-2, 2),
)
def test_tracks_are_ellipses(declination, ra, latitude, hour_angle):
    """An east-west baseline draws u = -L cos H, v = -L sin(dec) sin H."""
    array = make_array((0, 0, 0), (500, 0, 0), latitude=latitude)
    turned = np.deg2rad(15 * hour_angle)
    lat, dec = np.deg2rad([latitude, declination])
    assume(np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(turned) > 0.3)
    tracks = uv_tracks(
        array,
        direction=SkyCoord(ra * u.deg, declination * u.deg),
        hour_angle=hour_angle * u.hourangle,
        **OBSERVATION,
    )
    east, north = -tracks.uv.T
    # Hour angles are off by two minutes at most; the pole of date is 0.1 deg from that of 2000.
    assert_allclose(east.mean(), 500 * np.cos(turned), atol=5)
    assert_allclose(north.mean(), 500 * np.sin(dec) * np.sin(turned), atol=6)


def test_order_of_antennas_is_the_sign():
    one = make_array((0, 0, 0), (100, 40, 0))
    other = make_array((100, 40, 0), (0, 0, 0))
    options = OBSERVATION | {"direction": SkyCoord(10 * u.deg, 20 * u.deg)}
    assert_allclose(uv_tracks(one, **options).uv, -uv_tracks(other, **options).uv)


def test_frequency_scales():
    array = make_array((0, 0, 0), (100, 40, 0))
    options = OBSERVATION | {"direction": SkyCoord(10 * u.deg, 20 * u.deg)}
    one = uv_tracks(array, **options)
    other = uv_tracks(array, **options | {"frequency": 3 * OBSERVATION["frequency"]})
    assert_allclose(other.uv, 3 * one.uv)


@pytest.mark.parametrize(("total", "count"), [(20, 20), (20.5, 21), (1, 1)])
def test_integrations(total, count):
    """The last integration may exceed the total time."""
    array = make_array((0, 0, 0), (100, 40, 0))
    options = OBSERVATION | {"total_time": total * u.min}
    tracks = uv_tracks(array, direction=SkyCoord(10 * u.deg, 0 * u.deg), **options)
    assert len(tracks.uv) == count


def test_shadow():
    """An antenna that stands in the line of sight takes its rows with it."""
    options = OBSERVATION | {"direction": SkyCoord(10 * u.deg, -70 * u.deg)}
    free = uv_tracks(make_array((0, 0, 0), (0, 40, 0), (300, 0, 0)), **options)
    assert free.flagged == 0
    # at 20 deg of elevation, 13 m to the south are 4.4 m across: less than a dish
    shadowed = uv_tracks(make_array((0, 0, 0), (0, 13, 0), (300, 0, 0)), **options)
    assert shadowed.flagged == pytest.approx(2 / 3)
    assert len(shadowed.uv) == 20
    # the first antenna is behind; the baseline of the others is the third
    assert shadowed.rows.tolist() == list(range(2, 60, 3))
    assert free.rows.tolist() == list(range(60))
    overhead = options | {"direction": SkyCoord(10 * u.deg, 0 * u.deg)}
    assert uv_tracks(make_array((0, 0, 0), (0, 13, 0)), **overhead).flagged == 0


def test_low_elevation():
    """Integrations below 8 deg are left out, and all of them are an error."""
    array = make_array((0, 0, 0), (100, 0, 0))
    options = OBSERVATION | {"direction": SkyCoord(10 * u.deg, 0 * u.deg)}
    tracks = uv_tracks(array, **options, hour_angle=82 / 15 * u.hourangle)
    assert 0.2 < tracks.flagged < 0.8
    assert tracks.elevation.min() >= 8
    assert tracks.elevation.max() < 11
    assert len(tracks.uv) == round(20 * (1 - tracks.flagged))
    with pytest.raises(ValueError, match=r"no visibility is left: the elevation is 3\..* to 7\."):
        uv_tracks(array, **options, hour_angle=84.5 / 15 * u.hourangle)


def test_weights_of_unequal_dishes():
    """As CASA's simulator has them, relative to two of the largest."""
    array = make_array((0, 0, 0), (100, 0, 0), (0, 200, 0))
    array = AntennaArray(array.positions, np.array([12.0, 12.0, 6.0]), "", 0.0, 0.0)
    options = OBSERVATION | {"total_time": 1 * u.s, "integration": 1 * u.s}
    tracks = uv_tracks(array, direction=SkyCoord(10 * u.deg, 0 * u.deg), **options)
    assert_allclose(tracks.areas, [144, 72, 72])
    assert_allclose(tracks.weights, [1, 0.25, 0.25])
