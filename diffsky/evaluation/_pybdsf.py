"""Sources found by PyBDSF in a restored image."""

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData
from astropy.table import Table
from scipy import ndimage

from diffsky.catalog import SourceFlag, empty_catalog, source_table
from diffsky.catalog.table import pixel_scale
from diffsky.evaluation._clean import CleanedImages
from diffsky.evaluation._orientation import check_not_mirrored, north_angle
from diffsky.evaluation._pybdsf_process import (
    PyBDSFError,
    PyBDSFTimeoutError,
    require_pybdsf,
    run_pybdsf,
)
from diffsky.images import load_image, load_map

__all__ = ["PyBDSFError", "PyBDSFTimeoutError", "pybdsf"]

_JY_BEAM = u.Jy / u.beam
_TIMEOUT = 300 * u.s
_ANY_FREQUENCY = 1e9  # PyBDSF wants one; nothing that is returned depends on it
_STEP = 1.0 / 3600.0  # deg
# What pybdsf has arguments for, and where PyBDSF shall neither write nor ask.
_TAKEN = {"filename", "beam", "frequency", "thresh_isl", "thresh_pix", "rms_map", "rms_value"}
_TAKEN |= {"rms_box", "adaptive_rms_box", "indir", "outdir", "outfile", "output_all"}
_TAKEN |= {"interactive", "quiet", "stop_at"}


def pybdsf(
    image,
    *,
    primary_beam=None,
    thresh_isl=3.0,
    thresh_pix=5.0,
    rms=None,
    rms_box=None,
    adaptive_rms_box=False,
    options=None,
    timeout=_TIMEOUT,
    log_file=None,
):
    """Find sources in a cleaned image with PyBDSF (Mohan & Rafferty 2015).

    PyBDSF runs in a process of its own and in a temporary folder. D24 compare themselves with it
    (table 2) and do not say with which parameters; the thresholds here are PyBDSF's own.

    Parameters
    ----------
    image : `CleanedImages`, `~astropy.nddata.CCDData` or path
        What CLEAN made, or a restored image as `diffsky.images.load_image` reads it. It must not
        be corrected for the primary beam: its noise would differ from pixel to pixel.
    primary_beam : number, array, `~astropy.nddata.CCDData` or path, optional
        Primary beam on the pixels of the image, by which the fluxes are divided; there is no
        data where it is NaN or 0. By default that of the `CleanedImages`, else unity.
    thresh_isl : float, optional
        Islands are the pixels above the mean by this many rms. By default 3.
    thresh_pix : float, optional
        The peak of an island is above the mean by this many rms. By default 5.
    rms : float or `~astropy.units.Quantity`, optional
        Noise rms, Jy/beam, the same everywhere, with a mean of 0. By default PyBDSF measures
        both, as maps where it finds that they vary.
    rms_box : tuple of int, optional
        Size and step, in pixels, of the box in which PyBDSF measures the rms. By default it
        chooses them. Not together with ``rms``.
    adaptive_rms_box : bool, optional
        Smaller boxes near bright sources.
    options : dict, optional
        Further options of ``bdsf.process_image`` by their names there, plain values, such as
        ``{"atrous_do": True}``.
    timeout : `~astropy.units.Quantity` or float, optional
        PyBDSF is killed after this time (seconds where it has no unit). By default 300 s.
    log_file : path-like, optional
        What PyBDSF says is appended to this file. By default it is not kept; an error carries
        its last lines.

    Returns
    -------
    `~astropy.table.QTable`
        Catalogue as from `diffsky.catalog.source_table`, in the order of PyBDSF, a row for each
        of its sources (one Gaussian or several): fluxes over the primary beam, flux_lower and
        flux_upper one standard deviation away, major and minor as PyBDSF deconvolves them (0
        where it cannot, and then pa is NaN), position_err the quadratic mean of both coordinates,
        snr with the rms of the island. As in `matched_filter` reliability is NaN and n_detections
        1: there are no samples. Flags: 1 within half a beam of the edge, 2 in an island with other
        sources, 4 as everywhere, 16 where PyBDSF gives no error of the flux. Without detections it
        has no rows.

    Raises
    ------
    ImportError
        If PyBDSF is not installed.
    ValueError
        If the image has no beam or no data, is mirrored, has pixels that are not square to 0.1 %
        or another shape than the primary beam, or an argument is out of range.
    PyBDSFError
        If PyBDSF fails, as it does where the image is constant or has no noise. It carries
        PyBDSF's last lines.
    PyBDSFTimeoutError
        If PyBDSF takes longer than ``timeout``.
    """
    require_pybdsf()
    if isinstance(image, CleanedImages):
        primary_beam = image.primary_beam if primary_beam is None else primary_beam
        image = image.image
    image = load_image(image)
    check_not_mirrored(image.wcs, name="image")
    pixel_scale(image.wcs)  # a catalogue needs squarer pixels than an image
    gain = load_map(1.0 if primary_beam is None else primary_beam, like=image, name="primary_beam")
    valid = np.isfinite(image.data) & (gain > 0)
    if not valid.any():
        raise ValueError("the primary beam is nowhere above 0 where the image has data")
    finding = _options(thresh_isl, thresh_pix, rms, rms_box, adaptive_rms_box, options)
    frequency = image.meta["frequency"]
    beam = image.meta["beam"]
    axes = [float(axis.to_value(u.deg)) for axis in (beam.major, beam.minor)]
    pa = float(beam.pa.to_value(u.deg)) + north_angle(image.wcs)  # PyBDSF counts from +y
    found = run_pybdsf(
        CCDData(np.where(valid, image.data, np.nan), unit=_JY_BEAM, wcs=image.wcs, meta=image.meta),
        {
            **finding,
            "frequency": _ANY_FREQUENCY if frequency is None else float(frequency.to_value(u.Hz)),
            "beam": [*axes, pa],
        },
        timeout=timeout,
        log_file=log_file,
    )
    meta = {"finder": "PyBDSF", "version": found["version"], **finding}
    if not found["sources"]:
        return empty_catalog(meta)
    return _catalogue(Table(found["sources"]), image, gain, valid, meta)


