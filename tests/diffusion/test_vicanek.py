"""The U-Net of V24: its size, its attention and its context."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffsky.diffusion import VicanekUNet, build_network
from diffsky.diffusion.vicanek import EfficientAttention, StackedDownsample


def make_network(**options):
    """A small network of random weights; a new one returns zeros."""
    torch.manual_seed(3)
    options = {"context": 2, "channels": 4, "groups": 2, "head_channels": 4, **options}
    network = VicanekUNet(blocks=1, multipliers=(1, 2), attention=(1,), **options).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_size():
    """Parameters and operations of the published network; the meta device has shapes alone."""
    with torch.device("meta"):
        network = build_network({"type": "vicanek", "context": 1})
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(torch.zeros(1, 1, 80, 80), torch.zeros(1), torch.zeros(1, 1))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(30.9, abs=0.05)
    assert counter.get_total_flops() / 1e9 == pytest.approx(83.2, abs=0.05)


def test_attention_is_at_40_and_20_pixels():
    seen = []
    network = VicanekUNet(channels=8, groups=8, head_channels=4)
    for module in network.modules():
        if isinstance(module, EfficientAttention):
            module.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape[1:])))
    network(draw(1, 1, 80, 80), torch.zeros(1))
    low, high = (16, 40, 40), (16, 20, 20)
    assert seen == [low] * 2 + [high] * 2 + [high] + [high] * 3 + [low] * 3


def test_attention_is_that_of_the_equation():
    """V24 eq. 15 with the pixels in rows: softmax over channels of Q, over pixels of K."""
    torch.manual_seed(0)
    layer = EfficientAttention(8, groups=2, heads=2, head_channels=3)
    x = draw(2, 8, 4, 5)
    q, k, v = layer.qkv(layer.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
    heads = []
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        weights = torch.softmax(q[..., part] / math.sqrt(3), dim=2)
        known = torch.softmax(k[..., part], dim=1).transpose(1, 2) @ v[..., part]
        heads.append(weights @ known)
    inner = torch.cat(heads, dim=2).transpose(1, 2).reshape(2, 6, 4, 5)
    expected = x + layer.out_norm(layer.out(inner))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_downsampling_stacks_the_four_pixels():
    layer = StackedDownsample(1)
    nn.init.zeros_(layer[1].bias)
    layer[1].weight.data = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(1, 4, 1, 1)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    assert layer(x).item() == 4321


def test_new_network_returns_zeros():
    network = VicanekUNet(context=1, channels=8, groups=8)
    out = network(draw(2, 1, 16, 16), torch.zeros(2), torch.zeros(2, 1))
    assert torch.equal(out, torch.zeros(2, 1, 16, 16))


def test_context_changes_the_output_and_nan_does_not():
    network, x, level = make_network(), draw(3, 1, 8, 8), torch.zeros(3)
    context = torch.tensor([[1.0, 0.0], [0.0, 1.0], [torch.nan, 0.0]])
    with torch.inference_mode():
        with_it, without = network(x, level, context), network(x, level)
    assert (with_it[:2] - without[:2]).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert torch.equal(with_it[2], without[2])


def test_gradient_without_context_is_finite():
    network = make_network()
    context = torch.full((2, 2), torch.nan)
    network(draw(2, 1, 8, 8), torch.zeros(2), context).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("length", [1, 3])
def test_context_of_another_length(length):
    with pytest.raises(ValueError, match=rf"\(1, {length}\); expected 2 values for each image"):
        make_network()(draw(1, 1, 8, 8), torch.zeros(1), torch.zeros(1, length))


def test_context_for_a_network_without():
    with pytest.raises(ValueError, match="expected 0 values"):
        make_network(context=0)(draw(1, 1, 8, 8), torch.zeros(1), torch.zeros(1, 1))


def test_bad_size():
    with pytest.raises(ValueError, match="9 x 8 pixels; expected multiples of 2"):
        make_network()(draw(1, 1, 9, 8), torch.zeros(1))


def test_bad_channels():
    with pytest.raises(ValueError, match="channels is 48; expected a multiple of groups"):
        VicanekUNet(channels=48)
