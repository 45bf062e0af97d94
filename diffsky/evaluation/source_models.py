"""Models of the sources in many images by PyBDSF, and what V24 measure on them (section 5)."""

import hashlib
import io
import json
import os
import queue
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import Table

from diffsky._reading import make_beam
from diffsky._units import plain_values
from diffsky.evaluation._pybdsf_process import (
    PyBDSFError,
    PyBDSFModels,
    PyBDSFRefusal,
    PyBDSFTimeoutError,
    require_pybdsf,
)
from diffsky.images import beam_area_pixels
from diffsky.simulation._casa_process import seconds

__all__ = [
    "STATUSES",
    "SourceModels",
    "background_rms",
    "fit_source_models",
    "half_flux_area",
    "positive_residual",
]

STATUSES = ("fitted", "no source", "failed", "timed out")
_TIMEOUT = 60 * u.s
_MIN_POSITIVE = 0.2  # share of the pixels; noise about 0 has half
_ANY_FREQUENCY = 1e9  # PyBDSF wants one; the models do not depend on it
_DITHER = 1e-3  # rms


@dataclass(frozen=True)
class SourceModels:
    """Models of the sources in images.

    Parameters
    ----------
    table : `~astropy.table.Table`
        One row an image, in their order: ``status``, one of ``STATUSES``; ``reason``, what went
        wrong, empty where nothing did; ``model_flux``, the sum of the model image over the pixels
        per beam, in Jy for images in Jy/beam; ``area_50``, A_50% (`half_flux_area`), pixels;
        ``residual``, Delta_+ (V24 eq. 26), in the unit of the images; ``peak``, their largest
        pixel; ``rms`` of the background. The three measures on the model are NaN for images
        without one. ``meta`` has the settings and the count of each status.
    models : `numpy.ndarray`
        Shape (n, ny, nx), float32: the model images, in the unit of the images. 0 everywhere where
        PyBDSF found no source, NaN where it failed or was too slow.
    """

    table: Table
    models: np.ndarray

    @property
    def counts(self):
        """dict of str to int : number of images of each status."""
        return {name: int((self.table["status"] == name).sum()) for name in STATUSES}


def fit_source_models(
    images,
    *,
    beam,
    pixel_scale,
    rms=None,
    thresh_isl=3.0,
    thresh_pix=5.0,
    n_workers=None,
    timeout=_TIMEOUT,
    progress=None,
    store=None,
):
    """Fit the sources of each image with Gaussians by PyBDSF (V24 section 5.1).

    These are not the settings of V24, whose table 5 was not legible. Islands are the pixels above
    3 rms with a peak above 5 rms, PyBDSF's own thresholds, and rms and mean of the background are
    constants of an image, the latter 0: an image of 80 x 80 pixels has no room for maps of them.
    No wavelets.

    PyBDSF cannot measure the noise of images that are clipped at 0, as V24's are (eq. 11) and
    generated ones with them: it finds a third of it, or fails. So the rms is that of
    `background_rms`, which sees positive pixels alone and is the same for an image and for its
    clipped form. Images without noise, such as those of FIRST with all below 3 sigma set to one
    level, have no rms to measure: they fail, unless ``rms`` is given. Give one number for real and
    generated images then, 0.02 of the peak for instance.

    Images are divided by their rms before they are fitted, so that the unit does not matter. An
    image takes about 0.3 s of a core, most of them much the same, a few ten times as long.

    Parameters
    ----------
    images : `numpy.ndarray`
        Shape (n, ny, nx), finite, Jy/beam or relative to a peak, north up. Real and generated
        images have to be alike: where the latter are clipped at 0, clip the former.
    beam : `~radio_beam.Beam`, `~astropy.units.Quantity` or tuple
        Beam of the images, or its FWHM, or major and minor FWHM and position angle.
    pixel_scale : `~astropy.units.Quantity`
        Side of a pixel, an angle.
    rms : float or array-like, optional
        Noise rms of all images, or of each, in their unit. By default `background_rms`.
    thresh_isl, thresh_pix : float, optional
        Threshold of islands and of their peaks, in rms. By default 3 and 5.
    n_workers : int, optional
        Number of PyBDSF processes. By default one for each core. Results do not depend on it.
    timeout : `~astropy.units.Quantity` or float, optional
        An image that takes longer is given up, in seconds where it has no unit. By default 60 s.
    progress : bool or None, optional
        Show a progress bar; None shows one on a terminal.
    store : path-like, optional
        Folder in which models are kept as they are made, and found again by the next call with
        the same images and settings, as is why PyBDSF gave an image up. Images that took too long
        or whose process died are tried again.

    Returns
    -------
    models : `SourceModels`
        One row for each image, fitted or not.

    Raises
    ------
    ImportError
        If PyBDSF is not installed.
    PyBDSFError
        If PyBDSF does not start. What fails for an image is in the table.
    ValueError
        If images have another shape or a pixel that is not finite, or another argument is out of
        range.
    """
    require_pybdsf()
    images = _checked(plain_values(images, name="images"))
    if not 0 < thresh_isl <= thresh_pix < np.inf:
        raise ValueError(
            f"thresh_isl is {thresh_isl} and thresh_pix {thresh_pix}; expected numbers of rms "
            "above 0, the second not below the first"
        )
    n_workers = (os.cpu_count() or 1) if n_workers is None else n_workers
    if n_workers != int(n_workers) or n_workers < 1:
        raise ValueError(f"n_workers is {n_workers!r}; expected a positive int")
    rms = background_rms(images) if rms is None else _given_rms(rms, len(images))
    settings = {"thresh_isl": float(thresh_isl), "thresh_pix": float(thresh_pix)}
    fitter = _Fitter(settings, make_beam(beam), pixel_scale, seconds(timeout), store)
    fits = fitter.fit_all(images, rms, int(n_workers), progress)
    return _measured(images, rms, fits, fitter.beam_area, settings)


