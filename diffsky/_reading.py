"""What `diffsky.images` is made of: reading any input, then units, WCS and beams."""

import contextlib
import functools
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import NDData
from astropy.wcs import WCS, WCSSUB_SPECTRAL, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_scales

__all__ = [
    "JY_BEAM",
    "TOLERANCE",
    "centred_slice",
    "check_same_wcs",
    "check_sampling",
    "choose_beam",
    "choose_unit",
    "choose_wcs",
    "conversion_factor",
    "find_frequency",
    "given_mask",
    "header_beam",
    "header_text",
    "make_beam",
    "only_plane",
    "parse_unit",
    "read_source",
    "same_beam",
    "scaled",
]

JY_BEAM = u.Jy / u.beam
TOLERANCE = 0.01  # relative, between two statements of one beam or of one pixel scale
_BRIGHTNESS = (JY_BEAM, u.Jy / u.sr, u.K)
_WCS_TOLERANCE = 0.1  # pixels, between two statements of one WCS
_COMPANIONS = {"MASK", "UNCERT", "FLAGS", "PSFIMAGE"}  # extensions that CCDData.write adds
_UNIT_WORDS = {"jy": "Jy", "beam": "beam", "bm": "beam", "kelvin": "K", "pixel": "pix", "sr": "sr"}
_BEAM_COLUMNS = {"BMAJ": u.arcsec, "BMIN": u.arcsec, "BPA": u.deg}
_KEYWORDS = ("BMAJ", "BMIN", "BPA", "BLANK", "FREQ", "OBJECT", "TELESCOP")


@dataclass
class _Source:
    """What an input says about itself, before anything is checked."""

    data: np.ndarray
    mask: np.ndarray
    unit: object = None  # "" where an image says nothing, None for a bare array
    wcs: WCS | None = None
    beam: object = None
    frequency: u.Quantity | None = None
    header: fits.Header = field(default_factory=fits.Header)


def read_source(value, *, hdu, name):
    """Read any accepted input into a `_Source`."""
    if isinstance(value, str | os.PathLike):
        return _read_path(Path(value).expanduser(), hdu=hdu, name=name)
    if isinstance(value, fits.HDUList):
        return _read_hdus(value, hdu=hdu, name=name)
    if hdu is not None:
        raise ValueError(f"hdu={hdu!r} is for FITS files and HDU lists, got {_kind(value)}.")
    if isinstance(value, fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU):
        return _read_hdus(fits.HDUList([value]), hdu=0, name=name)
    if isinstance(value, NDData):
        return _read_nddata(value, name=name)
    unit = getattr(value, "unit", None)
    data = getattr(value, "value", value) if unit is not None else value
    return _source(data, np.ma.getmaskarray(data), name=name, unit=unit)


def _read_path(path, *, hdu, name):
    if not path.exists():
        raise FileNotFoundError(f"{name}: there is no file {path}.")
    if path.is_dir():
        raise ValueError(
            f"{name}: {path} is a folder, expected a FITS file (CASA's exportfits makes one)."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="File may have been truncated")
        try:
            with path.open("rb") as stream, fits.open(stream) as hdus:
                return _read_hdus(hdus, hdu=hdu, name=f"{name} {path.name}")
        except (OSError, UserWarning) as error:
            raise ValueError(f"{name}: {path} is not a readable FITS file: {error}") from error


def _read_hdus(hdus, *, hdu, name):
    found = [h for h in hdus if _is_image(h) and h.name not in _COMPANIONS]
    if hdu is not None:
        try:
            found = [hdus[hdu]]
        except (KeyError, IndexError) as error:
            raise ValueError(f"{name}: no HDU {hdu!r}, only {[h.name for h in hdus]}.") from error
    if len(found) != 1 or not _is_image(found[0]):
        listed = [f"{i} {h.name} {_kind(h)}" for i, h in enumerate(hdus)]
        raise ValueError(f"{name}: expected one HDU with an image (hdu= chooses), got {listed}.")
    header = found[0].header.copy()  # reading the data changes it
    _refuse_blanks(header, integer=header["BITPIX"] > 0, name=name)
    data, mask = found[0].data, False
    if "MASK" in hdus and hdus["MASK"].shape == data.shape:
        mask = hdus["MASK"].data
    beam = header_beam(header)
    beam = _table_beam(hdus, name=name) if beam is None else beam
    return _source(data, mask, name=name, unit=header.get("BUNIT", ""), header=header, beam=beam)


