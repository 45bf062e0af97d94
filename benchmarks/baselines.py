"""How well the tools do that diffsky is compared with: CLEAN + PyBDSF and a matched filter.

    python benchmarks/baselines.py --casa 60 --validation 30

Protocol `independent`: CASA fields of 512 x 512 pixels with noise of their own. Each is cleaned
from its visibilities (tclean with automatic masks), and PyBDSF searches the restored image; the
matched filter has the dirty image and its true PSF. PyBDSF's `thresh_pix` and the signal-to-noise
ratio of the matched filter are those of the best F1 at half a beam on validation fields, which
share neither sky nor noise with the test fields; both have eight values to choose from. Errors are
bootstrap standard deviations over fields. A field that fails is left out of all methods and named
at the end.
"""

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
from fields import CASA, VALIDATION, casa_field
from localization import FILTER, RADII, SIGNALS, Tally, best_f1, bootstrap, figures, report
from tqdm import tqdm

from diffsky.deconvolution.noise import estimate_rms
from diffsky.evaluation import clean, matched_filter, pybdsf

PYBDSF = "CLEAN + PyBDSF"
PEAKS = (3.25, 3.5, 3.75, 4.0, 4.25, 4.5, 4.75, 5.0)
LEAST_ISLAND = 3.0
FIGURES = ("purity", "completeness", "F1", "fluxes within 50 uJy")


def measure(seed, number, peaks, signals, deconvolver, timeout):
    """Catalogues of one field by every method and threshold, with the truth and the beam."""
    with tempfile.TemporaryDirectory(prefix="diffsky-baselines-") as folder:
        item = casa_field(seed, number, work_dir=folder, timeout=timeout)
        cleaned = clean(item.observation, deconvolver=deconvolver, timeout=timeout)
    rms = estimate_rms(item.dirty.data[~item.dirty.mask])
    found = {
        f"{PYBDSF} {peak}": pybdsf(
            cleaned, thresh_pix=peak, thresh_isl=LEAST_ISLAND, timeout=timeout
        )
        for peak in peaks
    }
    for signal in signals:
        found[f"{FILTER} {signal}"] = matched_filter(
            item.dirty, item.psf, rms=rms, primary_beam=item.primary_beam, threshold=signal
        )
    beam = item.dirty.meta["beam"]
    return found, item.truth, np.sqrt(beam.major * beam.minor)


def tally(n, seed, peaks, signals, options, workers, label):
    """What every method found in every field, and which fields failed how."""

    def attempt(number):
        try:
            return measure(seed, number, peaks, signals, **options), None
        except Exception as error:  # one field of an hour's run
            return None, f"{label} field {number}: {type(error).__name__}: {error}"

    result, failures = {}, []
    with ThreadPoolExecutor(workers) as pool:
        for measured, failure in tqdm(pool.map(attempt, range(n)), total=n, desc=label):
            if failure is not None:
                failures.append(failure)
                tqdm.write(failure.splitlines()[0])
                continue
            found, truth, beam = measured
            for name, catalog in found.items():
                entry = result.setdefault(name, Tally())
                entry.add(catalog, np.ones(len(catalog)), truth, beam)
    if not result:
        raise click.ClickException("\n".join([f"no {label} field is left", *failures]))
    return result, failures


def choose(known, method, thresholds):
    """The threshold of the best F1; a note where it may lie beyond those that were tried."""
    best = max(thresholds, key=lambda t: best_f1(known[f"{method} {t}"], 0))
    if best in (thresholds[0], thresholds[-1]):
        print(f"  note: {best} of {method} is an end of {thresholds[0]} to {thresholds[-1]}")
    return best


def summary(found):
    """Figures and their errors by method and radius, and the ratio of F1 to the filter's."""
    known = next(name for name in found if name.startswith(FILTER))
    result = {}
    for radius in RADII:
        reference = found[known].counts(0, radius)
        for name, entry in found.items():
            counts = entry.counts(0, radius)
            spread, ratio = bootstrap(counts, reference)
            values = [*zip(figures(counts), spread, strict=True), ratio]
            result[f"{name}, {radius}"] = {
                figure: {"value": rounded(value), "error": rounded(error)}
                for figure, (value, error) in zip((*FIGURES, "F1 ratio"), values, strict=True)
            }
    return result


def rounded(value):
    """A number for JSON, which has no NaN."""
    return round(float(value), 4) if np.isfinite(value) else None


@click.command()
@click.option("--casa", default=60, show_default=True, type=click.IntRange(1), help="Test fields.")
@click.option(
    "--validation",
    default=30,
    show_default=True,
    type=click.IntRange(1),
    help="Fields for the thresholds.",
)
@click.option("--deconvolver", default="hogbom", show_default=True)
@click.option("--workers", default=2, show_default=True, help="Fields at a time.")
@click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    help="Of one simulation, one CLEAN and one PyBDSF each, in seconds.",
)
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(casa, validation, deconvolver, workers, timeout, record):
    """Print purity, completeness, F1 and flux accuracy."""
    start = time.time()
    options = {"deconvolver": deconvolver, "timeout": timeout}
    known, lost = tally(validation, VALIDATION, PEAKS, SIGNALS, options, workers, "validation")
    n_fields = {"validation": validation - len(lost)}
    print(f"tclean, {deconvolver}, automatic masks; seeds {VALIDATION} (validation), {CASA} (test)")
    tried = {name: round(float(best_f1(entry, 0)), 4) for name, entry in known.items()}
    for name, value in tried.items():
        print(f"  {name}: F1 {value:.3f} on {n_fields['validation']} validation fields")
    peak, signal = choose(known, PYBDSF, PEAKS), choose(known, FILTER, SIGNALS)
    print(f"thresh_pix {peak}, least S/N of the matched filter {signal}")
    found, failures = tally(casa, CASA, [peak], [signal], options, workers, "CASA")
    n_fields["CASA"] = casa - len(failures)
    report(found, {}, f"{n_fields['CASA']} CASA fields of 512 x 512 pixels")
    failures = [*lost, *failures]
    print(f"\n{time.time() - start:.0f} s, {len(failures)} fields failed")
    for failure in failures:
        print(failure)
    if record is not None:
        result = {
            "fields": n_fields,
            "thresholds": {PYBDSF: peak, FILTER: signal},
            "F1 on validation fields": tried,
            "CASA": summary(found),
            "failures": failures,
        }
        record.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
