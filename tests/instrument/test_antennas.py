"""Antenna configuration files."""

import importlib.util
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffsky.instrument import read_array

LOCAL = """# observatory=ALMA
# coordsys=LOC (local tangent plane)
# x y z diam pad#
-33.89 -712.75 -2.33 12. A001
15.93  -700.67 -2.5  12. A007  # a comment

100.0  200.0   0.0   7.0
"""


@pytest.fixture
def write(tmp_path):
    """Function that writes a file and returns its path."""

    def make(text):
        path = tmp_path / "array.cfg"
        path.write_text(text)
        return path

    return make


def test_local_coordinates(write):
    """Distances are kept, and east, north and up at the site are what they say."""
    array = read_array(write(LOCAL))
    assert array.telescope == "ALMA"
    assert_allclose(array.diameters, [12, 12, 7])
    local = np.array([[-33.89, -712.75, -2.33], [15.93, -700.67, -2.5], [100, 200, 0]])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        distance = np.linalg.norm(array.positions[one] - array.positions[other])
        assert distance == pytest.approx(np.linalg.norm(local[one] - local[other]), rel=1e-9)
    site = EarthLocation.from_geocentric(*array.positions.T, unit=u.m)
    assert_allclose(site.lon.deg, -67.754929, atol=0.002)
    assert_allclose(site.lat.deg, -23.022886, atol=0.008)
    assert_allclose(site.height.to_value(u.m), 5056.8 + local[:, 2], atol=0.1)
    assert np.argsort(site.lon.deg).tolist() == [0, 1, 2]
    assert np.argsort(site.lat.deg).tolist() == [0, 1, 2]


@pytest.mark.parametrize("system", ["ENU", "LOC", "loc"])
def test_place_of_the_array(write, system):
    """The header's place wins over that of the observatory."""
    text = f"# coordsys={system}\n#COFA=10.0,45.0\n# observatory=ALMA\n0 0 0 12\n5 0 0 12\n"
    array = read_array(write(text))
    assert (array.longitude, array.latitude) == (10.0, 45.0)
    first, second = array.positions
    assert_allclose(second - first, [-5 * np.sin(np.deg2rad(10)), 5 * np.cos(np.deg2rad(10)), 0])


def test_geocentric_coordinates(write):
    text = "# observatory=VLA\n# coordsys=XYZ\n"
    rows = np.array(
        [[-1601614.06, -5042001.68, 3554652.46], [-1602592.82, -5042055.01, 3554140.77]]
    )
    array = read_array(write(text + "\n".join(f"{x} {y} {z} 25. W08" for x, y, z in rows)))
    assert_allclose(array.positions, rows)
    assert array.latitude == pytest.approx(34.08, abs=0.02)
    assert array.longitude == pytest.approx(-107.62, abs=0.02)
    assert array.telescope == "VLA"


GOOD = "# coordsys=XYZ\n1 2 3 12\n4 5 6 12\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("XYZ", "UTM"), "coordsys is 'UTM'; expected XYZ, LOC or ENU"),
        (GOOD.replace("# coordsys=XYZ\n", ""), "coordsys is 'none'"),
        (GOOD.replace("XYZ", "LOC"), "observatory is none; expected '# COFA=longitude,latitude'"),
        ("# observatory=MINE\n# coordsys=LOC\n1 2 3 12\n4 5 6 12\n", "observatory is MINE"),
        (GOOD.replace("4 5 6 12\n", ""), "has 1 antennas; expected at least 2"),
        (GOOD + "7 8 9\n", "line 4: expected x y z diameter"),
        (GOOD + "7 8 9 big\n", "line 4: expected x y z diameter"),
        (GOOD + "7 8 9 0\n", "diameters above 0"),
        (GOOD + "7 8 nan 12\n", "finite positions"),
        ("", "has 0 antennas"),
    ],
)
def test_refused(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_array(write(text))


@given(
    st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 3, st.floats(0.1, 100)), min_size=2, max_size=20)
)
def test_any_antennas(tmp_path_factory, antennas):
    """Every number that can be written comes back, in its order."""
    path = tmp_path_factory.mktemp("arrays") / "any.cfg"
    path.write_text("# coordsys=XYZ\n" + "\n".join(" ".join(map(repr, row)) for row in antennas))
    array = read_array(path)
    assert_allclose(array.positions, [row[:3] for row in antennas])
    assert_allclose(array.diameters, [row[3] for row in antennas])


@pytest.mark.skipif(
    importlib.util.find_spec("casadata") is None, reason="CASA's data are not installed"
)
def test_names_of_casa():
    array = read_array("alma.cycle5.3")
    assert array.positions.shape == (43, 3)
    assert read_array("aca.cycle5.cfg").diameters.tolist() == [7.0] * 10
    with pytest.raises(ValueError, match="alma.cycle5"):
        read_array("alma.cycle5.33")


def test_names_without_casa(monkeypatch):
    monkeypatch.setitem(sys.modules, "casadata", None)
    with pytest.raises(ImportError, match=r"which is no file.*diffsky-radio\[casa\]"):
        read_array("alma.cycle5.3")
