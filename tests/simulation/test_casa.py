"""Observations by real CASA: known answers, noise, refusals and faults."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st

from diffsky.simulation import _casa_worker
from diffsky.simulation._casa_inputs import casa_seed, find_array, setup_values, sky_inputs
from diffsky.simulation._casa_process import run_job
from diffsky.simulation.casa import (
    CasaError,
    CasaTimeoutError,
    ObservationSetup,
    observe_uv,
    read_uv,
    simulate_observation,
)

needs_casa = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("casatools", "casatasks", "casadata")),
    reason="CASA is not installed",
)
SETUP = ObservationSetup()
FEWER_ROWS = ObservationSetup(integration=60 * u.s)
SMALL = ObservationSetup(image_size=64, total_time=2 * u.min, integration=60 * u.s)
X, Y = 176, 297  # a pixel 8.0 arcsec east and 4.1 arcsec north of the centre
ROOT = Path(__file__).resolve().parents[2]


def point_sky(setup, x=None, y=None, flux=1.0):
    sky = np.zeros((setup.image_size, setup.image_size))
    middle = setup.image_size // 2
    sky[middle if y is None else y, middle if x is None else x] = flux
    return sky


def run_python(code, **kwargs):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **kwargs.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, **kwargs
    )


def processes(word):
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if word in line]


# ---- known answers ----


@pytest.fixture(scope="module")
def point(tmp_path_factory):
    """A point source of 1 Jy without noise, the measurement set kept."""
    return simulate_observation(
        point_sky(SETUP, X, Y),
        SETUP,
        seed=1,
        noise=False,
        work_dir=tmp_path_factory.mktemp("kept"),
        keep_measurement_set=True,
    )


@needs_casa
def test_point_source_is_where_it_was_put(point):
    peak = np.unravel_index(np.nanargmax(point.dirty.data), point.dirty.shape)
    assert peak == (Y, X)
    assert point.dirty.data[peak] == pytest.approx(point.primary_beam.data[peak], rel=0.01)
    assert 0.7 < point.primary_beam.data[peak] < 0.76
    where = point.dirty.wcs.pixel_to_world(X, Y)
    east, north = SETUP.direction.spherical_offsets_to(where)
    assert (east.arcsec, north.arcsec) == (
        pytest.approx(8.0, abs=0.01),
        pytest.approx(4.1, abs=0.01),
    )


@needs_casa
def test_images_are_labelled(point):
    blank = point.primary_beam.data < SETUP.pblimit
    assert blank.mean() == pytest.approx(0.570, abs=0.005)
    assert np.array_equal(point.dirty.mask, blank)
    assert np.array_equal(np.isnan(point.dirty.data), blank)
    assert point.dirty.unit == u.Jy / u.beam
    assert point.primary_beam.data[256, 256] == 1
    assert point.psf.data[256, 256] == pytest.approx(1, abs=1e-6)
    assert np.unravel_index(np.argmax(point.psf.data), point.psf.shape) == (256, 256)
    assert point.beam.major.to_value(u.arcsec) == pytest.approx(0.89, abs=0.01)
    assert point.beam.minor.to_value(u.arcsec) == pytest.approx(0.82, abs=0.01)
    for image in (point.dirty, point.psf, point.primary_beam):
        assert image.meta["beam"].major == point.beam.major
        assert image.meta["telescope"] == "ALMA"
        assert image.copy().meta["frequency"] == 230 * u.GHz
    assert point.parameters["casa_version"].startswith("6.")


@needs_casa
def test_uv_points_predict_the_images(point):
    """Direct Fourier sums over the uv points give CASA's PSF and dirty image."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(-15, 16, (2, 40))
    step = SETUP.cell.to_value(u.rad)
    phase = 2 * np.pi * step * (np.outer(y, point.uv[:, 1]) - np.outer(x, point.uv[:, 0]))
    psf = np.average(np.cos(phase), axis=1, weights=point.weights)
    assert np.ptp(psf) > 0.5
    np.testing.assert_allclose(point.psf.data[256 + y, 256 + x], psf, atol=2e-3)
    apparent = psf * point.primary_beam.data[Y, X]
    np.testing.assert_allclose(point.dirty.data[Y + y, X + x], apparent, atol=4e-3)


