"""Bright images count less in the loss, and what it aims at stays the same."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from diffsky.deconvolution import FluxScale, WorkingScale
from diffsky.deconvolution.balancing import BalancedLoss
from diffsky.diffusion import Denoiser, denoising_errors, denoising_loss

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
SCALE = WorkingScale()
SIGMA = torch.tensor([0.5, 1.0, 2.0])


class Level(nn.Module):
    """A network that says the same everywhere, one number for each image."""

    def __init__(self):
        super().__init__()
        self.values = nn.Parameter(torch.tensor([0.1, -0.2, 0.3]))

    def forward(self, channels, c_noise):
        return self.values[:, None, None, None].expand(len(channels), 1, *channels.shape[2:])


def images(*, rms=(1.0, 0.3, 20.0), size=16):
    """Targets, conditions with a dirty image of known root mean square, and noise."""
    stream = torch.Generator().manual_seed(0)
    target, noise, dirty = torch.randn(3, 3, 1, size, size, generator=stream)
    dirty = dirty[:, 0] / dirty.square().mean(dim=(1, 2, 3), keepdim=True)[:, 0] ** 0.5
    dirty = dirty * torch.tensor(rms)[:, None, None]
    return target, SCALE.condition(dirty, torch.ones_like(dirty)), noise


def test_power_is_that_of_the_dirty_image():
    _, condition, _ = images()
    assert_close(SCALE.dirty_power(condition), torch.tensor([1.0, 0.09, 400.0]))


def test_bright_images_count_less():
    target, condition, noise = images()
    arguments = (Denoiser(Level()), target, condition, SIGMA, noise)
    errors = denoising_errors(*arguments)
    assert_close(errors.mean(), denoising_loss(*arguments))
    expected = (errors[0] + errors[1] + errors[2] / 20) / 3
    assert_close(BalancedLoss(SCALE)(*arguments), expected)


def test_least_loss_of_every_image_is_where_it_was():
    """Gradients of what belongs to one image are scaled by a positive number alone."""
    target, condition, noise = images()
    gradients = []
    for loss in (denoising_loss, BalancedLoss(SCALE)):
        network = Level()
        loss(Denoiser(network), target, condition, SIGMA, noise).backward()
        gradients.append(network.values.grad)
    assert_close(gradients[1] / gradients[0], torch.tensor([1.0, 1.0, 1 / 20]))


def test_scale_in_jansky_is_refused():
    with pytest.raises(ValueError, match="balance is True for pairs of FluxScale; expected Work"):
        BalancedLoss(FluxScale())


class Pairs:
    """Noise and point sources of any brightness."""

    def __init__(self, scale):
        self.scale = scale

    def __len__(self):
        return 0

    def batch(self, numbers, device="cpu"):
        streams = [torch.Generator().manual_seed(k) for k in numbers]
        sky = torch.zeros(len(numbers), 16, 16)
        sky[:, 8, 8] = 10.0 ** (torch.tensor(numbers) % 4)
        dirty = sky + torch.stack([torch.randn(16, 16, generator=one) for one in streams])
        return self.scale.scale_target(sky)[:, None], self.scale.condition(dirty, dirty * 0 + 1)


@pytest.mark.parametrize("warm_start", [False, True])
def test_fit_notes_it_and_has_a_smaller_loss(tiny_preset, untrained, warm_start):
    plan = {"steps": 2, "batch_size": 8, "progress": False, "warm_start": warm_start}
    losses = {}
    untrained.description_ |= {"version": 1, "preset": "tiny", "training": {}}
    for balance in (True, False):
        deconvolver = untrained.fit(Pairs(tiny_preset.scale), balance=balance, **plan)
        about = deconvolver.description_["training"]
        assert about.get("balance", False) is balance
        losses[balance] = about["loss"]
    assert losses[True] < losses[False] / 2
