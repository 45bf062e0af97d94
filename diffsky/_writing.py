"""The header that `diffsky.images.write_image` writes."""

import re

import numpy as np
from astropy import units as u
from astropy.io import fits

from diffsky._reading import header_beam, make_beam

__all__ = ["make_header", "unit_text"]

_NAMES = {"beam": None, "frequency": "FREQ", "telescope": "TELESCOP", "pixel_scale": None}
# What describes the file, the grid, the unit and the beam comes from the image itself.
_RESERVED = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|EXTNAME|EXTVER|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK"
    r"|BUNIT|BMAJ|BMIN|BPA|CHECKSUM|DATASUM|COMMENT|HISTORY|END|WCSAXES|HIERARCH|CONTINUE|CASAMBM"
    r"|(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|CNAME)\d+|(PC|CD|PV|PS)\d+_\d+|"
)
_SHORT = re.compile(r"[A-Z0-9_-]{1,8}")
_LONGEST_KEY, _LONGEST_COMMENT, _LARGEST = 24, 16, 2**63  # what leaves room for any number


def make_header(image):
    """Header of an image: its beam and what ``meta`` holds of strings, numbers and quantities.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`

    Returns
    -------
    `~astropy.io.fits.Header`
        Without WCS and unit, which CCDData adds.
    """
    header = fits.Header()
    beam = None if isinstance(image.meta, fits.Header) else image.meta.get("beam")
    beam = header_beam(image.meta) if beam is None else make_beam(beam)
    if beam is not None:
        header["BMAJ"] = (beam.major.to_value(u.deg), "[deg]")
        header["BMIN"] = (beam.minor.to_value(u.deg), "[deg]")
        header["BPA"] = (beam.pa.to_value(u.deg), "[deg] north through east")
    for key, value in image.meta.items():
        name, card = _NAMES.get(key, key), _card(key, value)
        if name is not None and card is not None and not _RESERVED.fullmatch(str(name).upper()):
            header[_keyword(str(name), taken=header)] = card
    return header


def unit_text(unit):
    """Unit as radio software spells it: Jy/beam, Jy/pixel.

    Parameters
    ----------
    unit : `~astropy.units.UnitBase`

    Returns
    -------
    str
    """
    return re.sub(r"\bpix\b", "pixel", unit.to_string()).replace(" / ", "/")


def _card(key, value):
    """What a card holds, (value, comment), or None where it cannot hold the value."""
    comment = ""
    if isinstance(value, u.Quantity) and value.isscalar:
        unit = u.Hz if key == "frequency" else value.unit
        value, comment = value.to_value(unit), f"[{unit_text(unit)}]"
        comment = comment if len(comment) <= _LONGEST_COMMENT else ""
    if isinstance(value, np.generic | np.ndarray) and np.ndim(value) == 0:
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        value = str(value)  # FITS has no such numbers
    if isinstance(value, int) and abs(value) >= _LARGEST:
        value = str(value)
    if isinstance(value, str):
        value = re.sub(r"[^\x20-\x7e]", "?", value)
    return (value, comment) if isinstance(value, str | bool | int | float) else None


def _keyword(name, *, taken):
    """A keyword that FITS admits."""
    long = re.sub(r"[^A-Z0-9_-]", "_", name.upper())
    for short in (long, long.replace("_", "")):
        if _SHORT.fullmatch(short) and short not in taken and not _RESERVED.fullmatch(short):
            return short
    return f"HIERARCH {long[:_LONGEST_KEY]}"
