"""From a dirty image to a sky and a catalogue."""

from diffsky._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "estimator": ["DiffusionDeconvolver"],
        "reconstruction": ["make_catalog", "make_cube", "make_sky"],
        "presets": ["PRESETS", "Preset", "drozdova2024", "get_preset"],
        "scaling": ["FluxScale", "WorkingScale"],
        "strategies": ["STRATEGIES"],
    },
)
