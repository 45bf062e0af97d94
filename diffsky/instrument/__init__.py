"""What an interferometer does to a sky, in torch."""

from diffsky._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "antennas": ["AntennaArray", "find_array", "read_array"],
        "constructors": [
            "instrument_from_images",
            "instrument_from_measurement_set",
            "instrument_from_uv",
        ],
        "from_setup": ["instrument_from_setup"],
        "gridding": [
            "grid_uv",
            "image_visibilities",
            "imaging_weights",
            "psf_weights",
            "working_weights",
        ],
        "noise": ["image_rms", "system_temperature", "visibility_noise"],
        "operator": ["Instrument", "grid_size_for"],
        "primary_beam": ["KNOWN_DISHES", "airy_primary_beam"],
        "psf_bank": ["PSFBank", "bank_entry", "beam_fwhm", "load_psf_bank", "write_psf_bank"],
        "setup_bank": ["bank_from_setups"],
        "tracks": ["UVTracks", "uv_tracks"],
    },
)