@needs_casa
def test_measurement_set_kept_and_read(point):
    assert point.measurement_set.is_dir()
    coverage = read_uv(point.measurement_set)
    assert np.array_equal(coverage.uv, point.uv)
    assert np.array_equal(coverage.weights, point.weights)
    assert coverage.beam is None


@needs_casa
def test_table_of_sources_lies_between_pixels():
    x, y = 175.7, 296.6
    table = QTable(
        {
            "flux": [1, 0.5] * u.Jy,
            "sky_centroid": SETUP.wcs.pixel_to_world([x, 320.25], [y, 200.5]),
            "major": [0, 1.6] * u.arcsec,
            "minor": [0, 0.8] * u.arcsec,
            "pa": [0, 30] * u.deg,
        }
    )
    dirty = simulate_observation(table, FEWER_ROWS, seed=0, noise=False).dirty.data
    stamp = dirty[Y - 1 : Y + 2, X - 1 : X + 2]
    vertical, horizontal = stamp[:, 1], stamp[1]
    offsets = [(a[2] - a[0]) / 2 / (2 * a[1] - a[0] - a[2]) for a in (horizontal, vertical)]
    assert offsets == pytest.approx([x - X, y - Y], abs=0.02)
    # east of north: the ellipse reaches further towards smaller x and larger y
    cross = [dirty[201 + 6 * j, 320 - 6 * i] for i, j in ((1, 1), (-1, 1))]
    assert cross[0] > 1.2 * cross[1]


@needs_casa
def test_uv_of_another_declination_leaves_out_shadowed_antennas():
    north = ObservationSetup(direction=SkyCoord(150.1, 20, unit="deg"))
    coverage = observe_uv(north)
    n_visibilities = 43 * 42 // 2 * 120
    assert 0.9 * n_visibilities < len(coverage.uv) < 0.97 * n_visibilities
    assert coverage.uv.shape == (len(coverage.weights), 2)
    assert coverage.beam.major.to_value(u.arcsec) == pytest.approx(1.0, abs=0.02)


# ---- noise ----


@pytest.fixture(scope="module")
def noise():
    """Noise images of seed 1, seed 1 again, seed 2: of a sky of 1e-12 Jy."""
    sky = point_sky(FEWER_ROWS, flux=1e-12)
    return [simulate_observation(sky, FEWER_ROWS, seed=seed).dirty.data for seed in (1, 1, 2)]


@needs_casa
def test_noise_level(noise):
    assert np.nanstd(noise[0]) == pytest.approx(48e-6, rel=0.05)
    assert np.nanstd(noise[2]) == pytest.approx(48e-6, rel=0.05)


@needs_casa
def test_seed_decides_the_noise(noise):
    good = np.isfinite(noise[0])
    assert np.array_equal(noise[0], noise[1], equal_nan=True)
    assert abs(np.corrcoef(noise[0][good], noise[2][good])[0, 1]) < 0.1


def test_seed_of_simalma():
    assert casa_seed("casa-default") == 11111


@given(st.one_of(st.integers(max_value=-1), st.integers(2**31), st.text(), st.floats(), st.none()))
def test_seed_refused(seed):
    with pytest.raises(ValueError, match="expected an int from 0"):
        casa_seed(seed)


# ---- the process ----


