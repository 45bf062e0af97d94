"""Many observations by one CASA process: known answers, and the same ones by every way."""

from dataclasses import replace
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from scipy.special import j0, j1
from small_casa import SMALL, needs_casa, point_sky

from diffsky.simulation import _casa_process
from diffsky.simulation._casa_inputs import casa_seed, observation_job, sky_inputs
from diffsky.simulation._casa_process import CasaProcess
from diffsky.simulation.setup import ObservationSetup

SCRIPT = str(Path(_casa_process.__file__).with_name("_casa_pairs.py"))
FIELD = ObservationSetup(integration=60 * u.s)
pytestmark = [needs_casa, pytest.mark.slow]


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with CasaProcess(scratch_dir=tmp_path_factory.mktemp("scratch")) as process:
        yield process


def observe(process, sky, setup, seed, *, task="observe_pair", simulator="simobserve", **options):
    inputs = sky_inputs(sky, setup)
    job = observation_job(setup, seed=seed, simulator=simulator)
    job |= {"task": task, "empty_sky": not inputs}
    if task == "observe_pair":
        job["script"] = SCRIPT
    return process.run(job, inputs=inputs, timeout=600, **options)[0]


def sources():
    return QTable(
        {
            "flux": [20, 30] * u.mJy,
            "sky_centroid": SMALL.wcs.pixel_to_world([30.3, 20.2], [25.6, 40.0]),
            "major": [0, 1.2] * u.arcsec,
            "minor": [0, 0.7] * u.arcsec,
            "pa": [0, 60] * u.deg,
        }
    )


def test_sources_of_a_table_lie_between_pixels(process):
    x, y, column, row = 175.7, 296.6, 176, 297
    table = QTable(
        {
            "flux": [1, 0.5] * u.Jy,
            "sky_centroid": FIELD.wcs.pixel_to_world([x, 320.25], [y, 200.5]),
            "major": [0, 1.6] * u.arcsec,
            "minor": [0, 0.8] * u.arcsec,
            "pa": [0, 30] * u.deg,
        }
    )
    dirty = observe(process, table, FIELD, None)["dirty"]
    stamp = dirty[row - 1 : row + 2, column - 1 : column + 2]
    vertical, horizontal = stamp[:, 1], stamp[1]
    offsets = [(a[2] - a[0]) / 2 / (2 * a[1] - a[0] - a[2]) for a in (horizontal, vertical)]
    assert offsets == pytest.approx([x - column, y - row], abs=0.02)
    # east of north: the ellipse reaches further towards smaller x and larger y
    cross = [dirty[201 + 6 * j, 320 - 6 * i] for i, j in ((1, 1), (-1, 1))]
    assert cross[0] > 1.2 * cross[1]


@pytest.mark.parametrize("shape", ["disk", "ring"])
def test_disks_and_rings_have_their_fourier_transforms(process, shape):
    """2 J1(x) / x and J0(x), x = pi D q, seen inclined; summed over the uv points."""
    table = sources()[:1]
    table["sky_centroid"] = SMALL.wcs.pixel_to_world([32.0], [32.0])
    table["flux"], table["pa"] = [1] * u.Jy, [40] * u.deg
    table["major"], table["minor"], table["shape"] = [4] * u.arcsec, [2] * u.arcsec, [shape]
    found = observe(process, table, SMALL, None)
    (q_x, q_y), pa, pixel = found["uv"].T, np.deg2rad(40), SMALL.cell.to_value(u.rad)
    along, across = q_x * np.sin(pa) + q_y * np.cos(pa), q_x * np.cos(pa) - q_y * np.sin(pa)
    x = np.pi * np.hypot(4 * along, 2 * across) * u.arcsec.to(u.rad)
    visibility = {"disk": 2 * j1(x) / x, "ring": j0(x)}[shape]
    for dy, dx in ((0, 0), (5, 0), (0, 5), (-5, 5), (5, 5)):
        phase = 2 * np.pi * pixel * (dy * q_y - dx * q_x)
        expected = np.mean(visibility * np.cos(phase))
        assert found["dirty"][32 + dy, 32 + dx] == pytest.approx(expected, abs=2e-3)


