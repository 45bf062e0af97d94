"""The same skies observed under several conditions."""

import re
import zlib
from collections.abc import Iterable
from dataclasses import fields, replace
from itertools import zip_longest
from pathlib import Path

import astropy.units as u
from astropy.coordinates import SkyCoord

from diffsky.simulation._casa_process import require_casa
from diffsky.simulation._pair_maker import KERNEL_BEAMS
from diffsky.simulation._pair_run import TIMEOUT, RunOptions, run_orders
from diffsky.simulation._pair_series import PairSeries, check_stored, missing_numbers, open_store
from diffsky.simulation.setup import ObservationSetup

__all__ = ["PWV_OCTILES", "pwv_sweep", "sweep"]

PWV_OCTILES = [0.472, 0.658, 0.913, 1.262, 1.796, 2.748, 5.186] * u.mm
_UNSAFE = re.compile(r"[^\w.+=-]+")


def pwv_sweep(skies, setup, *, seed, store, pwv=PWV_OCTILES, **options):
    """Observe the same skies under several amounts of water vapour, D24 section 4.6.

    Parameters
    ----------
    skies : `Prior` or sequence
        See `sweep`.
    setup : `ObservationSetup`
        See `sweep`.
    seed : int
        See `sweep`.
    store : str or path-like
        See `sweep`.
    pwv : `~astropy.units.Quantity`, optional
        The amounts. By default the seven octiles of ALMA's weather, 0.472 to 5.186 mm, the range
        of D24.
    **options
        As `sweep` takes them.

    Returns
    -------
    list of tuple
        ``(pwv, store)`` of each amount.

    Raises
    ------
    ImportError, TypeError, ValueError, CasaError, OSError
        As `sweep`.
    """
    return sweep(skies, setup, parameter="pwv", values=pwv, seed=seed, store=store, **options)


def sweep(
    skies,
    setup,
    *,
    parameter,
    values,
    seed,
    store,
    n=None,
    simulator="simobserve",
    noise="independent",
    kernel_beams=KERNEL_BEAMS,
    client=None,
    workers=1,
    timeout=TIMEOUT,
    retries=2,
    log_dir=None,
    work_dir=None,
    progress=None,
):
    """Observe the same skies with one parameter of the set-up at several values.

    Pair k has the same sky at every value, and noise of its own. Each value has a store of its
    own, a folder named by the value. The same call continues what was interrupted; other values
    may be added to it.

    Parameters
    ----------
    skies : `Prior` or sequence
        As `simulate_pairs` takes them. Priors draw for the field of ``setup``, and one in noise
        rms and beams is scaled with those of ``setup``, whatever the value.
    setup : `ObservationSetup`
        What all values have in common.
    parameter : str
        Which parameter of `ObservationSetup` is varied.
    values : sequence or `~astropy.units.Quantity`
        Its values, each another one.
    seed : int
        Which series of pairs, 0 or larger.
    store : str or path-like
        The folder for the stores.
    n : int, optional
        Number of skies. By default all; a prior needs it.
    simulator, noise, kernel_beams : optional
        As `simulate_pairs` takes them.
    client, workers, timeout, retries, log_dir, work_dir, progress : optional
        As `simulate_pairs` takes them. Logs are in a folder for each value.

    Returns
    -------
    list of tuple
        ``(value, store)`` of each value, in their order.

    Raises
    ------
    ImportError, CasaError, OSError
        As `simulate_pairs`.
    TypeError, ValueError
        As `simulate_pairs`, or if there is no such parameter, a value is none of it, or two
        are alike.

    Warns
    -----
    DiffskyWarning
        As `simulate_pairs`.
    """
    require_casa()
    options = RunOptions(
        client=client,
        workers=workers,
        timeout=timeout,
        retries=retries,
        log_dir=log_dir,
        work_dir=work_dir,
        progress=progress,
    )
    setups = _vary(setup, parameter, values)
    series = {
        label: PairSeries(
            skies=skies,
            setups=varied,
            seed=seed,
            n=n,
            noise=noise,
            simulator=simulator,
            kernel_beams=kernel_beams,
            reference=setup,
            noise_stream=zlib.crc32(label.encode()),  # whatever other values there are,
        )
        for label, varied in setups.items()
    }
    for one in series.values():
        one.check(stacklevel=2)
    stores = {label: open_store(Path(store, label)) for label in series}
    for label, one in series.items():
        check_stored(one, stores[label])
    count = next(iter(series.values())).n
    columns = (
        [(stores[label], one, number, label) for number in missing_numbers(one, stores[label])]
        for label, one in series.items()
    )
    orders = [order for row in zip_longest(*columns) for order in row if order is not None]
    run_orders(orders, options, total=count * len(series), stacklevel=2)
    return [(getattr(setups[label], parameter), stores[label]) for label in series]


def _vary(setup, parameter, values):
    """Set-ups by the names of their values."""
    if not isinstance(setup, ObservationSetup):
        raise TypeError(f"setup is {setup!r}; expected an ObservationSetup")
    known = [field.name for field in fields(ObservationSetup)]
    if parameter not in known:
        raise ValueError(f"parameter is {parameter!r}; expected one of {', '.join(known)}")
    scalar = isinstance(values, u.Quantity | SkyCoord) and values.isscalar
    if scalar or isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"values are {values!r}; expected a list of values of {parameter}")
    setups = {}
    for value in values:
        varied = replace(setup, **{parameter: value})
        label = _label(parameter, getattr(varied, parameter))
        if label in setups:
            raise ValueError(f"values have {value} twice; expected each once")
        setups[label] = varied
    if not setups:
        raise ValueError(f"values are empty; expected at least one of {parameter}")
    return setups


def _label(parameter, value):
    """Name of the folder of a value."""
    if isinstance(value, SkyCoord):
        text = value.icrs.to_string("hmsdms", precision=4)
    elif isinstance(value, u.Quantity):
        text = f"{value.value:.12g}{value.unit}"
    elif isinstance(value, Path):
        text = value.stem
    else:
        text = str(value)
    return _UNSAFE.sub("_", f"{parameter}={text}")