def background_rms(images):
    """Rms of the noise about 0, from positive pixels alone.

    These and their mirror images at 0 are sigma-clipped, as the standard deviation of V24's
    S/N_sigma (section 3.1). It is the same for an image and for its form clipped at 0.

    Parameters
    ----------
    images : `numpy.ndarray`
        Shape (n, ny, nx).

    Returns
    -------
    rms : `numpy.ndarray`
        Shape (n,), in the unit of the images; NaN where less than a fifth of the pixels are
        positive, so that they are no noise about 0, or where they do not differ.
    """
    from astropy.stats import sigma_clipped_stats

    rms = np.full(len(images), np.nan)
    for k, image in enumerate(np.asarray(images, dtype=float)):
        positive = image[image > 0]
        if positive.size >= _MIN_POSITIVE * image.size and np.ptp(positive) > 0:
            rms[k] = sigma_clipped_stats(np.concatenate([positive, -positive]))[2]
    return rms


def half_flux_area(model):
    """Least number of pixels with half of the flux of a model image, A_50% (V24 section 5.1).

    For a Gaussian it is the area of its half-power ellipse.

    Parameters
    ----------
    model : `numpy.ndarray`
        Shape (ny, nx), not negative.

    Returns
    -------
    area : int
        In pixels; 0 for a model without flux.
    """
    flux = np.cumsum(np.sort(np.asarray(model, dtype=float), axis=None)[::-1])
    return int(np.searchsorted(flux, flux[-1] / 2) + 1) if flux[-1] > 0 else 0


def positive_residual(images, models):
    """Sum of the pixels of the residual that are positive, Delta_+ (V24 eq. 26).

    V24 have it for images scaled to a peak of 1: there it is this over the peak. Pixels that were
    clipped at 0 do not change it.

    Parameters
    ----------
    images, models : `numpy.ndarray`
        Shape (..., ny, nx).

    Returns
    -------
    residual : `numpy.ndarray`
        Shape (...), in the unit of the images.
    """
    return np.clip(np.subtract(images, models, dtype=float), 0, None).sum(axis=(-2, -1))


