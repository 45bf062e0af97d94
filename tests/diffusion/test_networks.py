"""The U-Net: a local, translation equivariant function of fields of any size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diffsky.diffusion import UNet, build_network
from diffsky.diffusion.networks import add_position

CONFIGS = [
    {"channels": (4,), "blocks": 1, "patch": 1},
    {"channels": (4,), "blocks": 2, "patch": 2},
    {"channels": (4, 6), "blocks": 1, "patch": 1},
    {"channels": (4, 6), "blocks": 1, "patch": 2},
    {"channels": (4, 4, 6), "blocks": 1, "patch": 2},
]
C_NOISE = torch.zeros(1)


def make_network(*, in_channels=1, **config):
    """A network of random weights in double precision; a new one returns zeros."""
    torch.manual_seed(3)
    network = UNet(in_channels, width=8, **config).double().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("corner", [0, -1])
def test_reach(config, corner):
    """No pixel beyond reach has a gradient, and one not far within it has."""
    network = make_network(**config)
    stride, reach = network.stride, network.reach
    n = 2 * (reach // stride + 3) * stride
    centre = n // 2 // stride * stride + corner % stride
    x = draw(1, 1, n, n).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, C_NOISE)[0, 0, centre, centre], x)
    distance = (gradient[0, 0].nonzero() - centre).abs().max().item()
    assert distance <= reach
    assert distance > reach - 2 * stride


def test_change_beyond_reach_changes_nothing():
    network = make_network(channels=(4, 6), blocks=1, patch=2)
    reach, n = network.reach, 144
    x = draw(1, 1, n, n)
    changed = x.clone()
    changed[..., 71, 71] += 10
    with torch.inference_mode():
        difference = (network(changed, C_NOISE) - network(x, C_NOISE))[0, 0]
    rows, columns = difference.nonzero().T
    assert len(rows) > 100
    assert (rows - 71).abs().max() <= reach
    assert (columns - 71).abs().max() <= reach


def test_translation_by_the_stride():
    network = make_network(channels=(4, 6), blocks=1, patch=2)
    stride = network.stride
    margin = (network.reach // stride + 2) * stride
    x = draw(1, 1, 2 * margin + 24, 2 * margin + 32)  # a few pixels remain
    moved = torch.roll(x, (stride, -2 * stride), (-2, -1))
    with torch.inference_mode():
        one = torch.roll(network(x, C_NOISE), (stride, -2 * stride), (-2, -1))
        other = network(moved, C_NOISE)
    inner = (
        ...,
        slice(margin + stride, -margin - stride),
        slice(margin + stride, -margin - stride),
    )
    assert one[inner].numel() > 0
    assert one[inner].std() > 0
    torch.testing.assert_close(one[inner], other[inner])


def test_position_is_known_where_it_is_asked_for():
    """An even image has an even response within the border, unless the network knows places."""
    for position in (False, True):
        network = make_network(channels=(4,), blocks=1, patch=1, position=position)
        n = 2 * network.reach + 8
        with torch.inference_mode():
            response = network(torch.ones(1, 1, n, n, dtype=torch.float64), C_NOISE)
        inner = response[0, 0, network.reach : -network.reach, network.reach : -network.reach]
        assert (inner.std() > 1e-3) == position


def test_position_has_the_symmetry_of_the_image():
    channels = add_position(torch.zeros(2, 1, 4, 6))
    assert channels.shape == (2, 4, 4, 6)
    across, along, square = channels[1, 1:]
    torch.testing.assert_close(across, -across.flip(1))
    torch.testing.assert_close(along, -along.flip(0))
    torch.testing.assert_close(square, across**2 + along**2)
    assert across.max() == along.max() == 1


def test_attention_sees_the_whole_image():
    """A pixel beyond the reach of the convolutions changes the far corner with attention alone."""
    config = {"channels": (4, 32), "blocks": 1, "patch": 1}
    plain, attentive = make_network(**config), make_network(attention=(1,), **config)
    assert attentive.reach == np.inf
    n = 2 * (plain.reach // plain.stride + 2) * plain.stride
    x = draw(1, 1, n, n)
    other = x.clone()
    other[..., 0, 0] += 1
    with torch.inference_mode():
        changes = [
            (network(other, C_NOISE) - network(x, C_NOISE))[0, 0, -1, -1].abs()
            for network in (plain, attentive)
        ]
    assert changes[0] == 0
    assert changes[1] > 1e-9


def test_attention_starts_as_the_identity():
    """Trained weights go on as they were in a network that attention was added to."""
    config = {"channels": (4, 32), "blocks": 1, "patch": 1}
    plain = make_network(**config)
    torch.manual_seed(0)
    grown = UNet(1, width=8, attention=(1,), **config).double().eval()
    keys = grown.load_state_dict(plain.state_dict(), strict=False)
    assert keys.missing_keys
    assert all("attention" in key for key in keys.missing_keys)
    assert not keys.unexpected_keys
    x = draw(1, 1, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(grown(x, C_NOISE), plain(x, C_NOISE))


@pytest.mark.parametrize(
    ("channels", "attention"), [((4, 32), (0,)), ((32,), (1,)), ((32,), (-1,))]
)
def test_attention_needs_a_resolution_with_heads(channels, attention):
    with pytest.raises(ValueError, match=r"attention at resolution -?\d of channels .* of 32"):
        UNet(1, channels=channels, attention=attention)


def test_tile_agrees_with_the_field():
    network = make_network(channels=(4, 6), blocks=1, patch=2)
    stride, reach = network.stride, network.reach
    x = draw(1, 1, 192, 192)
    start, size = 5 * stride, 2 * (reach // stride + 1) * stride + 8 * stride
    tile = x[..., start : start + size, start : start + size]
    with torch.inference_mode():
        whole, part = network(x, C_NOISE), network(tile, C_NOISE)
    whole = whole[..., start : start + size, start : start + size]
    inner = (..., slice(reach, -reach), slice(reach, -reach))
    assert part[inner].shape[-1] >= 8
    torch.testing.assert_close(part[inner], whole[inner])
    assert not torch.allclose(part, whole)  # the border does differ


@settings(max_examples=25)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), n=st.integers(1, 3))
def test_any_multiple_of_the_stride(rows, columns, n):
    network = make_network(in_channels=3, channels=(4, 4, 4), blocks=1, patch=2)
    assert network.stride == 8
    shape = (8 * rows, 8 * columns)
    assert network(draw(n, 3, *shape), torch.zeros(n)).shape == (n, 1, *shape)


@settings(max_examples=25)
@given(ny=st.integers(1, 40), nx=st.integers(1, 40))
def test_other_sizes_refused(ny, nx):
    network = make_network(channels=(4, 4), blocks=1, patch=2)
    if ny % 4 or nx % 4:
        with pytest.raises(
            ValueError, match=f"image of {ny} x {nx} pixels; expected multiples of 4"
        ):
            network(draw(1, 1, ny, nx), C_NOISE)


def test_images_of_a_batch_do_not_mix():
    network = make_network(channels=(4, 6), blocks=1, patch=2)
    x, c_noise = draw(3, 1, 16, 16), torch.tensor([-1.0, 0.0, 1.0])
    together = network(x, c_noise)
    for k in range(3):
        torch.testing.assert_close(together[k : k + 1], network(x[k : k + 1], c_noise[k : k + 1]))


def test_noise_level_matters():
    network = make_network(channels=(4,), blocks=1, patch=1)
    x = draw(1, 1, 4, 4)
    assert not torch.allclose(network(x, C_NOISE), network(x, C_NOISE + 0.01), rtol=1e-4)


def test_new_network_returns_zero():
    """So that a new denoiser starts at c_skip x."""
    network = UNet(2, channels=(4,), blocks=1, width=4)
    assert torch.equal(network(torch.randn(1, 2, 4, 4), C_NOISE), torch.zeros(1, 1, 4, 4))


def test_out_channels():
    network = UNet(2, 3, channels=(4,), blocks=1, width=4)
    assert network(torch.randn(1, 2, 4, 4), C_NOISE).shape == (1, 3, 4, 4)


def test_memory_grows_with_the_network():
    small, large = UNet(3, channels=(8, 8), width=4), UNet(3, channels=(16, 16), width=4)
    assert large.memory_per_pixel() == pytest.approx(2 * small.memory_per_pixel())
    assert small.memory_per_pixel(2) == pytest.approx(small.memory_per_pixel() / 2)


def test_gradients_reach_every_parameter():
    network = make_network(channels=(4, 6), blocks=1, patch=2)
    network(draw(2, 1, 8, 8), torch.zeros(2)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_build():
    config = {"type": "unet", "in_channels": 3, "channels": [4, 8], "blocks": 1, "width": 4}
    network = build_network(config)
    assert isinstance(network, UNet)
    assert network.channels == (4, 8)
    assert config["type"] == "unet"


@pytest.mark.parametrize("kind", ["vit", None])
def test_build_refused(kind):
    with pytest.raises(ValueError, match=f"network type is {kind!r}; expected one of unet"):
        build_network({"type": kind, "in_channels": 3})
