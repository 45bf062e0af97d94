"""How many training pairs a second are made on the fly: whole fields of 128 x 128 pixels.

    python benchmarks/throughput.py

Every pair has its own sky, primary beam and noise, and one of the observations of the bundled PSF
bank. Wall time and processor time are those of the median repetition. Peak memory is that of the
whole process, torch included. On the CPU, version 1 of the pairs follows.
"""

import platform
import resource
import time
from pathlib import Path

import click
import numpy as np
import torch

from diffsky.instrument import load_psf_bank
from diffsky.simulation.batch_maker import BatchMaker
from diffsky.simulation.counter import CounterStreams
from diffsky.simulation.pairs import SimulatedPairs
from diffsky.simulation.skymodels import PRIORS

FIELD = 128


def hardware(device):
    """The processor or GPU in words."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    names = [platform.processor() or platform.machine()]
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {torch.get_num_threads()} threads"


def measure(function, device, repeats):
    """Median wall time and processor time of a call after one to warm up, and its result."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter(), time.process_time()
        result = function()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return np.median(times[1:], axis=0), result


def peak_memory(device):
    """GiB, of the process or of the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1024**3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def show(name, seconds, n):
    """One line of the table."""
    wall, processor = seconds
    print(f"  {name:<10} {n / wall:10.0f} pairs/s {1e3 * wall / n:9.4f} ms a pair"
          f" {1e3 * processor / n:9.4f} ms of processor time")  # fmt: skip


def measure_prior(name, bank, device, n, batch, repeats, seed):
    """Print the rates of one prior on one device."""
    options = {"priors": [(PRIORS[name], 1.0)], "field_size": FIELD, "patch_size": None}
    pairs = SimulatedPairs.from_bank(bank, seed=seed, **options)
    print(f"prior {name}, version 2, {n} pairs in steps of {batch}")
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    total, _ = measure(lambda: pairs.batch(range(n), device), device, repeats)
    maker, streams = BatchMaker(pairs, device), CounterStreams(seed, range(batch), device)
    drawing, (sources, owner) = measure(lambda: maker.draw(streams), device, repeats)
    rendering, sky = measure(lambda: maker.render(sources, owner, batch), device, repeats)
    observing, _ = measure(lambda: maker.observe(sky, streams), device, repeats)
    show("all", total, n)
    for step, seconds in (
        ("drawing", drawing),
        ("rendering", rendering),
        ("observing", observing),
    ):
        show(step, seconds, batch)
    print(f"  {len(sources) / batch:.1f} sources a pair, peak memory {peak_memory(device):.2f} GiB")
    if device == "cpu":
        first = SimulatedPairs.from_bank(bank, seed=seed, version=1, **options)
        total, _ = measure(lambda: first.batch(range(n), device), device, repeats)
        show("version 1", total, n)


@click.command()
@click.option("--device", default=None, help="cpu or cuda; both, where there is a GPU.")
@click.option("--threads", default=None, type=int, help="Threads of torch on the CPU.")
@click.option("--repeats", default=5, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(device, threads, repeats, seed):
    """Print pairs per second, split into drawing, rendering and observing."""
    if threads is not None:
        torch.set_num_threads(threads)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    devices = devices if device is None else [device]
    bank = load_psf_bank()
    cells = 100 * float((bank.weights > 0).float().mean())
    print(
        f"torch {torch.__version__}, seed {seed}, {len(bank)} observations, {cells:.1f} % of cells"
    )
    for name in devices:
        print(hardware(name))
        n, batch = (128, 32) if name == "cpu" else (8192, 512)
        for prior in ("wide", "general"):
            measure_prior(prior, bank, name, n, batch, repeats, seed)


if __name__ == "__main__":
    main()
