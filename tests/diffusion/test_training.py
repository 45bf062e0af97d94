"""Training: the loss, and runs that end the same whatever interrupts them."""

import csv
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from small_training import STEPS, Pairs, make_denoiser, train, weights
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.testing import assert_close

from diffsky.backend import select_backend
from diffsky.diffusion import Denoiser
from diffsky.diffusion.training import denoising_loss, draw_sigmas

ROOT = Path(__file__).resolve().parents[2]


def read_logs(folder):
    """Rows of all logs in a folder; a resumed run may start a new file."""
    texts = [log.read_text().splitlines() for log in folder.rglob("*.csv")]
    return [row for text in texts for row in csv.DictReader(text)]


@pytest.fixture(scope="module")
def uninterrupted():
    denoiser = make_denoiser()
    history = train(denoiser, Pairs(10))
    return weights(denoiser), history


# Noise levels and loss


def test_sigmas_are_log_normal():
    stream = torch.Generator().manual_seed(0)
    logs = draw_sigmas(100000, mean=-1.2, std=0.8, generator=stream).log()
    assert logs.mean().item() == pytest.approx(-1.2, abs=0.01)
    assert logs.std().item() == pytest.approx(0.8, abs=0.01)
    again = draw_sigmas(5, mean=0, std=1, generator=torch.Generator().manual_seed(4))
    assert torch.equal(
        again, draw_sigmas(5, mean=0, std=1, generator=torch.Generator().manual_seed(4))
    )


class Linear(nn.Module):
    """F = slope x its scaled input: the exact denoiser of Gaussian data is of this form."""

    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, channels, c_noise):
        return self.slope * channels