def _read_nddata(value, *, name):
    meta, extra = value.meta, {}
    if isinstance(meta, fits.Header):
        header = meta.copy()
    else:
        header, extra = fits.Header(meta.get("header") or {}), meta
        named = {"TELESCOP": meta.get("telescope"), "OBJECT": meta.get("object")}
        named |= {key: meta[key] for key in _KEYWORDS if key in meta}
        header.update({key: value for key, value in named.items() if value is not None})
    _refuse_blanks(header, integer=np.asarray(value.data).dtype.kind in "iu", name=name)
    wcs = None if value.wcs is None else value.wcs.low_level_wcs
    if not isinstance(wcs, WCS | None):
        raise ValueError(f"{name} has a WCS of type {_kind(wcs)}, expected astropy.wcs.WCS.")
    beam = header_beam(header) if extra.get("beam") is None else make_beam(extra["beam"])
    mask = False if value.mask is None else value.mask
    unit = "" if value.unit is None else value.unit
    said = {"unit": unit, "header": header, "wcs": wcs, "beam": beam}
    source = _source(value.data, mask, name=name, **said)
    if extra.get("frequency") is not None:
        source.frequency = u.Quantity(extra["frequency"]).to(u.Hz)
    return source


def _source(data, mask, *, name, unit=None, header=None, wcs=None, beam=None):
    """Check the dtype; take WCS and frequency from the header where they are not given."""
    array = np.asarray(data)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected real numbers, got {_kind(data)} of {array.dtype}.")
    header = fits.Header() if header is None else header
    if wcs is None and "CTYPE1" in header:
        wcs = _header_wcs(header, name=name)
    frequency = find_frequency(wcs, header)
    wcs = wcs if wcs is not None and wcs.has_celestial else None
    mask = np.broadcast_to(mask, array.shape).astype(bool)
    return _Source(array, mask, unit, wcs, beam, frequency, header)


def _is_image(hdu):
    return hdu.is_image and hdu.header.get("NAXIS", 0) > 0


def _kind(value):
    return type(value).__name__


def header_text(header, key):
    return str(header.get(key, "")).strip() or None


def _refuse_blanks(header, *, integer, name):
    if integer and "BLANK" in header:
        raise ValueError(
            f"{name}: integer pixels with BLANK = {header['BLANK']}, expected floats with NaN."
        )


def only_plane(source, *, name):
    """Data and mask of the only plane, two-dimensional."""
    shape = source.data.shape
    if len(shape) < 2:
        raise ValueError(f"{name}: expected an image of two dimensions, got the shape {shape}.")
    axes = (0, 1)
    if len(shape) > 2 and source.wcs is not None:
        axes = sorted((source.wcs.wcs.lng, source.wcs.wcs.lat))
    plane = tuple(shape[::-1][axis] for axis in axes[::-1] if axis < len(shape))
    if np.prod(plane) != source.data.size or len(plane) != 2:
        raise ValueError(f"{name}: expected one celestial plane, got the shape {shape}.")
    return source.data.reshape(plane), source.mask.reshape(plane)


def given_mask(mask, *, shape, full_shape):
    if mask is None:
        return False
    mask = np.asarray(mask)
    if mask.shape not in (shape, full_shape):
        raise ValueError(f"mask has the shape {mask.shape}, expected that of the image, {shape}.")
    if mask.dtype.kind != "b":
        raise ValueError(f"mask is of {mask.dtype}, expected bool (True where there is no data).")
    return mask.reshape(shape)


