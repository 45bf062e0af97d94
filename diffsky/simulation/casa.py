"""Observations simulated by CASA: simobserve or simalma, then tclean with ``niter=0``.

CASA runs in a process of its own with a time limit, so neither its global state nor its log
files and output reach the caller.
"""

from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData

from diffsky.simulation._casa_inputs import casa_seed, observation_job, sky_inputs
from diffsky.simulation._casa_process import CasaError, CasaTimeoutError, require_casa, run_job
from diffsky.simulation._casa_results import beam_axes, observation_parts, plain_parameters
from diffsky.simulation.setup import ObservationSetup

__all__ = [
    "CasaError",
    "CasaTimeoutError",
    "Observation",
    "ObservationSetup",
    "UVCoverage",
    "Visibilities",
    "observe_uv",
    "read_uv",
    "read_visibilities",
    "simulate_observation",
]

_TIMEOUT = 300 * u.s


@dataclass(frozen=True, kw_only=True)
class UVCoverage:
    """Where an observation samples the uv plane.

    Parameters
    ----------
    uv : `numpy.ndarray`
        Shape (n, 2): u and v in wavelengths of every unflagged cross-correlation, as the
        measurement set has them; the conjugate points are not repeated. A sky ``[y, x]`` with a
        FITS WCS has its `numpy.fft` transform sampled at (-u, v).
    weights : `numpy.ndarray`
        Shape (n,): weights of the visibilities, the mean of the polarisations. Channels are
        merged: a row counts once, at the mean frequency of its spectral window.
    beam : `~radio_beam.Beam` or None
        The restoring beam that CASA fits to the PSF; None where nothing was imaged.
    parameters : dict
        All inputs and the version of CASA, as plain values.
    """

    uv: np.ndarray
    weights: np.ndarray
    beam: object
    parameters: dict


@dataclass(frozen=True, kw_only=True)
class Visibilities(UVCoverage):
    """Visibilities, and where they lie in the uv plane.

    Parameters
    ----------
    uv, weights : `numpy.ndarray`
        See `UVCoverage`.
    beam : None
        Nothing was imaged.
    parameters : dict
        See `UVCoverage`.
    values : `numpy.ndarray`
        Shape (n,), complex, in Jy: the visibility of each row as the measurement set has it, the
        mean over the polarisations and channels that are not flagged.
    """

    values: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Observation(UVCoverage):
    """A simulated observation and its images, all on the WCS of the setup.

    Parameters
    ----------
    uv, weights : `numpy.ndarray`
        See `UVCoverage`.
    beam : `~radio_beam.Beam`
        The restoring beam that CASA fits to the PSF.
    parameters : dict
        All inputs, CASA's seed (None without noise) and the version of CASA, as plain values.
    dirty : `~astropy.nddata.CCDData`
        Dirty image in Jy/beam, apparent sky; NaN and masked where the primary beam is below the
        limit of the setup. ``meta`` has "beam", "frequency" and "telescope".
    psf : `~astropy.nddata.CCDData`
        Point-spread function with a peak of 1. As CASA makes it, it is wrong at its outer tenth.
    primary_beam : `~astropy.nddata.CCDData`
        Primary beam, dimensionless, 1 at the centre, 0 where it is below 0.001.
    measurement_set : `pathlib.Path` or None
        The measurement set that was imaged, where it was kept.
    """

    dirty: CCDData
    psf: CCDData
    primary_beam: CCDData
    measurement_set: Path | None


