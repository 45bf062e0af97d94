"""Sky priors: what sources there are."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from diffsky.simulation._prior import (
    Prior,
    check_range,
    place,
)
from diffsky.simulation.general_prior import GeneralPrior
from diffsky.simulation.rendering import render_sources
from diffsky.simulation.sources import SourceList

__all__ = [
    "PRIORS",
    "GeneralPrior",
    "Prior",
    "SkyPrior",
    "SourceList",
    "render_sources",
]


@dataclass(frozen=True, kw_only=True)
class SkyPrior(Prior, kind="gaussians"):
    """Random skies of Gaussian sources.

    Parameters
    ----------
    n_sources : tuple of int, optional
        Smallest and largest number of sources, drawn uniformly. Default (1, 5).
    flux : tuple of float, optional
        Range of the total flux. By default 50e-6 to 500e-6.
    flux_law : {"uniform", "log-uniform"}, optional
        Distribution of the flux over its range.
    fwhm : tuple of float, optional
        Range from which both axes are drawn, uniformly; the larger is the major one. Default
        (0.4, 0.8).
    half_width : float, optional
        Centres lie within plus or minus this in both coordinates. Default 10.
    step : float, optional
        Centres lie on a grid of this spacing; 0 (default) draws them continuously.
    point_share : float, optional
        Share of sources that are points (FWHM 0). Default 0.
    empty_share : float, optional
        Share of skies without any source, beside those that ``n_sources`` allows. Default 0.
    relative : bool, optional
        False (default): Jy and arcsec. True: noise rms and beams (geometric mean FWHM).

    Raises
    ------
    ValueError
        If a range or a number is not as above.
    """

    n_sources: tuple = (1, 5)
    flux: tuple = (50e-6, 500e-6)
    flux_law: str = "uniform"
    fwhm: tuple = (0.4, 0.8)
    half_width: float = 10.0
    step: float = 0.0
    point_share: float = 0.0
    empty_share: float = 0.0
    relative: bool = False

    n_uniforms = 7  # of a source

    def __post_init__(self):
        if self.flux_law not in ("uniform", "log-uniform"):
            raise ValueError(f"flux_law is {self.flux_law!r}; expected 'uniform' or 'log-uniform'")
        for name in ("n_sources", "flux", "fwhm"):
            check_range(self, name)
        if self.flux_law == "log-uniform" and not self.flux[0] > 0:
            raise ValueError(f"flux is {self.flux}; expected above 0 with a log-uniform law")
        if not 0 < self.half_width < np.inf:
            raise ValueError(f"half_width is {self.half_width}; expected a number above 0")
        if not 0 <= self.step < np.inf:
            raise ValueError(f"step is {self.step}; expected a number of 0 or more")
        for name in ("point_share", "empty_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")

    @property
    def brightest(self):
        """float : The largest flux that is drawn."""
        return float(self.flux[1])

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
            In the units of the prior; none, where the number drawn is 0.
        """
        n = rng.integers(self.n_sources[0], self.n_sources[1] + 1)
        n = 0 if rng.random() < self.empty_share else n
        # The order in which numbers are drawn is that of the first version, for good.
        axes, point, flux = rng.random((n, 2)), rng.random(n), rng.random(n)
        (x, y), pa = rng.random((2, n)), rng.random(n)
        uniforms = np.stack([*axes.T, point, flux, x, y, pa], axis=-1)
        columns, drawn = self._make(uniforms, within, kernel_fwhm, xp=np)
        return SourceList(*columns)[drawn]

    def _make(self, uniforms, within, kernel_fwhm, xp=torch):
        """Columns of a `SourceList` from uniform numbers, and which sources have room."""
        one, other, point, flux, x, y, pa = (uniforms[..., k] for k in range(self.n_uniforms))
        one, other = (self.fwhm[0] + (self.fwhm[1] - self.fwhm[0]) * axis for axis in (one, other))
        point = point < self.point_share
        major = xp.where(point, 0.0, xp.maximum(one, other))
        minor = xp.where(point, 0.0, xp.minimum(one, other))
        if self.flux_law == "uniform":
            flux = self.flux[0] + (self.flux[1] - self.flux[0]) * flux
        else:
            low, high = (float(f) for f in np.log(self.flux))
            flux = xp.exp(low + (high - low) * flux)
        shape = xp.where(major > 0, 1, 0)
        columns = [flux, major, minor, np.pi * pa, shape]
        room = None
        if within is not None:
            room = within - SourceList(x, y, *columns).reach(kernel_fwhm)
        x, y = (self._on_grid(xp, place(u, self.half_width, room), room) for u in (x, y))
        return [x, y, *columns], xp.ones_like(shape) > 0 if room is None else room >= 0

    def _on_grid(self, xp, offset, room):
        if not self.step:
            return offset
        cells = xp.round(offset / self.step)
        if room is not None:
            most = xp.floor(room.clip(0) / self.step)
            cells = xp.maximum(xp.minimum(cells, most), -most)
        return cells * self.step

    def in_units_of(self, rms, beam):
        """Express a physical prior in noise rms and beams.

        Parameters
        ----------
        rms : float
            Noise rms in Jy/beam.
        beam : float
            Geometric mean FWHM of the beam in arcsec.

        Returns
        -------
        prior : `SkyPrior`
            With ``relative=True``; a relative prior is returned as it is.
        """
        if self.relative:
            return self
        return replace(
            self,
            flux=tuple(f / rms for f in self.flux),
            fwhm=tuple(w / beam for w in self.fwhm),
            half_width=self.half_width / beam,
            step=self.step / beam,
            relative=True,
        )


PRIORS = {
    "independent": SkyPrior(),
    "drozdova2024": SkyPrior(step=1.0),
    # 0 to 12 sources per 25 arcsec at D24's beam of 0.854 arcsec, from far below the noise to far
    # above it, from points to three beams.
    "wide": SkyPrior(
        n_sources=(0, 12),
        flux=(0.5, 150.0),
        flux_law="log-uniform",
        fwhm=(0.0, 3.0),
        half_width=14.6,
        point_share=0.2,
        relative=True,
    ),
    "general": GeneralPrior(),
}
