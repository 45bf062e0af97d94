"""How long 20 samples of a full D24 field take, beside the work that D24 do for them.

    python benchmarks/speed.py

The field is 512 x 512 pixels of 0.1 arcsec with the primary beam cut at 0.2. D24's work is 20
samples of 250 network calls of 132.7 GFLOP; one call of a plain convolutional U-Net widened to
that cost is timed in the same process and precision, and multiplied.
"""

import resource
import time

import click
import numpy as np
import torch
from fields import CASA, casa_fields
from torch.utils.flop_counter import FlopCounterMode

from diffsky import DiffusionDeconvolver
from diffsky.backend import select_backend
from diffsky.diffusion import UNet

CALLS = 20 * 250
GIGAFLOP = 132.7
# Channels of a U-Net on single pixels whose cost at 128 x 128 is D24's.
PLAIN = {"channels": (144, 288, 432, 576), "blocks": 1, "patch": 1}


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


def time_plain_call(backend, repeats):
    """Seconds of one call of the plain U-Net, scaled to D24's cost exactly."""
    network = backend.prepare(UNet(2, **PLAIN))
    image = torch.randn(1, 2, 128, 128, device=backend.device)
    level = torch.zeros(1, device=backend.device)
    with torch.inference_mode(), backend.autocast():
        with FlopCounterMode(display=False) as counter:
            network(image, level)
        seconds = median_time(lambda: network(image, level), repeats, backend.device)
    cost = counter.get_total_flops() / 1e9
    print(f"plain U-Net: {cost:.1f} GFLOP a call at 128 x 128, {seconds:.3f} s")
    return seconds * GIGAFLOP / cost


@click.command()
@click.option("--weights", default="alma-band6", show_default=True)
@click.option("--device", default=None)
@click.option("--repeats", default=3, show_default=True)
def main(weights, device, repeats):
    """Print seconds, memory and the ratio to D24's work."""
    deconvolver = DiffusionDeconvolver.from_pretrained(weights, device=device)
    field = next(casa_fields(1, CASA))

    def predict():
        deconvolver.predict(field.dirty, primary_beam=field.primary_beam, n_samples=20, seed=1)

    backend = select_backend(device)
    ours = median_time(predict, repeats, backend.device)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    call = time_plain_call(backend, repeats)
    threads = f", {torch.get_num_threads()} threads" if backend.device.type == "cpu" else ""
    print(f"{backend.device.type}{threads}, {backend.precision}, seed 1, field seed {CASA}")
    print(f"predict, 20 samples, catalogue included: {ours:.1f} s, peak memory {memory:.2f} GiB")
    print(f"{deconvolver.sampling_plan()}")
    print(f"D24's work: {CALLS} calls x {call:.3f} s = {CALLS * call:.0f} s")
    print(f"ratio: {CALLS * call / ours:.0f}")


if __name__ == "__main__":
    main()
