"""Test fields of the protocol `independent`: own noise and own sky in each, never trained on."""

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable
from telescope import RMS, Telescope

from diffsky.instrument import instrument_from_uv
from diffsky.simulation import (
    PRIORS,
    Observation,
    ObservationSetup,
    render_sources,
    simulate_observation,
)

# Seeds: the first number of a field's stream. None of them is used in training.
VALIDATION, FAST, CASA = 9001, 9012, 9003
TUNING = 9100  # for experiments; no figure of the documentation's results is from these
N_POINTINGS = 4  # of the fast fields


@dataclass
class Field:
    """One observation with its truth, and what a matched filter needs."""

    dirty: CCDData
    psf: np.ndarray
    primary_beam: np.ndarray
    truth: QTable
    sky: np.ndarray  # true sky convolved with the target kernel, Jy per pixel of `dirty`
    observation: Observation | None = None  # with its measurement set, where that was kept


def pointing(seed, number):
    """A direction within 2 deg of the COSMOS field in both coordinates."""
    offset = np.random.default_rng([seed, 1, number]).uniform(-2, 2, 2)
    return SkyCoord((150.119 + offset[0]) * u.deg, (2.206 + offset[1]) * u.deg)


def fast_fields(n, seed):
    """Fields of 128 x 128 working pixels from the fast instrument, at four pointings."""
    for pair in fast_pairs(n, seed):
        gain = pair.primary_beam.data
        yield Field(pair.dirty, pair.psf.data, gain, pair.sources, pair.sky.data)


def fast_pairs(n, seed):
    """The fields of `fast_fields` as `diffsky.evaluation.evaluate_pair` takes them."""
    for number in range(n):
        yield fast_telescope(seed, number % N_POINTINGS).pair(seed, number)


@functools.cache
def fast_telescope(seed, place):
    """The fast instrument at one of the pointings of a seed."""
    return Telescope(ObservationSetup(direction=pointing(seed, place)), rms=RMS)


def render_target(sources, shape, pixel, beam):
    """The sky that the network aims at: convolved with a Gaussian of 0.4 beam."""
    kernel = 0.4 * np.sqrt(beam.major * beam.minor).to_value(u.arcsec) / pixel
    owner = np.zeros(len(sources), dtype=int)
    return render_sources(sources, owner, 1, shape, pixel=pixel, kernel_fwhm=kernel)[0].numpy()


def casa_fields(n, seed, workers=2):
    """Whole fields of 512 x 512 pixels of 0.1 arcsec, simulated and imaged by CASA."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda number: casa_field(seed, number), range(n))


def casa_field(seed, number, work_dir=None, timeout=600.0):
    """One of `casa_fields`; its measurement set is kept in `work_dir`, where that is given.

    CASA has `timeout` seconds for it.
    """
    setup = ObservationSetup(direction=pointing(seed, number))
    sources = PRIORS["independent"].draw(np.random.default_rng([seed, 2, number]))
    truth = sources.to_table(setup.wcs)
    observed = simulate_observation(
        truth,
        setup,
        seed=int(seed * 1000 + number),
        timeout=timeout,
        work_dir=work_dir,
        keep_measurement_set=work_dir is not None,
    )
    shape = observed.dirty.shape
    pixel = setup.cell.to_value(u.arcsec)
    gain = np.nan_to_num(observed.primary_beam.data)
    instrument = instrument_from_uv(
        observed.uv, weights=observed.weights, pixel_scale=pixel, primary_beam=gain, rms=0.0
    )
    sky = render_target(sources, shape, pixel, observed.beam)
    kept = observed if work_dir is not None else None
    return Field(observed.dirty, instrument.psf().numpy(), gain, truth, sky, kept)
