"""Skies of controlled pairs of sources: whether two close ones are told apart."""

import numpy as np

from diffsky.simulation._prior import place
from diffsky.simulation.sources import SourceList

__all__ = ["close_pair_skies"]

_JITTER = 0.5  # beams: no pair is always at the same place of the pixels


def close_pair_skies(
    n,
    *,
    seed,
    separation=(0.3, 2.0),
    snr=(10.0, 10.0),
    flux_ratio=(1.0, 1.0),
    size=0.0,
    n_pairs=4,
    spacing=8.0,
):
    """Draw skies with nothing but pairs of close sources, far from one another.

    D24 appendix A blames its outliers in flux on such pairs. Separations, S/N and ratios are drawn
    uniformly over their ranges; for one value give it twice. Sky k of a seed is always the same.

    Parameters
    ----------
    n : int
        Number of skies.
    seed : int
        Which series of skies, 0 or larger.
    separation : tuple of float, optional
        Range of the distance between the two sources, beams. Default 0.3 to 2.
    snr : tuple of float, optional
        Range of the normalised injected flux (D24 section 4.4) of the brighter source where the
        primary beam is 1. Default 10.
    flux_ratio : tuple of float, optional
        Range of the flux of the fainter source over that of the brighter one, at most 1. Default 1.
    size : float, optional
        FWHM of all sources in beams. Default 0, points.
    n_pairs : int, optional
        Pairs of a sky, on a square grid about the centre that is filled row by row. Default 4.
    spacing : float, optional
        Spacing of this grid in beams. Default 8.

    Returns
    -------
    skies : list of `SourceList`
        In noise rms and beams: ``sky.scaled(flux=rms, size=beam)`` is in Jy and arcsec, as
        `simulate_pairs` and `simulate_fast_pair` take it. The two sources of a pair follow one
        another, the brighter one first.

    Raises
    ------
    ValueError
        If a number or a range is not as above, or the largest separation is over a quarter of the
        spacing.
    """
    ranges = {"separation": separation, "snr": snr, "flux_ratio": flux_ratio}
    for name, (low, high) in ranges.items():
        if not 0 < low <= high < np.inf:
            raise ValueError(f"{name} is ({low}, {high}); expected 0 < low <= high")
    if flux_ratio[1] > 1:
        raise ValueError(f"flux_ratio is {flux_ratio}; expected at most 1")
    if not 0 <= size < np.inf or n_pairs < 1 or n < 0:
        raise ValueError(
            f"size is {size}, n_pairs {n_pairs} and n {n}; expected 0 or more, 1 or more, and 0 or "
            "more"
        )
    if not 4 * separation[1] <= spacing < np.inf:
        raise ValueError(
            f"spacing is {spacing} beams; expected at least four separations ({separation[1]})"
        )
    streams = (np.random.default_rng([seed, number]) for number in range(n))
    return [_sky(rng, ranges, size, n_pairs, spacing) for rng in streams]


def _sky(rng, ranges, size, n_pairs, spacing):
    distance, snr, ratio = (
        low + (high - low) * rng.random(n_pairs) for low, high in ranges.values()
    )
    angle, aside = 2 * np.pi * rng.random(n_pairs), rng.random((2, n_pairs))
    x, y = _grid(n_pairs) * spacing + place(aside, _JITTER, None)
    step = 0.5 * distance * np.stack([np.cos(angle), np.sin(angle)])
    # In beams a round source of this size has 1 / (1 + size^2) of its flux in the peak.
    flux = snr * (1 + size**2)
    columns = ([x - step[0], x + step[0]], [y - step[1], y + step[1]], [flux, ratio * flux])
    x, y, flux = (np.stack(column, axis=1).ravel() for column in columns)
    sizes = np.full(len(flux), float(size))
    return SourceList(x, y, flux, sizes, sizes, np.zeros(len(flux)))


def _grid(n):
    """Places of n cells of the smallest square grid that has so many, its centre at 0."""
    side = int(np.ceil(np.sqrt(n)))
    rows, columns = np.divmod(np.arange(n), side)
    return np.stack([columns, rows]) - (side - 1) / 2
