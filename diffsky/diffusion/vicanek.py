"""The U-Net of V24, with efficient attention and a context vector (V24 section 4.1)."""

import math

import torch
from torch import nn
from torch.nn import functional

from diffsky.diffusion.context import ContextEmbedding, FeatureEmbedding, add_context

__all__ = ["VicanekUNet"]

_MAX_PERIOD = 1e5


class SinusoidalEmbedding(nn.Module):
    """Sines and cosines of the noise level (V24 section 4.1).

    Parameters
    ----------
    width : int
        Length of the embedding, even: (n,) noise levels become (n, width).
    """

    def __init__(self, width):
        super().__init__()
        half = width // 2
        exponents = torch.arange(half) / (half - 1)
        self.register_buffer("frequencies", _MAX_PERIOD**-exponents, persistent=False)

    def forward(self, c_noise):
        angle = c_noise.float()[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class StackedDownsample(nn.Sequential):
    """Stack the four pixels of each square as channels and mix them with a 1 x 1 convolution.

    Parameters
    ----------
    channels : int
        Channels before and after; height and width are halved.
    """

    def __init__(self, channels):
        super().__init__(nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, channels, 1))


class VicanekBlock(nn.Module):
    """Building block of V24 fig. 6: two normalised 3 x 3 convolutions with FiLM, and a skip.

    The second convolution starts at zero, so that a new block passes its input on.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels before and after, multiples of ``groups``; where they differ, a 1 x 1 convolution
        adapts the skip connection.
    width : int
        Length of the embedding of noise level and context.
    groups : int
        Groups of the normalisation.
    dropout : float
        Share of the values that training drops before the second convolution.
    resample : {"down", "up"} or None, optional
        Halve or double height and width, in the block and in its skip connection.
    """

    def __init__(self, channels_in, channels_out, width, *, groups, dropout, resample=None):
        super().__init__()
        make = {
            None: nn.Identity,
            "up": lambda: nn.Upsample(scale_factor=2, mode="nearest"),
            "down": lambda: StackedDownsample(channels_in),
        }[resample]
        self.norm1 = nn.GroupNorm(groups, channels_in)
        self.resize, self.resize_skip = make(), make()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.film = nn.Linear(width, 2 * channels_out)
        self.norm2 = nn.GroupNorm(groups, channels_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, embedding):
        h = self.conv1(self.resize(functional.silu(self.norm1(x))))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        h = self.conv2(self.dropout(functional.silu(h)))
        return self.skip(self.resize_skip(x)) + h


class EfficientAttention(nn.Module):
    """Self-attention whose cost grows linearly with the number of pixels (V24 eq. 15 and 16).

    Parameters
    ----------
    channels : int
        Channels before and after, a multiple of ``groups``.
    groups : int
        Groups of the first normalisation.
    heads, head_channels : int
        Number of heads, and channels of each.
    """

    def __init__(self, channels, *, groups, heads, head_channels):
        super().__init__()
        self.heads = heads
        inner = heads * head_channels
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * inner, 1)
        self.out = nn.Conv2d(inner, channels, 1)
        # One group is the layer normalisation of an image.
        self.out_norm = nn.GroupNorm(1, channels)

    def forward(self, x):
        n, _, ny, nx = x.shape
        values = self.qkv(self.norm(x)).flatten(2)
        q, k, v = values.view(n, 3, self.heads, -1, ny * nx).float().unbind(1)
        q = (q / math.sqrt(q.shape[2])).softmax(dim=2)
        context = k.softmax(dim=3) @ v.transpose(2, 3)
        h = (context.transpose(2, 3) @ q).flatten(1, 2).view(n, -1, ny, nx)
        return x + self.out_norm(self.out(h.to(values.dtype)))


