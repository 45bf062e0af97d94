"""Between a simulated pair and what a store holds: arrays, and plain values for JSON."""

import math
import warnings

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Column, MaskedColumn, QTable
from astropy.utils.masked import Masked
from astropy.wcs import WCS, FITSFixedWarning

from diffsky._reading import check_same_wcs, make_beam
from diffsky._store_files import Record
from diffsky.images import load_image
from diffsky.simulation.pair import SimulatedPair

__all__ = ["decode_pair", "decode_plain", "encode_pair"]

_COLUMNS = ("flux", "sky_centroid", "major", "minor", "pa")
_SETUP_IMAGES, _PAIR_IMAGES = ("psf", "primary_beam"), ("dirty", "sky")


def encode_pair(pair):
    """Take a pair apart.

    Parameters
    ----------
    pair : `diffsky.simulation.SimulatedPair`

    Returns
    -------
    setup, own : `Record`
        What depends on the set-up alone, and the rest, which names the set-up.

    Raises
    ------
    TypeError, ValueError
        If it is no pair, or a part of it is not as `SimulatedPair` has it.
    """
    _check_pair(pair)
    setup = Record(
        {name: _pixels(getattr(pair, name)) for name in _SETUP_IMAGES}
        | {name: np.ascontiguousarray(getattr(pair, name)) for name in ("uv", "weights")},
        {
            "beam": None if pair.beam is None else encode_plain(pair.beam, "beam"),
            "images": {name: _encode_image(getattr(pair, name)) for name in _SETUP_IMAGES},
        },
    )
    own = Record(
        {name: _pixels(getattr(pair, name)) for name in _PAIR_IMAGES},
        {
            "setup": setup.address,
            "parameters": encode_plain(pair.parameters, "parameters"),
            "sources": _encode_table(pair.sources),
            "images": {name: _encode_image(getattr(pair, name)) for name in _PAIR_IMAGES},
        },
    )
    return setup, own


def decode_pair(setup, own):
    """Put a pair together again.

    Parameters
    ----------
    setup, own : `Record`
        The arrays of the set-up are copied.

    Returns
    -------
    `diffsky.simulation.SimulatedPair`
    """
    grids = {}  # the images of a pair share theirs
    images = {
        name: _decode_image(record.arrays[name].copy(), description, grids)
        for record in (setup, own)
        for name, description in record.attributes["images"].items()
    }
    beam = setup.attributes["beam"]
    return SimulatedPair(
        uv=setup.arrays["uv"].copy(),
        weights=setup.arrays["weights"].copy(),
        beam=None if beam is None else decode_plain(beam),
        parameters=decode_plain(own.attributes["parameters"]),
        sources=_decode_table(own.attributes["sources"]),
        measurement_set=None,
        **images,
    )


def encode_plain(value, name):
    """Values as JSON has them; a TypeError names what has no such form."""
    if isinstance(value, np.ndarray | np.generic) and not isinstance(value, u.Quantity):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"__float__": repr(value)}
    if isinstance(value, list | tuple):
        return [encode_plain(item, name) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) and not key.startswith("__") for key in value):
            raise TypeError(f"{name} has the keys {list(value)}; expected str without leading __")
        return {key: encode_plain(item, f"{name}[{key!r}]") for key, item in value.items()}
    if all(hasattr(value, axis) for axis in ("major", "minor", "pa")):
        axes = (value.major.to_value(u.arcsec), value.minor.to_value(u.arcsec))
        return {"__beam__": [*map(float, axes), float(value.pa.to_value(u.deg))]}
    if isinstance(value, u.Quantity):
        return {"__quantity__": [encode_plain(value.value, name), value.unit.to_string()]}
    if isinstance(value, fits.Header):
        return {"__header__": _header_text(value)}
    raise TypeError(
        f"{name} is of type {type(value).__name__}; expected numbers, str, None, lists, dicts, "
        "quantities, beams or FITS headers"
    )


def decode_plain(value):
    """Turn what `encode_plain` gave back; tuples come back as lists.

    Parameters
    ----------
    value : object
        As JSON has it.

    Returns
    -------
    object
        As Python has it.
    """
    if isinstance(value, list):
        return [decode_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value)) if len(value) == 1 else None
    if kind in _DECODERS:
        return _DECODERS[kind](value[kind])
    return {key: decode_plain(item) for key, item in value.items()}


_DECODERS = {
    "__float__": float,
    "__beam__": lambda axes: make_beam((axes[0] * u.arcsec, axes[1] * u.arcsec, axes[2] * u.deg)),
    "__quantity__": lambda parts: u.Quantity(decode_plain(parts[0]), parts[1]),
    "__header__": lambda text: fits.Header.fromstring(text, sep="\n"),
}


