"""The generative core: it knows no astronomy."""

from diffsky.diffusion.networks import UNet, build_network
from diffsky.diffusion.preconditioning import Denoiser
from diffsky.diffusion.samplers import (
    SAMPLERS,
    get_sampler,
    sample_dpmpp_2m,
    sample_euler,
    sample_heun,
)
from diffsky.diffusion.schedules import edm_sigmas

__all__ = [
    "SAMPLERS",
    "Denoiser",
    "UNet",
    "build_network",
    "edm_sigmas",
    "get_sampler",
    "sample_dpmpp_2m",
    "sample_euler",
    "sample_heun",
]
