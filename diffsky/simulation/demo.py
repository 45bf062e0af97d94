"""One new pointing whose truth is known: a sky from a prior, observed by CASA."""

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData

from diffsky.simulation.casa import ObservationSetup, simulate_observation
from diffsky.simulation.skymodels import PRIORS, render_sources

__all__ = ["render_truth", "simulate_pointing"]

_TIMEOUT = 150 * u.s  # CASA takes about 6 s


def simulate_pointing(seed, *, prior=PRIORS["independent"], setup=None, timeout=None):
    """Draw a sky and observe it with CASA.

    Parameters
    ----------
    seed : int
        Decides the sources and, with a stream of its own, the noise; 0 or more.
    prior : `diffsky.simulation.SkyPrior`, optional
        What sources there are, in Jy and arcsec. By default ``PRIORS["independent"]``.
    setup : `diffsky.simulation.ObservationSetup`, optional
        What is observed how. By default D24's observation with one channel.
    timeout : `~astropy.units.Quantity` or float, optional
        CASA is killed after this time (seconds where it has no unit). By default 150 s.

    Returns
    -------
    sources : `diffsky.simulation.SourceList`
        The truth, in Jy and arcsec from the phase centre.
    observation : `diffsky.simulation.Observation`
        Dirty image, PSF, primary beam and all parameters.

    Raises
    ------
    ValueError
        If the prior is relative, or the seed is negative.
    ImportError, `diffsky.simulation.CasaError`
        As `diffsky.simulation.simulate_observation`.
    """
    if prior.relative:
        raise ValueError("prior is relative (rms and beams); expected one in Jy and arcsec")
    setup = ObservationSetup() if setup is None else setup
    rng = np.random.default_rng(seed)
    sources = prior.draw(rng)
    noise_seed = int(rng.integers(2**31))
    observation = simulate_observation(
        sources.to_table(setup.wcs),
        setup,
        seed=noise_seed,
        timeout=_TIMEOUT if timeout is None else timeout,
    )
    return sources, observation


def render_truth(sources, setup, *, kernel_fwhm):
    """Image of the true sky at the resolution of a reconstructed one.

    Parameters
    ----------
    sources : `diffsky.simulation.SourceList`
        In Jy and arcsec from the phase centre.
    setup : `diffsky.simulation.ObservationSetup`
        The observation that they belong to.
    kernel_fwhm : `~astropy.units.Quantity`
        FWHM of the Gaussian that the sky is convolved with, an angle: ``meta["kernel_fwhm"]``
        of the reconstructed sky.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Shape (ny, nx), Jy/pix, on the WCS of the setup.

    Raises
    ------
    ValueError
        If the kernel is too narrow for the pixels.
    """
    image = render_sources(
        sources,
        np.zeros(len(sources), dtype=int),
        1,
        (setup.image_size, setup.image_size),
        pixel=setup.cell.to_value(u.arcsec),
        kernel_fwhm=(kernel_fwhm / setup.cell).to_value(u.one),
    )
    return CCDData(image[0].numpy(), unit=u.Jy / u.pix, wcs=setup.wcs)
