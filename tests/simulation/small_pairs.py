"""Small pairs for tests of data sets, from the fast instrument; as a script, a writer of them."""

import functools
import sys

import astropy.units as u
import numpy as np
import torch
from astropy.nddata import CCDData
from radio_beam import Beam

from diffsky.backend import sample_generator
from diffsky.images import load_image
from diffsky.instrument import instrument_from_uv
from diffsky.simulation import (
    ObservationSetup,
    PairStore,
    SimulatedPair,
    SkyPrior,
    render_sources,
)

CELL, RMS = 0.2, 50e-6  # arcsec, Jy/beam
PBLIMIT = 0.2
BEAM = Beam(0.9 * u.arcsec, 0.8 * u.arcsec, 75 * u.deg)
KERNEL = 0.34 * u.arcsec
PRIOR = SkyPrior(flux=(5e-4, 2e-3), fwhm=(0.0, 1.0), half_width=4.0)
ARCSEC = np.pi / 180 / 3600


@functools.cache
def make_instrument(size=64, uv_seed=0):
    """Instrument whose dirty beam is BEAM, with its uv points in wavelengths."""
    rng = np.random.default_rng(uv_seed)
    along = (
        rng.normal(
            0, [1 / BEAM.major.to_value("arcsec"), 1 / BEAM.minor.to_value("arcsec")], (2000, 2)
        )
        * np.sqrt(2)
        * np.log(2)
        / np.pi
        / np.sqrt(np.log(2))
    )
    pa = BEAM.pa.to_value(u.rad)
    uv = along @ [[np.sin(pa), np.cos(pa)], [-np.cos(pa), np.sin(pa)]] / ARCSEC
    offset = (np.arange(size) - size // 2) * CELL
    gain = np.exp(-4 * np.log(2) * (offset[:, None] ** 2 + offset**2) / (0.55 * size * CELL) ** 2)
    uv = uv[np.abs(uv).max(axis=1) < 0.45 / CELL / ARCSEC]
    return instrument_from_uv(uv, pixel_scale=CELL, primary_beam=gain, rms=RMS), uv


def make_pair(
    number=0, *, noise=None, size=64, uv_seed=0, prior=PRIOR, sources=None, rms=RMS, **parameters
):
    """One pair; its number decides sources and noise, or the noise has a number of its own."""
    setup = ObservationSetup(cell=CELL * u.arcsec, image_size=size)
    instrument, uv = make_instrument(size, uv_seed)
    if sources is None:
        sources = prior.draw(np.random.default_rng([number, 5]))
    kernel = KERNEL.to_value(u.arcsec) / CELL
    sky = render_sources(
        sources, [0] * len(sources), 1, (size, size), pixel=CELL, kernel_fwhm=kernel
    )
    stream = sample_generator(7, number if noise is None else noise)
    noise = instrument.noise([stream]) * (rms / RMS)
    pixels = (instrument.forward(sky, kernel_fwhm=kernel) + noise)[0].numpy()
    gain = instrument.primary_beam.numpy()
    meta = {"beam": BEAM, "frequency": 230 * u.GHz, "telescope": "ALMA"}
    jy_beam = u.Jy / u.beam
    dirty = load_image(
        CCDData(pixels, unit=jy_beam, wcs=setup.wcs, mask=gain < PBLIMIT, meta=dict(meta))
    )
    return SimulatedPair(
        uv=uv,
        weights=np.ones(len(uv)),
        beam=dirty.meta["beam"],
        parameters={"seed": number, "pwv": 1.796, "casa_version": "6.7.0-31", **parameters},
        dirty=dirty,
        psf=CCDData(instrument.psf((size, size)).numpy(), unit=jy_beam, wcs=setup.wcs),
        primary_beam=CCDData(gain, unit="", wcs=setup.wcs),
        measurement_set=None,
        sky=CCDData(sky[0].numpy(), unit=u.Jy / u.pix, wcs=setup.wcs, meta={"kernel_fwhm": KERNEL}),
        sources=sources.to_table(setup.wcs),
    )


def write_pairs(path, first, last):
    """Write the pairs that are not there; say which, and whether they were stored."""
    store = PairStore(path)
    for number in range(int(first), int(last)):
        if number not in store:
            stored = store.write(number, make_pair(number))
            sys.stdout.write(f"{number} {int(stored)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_pairs(*sys.argv[1:])
