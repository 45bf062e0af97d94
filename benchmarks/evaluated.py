"""Fields evaluated once and kept: what every strategy and the matched filter find in each.

`evaluate` makes what is not in its folder yet, each field as `diffsky.evaluation.evaluate_pair` has
it, and every field is stored when it is done; so a script goes on where it was interrupted, and
thresholds are a matter of seconds. Options of the command line that all scripts share are here too.
"""

import functools
import hashlib
import os
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import click
import torch
from casa_data import clean_catalog, stored_pairs
from fields import N_POINTINGS, VALIDATION, fast_telescope
from telescope import Telescope
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from diffsky import DiffusionDeconvolver
from diffsky.evaluation import Detections, StoredResults, evaluate_pair
from diffsky.simulation import ObservationSetup

SEED = 1  # of the posterior samples
LEAST_SIGNAL = 2.75  # of the matched filter's lists
CLEAN = "CLEAN + PyBDSF"


@dataclass(frozen=True)
class FastFields:
    """The fast fields of a seed."""

    seed: int
    group: str = ""

    def pair(self, number):
        """One field."""
        return fast_telescope(self.seed, number % N_POINTINGS).pair(self.seed, number)


@dataclass(frozen=True)
class CasaFields:
    """The stored CASA fields of a seed."""

    data: str
    seed: int
    group: str = ""

    def pair(self, number):
        """One field."""
        return stored_pairs(self.data, self.seed).read(number)


@dataclass(frozen=True)
class SetupFields:
    """Fast fields of one set-up; the same number has the same sky where it is not scaled."""

    seed: int
    group: str
    options: tuple  # of `ObservationSetup`, as pairs
    scaled: bool
    noise: int = 0

    def pair(self, number):
        """One field."""
        return _telescope(self.options, self.scaled).pair(self.seed, number, noise=self.noise)


@functools.lru_cache(maxsize=4)
def _telescope(options, scaled):
    return Telescope(ObservationSetup(**dict(options)), scaled=scaled)


@dataclass(frozen=True)
class Weights:
    """Weights and how they sample."""

    name: str
    samples: int = 20
    sampler: str | None = None
    steps: int | None = None
    device: str | None = None

    def load(self):
        """The deconvolver, once in each process."""
        return _load(self)

    def describe(self):
        """What decides the results, in what JSON can hold."""
        deconvolver = self.load()
        description = deconvolver.description_
        return {
            "weights": description["name"],
            "weights_version": description["version"],
            "sha256": description.get("sha256", ""),
            "n_samples": self.samples,
            "seed": SEED,
            **deconvolver.sampling_plan(),
        }

    def folder(self, store):
        """Where in a store the results of these weights, sampled like this, are."""
        shown = self.describe()
        names = ("weights", "weights_version", "sampler", "n_steps", "n_samples")
        label = "-".join(str(shown.get(name, "")) for name in names)
        return Path(store) / re.sub(r"[^\w.=-]+", "_", f"{label}-{shown['sha256'][:8]}")

    def cost(self):
        """What a sample costs, and what the training took."""
        network = self.load().denoiser_.network
        calls = []
        hook = network.register_forward_hook(lambda *_: calls.append(1))
        with FlopCounterMode(display=False) as counter:
            _evaluate_one((replace(self, samples=1), FastFields(VALIDATION), 0), self.load())
        hook.remove()
        n = sum(p.numel() for p in network.parameters())
        stages = _stages(self.load().description_["training"])
        shown = ", ".join(f"{k} {v}" for k, v in stages[-1].items())
        seen = sum(stage["steps"] * stage["batch_size"] for stage in stages)
        steps = " + ".join(str(stage["steps"]) for stage in stages)
        work = counter.get_total_flops() / 1e9
        return (
            f"{n / 1e6:.2f} M parameters, {len(calls)} calls and {work:.0f} GFLOP a sample of a "
            f"fast field; trained in {steps} steps on {seen} pairs, at last with {shown}"
        )

    def title(self):
        """One line for the head of a table."""
        shown = self.describe()
        name, version = shown.pop("weights"), shown.pop("weights_version")
        shown.pop("sha256")
        return f"weights {name} {version}, {', '.join(f'{k} {v}' for k, v in shown.items())}"


