"""How good results are, and what diffsky is compared with: CLEAN, PyBDSF, the matched filter."""

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
        "calibration": [
            "ReliabilityDiagram",
            "gaussian_coverage",
            "interval_coverage",
            "reliability_diagram",
        ],
        "fields": ["evaluate_pair"],
        "injected_flux": ["normalized_injected_flux"],
        "localization": [
            "binomial_interval",
            "bootstrap_scores",
            "close_pairs",
            "flux_accuracy",
            "position_accuracy",
            "scores_by_threshold",
            "share_by_snr",
            "theoretical_position_error",
        ],
        "posteriors": [
            "RankTest",
            "TarpCurve",
            "rank_test",
            "require_tarp",
            "sbc_ranks",
            "tarp_curve",
        ],
        "recalibration": [
            "IsotonicRecalibration",
            "Recalibration",
            "fit_interval_width",
            "fit_recalibration",
            "recalibrate",
        ],
        "reconstruction": [
            "mean_squared_error",
            "peak_snr",
            "pool_reconstructions",
            "reconstruction_scores",
            "reconstruction_table",
            "structural_similarity",
            "uncertainty_image",
        ],
        "report": ["EvaluationReport", "make_report", "write_report"],
        "results": [
            "Detections",
            "FieldResult",
            "Pool",
            "TrueSources",
            "match_counts",
            "pool_fields",
        ],
        "stored_results": ["StoredResults"],
    },
)
