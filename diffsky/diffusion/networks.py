"""Networks F(x, sigma, condition) that a denoiser is made of."""

import math

import torch
from torch import nn
from torch.nn import functional

from diffsky.diffusion.context import ContextEmbedding, add_context
from diffsky.diffusion.palette import Attention, PaletteUNet
from diffsky.diffusion.vicanek import VicanekUNet

__all__ = ["NETWORKS", "UNet", "build_network"]


_GROUP = 32  # channels of a head of the attention, and number of groups of its normalisation


class ChannelNorm(nn.Module):
    """Normalise every pixel over its channels.

    Statistics over pixels (group or batch normalisation) would make the result at one place
    depend on the size of the field; this one keeps the network a local, translation
    function, so that patches, whole fields and tiles agree.

    Parameters
    ----------
    channels : int
        Channels of the input, of shape (n, channels, ny, nx), and of the output.
    """

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def add_position(x):
    """Add channels that say where in the image a pixel is.

    Parameters
    ----------
    x : `torch.Tensor`
        Shape (n, channels, ny, nx).

    Returns
    -------
    x : `torch.Tensor`
        Shape (n, channels + 3, ny, nx): x and y in units of half a side, from the centre, and
        x^2 + y^2.
    """
    n, _, ny, nx = x.shape
    y = torch.linspace(-1, 1, ny, dtype=x.dtype, device=x.device)[:, None].expand(ny, nx)
    across = torch.linspace(-1, 1, nx, dtype=x.dtype, device=x.device).expand(ny, nx)
    place = torch.stack([across, y, across**2 + y**2]).expand(n, 3, ny, nx)
    return torch.cat([x, place], dim=1)


class NoiseEmbedding(nn.Module):
    """Fourier features of c_noise (V24 eq. 21), then two linear layers with SiLU.

    Parameters
    ----------
    width : int
        Length of the embedding: (n,) noise levels become (n, width).
    n_frequencies : int, optional
        Number of frequencies, evenly spaced in octaves between 1/8 and 8 cycles per unit of
        c_noise; each has a sine and a cosine. Default 32.
    """

    def __init__(self, width, n_frequencies=32):
        super().__init__()
        octaves = torch.linspace(-2.0, 4.0, n_frequencies)
        self.register_buffer("frequencies", 2.0**octaves * math.pi, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * n_frequencies, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, c_noise):
        angle = c_noise.float()[:, None] * self.frequencies
        return self.layers(torch.cat([angle.sin(), angle.cos()], dim=1))


class ResidualBlock(nn.Module):
    """Two normalised 3 x 3 convolutions with FiLM (scale and shift) by the noise embedding.

    The second convolution starts at zero, so that a new block passes its input on.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels before and after; where they differ, a 1 x 1 convolution adapts the skip
        connection. Height and width stay.
    width : int
        Length of the noise embedding.
    dropout : float, optional
        Share of the values that training drops before the second convolution.
    """

    def __init__(self, channels_in, channels_out, width, dropout=0.0):
        super().__init__()
        self.norm1 = ChannelNorm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.film = nn.Linear(width, 2 * channels_out)
        self.norm2 = ChannelNorm(channels_out)
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
        return self.skip(x) + self.conv2(self.dropout(functional.silu(h)))


