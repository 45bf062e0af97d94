"""Training in several processes: the same weights as in one, whatever interrupts them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_training import Pairs, make_denoiser, train, weights
from torch.testing import assert_close

from diffsky.backend import select_backend
from diffsky.diffusion._training_module import TrainingModule
from diffsky.diffusion._training_processes import (
    SLURMEnvironment,
    check_processes,
    choose_environment,
    trainer_options,
)
from diffsky.diffusion.weights import is_writer

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "_support" / "two_processes.py"
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
TORCHRUN += ["--rdzv-endpoint=localhost:0"]
# Gradients of two halves are added in another order, and Adam divides by their size.
ROUNDING = {"rtol": 0, "atol": 2e-4}
CPU = torch.device("cpu")
LAUNCHERS = ["TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_RANK", "SLURM_NTASKS", "SLURM_JOB_NAME"]


def run_two(folder, launcher, **options):
    """Train in two processes; weights and results of each."""
    folder.mkdir(parents=True)
    path = [str(ROOT), str(SCRIPT.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), str(folder), json.dumps(options)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert (folder / "result-1.json").is_file(), done.stderr
    results = [json.loads((folder / f"result-{rank}.json").read_text()) for rank in (0, 1)]
    found = [torch.load(folder / f"weights-{rank}.pt", weights_only=True) for rank in (0, 1)]
    return found, results, done.stderr


@pytest.fixture(scope="module")
def single():
    denoiser, pairs = make_denoiser(), Pairs(10)
    return weights(denoiser), train(denoiser, pairs), weights(denoiser), pairs.numbers


def check_same(single, found, results):
    start, history, expected, _ = single
    assert torch.equal(*found)
    assert_close(found[0], expected, **ROUNDING)
    assert (expected - start).abs().max() > 100 * ROUNDING["atol"]
    for result in results:
        assert result["history"]["steps"] == history["steps"]
        assert result["history"]["loss"] == pytest.approx(history["loss"], rel=1e-4)


def test_interrupted_in_two_processes_and_resumed(single, tmp_path):
    """One process alone gets SIGTERM, and SIGINT at once: both stop, after the same step."""
    plan = {"checkpoint_dir": str(tmp_path / "run")}
    _, results, _ = run_two(tmp_path / "one", TORCHRUN, interrupt=[1, 7], **plan)
    for result in results:
        assert result["error"].startswith("KeyboardInterrupt: training stopped at step 8 of 12")
        assert len(result["numbers"]) == 8
    found, rest, printed = run_two(tmp_path / "two", TORCHRUN, resume=True, **plan)
    check_same(single, found, rest)
    assert "Warning" not in printed
    for step, numbers in enumerate(single[3]):
        shares = [(*a["numbers"], *b["numbers"])[step] for a, b in zip(results, rest, strict=True)]
        assert sum(shares, []) == numbers
    left = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert left == ["last.ckpt", "log", "training-start.json"]


def test_pairs_that_fail_in_one_process(single, tmp_path):
    """Nobody waits for it, and one process goes on from the checkpoint of two."""
    plan = {"checkpoint_dir": str(tmp_path / "run")}
    _, results, _ = run_two(tmp_path / "one", TORCHRUN, fail=[1, 5], **plan)
    assert results[0]["error"].startswith("RuntimeError: another process could not make its pairs")
    assert results[1]["error"] == "OSError: disk gone"
    denoiser, pairs = make_denoiser(), Pairs(10)
    history = train(denoiser, pairs, resume=True, **plan)
    assert pairs.numbers == single[3][5:]
    assert_close(weights(denoiser), single[2], **ROUNDING)
    assert history["loss"] == pytest.approx(single[1]["loss"], rel=1e-4)


@pytest.mark.slow
def test_plain_script_is_run_again(single, tmp_path):
    found, results, _ = run_two(tmp_path / "plain", [], strategy="ddp")
    check_same(single, found, results)


def test_checkpoint_that_not_all_see():
    """Every host has a disk of its own: the first process is ahead of this one."""
    module = TrainingModule(None, Pairs(), plan={}, loss=None, levels=None, seed=0)
    first = {"step": 0}
    module._trainer = SimpleNamespace(
        strategy=SimpleNamespace(
            broadcast=lambda step: first["step"],
            reduce_boolean_decision=lambda decision, all: decision,
        )
    )
    module.on_fit_start()
    first["step"] = 3
    with pytest.raises(RuntimeError, match="step 0, the first one at step 3.*all hosts see"):
        module.on_fit_start()


@pytest.fixture
def alone(monkeypatch):
    """No launcher around this process."""
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def check(devices=1, num_nodes=1, strategy="auto", *, device=CPU, batch_size=12):
    return check_processes(devices, num_nodes, strategy, device=device, batch_size=batch_size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 0}, "devices is 0; expected an int of 1 or more"),
        ({"devices": "auto"}, "devices is 'auto'; expected an int"),
        ({"devices": True}, "devices is True"),
        ({"num_nodes": 1.5}, "num_nodes is 1.5; expected an int"),
        ({"strategy": "fsdp"}, "strategy is 'fsdp'; expected one of auto, ddp"),
        ({"devices": 8}, "batch_size is 12, the total of 8 processes; expected a multiple of 8"),
        ({"num_nodes": 5}, "batch_size is 12, the total of 5 processes"),
        ({"num_nodes": 2}, "num_nodes is 2, and nothing started processes.*torchrun or srun"),
        ({"devices": 2, "device": torch.device("mps")}, "several processes cannot train on mps"),
        ({"devices": 99, "device": torch.device("cuda")}, "devices is 99; found [0-9]+ CUDA"),
    ],
)
def test_refused(alone, options, message):
    with pytest.raises(ValueError, match=message):
        check(**options)


def test_refused_before_anything_starts(alone):
    pairs = Pairs(10)
    with pytest.raises(ValueError, match="expected a multiple of 3"):
        train(make_denoiser(), pairs, devices=3)
    assert pairs.numbers == []


def test_one_certain_device_of_several(alone):
    alone.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(ValueError, match="device is 'cuda:1', a single one, with devices=2"):
        check(2, device=torch.device("cuda:1"))
    assert trainer_options(1, 1, "auto", device=torch.device("cuda:1"))["devices"] == [1]
    assert trainer_options(2, 1, "auto", device=torch.device("cuda"))["devices"] == 2


def test_no_script_to_run_again(alone):
    alone.delattr(sys.modules["__main__"], "__file__")
    with pytest.raises(ValueError, match="this is none; expected a script, or torchrun"):
        check(2)


def test_started_by_torchrun(alone):
    alone.setenv("TORCHELASTIC_RUN_ID", "7")
    alone.setenv("WORLD_SIZE", "4")
    assert check(2, 2) == 4
    for devices in (1, 2):
        with pytest.raises(ValueError, match=f"torchrun started 4 processes; devices={devices} "):
            check(devices)


def test_started_by_slurm(alone):
    alone.setenv("SLURM_NTASKS", "6")
    alone.setenv("SLURM_NTASKS_PER_NODE", "3")
    alone.setattr("shutil.which", lambda name: None)
    assert check(3, 2) == 6
    with pytest.raises(ValueError, match="SLURM started 6 processes; devices=2 and num_nodes=2"):
        check(2, 2)
    environment = choose_environment(6)
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue
    # Tasks of one process each are runs of their own.
    assert check() == 1
    assert not isinstance(choose_environment(1), SLURMEnvironment)


def test_a_single_process_writes(alone):
    assert is_writer()
    assert trainer_options(1, 1, "auto", device=CPU)["strategy"] == "auto"
    assert trainer_options(1, 2, "auto", device=CPU)["strategy"] == "ddp"
    assert select_backend("cpu").device == CPU
