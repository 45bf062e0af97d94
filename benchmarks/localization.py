"""Who finds the sources: diffsky, a matched filter with the true PSF, and the ceiling.

    python benchmarks/localization.py --fast 200 --casa 40 --validation 60

Protocol `independent` (own noise in every field). The thresholds on reliability and on the
signal-to-noise ratio of the matched filter are those of the best F1 at half a beam on validation
fields, which share neither sky nor noise with the test fields. Errors are bootstrap standard
deviations over fields; ratios are bootstrapped in pairs.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import astropy.units as u
import click
import numpy as np
from fields import CASA, FAST, VALIDATION, casa_fields, fast_fields
from tqdm import tqdm

from diffsky import DiffusionDeconvolver
from diffsky.catalog import match_catalogs, matched_filter
from diffsky.deconvolution import STRATEGIES, make_catalog
from diffsky.deconvolution.observation import prepare_observation

RADII = {"0.18 arcsec": 0.18 * u.arcsec, "half a beam": 0.5}
TOLERANCE = 50 * u.uJy
FILTER, CEILING = "matched filter", "detector on the true sky"
RELIABILITIES = np.arange(0.1, 1.0, 0.05) - 0.001
SIGNALS = (2.75, 3.0, 3.25, 3.5, 3.75, 4.0, 4.25, 4.5)


@dataclass
class Tally:
    """What one method found in each field: catalogue rows as plain arrays."""

    fields: list = field(default_factory=list)

    def add(self, catalog, score, truth, beam):
        entry = {"score": np.asarray(score), "n_truth": len(truth)}
        for name, radius in RADII.items():
            radius = radius if isinstance(radius, u.Quantity) else radius * beam
            entry[name] = (catalog, truth, radius)
        self.fields.append(entry)

    def counts(self, threshold, radius):
        """Per field: true positives, found, truth, and fluxes within 50 uJy."""
        rows = []
        for entry in self.fields:
            catalog, truth, distance = entry[radius]
            kept = catalog[entry["score"] >= threshold]
            matches = match_catalogs(kept, truth, radius=distance)
            pair = matches.catalog_index, matches.truth_index
            error = np.abs(kept["flux"][pair[0]] - truth["flux"][pair[1]])
            rows.append((len(pair[0]), len(kept), len(truth), int((error <= TOLERANCE).sum())))
        return np.array(rows)


def figures(counts):
    """Purity, completeness, F1 and share of fluxes from summed counts."""
    true, found, truth, right = counts.sum(axis=-2).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([true / found, true / truth, 2 * true / (found + truth), right / true])


def bootstrap(counts, reference, n=2000, seed=0):
    """Standard deviation of the figures, and value and error of the ratio of F1."""
    picks = np.random.default_rng(seed).integers(len(counts), size=(n, len(counts)))
    values, known = figures(counts[picks]), figures(reference[picks])
    ratio = figures(counts)[2] / figures(reference)[2]
    return np.nanstd(values, axis=1), (ratio, np.nanstd(values[2] / known[2]))


def best_f1(tally, threshold):
    """F1 at half a beam, by which thresholds are chosen."""
    return figures(tally.counts(threshold, "half a beam"))[2]


def run(fields, deconvolver, n_samples, label, total, signals):
    """Catalogue every field with every method, the matched filter down to each of `signals`."""
    filters = {signal: f"{FILTER} {signal}" for signal in signals}
    tallies = {name: Tally() for name in (*STRATEGIES, *filters.values(), CEILING)}
    scale, stride = deconvolver.preset_.scale, deconvolver.denoiser_.network.stride
    for number, item in enumerate(tqdm(fields, total=total, desc=label)):
        prepared = prepare_observation(
            item.dirty, primary_beam=item.primary_beam, stride=stride,
            pixels_per_beam=scale.pixels_per_beam,
        )  # fmt: skip
        beam = np.sqrt(prepared.image.meta["beam"].major * prepared.image.meta["beam"].minor)
        apparent = deconvolver.sample_apparent(prepared, n_samples=n_samples, seed=number)
        for strategy in STRATEGIES:
            catalog = make_catalog(prepared, apparent, strategy, scale=scale)
            tallies[strategy].add(catalog, catalog["reliability"], item.truth, beam)
        rms = float(np.median(prepared.rms))
        for signal, name in filters.items():
            found = matched_filter(
                prepared.image, item.psf, rms=rms, primary_beam=prepared.primary_beam,
                threshold=signal, mask=~prepared.valid,
            )  # fmt: skip
            tallies[name].add(found, np.ones(len(found)), item.truth, beam)
        truth = prepared.grid.to_working(item.sky) * prepared.grid.zoom**2
        truth = truth * prepared.primary_beam_working / prepared.rms_working
        ceiling = make_catalog(
            prepared, truth[None], "detect-aggregate", scale=scale, min_reliability=0
        )
        tallies[CEILING].add(ceiling, np.ones(len(ceiling)), item.truth, beam)
    return tallies


def report(tallies, thresholds, title):
    """Print one table and return its figures."""
    print(f"\n{title}")
    result = {}
    for radius in RADII:
        print(f"\n  matched within {radius}")
        print(
            f"  {'method':<26}{'purity':>14}{'completeness':>15}{'F1':>14}{'<50 uJy':>14}  F1 ratio"
        )
        known = next(name for name in tallies if name.startswith(FILTER))
        reference = tallies[known].counts(0, radius)
        for name, tally in tallies.items():
            counts = tally.counts(thresholds.get(name, 0), radius)
            values = figures(counts)
            spread, ratio = bootstrap(counts, reference)
            cells = "".join(f"{v:>8.3f} ±{s:.3f}" for v, s in zip(values, spread, strict=True))
            print(f"  {name:<26}{cells}  {ratio[0]:.3f} ±{ratio[1]:.3f}")
            result[f"{name}, {radius}"] = {
                "F1": round(float(values[2]), 4), "ratio": round(float(ratio[0]), 4),
                "fluxes within 50 uJy": round(float(values[3]), 4),
            }  # fmt: skip
    return result


@click.command()
@click.option("--weights", default="alma-band6", show_default=True)
@click.option("--fast", default=200, show_default=True, help="Fast fields.")
@click.option("--casa", default=40, show_default=True, help="CASA fields.")
@click.option("--validation", default=60, show_default=True, help="Fast fields for thresholds.")
@click.option("--samples", default=20, show_default=True)
@click.option("--sampler", default=None)
@click.option("--steps", default=None, type=int)
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(weights, fast, casa, validation, samples, sampler, steps, record):
    """Print purity, completeness, F1 and flux accuracy."""
    start = time.time()
    deconvolver = DiffusionDeconvolver.from_pretrained(weights, sampler=sampler, n_steps=steps)
    fields = fast_fields(validation, VALIDATION)
    tallies = run(fields, deconvolver, samples, "validation", validation, SIGNALS)
    thresholds = {
        name: max(RELIABILITIES, key=lambda t, tally=tallies[name]: best_f1(tally, t))
        for name in STRATEGIES
    }
    signal = max(SIGNALS, key=lambda t: best_f1(tallies[f"{FILTER} {t}"], 0))
    for other in set(SIGNALS) - {signal}:
        del tallies[f"{FILTER} {other}"]
    print(f"weights {weights}, {samples} samples, {deconvolver.sampling_plan()}")
    print(f"seeds {VALIDATION} (validation), {FAST} (fast), {CASA} (CASA)")
    print("least reliability: " + ", ".join(f"{name} {t:.2f}" for name, t in thresholds.items()))
    print(f"least S/N of the matched filter: {signal}")
    result = {"validation": report(tallies, thresholds, f"{validation} validation fields")}
    if fast:
        tallies = run(fast_fields(fast, FAST), deconvolver, samples, "fast", fast, [signal])
        result["fast"] = report(tallies, thresholds, f"{fast} fast fields of 128 x 128 pixels")
    if casa:
        tallies = run(casa_fields(casa, CASA), deconvolver, samples, "CASA", casa, [signal])
        result["CASA"] = report(tallies, thresholds, f"{casa} CASA fields of 512 x 512 pixels")
    print(f"\n{time.time() - start:.0f} s")
    if record is not None:
        record.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
