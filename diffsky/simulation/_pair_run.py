"""Makes ordered pairs, here or on a cluster, and stores each when it is done."""

import warnings
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u

from diffsky.exceptions import DiffskyWarning
from diffsky.simulation._casa_pool import ClusterRun, LocalRun
from diffsky.simulation._casa_process import CasaError, seconds

__all__ = ["TIMEOUT", "RunOptions", "run_orders"]

TIMEOUT = 300 * u.s
_HOPELESS = 8  # failures without a single success
_STREAK = 32  # failures one after the other, after some
_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How and where pairs are made.

    Parameters
    ----------
    client, workers, timeout, retries, log_dir, work_dir, progress
        As `diffsky.simulation.simulate_pairs` takes them.
    """

    client: object
    workers: int
    timeout: object
    retries: int
    log_dir: object
    work_dir: object
    progress: bool | None

    def __post_init__(self):
        for name, least in (("workers", 1), ("retries", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is {value!r}; expected an int of {least} or more")
        object.__setattr__(self, "timeout", seconds(self.timeout))

    def start(self):
        """The threads or the cluster that make the pairs."""
        options = {
            "work_dir": _absolute(self.work_dir),
            "timeout": self.timeout,
            "retries": self.retries,
        }
        if self.client is None:
            return LocalRun(self.workers, options)
        return ClusterRun(self.client, options)

    def log_file(self, label, number):
        """The log of a pair, None where none is asked for."""
        if self.log_dir is None:
            return None
        return str(Path(_absolute(self.log_dir), label, f"{number:08d}.log"))


def run_orders(orders, options, *, total, stacklevel):
    """Make pairs.

    Parameters
    ----------
    orders : list of tuple
        (store, series, number, label): the pair of this number of a series goes to a store; the
        label names series, where there are several.
    options : `RunOptions`
    total : int
        Number of pairs, those included that were there.
    stacklevel : int
        Where a warning points.

    Raises
    ------
    CasaError
        If the first 8 pairs, 32 one after the other, or all of them, failed.

    Warns
    -----
    DiffskyWarning
        Of those that failed.
    """
    from tqdm import tqdm

    if not orders:
        return
    disable = None if options.progress is None else not options.progress
    outcome, pending, waiting = _Outcome(), {}, iter(orders)
    run = options.start()
    with tqdm(total=total, initial=total - len(orders), unit="pair", disable=disable) as bar:
        try:
            while True:
                _submit(waiting, pending, run, options, outcome)
                if not pending:
                    break
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    store, _, number, label = pending.pop(future)
                    bar.update()
                    try:
                        pair = future.result()
                    except run.tolerated as error:
                        outcome.failed(label, number, error)
                        continue
                    store.write(number, pair)
                    outcome.stored()
                outcome.give_up(_HOPELESS)
        finally:
            run.stop(pending)
    outcome.give_up(1)
    if outcome.failures:
        warnings.warn(outcome.describe(), DiffskyWarning, stacklevel=stacklevel + 1)


def _submit(waiting, pending, run, options, outcome):
    """Submit as many pairs as there is room for."""
    while len(pending) < run.slots and (order := next(waiting, None)) is not None:
        _, series, number, label = order
        try:
            task = series.task(number)
        except ValueError as error:  # of a set-up that was drawn
            outcome.failed(label, number, error)
            outcome.give_up(_HOPELESS)
            continue
        pending[run.submit(task, options.log_file(label, number))] = order


class _Outcome:
    """What became of the pairs of one run."""

    def __init__(self):
        self.failures, self.made, self._streak = {}, 0, 0

    def failed(self, label, number, error):
        self.failures[label, number] = error
        self._streak += 1

    def stored(self):
        self.made += 1
        self._streak = 0

    def give_up(self, limit):
        """Raise where no pair, of at least so many, or none of the last 32 was made."""
        if self.made and self._streak < _STREAK or len(self.failures) < limit:
            return
        error = next(reversed(self.failures.values()))
        which = f"the last {self._streak}" if self.made else f"all {len(self.failures)}"
        message = f"{which} pairs that were tried failed, the last of them: {error}"
        raise CasaError(message, getattr(error, "log_file", None)) from error

    def describe(self):
        named = []
        for (label, number), error in list(self.failures.items())[:_NAMED]:
            log = getattr(error, "log_file", None)
            reason = str(error).partition("\n")[0] if log is None else f"log {log}"
            named.append(f"{label}{' ' if label else ''}{number} ({reason})")
        more = f" and {len(self.failures) - _NAMED} more" if len(self.failures) > _NAMED else ""
        return (
            f"{len(self.failures)} of {len(self.failures) + self.made} pairs failed in all tries "
            f"and are left out: {', '.join(named)}{more}. The same call tries them again"
        )


def _absolute(path):
    return None if path is None else str(Path(path).expanduser().absolute())