class UNet(nn.Module):
    """Compact convolutional U-Net for fields of any size.

    Parameters
    ----------
    in_channels : int
        Channels of the noisy image and its condition together.
    out_channels : int, optional
        Channels of the output.
    channels : sequence of int, optional
        Channels at each resolution, finest first.
    blocks : int, optional
        Residual blocks per resolution on the way down (one more on the way up).
    patch : int, optional
        The image enters as patch x patch pixels per position (pixel unshuffle), which makes
        every layer patch**2 times cheaper; 1 works on single pixels.
    width : int, optional
        Width of the noise embedding.
    context : int, optional
        Length of the context vector; 0, the default, has none.
    dropout : float, optional
        Share of the values that training drops in each block. Default 0.
    position : bool, optional
        Whether the network is told where in the image a pixel is, for images whose middle is
        special: see `add_position`. Default False.
    attention : sequence of int, optional
        Resolutions with attention over all pixels after each block, counted from 0 for the finest,
        for images of one size; their channels are multiples of 32. By default none.

    Raises
    ------
    ValueError
        If there is no resolution of such a number, or its channels are no multiple of 32.

    Notes
    -----
    Without ``attention`` nothing is normalised over pixels: the output at a pixel depends on a
    finite neighbourhood of `reach` pixels, and height and width may be any multiple of `stride`.
    Without ``position`` too, the network is the same function everywhere.
    """

    def __init__(
        self,
        in_channels,
        out_channels=1,
        *,
        channels=(64, 128, 192),
        blocks=2,
        patch=2,
        width=256,
        context=0,
        dropout=0.0,
        position=False,
        attention=(),
    ):
        super().__init__()
        _check_attention(attention, channels)
        self.position, self.attention = position, tuple(attention)
        self.patch, self.channels, self.blocks = patch, tuple(channels), blocks
        self.embedding = NoiseEmbedding(width)
        self.context = ContextEmbedding(context, width) if context else None
        channels_in = in_channels + 3 * position
        self.first = nn.Conv2d(channels_in * patch**2, channels[0], 3, padding=1)
        self.down, self.down_resize = nn.ModuleList(), nn.ModuleList()
        self.down_attention, self.up_attention = nn.ModuleList(), nn.ModuleList()
        skips, current = [channels[0]], channels[0]
        for level, level_channels in enumerate(channels):
            for _ in range(blocks):
                self.down.append(ResidualBlock(current, level_channels, width, dropout))
                self.down_attention.append(self._attend(level))
                current = level_channels
                skips.append(current)
            if level < len(channels) - 1:
                self.down_resize.append(nn.Conv2d(current, current, 2, stride=2))
                skips.append(current)
        self.middle = ResidualBlock(current, current, width, dropout)
        self.middle_attention = self._attend(len(channels) - 1)
        self.up, self.up_resize = nn.ModuleList(), nn.ModuleList()
        for level, level_channels in reversed(list(enumerate(channels))):
            for _ in range(blocks + 1):
                self.up.append(ResidualBlock(current + skips.pop(), level_channels, width, dropout))
                self.up_attention.append(self._attend(level))
                current = level_channels
            if level > 0:
                self.up_resize.append(nn.ConvTranspose2d(current, current, 2, stride=2))
        self.last_norm = ChannelNorm(current)
        self.last = nn.Conv2d(current, out_channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def _attend(self, level):
        """Attention at a resolution, or nothing."""
        channels = self.channels[level]
        if level not in self.attention:
            return nn.Identity()
        return Attention(channels, groups=_GROUP, heads=channels // _GROUP)

    @property
    def stride(self):
        """int : height and width of the input must be multiples of this."""
        return self.patch * 2 ** (len(self.channels) - 1)

    @property
    def reach(self):
        """int : pixels beyond which no input changes an output pixel; infinite with attention."""
        if self.attention:
            return math.inf
        per_level = [
            2 * (2 * self.blocks + 1) * self.patch * 2**i for i in range(len(self.channels))
        ]
        # stride - 1: a coarse cell depends on all of its pixels
        return sum(per_level) + 2 * self.stride + 2 * self.patch + self.stride - 1

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
        values = sum(
            c * (self.blocks + 8) / (self.patch * 2**i) ** 2 for i, c in enumerate(self.channels)
        )
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
        """
        if x.shape[-1] % self.stride or x.shape[-2] % self.stride:
            raise ValueError(
                f"image of {x.shape[-2]} x {x.shape[-1]} pixels; "
                f"expected multiples of {self.stride}"
            )
        embedding = add_context(self.context, self.embedding(c_noise), context)
        x = add_position(x) if self.position else x
        h = self.first(functional.pixel_unshuffle(x, self.patch))
        skips, down = [h], zip(self.down, self.down_attention, strict=True)
        for level in range(len(self.channels)):
            for _ in range(self.blocks):
                block, attend = next(down)
                h = attend(block(h, embedding))
                skips.append(h)
            if level < len(self.channels) - 1:
                h = self.down_resize[level](h)
                skips.append(h)
        h = self.middle_attention(self.middle(h, embedding))
        up = zip(self.up, self.up_attention, strict=True)
        for level in range(len(self.channels)):
            for _ in range(self.blocks + 1):
                block, attend = next(up)
                h = attend(block(torch.cat([h, skips.pop()], dim=1), embedding))
            if level < len(self.channels) - 1:
                h = self.up_resize[level](h)
        h = self.last(functional.silu(self.last_norm(h)))
        return functional.pixel_shuffle(h, self.patch)


def _check_attention(attention, channels):
    for level in attention:
        if level not in range(len(channels)) or channels[level] % _GROUP:
            raise ValueError(
                f"attention at resolution {level!r} of channels {tuple(channels)}; expected the "
                f"number of one with a multiple of {_GROUP} channels"
            )


NETWORKS = {"unet": UNet, "palette": PaletteUNet, "vicanek": VicanekUNet}


def build_network(config):
    """Make a network from its stored configuration.

    Parameters
    ----------
    config : dict
        ``{"type": "unet", ...}`` for `UNet`, ``{"type": "palette", ...}`` for
        `~diffsky.diffusion.PaletteUNet` or ``{"type": "vicanek", ...}`` for
        `~diffsky.diffusion.VicanekUNet`; the other entries are the keywords of that class.

    Returns
    -------
    network : `torch.nn.Module`
        With fresh weights from torch's global random stream, in float32 on the CPU.

    Raises
    ------
    ValueError
        If the type is unknown.
    """
    config = dict(config)
    kind = config.pop("type", None)
    if kind not in NETWORKS:
        raise ValueError(f"network type is {kind!r}; expected one of {', '.join(NETWORKS)}")
    return NETWORKS[kind](**config)