@pytest.mark.parametrize("sigma", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("spread", [0.2, 0.5, 1.5])
def test_exact_denoiser_has_the_least_loss(sigma, spread):
    """Data of variance spread**2: D = spread**2 / (spread**2 + sigma**2) x, V24 eq. 22."""
    stream = torch.Generator().manual_seed(2)
    data = spread * torch.randn(4, 1, 200, 200, generator=stream)
    noise = torch.randn(4, 1, 200, 200, generator=stream)
    sigmas = torch.full((4,), sigma)
    gain = spread**2 / (spread**2 + sigma**2)
    c_skip, c_out, c_in, _ = Denoiser(None).coefficients(torch.tensor(sigma))
    exact = ((gain - c_skip) / (c_out * c_in)).item()

    def loss(slope):
        return denoising_loss(Denoiser(Linear(slope)), data, None, sigmas, noise)

    posterior = gain * sigma**2
    assert loss(exact).item() == pytest.approx(posterior / c_out.item() ** 2, rel=0.02)
    assert loss(exact) < min(loss(exact - 0.05), loss(exact + 0.05))
    network = Linear(exact)
    denoising_loss(Denoiser(network), data, None, sigmas, noise).backward()
    scale = (c_in**2 * (spread**2 + sigma**2)).item()  # half the curvature of the loss
    assert abs(network.slope.grad.item()) < 0.02 * scale + 0.01


def test_loss_by_hand():
    denoiser = make_denoiser()
    data, noise = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    condition, sigmas = torch.randn(3, 1, 8, 8), torch.tensor([0.1, 1.0, 10.0])
    total = 0
    for k, sigma in enumerate(sigmas):
        one = slice(k, k + 1)
        denoised = denoiser(data[one] + sigma * noise[one], sigma, condition[one])
        total += (sigma**2 + 0.25) / (sigma * 0.5) ** 2 * ((denoised - data[one]) ** 2).mean()
    assert_close(denoising_loss(denoiser, data, condition, sigmas, noise), total / 3)


# Runs


def test_training_learns():
    """The condition tells the target: better than the best denoiser that ignores it.

    For data of variance 1 and sigma = 3 that one has the error 0.9, the loss 0.9 / c_out**2 = 3.7.
    """
    denoiser = make_denoiser()
    history = train(denoiser, Pairs(), steps=60, batch_size=8, learning_rate=3e-2)
    data, condition = Pairs().batch(range(2000, 2064), "cpu")
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        loss = denoising_loss(denoiser, data, condition, torch.full((64,), 3.0), noise)
    assert loss < 3.2
    assert history["steps"] == 60
    assert not denoiser.training


def test_repeatable(uninterrupted):
    denoiser = make_denoiser()
    history = train(denoiser, Pairs(10))
    assert torch.equal(weights(denoiser), uninterrupted[0])
    assert history == uninterrupted[1]
    other = make_denoiser()
    train(other, Pairs(10), seed=1)
    assert not torch.equal(weights(other), uninterrupted[0])


def test_finite_pairs_come_once_an_epoch():
    pairs = Pairs(10)
    train(make_denoiser(), pairs, steps=5, batch_size=4)
    numbers = sum(pairs.numbers, [])
    assert sorted(numbers) == sorted(numbers[:10]) + sorted(numbers[10:]) == list(range(20))
    assert numbers[:10] != [number - 10 for number in numbers[10:]]
    assert [len(batch) for batch in pairs.numbers] == [4] * 5


def test_endless_pairs_never_repeat():
    pairs = Pairs()
    train(make_denoiser(), pairs, steps=5, batch_size=4)
    assert sum(pairs.numbers, []) == list(range(20))


def test_average_weights_end_in_the_denoiser():
    """w_avg = w_1, then decay w_avg + (1 - decay) w_i, of the weights after each step."""
    seen = []
    raw, averaged = make_denoiser(), make_denoiser()
    pairs = Pairs(10, on_call=lambda _: seen.append(weights(raw)))
    train(raw, pairs, ema_decay=0.0)  # ends with the raw weights themselves
    steps = [*seen[1:], weights(raw)]
    assert len(steps) == STEPS
    expected = steps[0]
    for after in steps[1:]:
        expected = 0.8 * expected + 0.2 * after
    train(averaged, Pairs(10), ema_decay=0.8)
    assert_close(weights(averaged), expected)
    assert not torch.allclose(weights(averaged), steps[-1])


def test_average_covers_the_last_twentieth_by_default():
    given, default = make_denoiser(), make_denoiser()
    train(given, Pairs(10), ema_decay=math.exp(-20 / STEPS))
    train(default, Pairs(10), ema_decay=None)
    assert_close(weights(default), weights(given), rtol=0, atol=0)


def test_mixed_precision():
    denoiser = make_denoiser()
    train(denoiser, Pairs(10), steps=3, backend=select_backend("cpu", "bfloat16"))
    assert weights(denoiser).dtype == torch.float32
    assert not torch.equal(weights(denoiser), weights(make_denoiser()))


def test_log_and_progress(tmp_path, capsys):
    train(make_denoiser(), Pairs(10), steps=55, checkpoint_dir=tmp_path / "run", progress=True)
    rows = read_logs(tmp_path / "run")
    assert [int(row["step"]) for row in rows] == [49]
    assert all(float(row["loss"]) > 0 for row in rows)
    assert not list(tmp_path.glob("*.csv"))
    printed = capsys.readouterr()
    assert "loss" in printed.out + printed.err


# Interruptions


def interrupt_in_batch():
    """A signal while the pairs of step 7 are made."""
    return Pairs(10, on_call=lambda call: call == 7 and signal.raise_signal(signal.SIGINT))


def check_resumed(folder, uninterrupted, **options):
    assert (folder / "last.ckpt").is_file()
    denoiser, pairs = make_denoiser(), Pairs(10)
    history = train(denoiser, pairs, checkpoint_dir=folder, resume=True, **options)
    assert 0 < len(pairs.numbers) < STEPS
    assert_close(weights(denoiser), uninterrupted[0], rtol=1e-5, atol=1e-6)
    assert history["steps"] == STEPS
    assert history["loss"] == pytest.approx(uninterrupted[1]["loss"], rel=1e-5)


def test_control_c_between_steps(tmp_path, uninterrupted):
    with pytest.raises(KeyboardInterrupt, match="step [78] of 12.*resume=True"):
        train(make_denoiser(), interrupt_in_batch(), checkpoint_dir=tmp_path)
    check_resumed(tmp_path, uninterrupted)


def test_control_c_within_a_step(tmp_path, uninterrupted):
    """After the optimizer has moved the weights, before the step is counted."""
    steps = []

    def hook(optimizer, args, kwargs):
        steps.append(1)
        if len(steps) == 7:
            signal.raise_signal(signal.SIGINT)

    handle = register_optimizer_step_post_hook(hook)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(make_denoiser(), Pairs(10), checkpoint_dir=tmp_path)
    finally:
        handle.remove()
    check_resumed(tmp_path, uninterrupted)


def test_two_interruptions(tmp_path, uninterrupted):
    for at in (3, 6):  # calls of each run
        pairs = Pairs(10, on_call=lambda call, at=at: call == at and signal.raise_signal(2))
        with pytest.raises(KeyboardInterrupt):
            train(make_denoiser(), pairs, checkpoint_dir=tmp_path, resume=True)
    check_resumed(tmp_path, uninterrupted)


# Before the run has its handler, a signal can hit the destructor of an object, which swallows it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_control_c_at_any_time(tmp_path, uninterrupted, seed):
    """Also while a run starts, or while it writes a checkpoint."""
    rng = random.Random(seed)
    denoiser, done = None, False
    for attempt in range(40):
        denoiser = make_denoiser()
        timer = threading.Timer(rng.uniform(0, 0.5), os.kill, (os.getpid(), signal.SIGINT))
        try:
            if attempt < 20:
                timer.start()
            train(denoiser, Pairs(10), checkpoint_dir=tmp_path, checkpoint_every=2, resume=True)
            done = True
            timer.cancel()
            timer.join(10)
            time.sleep(0.01)  # a signal that is on its way arrives here
        except KeyboardInterrupt:
            pass
        if done:
            break
    assert done
    assert_close(weights(denoiser), uninterrupted[0], rtol=1e-5, atol=1e-6)


def test_other_thread(uninterrupted):
    """Where Python admits no handlers of signals."""
    denoiser = make_denoiser()
    thread = threading.Thread(target=train, args=(denoiser, Pairs(10)))
    thread.start()
    thread.join()
    assert torch.equal(weights(denoiser), uninterrupted[0])


def test_handler_is_given_back():
    before = signal.getsignal(signal.SIGINT)
    train(make_denoiser(), Pairs(10), steps=1)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        train(make_denoiser(), interrupt_in_batch())
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupted_without_checkpoint():
    with pytest.raises(KeyboardInterrupt):
        train(make_denoiser(), interrupt_in_batch())


def test_error_in_pairs_leaves_a_checkpoint(tmp_path, uninterrupted):
    def fail(call):
        if call == 5:
            raise RuntimeError("disk gone")

    denoiser = make_denoiser()
    with pytest.raises(RuntimeError, match="disk gone"):
        train(denoiser, Pairs(10, on_call=fail), checkpoint_dir=tmp_path)
    assert not denoiser.training
    check_resumed(tmp_path, uninterrupted)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[3]))  # another number rounds otherwise
