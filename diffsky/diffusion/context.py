"""A context vector for a network: classes, or a peak flux (V24 sections 2.3 and 4.1)."""

import torch
from torch import nn

__all__ = ["ContextEmbedding", "FeatureEmbedding", "add_context"]


class FeatureEmbedding(nn.Sequential):
    """Two linear layers, each followed by GELU (V24 eq. 14).

    Parameters
    ----------
    width_in, width_out : int
        Length of the input and of the embedding.
    """

    def __init__(self, width_in, width_out):
        super().__init__(
            nn.Linear(width_in, width_out), nn.GELU(), nn.Linear(width_out, width_out), nn.GELU()
        )


class ContextEmbedding(nn.Module):
    """Embedding of a context vector; that of no context is zero.

    Parameters
    ----------
    length : int
        Length of the context.
    width : int
        Length of the embedding: (n, length) becomes (n, width), and a row with a NaN zero.
    """

    def __init__(self, length, width):
        super().__init__()
        self.length = length
        self.layers = FeatureEmbedding(length, width)

    def forward(self, context):
        known = ~context.isnan().any(dim=1, keepdim=True)
        return self.layers(torch.where(known, context, 0.0)) * known


def add_context(embed, embedding, context):
    """Add the embedding of a context to that of the noise level.

    Parameters
    ----------
    embed : `ContextEmbedding` or None
        That of the network; None has no context.
    embedding : `torch.Tensor`
        Shape (n, width).
    context : `torch.Tensor` or None
        Shape (n, length); rows with NaN, or None, stand for no context.

    Returns
    -------
    embedding : `torch.Tensor`
        Shape (n, width).

    Raises
    ------
    ValueError
        If the context is not of the length that the network has.
    """
    if context is None:
        return embedding
    length = 0 if embed is None else embed.length
    if context.ndim != 2 or context.shape[1] != length:
        raise ValueError(
            f"context of shape {tuple(context.shape)}; expected {length} values for each image"
        )
    return embedding + embed(context)