def scaled(data, *, factor, mask):
    """Times ``factor``, as float32, NaN where masked or not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        data = np.multiply(data, factor, dtype=np.result_type(data, np.float32)).astype(np.float32)
    data[mask | ~np.isfinite(data)] = np.nan
    return data


def parse_unit(unit, *, name):
    if isinstance(unit, u.UnitBase):
        return unit
    text = re.sub("[A-Za-z]+", lambda word: _UNIT_WORDS.get(word[0].lower(), word[0]), str(unit))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        try:
            return u.Unit(text)
        except ValueError as error:
            message = f"{name}: unit {unit!r} not understood, expected e.g. Jy/beam."
            raise ValueError(message) from error


def choose_unit(found, given, *, name):
    found = found if str(found or "").strip() else None
    if given is None and found is None:
        raise ValueError(f"{name} has no unit (BUNIT): expected one, or unit=.")
    unit = parse_unit(found if given is None else given, name=name)
    if given is not None and found is not None:
        try:
            known = parse_unit(found, name=name)
        except ValueError:  # what astropy cannot read, the caller may say
            known = unit
        if known != unit:
            raise ValueError(f"unit={str(unit)!r} contradicts the unit of the {name}, {known}.")
    if not any(unit.is_equivalent(kind) for kind in _BRIGHTNESS):
        raise _unit_error(unit, JY_BEAM, name=name)
    return unit


def _unit_error(unit, target, *, name):
    why = " without a frequency (spectral axis or FREQ)" if unit.is_equivalent(u.K) else ""
    came, expected = str(unit) or "no unit", str(target) or "no unit"
    return u.UnitConversionError(
        f"{name} is in {came}{why}, expected {expected} or what converts to it."
    )


def conversion_factor(unit, target, *, beam, frequency, name):
    """Factor from ``unit`` to ``target``; Kelvin as Rayleigh-Jeans brightness temperature."""
    ways = u.beam_angular_area(beam.sr)
    if frequency is not None:
        ways = ways + u.brightness_temperature(frequency, beam.sr)
    try:
        return float(unit.to(target, equivalencies=ways))
    except u.UnitConversionError as error:
        raise _unit_error(unit, target, name=name) from error


def _header_wcs(header, *, name):
    bare = header.copy()
    for key in ("COMMENT", "HISTORY", ""):  # not needed, and often not printable
        bare.remove(key, ignore_missing=True, remove_all=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        try:
            return WCS(bare)
        except ValueError as error:
            raise ValueError(f"{name}: the header has no valid WCS: {error}") from error


def find_frequency(wcs, header):
    value = header.get("FREQ")
    if wcs is not None and wcs.wcs.spec >= 0:
        spectral = wcs.sub([WCSSUB_SPECTRAL])
        with contextlib.suppress(ValueError):  # a velocity without its rest frequency
            spectral.wcs.sptr("FREQ-???")
            value = spectral.wcs_pix2world([[0.0]], 0)[0, 0]
    return value * u.Hz if _positive(value) else None


def _positive(value):
    return isinstance(value, int | float) and np.isfinite(value) and value > 0


def choose_wcs(found, given, *, shape):
    if given is not None and not (isinstance(given, WCS) and given.has_celestial):
        raise ValueError(f"wcs= is {given!r}, expected an astropy.wcs.WCS with celestial axes.")
    if found is None and given is None:
        raise ValueError("image has no celestial WCS: expected one, or wcs=.")
    if found is not None and given is not None:
        check_same_wcs(found, given, shape=shape, names=("image", "wcs="))
    return (found if given is None else given).celestial


def check_same_wcs(one, other, *, shape, names):
    """Compare the sky positions of a 3 x 3 grid of pixels."""
    one, other = one.celestial, other.celestial
    x, y = np.meshgrid(*([0, (n - 1) / 2, n - 1] for n in shape[::-1]))
    moved = other.world_to_pixel(one.pixel_to_world(x, y))
    offset = np.hypot(moved[0] - x, moved[1] - y).max()
    if not offset <= _WCS_TOLERANCE:
        came, expected = (_describe(wcs, shape) for wcs in (one, other))
        raise ValueError(
            f"{names[0]} and {names[1]} lie on different grids, {offset:.4g} pixels apart:"
            f" {came} and {expected}; expected at most {_WCS_TOLERANCE}."
        )


def _describe(wcs, shape):
    centre = wcs.pixel_to_world((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    sides = " x ".join(f"{side * 3600:.6g}" for side in proj_plane_pixel_scales(wcs))
    return f"centre {centre.to_string(precision=6)} deg with pixels of {sides} arcsec"


@functools.cache
def _beam_class():
    from radio_beam import Beam  # takes a third of a second

    class CopyableBeam(Beam):
        """A beam that keeps its axes when copied, as CCDData does with its meta."""

        def __reduce__(self):
            return make_beam, ((self.major, self.minor, self.pa),)

        def __copy__(self):
            return make_beam(self)

        def __deepcopy__(self, memo):
            return make_beam(self)

    return CopyableBeam


def make_beam(beam):
    if type(beam).__name__ == "Beam" and not hasattr(beam, "major"):
        raise ValueError("beam: a Beam without axes; radio_beam.Beam loses them when it is copied.")
    if all(hasattr(beam, axis) for axis in ("major", "minor", "pa")):
        parts = (beam.major, beam.minor, beam.pa)
    else:
        parts = beam if isinstance(beam, tuple | list) else (beam, beam, 0 * u.deg)
    try:
        major, minor, pa = (float(u.Quantity(part).to_value(u.arcsec)) for part in parts)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"beam: expected a Beam, an angle or angles (major, minor, pa), got {beam!r}."
        ) from error
    if not (np.isfinite([major, minor, pa]).all() and major >= minor > 0):
        raise ValueError(f"beam: expected major >= minor > 0, got {beam!r}.")
    return _beam_class()(major * u.arcsec, minor * u.arcsec, (pa * u.arcsec).to(u.deg))


def header_beam(header):
    """Beam of a header, None where it is incomplete or, as some programs write, zero."""
    major = header.get("BMAJ")
    minor = header.get("BMIN", major)
    pa = header.get("BPA", 0 if minor == major else None)
    if not (_positive(major) and _positive(minor) and isinstance(pa, int | float)):
        return None
    return make_beam((major * u.deg, minor * u.deg, pa * u.deg))


def _table_beam(hdus, *, name):
    """Beam of CASA's table of beams, one row a plane."""
    if "BEAMS" not in hdus:
        return None
    table = hdus["BEAMS"]
    units = [u.Unit(table.columns[key].unit or default) for key, default in _BEAM_COLUMNS.items()]
    columns = [table.data[key] * unit for key, unit in zip(_BEAM_COLUMNS, units, strict=True)]
    beams = [make_beam(row) for row in zip(*columns, strict=True)]
    if not beams or not all(same_beam(beams[0], beam) for beam in beams):
        raise ValueError(f"{name}: expected one beam, got a table of {len(beams)} different ones.")
    return beams[0]