from small_training import Pairs, make_denoiser, train
kill = lambda call: call == 8 and os.kill(os.getpid(), signal.SIGKILL)
options = {"checkpoint_dir": Path(sys.argv[2]), "checkpoint_every": 5}
train(make_denoiser(), Pairs(10, on_call=kill), **options)
"""


def test_sigkill(tmp_path, uninterrupted):
    folder, threads = str(ROOT / "tests" / "_support"), str(torch.get_num_threads())
    result = subprocess.run(
        [sys.executable, "-c", KILLED, folder, str(tmp_path), threads],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    check_resumed(tmp_path, uninterrupted, checkpoint_every=5)


@pytest.mark.parametrize("checkpoint_every", [STEPS, 5])
def test_resume_after_the_end(tmp_path, uninterrupted, checkpoint_every):
    """A finished run has nothing left to do, and gives its weights again."""
    options = {"checkpoint_dir": tmp_path, "checkpoint_every": checkpoint_every}
    train(make_denoiser(), Pairs(10), **options)
    denoiser, pairs = make_denoiser(), Pairs(10)
    train(denoiser, pairs, resume=True, **options)
    assert pairs.numbers == []
    assert_close(weights(denoiser), uninterrupted[0], rtol=1e-5, atol=1e-6)


def test_more_steps_after_the_end(tmp_path):
    """They go on from the weights of the last step, not from their average."""
    last, raw = make_denoiser(), make_denoiser()
    train(raw, Pairs(10), ema_decay=0.0)  # ends with the weights of the last step
    train(make_denoiser(), Pairs(10), checkpoint_dir=tmp_path)
    seen = []
    pairs = Pairs(10, on_call=lambda _: seen.append(weights(last)))
    train(last, pairs, checkpoint_dir=tmp_path, steps=STEPS + 2, resume=True)
    assert len(seen) == 2
    assert_close(seen[0], weights(raw), rtol=1e-5, atol=1e-6)


def test_log_survives_a_resumed_run(tmp_path):
    interrupt = Pairs(10, on_call=lambda call: call == 55 and signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(make_denoiser(), interrupt, steps=105, checkpoint_dir=tmp_path / "run")
    train(make_denoiser(), Pairs(10), steps=105, checkpoint_dir=tmp_path / "run", resume=True)
    assert sorted(int(row["step"]) for row in read_logs(tmp_path / "run")) == [49, 99]


def test_resume_with_checkpoints_at_other_steps(tmp_path, uninterrupted):
    with pytest.raises(KeyboardInterrupt):
        train(make_denoiser(), interrupt_in_batch(), checkpoint_dir=tmp_path, checkpoint_every=3)
    check_resumed(tmp_path, uninterrupted, checkpoint_every=4)


def test_resume_without_checkpoint_starts(tmp_path, uninterrupted):
    denoiser = make_denoiser()
    train(denoiser, Pairs(10), checkpoint_dir=tmp_path / "new", resume=True)
    assert torch.equal(weights(denoiser), uninterrupted[0])


def test_checkpoint_is_not_overwritten(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"precious")
    pairs = Pairs(10)
    with pytest.raises(FileExistsError, match="last.ckpt exists; pass resume=True"):
        train(make_denoiser(), pairs, checkpoint_dir=tmp_path)
    assert (tmp_path / "last.ckpt").read_bytes() == b"precious"
    assert pairs.numbers == []


class Payload:
    """What a pickle in place of a checkpoint could do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_checkpoint_runs_no_code(tmp_path):
    torch.save({"state_dict": Payload(tmp_path / "ran")}, tmp_path / "last.ckpt")
    with pytest.raises(Exception, match=r"(?i)weights_only"):
        train(make_denoiser(), Pairs(10), checkpoint_dir=tmp_path, resume=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; expected 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; expected 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; expected a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"resume": True}, "resume=True needs checkpoint_dir="),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        train(make_denoiser(), Pairs(10), **options)