def simulate_observation(
    sky,
    setup,
    *,
    seed,
    noise=True,
    simulator="simobserve",
    timeout=_TIMEOUT,
    log_file=None,
    work_dir=None,
    keep_measurement_set=False,
):
    """Observe a sky with CASA and make its dirty image, PSF and primary beam.

    Parameters
    ----------
    sky : array_like, `~astropy.nddata.CCDData` or `~astropy.table.QTable`
        The true sky, before the primary beam: an image ``[y, x]`` in Jy/pix on the WCS of the
        setup, or a table of sources with the columns ``flux``, ``sky_centroid`` and, for
        Gaussians, ``major``, ``minor`` (FWHM) and ``pa`` (east of north). A major axis of 0 is a
        point source; ``shape`` may name disks and rings. Sources of a table lie exactly where
        they are, on no grid. A table without rows is an empty sky.
    setup : `ObservationSetup`
        What is observed how.
    seed : int or "casa-default"
        Decides the noise of the visibilities, 0 to 2**31 - 1. "casa-default" is the seed that
        simalma, which has no other, gives every observation (D24).
    noise : bool, optional
        Add thermal noise (CASA's "tsys-atm").
    simulator : {"simobserve", "simalma"}, optional
        The task of CASA that makes the visibilities. simalma, which D24 ran, takes ALMA and ACA
        arrays and ``seed="casa-default"`` alone, and gives what simobserve gives.
    timeout : `~astropy.units.Quantity` or float, optional
        CASA is killed after this time (seconds where it has no unit). By default 300 s.
    log_file : path-like, optional
        What CASA says is appended to this file. By default it is kept only where CASA fails.
    work_dir : path-like, optional
        Folder for temporary files, made if need be. By default that of the system.
    keep_measurement_set : bool, optional
        Keep measurement sets and images in a new folder in ``work_dir``, which is then needed.

    Returns
    -------
    `Observation`
        Dirty image, PSF, primary beam, uv points and all parameters.

    Raises
    ------
    ImportError
        If CASA is not installed.
    ValueError
        If the sky has another shape than the image, NaN, negative or only zero pixels, masked
        pixels, another unit or WCS; if the array is unknown; if the direction stays below 10 deg
        of elevation; if the pixels are too large for the longest baseline; if the seed is out of
        range, or simalma cannot do it.
    CasaError
        If CASA fails. It carries CASA's last lines and the path of the log.
    CasaTimeoutError
        If CASA takes longer than ``timeout``.
    """
    require_casa()
    seed = casa_seed(seed) if noise else None
    job = observation_job(setup, seed=seed, simulator=simulator)
    inputs = sky_inputs(sky, setup)
    if keep_measurement_set and work_dir is None:
        raise ValueError("keep_measurement_set is True; expected a work_dir to keep it in")
    arrays, values, folder = run_job(
        {**job, "task": "observe", "empty_sky": not inputs},
        inputs=inputs,
        timeout=timeout,
        log_file=log_file,
        work_dir=work_dir,
        keep=keep_measurement_set,
    )
    return Observation(
        **observation_parts(job, setup, arrays, values),
        measurement_set=folder / values["measurement_set"] if keep_measurement_set else None,
    )


def observe_uv(setup, *, timeout=_TIMEOUT, log_file=None):
    """The uv points and the beam of an observation, without a sky.

    Parameters
    ----------
    setup : `ObservationSetup`
        What is observed how.
    timeout : `~astropy.units.Quantity` or float, optional
        See `simulate_observation`.
    log_file : path-like, optional
        See `simulate_observation`.

    Returns
    -------
    `UVCoverage`
        The points, their weights, the beam and all parameters.

    Raises
    ------
    ImportError, ValueError, CasaError, CasaTimeoutError
        As `simulate_observation`.
    """
    from radio_beam import Beam

    require_casa()
    job = observation_job(setup, seed=None, simulator="simobserve") | {"task": "observe_uv"}
    arrays, values, _ = run_job(job, timeout=timeout, log_file=log_file)
    return UVCoverage(
        uv=arrays["uv"],
        weights=arrays["weights"],
        beam=Beam(*beam_axes(values)),
        parameters=plain_parameters(job, values),
    )


def read_uv(measurement_set, *, timeout=_TIMEOUT, log_file=None):
    """The uv points of a measurement set, all its fields and spectral windows together.

    Parameters
    ----------
    measurement_set : path-like
        The folder of a measurement set.
    timeout : `~astropy.units.Quantity` or float, optional
        See `simulate_observation`.
    log_file : path-like, optional
        See `simulate_observation`.

    Returns
    -------
    `UVCoverage`
        Its beam is None.

    Raises
    ------
    FileNotFoundError
        If there is no such measurement set.
    ImportError, CasaError, CasaTimeoutError
        As `simulate_observation`.
    """
    return UVCoverage(**_read(measurement_set, timeout=timeout, log_file=log_file))


def read_visibilities(measurement_set, *, timeout=_TIMEOUT, log_file=None):
    """The visibilities of a measurement set, the mean of those in each row.

    They are those of the column DATA. `diffsky.instrument.image_visibilities` makes an image of
    them.

    Parameters
    ----------
    measurement_set : path-like
        The folder of a measurement set.
    timeout : `~astropy.units.Quantity` or float, optional
        See `simulate_observation`.
    log_file : path-like, optional
        See `simulate_observation`.

    Returns
    -------
    `Visibilities`
        Its beam is None.

    Raises
    ------
    FileNotFoundError
        If there is no such measurement set.
    ImportError, CasaError, CasaTimeoutError
        As `simulate_observation`.
    """
    parts = _read(measurement_set, timeout=timeout, log_file=log_file, values=True)
    return Visibilities(**parts)


def _read(measurement_set, *, timeout, log_file, **options):
    require_casa()
    path = Path(measurement_set).expanduser().resolve()
    if not (path / "table.dat").is_file():
        raise FileNotFoundError(f"{path} is no measurement set (a folder with table.dat)")
    job = {"task": "read_uv", "measurement_set": str(path), **options}
    arrays, values, _ = run_job(job, timeout=timeout, log_file=log_file)
    parameters = {"measurement_set": str(path), "casa_version": values["casa_version"]}
    return {**arrays, "beam": None, "parameters": parameters}
