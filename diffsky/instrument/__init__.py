"""What an interferometer does to a sky, in torch."""

from diffsky._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "constructors": [
            "grid_uv",
            "instrument_from_images",
            "instrument_from_measurement_set",
            "instrument_from_uv",
        ],
        "operator": ["Instrument", "grid_size_for"],
        "primary_beam": ["KNOWN_DISHES", "airy_primary_beam"],
    },
)
