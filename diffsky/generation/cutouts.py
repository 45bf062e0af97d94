"""Images of single sources out of survey mosaics (V24 section 3.1)."""

from dataclasses import dataclass, field
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.table import QTable, vstack
from astropy.wcs import WCS

from diffsky._reading import choose_unit, header_beam, same_beam
from diffsky.generation.selection import STEPS, count_removed, select_cutouts
from diffsky.images import load_image, pixel_scale

__all__ = [
    "ABSENT",
    "UNRESOLVED",
    "Cutouts",
    "cut_mosaic",
    "join_cutouts",
    "n_pixels",
    "on_mosaic",
    "read_grid",
]

UNRESOLVED, ABSENT = "unresolved", "off the mosaics"
SIZE, PIXEL = 120 * u.arcsec, 1.5 * u.arcsec  # V24 section 3.1
_ZENITHAL = {"SIN", "TAN", "ARC", "STG", "ZEA", "NCP"}  # undistorted about the reference point
_SAME = 1e-3  # of a pixel's side, and rad: a tenth of a pixel over a cutout of 80


@dataclass(frozen=True)
class Cutouts:
    """Cutouts that passed the selection, and what became of all others.

    Parameters
    ----------
    images : `numpy.ndarray`
        Shape (n, ny, ny), float32, Jy/beam: one for each row of ``sources`` without a reason, in
        that order.
    sources : `~astropy.table.QTable`
        One row a source: those of `read_survey_sources`, and ``reason`` (``"unresolved"``, ``"off
        the mosaics"`` or that of the `CutoutSelection`, empty for those that were kept),
        ``signal`` and ``uncertain`` of that selection, ``coverage`` (share on the mosaic) and
        ``peak_flux`` (largest pixel, Jy/beam, NaN where there is none).
    wcs : list of `~astropy.wcs.WCS`
        That of each image.
    beam : `~radio_beam.Beam` or None
        Of the mosaics; None where there is no cutout.
    pixel_scale : `~astropy.units.Quantity`
        Side of a pixel.
    """

    images: np.ndarray
    sources: QTable
    wcs: list = field(repr=False)
    beam: object
    pixel_scale: u.Quantity

    @property
    def catalog(self):
        """`~astropy.table.QTable` : the sources of the images, one row each."""
        return self.sources[self.sources["reason"] == ""]

    @property
    def selection(self):
        """`~astropy.table.Table` : sources that each step removed and kept (V24 table 1)."""
        reason = np.asarray(self.sources["reason"])
        return count_removed(reason, (UNRESOLVED, ABSENT, *STEPS), "sources")

    def __len__(self):
        """Images."""
        return len(self.images)


def read_grid(mosaic):
    """WCS, shape and beam of a mosaic, of a file without reading its pixels.

    Parameters
    ----------
    mosaic : str, path-like or `~astropy.nddata.CCDData`
        A FITS file with one image, or an image.

    Returns
    -------
    wcs : `~astropy.wcs.WCS`
        The celestial one.
    shape : tuple of int
        (ny, nx).
    beam : `~radio_beam.Beam`
        Its beam.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it has no celestial WCS, unit or beam, or is not one image.
    """
    if not isinstance(mosaic, str | Path):
        image = load_image(mosaic)
        return image.wcs, image.shape, image.meta["beam"]
    with fits.open(mosaic) as hdus:
        there = [hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2]
        if len(there) != 1:
            raise ValueError(f"{mosaic} has {len(there)} images; expected one")
        header, shape = there[0].header, there[0].shape[-2:]
    try:
        wcs = WCS(header, naxis=2)
        is_celestial = wcs.has_celestial
    except ValueError:  # of wcslib: a broken header
        is_celestial = False
    if not is_celestial:
        axes = ", ".join(str(header.get(f"CTYPE{k}", "none")) for k in (1, 2))
        raise ValueError(f"{mosaic} has no celestial WCS; its axes are {axes}")
    unit = header.get("BUNIT", "")
    if not str(unit).strip():
        raise ValueError(f"{mosaic} has no unit (BUNIT); expected Jy/beam or what converts to it")
    choose_unit(unit, None, name=str(mosaic))
    beam = header_beam(header)
    if beam is None:
        raise ValueError(f"{mosaic} has no beam (BMAJ, BMIN, BPA)")
    return wcs.celestial, shape, beam


