"""A generator that a few steps have trained, with weights that let its condition matter."""

from dataclasses import replace

import numpy as np
import torch

from diffsky import RadioGalaxyGenerator
from diffsky.generation import PRESETS

NETWORK = {"type": "unet", "in_channels": 1, "channels": (8, 16), "blocks": 1, "width": 16}
PLAN = {"steps": 6, "batch_size": 4, "seed": 1}
LABELS = ("round", "wide")


def make_images(n=12, size=16):
    """Gaussians of growing peaks, in Jy/beam."""
    rows, columns = np.indices((size, size)) - size / 2
    widths = np.linspace(1, 3, n)[:, None, None]
    peaks = np.geomspace(1e-3, 1e-1, n)[:, None, None]
    return peaks * np.exp(-(rows**2 + columns**2) / (2 * widths**2))


def make_small(preset=None, **options):
    preset = preset or replace(PRESETS["compact"], network=NETWORK)
    return RadioGalaxyGenerator(preset, device="cpu", precision="float32", n_steps=3, **options)


def wake(generator):
    """Random weights in place of those of a few steps."""
    torch.manual_seed(2)
    for parameter in generator.denoiser_.network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return generator


def fit_small(**options):
    labels = LABELS * 6
    return wake(make_small().fit(make_images(), **{"labels": labels, **PLAN, **options}))
