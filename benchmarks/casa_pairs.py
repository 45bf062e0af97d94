"""Seconds of one core that a pair takes: many with one channel, and one as D24 made theirs.

    python benchmarks/casa_pairs.py

Both in one run, each with one CASA process at a time: pairs of the prior ``independent`` at D24's
set-up with one channel (``simulate_pairs``, one worker), and a pair by simalma with D24's 240
channels (``simulate_pair``). Wall time is what counts on an idle machine; the CPU time of the
processes says the same where other programs run.
"""

import resource
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np

from diffsky.simulation import (
    PRIORS,
    ObservationSetup,
    PairStore,
    simulate_pair,
    simulate_pairs,
)

SEED = 1
TIMEOUT = 3600


@contextmanager
def timed(label, results):
    """Wall time and CPU time of the processes that end within."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    yield
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    results[label] = np.array([wall, cpu])
    print(f"{label}: {wall:.1f} s wall, {cpu:.1f} s CPU", flush=True)


@click.command()
@click.option("--pairs", default=10, show_default=True, help="Pairs of the longer run.")
@click.option("--channels", default=240, show_default=True, help="Channels of D24's way.")
def main(pairs, channels):
    """Print seconds a pair for both ways, and their ratio."""
    setup = ObservationSetup()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for n in (1, 1 + pairs):
            with timed(f"simulate_pairs, n = {n}", results):
                store = simulate_pairs(
                    PRIORS["independent"],
                    setup,
                    seed=SEED,
                    n=n,
                    store=Path(folder, str(n)),
                    timeout=TIMEOUT,
                )
        first, all_ = results.values()
        pair = PairStore(store.path, mode="r").read(0)
        size = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())
        wall, cpu = (all_ - first) / pairs
        print(f"start of CASA and the first pair: {first[0]:.2f} s wall, {first[1]:.2f} s CPU")
        print(f"one more pair: {wall:.2f} s wall, {cpu:.2f} s CPU, {size / n / 2**20:.1f} MiB")
        many = ObservationSetup.drozdova2024(setup.direction)
        if channels != many.n_channels:
            width = many.bandwidth / many.n_channels
            many = ObservationSetup(n_channels=channels, bandwidth=channels * width)
        with timed(f"simalma, {channels} channels", results):
            slow = simulate_pair(
                pair.sources, many, seed="casa-default", simulator="simalma", timeout=TIMEOUT
            )
    slow_wall, slow_cpu = list(results.values())[-1]
    print(f"D24's way takes {slow_wall / wall:.0f} times as long ({slow_cpu / cpu:.0f} in CPU)")
    rms = [np.nanstd(image.dirty.data) * 1e6 for image in (pair, slow)]
    print(f"rms of the two dirty images: {rms[0]:.1f} and {rms[1]:.1f} µJy/beam")


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
