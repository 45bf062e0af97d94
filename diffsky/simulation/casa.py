"""Observations simulated by CASA: simobserve, then tclean with ``niter=0``.

CASA runs in a process of its own with a time limit, so neither its global state nor its log
files and output reach the caller.
"""

from dataclasses import dataclass, field
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import FK5, SkyCoord
from astropy.nddata import CCDData
from astropy.wcs import WCS

from diffsky.images import load_image
from diffsky.simulation._casa_inputs import (
    casa_seed,
    check_count,
    check_quantity,
    find_array,
    setup_values,
    sky_inputs,
    telescope,
)
from diffsky.simulation._casa_process import CasaError, CasaTimeoutError, require_casa, run_job

__all__ = [
    "CasaError",
    "CasaTimeoutError",
    "Observation",
    "ObservationSetup",
    "UVCoverage",
    "observe_uv",
    "read_uv",
    "simulate_observation",
]

_JY_BEAM = u.Jy / u.beam
_TIMEOUT = 300 * u.s
_WEIGHTINGS = ("natural", "uniform", "briggs")
_UNITS = {
    "frequency": u.Hz,
    "bandwidth": u.Hz,
    "total_time": u.s,
    "integration": u.s,
    "hour_angle": u.hourangle,
    "pwv": u.mm,
    "cell": u.arcsec,
}


def _cosmos():
    return SkyCoord("10h00m28.6s +02d12m21.0s", frame=FK5())


