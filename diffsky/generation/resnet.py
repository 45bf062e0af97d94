"""ResNet-18, and the classifier that V24 make of it (section 5.3)."""

import torch
from torch import nn

from diffsky.backend import fit_batch_size

__all__ = ["ResNet18", "ResNetClassifier", "compute_logits"]

WIDTHS = (64, 128, 256, 512)  # channels of the four stages (He et al. 2016, table 1)
_HIDDEN = 256
_BYTES_PER_PIXEL = 400  # of the stem, without gradients


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al. 2016, fig. 2).

    Parameters
    ----------
    channels_in, channels_out : int
        Channels before and after.
    stride : int
        Of the first convolution. Where the shape changes, the shortcut is a 1 x 1 convolution.
    """

    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(channels_in, channels_out, 3, stride),
            nn.ReLU(inplace=True),
            *_convolution(channels_out, channels_out, 3, 1),
        )
        same = stride == 1 and channels_in == channels_out
        projection = () if same else _convolution(channels_in, channels_out, 1, stride)
        self.shortcut = nn.Sequential(*projection)
        self.end = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.end(self.layers(x) + self.shortcut(x))


class ResNet18(nn.Module):
    """Residual network of 18 layers without its last one (He et al. 2016, table 1).

    Parameters
    ----------
    in_channels : int, optional
        Channels of the images, of shape (n, in_channels, ny, nx). Default 1. The output has shape
        (n, `features`), whatever ny and nx.
    """

    def __init__(self, in_channels=1):
        super().__init__()
        widths = (WIDTHS[0], *WIDTHS)
        self.stem = nn.Sequential(
            *_convolution(in_channels, widths[0], 7, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks = []
        for stage in range(4):
            before, after = widths[stage : stage + 2]
            blocks.append(ResidualBlock(before, after, 1 if stage == 0 else 2))
            blocks.append(ResidualBlock(after, after, 1))
        self.stages = nn.Sequential(*blocks)
        self.features = widths[-1]

    def forward(self, x):
        return self.stages(self.stem(x)).mean(dim=(2, 3))


class ResNetClassifier(nn.Module):
    """ResNet-18 with the head of V24 section 5.3, which has no non-linearities.

    Parameters
    ----------
    n_classes : int
        Length of the output, the logits.
    dropout : float, optional
        Share of the values that training drops before either linear layer. Default 0.5.
    """

    def __init__(self, n_classes, dropout=0.5):
        super().__init__()
        self.encoder = ResNet18()
        features = self.encoder.features
        self.head = nn.Sequential(
            nn.BatchNorm1d(features),
            nn.Dropout(dropout),
            nn.Linear(features, _HIDDEN),
            nn.Dropout(dropout),
            nn.Linear(_HIDDEN, n_classes),
        )

    def forward(self, x):
        return self.head(self.encoder(x))


def compute_logits(network, images, backend):
    """Logits of images, computed in batches that the memory holds.

    Parameters
    ----------
    network : `ResNetClassifier`
        In evaluation mode, on the device of the backend.
    images : `torch.Tensor`
        Shape (n, 1, ny, ny), -1 to 1.
    backend : `diffsky.backend.Backend`
        Device and precision.

    Returns
    -------
    logits : `torch.Tensor`
        Shape (n, number of classes), float32, on the CPU.
    """
    bytes_per_image = _BYTES_PER_PIXEL * images.shape[-1] ** 2
    size = fit_batch_size(backend, bytes_per_image, limit=max(1, len(images)))
    with torch.inference_mode(), backend.autocast():
        parts = [network(part.to(backend.device)).float().cpu() for part in images.split(size)]
    return torch.cat(parts)


def _convolution(channels_in, channels_out, size, stride):
    """A convolution that starts as He et al. (2015) have it, and its batch normalisation."""
    layer = nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer, nn.BatchNorm2d(channels_out)
