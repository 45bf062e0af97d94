"""Sky models and source catalogues from radio interferometers, by diffusion.

Public names are imported when they are first used: ``import diffsky`` takes milliseconds.
"""

from diffsky._lazy import lazy_names

__version__ = "0.1.dev0"

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "deconvolution": ["DiffusionDeconvolver"],
        "generation": ["RadioGalaxyGenerator"],
        "exceptions": ["DiffskyWarning", "NotFittedError", "PredictionError", "WeightsError"],
    },
)