def _check_pair(pair):
    if not isinstance(pair, SimulatedPair):
        raise TypeError(f"pair is of type {type(pair).__name__}; expected a SimulatedPair")
    image = load_image(pair.dirty)
    if pair.sky.shape != image.shape or pair.sky.unit != u.Jy / u.pix or pair.sky.wcs is None:
        raise ValueError(
            f"sky has the shape {pair.sky.shape}, the unit {pair.sky.unit} and "
            f"{'no' if pair.sky.wcs is None else 'a'} WCS; expected Jy / pix on the WCS of the "
            f"dirty image, {image.shape}"
        )
    check_same_wcs(pair.sky.wcs, image.wcs, shape=image.shape, names=("sky", "the dirty image"))
    kernel = pair.sky.meta.get("kernel_fwhm")
    is_angle = isinstance(kernel, u.Quantity) and kernel.unit.is_equivalent(u.arcsec)
    if not is_angle or not 0 <= kernel.to_value(u.arcsec) < np.inf:
        raise ValueError(
            f'sky.meta["kernel_fwhm"] is {kernel!r}; expected the angle of the Gaussian that the '
            "sky is convolved with, 0 arcsec where it is not"
        )
    missing = set(_COLUMNS) - set(pair.sources.colnames)
    if missing:
        raise ValueError(
            f"sources have the columns {pair.sources.colnames}; expected also {sorted(missing)}"
        )


def _pixels(image):
    """Pixels as float32, NaN where masked."""
    pixels = np.array(image.data, dtype=np.float32)
    if image.mask is not None:
        pixels[np.broadcast_to(image.mask, pixels.shape)] = np.nan
    return pixels


def _encode_image(image):
    """Everything of an image but its pixels; what has no plain form in ``meta`` is left out."""
    meta = {}
    for key, value in image.meta.items():
        try:
            meta |= encode_plain({key: value}, "meta")
        except TypeError:
            continue
    return {
        "unit": image.unit.to_string(),
        "wcs": None if image.wcs is None else _header_text(image.wcs.to_header(relax=True)),
        "masked": image.mask is not None,
        "meta": meta,
    }


def _header_text(header):
    return header.tostring(sep="\n", endcard=False, padding=False)


def _decode_image(pixels, description, grids):
    text = description["wcs"]
    if text is not None and text not in grids:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            grids[text] = WCS(fits.Header.fromstring(text, sep="\n"))
        grids[text].array_shape = pixels.shape
    return CCDData(
        pixels,
        unit=description["unit"],
        wcs=None if text is None else grids[text],
        mask=np.isnan(pixels) if description["masked"] else None,
        meta=decode_plain(description["meta"]),
    )


def _encode_table(table):
    columns = {name: _encode_column(table[name], name) for name in table.colnames}
    return {"columns": columns, "meta": encode_plain(dict(table.meta), "sources.meta")}


def _encode_column(column, name):
    if isinstance(column, SkyCoord):
        positions = column.icrs
        return {"ra": positions.ra.deg.tolist(), "dec": positions.dec.deg.tolist()}
    if isinstance(column, Masked):
        column = column.filled(np.nan)
    is_masked = isinstance(column, MaskedColumn)
    if np.ndim(column) != 1 or not isinstance(column, Column | u.Quantity):
        raise TypeError(
            f"sources[{name!r}] is {type(column).__name__} with {np.ndim(column)} axes; expected "
            "one value a row: numbers, str, quantities or SkyCoord"
        )
    values = np.asarray(column.data if is_masked else column)
    if values.dtype.kind not in "biufU":
        raise TypeError(f"sources[{name!r}] is of {values.dtype}; expected numbers or str")
    return {
        "values": encode_plain(values, name),
        "dtype": values.dtype.str,
        "unit": None if column.unit is None else column.unit.to_string(),
        "mask": np.ma.getmaskarray(column).tolist() if is_masked else None,
    }


def _decode_table(description):
    columns = {name: _decode_column(one) for name, one in description["columns"].items()}
    return QTable(columns, meta=decode_plain(description["meta"]))


def _decode_column(description):
    if "ra" in description:
        return SkyCoord(description["ra"] * u.deg, description["dec"] * u.deg)
    values = np.array(decode_plain(description["values"]), dtype=description["dtype"])
    if description["mask"] is not None:
        return MaskedColumn(values, mask=description["mask"], unit=description["unit"])
    return values if description["unit"] is None else u.Quantity(values, description["unit"])
