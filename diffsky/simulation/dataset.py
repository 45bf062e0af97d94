"""Training pairs from a store, on the working grid."""

from collections import OrderedDict

import numpy as np
import torch

from diffsky.deconvolution.scaling import WorkingScale
from diffsky.simulation._working_pair import prepare_pair
from diffsky.simulation.noise_check import (
    N_IMAGES,
    measure_noise_correlation,
    noise_image,
    warn_of_shared_noise,
)
from diffsky.simulation.store import PairStore

__all__ = ["PairDataset"]

_LEAST_PBLIMIT = 0.1  # of what is reconstructed
_LISTED = 10  # distinct values of a parameter that a description lists


class PairDataset:
    """Random patches of stored pairs, for `diffsky.DiffusionDeconvolver.fit`.

    Dirty images go through what `diffsky.DiffusionDeconvolver.predict` does to a user's: their
    own rms is measured, and they are resampled to the working grid. Targets are drawn from the
    source table, exactly, or where there is none resampled from the sky image.

    Parameters
    ----------
    store : `PairStore`, str or path-like
        The pairs, or the folder of a store. Pairs that are written later do not take part.
    scale : `diffsky.deconvolution.WorkingScale` or None, optional
        How images become what the network sees; that of the preset, which may be a
        `diffsky.deconvolution.FluxScale`. None takes the default one.
    patch_size : int, optional
        Pixels along a side of a patch on the working grid. Default 64. A smaller field is
        extended by pixels without data. A `diffsky.deconvolution.FluxScale` takes its whole grid,
        ``scale.size``.
    augment : bool, optional
        True (default) cuts a random patch, flips it and turns it by a multiple of 90 deg, anew
        in every epoch. False cuts out the middle.
    seed : int, optional
        Decides patches, flips and turns, 0 or larger. Default 0.
    pblimit : float, optional
        There is no data where the primary beam is this or less, at least 0.1. Default 0.2.
    cache_bytes : int, optional
        Fields on the working grid are kept in memory up to this size, those that were used last.
        Default 2 GiB, some 5000 fields of D24's observation.

    Raises
    ------
    FileNotFoundError, ValueError
        As `PairStore`; if it has no whole pair; or if a number is out of range.

    Warns
    -----
    DiffskyWarning
        If the noise of different pairs is correlated: see `noise_correlation`.
    """

    def __init__(
        self,
        store,
        *,
        scale=None,
        patch_size=64,
        augment=True,
        seed=0,
        pblimit=0.2,
        cache_bytes=2 * 2**30,
    ):
        _check_numbers(patch_size=(patch_size, 1), seed=(seed, 0), cache_bytes=(cache_bytes, 0))
        if not _LEAST_PBLIMIT <= pblimit < 1:
            raise ValueError(f"pblimit is {pblimit}; expected {_LEAST_PBLIMIT} to 1")
        self.store = store if isinstance(store, PairStore) else PairStore(store, mode="r")
        self.scale = WorkingScale() if scale is None else scale
        if patch_size != getattr(self.scale, "size", patch_size):
            raise ValueError(f"patch_size is {patch_size}; expected {self.scale.size}, the grid")
        self.patch_size, self.augment, self.seed = patch_size, augment, seed
        self.pblimit, self.cache_bytes = pblimit, cache_bytes
        self.numbers = self.store.numbers()
        if not self.numbers:
            raise ValueError(f"{self.store.path} has no whole pair; expected one or more")
        self._fields, self._held, self._largest = OrderedDict(), 0, {}
        warn_of_shared_noise(self.noise_correlation())

    def noise_correlation(self, n=N_IMAGES):
        """Correlate the noise of some pairs: what of their dirty images the true sky leaves.

        Parameters
        ----------
        n : int, optional
            Pairs, evenly spread over the store. Default 8.

        Returns
        -------
        correlation : `diffsky.simulation.NoiseCorrelation`
            About 0 for independent noise, which every simulation with a seed of its own has.
        """
        places = np.linspace(0, len(self) - 1, min(n, len(self))).astype(int)
        pairs = (self.store.read(self.numbers[place]) for place in places)
        return measure_noise_correlation([noise_image(pair, self.pblimit) for pair in pairs])

    def __len__(self):
        """Number of pairs."""
        return len(self.numbers)

    def describe(self):
        """Say what the pairs are, in plain JSON.

        Pairs that were not used yet are read for it.

        Returns
        -------
        description : dict
            ``pairs`` (their number), ``largest_flux`` (apparent, in rms), ``varied`` (parameters
            that are not the same in all pairs, but for paths: the range of numbers, the values
            of others, or how many of them where there are more than ten), ``patch_size``,
            ``augment``, ``pblimit``, ``seed``.
        """
        for number in self.numbers:
            if number not in self._largest:
                self._field(number)
        return {
            "pairs": len(self),
            "largest_flux": max(self._largest.values()),
            "varied": _find_varied([self.store.parameters(number) for number in self.numbers]),
            "patch_size": self.patch_size,
            "augment": self.augment,
            "pblimit": self.pblimit,
            "seed": self.seed,
        }

    def batch(self, numbers, device="cpu"):
        """Cut patches.

        Parameters
        ----------
        numbers : sequence of int
            0 or more. Number k is the pair at place ``k % len(self)``, with the patch, flip and
            turn of its epoch ``k // len(self)``.
        device : str or `torch.device`, optional
            Where they end.

        Returns
        -------
        target : `torch.Tensor`
            Shape (n, 1, size, size): scaled apparent sky.
        condition : `torch.Tensor`
            Shape (n, 2, size, size): dirty image over rms, and primary beam; of a `FluxScale`
            (n, 1, size, size), the dirty image alone.

        Raises
        ------
        ValueError
            If a pair is damaged or cannot be used.
        """
        patches = []
        for k in numbers:
            epoch, place = divmod(int(k), len(self))
            patches.append(self._cut(self._field(self.numbers[place]), place, epoch))
        images = torch.stack(patches).to(device)
        return self.scale.encode(images)

    def _cut(self, field, place, epoch):
        spare = np.array(field.shape[1:]) - self.patch_size
        if not self.augment:
            y, x = spare // 2
            return field[:, y : y + self.patch_size, x : x + self.patch_size]
        rng = np.random.default_rng([self.seed, self.numbers[place], epoch])
        y, x = rng.integers(spare + 1)
        patch = field[:, y : y + self.patch_size, x : x + self.patch_size]
        if rng.random() < 0.5:
            patch = patch.flip(-1)
        return torch.rot90(patch, int(rng.integers(4)), (-2, -1))

    def _field(self, number):
        """Target, dirty image and primary beam of one pair, from memory where they are there."""
        if number in self._fields:
            self._fields.move_to_end(number)
            return self._fields[number]
        try:
            images, largest = prepare_pair(
                self.store.read(number), scale=self.scale, pblimit=self.pblimit
            )
        except ValueError as error:
            raise ValueError(f"pair {number} of {self.store.path}: {error}") from error
        self._largest[number] = largest
        field = torch.from_numpy(_padded(images, self.patch_size))
        self._fields[number] = field
        self._held += field.nbytes
        while self._held > self.cache_bytes:
            self._held -= self._fields.popitem(last=False)[1].nbytes
        return field


def _padded(images, size):
    """Extend both axes to a size, with zeros."""
    missing = [max(0, size - n) for n in images.shape[1:]]
    sides = [(n // 2, n - n // 2) for n in missing]
    return np.pad(images, [(0, 0), *sides])


def _find_varied(parameters):
    """What differs between dicts: ranges of numbers, values of other plain parameters."""
    varied = {}
    for name in sorted(set().union(*parameters)):
        values = [one.get(name) for one in parameters]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            if min(values) != max(values):
                varied[name] = [min(values), max(values)]
        elif all(_is_plain(v) for v in values):
            distinct = sorted(set(values), key=str)
            if len(distinct) > 1:
                varied[name] = distinct if len(distinct) <= _LISTED else len(distinct)
    return varied


def _is_plain(value):
    """Whether a parameter can be published with weights: no paths, nothing nested."""
    if isinstance(value, str):
        return not {"/", "\\"} & set(value)
    return value is None or isinstance(value, bool | int | float)


def _check_numbers(**numbers):
    for name, (value, least) in numbers.items():
        is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_int or value < least:
            raise ValueError(f"{name} is {value!r}; expected an int of {least} or more")