def test_noise_level(process):
    """A table without rows is an empty sky."""
    found = observe(process, sources()[:0], FIELD, 1)
    noise = found["dirty"][found["primary_beam"] > 0.2]
    assert noise.std() == pytest.approx(48e-6, rel=0.05)
    assert abs(noise.mean()) < 3e-6


def test_simalma_gives_what_simobserve_gives(process):
    """Bit by bit, with the only seed that simalma knows."""
    one = observe(process, sources(), SMALL, casa_seed("casa-default"))
    other = observe(process, sources(), SMALL, 11111, task="observe", simulator="simalma")
    for name, array in one.items():
        assert np.array_equal(array, other[name], equal_nan=True), name


@pytest.mark.parametrize("seed", [5, None])
@pytest.mark.parametrize("kind", ["sources", "image", "empty"])
@pytest.mark.parametrize("weighting", ["natural", "briggs"])
def test_same_as_simobserve(process, weighting, kind, seed):
    setup = replace(SMALL, weighting=weighting)
    sky = {"sources": sources(), "image": point_sky(setup, 12, 40), "empty": sources()[:0]}[kind]
    expected = observe(process, sky, setup, seed, task="observe")
    found = observe(process, sky, setup, seed)
    assert sorted(found) == ["dirty", "primary_beam", "psf", "uv", "weights"]
    for name, array in expected.items():
        assert np.array_equal(found[name], array, equal_nan=True), name
    assert np.nanmax(np.abs(found["dirty"])) > 0 or (kind, seed) == ("empty", None)


def test_same_with_several_channels(process):
    setup = replace(SMALL, n_channels=3, bandwidth=1 * u.GHz)
    expected = observe(process, sources(), setup, 8, task="observe")
    found = observe(process, sources(), setup, 8)
    assert np.array_equal(found["dirty"], expected["dirty"], equal_nan=True)


def test_seed_and_water_vapour_decide_the_noise(process):
    dry, wet = replace(SMALL, pwv=0.472 * u.mm), replace(SMALL, pwv=5.186 * u.mm)
    empty = sources()[:0]
    one, same, other, noisier = (
        observe(process, empty, setup, seed)["dirty"]
        for setup, seed in ((dry, 1), (dry, 1), (dry, 2), (wet, 1))
    )
    assert np.array_equal(one, same)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.5
    assert np.corrcoef(one.ravel(), noisier.ravel())[0, 1] > 0.9
    assert 1.3 < noisier.std() / one.std() < 2.5


def test_sets_are_made_once_and_bounded(tmp_path, monkeypatch):
    """The set that was used last stays, however little room there is."""
    setups = [replace(SMALL, hour_angle=angle * u.hourangle) for angle in (0, 1)]
    with CasaProcess(scratch_dir=tmp_path) as process:

        def sets():
            return {path for path in tmp_path.glob("*/*") if len(path.name) == 16}

        log = tmp_path / "log"
        observe(process, sources(), setups[0], 1, log_file=log)
        (first,) = sets()
        observe(process, sources(), setups[0], 2, log_file=log)
        observe(process, sources(), replace(setups[0], pwv=3 * u.mm), 2, log_file=log)
        assert log.read_text().count("Begin Task: simobserve") == 1
        observe(process, sources(), setups[1], 1, log_file=log)
        assert len(sets()) == 2
        monkeypatch.setattr(_casa_process, "_SCRATCH_BYTES", 1)
        observe(process, sources(), setups[0], 1, log_file=log)
        assert sets() == {first}
        assert log.read_text().count("Begin Task: simobserve") == 2


def test_visibilities_of_zero_are_refused_and_cost_nothing(process, tmp_path):
    setup = replace(SMALL, image_size=512)
    with pytest.raises(_casa_process.CasaError, match="zero or flagged"):
        observe(process, point_sky(setup, 0, 0), setup, 1, log_file=tmp_path / "log", retries=3)
    assert (tmp_path / "log").read_text().count("Begin Task: simobserve") == 1
