"""Pairs by real CASA: the same whoever makes them, resumed, and never lost."""

import random
import shutil
import signal
import time
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable
from small_casa import SMALL, needs_casa, point_sky, processes_in, start_python, wait_for

from diffsky.exceptions import DiffskyWarning
from diffsky.instrument import find_array
from diffsky.simulation import (
    CasaError,
    GeneralPrior,
    PairStore,
    SkyPrior,
    simulate_pair,
    simulate_pairs,
)
from diffsky.simulation._pair_maker import resolve_sky
from diffsky.simulation._pair_run import _Outcome
from diffsky.simulation._pair_series import PairSeries, missing_numbers

PRIOR = SkyPrior(n_sources=(2, 4), flux=(0.01, 0.05), half_width=4.0)
SETUPS = [SMALL, replace(SMALL, direction=SkyCoord(150.3, 1.5, unit="deg"))]
TIMEOUT = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def made(folder):
    """Four pairs by two processes."""
    return simulate_pairs(
        PRIOR,
        SETUPS,
        seed=5,
        n=4,
        store=folder / "store",
        workers=2,
        timeout=TIMEOUT,
        log_dir=folder / "logs",
        work_dir=folder / "work",
    )


def setup_of(pair):
    return next(s for s in SETUPS if abs(s.wcs.wcs.crval[0] - pair.dirty.wcs.wcs.crval[0]) < 1e-6)


@needs_casa
@pytest.mark.slow
def test_everything_is_kept(made, folder):
    assert made.numbers() == [0, 1, 2, 3]
    assert sorted(path.name for path in (folder / "logs").iterdir()) == [
        f"{number:08d}.log" for number in range(4)
    ]
    assert list((folder / "work").iterdir()) == []
    pairs = [made.read(number) for number in range(4)]
    assert {setup_of(pair) is SMALL for pair in pairs} == {True, False}
    assert len({pair.parameters["seed"] for pair in pairs}) == 4
    for number, pair in enumerate(pairs):
        assert pair.parameters["number"] == number
        assert pair.parameters["casa_version"].startswith("6.")
        assert 2 <= len(pair.sources) <= 4
        assert pair.sky.data.sum() == pytest.approx(pair.sources["flux"].sum().value, rel=1e-3)
        beam = np.sqrt(pair.beam.major * pair.beam.minor)
        assert pair.sky.meta["kernel_fwhm"].to_value("arcsec") == pytest.approx(
            max(0.4 * beam.to_value("arcsec"), 1.7 * 0.2), rel=1e-6
        )


@needs_casa
@pytest.mark.slow
def test_the_truth_lies_under_the_image(made):
    """The true sky, seen through primary beam and PSF, is the dirty image but for the noise."""
    pair = made.read(0)
    apparent = pair.sky.data * pair.primary_beam.data
    kernel = pair.sky.meta["kernel_fwhm"].to_value("arcsec") / 0.2 / np.sqrt(8 * np.log(2))
    y, x = np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)
    narrower = np.exp(2 * (np.pi * kernel) ** 2 * (y**2 + x**2).clip(max=0.05))
    wide = np.zeros((2, 128, 128))
    wide[0, :64, :64] = apparent
    wide[1, :64, :64] = pair.psf.data
    sky, psf = np.fft.fft2(wide)
    seen = np.roll(np.fft.ifft2(sky * narrower * psf).real, (-32, -32), (0, 1))[:64, :64]
    good = np.hypot(*(np.indices((64, 64)) - 32)) < 20
    residual = (pair.dirty.data - seen)[good]
    assert np.nanstd(residual) < 0.1 * np.nanstd(pair.dirty.data[good])


@needs_casa
@pytest.mark.slow
def test_a_number_is_always_the_same_pair(made, tmp_path):
    """Made by one process, in another order, after an interruption, or by itself."""
    again = tmp_path / "again"
    shutil.copytree(made.path, again)
    for number in (0, 2):
        shutil.rmtree(again / "pairs" / f"{number:08d}")
    kept = (again / "pairs" / "00000001").stat().st_mtime
    again = simulate_pairs(PRIOR, SETUPS, seed=5, n=5, store=again, timeout=TIMEOUT)
    assert again.numbers() == [0, 1, 2, 3, 4]
    assert (again.path / "pairs" / "00000001").stat().st_mtime == kept
    for number in (0, 2):
        one, other = made.read(number), again.read(number)
        same_to_rounding(one.dirty.data, other.dirty.data)
        assert np.array_equal(one.sky.data, other.sky.data)
        assert one.parameters == other.parameters
    pair = made.read(0)
    alone = simulate_pair(
        pair.sources, setup_of(pair), seed=pair.parameters["seed"], timeout=TIMEOUT
    )
    same_to_rounding(alone.dirty.data, pair.dirty.data)
    same_to_rounding(alone.sky.data, pair.sky.data)
    np.testing.assert_allclose(alone.uv, pair.uv, rtol=1e-7)