def _stages(training):
    """Numbers and words about a training and all those that it started from, the first one first.

    A distillation is the last one.
    """
    stages = []
    for stage in (training.get("distillation"), training):
        while stage is not None:
            stages.append({k: v for k, v in stage.items() if not isinstance(v, dict | list)})
            stage = stage.get("started_from")
    return stages[::-1]


@functools.cache
def _load(weights):
    return DiffusionDeconvolver.from_pretrained(
        weights.name, sampler=weights.sampler, n_steps=weights.steps, device=weights.device
    )


def evaluate(weights, sources, numbers, folder, *, processes=1):
    """Results of the fields `numbers` of each of `sources`, from `folder` or made now."""
    folder = Path(folder)
    settings = {**weights.describe(), "sources": [_describe(source) for source in sources]}
    stored = StoredResults(folder, settings)
    orders = [
        (weights, source, number)
        for source in sources
        for number in numbers
        if (source.group, number) not in stored
    ]
    progress = tqdm(orders, desc=folder.name, total=len(orders))
    if processes == 1:
        for order in progress:
            stored.write(_evaluate_one(order))
    elif orders:
        _evaluate_many(orders, processes, stored, progress)
    wanted = {(source.group, number) for source in sources for number in numbers}
    return [one for one in stored.read() if (one.group, one.number) in wanted]


def _evaluate_many(orders, processes, stored, progress):
    threads = max(1, torch.get_num_threads() // processes)
    pool = ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(threads,),
    )
    with pool, progress:
        for result in pool.map(_evaluate_one, orders):
            stored.write(result)
            progress.update()


def _evaluate_one(order, deconvolver=None):
    weights, source, number = order
    return evaluate_pair(
        deconvolver or weights.load(),
        source.pair(number),
        number=number,
        group=source.group,
        n_samples=weights.samples,
        seed=SEED,
        least_signal=LEAST_SIGNAL,
        drozdova2024=getattr(source, "drozdova2024", False),
        progress=False,
    )


def _describe(source):
    # Folders and files may move; what is in a file of noise decides.
    for name in ("data", "noise"):
        if isinstance(place := getattr(source, name, None), str):
            known = _checksum(place) if Path(place).is_file() else ""
            source = replace(source, **{name: known})
    return repr(source)


@functools.cache
def _checksum(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def with_clean(results, data, seed, peak):
    """The same results with what CLEAN + PyBDSF find at one threshold."""
    complete = []
    for one in results:
        image = stored_pairs(str(data), seed).read(one.number).dirty
        ny, nx = image.shape
        centre = image.wcs.pixel_to_world(nx // 2, ny // 2).icrs
        table = clean_catalog(data, seed, one.number, peak)
        found = Detections.from_catalog(table, centre=centre, score=table["snr"])
        complete.append(replace(one, catalogs={**one.catalogs, CLEAN: found}))
    return complete


def shared_options(command):
    """Options of every script that evaluates weights."""
    n_cores = os.cpu_count() or 1
    options = [
        click.option("--weights", default="alma-band6", show_default=True),
        click.option("--samples", default=20, show_default=True, help="Posterior samples."),
        click.option("--sampler", default=None, help="By default that of the weights."),
        click.option("--steps", default=None, type=int, help="By default those of the weights."),
        click.option(
            "--processes", default=1, show_default=True, type=click.IntRange(1, n_cores),
            help="Fields at a time; they share the threads.",
        ),
        click.option(
            "--store", default="benchmark-results", show_default=True,
            type=click.Path(file_okay=False, path_type=Path), help="Where results are kept.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command
