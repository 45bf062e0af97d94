"""Simulated observations: sky priors, CASA, and training pairs."""

from diffsky._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "casa": [
            "CasaError",
            "CasaTimeoutError",
            "Observation",
            "ObservationSetup",
            "UVCoverage",
            "observe_uv",
            "read_uv",
            "simulate_observation",
        ],
        "pairs": ["SimulatedPairs"],
        "skymodels": ["PRIORS", "SkyPrior", "SourceList", "render_sources"],
    },
)