def cut_mosaic(mosaic, sources, *, size=SIZE, pixel=PIXEL, **selection):
    """Cut sources out of one mosaic and select among them.

    Pixels of the mosaic are taken as they are where they have the size that is asked for and north
    is up at the reference point of a zenithal projection, each cutout centred to half a pixel;
    else the mosaic is interpolated (reproject, bicubic) to a tangential projection about the
    source.

    Parameters
    ----------
    mosaic : str, path-like or `~astropy.nddata.CCDData`
        What `diffsky.images.load_image` takes.
    sources : `~astropy.table.QTable`
        As from `read_survey_sources`.
    size, pixel : `~astropy.units.Quantity`, optional
        Sides of a cutout and of its pixels. Default 120 and 1.5 arcsec.
    **selection : optional
        Keywords of `select_cutouts`.

    Returns
    -------
    cutouts : `Cutouts`
        In the order of the sources; those whose position is off the mosaic have the reason
        ``"off the mosaics"``.

    Raises
    ------
    ValueError
        If the mosaic is no radio image, or a number is out of range.
    """
    image = load_image(mosaic)
    n = n_pixels(size, pixel)
    side = pixel.to_value(u.arcsec)
    cut = _slice if _fits(image.wcs, side) else _interpolate
    there = on_mosaic(image.wcs, image.shape, sources["position"]) > 0
    nothing = (np.zeros((n, n)), 0.0, None)
    parts = [
        cut(image, position, n, side) if on else nothing
        for position, on in zip(sources["position"], there, strict=True)
    ]
    images, coverage, grids = zip(*parts, strict=True) if parts else ((), (), ())
    images = np.array(images, dtype=np.float32).reshape(-1, n, n)
    coverage = np.array(coverage, dtype=float)
    found = select_cutouts(images, coverage, **selection)
    table = sources.copy()
    table["reason"] = np.where(there, found.reason, ABSENT)
    table["signal"], table["uncertain"] = found.signal, found.uncertain
    table["coverage"] = coverage
    table["peak_flux"] = np.nan * np.zeros(len(table)) * u.Jy / u.beam
    if len(table):
        peaks = np.where(there, images.max(axis=(1, 2)), np.nan).astype(float)
        table["peak_flux"] = peaks * u.Jy / u.beam
    kept = found.kept
    grids = [grid for grid, keep in zip(grids, kept, strict=True) if keep]
    return Cutouts(images[kept], table, grids, image.meta["beam"], pixel)


def n_pixels(size, pixel):
    """Pixels of a side.

    Parameters
    ----------
    size, pixel : `~astropy.units.Quantity`
        Sides of a cutout and of its pixels.

    Returns
    -------
    n : int
        Their ratio, rounded.

    Raises
    ------
    ValueError
        If one is no angle above 0, or there are fewer than 8.
    """
    try:
        ratio = float((size / pixel).to_value(u.one))
        is_angle = pixel.unit.is_equivalent(u.arcsec) and pixel.value > 0
    except (AttributeError, TypeError, u.UnitConversionError):
        ratio, is_angle = np.nan, False
    if not is_angle or not ratio >= 8:
        raise ValueError(
            f"size is {size!r} and pixel {pixel!r}; expected angles, the size of 8 pixels or more"
        )
    return round(ratio)


