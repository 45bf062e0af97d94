"""From the arrays and values of a CASA job to labelled images."""

import astropy.units as u
from astropy.nddata import CCDData

from diffsky.images import load_image

__all__ = ["beam_axes", "observation_parts", "plain_parameters"]

_JY_BEAM = u.Jy / u.beam
_INTERNAL = ("task", "script", "antennas", "empty_sky")


def observation_parts(job, setup, arrays, values):
    """What an `Observation` consists of, its measurement set aside.

    Parameters
    ----------
    job : dict
        The job that was run.
    setup : `diffsky.simulation.ObservationSetup`
    arrays, values : dict
        What it made.

    Returns
    -------
    dict
        Keywords of `diffsky.simulation.Observation`.
    """
    blank = ~(arrays["primary_beam"] >= setup.pblimit)
    meta = {
        "beam": beam_axes(values),
        "frequency": setup.frequency,
        "telescope": job["telescope"],
    }
    dirty = CCDData(arrays["dirty"], unit=_JY_BEAM, wcs=setup.wcs, mask=blank, meta=meta)
    dirty = load_image(dirty)
    meta |= {"beam": dirty.meta["beam"]}
    return {
        "uv": arrays["uv"],
        "weights": arrays["weights"],
        "beam": dirty.meta["beam"],
        "parameters": plain_parameters(job, values),
        "dirty": dirty,
        "psf": CCDData(arrays["psf"], unit=_JY_BEAM, wcs=setup.wcs, meta=dict(meta)),
        "primary_beam": CCDData(arrays["primary_beam"], unit="", wcs=setup.wcs, meta=dict(meta)),
    }


def beam_axes(values):
    """Major and minor FWHM and position angle of the beam that a job fitted."""
    major, minor, pa = values["beam"]
    return major * u.arcsec, minor * u.arcsec, pa * u.deg


def plain_parameters(job, values):
    """All inputs of a job but the antenna positions, and the version of CASA."""
    inputs = {name: value for name, value in job.items() if name not in _INTERNAL}
    return {**inputs, "casa_version": values["casa_version"]}
