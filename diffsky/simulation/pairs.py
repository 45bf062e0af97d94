"""Training pairs made on the fly: dirty image and sky on the working grid."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from diffsky.backend import sample_generator
from diffsky.deconvolution.scaling import WorkingScale
from diffsky.instrument.operator import Instrument
from diffsky.simulation.batch_maker import BEAM_WIDTHS, FLAT_SHARE, BatchMaker
from diffsky.simulation.counter import CounterStreams
from diffsky.simulation.skymodels import PRIORS, Prior, SourceList, render_sources

__all__ = ["SimulatedPairs"]

# What bounds the memory: on the CPU the cache, on a GPU enough to keep it busy.
_PAIRS_AT_ONCE = {"cpu": 32, "other": 512}


@dataclass(repr=False)
class SimulatedPairs:
    """Endless pairs of dirty image and sky, every one with its own noise.

    Pair k of a seed is always the same: its stream decides prior, sources, instrument, flips,
    primary beam, patch and noise.

    Parameters
    ----------
    weights : `torch.Tensor`
        Shape (n, N, N // 2 + 1): gridded uv weights of n observations on the working grid, whose
        pixel is the beam over 4.25 (`diffsky.instrument.bank_entry`); each pair takes one.
        N is at least ``field_size``, better twice that: then the PSF does not wrap around.
    priors : sequence of (`Prior`, float), optional
        Relative priors and the share of pairs that each gets. By default ``"wide"`` alone.
    field_size : int, optional
        Working pixels along a side of the observed field. Default 128.
    patch_size : int or None, optional
        A random patch of this size is cut out; None keeps the whole field. Default 64.
    scale : `diffsky.deconvolution.scaling.WorkingScale`, optional
        How images become what the network sees. By default that of the preset ``small``.
    pblimit : float, optional
        There is no data where the primary beam is below this. Default 0.2.
    seed : int, optional
        Which of the endless series of pairs, 0 or larger. Default 0.
    version : {2, 1}, optional
        How pairs are drawn. 2 (default): all at once on the device, from counter-based streams
        that are the same on every device; sources lie whole in the field. 1, with which the first
        weights were trained: one after the other on the CPU; the border of the field cuts
        sources. The two have the same distribution otherwise, but not the same pairs.
    noise_weights : `torch.Tensor` or None, optional
        Shape of ``weights``: power of the noise in the cells of the grid, to any scale. None
        takes ``weights``, which is right for natural weighting alone.

    Raises
    ------
    TypeError, ValueError
        If weights, priors or a number are not as above.

    Notes
    -----
    Primary beams are Gaussians of 100 to 600 working pixels (FWHM), half of them off the centre
    by up to half a field, and 1 everywhere in a tenth of the pairs: the network is given the
    primary beam, so it need not be yours.

    In version 2 positions are uniform where a source has room. That is what drawing a position
    again and again until the source fits comes to, and it leaves numbers, fluxes and sizes as the
    prior has them; leaving out sources that do not fit would make extended ones rare.
    """

    weights: torch.Tensor
    priors: list = field(default_factory=lambda: [(PRIORS["wide"], 1.0)])
    field_size: int = 128
    patch_size: int | None = 64
    scale: WorkingScale = field(default_factory=WorkingScale)
    pblimit: float = 0.2
    seed: int = 0
    version: int = 2
    noise_weights: torch.Tensor | None = None

    def __post_init__(self):
        if self.version not in (1, 2):
            raise ValueError(f"version is {self.version!r}; expected 1 or 2")
        if self.scale.pixels_per_beam is None:
            raise ValueError(f"scale is {self.scale}; expected a WorkingScale, in rms and beams")
        if self.weights.ndim != 3:
            raise ValueError(
                f"weights have shape {tuple(self.weights.shape)}; expected (n, N, N // 2 + 1)"
            )
        if self.noise_weights is None:
            self.noise_weights = self.weights
        if self.noise_weights.shape != self.weights.shape:
            raise ValueError(
                f"noise_weights have shape {tuple(self.noise_weights.shape)}; expected that of "
                f"weights, {tuple(self.weights.shape)}"
            )
        if not 0 < self.field_size <= self.weights.shape[1]:
            raise ValueError(
                f"field_size is {self.field_size}; expected 1 to {self.weights.shape[1]}, the "
                "side of the uv grid"
            )
        for prior, _ in self.priors:
            if not isinstance(prior, Prior):
                raise TypeError(f"a prior is {prior!r}; expected a Prior, one of PRIORS perhaps")
        if any(not prior.relative for prior, _ in self.priors):
            raise ValueError("a prior is in Jy and arcsec; expected one of in_units_of(rms, beam)")
        if self.patch_size is not None and not 0 < self.patch_size <= self.field_size:
            raise ValueError(
                f"patch_size is {self.patch_size}; expected 1 to field_size {self.field_size}"
            )
        shares = np.array([share for _, share in self.priors], dtype=float)
        if not (shares >= 0).all() or not shares.sum() > 0:
            raise ValueError(
                f"the shares of the priors are {shares}; expected 0 or more, not all 0"
            )
        self._shares = shares / shares.sum()
        self._makers = {}

    @classmethod
    def from_bank(cls, bank, **options):
        """Make pairs of the observations of a bank.

        Parameters
        ----------
        bank : `diffsky.instrument.PSFBank`
            Its weights and its noise weights are taken.
        **options
            Keywords of `SimulatedPairs` other than ``weights`` and ``noise_weights``.

        Returns
        -------
        pairs : `SimulatedPairs`
            Each pair draws one of the observations.
        """
        return cls(bank.weights, noise_weights=bank.noise_weights, **options)

    def __repr__(self):
        priors = ", ".join(f"{prior.kind} {share:g}" for prior, share in self.priors)
        return (
            f"<SimulatedPairs: {len(self.weights)} observations, priors {priors}, seed "
            f"{self.seed}, version {self.version}>"
        )

    def __len__(self):
        """Zero: there is no end."""
        return 0

    def describe(self):
        """Say what the pairs are, in plain JSON.

        Returns
        -------
        description : dict
            ``version``, ``instruments`` (their number), ``psf_content`` (smallest and largest sum
            of their PSFs within two beams, in beam areas), ``largest_flux`` (in rms), ``priors``
            (their keywords and shares), ``field_size``, ``patch_size``, ``pblimit``, ``seed``.
        """
        priors = [
            {**prior.to_dict(), "share": float(share)}
            for (prior, _), share in zip(self.priors, self._shares, strict=True)
        ]
        return {
            "version": self.version,
            "instruments": len(self.weights),
            "psf_content": _psf_content(self.weights, self.scale.pixels_per_beam),
            "largest_flux": max(prior.brightest for prior, _ in self.priors),
            "priors": priors,
            "field_size": self.field_size,
            "patch_size": self.patch_size,
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
            Where they are observed and where they end. Version 1 draws and renders on the CPU.

        Returns
        -------
        target : `torch.Tensor`
            Shape (n, 1, size, size): scaled apparent sky.
        condition : `torch.Tensor`
            Shape (n, 2, size, size): dirty image over rms, and primary beam.
        """
        numbers = list(numbers)
        at_once = _PAIRS_AT_ONCE.get(torch.device(device).type, _PAIRS_AT_ONCE["other"])
        make = self._one_by_one if self.version == 1 else self._all_at_once
        parts = [numbers[i : i + at_once] for i in range(0, len(numbers), at_once)]
        images = torch.cat([make(part, device) for part in parts])
        target = self.scale.scale_target(images[:, :1])
        return target, self.scale.condition(images[:, 1], images[:, 2])

    def _all_at_once(self, numbers, device):
        """Apparent sky, dirty image and primary beam of version 2, shape (n, 3, size, size)."""
        if str(device) not in self._makers:
            self._makers[str(device)] = BatchMaker(self, device)
        return self._makers[str(device)].make(CounterStreams(self.seed, numbers, device))

    def _one_by_one(self, numbers, device):
        """Apparent sky, dirty image and primary beam of version 1, shape (n, 3, size, size)."""
        streams = [np.random.default_rng([self.seed, 0, k]) for k in numbers]
        sources, owner = self._draw_sources(streams)
        kernel = self.scale.kernel_fwhm
        sky = render_sources(
            sources,
            owner,
            len(streams),
            (self.field_size, self.field_size),
            pixel=1 / self.scale.pixels_per_beam,
            kernel_fwhm=kernel,
        )
        beam = torch.stack([_draw_primary_beam(rng, self.field_size) for rng in streams])
        choice = [int(rng.integers(len(self.weights))) for rng in streams]
        noise = [sample_generator(self.seed, 1, k) for k in numbers]
        sky, beam = sky.to(device), beam.to(device)
        weights, power = (w[choice].to(device) for w in (self.weights, self.noise_weights))
        instrument = Instrument(weights, beam, 1.0, power)
        dirty = instrument.observe(sky, noise, kernel_fwhm=kernel)
        images = torch.stack([sky * beam, dirty, beam], dim=1) * (beam > self.pblimit)[:, None]
        return torch.stack([self._cut(i, rng) for i, rng in zip(images, streams, strict=True)])

    def _draw_sources(self, streams):
        which = [rng.choice(len(self.priors), p=self._shares) for rng in streams]
        drawn = [self.priors[w][0].draw(rng) for w, rng in zip(which, streams, strict=True)]
        owner = np.repeat(np.arange(len(streams)), [len(s) for s in drawn])
        columns = (
            np.concatenate([getattr(s, name) for s in drawn])
            for name in SourceList.__dataclass_fields__
        )
        return SourceList(*columns), owner

    def _cut(self, images, rng):
        """Random patch, flip and right-angle rotation of one pair."""
        if self.patch_size is not None:
            y, x = rng.integers(self.field_size - self.patch_size + 1, size=2)
            images = images[:, y : y + self.patch_size, x : x + self.patch_size]
        if rng.random() < 0.5:
            images = images.flip(-1)
        return torch.rot90(images, int(rng.integers(4)), (-2, -1))


def _psf_content(weights, beam_fwhm):
    """Range of the sums of PSFs within two beams of their peak, in areas of the Gaussian beam."""
    n = weights.shape[1]
    axis = torch.fft.fftfreq(n, 1 / n)
    near = torch.hypot(axis[:, None], axis) < 2 * beam_fwhm
    area = math.pi * beam_fwhm**2 / (4 * math.log(2))
    contents = []
    for plane in weights:
        psf = torch.fft.irfft2(plane + 0j, s=(n, n))
        contents.append(float(psf[near].sum() / psf[0, 0] / area))
    return [round(min(contents), 3), round(max(contents), 3)]


def _draw_primary_beam(rng, size):
    """Gaussian primary beam of random width and pointing."""
    if rng.random() < FLAT_SHARE:
        return torch.ones(size, size)
    fwhm = np.exp(rng.uniform(*np.log(BEAM_WIDTHS)))
    offset = rng.uniform(-1, 1, 2) * 0.5 * size if rng.random() < 0.5 else np.zeros(2)
    axis = torch.arange(size) - size // 2
    y, x = axis[:, None] - offset[0], axis[None, :] - offset[1]
    return torch.exp(-4 * np.log(2) * (x**2 + y**2) / fwhm**2).float()
