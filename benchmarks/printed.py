"""What D24 prints in its tables 1 to 4, for a look beside our own numbers."""

GAMMAS = (1, 2, 10, 20, 30)
AGGREGATIONS = ("single run", "detect-aggregate", "mean", "median")

# Mean squared error (1e-5), peak S/N (dB) and structural similarity; table 1.
RECONSTRUCTION = {
    1: {"single run": (5.276, 38.031, 0.977), "mean": (4.232, 42.243, 0.998),
        "median": (3.941, 41.587, 0.998)},
    2: {"single run": (1.492, 38.999, 0.830), "mean": (1.189, 41.251, 0.853),
        "median": (1.190, 42.148, 0.882)},
    10: {"single run": (1.668, 36.784, 0.814), "mean": (1.183, 38.008, 0.835),
         "median": (1.185, 38.386, 0.862)},
    20: {"single run": (2.264, 35.105, 0.892), "mean": (1.431, 37.457, 0.929),
         "median": (1.442, 37.651, 0.955)},
    30: {"single run": (2.820, 32.944, 0.985), "mean": (1.553, 34.844, 0.985),
         "median": (1.569, 34.693, 0.988)},
}  # fmt: skip

# Purity, completeness and F1 in per cent; table 2.
LOCALIZATION = {
    1: {"single run": (100.00, 44.97, 62.04), "detect-aggregate": (100.00, 53.52, 69.72),
        "mean": (99.60, 93.11, 96.24), "median": (99.83, 90.84, 95.12)},
    2: {"single run": (97.45, 96.71, 97.08), "detect-aggregate": (98.33, 97.88, 98.10),
        "mean": (97.88, 97.80, 97.84), "median": (99.30, 97.05, 98.16)},
    10: {"single run": (98.66, 94.66, 96.62), "detect-aggregate": (98.90, 95.69, 97.27),
         "mean": (98.51, 95.23, 96.84), "median": (99.29, 94.78, 96.98)},
    20: {"single run": (98.26, 94.43, 95.81), "detect-aggregate": (99.52, 94.70, 97.05),
         "mean": (99.52, 93.64, 96.49), "median": (99.52, 93.79, 96.57)},
    30: {"single run": (98.58, 93.46, 94.93), "detect-aggregate": (99.20, 94.10, 96.58),
         "mean": (98.80, 93.41, 96.03), "median": (98.81, 94.25, 96.47)},
}  # fmt: skip
OTHERS = {
    "PyBDSF, clean image": (72.18, 20.82, 32.31),
    "Taran et al. (2023)": (91.02, 74.14, 81.72),
    "true sky": (99.70, 99.10, 99.40),
}

# Share of the detected sources whose flux is right to 50 uJy; table 3.
FLUXES = {
    1: {"mean": 0.85, "median": 0.66, "single run": 0.048, "detect-aggregate": 0.015},
    2: {"mean": 0.96, "median": 0.97, "single run": 0.88, "detect-aggregate": 0.97},
    10: {"mean": 0.92, "median": 0.93, "single run": 0.71, "detect-aggregate": 0.89},
    20: {"mean": 0.82, "median": 0.83, "single run": 0.53, "detect-aggregate": 0.72},
    30: {"mean": 0.74, "median": 0.75, "single run": 0.47, "detect-aggregate": 0.66},
}
FLUXES_CLEAN = 0.57

# Fluxes in uJy of the true sources at a place and of what is predicted there; table 4.
OUTLIERS = (((309, 429), (738,)), ((238, 113), (346,)), ((126, 400), (399, 436)))
