"""The command line: what it refuses, what it writes, and how it ends."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.nddata import CCDData
from click.testing import CliRunner

import diffsky
from diffsky import DiffskyWarning, DiffusionDeconvolver, _options, cli
from diffsky._simulate_command import QUANTITIES
from diffsky.backend import PRECISIONS
from diffsky.catalog import match_catalogs, read_catalog
from diffsky.cli import main
from diffsky.deconvolution import STRATEGIES, get_preset
from diffsky.diffusion import Denoiser, build_network
from diffsky.simulation import ObservationSetup, PairStore, SkyPrior

ROOT = Path(__file__).resolve().parents[1]
RMS = 4e-5
SIZE = 96
FILES = {"sky.fits", "catalog.ecsv", "catalog.reg", "overview.png"}
needs_casa = pytest.mark.skipif(
    importlib.util.find_spec("casatools") is None, reason="CASA is not installed"
)


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def start(*arguments):
    code = "from diffsky.cli import main; main(prog_name='diffsky')"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def last_line(result):
    """The only line of stderr that is not about progress."""
    return [line for line in result.stderr.splitlines() if line.startswith("diffsky: ")][-1]


def beam_image(pixels):
    """A Gaussian of the beam, 0.9 arcsec, with a peak of 1."""
    y, x = np.indices((SIZE, SIZE)) - SIZE // 2
    return np.exp(-4 * np.log(2) * (x**2 + y**2) / pixels**2)


def write_fits(path, data, **cards):
    header = fits.Header()
    header["BUNIT"] = "Jy/beam"
    for axis, name, value in ((1, "RA---SIN", 150.0), (2, "DEC--SIN", 2.0)):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = name, value
        header[f"CRPIX{axis}"], header[f"CUNIT{axis}"] = SIZE // 2 + 1, "deg"
        header[f"CDELT{axis}"] = (-1) ** axis * 0.1 / 3600
    header["BMAJ"] = header["BMIN"] = 0.9 / 3600
    header["BPA"] = 0.0
    header.update(cards)
    fits.writeto(path, data.astype(np.float32), header)
    return path


@pytest.fixture(scope="module")
def dirty_file(tmp_path_factory):
    """Noise of the beam and a point source of 25 rms, 8 pixels west and 5 north of the centre."""
    folder = tmp_path_factory.mktemp("images")
    beam = beam_image(9.0)
    response = np.fft.rfft2(np.fft.ifftshift(beam))
    white = np.random.default_rng(2).normal(size=(SIZE, SIZE))
    noise = np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(np.abs(response)))
    source = 25 * RMS * np.roll(beam, (5, 8), axis=(0, 1))
    data = noise / noise.std() * RMS + source
    return write_fits(folder / "dirty.fits", data, TELESCOP="ALMA", FREQ=230e9)


@pytest.fixture(scope="module")
def psf_file(dirty_file):
    return write_fits(dirty_file.with_name("psf.fits"), beam_image(9.0))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny network that was never trained, with two steps of the sampler."""
    preset = get_preset("small")
    preset = replace(
        preset,
        network={**preset.network, "channels": (8, 8)},
        sampling={**preset.sampling, "n_steps": 2},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = Denoiser(build_network(preset.network), sigma_data=preset.sigma_data)
    deconvolver = DiffusionDeconvolver()
    about = {"name": "tiny", "version": 1, "preset": "small", "training": {}, "merits": {}}
    deconvolver._adopt(denoiser, preset, about)
    folder = tmp_path_factory.mktemp("weights")
    deconvolver.save(folder)
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_help_and_version_import_nothing_heavy():
    code = """
import sys
from diffsky.cli import main
for option in (["--help"], ["--version"], ["demo", "--help"], ["predict", "--help"]):
    try:
        main(option)
    except SystemExit as end:
        assert end.code == 0, end.code
heavy = {"torch", "numpy", "astropy", "matplotlib", "photutils", "casatools"} & set(sys.modules)
assert not heavy, heavy
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"diffsky {diffsky.__version__}" in done.stdout
    assert "demo" in done.stdout
    assert "predict" in done.stdout


def test_choices_are_those_of_the_estimator():
    assert cli.STRATEGIES == STRATEGIES
    assert _options.PRECISIONS == PRECISIONS
    assert DiffusionDeconvolver._default_weights == cli.WEIGHTS


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "Missing command"),
        (["nonsense"], "No such command 'nonsense'"),
        (["demo", "--nonsense"], "No such option"),
        (["demo", "--n-samples", "0"], "0 is not in the range x>=1"),
        (["demo", "--seed", "-1"], "-1 is not in the range"),
        (["demo", "--seed", "1.5"], "'1.5' is not a valid integer"),
        (["predict"], "Missing argument 'IMAGE'"),
        (["predict", "missing.fits"], "'missing.fits' does not exist"),
        (["predict", "DIRTY", "--strategy", "mode"], "'median', 'mean', 'detect-aggregate'"),
        (["predict", "DIRTY", "--precision", "int8"], "'auto', 'float32', 'bfloat16'"),
        (["predict", "DIRTY", "--beam", "1,2"], "expected MAJOR or MAJOR,MINOR,PA"),
        (["predict", "DIRTY", "--beam", "wide"], "expected MAJOR or MAJOR,MINOR,PA"),
        (["predict", "DIRTY", "--rms", "none.fits"], "'none.fits' does not exist"),
        (["predict", "DIRTY", "--psf", "none.fits"], "'none.fits' does not exist"),
        (["predict", "DIRTY", "--regions", "none.reg"], "'none.reg' does not exist"),
    ],
)
def test_wrong_usage_is_one_line(arguments, text, dirty_file, tmp_path):
    result = run(*(dirty_file if word == "DIRTY" else word for word in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert text in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--weights", "nonsense"], "no weights 'nonsense'; expected a folder"),
        (["--beam", "0.5"], "contradicts that of the image"),
        (["--rms", "-1"], "rms has values from -1 to -1"),
        (["--primary-beam", "7"], "primary_beam has values from 7 to 7, expected 0 to 1"),
        (["--psf", "DIRTY"], "psf has a peak of"),
        (["--regions", "DIRTY"], "is no region file; expected DS9, CRTF or FITS"),
        (["--device", "abacus"], "device 'abacus' is not known; expected cuda, mps or cpu"),
    ],
)
def test_what_cannot_be_used_is_refused(options, text, dirty_file, weights, tmp_path):
    options = [dirty_file if word == "DIRTY" else word for word in options]
    result = run("predict", dirty_file, "--weights", weights, *options)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert text in last_line(result)
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    result = run("predict", "notes.txt")
    assert result.exit_code == 1
    assert "not a readable FITS file" in last_line(result)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("command", ["demo", "predict"])
def test_a_folder_in_use_is_refused_before_anything_runs(command, dirty_file, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    image = [dirty_file] if command == "predict" else []
    for folder, text in ((tmp_path, "is not empty"), (tmp_path / "notes.txt", "is a file")):
        result = run(command, *image, "--weights", "nonsense", "--output", folder)
        assert result.exit_code == 1
        assert text in last_line(result)
        assert len(result.stderr.splitlines()) == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_predict_writes_what_can_be_read(dirty_file, psf_file, weights, tmp_path):
    options = ["--weights", weights, "--n-samples", 3, "--seed", 5, "--psf", psf_file]
    result = run("predict", dirty_file, *options)
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / "dirty-diffsky"
    assert {path.name for path in folder.iterdir()} == FILES | {"residual.fits"}
    assert "Written to dirty-diffsky" in result.stdout
    assert "--seed 5" in result.stdout
    sky = CCDData.read(folder / "sky.fits")
    assert sky.shape == sky.uncertainty.array.shape == (SIZE, SIZE)
    assert (sky.unit, sky.meta["SEED"]) == (u.Jy / u.pix, 5)
    assert CCDData.read(folder / "residual.fits").unit == u.Jy / u.beam
    assert read_catalog(folder / "catalog.ecsv").meta["seed"] == 5
    assert re.search(r"\d+\.\d s  drawing 3 samples", result.stderr)


def test_predict_repeats_a_seed_that_it_drew(dirty_file, weights, tmp_path):
    options = ["--weights", weights, "--n-samples", 2, "--precision", "float32"]
    first = run("predict", dirty_file, *options, "--output", "first")
    seed = re.search(r"--seed (\d+)", first.stdout)[1]
    for name, number in (("same", seed), ("other", int(seed) + 1)):
        assert (
            run("predict", dirty_file, *options, "--output", name, "--seed", number).exit_code == 0
        )
    first, same, other = (
        CCDData.read(tmp_path / n / "sky.fits") for n in ("first", "same", "other")
    )
    np.testing.assert_array_equal(first.data, same.data)
    assert not np.array_equal(first.data, other.data)


def test_predict_replaces_a_run_only_if_asked(dirty_file, weights):
    options = ["predict", dirty_file, "--weights", weights, "--n-samples", 1, "--output", "out"]
    assert run(*options).exit_code == 0
    assert run(*options).exit_code == 1
    assert run(*options, "--overwrite", "--seed", 8).exit_code == 0
    assert CCDData.read("out/sky.fits").meta["SEED"] == 8


def test_options_reach_the_estimator(dirty_file, weights, tmp_path):
    options = ["--strategy", "mean", "--rms", 8e-5, "--primary-beam", "1", "--beam", "0.9"]
    result = run("predict", dirty_file, "--weights", weights, "--n-samples", 2, *options)
    assert result.exit_code == 0, result.stderr
    header = fits.getheader(tmp_path / "dirty-diffsky" / "sky.fits")
    assert header["STRATEGY"] == "mean"
    assert header["RMS"] == pytest.approx(8e-5)


@pytest.mark.filterwarnings("always::diffsky.DiffskyWarning")
def test_warnings_are_one_line(dirty_file, weights, tmp_path):
    with fits.open(dirty_file) as hdus:
        del hdus[0].header["TELESCOP"]
        hdus.writeto(tmp_path / "unknown.fits")
    result = run("predict", "unknown.fits", "--weights", weights, "--n-samples", 1)
    assert result.exit_code == 0, result.stderr
    warning = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warning) == 1
    assert "no primary beam is known" in warning[0]
    assert issubclass(DiffskyWarning, Warning)


@pytest.mark.slow
def test_the_bundled_weights_find_a_bright_source(dirty_file):
    result = run("predict", dirty_file, "--n-samples", 4, "--seed", 1, "--primary-beam", "1")
    assert result.exit_code == 0, result.stderr
    catalog = read_catalog("dirty-diffsky/catalog.ecsv")
    sky = CCDData.read("dirty-diffsky/sky.fits")
    truth = sky.wcs.pixel_to_world(SIZE // 2 + 8, SIZE // 2 + 5).icrs.reshape(1)
    matches = match_catalogs(catalog, truth, radius=0.45 * u.arcsec)
    assert len(matches) == 1
    source = catalog[int(matches.catalog_index[0])]
    assert source["reliability"] == 1
    assert source["flux"].to_value(u.Jy) == pytest.approx(25 * RMS, rel=0.3)


def test_without_casa_the_demo_names_the_extra(weights, tmp_path, monkeypatch):
    monkeypatch.setattr("diffsky.simulation._casa_process._PACKAGES", ("no_such_casa",))
    result = run("demo", "--weights", weights, "--seed", 1)
    assert result.exit_code == 1
    assert 'pip install "diffsky-radio[casa]"' in last_line(result)
    assert list(tmp_path.iterdir()) == []


@needs_casa
def test_a_time_limit_of_casa_is_an_error_with_its_lines(weights, tmp_path, monkeypatch):
    logs = tmp_path / "logs"
    logs.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(logs))
    monkeypatch.setattr("diffsky.simulation.demo._TIMEOUT", 0.2 * u.s)
    result = run("demo", "--weights", weights, "--seed", 1)
    assert result.exit_code == 1
    assert "CASA did not finish within 0.2 s and was killed" in last_line(result)
    assert "The whole log:" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


@needs_casa
@pytest.mark.slow
def test_an_interrupted_demo_ends_at_once_and_leaves_nothing(weights, tmp_path):
    process = start("demo", "--weights", weights, "--output", tmp_path / "out")
    seen = ""
    while "observing" not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "diffsky: interrupted"
    assert out == ""
    assert list(tmp_path.iterdir()) == []


@needs_casa
@pytest.mark.slow
def test_the_demo_from_start_to_end(weights, tmp_path):
    outputs = []
    for name in ("first", "same"):
        options = ["--weights", weights, "--n-samples", 3, "--seed", 11, "--output", name]
        process = start("demo", *options)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        outputs.append(out.replace(f"Written to {name}:", "Written to"))
        assert {path.name for path in (tmp_path / name).iterdir()} == FILES | {
            "dirty.fits",
            "truth.ecsv",
        }
        for stage in ("loading the weights", "observing", "drawing 3 samples", "plotting", "done"):
            assert re.search(rf"^ *\d+\.\d s  {stage}", err, re.MULTILINE)
    assert outputs[0] == outputs[1]
    assert "purity" in outputs[0] or "nothing is claimed" in outputs[0]
    first, same = (tmp_path / name for name in ("first", "same"))
    truth = read_catalog(first / "truth.ecsv")
    assert 1 <= len(truth) <= 5
    assert truth.meta["seed"] == 11
    assert truth.meta["observation"]["seed"] != 11111
    for name in ("sky.fits", "dirty.fits"):
        one, two = (CCDData.read(folder / name) for folder in (first, same))
        np.testing.assert_array_equal(one.data, two.data)
    assert one.unit == u.Jy / u.beam
    rms = 1.4826 * np.nanmedian(np.abs(one.data - np.nanmedian(one.data)))
    assert 3e-5 < rms < 7e-5  # D24's published images have 4.64e-5 to 4.94e-5
    assert (first / "overview.png").read_bytes()[:4] == b"\x89PNG"


SMALL_OPTIONS = (
    "--image-size", "64", "--cell", "0.2arcsec", "--total-time", "1min", "--integration", "60s",
    "--pblimit", "0.9",
)  # fmt: skip


@needs_casa
@pytest.mark.slow
def test_simulate_makes_pairs_and_appends(tmp_path):
    prior = SkyPrior(n_sources=(2, 2), flux=(0.01, 0.05), half_width=4.0)
    (tmp_path / "prior.json").write_text(prior.to_json())
    store = tmp_path / "pairs"
    options = ("--prior", tmp_path / "prior.json", "--hour-angle", "-1h", *SMALL_OPTIONS)
    for n in (1, 2):
        result = run("simulate", store, "--n", n, *options)
        assert result.exit_code == 0, result.output
        assert f"{n} pairs in {store}" in result.stdout
    pairs = PairStore(store, mode="r")
    assert [len(pairs.read(number).sources) for number in (0, 1)] == [2, 2]
    assert pairs.parameters(0)["hour_angle"] == -1
    assert pairs.parameters(0)["cell"] == pytest.approx(0.2)
    result = run("simulate", store, "--n", 2, *options, "--pwv", "3mm")
    assert result.exit_code == 1
    assert "made with pwv 1.796; expected 3" in last_line(result)


@needs_casa
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--frequency", "230"], "'230' has no unit; expected a quantity such as 230GHz"),
        (["--frequency", "230arcsec"], "frequency"),
        (["--prior", "nowhere.json"], "prior is 'nowhere.json'; expected one of independent"),
        (["--direction", "150.119 2.2"], "direction is '150.119 2.2'; expected a SkyCoord"),
        (["--array", "alma.cycle5.33"], "alma.cycle5.3"),
        (["--n", "0"], "0 is not in the range"),
    ],
)
def test_simulate_refuses_before_it_starts(options, text, tmp_path, monkeypatch):
    monkeypatch.setattr("diffsky.simulation._casa_process.subprocess.Popen", None)
    result = run("simulate", tmp_path / "pairs", "--n", 1, *SMALL_OPTIONS, *options)
    assert result.exit_code in (1, 2)
    assert text in last_line(result)
    assert not (tmp_path / "pairs").exists()


def test_simulate_has_the_defaults_of_the_setup():
    default = ObservationSetup()
    for name, text in QUANTITIES.items():
        assert u.Quantity(text.replace("0h", "0hourangle")) == getattr(default, name)
