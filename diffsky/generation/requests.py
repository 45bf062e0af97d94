"""What each image of a run is asked to be."""

import astropy.units as u
import numpy as np
import torch

from diffsky.generation.conditioning import plain_labels

__all__ = ["draw_conditions"]

_STREAM = 1  # random numbers of sample k beside those of its noise


def draw_conditions(condition, n, *, seed, label=None, peak_flux=None, extrapolate=False):
    """Condition of every image, as asked for or drawn like those of the training.

    Parameters
    ----------
    condition : `diffsky.generation.ClassCondition` or `diffsky.generation.PeakFluxCondition`
        That of the weights.
    n : int
        Number of images.
    seed : int
        What image k of a seed is drawn to be does not depend on ``n``.
    label : str, sequence of str or None, optional
        Class of all images, or of each.
    peak_flux : `~astropy.units.Quantity` or None, optional
        Peak flux density of all images, or of each.
    extrapolate : bool, optional
        Accept peaks beyond the range of the training.

    Returns
    -------
    context : `torch.Tensor`
        Shape (n, length of the context).
    values : list of str or `~astropy.units.Quantity`
        What they stand for, n of them; peaks in Jy/beam.

    Raises
    ------
    ValueError
        If the weights have another condition, or the label or peak is unknown, out of range or not
        one for each image.
    """
    given = {"class": label, "peak_flux": peak_flux}
    value = given.pop(condition.kind)
    if any(other is not None for other in given.values()):
        has, lacks = ("labels", "peak_flux") if condition.kind == "class" else ("peaks", "label")
        raise ValueError(f"{lacks} is given to weights that are conditioned on {has}")
    if value is None:
        values = [condition.draw(_stream(seed, k)) for k in range(n)]
        values = u.Quantity(values) if condition.kind == "peak_flux" else values
    else:
        values = _repeat(value, n)
    options = {"extrapolate": extrapolate} if condition.kind == "peak_flux" else {}
    context = condition.encode(values, **options)
    if condition.kind == "class":
        values = plain_labels(values)
    else:
        values = condition.decode(context) if value is None else values.to(u.Jy / u.beam)
    return context.to(torch.float32), values


def _repeat(value, n):
    """One value for each image."""
    if isinstance(value, str):
        return [value] * n
    if isinstance(value, u.Quantity):
        if value.ndim < 2 and value.size in ({1} if value.isscalar else {n}):
            return np.broadcast_to(value.value, n).copy() * value.unit
        raise ValueError(
            f"peak_flux has the shape {value.shape} for {n} images; expected () or ({n},)"
        )
    if isinstance(value, list | tuple | np.ndarray) and len(value) == n:
        return list(value)
    raise ValueError(
        f"label or peak_flux is {value!r} for {n} images; expected a word or a Quantity, or as "
        "many of them"
    )


def _stream(seed, number):
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, _STREAM)))
