"""What an interferometer does to a sky, in torch."""

from diffsky.instrument.constructors import (
    grid_uv,
    instrument_from_images,
    instrument_from_uv,
)
from diffsky.instrument.operator import Instrument, grid_size_for

__all__ = [
    "Instrument",
    "grid_size_for",
    "grid_uv",
    "instrument_from_images",
    "instrument_from_uv",
]