def same_to_rounding(one, other):
    """CASA's uv points depend in their tenth digit on what the process has observed before."""
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.nanmax(np.abs(other)))


@needs_casa
@pytest.mark.slow
def test_a_store_of_another_series_is_refused(made):
    with pytest.raises(ValueError, match="holds a pair 0 made with series 5; expected 6"):
        simulate_pairs(PRIOR, SETUPS, seed=6, n=4, store=made)
    other = replace(PRIOR, flux=(0.01, 0.06))
    with pytest.raises(ValueError, match="holds a pair 0 made with prior"):
        simulate_pairs(other, SETUPS, seed=5, n=4, store=made)
    with pytest.raises(ValueError, match="holds a pair 0 made with pwv 1.796"):
        simulate_pairs(
            PRIOR, [replace(s, pwv=1 * u.mm) for s in SETUPS], seed=5, n=4, store=made.path
        )
    with pytest.raises(ValueError, match="holds a pair 0 made with kernel_beams 0.4"):
        simulate_pairs(PRIOR, SETUPS, seed=5, n=4, store=made.path, kernel_beams=0.5)


def series_of(skies=PRIOR, setups=SMALL, n=2):
    options = {"noise": "independent", "simulator": "simobserve", "kernel_beams": 0.4}
    return PairSeries(skies=skies, setups=setups, seed=1, n=n, **options)


@needs_casa
def test_what_decides_a_pair_is_in_its_parameters(tmp_path):
    """The positions of the antennas and the sky as well, whatever their names."""
    text = find_array(SMALL.array).read_text()
    own = tmp_path / "own.cfg"
    own.write_text(text)
    setup = replace(SMALL, array=own)
    before = series_of(setups=setup).task(0).job
    own.write_text("\n".join(text.splitlines()[:-1]))  # one antenna less
    after = series_of(setups=setup).task(0).job
    assert {name for name in after if after[name] != before[name]} >= {"antennas_sha256"}
    one, other, same = (
        series_of(skies=[point_sky(SMALL, flux=flux)]).task(0).job["sky_sha256"]
        for flux in (1.0, 2.0, 1.0)
    )
    assert one == same != other


@needs_casa
def test_skies_in_files_are_read_here(tmp_path):
    """Workers on other machines do not see them."""
    point = CCDData(point_sky(SMALL), unit="Jy/pix", wcs=SMALL.wcs)
    point.write(tmp_path / "sky.fits")
    task = series_of(skies=[str(tmp_path / "sky.fits")]).task(1)
    (tmp_path / "sky.fits").unlink()
    np.testing.assert_allclose(task.sky.image, point.data, atol=1e-12)


@needs_casa
def test_gaps_are_filled_last():
    """A pair that fails whenever it is tried must not keep the others from being made."""

    class Stored:
        def numbers(self):
            return [0, 2, 5]

    assert missing_numbers(series_of(n=8), Stored()) == [6, 7, 1, 3, 4]


def test_when_a_run_gives_up():
    """After 8 failures without a success, or 32 after some; never while pairs are made."""
    outcome = _Outcome()
    for number in range(7):
        outcome.failed("", number, ValueError("full"))
        outcome.give_up(8)
    outcome.stored()
    for number in range(7, 38):
        outcome.failed("", number, ValueError("full"))
        outcome.give_up(8)
    outcome.failed("", 38, ValueError("full"))
    with pytest.raises(CasaError, match="the last 32 pairs that were tried failed.*: full"):
        outcome.give_up(8)
    outcome.stored()
    outcome.give_up(8)
    assert "39 of 41 pairs failed" in outcome.describe()