def join_cutouts(parts):
    """Cutouts of several mosaics together.

    Parameters
    ----------
    parts : sequence of `Cutouts`
        One or more, of one beam and pixel.

    Returns
    -------
    cutouts : `Cutouts`
        All of them, in that order.

    Raises
    ------
    ValueError
        If there are none, or their beams differ by more than 1 per cent.
    """
    parts = list(parts)
    if not parts:
        raise ValueError("there are no cutouts to join; expected those of one mosaic or more")
    beams = [part.beam for part in parts if part.beam is not None]
    for beam in beams[1:]:
        if not same_beam(beam, beams[0]):
            raise ValueError(f"mosaics have beams of {beams[0]} and {beam}; expected one beam")
    return Cutouts(
        np.concatenate([part.images for part in parts]),
        vstack([part.sources for part in parts], metadata_conflicts="silent"),
        [grid for part in parts for grid in part.wcs],
        beams[0] if beams else None,
        parts[0].pixel_scale,
    )


def _fits(wcs, side):
    """Whether the mosaic's own pixels can be taken: those of its reference point are its scale."""
    kinds = [kind[:4] for kind in wcs.wcs.ctype], {kind[-3:] for kind in wcs.wcs.ctype}
    if kinds[0] != ["RA--", "DEC-"] or not kinds[1] <= _ZENITHAL:
        return False
    straight = np.array([[-side, 0], [0, side]])
    return bool(np.abs(wcs.pixel_scale_matrix * 3600 - straight).max() < _SAME * side)


def _slice(image, position, n, side):
    """Pixels of the mosaic, 0 beyond it."""
    cutout = Cutout2D(
        image.data, position, (n, n), wcs=image.wcs, mode="partial", fill_value=0, copy=True
    )
    (y0, y1), (x0, x1) = cutout.bbox_original
    return cutout.data, (y1 - y0 + 1) * (x1 - x0 + 1) / n**2, cutout.wcs.celestial


def _interpolate(image, position, n, side):
    """The mosaic on a tangential projection about the source, 0 beyond it."""
    from reproject import reproject_interp

    target = WCS(naxis=2)
    target.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    target.wcs.crval = [position.icrs.ra.deg, position.icrs.dec.deg]
    target.wcs.crpix = [(n + 1) / 2] * 2
    target.wcs.cdelt = [-side / 3600, side / 3600]
    around = Cutout2D(image.data, position, _around(image.wcs, n, side), wcs=image.wcs, mode="trim")
    # One pixel without data would spoil all others in the splines of the interpolation.
    blank = np.isnan(around.data)
    shape = {"shape_out": (n, n)}
    values, on = reproject_interp(
        (np.where(blank, 0, around.data), around.wcs), target, order="bicubic", **shape
    )
    spoilt, _ = reproject_interp(
        (blank.astype(float), around.wcs), target, order="nearest-neighbor", **shape
    )
    values = np.where(on > 0, np.where(spoilt > 0, np.nan, values), 0)
    return values, float((on > 0).mean()), target


def _around(wcs, n, side):
    """Pixels of the mosaic that hold a cutout however it is turned, and what bicubic needs."""
    return int(np.ceil(1.5 * n * side / pixel_scale(wcs).to_value(u.arcsec))) + 8


def on_mosaic(wcs, shape, position):
    """How far sources are from the edge of a mosaic.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Of the mosaic.
    shape : tuple of int
        (ny, nx).
    position : `~astropy.coordinates.SkyCoord`
        Shape (n,).

    Returns
    -------
    margin : `numpy.ndarray`
        Shape (n,): pixels to the nearest edge, negative outside and on the other side of the sky.
    """
    near = position.separation(_centre(wcs, shape)) < 90 * u.deg
    margin = np.full(len(position), -np.inf)
    if near.any():
        x, y = wcs.world_to_pixel(position[near])
        margin[near] = np.min([x + 0.5, shape[1] - 0.5 - x, y + 0.5, shape[0] - 0.5 - y], axis=0)
    return np.nan_to_num(margin, nan=-np.inf, neginf=-np.inf)  # NaN: behind the projection


def _centre(wcs, shape):
    centre = wcs.pixel_to_world((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    return SkyCoord(centre).icrs
