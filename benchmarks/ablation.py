"""Which choices of the default preset matter: short trainings of equal compute, one table.

    python benchmarks/ablation.py runs --minutes 5 --fields 100

Every variant differs from the preset ``small`` in one thing. All train on patches of 64 x 64 pixels
with the same seed and the same priors, the protocol `independent` and sources of 0.5 to 150 rms and
0.4 to 3 beams. There are no points among them, which cannot be drawn without a kernel.

Compute is counted and not timed, so that a table does not depend on what else a machine does: the
floating-point operations of a step, forward and backward, times the number of steps are those of
the baseline. --steps gives the baseline's number, --minutes measures it, and the folder keeps it.

Noise levels follow the scale. The standard deviation of the scaled targets over that of the
baseline's multiplies sigma_data, the median of the training's levels and both ends of the
sampler's. A constant factor in the scale then changes nothing, and what is compared is its shape.

Scores are those of fast fields of seed 9100, on which thresholds are chosen too: those of the best
F1 at half a beam, for every variant and for the matched filter. They serve to compare, and are no
results. Errors are bootstrap standard deviations over fields; ratios are bootstrapped in pairs. A
run that was interrupted goes on, and its seconds are those of its last part. One that is finished
is not repeated.
"""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from fields import TUNING, fast_pairs
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from diffsky import DiffusionDeconvolver
from diffsky.backend import select_backend
from diffsky.deconvolution import get_preset
from diffsky.diffusion import build_denoiser, build_network, denoising_loss
from diffsky.evaluation import StoredResults, evaluate_pair, make_report
from diffsky.instrument import load_psf_bank
from diffsky.simulation import PRIORS, SimulatedPairs

PATCH, PAIRS_SEED, FIT_SEED = 64, 2, 0
RMS, BEAM = 48e-6, 0.854  # Jy/beam and arcsec of the prior's observation
SPREAD_PAIRS = range(10**9, 10**9 + 256)  # pairs that no training reaches
BASELINE, STRATEGY, REFERENCE = "baseline", "median", "matched filter"
# name: (keywords of the scale, of the network, of the training)
VARIANTS = {
    BASELINE: ({}, {}, {}),
    "gamma 1": ({"gamma": 1.0}, {}, {}),
    "gamma 4": ({"gamma": 4.0}, {}, {}),
    "asinh": ({"stretch": "asinh"}, {}, {}),
    "no kernel": ({"kernel_beams": 0.0}, {}, {}),
    "kernel 0.5": ({"kernel_beams": 0.5}, {}, {}),
    "narrow": ({}, {"channels": (32, 64, 96)}, {}),
    "wide": ({}, {"channels": (96, 192, 288)}, {}),
    "sigma mean -0.5": ({}, {}, {"sigma_mean": -0.5}),
    "sigma std 1.0": ({}, {}, {"sigma_std": 1.0}),
}


def make_pairs(scale):
    """The pairs of a variant: everything but the scale is that of all others."""
    independent = PRIORS["independent"].in_units_of(RMS, BEAM)
    wide = replace(PRIORS["wide"], fwhm=(0.4, 3.0), point_share=0.0)
    return SimulatedPairs.from_bank(
        load_psf_bank(),
        priors=[(independent, 0.6), (wide, 0.4)],
        patch_size=PATCH,
        scale=scale,
        seed=PAIRS_SEED,
    )


def spread(scale):
    """Standard deviation of the scaled targets."""
    return float(make_pairs(scale).batch(SPREAD_PAIRS)[0].std())


def make_preset(name):
    """The preset of a variant, its noise levels following its scale."""
    preset = get_preset("small")
    scale, network, training = VARIANTS[name]
    changed = replace(preset.scale, **scale)
    factor = spread(changed) / spread(preset.scale) if scale else 1.0
    training = {**preset.training, **training}
    training["sigma_mean"] += math.log(factor)
    ends = {end: factor * preset.sampling[end] for end in ("sigma_min", "sigma_max")}
    return replace(
        preset,
        network={**preset.network, **network},
        scale=changed,
        sigma_data=factor * preset.sigma_data,
        training=training,
        sampling={**preset.sampling, **ends},
    )


def training_step(preset, n, backend):
    """A function that does the network's part of one step of n patches."""
    network = build_network(preset.network)
    denoiser = build_denoiser(network, sigma_data=preset.sigma_data).to(
        backend.device, memory_format=torch.channels_last
    )
    images = torch.randn(n, 4, PATCH, PATCH, device=backend.device)
    kind, dtype = backend.device.type, backend.autocast_dtype

    def step():
        with torch.autocast(kind, dtype or torch.bfloat16, enabled=dtype is not None):
            sigma = torch.ones(n, device=backend.device)
            loss = denoising_loss(denoiser, images[:, :1], images[:, 1:3], sigma, images[:, 3:])
        loss.backward()

    return step


