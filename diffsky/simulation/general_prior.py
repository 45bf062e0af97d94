"""A prior for skies of any kind: counts as a power law, four shapes, close pairs, empty fields."""

from dataclasses import dataclass

import numpy as np
import torch

from diffsky.simulation._prior import (
    Prior,
    check_range,
    choose_count,
    place,
)
from diffsky.simulation.sources import SHAPES, SourceList

__all__ = ["GeneralPrior"]

# FWHM of the Gaussian with the second moments of a shape, over its axis: a disk of diameter D has
# a variance of D**2 / 16, a ring one of D**2 / 8.
_FWHM = float(2 * np.sqrt(2 * np.log(2)))
_WIDTHS = {"gaussian": 1.0, "disk": _FWHM / 4, "ring": _FWHM / 8**0.5}


@dataclass(frozen=True, kw_only=True)
class GeneralPrior(Prior, kind="general"):
    """Random skies in units of the noise rms and the beam, for weights that serve any field.

    Parameters
    ----------
    n_sources : tuple of int, optional
        Smallest and largest number of sources, drawn uniformly; companions come on top. Default
        (1, 100).
    snr : tuple of float, optional
        Range of the signal-to-noise ratio. Default (0.3, 1000).
    slope : float, optional
        The counts are dN/dS proportional to S**-slope. 2.5 (default) is the slope of sources
        spread evenly through Euclidean space, whatever their luminosities: N(>S) goes as a volume
        of radius S**-0.5, that is S**-1.5. It needs no knowledge of the sources or of the depth
        of the image. Counts of faint radio sources are flatter, about 1.5 to 2. A flatter slope
        shows more bright sources to a network, a steeper one more blank sky.
    shares : tuple of float, optional
        Shares of points, Gaussians, disks and rings, up to a factor. Default
        (0.5, 0.3, 0.1, 0.1).
    size : tuple of float, optional
        Range of the major axis of what is not a point (FWHM or diameter), evenly distributed in
        its logarithm. Default (0.3, 5).
    axis_ratio : tuple of float, optional
        Range of minor over major axis, uniform. Default (0.3, 1).
    pair_share : float, optional
        Share of sources with a companion, a point, closer than ``separation``. Default 0.1.
    separation : float, optional
        Largest distance of a companion; uniform in distance and direction. Default 1.
    flux_ratio : tuple of float, optional
        Range of the companion's signal-to-noise ratio over that of its source, evenly distributed
        in its logarithm. Default (0.1, 1).
    empty_share : float, optional
        Share of skies without any source, beside those that ``n_sources`` allows. Default 0.1.
    half_width : float, optional
        Centres lie within plus or minus this in both coordinates. Default 14.6.

    Raises
    ------
    ValueError
        If a range or a number is not as above.

    Notes
    -----
    The signal-to-noise ratio is that of a point or Gaussian: its peak over the rms in an image
    with a round beam. The flux is ``snr`` times the square root of ``(1 + a**2) (1 + b**2)``,
    where a and b are the FWHM; of a point it is the flux. For a disk or a ring they are those of
    the Gaussian with the same second moments; a round disk of 5 beams then peaks at 0.56 of
    ``snr`` and a ring at 1.24. Companions may be fainter than the least ``snr``, down to the
    least ``flux_ratio`` of it.

    By default a field holds 0.7 sources above 5 rms on average, and 2.7 above 2 rms.
    """

    n_sources: tuple = (1, 100)
    snr: tuple = (0.3, 1000.0)
    slope: float = 2.5
    shares: tuple = (0.5, 0.3, 0.1, 0.1)
    size: tuple = (0.3, 5.0)
    axis_ratio: tuple = (0.3, 1.0)
    pair_share: float = 0.1
    separation: float = 1.0
    flux_ratio: tuple = (0.1, 1.0)
    empty_share: float = 0.1
    half_width: float = 14.6

    relative = True  # in noise rms and beams
    n_uniforms = 12  # of a source and its companion

    def __post_init__(self):
        for name in ("n_sources", "snr", "size", "axis_ratio", "flux_ratio"):
            check_range(self, name)
        for name in ("snr", "size", "axis_ratio", "flux_ratio"):
            if not getattr(self, name)[0] > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected numbers above 0")
        if self.axis_ratio[1] > 1:
            raise ValueError(f"axis_ratio is {self.axis_ratio}; expected at most 1")
        object.__setattr__(self, "shares", tuple(self.shares))
        shares = np.array(self.shares, dtype=float)
        if shares.shape != (len(SHAPES),) or not (shares >= 0).all() or not shares.sum() > 0:
            raise ValueError(
                f"shares are {self.shares}; expected one of 0 or more for each of "
                f"{', '.join(SHAPES)}, not all 0"
            )
        for name in ("pair_share", "empty_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if not np.isfinite(self.slope):
            raise ValueError(f"slope is {self.slope}; expected a finite number")
        for name in ("separation", "half_width"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0")

    @property
    def brightest(self):
        """float : The largest signal-to-noise ratio that is drawn."""
        return float(self.snr[1])

    def in_units_of(self, rms, beam):
        """Return the prior as it is: it is in noise rms and beams.

        Parameters
        ----------
        rms, beam : float
            Not used.

        Returns
        -------
        prior : `GeneralPrior`
            The same.
        """
        return self

    def draw(self, rng, *, within=None, kernel_fwhm=0.0):
        """Draw one sky.

        Parameters
        ----------
        rng : `numpy.random.Generator`
            Random stream.
        within : float or None, optional
            Half of the side of a field in which every source lies whole, as `SourceList.reach`
            has it; one that is too large for the field is not drawn. None does not care.
        kernel_fwhm : float, optional
            FWHM of the Gaussian that the sky is convolved with, where ``within`` is given.

        Returns
        -------
        sources : `SourceList`
            In noise rms and beams; ``sources.scaled(flux=rms, size=beam)`` has Jy and arcsec.
        """
        head = torch.from_numpy(rng.random(2))
        n = int(choose_count(head[0], head[1], self.n_sources, self.empty_share))
        uniforms = torch.from_numpy(rng.random((n, self.n_uniforms)))
        columns, drawn = self._make(uniforms, within, kernel_fwhm)
        return SourceList(*(column[drawn].numpy() for column in columns))

    def _make(self, uniforms, within, kernel_fwhm):
        """Columns of a `SourceList`, companions last, and which of them are there."""
        snr, shape, size, ratio, pa, x, y, pair, distance, angle, faint, _ = uniforms.unbind(-1)
        snr = _power_law(snr, self.snr, self.slope)
        edges = np.cumsum(self.shares) / np.sum(self.shares)
        shape = sum((shape >= float(edge)).long() for edge in edges[:-1])
        low, high = self.axis_ratio
        major = torch.where(shape > 0, _power_law(size, self.size, 1.0), 0.0)
        minor = major * (low + (high - low) * ratio)
        flux = snr * _dilution(shape, major, minor)
        columns = [flux, major, minor, np.pi * pa, shape]
        room = None
        if within is not None:
            room = within - SourceList(x, y, *columns).reach(kernel_fwhm)
        x, y = (place(u, self.half_width, room) for u in (x, y))
        there = torch.ones_like(shape, dtype=torch.bool) if room is None else room >= 0
        near = torch.zeros_like(snr)
        flux = snr * _power_law(faint, self.flux_ratio, 1.0)
        companion = [flux, near, near, near, torch.zeros_like(shape)]
        distance, angle = self.separation * distance, 2 * np.pi * angle
        if within is not None:
            within = within - SourceList(x, y, *companion).reach(kernel_fwhm)
        steps = (distance * torch.cos(angle), distance * torch.sin(angle))
        other = [_aside(*pair, within) for pair in zip((x, y), steps, strict=True)]
        drawn = there & (pair < self.pair_share)
        if within is not None:
            drawn = drawn & (torch.maximum(abs(other[0]), abs(other[1])) <= within)
        columns = zip([x, y, *columns], [*other, *companion], strict=True)
        return [torch.cat(both, dim=-1) for both in columns], torch.cat([there, drawn], dim=-1)


def _power_law(uniform, limits, slope):
    """Numbers with a density proportional to their power -slope."""
    low, high = (float(limit) for limit in limits)
    if abs(slope - 1) < 1e-6:
        return low * (high / low) ** uniform
    power = 1 - slope
    return (low**power * (1 - uniform) + high**power * uniform) ** (1 / power)


def _dilution(shape, major, minor):
    """Flux over peak, in beams."""
    width = sum((shape == SHAPES.index(name)) * width for name, width in _WIDTHS.items())
    return torch.sqrt((1 + (width * major) ** 2) * (1 + (width * minor) ** 2))


def _aside(centre, step, within):
    """A step to one side, or to the other where that leaves the field."""
    if within is None:
        return centre + step
    return torch.where(abs(centre + step) <= within, centre + step, centre - step)
