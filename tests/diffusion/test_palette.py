"""The U-Net of D24: its size, and what it sees."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffsky.diffusion import PaletteUNet, build_network

STEP = torch.zeros(1)


def make_network(**options):
    """A small network of random weights; a new one returns zeros."""
    torch.manual_seed(3)
    options = {"channels": 4, "groups": 2, "head_channels": 4, "multipliers": (1, 2), **options}
    network = PaletteUNet(2, attention=(1,), blocks=1, **options).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("channels", "parameters", "flop"), [(128, 95.0, 132.7), (32, 6.0, 8.4)])
def test_size(channels, parameters, flop):
    """Parameters in millions and GFLOP a call; the meta device computes shapes alone."""
    with torch.device("meta"):
        network = build_network({"type": "palette", "in_channels": 2, "channels": channels})
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(torch.zeros(1, 2, 128, 128), torch.zeros(1))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(parameters, abs=0.05)
    assert counter.get_total_flops() / 1e9 == pytest.approx(flop, abs=0.05)


def test_attention_is_at_16_and_8_pixels():
    seen = []
    network = PaletteUNet(2, channels=8, groups=8, head_channels=8)
    for module in network.modules():
        if type(module).__name__ == "Attention":
            module.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape[1:])))
    network(draw(1, 2, 128, 128), STEP)
    down, up = [(24, 16, 16)] * 2 + [(32, 8, 8)] * 2, [(32, 8, 8)] * 3 + [(24, 16, 16)] * 3
    assert seen == [*down, (32, 8, 8), *up]


def test_attention_sees_the_whole_field():
    """One pixel in a corner changes the opposite one, but not without attention."""
    x = draw(1, 2, 64, 64)
    changed = x.clone()
    changed[..., 0, 0] += 3
    network = make_network()
    with torch.inference_mode():
        assert (network(changed, STEP) - network(x, STEP))[..., -1, -1].abs() > 0
        embedding = network.embedding(STEP)
        block = network.down[0]
        h = torch.cat([x, x], dim=1)
        moved = torch.cat([changed, x], dim=1)
        block.norm1, block.norm2 = nn.Identity(), nn.Identity()
        difference = block(moved, embedding) - block(h, embedding)
    assert difference[..., 8:, 8:].abs().max() == 0


def test_attention_is_softmax_of_products():
    torch.manual_seed(0)
    layer = make_network().middle[1]
    x = draw(2, 8, 3, 5)
    values = layer.qkv(layer.norm(x).flatten(2).transpose(1, 2))
    expected = []
    for head in range(layer.heads):
        q, k, v = (values[..., 8 * i + 4 * head : 8 * i + 4 * head + 4] for i in range(3))
        expected.append(torch.softmax(q @ k.transpose(1, 2) / 2, dim=-1) @ v)
    expected = layer.out(torch.cat(expected, dim=-1)).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), x + expected, rtol=1e-4, atol=1e-4)


def test_film_scales_and_shifts():
    block = make_network().down[0]
    x, embedding = draw(1, 4, 8, 8), draw(1, 16)
    scale, shift = block.film(embedding)[0].chunk(2)
    h = block.norm2(block.conv1(nn.functional.silu(block.norm1(x))))
    h = (1 + scale)[:, None, None] * h + shift[:, None, None]
    expected = x + block.conv2(nn.functional.silu(h))
    torch.testing.assert_close(block(x, embedding), expected)


def test_time_step_matters():
    network, x = make_network(), draw(1, 2, 16, 16)
    one, other = (network(x, torch.tensor([step])) for step in (500.0, 501.0))
    assert (one - other).abs().max() > 1e-4 * one.std()


def test_images_of_a_batch_do_not_mix():
    network = make_network()
    x, step = draw(3, 2, 16, 16), torch.tensor([0.0, 10.0, 999.0])
    together = network(x, step)
    for k in range(3):
        alone = network(x[k : k + 1], step[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-4)


def test_new_network_returns_zero():
    network = PaletteUNet(2, channels=4, groups=2, head_channels=4)
    assert torch.equal(network(draw(1, 2, 32, 32), STEP), torch.zeros(1, 1, 32, 32))


def test_gradients_reach_every_parameter():
    network = make_network()
    network(draw(2, 2, 8, 8), torch.tensor([3.0, 700.0])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_dropout_is_for_training_alone():
    network, x = make_network(dropout=0.5), draw(1, 2, 8, 8)
    assert torch.equal(network(x, STEP), network(x, STEP))
    network.train()
    assert not torch.equal(network(x, STEP), network(x, STEP))


def test_stride_and_memory():
    network = PaletteUNet(2, channels=4, groups=2, head_channels=4)
    assert network.stride == 16
    with pytest.raises(ValueError, match="image of 24 x 32 pixels; expected multiples of 16"):
        network(draw(1, 2, 24, 32), STEP)
    double = PaletteUNet(2, channels=8, groups=2, head_channels=4)
    assert double.memory_per_pixel() == pytest.approx(2 * network.memory_per_pixel())


@pytest.mark.parametrize("options", [{"channels": 48}, {"channels": 64, "head_channels": 48}])
def test_channels_that_do_not_divide(options):
    with pytest.raises(ValueError, match=r"channels is .*; expected a multiple of groups \(32\)"):
        PaletteUNet(2, **options)
