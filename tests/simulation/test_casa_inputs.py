"""What is refused before CASA starts, and what it is told instead."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import j0
from small_casa import SMALL, needs_casa, point_sky

from diffsky.instrument import find_array
from diffsky.simulation._casa_inputs import casa_seed, observation_job, sky_inputs
from diffsky.simulation.casa import ObservationSetup, observe_uv, read_uv, simulate_observation


@pytest.fixture
def no_process(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("CASA was started")

    monkeypatch.setattr("diffsky.simulation.casa.run_job", refuse)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sky: sky * 0, "no flux"),
        (lambda sky: sky - 1e-6, "negative"),
        (lambda sky: np.where(sky > 0, sky, np.nan), "4095 pixels that are not finite"),
        (lambda sky: sky + np.inf, "not finite"),
        (lambda sky: sky[:, :32], r"shape \(64, 32\); expected \(64, 64\)"),
        (lambda sky: sky[None], "shape"),
        (lambda sky: CCDData(sky, unit="Jy/beam"), "not convertible"),
        (lambda sky: CCDData(sky, unit="Jy/pix", mask=sky == 0), "4095 masked"),
        (lambda sky: CCDData(sky, unit="Jy/pix", wcs=ObservationSetup().wcs), "differs .* pixels"),
        (lambda sky: QTable({"flux": [1] * u.Jy}), "sky_centroid"),
    ],
)
@needs_casa
@pytest.mark.usefixtures("no_process")
def test_sky_refused(change, message):
    with pytest.raises(ValueError, match=message):
        simulate_observation(change(point_sky(SMALL)), SMALL, seed=1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"flux": [np.nan, 1] * u.Jy}, "flux is not finite in row 0"),
        ({"flux": [1, -1] * u.Jy}, "flux is negative in row 1"),
        ({"flux": [0, 0] * u.mJy}, "no flux"),
        ({"flux": [1.0, 1.0]}, "flux has no unit"),
        ({"flux": [1, 1] * u.m}, "flux is in m"),
        ({"major": [1, 1] * u.arcsec, "minor": [2, 1] * u.arcsec}, "minor is larger"),
        ({"major": [1, 1] * u.arcsec, "minor": [0, 0] * u.arcsec}, "minor is 0"),
    ],
)
def test_table_refused(columns, message):
    table = QTable(
        {"flux": [1, 1] * u.Jy, "sky_centroid": SkyCoord([150, 150], [2, 2], unit="deg"), **columns}
    )
    with pytest.raises(ValueError, match=message):
        sky_inputs(table, SMALL)


@given(st.floats(1e-9, 1e3), st.integers(0, 63), st.integers(0, 63))
def test_sky_taken_in_any_form(flux, x, y):
    sky = point_sky(SMALL, x, y, flux)
    expected = sky_inputs(sky, SMALL)["sky"]
    for form in (
        sky.astype(">f8"),
        sky * 1e3 * u.mJy / u.pix,
        CCDData(sky, unit="Jy/pix", wcs=SMALL.wcs),
    ):
        np.testing.assert_allclose(sky_inputs(form, SMALL)["sky"], expected, rtol=1e-12)
    assert expected[y, x] == flux


def test_a_ring_is_as_good_as_its_points():
    """The Fourier transform of a ring is a Bessel function (J0), of a circle seen inclined too."""
    centre = SkyCoord(150.1, 2.2, unit="deg", frame="fk5")
    table = QTable(
        {
            "flux": [1, 2] * u.Jy,
            "sky_centroid": SkyCoord([centre, centre.directional_offset_by(0 * u.deg, 1 * u.deg)]),
            "major": [4, 0] * u.arcsec,
            "minor": [2, 0] * u.arcsec,
            "pa": [40, 0] * u.deg,
            "shape": ["ring", "point"],
        }
    )
    inputs = sky_inputs(table, SMALL)
    assert inputs["flux"][0] == 2
    points = slice(1, None)
    assert inputs["flux"][points].sum() == pytest.approx(1)
    assert not inputs["major"].any()
    places = SkyCoord(inputs["ra"][points], inputs["dec"][points], unit="deg", frame="fk5")
    east, north = centre.spherical_offsets_to(places)
    rng = np.random.default_rng(1)
    u_, v_ = rng.uniform(-0.5, 0.5, (2, 100)) / SMALL.cell.to_value(u.rad)  # all that is imaged
    phase = 2 * np.pi * (np.outer(u_, east.rad) + np.outer(v_, north.rad))
    pa, arcsec = np.deg2rad(40), u.arcsec.to(u.rad)
    along = (u_ * np.sin(pa) + v_ * np.cos(pa)) * 4
    across = (u_ * np.cos(pa) - v_ * np.sin(pa)) * 2
    expected = j0(np.pi * np.hypot(along, across) * arcsec)
    found = np.exp(1j * phase) @ inputs["flux"][points]
    np.testing.assert_allclose(found, expected, atol=2e-4)


@needs_casa
@pytest.mark.usefixtures("no_process")
def test_unknown_array_lists_similar_names():
    with pytest.raises(ValueError, match=r"'alma.cycle5.33'.*alma\.cycle5\.3\b"):
        observe_uv(ObservationSetup(array="alma.cycle5.33"))
    with pytest.raises(ValueError, match="expected the path of a .cfg file"):
        observe_uv(ObservationSetup(array="/nowhere/alma.cycle5.3"))
    assert find_array("alma.cycle5.3.cfg") == find_array("alma.cycle5.3")


@needs_casa
@pytest.mark.usefixtures("no_process")
def test_arguments_refused(tmp_path):
    sky = point_sky(SMALL)
    with pytest.raises(ValueError, match="expected a work_dir"):
        simulate_observation(sky, SMALL, seed=1, keep_measurement_set=True)
    with pytest.raises(ValueError, match="seed is None"):
        simulate_observation(sky, SMALL, seed=None)
    with pytest.raises(ValueError, match="simulator is 'miriad'"):
        simulate_observation(sky, SMALL, seed=1, simulator="miriad")
    with pytest.raises(FileNotFoundError, match="no measurement set"):
        read_uv(tmp_path)


@needs_casa
def test_simalma_takes_its_own_seed_and_arrays_alone():
    with pytest.raises(ValueError, match='none but "casa-default"'):
        observation_job(SMALL, seed=1, simulator="simalma")
    vla = replace(SMALL, array="vla.a", frequency=5 * u.GHz, cell=0.1 * u.arcsec)
    with pytest.raises(ValueError, match="array is of 'VLA'; simalma takes"):
        observation_job(vla, seed=11111, simulator="simalma")


def test_seed_of_simalma():
    assert casa_seed("casa-default") == 11111


@given(st.one_of(st.integers(max_value=-1), st.integers(2**31), st.text(), st.floats(), st.none()))
def test_seed_refused(seed):
    with pytest.raises(ValueError, match="expected an int from 0"):
        casa_seed(seed)
