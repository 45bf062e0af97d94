"""How long 20 samples of a full D24 field take, beside the work that D24 do for them.

    python benchmarks/speed.py
    python benchmarks/speed.py --sampler consistency --steps 1

The field is 512 x 512 pixels of 0.1 arcsec with the primary beam cut at 0.2, from the fast
instrument. D24's work is 20 samples of 250 calls of their network, 132.7 GFLOP each at 128 x 128;
calls are timed in the same process and precision, and multiplied. Beside that network stands a
plain convolutional U-Net of the same cost, which has no attention and so takes less time for it.
"""

import json
import resource
import time
from pathlib import Path

import astropy.units as u
import click
import numpy as np
import torch
from astropy.nddata import CCDData
from evaluated import Weights
from radio_beam import Beam
from targets import Targets
from torch.utils.flop_counter import FlopCounterMode

from diffsky.backend import sample_generator, select_backend
from diffsky.deconvolution import PRESETS
from diffsky.deconvolution.observation import prepare_observation
from diffsky.deconvolution.psf_checks import fit_beam
from diffsky.diffusion import UNet, build_network
from diffsky.instrument import instrument_from_setup
from diffsky.simulation import PRIORS, ObservationSetup, render_sources

SEED = 9003
SAMPLES, D24_CALLS = 20, 250
GIGAFLOP = 132.7
# Channels of a U-Net on single pixels whose cost at 128 x 128 is D24's.
PLAIN = {"channels": (144, 288, 432, 576), "blocks": 1, "patch": 1}
LIMITS = {"cpu": 20.0, "cuda": 0.15}  # s of sampling: two cores, an H100


def full_field():
    """Dirty image and primary beam of a field of D24's size."""
    setup = ObservationSetup()
    instrument = instrument_from_setup(setup)
    pixel = setup.cell.to_value(u.arcsec)
    axes = np.array(fit_beam(instrument.psf((257, 257)).numpy()))
    beam = Beam(*(axes * pixel * u.arcsec), 0 * u.deg)
    sources = PRIORS["independent"].draw(np.random.default_rng([SEED, 2, 0]))
    kernel = 0.4 * np.sqrt(axes.prod())
    owner = np.zeros(len(sources), dtype=int)
    shape = (setup.image_size, setup.image_size)
    sky = render_sources(sources, owner, 1, shape, pixel=pixel, kernel_fwhm=kernel)
    dirty = instrument.observe(sky, [sample_generator(SEED, 3, 0)], kernel_fwhm=kernel)[0].numpy()
    gain = instrument.primary_beam.numpy()
    image = CCDData(
        dirty, unit="Jy/beam", wcs=setup.wcs, mask=gain < setup.pblimit, meta={"beam": beam}
    )
    return image, gain


def median_time(function, repeats, device):
    """Median wall time of a call after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def time_call(name, network, backend, batch, repeats, *, shape=(2, 128, 128), cost=GIGAFLOP):
    """Seconds of one call for one image, scaled to a cost in GFLOP that is known exactly."""
    network = backend.prepare(network)
    image = torch.randn(batch, *shape, device=backend.device)
    level = torch.ones(batch, device=backend.device)
    with torch.inference_mode(), backend.autocast():
        with FlopCounterMode(display=False) as counter:
            network(image[:1], level[:1])
        seconds = median_time(lambda: network(image, level), repeats, backend.device) / batch
    counted = counter.get_total_flops() / 1e9
    size = " x ".join(map(str, shape[1:]))
    print(f"{name}: {counted:.1f} GFLOP a call at {size}, {seconds:.3f} s an image")
    return seconds * cost / counted


@click.command()
@click.option("--weights", default="alma-band6", show_default=True)
@click.option("--sampler", default=None, help="By default that of the weights.")
@click.option("--steps", default=None, type=int, help="By default those of the weights.")
@click.option("--device", default=None)
@click.option("--repeats", default=3, show_default=True)
@click.option("--ratio", default=300.0, show_default=True, help="Target; 1000 where distilled.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(weights, sampler, steps, device, repeats, ratio, record):
    """Print seconds, memory and the ratio to D24's work."""
    backend, image = select_backend(device), full_field()
    deconvolver = Weights(weights, SAMPLES, sampler, steps, device).load()
    prepared = prepare_observation(
        image[0],
        primary_beam=image[1],
        stride=deconvolver.denoiser_.network.stride,
        **deconvolver.preset_.scale.grid,
    )

    def sample():
        deconvolver.sample_apparent(prepared, n_samples=SAMPLES, seed=1)

    def predict():
        deconvolver.predict(image[0], primary_beam=image[1], n_samples=SAMPLES, seed=1)

    kind, targets = backend.device.type, Targets()
    threads = f", {torch.get_num_threads()} threads" if kind == "cpu" else ""
    print(f"{kind}{threads}, {backend.precision}, seed 1, field seed {SEED}")
    print(f"weights {weights}, {deconvolver.sampling_plan()}")
    sampling = median_time(sample, repeats, backend.device)
    whole = median_time(predict, repeats, backend.device)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"predict, {SAMPLES} samples, catalogue included: {whole:.2f} s; peak memory of the "
          f"process {memory:.2f} GiB")  # fmt: skip
    targets.check_number(f"seconds of sampling, {kind}", sampling, 0.0, high=LIMITS.get(kind))
    # D24 have all samples in one batch; on a CPU, where a batch gains nothing, one will do.
    batch = 1 if kind == "cpu" else SAMPLES
    networks = {
        "D24's network": build_network(PRESETS["drozdova2024"].network),
        "plain U-Net": UNet(2, **PLAIN),
    }
    for name, network in networks.items():
        call = time_call(name, network.eval(), backend, batch, repeats)
        work = SAMPLES * D24_CALLS * call
        print(f"  {SAMPLES} x {D24_CALLS} calls x {call:.4f} s = {work:.1f} s; over the whole of "
              f"predict {work / whole:.0f}")  # fmt: skip
        low = ratio if name.startswith("D24") else None
        targets.check_number(f"times faster, sampling against {name}", work / sampling, 0.0, low)
    if record is not None:
        record.write_text(json.dumps(targets.rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
