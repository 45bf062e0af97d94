"""Predictions for a list of images, here or on the workers of a dask cluster."""

import copy
import threading
import warnings
from concurrent.futures import FIRST_COMPLETED, wait
from os import PathLike

from diffsky._cluster import submit_to, task_slots
from diffsky._warning import collect_warnings, warn_caller
from diffsky.deconvolution.observation import load_mask
from diffsky.deconvolution.psf_checks import load_matching_psf
from diffsky.exceptions import PredictionError
from diffsky.images import load_image, load_map, load_psf

__all__ = ["check_images", "predict_images"]

_KINDS = (FileNotFoundError, OSError, ValueError, TypeError)
_NAMED = 10
_one_at_a_time = threading.Lock()  # of a worker: each has all memory and all threads


def check_images(images, plan, options):
    """Read every image of a list, and the maps that go with it, to find what cannot be used.

    Parameters
    ----------
    images : list
        Whatever `diffsky.images.load_image` takes.
    plan : callable
        ``plan(image)`` makes sure, of the first image, that the options can be used with it.
    options : dict
        Of ``predict``, the same for every image.

    Raises
    ------
    FileNotFoundError, OSError, ValueError, TypeError
        Of the first image that cannot be used, with its place in the list and its name.
    """
    maps = {name: options.get(name) for name in ("primary_beam", "rms")}
    for place, item in enumerate(images):
        try:
            image = load_image(item, beam=options.get("beam"))
            for name, value in maps.items():
                if value is not None:
                    load_map(value, like=image, name=name)
            if options.get("mask") is not None:
                load_mask(options["mask"], shape=image.shape)
            if options["psf"] is not None:
                load_matching_psf(options["psf"], like=image)
        except Exception as error:
            kind = next((kind for kind in _KINDS if isinstance(error, kind)), RuntimeError)
            reason = str(error).removeprefix("image: ")
            raise kind(f"{_label(place, item)}: {reason}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come again, with the prediction
        for first in images[:1]:
            plan(first)


def predict_images(estimator, images, options, *, client=None, progress=None):
    """Deconvolve every image of a list.

    Parameters
    ----------
    estimator : `diffsky.DiffusionDeconvolver`
        With weights.
    images : list
        As `check_images` has passed it.
    options : dict
        Of ``estimator.predict``, the same for every image.
    client : `distributed.Client` or None, optional
        Client of the cluster that shares the work; None does it here, one after the other.
    progress : bool or None, optional
        Show a progress bar; None shows one on a terminal.

    Returns
    -------
    results : list of tuple
        What ``estimator.predict`` returns for each, in the order of the list.

    Raises
    ------
    PredictionError
        After all were tried, if some failed.
    KeyboardInterrupt
        On Ctrl-C, with the ``results`` so far, None for images without one.
    """
    outcome = _Outcome(images)
    spread = _predict_here if client is None else _predict_there
    try:
        spread(estimator, images, options, outcome, client=client, progress=progress)
    except KeyboardInterrupt as interrupt:
        interrupt.results = outcome.results
        raise
    return outcome.finish()


class _Outcome:
    """Results in the order of the images, and errors by their place."""

    def __init__(self, images):
        self._images, self.errors = images, {}
        self.results = [None] * len(images)

    def add(self, place, function, *arguments, **options):
        """Keep what a call gives or raises."""
        try:
            self.results[place] = function(*arguments, **options)
        except Exception as error:
            self.errors[place] = error

    def finish(self):
        """The results, if all are there."""
        if not self.errors:
            return self.results
        named = [
            f"{_label(place, self._images[place])}: {type(error).__name__}: {error}"
            for place, error in sorted(self.errors.items())
        ]
        more = f"\nand {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        first = self.errors[min(self.errors)]
        raise PredictionError(
            f"{len(named)} of {len(self.results)} images failed; the attribute results of this "
            "error holds those of the others\n" + "\n".join(named[:_NAMED]) + more,
            self.results,
            self.errors,
        ) from first


def _predict_here(estimator, images, options, outcome, *, client, progress):
    for place, image in enumerate(images):
        outcome.add(place, estimator.predict, image, progress=progress, **options)


def _predict_there(estimator, images, options, outcome, *, client, progress):
    """As many tasks at a time as keep the cluster busy: each holds its image in memory."""
    from tqdm import tqdm

    # A copy: the workers of a local cluster may be threads beside this one.
    shared = client.scatter(copy.deepcopy(estimator), broadcast=True)
    waiting, pending = iter(enumerate(images)), {}
    hidden = None if progress is None else not progress
    with tqdm(total=len(images), unit="image", disable=hidden) as bar:
        try:
            while True:
                _fill(waiting, pending, client, shared, options, outcome)
                if not pending:
                    break
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    outcome.add(pending.pop(future), _receive, future)
                bar.update(len(images) - len(pending) - bar.n)
        finally:
            for future in pending:
                future.cancel()


def _fill(waiting, pending, client, shared, options, outcome):
    while len(pending) < task_slots(client) and (item := next(waiting, None)) is not None:
        place, image = item
        try:
            pending[_send(client, shared, image, options)] = place
        except Exception as error:
            outcome.errors[place] = error


def _send(client, shared, image, options):
    """Read what may be on disks of this machine alone, and submit."""
    image, options = load_image(image, beam=options.get("beam")), dict(options)
    for name in ("primary_beam", "rms"):
        if isinstance(options.get(name), str | PathLike):
            options[name] = load_map(options[name], like=image, name=name)
    if options["psf"] is not None:
        options["psf"] = load_psf(options["psf"], like=image)
    with warnings.catch_warnings():
        # The image goes with the task, so that another worker can take it over.
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        return submit_to(client, _predict_on_worker, shared, image, options)


def _receive(future):
    """Give the warnings of a worker here."""
    result, caught = future.result()
    for message, category in caught:
        warn_caller(message, category)
    return result


def _predict_on_worker(estimator, image, options):
    """Predict, with our warnings in the order they came, each once."""
    with _one_at_a_time, collect_warnings() as collected:
        result = estimator.predict(image, progress=False, **options)
    return result, list(dict.fromkeys(collected))


def _label(place, image):
    return f"image {place} ({image})" if isinstance(image, str | PathLike) else f"image {place}"
