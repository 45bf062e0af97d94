"""Test fields of D24's protocol: noise that all observations share, and twins with their own.

A field is cut to its inner part, as in the training; 240 pixels hold all sources of the protocol.
"""

import functools
from dataclasses import dataclass, replace
from typing import ClassVar

import astropy.units as u
import numpy as np
import torch
from fields import pointing
from radio_beam import Beam

from diffsky.instrument import instrument_from_setup
from diffsky.simulation import (
    PRIORS,
    ObservationSetup,
    SharedNoise,
    SourceList,
    read_drozdova2024,
    simulate_shared_pair,
)

BEAM = Beam(0.89 * u.arcsec, 0.82 * u.arcsec, 84 * u.deg)
SHARED, PWV = 9011, 9013  # seeds, of no training
PRIOR = replace(PRIORS["drozdova2024"], empty_share=1000 / 10164)
FIELD = 240  # pixels of 0.1 arcsec, in which all sources lie whole
_SKY, _NOISE = 2, 3  # streams of a field beside that of its pointing


@dataclass(frozen=True)
class SharedFields:
    """Simulated fields of a seed.

    Those with `fresh` noise have the same skies and pointings. With `padding` 1 the noise is imaged
    as the authors did.
    """

    noise: str
    seed: int = SHARED
    group: str = ""
    fresh: bool = False
    padding: int = 4
    pwv: float | None = None  # mm
    size: int = FIELD
    drozdova2024: ClassVar = True  # look for sources as D24 did, too

    def pair(self, number):
        """One field."""
        sources = PRIOR.draw(np.random.default_rng([self.seed, _SKY, number]))
        setup = ObservationSetup.drozdova2024(pointing(self.seed, number))
        if self.pwv is not None:
            setup = replace(setup, pwv=self.pwv * u.mm)
        noise = _noise(self.noise)
        if self.fresh:
            noise = redraw(noise, np.random.default_rng([self.seed, _NOISE, number]))
        pair = simulate_shared_pair(sources, setup, noise, padding=self.padding)
        return inner(with_beam(pair), self.size)


@dataclass(frozen=True)
class PublishedFields:
    """The pairs that the authors published, in a folder.

    With `subtract` the noise of the pair next in declination, which is its dirty image less its
    true sky as observed, is taken from each dirty image.
    """

    data: str
    noise: str
    group: str = "published"
    subtract: bool = False
    size: int = FIELD
    drozdova2024: ClassVar = True

    def pair(self, number):
        """One field, with the PSF and the primary beam of its direction."""
        published = published_pair(self.data, number)
        nothing = SourceList(*np.zeros((6, 0)))
        made = simulate_shared_pair(nothing, observed(published), _noise(self.noise), padding=2)
        dirty = published.dirty
        if self.subtract:
            dirty = dirty.copy()
            dirty.data[:] -= noise_of(next_in_declination(self.data, number))
        theirs = {"dirty": dirty, "sky": published.sky, "sources": published.sources}
        return inner(with_beam(replace(made, **theirs)), self.size)


def n_published(data):
    """How many published pairs there are."""
    return len(_published(data))


def published_pair(data, number):
    """One pair as it was published."""
    return _published(data)[number]


@functools.cache
def _published(data):
    return tuple(read_drozdova2024(data))


def next_in_declination(data, number):
    """The published pair whose declination is next to that of another."""
    declinations = [observed(one).direction.dec.deg for one in _published(data)]
    distance = np.abs(np.array(declinations) - declinations[number])
    distance[number] = np.inf
    return _published(data)[distance.argmin()]


def noise_of(published):
    """Dirty image less what the true sky is in it, Jy/beam."""
    instrument = instrument_from_setup(observed(published))
    sky = torch.as_tensor(published.sky.data, dtype=torch.float32)[None]
    return published.dirty.data - instrument.forward(sky)[0].numpy()


def observed(published):
    """The observation that a published pair is of."""
    ny, nx = published.dirty.shape
    return ObservationSetup.drozdova2024(published.dirty.wcs.pixel_to_world(nx // 2, ny // 2))


def redraw(noise, rng):
    """Noise of the same level from another seed."""
    values = rng.standard_normal((2, *noise.values.shape), dtype=np.float32)
    level = np.sqrt(np.mean(np.abs(noise.values) ** 2) / 2)
    return replace(noise, values=(level * (values[0] + 1j * values[1])).astype(np.complex64))


def with_beam(pair):
    """The pair with the one beam of D24, as in the training: one grid for all declinations.

    Weights that know a noise image by heart know it on its own grid alone.
    """
    dirty = pair.dirty.copy()
    dirty.meta["beam"] = BEAM
    return replace(pair, dirty=dirty, beam=BEAM)


def inner(pair, size):
    """The middle of a pair."""
    edge = (pair.dirty.shape[0] - size) // 2
    part = slice(edge, edge + size)
    images = {name: getattr(pair, name)[part, part] for name in ("dirty", "primary_beam", "sky")}
    sources = pair.sources.copy()
    for name in ("x_centroid", "y_centroid"):
        sources[name] = np.asarray(sources[name]) - edge
    return replace(pair, psf=pair.psf[part, part], sources=sources, **images)


@functools.cache
def _noise(path):
    return SharedNoise.read(path)
