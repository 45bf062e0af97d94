"""One pair with the noise that all observations of D24 share, without CASA."""

import astropy.units as u
import numpy as np
from radio_beam import Beam

from diffsky.deconvolution.psf_checks import fit_beam_shape
from diffsky.deconvolution.scaling import WorkingScale
from diffsky.instrument.antennas import read_array
from diffsky.instrument.from_setup import instrument_from_setup
from diffsky.instrument.tracks import uv_tracks
from diffsky.simulation.casa import UVCoverage
from diffsky.simulation.fast_pair import assemble_pair
from diffsky.simulation.rendering import render_sources

__all__ = ["simulate_shared_pair"]

_OBSERVED = ("direction", "frequency", "total_time", "integration", "hour_angle")


def simulate_shared_pair(
    sources, setup, noise, *, padding=4, kernel_beams=WorkingScale.kernel_beams
):
    """Observe sources as D24 did: with the noise of CASA's default seed.

    Parameters
    ----------
    sources : `SourceList`
        In Jy and arcsec from the phase centre.
    setup : `ObservationSetup`
        What is observed how.
    noise : `SharedNoise`
        Of the array and the times of the set-up.
    padding : int, optional
        uv grid over field of the noise image, as for `SharedNoise.image`.
    kernel_beams : float, optional
        FWHM in beams of the Gaussian that the true sky is convolved with. Default 0.4.

    Returns
    -------
    pair : `SimulatedPair`
        On the pixels of the set-up; ``parameters`` has "noise", which is "shared", and "dec".

    Raises
    ------
    ImportError, ValueError
        As `diffsky.instrument.instrument_from_setup` and `SharedNoise.image`.
    """
    instrument = instrument_from_setup(setup, padding=max(padding, 2))
    shape, cell = instrument.shape, setup.cell.to_value(u.arcsec)
    psf = instrument.psf(shape).numpy()
    major, minor, pa = fit_beam_shape(psf)
    kernel = kernel_beams * (major * minor) ** 0.5
    owner = np.zeros(len(sources), dtype=int)
    sky = render_sources(sources, owner, 1, shape, pixel=cell, kernel_fwhm=kernel)
    dirty = instrument.forward(sky, kernel_fwhm=kernel)[0].numpy()
    dirty = dirty + noise.image(setup, padding=padding)
    images = {"dirty": dirty, "psf": psf, "primary_beam": instrument.primary_beam, "sky": sky[0]}
    array = read_array(setup.array)
    tracks = uv_tracks(array, **{name: getattr(setup, name) for name in _OBSERVED})
    coverage = UVCoverage(
        uv=tracks.uv,
        weights=tracks.weights,
        beam=Beam(major * cell * u.arcsec, minor * cell * u.arcsec, pa * u.rad),
        parameters={"noise": "shared", "dec": float(setup.direction.icrs.dec.deg)},
    )
    return assemble_pair(
        images,
        sources,
        coverage,
        wcs=setup.wcs,
        kernel_fwhm=kernel * cell * u.arcsec,
        meta={"frequency": setup.frequency, "telescope": array.telescope},
        pblimit=setup.pblimit,
    )
