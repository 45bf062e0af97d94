"""A series of pairs: what decides each of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffsky.simulation._casa_checks import warn_small_image
from diffsky.simulation._casa_inputs import casa_seed, observation_job
from diffsky.simulation._casa_results import plain_parameters
from diffsky.simulation._pair_maker import PairTask, resolve_sky, stream
from diffsky.simulation._prior import Prior
from diffsky.simulation.setup import ObservationSetup

__all__ = ["PairSeries", "check_stored", "open_store"]

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
        job = {
            "series": int(self.seed),
            "number": int(number),
            "prior": json.dumps(self.skies.to_dict()) if prior else None,
            **self._job(setup),
            "seed": self._noise_seed(number),
        }
        relative = prior and self.skies.relative
        return PairTask(
            job=job,
            setup=setup,
            reference=reference,
            reference_job=self._job(reference) if relative else None,
            sky=self.skies if prior else self.skies[number % len(self.skies)],
            kernel_beams=float(self.kernel_beams),
        )

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
    """Refuse a store whose pairs are of another series.

    Parameters
    ----------
    series : `PairSeries`
    store : `diffsky.simulation.PairStore`

    Raises
    ------
    ValueError
        If its first or last pair of the series has other parameters.
    """
    numbers = [number for number in store.numbers() if number < series.n]
    for number in {*numbers[:1], *numbers[-1:]}:
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


def _check_count(name, value, least):
    is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_int or value < least:
        raise ValueError(f"{name} is {value!r}; expected an int of {least} or more")