@needs_casa
@pytest.mark.slow
def test_a_pair_that_fails_does_not_stop_the_others(tmp_path):
    setup = replace(SMALL, image_size=512)
    good, outside = point_sky(setup, 256, 256), point_sky(setup, 0, 0)
    options = {"seed": 1, "timeout": TIMEOUT, "log_dir": tmp_path / "logs"}
    with pytest.warns(DiffskyWarning, match=r"1 of 3 pairs failed .*: 1 \(log .*00000001.log\)"):
        store = simulate_pairs([good, outside, good], setup, store=tmp_path / "a", **options)
    assert store.numbers() == [0, 2]
    with pytest.raises(CasaError, match="all 1 pairs that were tried failed.*zero or flagged"):
        simulate_pairs([outside], setup, store=tmp_path / "b", **options)


@needs_casa
@pytest.mark.slow
def test_interrupt_loses_nothing_stored_and_leaves_no_process(tmp_path):
    work, path = tmp_path / "work", tmp_path / "store"
    work.mkdir()
    process = start_python(f"""
from dataclasses import replace
import astropy.units as u
from diffsky.simulation import ObservationSetup, SkyPrior, simulate_pairs
setup = ObservationSetup(
    image_size=64, cell=0.2 * u.arcsec, total_time=1 * u.min, integration=60 * u.s, pblimit=0.9
)
simulate_pairs(
    SkyPrior(flux=(0.01, 0.05), half_width=4.0), setup, seed=2, n=500, store={str(path)!r},
    workers=2, timeout=600, work_dir={str(work)!r},
)
""")
    assert wait_for(lambda: len(list(path.glob("pairs/0*"))) >= 2, limit=600)
    assert len(processes_in(work)) == 2
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert not processes_in(work)
    assert list(work.iterdir()) == []
    store = PairStore(path)
    assert len(store) >= 2
    assert not store.damaged


@needs_casa
@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_nothing(tmp_path):
    """CASA may be writing what has to go."""
    work, path, chance = tmp_path / "work", tmp_path / "store", random.Random(3)
    work.mkdir()
    for count in (1, 3, 5):
        process = start_python(f"""
from small_casa import SMALL
from diffsky.simulation import SkyPrior, simulate_pairs
simulate_pairs(
    SkyPrior(flux=(0.01, 0.05), half_width=4.0), SMALL, seed=2, n=500, store={str(path)!r},
    timeout=600, work_dir={str(work)!r},
)
""")
        assert wait_for(lambda n=count: len(list(path.glob("pairs/0*"))) >= n, limit=600)
        time.sleep(chance.uniform(0, 0.5))
        process.kill()
        process.communicate(timeout=60)
        assert wait_for(lambda: not list(work.iterdir()), limit=60)
        assert not processes_in(work)


@needs_casa
@pytest.mark.slow
def test_a_prior_in_rms_and_beams(tmp_path):
    """The noise of 20 minutes is 48 µJy/beam, of one sqrt(20) times as much."""
    prior = GeneralPrior(
        n_sources=(1, 1), snr=(50, 50), shares=(1, 0, 0, 0), pair_share=0, empty_share=0
    )
    (pair,) = [
        simulate_pairs(prior, SMALL, seed=1, n=1, store=tmp_path / "s", timeout=TIMEOUT).read(0)
    ]
    assert pair.sources["flux"].to_value("mJy") == pytest.approx(50 * 0.048 * 20**0.5, rel=0.1)
    wide = 63 / 2 * 0.2
    assert np.abs(pair.sources["x_centroid"] - 32).max() * 0.2 < wide
    offset = SMALL.direction.separation(pair.sources["sky_centroid"]).to_value("arcsec")
    assert (offset < 2**0.5 * wide).all()


# ---- refusals, before CASA starts ----


