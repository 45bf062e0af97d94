"""diffsky evaluate: what it refuses, what it writes, and that it goes on where it stopped."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table
from click.testing import CliRunner
from stored_pairs import make_pair

from diffsky import DiffusionDeconvolver, evaluation
from diffsky._evaluate_command import RESULTS
from diffsky.cli import main
from diffsky.deconvolution import STRATEGIES, get_preset
from diffsky.diffusion import Denoiser, build_network
from diffsky.evaluation import StoredResults, _figures
from diffsky.simulation import PairStore
from diffsky.simulation.sources import SourceList

ROOT = Path(__file__).resolve().parents[1]
N_PAIRS = 3
WRITTEN = {"report.html", "summary.ecsv", "reliability.ecsv", "scores.png"}


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
    about = {"name": "tiny", "version": 1, "preset": "small", "training": {}, "merits": {}}
    deconvolver = DiffusionDeconvolver()
    deconvolver._adopt(denoiser, preset, about)
    folder = tmp_path_factory.mktemp("weights")
    deconvolver.save(folder)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "store"
    pairs = PairStore(path)
    for number in range(N_PAIRS):
        pairs.write(number, make_pair(number, size=48, weighting="natural"))
    return path


@pytest.fixture(autouse=True)
def _quick_report(monkeypatch):
    """Few bootstraps and no figures; `monkeypatch.undo` gives the whole report."""
    quick = functools.partial(evaluation.make_report, n_bootstrap=5)
    monkeypatch.setattr(evaluation, "make_report", quick)
    monkeypatch.setattr(_figures, "make_figures", lambda tables: {})


@pytest.fixture
def evaluate(store, weights):
    def run(output, *options, pairs=store, n_samples=3, weights=weights):
        words = [
            "evaluate", pairs, "--weights", weights, "--output", output, "--n-samples", n_samples,
            "--device", "cpu", *options,
        ]  # fmt: skip
        return CliRunner().invoke(main, [str(word) for word in words])

    return run


def stored(output):
    return sorted(path.name for path in (output / RESULTS).glob("*.npz"))


def test_report_is_written(evaluate, tmp_path, monkeypatch):
    monkeypatch.undo()  # the whole report
    result = evaluate(tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names > WRITTEN | {RESULTS}
    summary = Table.read(tmp_path / "out" / "summary.ecsv")
    assert set(summary["method"]) == {*STRATEGIES, "single run", "matched filter", "true sky"}
    assert set(summary["n_fields"]) == {N_PAIRS}
    assert summary.meta["settings"]["weights"] == "tiny"
    assert "matched filter" in result.stdout
    assert "report.html" in result.stdout
    assert not [name for name in names if name.startswith(".")]


def test_it_goes_on_where_it_was_stopped(evaluate, tmp_path, monkeypatch):
    whole = evaluate(tmp_path / "whole")
    assert whole.exit_code == 0
    real, seen = evaluation.evaluate_pair, []

    def stop_at_second(*arguments, number, **options):
        seen.append(number)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(*arguments, number=number, **options)

    monkeypatch.setattr(evaluation, "evaluate_pair", stop_at_second, raising=False)
    stopped = evaluate(tmp_path / "out")
    assert stopped.exit_code == 130
    assert stored(tmp_path / "out") == ["field-00000000.npz"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [RESULTS]
    first = (tmp_path / "out" / RESULTS / "field-00000000.npz").read_bytes()
    again = evaluate(tmp_path / "out")
    assert again.exit_code == 0, again.stderr
    assert seen == [0, 1, 1, 2]
    assert "2 pairs, 1 are stored" in again.stderr
    assert (tmp_path / "out" / RESULTS / "field-00000000.npz").read_bytes() == first
    for one in (tmp_path / "whole").glob("*.ecsv"):
        assert (tmp_path / "out" / one.name).read_text() == one.read_text()
    done = evaluate(tmp_path / "out")
    assert done.exit_code == 0
    assert seen == [0, 1, 1, 2]


def test_a_failing_report_leaves_the_results(evaluate, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluation, "write_report", fail, raising=False)
    result = evaluate(tmp_path / "out")
    assert result.exit_code == 1
    assert "No space left" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == [RESULTS]
    assert len(stored(tmp_path / "out")) == N_PAIRS


def test_more_pairs_and_other_options(evaluate, tmp_path):
    assert evaluate(tmp_path / "out", "--n", 1).exit_code == 0
    assert len(stored(tmp_path / "out")) == 1
    assert evaluate(tmp_path / "out", "--n", 2).exit_code == 0
    assert len(stored(tmp_path / "out")) == 2
    other = evaluate(tmp_path / "out", "--n", 2, "--seed", 5)
    assert other.exit_code == 1
    assert "seed 1, now 5" in other.stderr
    replaced = evaluate(tmp_path / "out", "--n", 1, "--seed", 5, "--overwrite")
    assert replaced.exit_code == 0, replaced.stderr
    assert len(stored(tmp_path / "out")) == 1
    assert StoredResults.load(tmp_path / "out" / RESULTS).settings["seed"] == 5


def test_changed_weights_of_the_same_name_are_others(evaluate, weights, tmp_path):
    changed = DiffusionDeconvolver.load(weights)
    with torch.no_grad():
        next(changed.denoiser_.parameters()).add_(0.1)
    changed.save(tmp_path / "changed")
    assert evaluate(tmp_path / "out", "--n", 1).exit_code == 0
    before = StoredResults.load(tmp_path / "out" / RESULTS).settings
    refused = evaluate(tmp_path / "out", "--n", 1, weights=tmp_path / "changed")
    assert refused.exit_code == 1
    assert f"sha256 '{before['sha256']}', now" in refused.stderr
    options = {"weights": tmp_path / "changed"}
    assert evaluate(tmp_path / "out", "--n", 1, "--overwrite", **options).exit_code == 0
    after = StoredResults.load(tmp_path / "out" / RESULTS).settings
    assert {k for k in after if after[k] != before[k]} == {"sha256"}


def test_sweep_has_a_group_for_each_value(evaluate, tmp_path):
    for k, name in enumerate(("pwv=0.5mm", "pwv=5mm")):
        pairs = PairStore(tmp_path / "sweep" / name)
        for number in range(2):
            pairs.write(number, make_pair(number + 10 * k, size=48, weighting="natural"))
    result = evaluate(tmp_path / "out", pairs=tmp_path / "sweep")
    assert result.exit_code == 0, result.stderr
    summary = Table.read(tmp_path / "out" / "summary.ecsv")
    assert set(summary["group"]) == {"all", "pwv=0.5mm", "pwv=5mm"}
    assert dict(zip(summary["group"], summary["n_fields"], strict=True))["pwv=5mm"] == 2


@pytest.mark.filterwarnings("always::diffsky.DiffskyWarning")
def test_validation_gives_thresholds(evaluate, tmp_path):
    assert evaluate(tmp_path / "one", "--n", 2).exit_code == 0
    result = evaluate(tmp_path / "two", "--validation", tmp_path / "one")
    assert result.exit_code == 0, result.stderr
    settings = Table.read(tmp_path / "two" / "summary.ecsv").meta["settings"]
    assert settings["validation"] == str(tmp_path / "one")
    assert settings["thresholds"]["matched filter"] != 4.0
    assert "warning: the validation is of the pairs that are scored" in result.stderr
    refused = evaluate(tmp_path / "three", "--validation", tmp_path / "one", n_samples=4)
    assert refused.exit_code == 1
    assert "n_samples 3, here 4; expected the same weights" in refused.stderr
    other = evaluate(tmp_path / "three", "--validation", tmp_path / "one", "--psf", "--n-steps", 3)
    assert "n_steps" in other.stderr
    assert "use_psf None, here True" in other.stderr
    assert not (tmp_path / "three").exists()


def test_nothing_to_calibrate_with_is_said(evaluate, tmp_path):
    result = evaluate(tmp_path / "out", "--n", 1, "--calibrate", tmp_path / "new")
    assert result.exit_code == 1
    assert "nothing was detected: there is nothing to recalibrate with" in result.stderr
    assert (tmp_path / "out" / "report.html").exists()
    assert not (tmp_path / "new").exists()


@pytest.mark.filterwarnings("always::diffsky.DiffskyWarning")
def test_weights_get_a_recalibration_and_the_next_report_has_it(evaluate, tmp_path):
    options = {"weights": "alma-band6"}  # which find something
    result = evaluate(tmp_path / "one", "--calibrate", tmp_path / "new", **options)
    assert result.exit_code == 0, result.stderr
    assert "warning: the recalibration was fitted to" in result.stderr
    about = json.loads((tmp_path / "new" / "description.json").read_text())["recalibration"]
    assert (about["n_samples"], about["n_fields"], about["prior"]) == (3, N_PAIRS, "store")
    assert about == {
        **json.loads((tmp_path / "one" / "recalibration.json").read_text()),
        "prior": "store",
        "sampling": about["sampling"],
    }
    diagram = Table.read(tmp_path / "one" / "reliability.ecsv")
    assert not any(diagram["recalibrated"])
    again = evaluate(tmp_path / "two", weights=tmp_path / "new")
    assert again.exit_code == 0, again.stderr
    diagram = Table.read(tmp_path / "two" / "reliability.ecsv")
    assert any(diagram["recalibrated"])
    assert "store" in diagram.meta["settings"]["recalibration"]["median"]
    full = evaluate(tmp_path / "three", "--calibrate", tmp_path / "new")
    assert full.exit_code == 1
    assert "holds weights; pass --overwrite" in full.stderr
    assert not (tmp_path / "three").exists()


@pytest.mark.filterwarnings("always::diffsky.DiffskyWarning")
def test_pairs_without_list_of_sources_are_left_out(evaluate, tmp_path):
    pairs = PairStore(tmp_path / "store")
    whole = make_pair(0, size=48, weighting="natural")
    pairs.write(0, whole)
    pairs.write(1, replace(whole, sources=whole.sources[:0]))
    result = evaluate(tmp_path / "out", pairs=tmp_path / "store")
    assert result.exit_code == 0, result.stderr
    assert "1 pairs are left out (1: pair 1 has no list" in result.stderr
    assert len(stored(tmp_path / "out")) == 1


@pytest.mark.filterwarnings("always::diffsky.DiffskyWarning")
def test_bright_pairs_are_counted_in_one_warning(evaluate, weights, tmp_path):
    known = DiffusionDeconvolver.load(weights)
    known.description_["training"] = {"pairs": {"largest_flux": 100.0}}
    known.save(tmp_path / "known")
    zero, pairs = np.zeros(1), PairStore(tmp_path / "store")
    bright = SourceList(zero, zero, np.array([2e-2]), zero, zero, zero)
    pairs.write(0, make_pair(0, size=48, weighting="natural"))
    for number in (1, 2):
        pairs.write(number, make_pair(number, size=48, sources=bright, weighting="natural"))
    result = evaluate(tmp_path / "out", pairs=tmp_path / "store", weights=tmp_path / "known")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("the image peaks at") == 2
    assert "2 pairs gave a warning (1: the image peaks at" in result.stderr


def test_refusals_come_before_anything_is_made(evaluate, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    PairStore(tmp_path / "empty")
    (tmp_path / "nothing").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for output, options, text in [
        ("full", {}, "is not empty and has no results"),
        ("full/mine.txt", {}, "is a file"),
        ("out", {"pairs": tmp_path / "empty"}, "there is no pair in"),
        ("out", {"pairs": tmp_path / "nothing"}, "is no store of pairs"),
    ]:
        result = evaluate(tmp_path / output, **options)
        assert (result.exit_code, result.stdout) == (1, "")
        assert text in result.stderr.splitlines()[-1]
    no_report = evaluate(tmp_path / "out", "--validation", tmp_path / "full")
    assert "has no results of diffsky evaluate" in no_report.stderr
    monkeypatch.setitem(sys.modules, "tarp", None)
    assert "diffsky-radio[evaluation]" in evaluate(tmp_path / "out").stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_wrong_usage_is_one_line(tmp_path):
    for words, text in [
        (["evaluate"], "Missing argument 'STORE'"),
        (["evaluate", "none", "--output", "o"], "'none' does not exist"),
        (["evaluate", str(tmp_path)], "Missing option '--output'"),
        (["evaluate", str(tmp_path), "--output", "o", "--n", "0"], "0 is not in the range"),
    ]:
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert text in result.stderr


def test_help_imports_nothing_heavy():
    code = """
import sys
from diffsky.cli import main
try:
    main(["evaluate", "--help"])
except SystemExit as end:
    assert end.code == 0, end.code
heavy = {"torch", "numpy", "astropy", "matplotlib", "tarp", "zarr"} & set(sys.modules)
assert not heavy, heavy
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--validation" in done.stdout


@pytest.mark.slow
def test_a_killed_run_loses_nothing_that_was_stored(store, weights, evaluate, tmp_path):
    code = "from diffsky.cli import main; main(prog_name='diffsky')"
    words = ["evaluate", store, "--weights", weights, "--output", tmp_path / "out"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words), "--n-samples", "3", "--device", "cpu"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if (tmp_path / "out" / RESULTS).is_dir() and stored(tmp_path / "out"):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = stored(tmp_path / "out")
    assert kept
    results = StoredResults.load(tmp_path / "out" / RESULTS).read()
    assert all(np.isfinite(one.rms) for one in results)
    result = evaluate(tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert f"{len(kept)} are stored" in result.stderr
