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
            "Visibilities",
            "observe_uv",
            "read_uv",
            "read_visibilities",
            "simulate_observation",
        ],
        "close_pairs": ["close_pair_skies"],
        "dataset": ["PairDataset"],
        "fast_pair": ["simulate_fast_pair"],
        "flux_pairs": ["FluxPairs"],
        "noise_check": ["NoiseCorrelation", "measure_noise_correlation"],
        "pair": ["SimulatedPair"],
        "pairs": ["SimulatedPairs"],
        "published": ["PublishedPair", "read_drozdova2024"],
        "shared_noise": ["SharedNoise"],
        "shared_noise_pair": ["simulate_shared_pair"],
        "simulate": ["simulate_pair", "simulate_pairs"],
        "skymodels": [
            "PRIORS",
            "GeneralPrior",
            "Prior",
            "SkyPrior",
            "SourceList",
            "render_sources",
        ],
        "store": ["PairStore"],
        "sweeps": ["PWV_OCTILES", "pwv_sweep", "sweep"],
        "user_skies": ["sky_from_image", "source_columns", "sources_from_table"],
    },
)