@pytest.fixture
def no_process(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("CASA was started")

    monkeypatch.setattr("diffsky.simulation._casa_process.subprocess.Popen", refuse)


def table(flux):
    return QTable({"flux": flux, "sky_centroid": SMALL.wcs.pixel_to_world([32.0], [30.0])})


@needs_casa
@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": None}, ValueError, "n is None; expected a number of pairs"),
        ({"n": 0}, ValueError, "n is 0"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": "casa-default"}, ValueError, "seed is 'casa-default'"),
        ({"workers": 0}, ValueError, "workers is 0"),
        ({"retries": -1}, ValueError, "retries is -1"),
        ({"timeout": 0}, ValueError, "timeout is 0"),
        ({"noise": "white"}, ValueError, "noise is 'white'"),
        ({"simulator": "simalma"}, ValueError, "simalma gives every pair the same noise"),
        ({"simulator": "miriad"}, ValueError, "simulator is 'miriad'"),
        ({"kernel_beams": -1}, ValueError, "kernel_beams is -1"),
        ({"setups": []}, TypeError, "setups are"),
        ({"setups": [SMALL, "alma"]}, TypeError, "a set-up is 'alma'"),
        ({"setups": lambda rng: 1}, TypeError, "a set-up is 1"),
        ({"setups": replace(SMALL, array="alma.cycle5.33")}, ValueError, r"alma\.cycle5\.3\b"),
        ({"skies": []}, ValueError, "skies is empty"),
        ({"skies": point_sky(SMALL)}, TypeError, "expected a prior or a list of skies"),
        ({"skies": "sky.fits"}, TypeError, "expected a prior or a list of skies"),
        ({"skies": ["nowhere.fits"]}, FileNotFoundError, "nowhere.fits"),
        ({"skies": [table([1] * u.Jy), table([-1] * u.Jy)]}, ValueError, "flux is negative"),
        ({"skies": [table([1])]}, ValueError, "flux has no unit"),
        ({"skies": [point_sky(SMALL) * np.nan]}, ValueError, "not finite"),
        ({"skies": [point_sky(SMALL) * 0]}, ValueError, "no flux"),
    ],
)
def test_refused(change, error, message, tmp_path):
    arguments = {"skies": PRIOR, "setups": SMALL, "seed": 1, "n": 2, **change}
    with pytest.raises(error, match=message):
        simulate_pairs(store=tmp_path / "store", **arguments)
    assert not (tmp_path / "store").exists()


@needs_casa
@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seed": None}, ValueError, "seed is None"),
        ({"keep_measurement_set": True}, ValueError, "expected a work_dir"),
        ({"simulator": "simalma"}, ValueError, 'none but "casa-default"'),
        ({"sky": table([1] * u.K)}, ValueError, "flux is in K"),
        ({"sky": "nowhere.ecsv"}, FileNotFoundError, "nowhere.ecsv"),
    ],
)
def test_one_pair_refused(change, error, message):
    arguments = {"sky": point_sky(SMALL), "setup": SMALL, "seed": 1, **change}
    with pytest.raises(error, match=message):
        simulate_pair(**arguments)


@needs_casa
@pytest.mark.usefixtures("no_process")
def test_setups_that_cannot_be_observed_end_soon(tmp_path):
    """A function may draw one now and then, but not always."""
    drawn = []

    def pointing(rng):
        drawn.append(rng)
        dec = 2 if len(drawn) == 1 else 80
        return replace(SMALL, direction=SkyCoord(150, dec, unit="deg"))

    with pytest.raises(CasaError, match="all 8 pairs that were tried failed.*deg of elevation"):
        simulate_pairs(PRIOR, pointing, seed=1, n=1000, store=tmp_path)
    assert len(drawn) == 9


@needs_casa
@pytest.mark.usefixtures("no_process")
def test_small_image_is_told(tmp_path):
    with (
        pytest.warns(DiffskyWarning, match="the image is 12.8 arcsec wide, the primary beam"),
        pytest.raises(AssertionError, match="CASA was started"),
    ):
        simulate_pair(point_sky(SMALL), replace(SMALL, pblimit=0.2), seed=1)


@needs_casa
def test_skies_of_every_kind(tmp_path):
    """A file, a CCDData and an array are one image; a file, a table and a list are one sky."""
    image = point_sky(SMALL, 20, 40, flux=0.5)
    labelled = CCDData(image, unit="Jy/pix", wcs=SMALL.wcs)
    labelled.write(tmp_path / "sky.fits")
    for sky in (image, labelled, tmp_path / "sky.fits", str(tmp_path / "sky.fits")):
        np.testing.assert_allclose(resolve_sky(sky, SMALL).image, image, atol=1e-12)
    drawn = PRIOR.draw(np.random.default_rng(3))
    sources = drawn.to_table(SMALL.wcs)
    sources.write(tmp_path / "sky.ecsv")
    for sky in (drawn, sources, tmp_path / "sky.ecsv"):
        resolved = resolve_sky(sky, SMALL)
        np.testing.assert_allclose(resolved.sources.flux, drawn.flux)
        np.testing.assert_allclose(resolved.sources.x, drawn.x, atol=1e-6)
        np.testing.assert_allclose(resolved.table(SMALL)["pa"], sources["pa"], atol=1e-3 * u.deg)
    assert len(resolve_sky(sources[:0], SMALL).table(SMALL)) == 0
