"""A training of a few seconds whose end is known."""

import torch

from diffsky.backend import sample_generator, select_backend
from diffsky.diffusion import Denoiser, UNet
from diffsky.diffusion.training import train_denoiser

STEPS = 12


class Pairs:
    """Random images of 8 x 8 pixels and half of them as condition; a few, or without end."""

    def __init__(self, n=0, *, on_call=None):
        self.n, self.on_call = n, on_call
        self.numbers = []

    def __len__(self):
        return self.n

    def batch(self, numbers, device):
        """Make the images; say before which call this is."""
        if self.on_call is not None:
            self.on_call(len(self.numbers))
        self.numbers.append(list(numbers))
        streams = [sample_generator(9, k) for k in numbers]
        target = torch.stack([torch.randn(1, 8, 8, generator=stream) for stream in streams])
        return target.to(device), (target / 2).to(device)


def make_denoiser():
    """A network of a few parameters, always the same."""
    torch.manual_seed(0)
    return Denoiser(UNet(2, channels=(4,), blocks=1, width=4))


def train(denoiser, pairs, **options):
    """Train it for a few steps."""
    plan = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-2, "ema_decay": 0.5}
    plan |= {"backend": select_backend("cpu", "float32"), **options}
    return train_denoiser(denoiser, pairs, **plan)


def weights(denoiser):
    """All weights, in a row."""
    return torch.cat([p.detach().flatten() for p in denoiser.parameters()]).clone()
