"""How many training pairs a second are made on the fly: whole fields of 128 x 128 pixels.

    python benchmarks/throughput.py

Each of 58 instruments has the uv points of ALMA's 20 minutes for its model: drawn at random, as
many as fill 5 % of a uv grid of 256 x 256 cells. Every pair has its own sky, instrument, primary
beam and noise. Wall time and processor time are those of the median repetition.
"""

import platform
import resource
import time
from pathlib import Path

import click
import numpy as np
import torch

from diffsky.instrument import grid_uv
from diffsky.simulation.batch_maker import BatchMaker
from diffsky.simulation.counter import CounterStreams
from diffsky.simulation.pairs import SimulatedPairs
from diffsky.simulation.skymodels import PRIORS

FIELD, GRID, INSTRUMENTS, POINTS = 128, 256, 58, 2200
ARCSEC = np.pi / 180 / 3600


def make_bank(seed):
    """Gridded weights of random uv points, for a beam of about 4.25 pixels of 1 arcsec."""
    bank = []
    for number in range(INSTRUMENTS):
        rng = np.random.default_rng([seed, number])
        radius, angle = 0.37 * rng.random(POINTS), 2 * np.pi * rng.random(POINTS)
        uv = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) / ARCSEC
        gridded = grid_uv(uv, pixel_scale=1.0, grid_size=GRID)
        bank.append(torch.from_numpy((gridded / gridded.max()).astype(np.float32)))
    return torch.stack(bank)


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
    pairs = SimulatedPairs(bank, seed=seed, version=2, **options)
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
        first = SimulatedPairs(bank, seed=seed, **options)
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
    bank = make_bank(seed)
    cells = 100 * float((bank > 0).float().mean())
    print(
        f"torch {torch.__version__}, seed {seed}, {INSTRUMENTS} instruments, {cells:.1f} % of cells"
    )
    for name in devices:
        print(hardware(name))
        n, batch = (128, 32) if name == "cpu" else (8192, 512)
        for prior in ("wide", "general"):
            measure_prior(prior, bank, name, n, batch, repeats, seed)


if __name__ == "__main__":
    main()
