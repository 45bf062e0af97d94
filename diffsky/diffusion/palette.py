"""The U-Net of Palette, with attention and group normalisation (D24 section 3.3)."""

import torch
from torch import nn
from torch.nn import functional

__all__ = ["PaletteUNet"]

_MAX_PERIOD = 10000.0


class TimeEmbedding(nn.Module):
    """Sines and cosines of the time step, then two linear layers with SiLU (D24 section 3.3).

    Parameters
    ----------
    channels : int
        Number of sines and cosines, even: (n,) steps become (n, 4 * channels).
    """

    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        exponents = torch.arange(half) / half
        self.register_buffer("frequencies", _MAX_PERIOD**-exponents, persistent=False)
        width = 4 * channels
        self.layers = nn.Sequential(
            nn.Linear(2 * half, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, step):
        angle = step.float()[:, None] * self.frequencies
        return self.layers(torch.cat([angle.cos(), angle.sin()], dim=1))


class PaletteBlock(nn.Module):
    """Two group-normalised 3 x 3 convolutions with FiLM (scale and shift) by the time step.

    The second convolution starts at zero, so that a new block passes its input on.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels before and after, multiples of ``groups``.
    width : int
        Length of the embedding of the time step.
    groups : int
        Groups of the normalisation.
    dropout : float
        Share of the values that training drops before the second convolution.
    """

    def __init__(self, channels_in, channels_out, width, *, groups, dropout):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=1e-5)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.film = nn.Linear(width, 2 * channels_out)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=1e-5)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, embedding):
        h = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        h = self.conv2(self.dropout(functional.silu(h)))
        return self.skip(x) + h


class Attention(nn.Module):
    """Self-attention over all pixels; it starts as the identity.

    Parameters
    ----------
    channels : int
        A multiple of ``groups`` and of ``heads``.
    groups : int
        Groups of the normalisation.
    heads : int
        Number of heads.
    """

    def __init__(self, channels, *, groups, heads):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels, eps=1e-5)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        n, channels, ny, nx = x.shape
        values = self.qkv(self.norm(x).flatten(2).transpose(1, 2))
        q, k, v = values.view(n, ny * nx, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        h = functional.scaled_dot_product_attention(q, k, v)
        h = self.out(h.transpose(1, 2).reshape(n, ny * nx, channels))
        return x + h.transpose(1, 2).reshape(n, channels, ny, nx)


class PaletteUNet(nn.Module):
    """U-Net of Palette (Saharia et al. 2022) as D24 section 3.3 uses it.

    With the defaults it has 95.0 million parameters and takes 132.7 GFLOP a call at 128 x 128
    pixels, 1/16 of both with 32 channels.

    Parameters
    ----------
    in_channels : int
        Channels of the noisy image and its condition together.
    out_channels : int, optional
        Channels of the output.
    channels : int, optional
        Channels at the finest resolution, a multiple of ``groups`` and of ``head_channels``.
    multipliers : sequence of int, optional
        Channels at each resolution in units of ``channels``, finest first.
    blocks : int, optional
        Residual blocks per resolution on the way down (one more on the way up).
    attention : sequence of int, optional
        Resolutions with attention after each block, counted from 0 for the finest. The default
        is 16 x 16 and 8 x 8 for images of 128 x 128 pixels.
    head_channels : int, optional
        Channels of one head of the attention.
    groups : int, optional
        Groups of the normalisation.
    dropout : float, optional
        Share of the values that training drops in each block.

    Raises
    ------
    ValueError
        If ``channels`` is no multiple of ``groups`` and of ``head_channels``.

    Notes
    -----
    Attention and group normalisation see the whole field, so that what is learnt belongs to one
    size of field and a result in tiles is not that of the whole.
    """

    def __init__(
        self,
        in_channels,
        out_channels=1,
        *,
        channels=128,
        multipliers=(1, 1, 2, 3, 4),
        blocks=2,
        attention=(3, 4),
        head_channels=32,
        groups=32,
        dropout=0.0,
    ):
        super().__init__()
        if channels % groups or channels % head_channels:
            raise ValueError(
                f"channels is {channels}; expected a multiple of groups ({groups}) and of "
                f"head_channels ({head_channels})"
            )
        self.channels = tuple(channels * m for m in multipliers)
        self.blocks, self.attention = blocks, frozenset(attention)
        self._block_options = {"width": 4 * channels, "groups": groups, "dropout": dropout}
        self._head_channels = head_channels
        self.embedding = TimeEmbedding(channels)
        self.first = nn.Conv2d(in_channels, channels, 3, padding=1)
        skips = self._build_down(channels)
        current = self.channels[-1]
        self.middle = nn.ModuleList(
            [self._block(current, current), self._attend(current), self._block(current, current)]
        )
        self._build_up(current, skips)
        self.last_norm = nn.GroupNorm(groups, self.channels[0], eps=1e-5)
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

    def forward(self, x, step):
        """Evaluate the network.

        Parameters
        ----------
        x : `torch.Tensor`
            Shape (n, in_channels, ny, nx), ny and nx multiples of `stride`.
        step : `torch.Tensor`
            Shape (n,): the time step, from 0 for the least noise; it need not be whole.

        Returns
        -------
        output : `torch.Tensor`
            Shape (n, out_channels, ny, nx).

        Raises
        ------
        ValueError
            If height or width is no multiple of `stride`.
        """
        if x.shape[-1] % self.stride or x.shape[-2] % self.stride:
            raise ValueError(
                f"image of {x.shape[-2]} x {x.shape[-1]} pixels; "
                f"expected multiples of {self.stride}"
            )
        embedding = self.embedding(step)
        h = self.first(x)
        skips, down = [h], iter(zip(self.down, self.down_attention, strict=True))
        for level in range(len(self.channels)):
            for _ in range(self.blocks):
                h = _pass(next(down), h, embedding)
                skips.append(h)
            if level < len(self.channels) - 1:
                h = self.down_resize[level](h)
                skips.append(h)
        before, attend, after = self.middle
        h = after(attend(before(h, embedding)), embedding)
        up = iter(zip(self.up, self.up_attention, strict=True))
        for level in range(len(self.channels)):
            for _ in range(self.blocks + 1):
                h = _pass(next(up), torch.cat([h, skips.pop()], dim=1), embedding)
            if level < len(self.channels) - 1:
                h = self.up_resize[level](functional.interpolate(h, scale_factor=2.0))
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
                self.down_resize.append(nn.Conv2d(current, current, 3, stride=2, padding=1))
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
                self.up_resize.append(nn.Conv2d(current, current, 3, padding=1))

    def _block(self, channels_in, channels_out):
        return PaletteBlock(channels_in, channels_out, **self._block_options)

    def _attend(self, channels):
        groups = self._block_options["groups"]
        return Attention(channels, groups=groups, heads=channels // self._head_channels)

    def _attend_at(self, level):
        return self._attend(self.channels[level]) if level in self.attention else nn.Identity()


def _pass(layers, x, embedding):
    block, attend = layers
    return attend(block(x, embedding))
