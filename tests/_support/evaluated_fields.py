"""Fields whose detections have known properties, without images."""

import numpy as np

from diffsky.evaluation import Detections, FieldResult, TrueSources, reconstruction_scores

BEAM, RMS, ERROR = 0.85, 5e-5, 3e-5  # arcsec, Jy/beam, Jy
N_SAMPLES = 20


def make_field(number, *, sharpness=1.0, shift=0.0, n_posterior=N_SAMPLES, group="", spread=1.0):
    """A field of four sources, half of them found, and false detections far away.

    A detection of reliability r is true with the probability r ** sharpness; fluxes are samples
    of Gaussian posteriors `spread` times as wide as they should be.
    """
    rng = np.random.default_rng([number, 3])
    n = 4
    x, y = np.array([-6.0, -2.0, 2.0, 6.0]), rng.uniform(-3, 3, n)
    flux = rng.uniform(1e-4, 5e-4, n)
    truth = TrueSources(x, y, flux, flux / RMS, np.full(n, 0.0))
    score = rng.integers(1, N_SAMPLES + 1, n) / N_SAMPLES
    is_true = rng.uniform(size=n) < score**sharpness
    estimate = flux + ERROR * rng.normal(size=n)
    found_x = np.where(is_true, x + 0.05 * rng.normal(size=n) + shift, x + 100)
    samples = estimate[:, None] + spread * ERROR * rng.normal(size=(n, N_SAMPLES))
    found = Detections(found_x, y, estimate, np.full(n, ERROR), estimate / RMS, score, samples)
    filtered = Detections(found_x, y, estimate, np.full(n, ERROR), estimate / RMS, estimate / ERROR)
    return FieldResult(
        number=number,
        beam=BEAM,
        rms=RMS,
        truth=truth,
        catalogs={"median": found, "matched filter": filtered},
        posterior=gaussian_posterior(rng, n_posterior, spread),
        group=group,
        reconstruction=reconstruction_scores(rng.uniform(size=(N_SAMPLES, 7, 7)), np.eye(7)),
    )


def gaussian_posterior(rng, n_samples, spread=1.0):
    """Truth and samples of exact posteriors: both are draws about the same unknown mean."""
    mean = rng.normal(0, 3, 3)
    truth = mean + rng.normal(size=3)
    samples = mean + spread * rng.normal(size=(n_samples, 3))
    count = rng.poisson(4, n_samples + 1).astype(float)
    return {
        "total flux": (truth[:1], samples[:, :1]),
        "number of sources": (count[:1], count[1:, None]),
        "pixel values": (truth, samples),
    }


def same_results(one, other):
    """Whether two results hold the same numbers under the same names."""
    tables = [(one.truth, other.truth)]
    names = ("catalogs", "posterior", "reconstruction")
    if any(list(getattr(one, name)) != list(getattr(other, name)) for name in names):
        return False
    tables += [(one.catalogs[name], other.catalogs[name]) for name in one.catalogs]
    pairs = [(vars(a)[name], vars(b)[name]) for a, b in tables for name in vars(a)]
    for name in one.posterior:
        pairs += zip(one.posterior[name], other.posterior[name], strict=True)
    pairs += [(one.reconstruction[k], other.reconstruction[k]) for k in one.reconstruction]
    pairs += [(getattr(one, name), getattr(other, name)) for name in ("number", "beam", "rms")]
    pairs += [(one.group == other.group, True)]
    return all((a is None and b is None) or np.array_equal(a, b, equal_nan=True) for a, b in pairs)