class VicanekUNet(nn.Module):
    """U-Net of V24 section 4.1, figures 6 and 7 and table 3.

    With the defaults and one context value it has 30.9 million parameters and takes 83.2 GFLOP a
    call at 80 x 80 pixels.

    Parameters
    ----------
    in_channels : int, optional
        Channels of the noisy image.
    out_channels : int, optional
        Channels of the output.
    context : int, optional
        Length of the context vector: 1 for a peak flux, or the number of classes. Default 0.
    channels : int, optional
        Channels at the finest resolution, a multiple of ``groups``.
    multipliers : sequence of int, optional
        Channels at each resolution in units of ``channels``, finest first.
    blocks : int, optional
        Blocks per resolution on the way down (one more on the way up).
    attention : sequence of int, optional
        Resolutions with attention after each block, counted from 0 for the finest.
    heads, head_channels : int, optional
        Heads of the attention, and channels of each.
    groups : int, optional
        Groups of the normalisation.
    dropout : float, optional
        Share of the values that training drops in each block.

    Raises
    ------
    ValueError
        If ``channels`` is no multiple of ``groups``.

    Notes
    -----
    The paper has a linear layer behind the sines and cosines of the noise level, and 3 x 3
    convolutions in the attention. The published network has neither, and that is the one of 30.9
    million parameters.
    """

    def __init__(
        self,
        in_channels=1,
        out_channels=1,
        *,
        context=0,
        channels=128,
        multipliers=(1, 2, 2),
        blocks=2,
        attention=(1, 2),
        heads=2,
        head_channels=32,
        groups=32,
        dropout=0.1,
    ):
        super().__init__()
        if channels % groups:
            raise ValueError(f"channels is {channels}; expected a multiple of groups ({groups})")
        self.channels = tuple(channels * m for m in multipliers)
        self.blocks, self.attention = blocks, frozenset(attention)
        width = 4 * channels
        self._block_options = {"width": width, "groups": groups, "dropout": dropout}
        self._attention_options = {"groups": groups, "heads": heads, "head_channels": head_channels}
        self.noise = SinusoidalEmbedding(width)
        self.context = ContextEmbedding(context, width) if context else None
        self.embedding = FeatureEmbedding(width, width)
        self.first = nn.Conv2d(in_channels, channels, 3, padding=1)
        skips = self._build_down(channels)
        current = self.channels[-1]
        self.middle = nn.ModuleList(
            [self._block(current, current), self._attend(current), self._block(current, current)]
        )
        self._build_up(current, skips)
        self.last_norm = nn.GroupNorm(groups, self.channels[0])
        self.last = nn.Conv2d(self.channels[0], out_channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @property
    def stride(self):
        """int : height and width of the input must be multiples of this."""
        return 2 ** (len(self.channels) - 1)

    def memory_per_pixel(self, bytes_per_value=4):
        """Estimate the peak memory of a forward pass without gradients.

        Parameters
        ----------
        bytes_per_value : int, optional
            4 for float32, 2 for bfloat16.

        Returns
        -------
        memory : float
            Bytes per pixel of one image.
        """
        values = sum(c * (self.blocks + 8) / 4**i for i, c in enumerate(self.channels))
        return values * bytes_per_value

    def forward(self, x, c_noise, context=None):
        """Evaluate the network.

        Parameters
        ----------
        x : `torch.Tensor`
            Shape (n, in_channels, ny, nx), ny and nx multiples of `stride`.
        c_noise : `torch.Tensor`
            Shape (n,): the noise level as V24 eq. 21 gives it.
        context : `torch.Tensor` or None, optional
            Shape (n, length of the context); rows with NaN, or None, stand for no context.

        Returns
        -------
        output : `torch.Tensor`
            Shape (n, out_channels, ny, nx).

        Raises
        ------
        ValueError
            If height or width is no multiple of `stride`, or there is a context for a network
            without one.
        """
        if x.shape[-1] % self.stride or x.shape[-2] % self.stride:
            raise ValueError(
                f"image of {x.shape[-2]} x {x.shape[-1]} pixels; "
                f"expected multiples of {self.stride}"
            )
        embedding = self.embedding(add_context(self.context, self.noise(c_noise), context))
        h = self.first(x)
        skips, resize = [h], iter(self.down_resize)
        down = iter(zip(self.down, self.down_attention, strict=True))
        for level in range(len(self.channels)):
            for _ in range(self.blocks):
                h = _pass(next(down), h, embedding)
                skips.append(h)
            if level < len(self.channels) - 1:
                h = next(resize)(h, embedding)
                skips.append(h)
        before, attend, after = self.middle
        h = after(attend(before(h, embedding)), embedding)
        up, resize = iter(zip(self.up, self.up_attention, strict=True)), iter(self.up_resize)
        for level in range(len(self.channels)):
            for _ in range(self.blocks + 1):
                h = _pass(next(up), torch.cat([h, skips.pop()], dim=1), embedding)
            if level < len(self.channels) - 1:
                h = next(resize)(h, embedding)
        return self.last(functional.silu(self.last_norm(h)))

    def _build_down(self, current):
        """Make the way down; returns the channels of the skip connections, the last one last."""
        self.down, self.down_attention = nn.ModuleList(), nn.ModuleList()
        self.down_resize = nn.ModuleList()
        skips = [current]
        for level, channels in enumerate(self.channels):
            for _ in range(self.blocks):
                self.down.append(self._block(current, channels))
                self.down_attention.append(self._attend_at(level))
                current = channels
                skips.append(current)
            if level < len(self.channels) - 1:
                self.down_resize.append(self._block(current, current, resample="down"))
                skips.append(current)
        return skips

    def _build_up(self, current, skips):
        self.up, self.up_attention = nn.ModuleList(), nn.ModuleList()
        self.up_resize = nn.ModuleList()
        for level, channels in reversed(list(enumerate(self.channels))):
            for _ in range(self.blocks + 1):
                self.up.append(self._block(current + skips.pop(), channels))
                self.up_attention.append(self._attend_at(level))
                current = channels
            if level > 0:
                self.up_resize.append(self._block(current, current, resample="up"))

    def _block(self, channels_in, channels_out, resample=None):
        return VicanekBlock(channels_in, channels_out, resample=resample, **self._block_options)

    def _attend(self, channels):
        return EfficientAttention(channels, **self._attention_options)

    def _attend_at(self, level):
        return self._attend(self.channels[level]) if level in self.attention else nn.Identity()


def _pass(layers, x, embedding):
    block, attend = layers
    return attend(block(x, embedding))
