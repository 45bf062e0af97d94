"""Pairs of the fast instrument on 128 x 128 working pixels, for any set-up, without CASA."""

from dataclasses import replace

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData
from radio_beam import Beam

from diffsky.backend import sample_generator
from diffsky.deconvolution.psf_checks import fit_beam
from diffsky.instrument import instrument_from_setup, read_array, uv_tracks
from diffsky.simulation import PRIORS, SimulatedPair, render_sources

SIZE = 128
PIXELS_PER_BEAM = 4.25
KERNEL = 0.4  # FWHM of the target kernel in beams
RMS, BEAM = 48e-6, 0.854  # Jy/beam and arcsec of the protocol's own observation
EDGE = 0.2  # primary beam at the corners of the square of the sources
_SKY, _NOISE = 2, 3  # streams of a field beside that of its pointing


class Telescope:
    """One set-up of the fast instrument, imaged with 4.25 pixels a beam.

    `scaled` sources are those of the protocol in units of this observation's noise and beam, in a
    square whose corners have a primary beam of 0.2 or more; otherwise they are in Jy and arcsec.
    """

    def __init__(self, setup, *, rms=None, scaled=False):
        tracks = uv_tracks(
            read_array(setup.array),
            direction=setup.direction,
            frequency=setup.frequency,
            total_time=setup.total_time,
            integration=setup.integration,
            hour_angle=setup.hour_angle,
        )
        self.uv, self.weights = tracks.uv, tracks.weights
        longest = np.hypot(*tracks.uv.T).max()
        cell = 0.25 / longest * u.rad  # of the longest baseline; the beam is wider
        for _ in range(3):
            self.setup = replace(setup, cell=cell.to(u.arcsec), image_size=SIZE)
            self.instrument = instrument_from_setup(self.setup, rms=rms)
            self.psf = self.instrument.psf().numpy()
            axes = np.array(fit_beam(self.psf))
            cell = self.setup.cell * np.sqrt(axes.prod()) / PIXELS_PER_BEAM
        self.pixel = self.setup.cell.to_value(u.arcsec)
        self.beam = Beam(*(axes * self.pixel * u.arcsec), 0 * u.deg)  # no one asks for its angle
        self.prior = self._scaled_prior() if scaled else PRIORS["independent"]

    @property
    def fwhm(self):
        """Geometric mean FWHM of the beam in arcsec."""
        return float(np.sqrt(self.beam.major * self.beam.minor).to_value(u.arcsec))

    def pair(self, seed, number, *, noise=0, prior=None):
        """Field `number` of a seed; `noise` tells realisations of the same sky apart."""
        prior, rng = prior or self.prior, np.random.default_rng([seed, _SKY, number])
        sources = prior.draw(rng)
        if prior.relative:
            sources = sources.scaled(flux=float(self.instrument.rms), size=self.fwhm)
        kernel = KERNEL * self.fwhm / self.pixel
        owner = np.zeros(len(sources), dtype=int)
        sky = render_sources(
            sources, owner, 1, (SIZE, SIZE), pixel=self.pixel, kernel_fwhm=kernel
        )  # fmt: skip
        stream = [sample_generator(seed, _NOISE, number, *([noise] if noise else []))]
        dirty = self.instrument.observe(sky, stream, kernel_fwhm=kernel)[0]
        gain, wcs = self.instrument.primary_beam.numpy(), self.setup.wcs
        meta = {"beam": self.beam, "frequency": self.setup.frequency}
        blank = gain < self.setup.pblimit
        return SimulatedPair(
            uv=self.uv,
            weights=self.weights,
            beam=self.beam,
            parameters={"weighting": self.setup.weighting},
            dirty=CCDData(dirty.numpy(), unit="Jy/beam", wcs=wcs, mask=blank, meta=dict(meta)),
            psf=CCDData(self.psf, unit="Jy/beam", meta=dict(meta)),
            primary_beam=CCDData(gain, unit="", wcs=wcs, meta=dict(meta)),
            measurement_set=None,
            sky=CCDData(sky[0].numpy(), unit="Jy/pix", wcs=wcs,
                        meta={"kernel_fwhm": kernel * self.setup.cell}),
            sources=sources.to_table(wcs),
        )  # fmt: skip

    def _scaled_prior(self):
        prior = PRIORS["independent"].in_units_of(RMS, BEAM)
        faint = np.flatnonzero(self.instrument.primary_beam.numpy()[SIZE // 2, SIZE // 2 :] < EDGE)
        if not len(faint):
            return prior
        reach = (faint[0] - 1) / PIXELS_PER_BEAM
        return replace(prior, half_width=min(prior.half_width, float(reach / 2**0.5)))