@needs_casa
def test_quiet_and_tidy(tmp_path, monkeypatch, capfd):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    log = tmp_path / "casa.log"
    log.write_text("earlier\n")
    work = tmp_path / "work"
    simulate_observation(point_sky(SMALL), SMALL, seed=1, log_file=log, work_dir=work)
    assert log.read_text().startswith("earlier\n")
    assert "Task tclean complete" in log.read_text()
    assert list(here.iterdir()) == []
    assert list(work.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@needs_casa
def test_time_limit_leaves_no_process(tmp_path):
    log = tmp_path / "casa.log"
    begin = time.monotonic()
    with pytest.raises(CasaTimeoutError, match=r"within 1\.5 s") as caught:
        observe_uv(SMALL, timeout=1500 * u.ms, log_file=log)
    assert time.monotonic() - begin < 5
    assert isinstance(caught.value, CasaError)
    work = tmp_path / "work"
    with pytest.raises(CasaTimeoutError):
        simulate_observation(
            point_sky(SMALL), SMALL, seed=1, timeout=0.5, work_dir=work, log_file=log
        )
    assert list(work.iterdir()) == []
    assert processes(str(work)) == []


@needs_casa
def test_interrupt_leaves_no_process(tmp_path):
    code = f"""
from diffsky.simulation.casa import ObservationSetup, simulate_observation
import numpy as np
simulate_observation(np.ones((512, 512)), ObservationSetup(), seed=1, work_dir={str(tmp_path)!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 30
    while not processes(f"{tmp_path}/diffsky-casa-") and time.monotonic() < until:
        time.sleep(0.1)
    assert processes(f"{tmp_path}/diffsky-casa-")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert b"KeyboardInterrupt" in stderr
    assert processes(f"{tmp_path}/diffsky-casa-") == []
    assert list(tmp_path.iterdir()) == []


@needs_casa
def test_failure_carries_the_last_lines(tmp_path):
    array = tmp_path / "broken.cfg"
    array.write_text("# observatory=ALMA\n# coordsys=LOC\nnot an antenna\n")
    setup = ObservationSetup(array=array, image_size=64)
    with pytest.raises(CasaError, match="failed with status 1") as caught:
        observe_uv(setup)
    message = str(caught.value)
    assert "task_simobserve.py" in message
    assert "Error: " in message.splitlines()[-2]
    assert "Leap second" not in message
    assert len(message.splitlines()) <= 22
    assert str(caught.value.log_file) in message
    assert "simobserve" in caught.value.log_file.read_text()
    caught.value.log_file.unlink()


@needs_casa
def test_source_outside_the_primary_beam_is_an_error(tmp_path):
    """CASA predicts visibilities of zero and says nothing."""
    setup = replace(SMALL, image_size=512)
    with pytest.raises(CasaError, match="zero or flagged"):
        simulate_observation(point_sky(setup, 0, 0), setup, seed=1, log_file=tmp_path / "casa.log")


def test_casa_missing():
    code = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith("casa"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
from diffsky.simulation.casa import ObservationSetup, observe_uv, read_uv, simulate_observation
for call in (
    lambda: simulate_observation("not a sky", ObservationSetup(array="unknown"), seed=None),
    lambda: observe_uv(ObservationSetup(array="unknown")),
    lambda: read_uv("nowhere.ms"),
):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('pip install "diffsky-radio[casa]"') == 3


@needs_casa
@pytest.mark.parametrize("populated", [False, True])
def test_measures_of_the_user_win(tmp_path, populated):
    measures = tmp_path / "measures"
    (measures / ("geodetic" if populated else "nothing")).mkdir(parents=True)
    (tmp_path / ".casa").mkdir()
    (tmp_path / ".casa" / "config.py").write_text(
        f"measurespath = {str(measures)!r}\ndatapath = [{str(measures)!r}]\n"
        "measures_auto_update = True\n"
    )
    code = f"""
import runpy, casadata
worker = runpy.run_path({_casa_worker.__file__!r})
worker["configure_casa"]("casa.log")
import casaconfig.config as config
print(config.measurespath == {str(measures)!r}, config.measurespath == casadata.datapath)
print(config.measures_auto_update, config.datapath[-1] == casadata.datapath)
"""
    done = run_python(code, env={"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    expected = "True False True True" if populated else "False True False True"
    assert done.stdout.split() == expected.split()


# ---- refusals, before CASA starts ----


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
        (lambda sky: CCDData(sky, unit="Jy/pix", wcs=SETUP.wcs), "differs .* pixels"),
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
        ({"flux": [np.nan, 1] * u.Jy}, "not finite in flux"),
        ({"flux": [-1, 1] * u.Jy}, "1 negative fluxes"),
        ({"flux": [0, 0] * u.mJy}, "no flux"),
        ({"flux": [1, 1] * u.m}, "not convertible"),
        ({"major": [1, 1] * u.arcsec, "minor": [2, 1] * u.arcsec}, "minor <= major"),
        ({"major": [1, 1] * u.arcsec}, "minor <= major"),
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
@pytest.mark.parametrize(
    ("declination", "hour_angle"), [(60, 0), (89, 0), (20, 6), (-85, 0.0), (2, -5.5)]
)
def test_direction_below_the_horizon(declination, hour_angle):
    setup = ObservationSetup(
        direction=SkyCoord(150, declination, unit="deg"), hour_angle=hour_angle * u.hourangle
    )
    if declination == -85:
        assert setup_values(setup, find_array(setup.array))["dec"] == pytest.approx(-85)
        return
    with pytest.raises(ValueError, match="deg of elevation at ALMA"):
        observe_uv(setup)


@needs_casa
@pytest.mark.usefixtures("no_process")
def test_arguments_refused(tmp_path):
    sky = point_sky(SMALL)
    with pytest.raises(ValueError, match="expected a work_dir"):
        simulate_observation(sky, SMALL, seed=1, keep_measurement_set=True)
    with pytest.raises(ValueError, match="seed is None"):
        simulate_observation(sky, SMALL, seed=None)
    with pytest.raises(FileNotFoundError, match="no measurement set"):
        read_uv(tmp_path)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(0, ValueError), (-1, ValueError), (np.inf, ValueError), ("x", TypeError)],
)
def test_timeout_refused(timeout, error):
    with pytest.raises(error, match="timeout is"):
        run_job({}, timeout=timeout)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"frequency": 230}, TypeError),
        ({"frequency": 1 * u.m}, u.UnitConversionError),
        ({"pwv": -1 * u.mm}, ValueError),
        ({"cell": np.nan * u.arcsec}, ValueError),
        ({"n_channels": 0}, ValueError),
        ({"n_channels": 2.0}, ValueError),
        ({"image_size": 511}, ValueError),
        ({"weighting": "superuniform"}, ValueError),
        ({"robust": 3}, ValueError),
        ({"pblimit": 0}, ValueError),
        ({"integration": 1 * u.h}, ValueError),
        ({"direction": "10h +02d"}, TypeError),
        ({"direction": SkyCoord([1, 2], [1, 2], unit="deg")}, TypeError),
    ],
)
def test_setup_refused(values, error):
    with pytest.raises(error, match=f"{next(iter(values))}|not convertible"):
        ObservationSetup(**values)


def test_setup_of_drozdova2024():
    direction = SkyCoord(150.4, 0.5, unit="deg")
    setup = ObservationSetup.drozdova2024(direction)
    assert (setup.n_channels, setup.image_size, setup.weighting) == (240, 512, "natural")
    assert setup.bandwidth / setup.n_channels == 7.8 * u.MHz
    assert setup.direction is direction


@needs_casa
@given(ra=st.floats(0, 359.9999999), dec=st.floats(-89.9, 40))
def test_direction_is_written_in_sexagesimal(ra, dec):
    """CASA predicts zeros for decimal degrees."""
    setup = ObservationSetup(direction=SkyCoord(ra, dec, unit="deg", frame="fk5"))
    values = setup_values(setup, find_array(setup.array))
    equinox, written = values["direction"].split(" ", 1)
    assert equinox == "J2000"
    assert "deg" not in written
    apart = SkyCoord(written, frame="fk5").separation(setup.direction)
    assert apart < 10 * u.uas
