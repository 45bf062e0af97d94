"""Random numbers that are a function of their place: the counter-based Philox generator.

Number i of stream k is computed from i, k and the seed alone, on any device, so that a batch is
drawn at once and still sample k is the same in any batch (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3", SC '11).
"""

import math

import numpy as np
import torch

__all__ = ["CounterStreams", "philox"]

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_TAG = 2  # keeps the key apart from other streams of the same seed
_COUNTERS_AT_ONCE = {"cpu": 2**14, "other": 2**21}


def philox(counter, key):
    """Philox4x32 of ten rounds.

    Parameters
    ----------
    counter : sequence of `torch.Tensor` or int
        Four words of 32 bits as int64, of shapes that broadcast.
    key : sequence of int
        Two words of 32 bits.

    Returns
    -------
    words : list of `torch.Tensor`
        Four tensors of random words, int64, 0 to 2**32 - 1.
    """
    a, b, c, d = counter
    for number in range(_ROUNDS):
        first, second = ((k + number * i) & _WORD for k, i in zip(key, _INCREMENTS, strict=True))
        # The product of two words fills 64 bits; its sign is that of the highest.
        product, other = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b = ((other >> 32) ^ b ^ first) & _WORD, other & _WORD
        c, d = ((product >> 32) ^ d ^ second) & _WORD, product & _WORD
    return [a, b, c, d]


class CounterStreams:
    """Random streams of samples, one for each.

    Parameters
    ----------
    seed : int
        The seed of the whole run, 0 or larger.
    numbers : sequence of int
        The numbers of the samples, 0 or larger.
    device : str or `torch.device`, optional
        Where the random numbers are computed. They are the same everywhere: uniform ones to
        the last bit, normal ones to rounding.
    """

    def __init__(self, seed, numbers, device="cpu"):
        sequence = np.random.SeedSequence(int(seed), spawn_key=(_TAG,))
        self._key = [int(word) for word in sequence.generate_state(2, np.uint32)]
        numbers = torch.as_tensor(np.asarray(numbers, dtype=np.int64), device=device)
        self._numbers = (numbers & _WORD, numbers >> 32)

    def __len__(self):
        return len(self._numbers[0])

    @property
    def device(self):
        """`torch.device` : where the random numbers are computed."""
        return self._numbers[0].device

    def __getitem__(self, index):
        """Streams of some of the samples."""
        some = object.__new__(CounterStreams)
        some._key, some._numbers = self._key, tuple(word[index] for word in self._numbers)
        return some

    def uniform(self, purpose, n):
        """Uniform numbers.

        Parameters
        ----------
        purpose : int
            Different purposes have independent numbers.
        n : int
            How many for each sample.

        Returns
        -------
        uniform : `torch.Tensor`
            Shape (len(self), n), float32 multiples of 2**-24, 0 or more and below 1.
        """
        words = self._words(purpose, -(-n // 4))
        together = torch.stack([word >> 8 for word in words], dim=-1).flatten(1)
        return together[:, :n].float() * 2.0**-24

    def complex_normal(self, purpose, n):
        """Complex numbers whose parts are standard normal (Box and Muller 1958).

        Parameters
        ----------
        purpose : int
            Different purposes have independent numbers.
        n : int
            How many for each sample.

        Returns
        -------
        normal : `torch.Tensor`
            Shape (len(self), n, 2), float32: real and imaginary parts.
        """
        counters = -(-n // 2)
        some = _COUNTERS_AT_ONCE.get(self.device.type, _COUNTERS_AT_ONCE["other"])
        parts = torch.arange(len(self), device=self.device).split(max(1, some // counters))
        return torch.cat([self[part]._normal(purpose, counters) for part in parts])[:, :n]

    def _normal(self, purpose, counters):
        a, b, c, d = self._words(purpose, counters)
        pairs = [_box_muller(a, b), _box_muller(c, d)]
        return torch.stack(pairs, dim=2).flatten(1, 2)

    def _words(self, purpose, counters):
        low, high = (word[:, None] for word in self._numbers)
        index = torch.arange(counters, device=self.device)[None]
        return philox((index, torch.full_like(index, purpose), low, high), self._key)


def _box_muller(one, other):
    radius = torch.sqrt(-2 * torch.log((one.float() + 0.5) * 2.0**-32))
    angle = other.float() * (2 * math.pi * 2.0**-32)
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)