def same_beam(one, other, *, tolerance=TOLERANCE):
    sizes = [float(getattr(one, a) / getattr(other, a)) for a in ("major", "minor")]
    # a wrong angle counts by what it changes: nothing in a round beam
    turned = float(abs(np.sin(one.pa - other.pa)) * (1 - (one.minor / one.major) ** 2))
    return all(abs(s - 1) <= tolerance for s in sizes) and turned <= 2 * tolerance


def choose_beam(found, given):
    if given is None:
        if found is None:
            raise ValueError("image has no beam (BMAJ, BMIN, BPA): expected one, or beam=.")
        return make_beam(found)
    given = make_beam(given)
    if found is not None and not same_beam(found, given):
        raise ValueError(f"beam= is {given!r}, which contradicts that of the image, {found!r}.")
    return given


def check_sampling(shape, *, beam, scale):
    across = min(shape) * (scale / beam.major).to_value(u.dimensionless_unscaled)
    pixels = (beam.minor / scale).to_value(u.dimensionless_unscaled)
    if across < 1:
        raise ValueError(f"image: {shape} pixels are {across:.3g} beams across, expected >= 1.")
    if pixels < 2:
        raise ValueError(f"image: the beam is {pixels:.3g} pixels (minor axis), expected >= 2.")


def centred_slice(peak, n):
    """The longest slice of ``n`` pixels that has ``peak`` at half its length, rounded down."""
    right = n - 1 - peak
    return slice(0, 2 * peak + 1) if peak <= right else slice(peak - right - 1, n)