def _options(thresh_isl, thresh_pix, rms, rms_box, adaptive_rms_box, options):
    """Checked options by PyBDSF's names."""
    for name, value in (("thresh_isl", thresh_isl), ("thresh_pix", thresh_pix)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} is {value!r}; expected a positive number of rms")
    taken = sorted(set(options or ()) & _TAKEN)
    if taken:
        raise ValueError(f"options set {', '.join(taken)}, which pybdsf sets by its arguments")
    result = {
        "thresh_isl": float(thresh_isl),
        "thresh_pix": float(thresh_pix),
        "adaptive_rms_box": bool(adaptive_rms_box),
        "ncores": 1,
    }
    if rms_box is not None:
        if rms is not None:
            raise ValueError("rms and rms_box are both given; expected one of them")
        if len(rms_box) != 2 or any(int(n) != n or n < 1 for n in rms_box):
            raise ValueError(f"rms_box is {rms_box!r}; expected two positive ints (size, step)")
        result["rms_box"] = [int(n) for n in rms_box]
    if rms is not None:
        noise = u.Quantity(rms, _JY_BEAM).value
        if noise.shape != () or not 0 < noise < np.inf:
            raise ValueError(f"rms is {rms}; expected one positive number in Jy/beam")
        result |= {"rms_map": False, "rms_value": float(noise), "mean_map": "zero"}
    return result | dict(options or {})


def _catalogue(sources, image, gain, valid, meta):
    columns = {name: np.asarray(sources[name], dtype=float) for name in sources.colnames}
    x, y = image.wcs.wcs_world2pix(columns["ra"], columns["dec"], 0)
    scale = image.meta["pixel_scale"].to_value(u.deg)
    error = columns["flux_err"]
    known = np.isfinite(error) & (error > 0)
    error = np.where(known, error, np.nan)
    offsets = np.hypot(columns["ra_err"], columns["dec_err"]) / np.sqrt(2) / scale
    rows = Table(
        {
            "x": x,
            "y": y,
            "flux": columns["flux"],
            "flux_err": error,
            "flux_lower": columns["flux"] - error,
            "flux_upper": columns["flux"] + error,
            "major": columns["major"] / scale,
            "minor": columns["minor"] / scale,
            "pa": _pixel_angle(columns, x, y, image.wcs),
            "position_err": np.where(known, offsets, np.nan),
            "reliability": np.full(len(x), np.nan),
            "n_detections": np.ones(len(x), dtype=int),
            "flags": _flags(columns["island"], known, x, y, valid, image),
        }
    )
    return source_table(
        rows,
        wcs=image.wcs,
        beam=image.meta["beam"],
        rms=columns["rms"] * _JY_BEAM,
        primary_beam=_nearest(gain, valid, x, y),
        meta=meta,
    )


def _pixel_angle(columns, x, y, wcs):
    """Position angles in deg from +x towards +y; NaN for sources without extent."""
    pa = np.radians(columns["pa"])
    ra = columns["ra"] + _STEP * np.sin(pa) / np.cos(np.radians(columns["dec"]))
    ahead = wcs.wcs_world2pix(ra, columns["dec"] + _STEP * np.cos(pa), 0)
    angle = np.degrees(np.arctan2(ahead[1] - y, ahead[0] - x))
    return np.where(columns["major"] > 0, angle, np.nan)


def _flags(island, known, x, y, valid, image):
    beam, pixel = image.meta["beam"], image.meta["pixel_scale"]
    fwhm = float((np.sqrt(beam.major * beam.minor) / pixel).to_value(u.one))
    inside = ndimage.distance_transform_edt(np.pad(valid, 1))[1:-1, 1:-1]
    edge = ndimage.map_coordinates(inside, [y, x], order=1, mode="nearest") <= fwhm / 2
    _, where, counts = np.unique(island, return_inverse=True, return_counts=True)
    return (
        np.where(edge, int(SourceFlag.EDGE), 0)
        | np.where(counts[where] > 1, int(SourceFlag.BLENDED), 0)
        | np.where(known, 0, int(SourceFlag.UNRELIABLE))
    )


def _nearest(gain, valid, x, y):
    """Primary beam at positions; the centre of a source may lie beside its pixels."""
    indices = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return ndimage.map_coordinates(gain[tuple(indices)], [y, x], order=1, mode="nearest")