class _Fitter:
    """Fits images with PyBDSF processes, each in turn the next image."""

    def __init__(self, settings, beam, pixel_scale, limit, store):
        try:
            scale = u.Quantity(pixel_scale).to_value(u.deg)
        except (TypeError, u.UnitConversionError) as error:
            raise ValueError(f"pixel_scale is {pixel_scale!r}; expected an angle") from error
        if np.ndim(scale) or not 0 < scale < np.inf:
            raise ValueError(f"pixel_scale is {pixel_scale}; expected one angle above 0")
        self.beam_area = beam_area_pixels(beam, scale * u.deg)
        self._scale, self._limit = float(scale), limit
        axes = [float(angle.to_value(u.deg)) for angle in (beam.major, beam.minor, beam.pa)]
        constant = {"rms_map": False, "rms_value": 1.0, "mean_map": "zero"}
        self._options = {**settings, **constant, "beam": axes, "frequency": _ANY_FREQUENCY}
        self._options |= {"thresh": "hard", "ncores": 1}
        self._store = None if store is None else Path(store).expanduser().absolute()
        if self._store is not None:
            self._store.mkdir(parents=True, exist_ok=True)

    def fit_all(self, images, rms, n_workers, progress):
        """For each image its model, or None and why there is none."""
        from tqdm import tqdm

        processes = [PyBDSFModels(self._options, timeout=self._limit) for _ in range(n_workers)]
        idle = queue.SimpleQueue()
        for process in processes:
            idle.put(process)
        fits, hidden = [None] * len(images), None if progress is None else not progress
        executor = ThreadPoolExecutor(n_workers, thread_name_prefix="diffsky-pybdsf")
        try:
            futures = {
                executor.submit(self._fit_next, idle, image, noise): k
                for k, (image, noise) in enumerate(zip(images, rms, strict=True))
            }
            done = as_completed(futures)
            for future in tqdm(done, total=len(images), unit="image", disable=hidden):
                fits[futures[future]] = future.result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.close()
            executor.shutdown(wait=True)
        return fits

    def _fit_next(self, idle, image, rms):
        process = idle.get()
        try:
            return self._fit(process, image, rms)
        finally:
            idle.put(process)

    def _fit(self, process, image, rms):
        if not np.isfinite(rms):
            return "failed", "there is no noise to measure; give the rms", None
        # PyBDSF refuses images of which half are one number.
        dither = _DITHER * np.random.default_rng(0).normal(size=image.shape)
        image = (image / rms + dither).astype(np.float32)
        version = process.start()
        place = self._place(image, version)
        known = _read(place, image.shape)
        if known is None:
            try:
                model = process.fit(image, self._header(image.shape)).astype(np.float32)
                known = {"model": model}
            except PyBDSFTimeoutError as error:
                return "timed out", str(error).partition(". Its last lines")[0], None
            except PyBDSFRefusal as error:
                known = {"failed": str(error)}
            except PyBDSFError as error:
                return "failed", str(error), None
            _write(place, known)
        if "failed" in known:
            return "failed", str(known["failed"]), None
        return "fitted" if known["model"].any() else "no source", "", known["model"]

    def _header(self, shape):
        from astropy.wcs import WCS

        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval = ["RA---SIN", "DEC--SIN"], [180.0, 0.0]
        wcs.wcs.crpix = [(n + 1) / 2 for n in reversed(shape)]
        wcs.wcs.cdelt = [-self._scale, self._scale]
        header = wcs.to_header()
        header["BUNIT"] = "JY/BEAM"
        return header

    def _place(self, image, version):
        """File of a model, whose name says what it is the model of."""
        if self._store is None:
            return None
        about = json.dumps([version, self._scale, self._options, image.shape], sort_keys=True)
        digest = hashlib.sha256(about.encode() + image.tobytes()).hexdigest()
        return self._store / f"{digest[:32]}.npz"


def _read(place, shape):
    """A model that was stored, or why there is none; None without a file or a whole one."""
    if place is None or not place.exists():
        return None
    try:
        with place.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            known = dict(stored)
    except Exception:  # what a damaged file raises is anything
        return None
    model = known.get("model", np.empty(0))
    return known if "failed" in known or (model.shape, model.dtype) == (shape, "f4") else None


def _write(place, known):
    if place is None:
        return
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **known)
    fresh = place.with_name(f".{place.stem}-{os.getpid()}.writing")
    fresh.write_bytes(buffer.getvalue())
    fresh.replace(place)


def _measured(images, rms, fits, beam_area, settings):
    models = np.full(images.shape, np.nan, dtype=np.float32)
    area = np.full(len(images), np.nan)
    for k, (_, _, model) in enumerate(fits):
        if model is not None:
            models[k] = model * rms[k]
            area[k] = half_flux_area(model)
    table = Table(
        {
            "status": np.array([status for status, _, _ in fits], dtype="U9"),
            "reason": np.array([reason for _, reason, _ in fits], dtype=str),
            "model_flux": models.sum(axis=(1, 2), dtype=float) / beam_area,
            "area_50": area,
            "residual": positive_residual(images, models),
            "peak": images.max(axis=(1, 2)),
            "rms": rms,
        }
    )
    result = SourceModels(table, models)
    table.meta |= {"finder": "PyBDSF", "beam_area": beam_area, **settings, **result.counts}
    return result


def _checked(images):
    images = np.asarray(images)
    if images.ndim != 3 or min(images.shape) < 1 or not np.issubdtype(images.dtype, np.number):
        raise ValueError(f"images have the shape {images.shape}; expected numbers, (n, ny, nx)")
    bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2)))
    if bad.size:
        raise ValueError(f"{bad.size} images have pixels that are not finite, first {bad[0]}")
    return images


def _given_rms(rms, n):
    rms = plain_values(rms, name="rms").astype(float)
    if rms.shape not in ((), (n,)) or not ((rms > 0) & (rms < np.inf)).all():
        raise ValueError(f"rms is {rms}; expected a number above 0, or one for each of {n} images")
    return np.broadcast_to(rms, (n,)).copy()