@dataclass(frozen=True, kw_only=True)
class ObservationSetup:
    """What is observed how, and how it is imaged.

    Parameters
    ----------
    array : str or path-like, optional
        An antenna configuration: the name of a file of CASA's ``alma/simmos`` folder, with or
        without ``.cfg``, or the path of such a file.
    direction : `~astropy.coordinates.SkyCoord`, optional
        Pointing and phase centre. By default the COSMOS field.
    frequency, bandwidth : `~astropy.units.Quantity`, optional
        Centre and total width of the band.
    n_channels : int, optional
        Channels in the band. One gives the same image noise as many, much faster.
    total_time, integration : `~astropy.units.Quantity`, optional
        Time on source, and of one integration.
    hour_angle : `~astropy.units.Quantity`, optional
        Hour angle in the middle of the observation; 0 is transit.
    pwv : `~astropy.units.Quantity`, optional
        Precipitable water vapour; it decides the noise.
    weighting : {"natural", "uniform", "briggs"}, optional
        Imaging weights.
    robust : float, optional
        Robustness from -2 to 2, used by ``weighting="briggs"`` alone.
    cell : `~astropy.units.Quantity`, optional
        Side of an image pixel.
    image_size : int, optional
        Pixels along a side of the square image, an even number.
    pblimit : float, optional
        Dirty images have no data where the primary beam is below this.

    Raises
    ------
    ValueError
        If a value is out of range.
    `~astropy.units.UnitConversionError`, TypeError
        If a quantity has the wrong unit or none.
    """

    array: str = "alma.cycle5.3"
    direction: SkyCoord = field(default_factory=_cosmos)
    frequency: u.Quantity = 230 * u.GHz
    bandwidth: u.Quantity = 1.875 * u.GHz
    n_channels: int = 1
    total_time: u.Quantity = 20 * u.min
    integration: u.Quantity = 10 * u.s
    hour_angle: u.Quantity = 0 * u.hourangle
    pwv: u.Quantity = 1.796 * u.mm
    weighting: str = "natural"
    robust: float = 0.5
    cell: u.Quantity = 0.1 * u.arcsec
    image_size: int = 512
    pblimit: float = 0.2

    def __post_init__(self):
        for name, unit in _UNITS.items():
            check_quantity(name, getattr(self, name), unit)
        if not isinstance(self.direction, SkyCoord) or not self.direction.isscalar:
            raise TypeError(f"direction is {self.direction!r}; expected one SkyCoord")
        if self.total_time < self.integration:
            raise ValueError(
                f"total_time is {self.total_time}; expected at least one integration of "
                f"{self.integration}"
            )
        for name, step in (("n_channels", 1), ("image_size", 2)):
            check_count(name, getattr(self, name), step)
        if self.weighting not in _WEIGHTINGS:
            raise ValueError(f"weighting is {self.weighting!r}; expected one of {_WEIGHTINGS}")
        if not -2 <= self.robust <= 2:
            raise ValueError(f"robust is {self.robust}; expected -2 to 2")
        if not 0 < self.pblimit < 1:
            raise ValueError(f"pblimit is {self.pblimit}; expected a number between 0 and 1")

    @classmethod
    def drozdova2024(cls, direction):
        """Observation of D24 section 2: 240 channels of 7.8 MHz, the rest as by default.

        Together with ``seed="casa-default"`` this is what D24 ran. It takes minutes.

        Parameters
        ----------
        direction : `~astropy.coordinates.SkyCoord`
            The pointing.

        Returns
        -------
        `ObservationSetup`
            Centred on ``direction``; everything else as D24 had it.
        """
        return cls(direction=direction, n_channels=240, bandwidth=240 * 7.8 * u.MHz)

    @property
    def wcs(self):
        """`~astropy.wcs.WCS` : FK5 J2000, the phase centre at pixel ``image_size // 2``."""
        centre = self.direction.transform_to(FK5())
        cell = self.cell.to_value(u.deg)
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.crval = [centre.ra.deg, centre.dec.deg]
        wcs.wcs.crpix = [self.image_size // 2 + 1] * 2
        wcs.wcs.cdelt = [-cell, cell]
        wcs.wcs.radesys = "FK5"
        wcs.wcs.equinox = 2000.0
        wcs.array_shape = (self.image_size, self.image_size)
        wcs.wcs.set()
        return wcs


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
        point source. Sources of a table lie exactly where they are, on no grid.
    setup : `ObservationSetup`
        What is observed how.
    seed : int or "casa-default"
        Decides the noise of the visibilities, 0 to 2**31 - 1. "casa-default" is the seed that
        simalma, which has no other, gives every observation (D24).
    noise : bool, optional
        Add thermal noise (CASA's "tsys-atm").
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
        of elevation; if the seed is out of range.
    CasaError
        If CASA fails. It carries CASA's last lines and the path of the log.
    CasaTimeoutError
        If CASA takes longer than ``timeout``.
    """
    require_casa()
    array = find_array(setup.array)
    job = setup_values(setup, array) | {"task": "observe"}
    inputs = sky_inputs(sky, setup)
    job["seed"] = casa_seed(seed) if noise else None
    if keep_measurement_set and work_dir is None:
        raise ValueError("keep_measurement_set is True; expected a work_dir to keep it in")
    arrays, values, folder = run_job(
        job,
        inputs=inputs,
        array=array,
        timeout=timeout,
        log_file=log_file,
        work_dir=work_dir,
        keep=keep_measurement_set,
    )
    blank = ~(arrays["primary_beam"] >= setup.pblimit)
    meta = {
        "beam": _beam_axes(values),
        "frequency": setup.frequency,
        "telescope": telescope(array),
    }
    dirty = CCDData(arrays["dirty"], unit=_JY_BEAM, wcs=setup.wcs, mask=blank, meta=meta)
    dirty = load_image(dirty)
    meta |= {"beam": dirty.meta["beam"]}
    psf = CCDData(arrays["psf"], unit=_JY_BEAM, wcs=setup.wcs, meta=dict(meta))
    primary_beam = CCDData(arrays["primary_beam"], unit="", wcs=setup.wcs, meta=dict(meta))
    return Observation(
        uv=arrays["uv"],
        weights=arrays["weights"],
        beam=dirty.meta["beam"],
        parameters=_parameters(job, array, values),
        dirty=dirty,
        psf=psf,
        primary_beam=primary_beam,
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
    array = find_array(setup.array)
    job = setup_values(setup, array) | {"task": "observe_uv", "seed": None}
    arrays, values, _ = run_job(job, array=array, timeout=timeout, log_file=log_file)
    return UVCoverage(
        uv=arrays["uv"],
        weights=arrays["weights"],
        beam=Beam(*_beam_axes(values)),
        parameters=_parameters(job, array, values),
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
    require_casa()
    path = Path(measurement_set).expanduser().resolve()
    if not (path / "table.dat").is_file():
        raise FileNotFoundError(f"{path} is no measurement set (a folder with table.dat)")
    job = {"task": "read_uv", "measurement_set": str(path)}
    arrays, values, _ = run_job(job, timeout=timeout, log_file=log_file)
    parameters = {"measurement_set": str(path), "casa_version": values["casa_version"]}
    return UVCoverage(uv=arrays["uv"], weights=arrays["weights"], beam=None, parameters=parameters)


def _beam_axes(values):
    major, minor, pa = values["beam"]
    return major * u.arcsec, minor * u.arcsec, pa * u.deg


def _parameters(job, array, values):
    """All inputs of a job and the version of CASA."""
    inputs = {name: value for name, value in job.items() if name != "task"}
    return {"array": array.stem, **inputs, "casa_version": values["casa_version"]}
