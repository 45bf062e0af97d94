"""CLEAN by CASA, on a measurement set or on a dirty image and its PSF."""

from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData
from radio_beam import Beam
from scipy import fft

from diffsky.evaluation._clean_parameters import clean_parameters
from diffsky.evaluation._orientation import check_not_mirrored, north_angle
from diffsky.images import load_image, load_map, load_psf
from diffsky.simulation._casa_process import require_casa, run_job
from diffsky.simulation.casa import Observation

__all__ = ["CleanedImages", "clean", "clean_image"]

_SCRIPT = Path(__file__).with_name("_clean_worker.py")
_JY_BEAM = u.Jy / u.beam
_TIMEOUT = 600 * u.s
_SCALES = (0.0, 1.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class CleanedImages:
    """What CLEAN made of an observation, on the WCS of its dirty image.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        Restored image in Jy/beam, apparent sky: not corrected for the primary beam. NaN and
        masked where there was no data. ``meta`` has "beam", "frequency" and "telescope".
    residual : `~astropy.nddata.CCDData`
        Residual image in Jy/beam.
    model : `~astropy.nddata.CCDData`
        CLEAN components in Jy/pix, apparent sky, 0 where there are none.
    clean_mask : `~numpy.ndarray`
        Boolean, (ny, nx): where CLEAN was allowed to put components.
    primary_beam : `~numpy.ndarray`
        Primary beam, (ny, nx), NaN where there was no data.
    rms : `~astropy.units.Quantity`
        Standard deviation of the residual image from its median absolute deviation, Jy/beam.
    parameters : dict
        Algorithm, parameters and what CASA reports (iterations, cycles, stop code, version), as
        plain values.
    """

    image: CCDData
    residual: CCDData
    model: CCDData
    clean_mask: np.ndarray
    primary_beam: np.ndarray
    rms: u.Quantity
    parameters: dict

    @property
    def corrected(self):
        """`~astropy.nddata.CCDData` : restored image in Jy/beam over the primary beam."""
        image = self.image
        with np.errstate(divide="ignore", invalid="ignore"):
            data = image.data / np.where(self.primary_beam > 0, self.primary_beam, np.nan)
        mask = ~np.isfinite(data)
        return CCDData(data, unit=image.unit, wcs=image.wcs, mask=mask, meta=dict(image.meta))


def clean(
    observation,
    *,
    n_sigma=2.0,
    rms=None,
    deconvolver="hogbom",
    scales=_SCALES,
    max_iterations=10_000,
    gain=0.1,
    masking="alma-12m",
    options=None,
    timeout=_TIMEOUT,
    log_file=None,
    work_dir=None,
):
    """Clean an observation from its visibilities: CASA's tclean with automatic masks.

    Parameters
    ----------
    observation : `~diffsky.simulation.Observation`
        An observation with its measurement set, as `~diffsky.simulation.simulate_observation`
        keeps it. Cell, size, phase centre, weighting and primary beam limit are those of its
        dirty image.
    n_sigma : float, optional
        Cleaning stops where the largest residual inside the mask is below this many rms. By
        default 2, as in ALMA's pipeline.
    rms : float or `~astropy.units.Quantity`, optional
        Noise rms, Jy/beam, for ``n_sigma``. By default CASA measures it in the residual image,
        anew in each cycle. Masks always use what CASA measures.
    deconvolver : {"hogbom", "multiscale"}, optional
        Point components, or also components of the sizes ``scales``.
    scales : sequence of float, optional
        Sizes of the components of "multiscale" in beams; 0 is a point. By default 0, 1 and 3.
    max_iterations : int, optional
        Most components.
    gain : float, optional
        Share of a peak that one component takes away, above 0 and at most 1.
    masking : str or dict, optional
        Parameters of CASA's "auto-multithresh": a name of `AUTOMASKING`, or the parameters
        themselves, those that are left out being CASA's. By default those that ALMA recommends
        for continuum images of the 12 m array with baselines below 300 m (75th percentile).
    options : dict, optional
        Further parameters of tclean by their names there, such as ``{"cyclefactor": 2.0}``; none
        that an argument or the dirty image decides. Those that select visibilities
        (``{"uvrange": "<150m"}``) change the beam, and the images say so.
    timeout : `~astropy.units.Quantity` or float, optional
        CASA is killed after this time (seconds where it has no unit). By default 600 s.
    log_file : path-like, optional
        What CASA says is appended to this file. By default it is kept only where CASA fails.
    work_dir : path-like, optional
        Folder for temporary files, made if need be. By default that of the system.

    Returns
    -------
    `CleanedImages`
        Restored image, residual, model, mask and primary beam.

    Raises
    ------
    ImportError
        If CASA is not installed.
    TypeError
        If ``observation`` is no Observation.
    ValueError
        If it has no measurement set, or a parameter is out of range.
    CasaError
        If CASA fails. It carries CASA's last lines and the path of the log.
    CasaTimeoutError
        If CASA takes longer than ``timeout``.
    """
    require_casa()
    known = _imaging(observation)
    dirty = observation.dirty
    parameters = clean_parameters(
        dirty,
        n_sigma=n_sigma,
        rms=rms,
        deconvolver=deconvolver,
        scales=scales,
        max_iterations=max_iterations,
        gain=gain,
        masking=masking,
        options=options,
    )
    arrays, values, _ = run_job(
        {
            "script": str(_SCRIPT),
            "task": "clean",
            "parameters": {
                "vis": str(observation.measurement_set.resolve()),
                "datacolumn": "data",
                "imsize": known["image_size"],
                "cell": f"{known['cell']!r}arcsec",
                "phasecenter": known["direction"],
                "weighting": known["weighting"],
                "robust": known["robust"],
                "pblimit": known["pblimit"],
                **parameters,
            },
        },
        timeout=timeout,
        log_file=log_file,
        work_dir=work_dir,
    )
    pb = np.where(arrays["pb"] >= known["pblimit"], arrays["pb"], np.nan)
    major, minor, pa = values.pop("beam")
    beam = Beam(major * u.arcsec, minor * u.arcsec, pa * u.deg)
    made_by = {"algorithm": "tclean", **parameters, **values}
    return _cleaned(arrays, pb, beam=beam, like=dirty, parameters=made_by)


def clean_image(
    dirty,
    psf,
    *,
    primary_beam=None,
    n_sigma=2.0,
    rms=None,
    deconvolver="hogbom",
    scales=_SCALES,
    max_iterations=10_000,
    gain=0.1,
    masking="alma-12m",
    options=None,
    timeout=_TIMEOUT,
    log_file=None,
    work_dir=None,
):
    """Clean a dirty image with its PSF: the minor cycles of CASA's tclean, without visibilities.

    CASA's task ``deconvolve`` is run until it finds no new component; each run extends the
    automatic mask by what the last one left, as tclean does it. Sidelobes are removed as far as
    the PSF reaches: with one no wider than the image those of a source near one edge stay at
    the other. Where there are visibilities, use `clean`.

    Parameters
    ----------
    dirty : `~astropy.nddata.CCDData`, path or array
        Dirty image, as `diffsky.images.load_image` reads it, not corrected for the primary beam.
    psf : `~astropy.nddata.CCDData`, path or array
        PSF as `diffsky.images.load_psf` reads it: at least as large as the image, best twice as
        wide. More than that is cut off.
    primary_beam : number, `~astropy.nddata.CCDData`, path or array, optional
        Primary beam on the pixels of the image; there is no data where it is NaN or 0. By
        default unity. CLEAN uses it for nothing else.
    n_sigma, rms, deconvolver, scales, max_iterations, gain, masking : optional
        See `clean`.
    options : dict, optional
        Further parameters of ``deconvolve`` by their names there; none that an argument or the
        dirty image decides.
    timeout, log_file, work_dir : optional
        See `clean`.

    Returns
    -------
    `CleanedImages`
        Restored image, residual, model, mask and primary beam.

    Raises
    ------
    ImportError
        If CASA is not installed.
    ValueError
        If the images have no beam or no data, are mirrored, do not fit each other, or a parameter
        is out of range.
    CasaError, CasaTimeoutError
        As `clean`.
    """
    require_casa()
    dirty = load_image(dirty)
    check_not_mirrored(dirty.wcs, name="dirty")
    psf = load_psf(psf, like=dirty)
    pb = load_map(1.0 if primary_beam is None else primary_beam, like=dirty, name="primary_beam")
    valid = np.isfinite(dirty.data) & (pb > 0)
    if not valid.any():
        raise ValueError("the primary beam is nowhere above 0 where dirty has data")
    parameters = clean_parameters(
        dirty,
        n_sigma=n_sigma,
        rms=rms,
        deconvolver=deconvolver,
        scales=scales,
        max_iterations=max_iterations,
        gain=gain,
        masking=masking,
        options=options,
    )
    frame = _frame(dirty.shape, psf.shape)
    beam = dirty.meta["beam"]
    pa = float(beam.pa.to_value(u.deg)) + north_angle(dirty.wcs)  # in CASA's image north is up
    restoring = [
        f"{float(beam.major.to_value(u.arcsec))!r}arcsec",
        f"{float(beam.minor.to_value(u.arcsec))!r}arcsec",
        f"{pa!r}deg",
    ]
    arrays, values, _ = run_job(
        {
            "script": str(_SCRIPT),
            "task": "clean_image",
            "cell": float(dirty.meta["pixel_scale"].to_value(u.arcsec)),
            "parameters": {"restoringbeam": restoring, **parameters},
        },
        inputs={
            "dirty": centred(np.where(valid, dirty.data, 0.0), frame),
            "psf": centred(psf, frame),
            "primary_beam": centred(np.where(valid, pb, 0.0), frame),
            "valid": centred(valid, frame),
        },
        timeout=timeout,
        log_file=log_file,
        work_dir=work_dir,
    )
    arrays = {name: centred(plane, dirty.shape) for name, plane in arrays.items()}
    made_by = {"algorithm": "deconvolve", **parameters, **values}
    pb = np.where(valid, pb, np.nan)
    return _cleaned(arrays, pb, beam=beam, like=dirty, parameters=made_by)


def _imaging(observation):
    """How the dirty image of an observation was made; refuse one that cannot be imaged again."""
    if not isinstance(observation, Observation):
        raise TypeError(
            f"observation is of type {type(observation).__name__}; expected an Observation with "
            "its measurement set (clean_image takes a dirty image and its PSF)"
        )
    path = observation.measurement_set
    if path is None or not (path / "table.dat").is_file():
        what = "has no measurement set" if path is None else f"has no measurement set at {path}"
        raise ValueError(
            f"observation {what}; expected one simulated with keep_measurement_set=True "
            "(clean_image needs none)"
        )
    return observation.parameters


def _frame(image, psf):
    """Shape to clean in: as wide as the PSF, up to twice the image, and good for FFTs."""
    widest = [min(max(n, m), 2 * m) for n, m in zip(psf, image, strict=True)]
    return tuple(2 * fft.next_fast_len(-(-n // 2)) for n in widest)


def centred(plane, shape):
    """Crop or pad a plane so that its pixel n // 2 stays at n // 2.

    Parameters
    ----------
    plane : `numpy.ndarray`
        Image or PSF, (ny, nx).
    shape : tuple of int
        Shape to give it.

    Returns
    -------
    `numpy.ndarray`
        Of the same dtype, 0 where the plane has nothing.
    """
    placed = np.zeros(shape, dtype=plane.dtype)
    there, here = [], []
    for n, size in zip(plane.shape, shape, strict=True):
        shift = size // 2 - n // 2
        start, stop = max(shift, 0), min(shift + n, size)
        there.append(slice(start, stop))
        here.append(slice(start - shift, stop - shift))
    placed[tuple(there)] = plane[tuple(here)]
    return placed


def _cleaned(arrays, primary_beam, *, beam, like, parameters):
    from astropy.stats import mad_std

    blank = ~np.isfinite(primary_beam)
    meta = {"beam": beam, **{name: like.meta.get(name) for name in ("frequency", "telescope")}}

    def image(name):
        data = np.where(blank, np.nan, arrays[name])
        return load_image(CCDData(data, unit=_JY_BEAM, wcs=like.wcs, mask=blank, meta=meta))

    restored, residual = image("image"), image("residual")
    rms = float(mad_std(residual.data[~blank]))
    model = CCDData(
        np.where(blank, 0.0, arrays["model"]),
        unit=u.Jy / u.pix,
        wcs=like.wcs,
        meta=dict(meta),
    )
    return CleanedImages(
        image=restored,
        residual=residual,
        model=model,
        clean_mask=arrays["mask"] > 0,
        primary_beam=primary_beam,
        rms=rms * _JY_BEAM,
        parameters={**parameters, "rms": rms},
    )
