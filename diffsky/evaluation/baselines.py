"""The tools that diffsky is compared with, each giving the catalogue that `predict` gives.

CLEAN and PyBDSF are CASA's and PyBDSF's own, run in processes of their own. The matched filter
is `diffsky.catalog.matched_filter`.
"""

import numpy as np

from diffsky.catalog.matched_filter import matched_filter
from diffsky.catalog.table import pixel_scale
from diffsky.evaluation._clean import CleanedImages, clean, clean_image
from diffsky.evaluation._clean_parameters import AUTOMASKING
from diffsky.evaluation._pybdsf import PyBDSFError, PyBDSFTimeoutError, pybdsf
from diffsky.evaluation._pybdsf_process import require_pybdsf
from diffsky.images import load_image

__all__ = [
    "AUTOMASKING",
    "CleanedImages",
    "PyBDSFError",
    "PyBDSFTimeoutError",
    "clean",
    "clean_image",
    "clean_pybdsf",
    "matched_filter",
    "pybdsf",
]


def clean_pybdsf(observation, psf=None, *, primary_beam=None, cleaning=None, finding=None):
    """Clean an observation and find the sources in its restored image.

    Parameters
    ----------
    observation : `~diffsky.simulation.Observation` or an image
        An observation with its measurement set is cleaned from its visibilities (`clean`), one
        without from its dirty image and primary beam (`clean_image`), with the PSF that its uv
        points give, or with its own where its weighting is not natural. Anything else is a dirty
        image as `clean_image` takes it, and needs ``psf``.
    psf : image, optional
        PSF of a dirty image. An observation has its own.
    primary_beam : image, optional
        Primary beam of a dirty image; unity by default. An observation has its own.
    cleaning : dict, optional
        Keywords of `clean` or `clean_image`.
    finding : dict, optional
        Keywords of `pybdsf`.

    Returns
    -------
    `~astropy.table.QTable`
        Catalogue as from `pybdsf`; ``meta["clean"]`` holds how the image was cleaned.

    Raises
    ------
    TypeError
        If a dirty image comes without PSF, or an observation with another one.
    ImportError, ValueError, CasaError, CasaTimeoutError, PyBDSFError, PyBDSFTimeoutError
        As `clean`, `clean_image` and `pybdsf`.
    """
    require_pybdsf()
    cleaned = _clean_any(observation, psf, primary_beam, dict(cleaning or {}))
    catalog = pybdsf(cleaned, **(finding or {}))
    catalog.meta["clean"] = dict(cleaned.parameters)
    return catalog


def _clean_any(observation, psf, primary_beam, options):
    from diffsky.simulation import Observation

    if not isinstance(observation, Observation):
        if psf is None:
            raise TypeError("psf is None; expected the PSF of the dirty image")
        dirty = load_image(observation)
        pixel_scale(dirty.wcs)  # before CLEAN: no catalogue of pixels that are not square
        return clean_image(dirty, psf, primary_beam=primary_beam, **options)
    if psf is not None or primary_beam is not None:
        raise TypeError("expected no psf and no primary_beam beside an Observation, which has both")
    if observation.measurement_set is not None:
        return clean(observation, **options)
    images = {"primary_beam": observation.primary_beam} | options
    return clean_image(observation.dirty, _psf(observation), **images)


def _psf(observation):
    """PSF of an observation: CASA's image is no wider than the field and wrong at its edge."""
    from diffsky.instrument import instrument_from_uv

    if observation.parameters["weighting"] != "natural":
        return observation.psf
    instrument = instrument_from_uv(
        observation.uv,
        weights=observation.weights,
        pixel_scale=observation.parameters["cell"],
        primary_beam=np.nan_to_num(observation.primary_beam.data),
        rms=0.0,
    )
    return instrument.psf().numpy()
