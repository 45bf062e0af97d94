"""Training pairs made on the fly of whole fields in Jy and arcsec, as D24 has them."""

import json
import math
from dataclasses import dataclass, field

import numpy as np
import torch

from diffsky.deconvolution.scaling import FluxScale, WorkingScale
from diffsky.simulation.counter import CounterStreams
from diffsky.simulation.skymodels import PRIORS, Prior, render_sources
from diffsky.simulation.uv_bank import UVBank

__all__ = ["FluxPairs"]

_PAIR, _NOISE = 0, 3  # purposes of the streams, beside those of the priors
_PAIRS_AT_ONCE = {"cpu": 8, "other": 64}


@dataclass(repr=False)
class FluxPairs:
    """Endless pairs of dirty image and true sky, of whole fields of one array.

    Skies are drawn and observed on the pixels of the image, and both go to the working grid as
    `diffsky.DiffusionDeconvolver.predict` and `PairDataset` bring them there. Pair k of a seed is
    always the same: its stream decides sources, instrument, noise and its rms. Pairs are neither
    flipped nor turned, so that the network sees the PSF of the one observation that its weights
    are for.

    Parameters
    ----------
    weights : `torch.Tensor`
        Shape (n, N, N // 2 + 1): gridded uv weights of n naturally weighted observations on the
        pixels of the image (`diffsky.instrument.working_weights`); each pair takes one. N is at
        least the side of the image, better twice that: then the PSF does not wrap around.
    primary_beam : array_like
        Shape (size, size): response on the pixels of the image.
    rms : tuple of float or None, optional
        Range of the noise rms in Jy/beam, uniform.
    noise : `torch.Tensor` or None, optional
        Instead of ``rms``: shape (n, size, size), the noise image of each observation in Jy/beam,
        which all pairs of that observation get. So D24 trained, whose observations share their
        noise (`SharedNoise`); a network learns it by heart.
    cell : float, optional
        Pixel of the image in arcsec. Default 0.1.
    prior : `Prior`, optional
        In Jy and arcsec. By default ``PRIORS["independent"]``.
    scale : `diffsky.deconvolution.FluxScale` or `diffsky.deconvolution.WorkingScale`, optional
        Working grid, and how images become what the network sees. By default that of the preset
        ``drozdova2024``.
    beam : float or None, optional
        Geometric mean FWHM in arcsec, which a `WorkingScale` needs.
    stride : int, optional
        Height and width of the grid of a `WorkingScale` are multiples of this. Default 8, which
        the preset ``small`` takes.
    pblimit : float, optional
        There is no data where the primary beam is this or less. Default 0.2.
    seed : int, optional
        Which of the endless series of pairs, 0 or larger. Default 0.

    Raises
    ------
    TypeError, ValueError
        If weights, primary beam, prior, scale or a number are not as above, or the data reach
        beyond the working grid.
    """

    weights: torch.Tensor
    primary_beam: np.ndarray
    rms: tuple | None = None
    noise: torch.Tensor | None = None
    cell: float = 0.1
    prior: Prior = field(default_factory=lambda: PRIORS["independent"])
    scale: FluxScale | WorkingScale = field(default_factory=FluxScale)
    beam: float | None = None
    stride: int = 8
    pblimit: float = 0.2
    seed: int = 0

    def __post_init__(self):
        self.primary_beam = np.nan_to_num(np.asarray(self.primary_beam, dtype=float))
        _check(self)
        self._grid = _Resampler(self)
        self._banks = {}
        if self.noise is not None:
            seen = torch.from_numpy(self.primary_beam > self.pblimit)
            self._levels = torch.stack([image[seen].std() for image in self.noise])

    def __repr__(self):
        return (
            f"<FluxPairs: {len(self.weights)} observations, prior {self.prior.kind}, seed "
            f"{self.seed}>"
        )

    def __len__(self):
        """Zero: there is no end."""
        return 0

    @property
    def fingerprint(self):
        """str : what tells these pairs from others, for a run that is resumed."""
        # Numbers are rounded, so that another machine finds the same.
        about = {**self.describe(), "rms": [f"{rms:.2e}" for rms in self._rms_range()]}
        del about["largest_flux"]
        if self.noise is not None:
            step = -(-len(self.primary_beam) // 4)
            marks = self.noise[[0, -1], ::step, ::step] / self._levels[[0, -1], None, None]
            about["noise_images"] = (marks.round(decimals=1) + 0.0).flatten().tolist()
        return json.dumps([about, self.scale.to_dict()], sort_keys=True)

    def describe(self):
        """Say what the pairs are, in plain JSON.

        Returns
        -------
        description : dict
            ``instruments`` (their number), ``beam`` (least and largest of theirs, geometric mean
            FWHM in arcsec), ``largest_flux`` (in units of the least rms), ``priors`` (keywords,
            and the share 1), ``rms``, ``noise`` (independent or shared), ``cell``, ``field_size``
            (pixels of the image), ``pblimit``, ``seed``.
        """
        return {
            "instruments": len(self.weights),
            "beam": _range_of_beams(self.weights, self.cell),
            "largest_flux": self.prior.brightest / self._rms_range()[0],
            "priors": [{**self.prior.to_dict(), "share": 1.0}],
            "rms": self._rms_range(),
            "noise": "independent" if self.noise is None else "shared",
            "cell": float(self.cell),
            "field_size": len(self.primary_beam),
            "pblimit": self.pblimit,
            "seed": self.seed,
        }

    def batch(self, numbers, device="cpu"):
        """Make pairs.

        Parameters
        ----------
        numbers : sequence of int
            Which pairs of this seed.
        device : str or `torch.device`, optional
            Where they are made and where they end.

        Returns
        -------
        target : `torch.Tensor`
            Shape (n, 1, size, size): scaled sky.
        condition : `torch.Tensor`
            Shape (n, 1, size, size): dirty image; of a `WorkingScale` (n, 2, height, width), dirty
            image and primary beam.
        """
        numbers = list(numbers)
        at_once = _PAIRS_AT_ONCE.get(torch.device(device).type, _PAIRS_AT_ONCE["other"])
        parts = [numbers[i : i + at_once] for i in range(0, len(numbers), at_once)]
        # Networks train under autocast; the images that they learn from are made in float32.
        with torch.autocast(torch.device(device).type, enabled=False):
            images = torch.cat([self._make(part, device) for part in parts])
        return self.scale.encode(images)

    def _make(self, numbers, device):
        """Apparent sky and dirty image over rms, primary beam and rms on the working grid."""
        streams = CounterStreams(self.seed, numbers, device)
        choice, level = streams.uniform(_PAIR, 2).unbind(1)
        choice = (choice * len(self.weights)).long()
        size, kernel = len(self.primary_beam), self._grid.kernel_fwhm
        within = ((size - 1) // 2) * self.cell
        sources, owner = self.prior.draw_many(streams, within=within)
        gain = torch.as_tensor(self.primary_beam, dtype=torch.float32, device=device)

        def render(**options):
            shape = (size, size)
            return render_sources(sources, owner, len(numbers), shape, pixel=self.cell, **options)

        sky = render()
        if self.noise is None:
            rms = (self.rms[0] + (self.rms[1] - self.rms[0]) * level)[:, None, None]
            dirty = self._bank(device).observe(sky * gain / rms, choice, streams, _NOISE)
        else:
            rms = self._levels[choice.cpu()].to(device)[:, None, None]
            dirty = self._bank(device).observe(sky * gain / rms, choice)
            dirty = dirty + self.noise[choice.cpu()].to(device) / rms
        truth = render(kernel_fwhm=kernel) if kernel else sky
        return self._grid.to_working(truth / rms, dirty, rms)[:, : self.scale.planes]

    def _rms_range(self):
        """Least and largest noise rms."""
        levels = self.rms if self.noise is None else (self._levels.min(), self._levels.max())
        return [float(value) for value in levels]

    def _bank(self, device):
        if str(device) not in self._banks:
            self._banks[str(device)] = UVBank(self.weights, self.weights, 0.0, device)
        return self._banks[str(device)]


class _Resampler:
    """Brings images to the working grid as `prepare_observation` does, many at once."""

    def __init__(self, pairs):
        from scipy.ndimage import distance_transform_edt

        from diffsky.deconvolution.grid import WorkingGrid

        valid, scale = pairs.primary_beam > pairs.pblimit, pairs.scale
        if scale.pixels_per_beam is None:
            grid = WorkingGrid.fixed(valid, scale.pixel / pairs.cell, scale.size)
        else:
            zoom = pairs.beam / scale.pixels_per_beam / pairs.cell
            grid = WorkingGrid.around(valid, zoom, pairs.stride)
        self.kernel_fwhm = scale.kernel_fwhm * grid.zoom
        self._shape, self._area = grid.working_shape, grid.zoom**2
        nearest = distance_transform_edt(~valid, return_distances=False, return_indices=True)
        self._filled = torch.from_numpy(nearest[0] * valid.shape[1] + nearest[1]).long()
        self._valid = torch.from_numpy(grid.valid_to_working(valid))
        gain = grid.to_working(pairs.primary_beam[tuple(nearest)], linear=True)
        self._gain = torch.from_numpy(gain) * self._valid
        rows, columns = grid.matrices()
        self._rows = torch.from_numpy(rows.toarray().astype(np.float32))
        self._columns = torch.from_numpy(columns.toarray().astype(np.float32))

    def to_working(self, sky, dirty, rms):
        """Four planes, shape (n, 4, height, width), of skies and dirty images over rms."""
        tensors = (self._filled, self._valid, self._gain, self._rows, self._columns)
        filled, valid, gain, rows, columns = (tensor.to(dirty.device) for tensor in tensors)
        dirty = dirty.flatten(1)[:, filled]
        sky, dirty = (rows @ image @ columns.T for image in (sky, dirty))
        gain, rms = gain.expand(len(sky), *self._shape), rms.expand(-1, *self._shape)
        return torch.stack([sky * self._area * gain, dirty, gain, rms], dim=1) * valid


def _range_of_beams(weights, cell):
    from diffsky.deconvolution.psf_checks import fit_beam

    beams = []
    for plane in weights:
        psf = torch.fft.fftshift(torch.fft.irfft2(plane + 0j, s=(weights.shape[1],) * 2))
        beams.append(cell * math.sqrt(math.prod(fit_beam((psf / psf.max()).numpy()))))
    return [round(min(beams), 4), round(max(beams), 4)]


def _check(pairs):
    if not isinstance(pairs.scale, FluxScale | WorkingScale):
        raise TypeError(f"scale is {pairs.scale!r}; expected a FluxScale or a WorkingScale")
    if pairs.scale.pixels_per_beam is not None and not (pairs.beam and pairs.beam > 0):
        raise ValueError(f"beam is {pairs.beam}; expected that of a WorkingScale in arcsec")
    if not isinstance(pairs.prior, Prior):
        raise TypeError(f"prior is {pairs.prior!r}; expected a Prior, one of PRIORS perhaps")
    if pairs.prior.relative:
        raise ValueError("the prior is in noise rms and beams; expected one in Jy and arcsec")
    shape = pairs.primary_beam.shape
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"primary_beam has shape {shape}; expected (size, size)")
    grid = tuple(pairs.weights.shape)
    if len(grid) != 3 or grid[2] != grid[1] // 2 + 1 or grid[1] < shape[0]:
        raise ValueError(
            f"weights have shape {grid}; expected (n, N, N // 2 + 1) with N of {shape[0]}, the "
            "side of the primary beam, or more"
        )
    if (pairs.rms is None) == (pairs.noise is None):
        raise ValueError("expected either rms or noise images")
    if pairs.rms is not None and not 0 < pairs.rms[0] <= pairs.rms[1] < math.inf:
        raise ValueError(f"rms is {pairs.rms}; expected two numbers above 0 in Jy/beam")
    if pairs.noise is not None and pairs.noise.shape != (len(pairs.weights), *shape):
        raise ValueError(
            f"noise has shape {tuple(pairs.noise.shape)}; expected {(len(pairs.weights), *shape)}, "
            "an image for each observation"
        )
    if not 0 < pairs.cell < math.inf:
        raise ValueError(f"cell is {pairs.cell}; expected a number of arcsec above 0")
    if not 0.1 <= pairs.pblimit < 1:
        raise ValueError(f"pblimit is {pairs.pblimit}; expected 0.1 to 1")
