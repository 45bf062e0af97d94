"""What every sky prior shares: its description in JSON, and drawing many skies at once."""

import json
from dataclasses import asdict, fields

import numpy as np
import torch

from diffsky.simulation.sources import SourceList

__all__ = ["Prior", "check_range", "choose_count", "place"]

_VERSION = 1
_HEAD, _SOURCES = 1, 2  # purposes of the streams of `Prior.draw_many`


class Prior:
    """Base class of sky priors, dataclasses that draw skies.

    A prior has ``draw(rng)`` for one sky and ``draw_many(streams)`` for many at once; ``kind``
    is its name in JSON. It makes sources of ``n_uniforms`` random numbers each.
    """

    kinds = {}

    def __init_subclass__(cls, *, kind, **options):
        super().__init_subclass__(**options)
        cls.kind = kind
        Prior.kinds[kind] = cls

    def draw_many(self, streams, *, within=None, kernel_fwhm=0.0):
        """Draw many skies at once.

        Parameters
        ----------
        streams : `~diffsky.simulation.counter.CounterStreams`
            One random stream for each sky.
        within, kernel_fwhm
            As for `draw`.

        Returns
        -------
        sources : `SourceList`
            Of all skies, one after the other, as tensors on the device of the streams.
        owner : `torch.Tensor`
            Shape (len(sources),): the sky each source belongs to.
        """
        head = streams.uniform(_HEAD, 2)
        n = choose_count(head[:, 0], head[:, 1], self.n_sources, self.empty_share)
        most = self.n_sources[1]
        uniforms = streams.uniform(_SOURCES, self.n_uniforms * most)
        uniforms = uniforms.unflatten(1, (most, self.n_uniforms))
        columns, drawn = self._make(uniforms, within, kernel_fwhm)
        there = torch.arange(most, device=streams.device) < n[:, None]
        there = there.repeat(1, drawn.shape[1] // max(most, 1))  # companions come last
        owner, _ = place_of = torch.nonzero(drawn & there, as_tuple=True)
        return SourceList(*(column[place_of] for column in columns)), owner

    def to_dict(self):
        """Describe the prior in plain numbers, for JSON.

        Returns
        -------
        description : dict
            ``kind``, ``version`` (of the description) and the keywords that make the prior again.
        """
        keywords = {name: _plain(value) for name, value in asdict(self).items()}
        return {"kind": self.kind, "version": _VERSION, **keywords}

    def to_json(self):
        """Describe the prior in JSON.

        Returns
        -------
        text : str
            `to_dict` as JSON.
        """
        return json.dumps(self.to_dict(), indent=2)

    @staticmethod
    def from_dict(description):
        """Make a prior from its description.

        Parameters
        ----------
        description : dict
            As `to_dict` gives it. Keywords that are missing have their defaults; without
            ``kind`` and ``version`` it is a `SkyPrior`.

        Returns
        -------
        prior : `Prior`
            Of the described kind.

        Raises
        ------
        ValueError
            If the kind or the version is not known, or a keyword is none of the kind's.
        """
        if not isinstance(description, dict):
            raise ValueError(f"expected the description of a prior, got {description!r}")
        keywords = dict(description)
        kind, version = keywords.pop("kind", "gaussians"), keywords.pop("version", _VERSION)
        if kind not in Prior.kinds:
            raise ValueError(f"kind is {kind!r}; expected one of {', '.join(Prior.kinds)}")
        if version != _VERSION:
            raise ValueError(f"version of the prior is {version!r}; this is {_VERSION}")
        known = [field.name for field in fields(Prior.kinds[kind])]
        unknown = sorted(set(keywords) - set(known))
        if unknown:
            raise ValueError(
                f"a prior of kind {kind!r} has no {', '.join(unknown)}; expected {', '.join(known)}"
            )
        return Prior.kinds[kind](**keywords)

    @staticmethod
    def from_json(text):
        """Make a prior from JSON.

        Parameters
        ----------
        text : str
            As `to_json` gives it.

        Returns
        -------
        prior : `Prior`
            Of the described kind.

        Raises
        ------
        ValueError
            As `from_dict`, or if the text is not JSON.
        """
        return Prior.from_dict(json.loads(text))


def _plain(value):
    """A number of NumPy, or a tuple of them, as JSON has it."""
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    return value.item() if isinstance(value, np.generic) else value


def check_range(prior, name, *, least=0.0):
    """Make a range a tuple, since JSON has lists, and refuse what is none."""
    try:
        low, high = getattr(prior, name)
        good = least <= low <= high < np.inf
    except (TypeError, ValueError) as error:
        value = getattr(prior, name)
        raise ValueError(f"{name} is {value!r}; expected two numbers (low, high)") from error
    object.__setattr__(prior, name, (low, high))
    if not good:
        raise ValueError(f"{name} is ({low}, {high}); expected {least:g} <= low <= high")


def choose_count(empty, uniform, n_sources, empty_share):
    """Number of sources of each sky, from two uniform numbers."""
    low, high = n_sources
    n = (low + uniform * (high - low + 1)).long().clamp(max=high)
    return torch.where(empty < empty_share, 0, n)


def place(uniform, half_width, room):
    """Offsets along one axis, uniform where a source has room.

    This is the distribution of positions that are drawn again until the source fits, so fluxes,
    sizes and numbers keep theirs. Without ``room`` sources may lie anywhere.
    """
    if room is not None:
        half_width = room.clip(0, half_width)
    return -half_width + 2 * half_width * uniform