def flop_per_patch(preset):
    """Floating-point operations of one patch in training, forward and backward."""
    step = training_step(preset, 1, select_backend("cpu", "float32"))
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def seconds_per_step(preset, backend, repeats=5):
    """Time of one step with its pairs: the median of a few."""
    n = preset.training["batch_size"]
    step, pairs, times = training_step(preset, n, backend), make_pairs(preset.scale), []
    for k in range(repeats + 1):
        start = time.perf_counter()
        pairs.batch(range(k * n, (k + 1) * n), backend.device)
        step()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def plan(folder, steps, minutes, device):
    """Steps of the baseline: those of the folder where it has a plan."""
    path = folder / "plan.json"
    if path.exists():
        kept = json.loads(path.read_text())["steps"]
        if steps not in (None, kept):
            raise click.UsageError(f"{folder} has runs of {kept} steps; expected another folder")
        return kept
    if steps is None:
        preset = make_preset(BASELINE)
        steps = max(1, round(60 * minutes / seconds_per_step(preset, select_backend(device))))
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"steps": steps}) + "\n")
    return steps


def train(name, folder, steps, device):
    """Weights of a variant, from its folder where they are finished, and their cost."""
    weights, cost = folder / "weights", folder / "cost.json"
    if cost.exists():
        return DiffusionDeconvolver.load(weights, device=device), json.loads(cost.read_text())
    preset, flop = make_preset(name), flop_per_patch(get_preset("small"))
    own = flop if not VARIANTS[name][1] else flop_per_patch(preset)
    own_steps, batch = max(1, round(steps * flop / own)), preset.training["batch_size"]
    deconvolver = DiffusionDeconvolver(preset, device=device)
    start = time.time()
    deconvolver.fit(
        make_pairs(preset.scale),
        steps=own_steps,
        checkpoint_dir=folder / "checkpoints",
        resume=True,
        seed=FIT_SEED,
    )
    deconvolver.save(weights, name=name, overwrite=True)
    figures = {
        "steps": own_steps,
        "TFLOP": own * own_steps * batch / 1e12,
        "seconds": time.time() - start,
        "sigma_data": preset.sigma_data,
    }
    cost.write_text(json.dumps(figures) + "\n")
    return DiffusionDeconvolver.load(weights, device=device), figures


def score(name, deconvolver, folder, pairs, n_samples):
    """Figures of a variant on the fields for tuning."""
    checksum = deconvolver.description_["sha256"]
    settings = {"weights": name, "sha256": checksum, "seed": TUNING, "n_samples": n_samples}
    stored = StoredResults(folder / f"results-{n_samples}", settings)
    for number, pair in enumerate(tqdm(pairs, desc=name)):
        if ("", number) not in stored:
            stored.write(
                evaluate_pair(
                    deconvolver, pair, number=number, n_samples=n_samples, strategies=[STRATEGY]
                )
            )
    results = [one for one in stored.read() if one.number < len(pairs)]
    summary = make_report(results, validation=results, radii=(0.5,)).tables["summary"]
    return {row["method"]: row for row in summary}


def line(name, cost, rows):
    """One row of the table."""
    row = rows[STRATEGY]
    return (
        f"{name:<16}{cost['steps']:>7}{cost['TFLOP']:>8.0f}{cost['seconds']:>7.0f}"
        f"{cost['sigma_data']:>8.3f}{row['threshold']:>7.2f}"
        f"{row['f1']:>7.3f}{row['f1_ratio']:>8.3f} ±{row['f1_ratio_err']:.3f}"
        f"{row['flux_bias']:>8.3f} ±{row['flux_bias_err']:.3f}"
        f"{row['flux_within_rms']:>8.3f}{row['coverage_68']:>8.3f}"
    )


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--minutes", default=5.0, show_default=True, help="Of the baseline's training.")
@click.option("--steps", type=click.IntRange(1), help="Of the baseline, instead of --minutes.")
@click.option("--fields", default=100, show_default=True, type=click.IntRange(2))
@click.option("--samples", default=20, show_default=True, type=click.IntRange(3))
@click.option("--only", multiple=True, type=click.Choice(list(VARIANTS)), help="Repeatable.")
@click.option("--list", "list_variants", is_flag=True, help="List the variants and stop.")
@click.option("--device", default=None, help="cuda, mps or cpu; the first there is if not given.")
def main(folder, minutes, steps, fields, samples, only, list_variants, device):
    """Train the variants in FOLDER and print what each is worth."""
    if list_variants:
        for name, changes in VARIANTS.items():
            click.echo(f"{name:<16} {', '.join(f'{k} {v}' for c in changes for k, v in c.items())}")
        return
    if folder is None:
        raise click.UsageError("FOLDER is missing; expected where the runs are kept")
    steps = plan(folder, steps, minutes, device)
    lines, pairs = [], list(fast_pairs(fields, TUNING))
    for name in only or VARIANTS:
        own = folder / name.replace(" ", "-")
        deconvolver, cost = train(name, own, steps, device)
        rows = score(name, deconvolver, own, pairs, samples)
        lines.append(line(name, cost, rows))
        reference = rows[REFERENCE]
    print(f"{fields} fast fields of seed {TUNING}, {samples} samples, {STRATEGY}, half a beam")
    print(f"matched filter: S/N {reference['threshold']:.2f}, F1 {reference['f1']:.3f}")
    print(
        f"{'variant':<16}{'steps':>7}{'TFLOP':>8}{'s':>7}{'s_data':>8}{'least':>7}{'F1':>7}"
        f"{'F1 ratio':>15}{'flux bias':>15}{'<rms':>8}{'68 %':>8}"
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
