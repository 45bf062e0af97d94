"""ResNet-18 has the parameters and shapes that were published."""

import torch
from torch import nn

from diffsky.generation.resnet import ResNet18, ResNetClassifier


def test_parameters():
    """Those of He et al. (2016), 11.18 million without the last layer, for one colour of three."""
    count = sum(value.numel() for value in ResNet18().parameters())
    three = sum(value.numel() for value in ResNet18(3).parameters())
    assert (count, three) == (11_176_512 - 2 * 64 * 7 * 7, 11_176_512)
    assert round(count / 1e6, 2) == 11.17
    head = sum(value.numel() for value in ResNetClassifier(4).parameters()) - count
    assert head == 2 * 512 + (512 + 1) * 256 + (256 + 1) * 4


def test_layers():
    network = ResNet18()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert sum(layer.kernel_size != (1, 1) for layer in convolutions) == 17  # and the last one
    sizes = []
    for stage in network.stages[1::2]:
        stage.register_forward_hook(lambda layer, given, out: sizes.append(tuple(out.shape[1:])))
    with torch.no_grad():
        assert network.eval()(torch.zeros(2, 1, 80, 80)).shape == (2, 512)
    assert sizes == [(64, 20, 20), (128, 10, 10), (256, 5, 5), (512, 3, 3)]


def test_head_is_linear():
    head = ResNetClassifier(3).eval().head
    a, b, zero = torch.randn(5, 512), torch.randn(5, 512), torch.zeros(5, 512)
    with torch.no_grad():
        torch.testing.assert_close(head(a + b) - head(zero), head(a) + head(b) - 2 * head(zero))
