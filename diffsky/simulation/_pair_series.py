"""A series of pairs: what decides each of them."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffsky.exceptions import DiffskyWarning
from diffsky.simulation._casa_checks import warn_small_image
from diffsky.simulation._casa_inputs import casa_seed, observation_job
from diffsky.simulation._casa_results import plain_parameters
from diffsky.simulation._pair_maker import PairTask, resolve_sky, stream
from diffsky.simulation._prior import Prior
from diffsky.simulation.setup import ObservationSetup

__all__ = ["PairSeries", "check_stored", "missing_numbers", "open_store"]

_COMPARED = 32
_NOISE = ("independent", "casa-default", "none")


@dataclass(frozen=True, kw_only=True)
class PairSeries:
    """Numbered pairs.

    Parameters
    ----------
    skies, setups, seed, n, noise, simulator, kernel_beams
        As `diffsky.simulation.simulate_pairs` takes them.
    reference : `ObservationSetup`, optional
        Priors draw skies for its field, noise and beam. By default the set-up of each pair.
    noise_stream : int, optional
        Tells series apart that have the same skies and each its own noise.
    """

    skies: object
    setups: object
    seed: int
    n: int | None
    noise: str
    simulator: str
    kernel_beams: float
    reference: ObservationSetup | None = None
    noise_stream: int = 0

    def __post_init__(self):
        _check_count("seed", self.seed, 0)
        if not isinstance(self.skies, Prior):
            if not isinstance(self.skies, Sequence) or isinstance(self.skies, str):
                kind = type(self.skies).__name__
                raise TypeError(f"skies are of type {kind}; expected a prior or a list of skies")
            if not len(self.skies):
                raise ValueError("skies is empty; expected at least one sky")
        elif self.n is None:
            raise ValueError("n is None; expected a number of pairs, since a prior has no end")
        if self.n is None:
            object.__setattr__(self, "n", len(self.skies))
        _check_count("n", self.n, 1)
        if self.noise not in _NOISE:
            raise ValueError(f"noise is {self.noise!r}; expected one of {_NOISE}")
        if self.simulator == "simalma" and self.noise == "independent":
            raise ValueError(
                "noise is 'independent'; simalma gives every pair the same noise: expected "
                "noise='casa-default', or simulator='simobserve'"
            )

    def check(self, *, stacklevel):
        """Refuse what no pair could be made of, and warn of small images."""
        if isinstance(self.setups, ObservationSetup):
            setups = [self.setups]
        else:
            setups = [self._setup(0)] if callable(self.setups) else self.setups
        if not isinstance(setups, Sequence) or not len(setups):
            raise TypeError(f"setups are {self.setups!r}; expected one or more ObservationSetup")
        for setup in setups:
            self._job(setup)
        warn_small_image(self._job(setups[0]), stacklevel=stacklevel + 1)
        if not isinstance(self.skies, Prior):
            for number, sky in enumerate(self.skies[: self.n]):
                setup = self._setup(number)
                resolve_sky(sky, setup).inputs(setup)

    def task(self, number):
        """What decides one pair, a `PairTask`."""
        setup = self._setup(number)
        reference = setup if self.reference is None else self.reference
        prior = isinstance(self.skies, Prior)
        sky = self.skies if prior else self._resolve(number, setup)
        job = {
            "series": int(self.seed),
            "number": int(number),
            "prior": json.dumps(self.skies.to_dict()) if prior else None,
            "sky_sha256": None if prior else _digest(sky.inputs(setup)),
            "kernel_beams": float(self.kernel_beams),
            **self._job(setup),
            "seed": self._noise_seed(number),
        }
        relative = prior and self.skies.relative
        return PairTask(
            job=job,
            setup=setup,
            reference=reference,
            reference_job=self._job(reference) if relative else None,
            sky=sky,
            kernel_beams=float(self.kernel_beams),
        )

    def _resolve(self, number, setup):
        """The sky of a pair, read here: workers need not see the files of this machine."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DiffskyWarning)  # `check` has said it
            return resolve_sky(self.skies[number % len(self.skies)], setup)

    def _setup(self, number):
        if isinstance(self.setups, ObservationSetup):
            return self.setups
        rng = stream(self.seed, number, "setup")
        if callable(self.setups):
            setup = self.setups(rng)
        else:
            setup = self.setups[int(rng.integers(len(self.setups)))]
        if not isinstance(setup, ObservationSetup):
            raise TypeError(f"a set-up is {setup!r}; expected an ObservationSetup")
        return setup

    def _job(self, setup):
        if not isinstance(setup, ObservationSetup):
            raise TypeError(f"a set-up is {setup!r}; expected an ObservationSetup")
        return observation_job(setup, seed=None, simulator=self.simulator)

    def _noise_seed(self, number):
        if self.noise == "none":
            return None
        if self.noise == "casa-default":
            return casa_seed("casa-default")
        rng = stream(self.seed, number, "noise", self.noise_stream)
        return int(rng.integers(2**31))


def open_store(store):
    """A `PairStore` that can be written to, for one or for its path."""
    from diffsky.simulation.store import PairStore

    if not isinstance(store, PairStore):
        return PairStore(store)
    if store.mode == "r":
        raise ValueError(f"store {store.path} was opened with mode='r'; expected mode='a'")
    return store


def check_stored(series, store):
    """Refuse a store whose pairs are of another series, by some of them.

    Parameters
    ----------
    series : `PairSeries`
    store : `diffsky.simulation.PairStore`

    Raises
    ------
    ValueError
        If a pair that was looked at has other parameters: the first, the last and up to 30 in
        between.
    """
    numbers = [number for number in store.numbers() if number < series.n]
    places = np.linspace(0, len(numbers) - 1, min(len(numbers), _COMPARED)).astype(int)
    for number in (numbers[place] for place in places):
        found = store.parameters(number)
        expected = plain_parameters(series.task(number).job, {"casa_version": None})
        del expected["casa_version"]
        other = [name for name, value in expected.items() if found.get(name) != value]
        if other:
            name = other[0]
            raise ValueError(
                f"{store.path} holds a pair {number} made with {name} {found.get(name)!r}; "
                f"expected {expected[name]!r}, or another store"
            )


def missing_numbers(series, store):
    """Numbers of the pairs of a series that a store lacks, those after its last one first.

    A gap may be a pair that fails whenever it is tried, and must not keep the others from being
    made.
    """
    stored = store.numbers()
    last, stored = max(stored, default=-1), set(stored)
    numbers = [number for number in range(series.n) if number not in stored]
    return sorted(numbers, key=lambda number: number < last)


def _digest(arrays):
    """Checksum of arrays by name."""
    whole = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        whole.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return whole.hexdigest()


def _check_count(name, value, least):
    is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_int or value < least:
        raise ValueError(f"{name} is {value!r}; expected an int of {least} or more")
