"""What diffsky is compared with: CLEAN, PyBDSF and the matched filter."""

from diffsky._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "baselines": [
            "AUTOMASKING",
            "CleanedImages",
            "PyBDSFError",
            "PyBDSFTimeoutError",
            "clean",
            "clean_image",
            "clean_pybdsf",
            "matched_filter",
            "pybdsf",
        ],
    },
)
