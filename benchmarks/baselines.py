"""How well the tools do that diffsky is compared with: CLEAN + PyBDSF and a matched filter.

    python benchmarks/baselines.py --casa 60 --validation 30

Protocol `independent`: CASA fields of 512 x 512 pixels with noise of their own. Each is cleaned
from its visibilities (tclean with automatic masks), and PyBDSF searches the restored image; the
matched filter has the dirty image and its true PSF. PyBDSF's `thresh_pix` and the signal-to-noise
ratio of the matched filter are those of the best F1 at half a beam on validation fields, which
share neither sky nor noise with the test fields. Errors are bootstrap standard deviations over
fields.
"""

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
from fields import CASA, VALIDATION, casa_field
from localization import FILTER, SIGNALS, Tally, best_f1, report
from tqdm import tqdm

from diffsky.deconvolution.observation import estimate_rms
from diffsky.evaluation import clean, matched_filter, pybdsf

PYBDSF = "CLEAN + PyBDSF"
PEAKS = (3.5, 4.0, 4.5, 5.0, 5.5)
LEAST_ISLAND = 3.0


def measure(seed, number, peaks, signals, cleaning):
    """Catalogues of one field by every method and threshold, with the truth and the beam."""
    with tempfile.TemporaryDirectory(prefix="diffsky-baselines-") as folder:
        item = casa_field(seed, number, work_dir=folder)
        cleaned = clean(item.observation, **cleaning)
    rms = estimate_rms(item.dirty.data[~item.dirty.mask])
    found = {
        f"{PYBDSF} {peak}": pybdsf(cleaned, thresh_pix=peak, thresh_isl=LEAST_ISLAND)
        for peak in peaks
    }
    for signal in signals:
        found[f"{FILTER} {signal}"] = matched_filter(
            item.dirty, item.psf, rms=rms, primary_beam=item.primary_beam, threshold=signal
        )
    beam = item.dirty.meta["beam"]
    return found, item.truth, np.sqrt(beam.major * beam.minor)


def tally(n, seed, peaks, signals, cleaning, workers, label):
    """What every method found in every field."""
    result = {}
    with ThreadPoolExecutor(workers) as pool:
        runs = pool.map(lambda k: measure(seed, k, peaks, signals, cleaning), range(n))
        for found, truth, beam in tqdm(runs, total=n, desc=label):
            for name, catalog in found.items():
                entry = result.setdefault(name, Tally())
                entry.add(catalog, np.ones(len(catalog)), truth, beam)
    return result


@click.command()
@click.option("--casa", default=60, show_default=True, help="Test fields.")
@click.option("--validation", default=30, show_default=True, help="Fields for the thresholds.")
@click.option("--deconvolver", default="hogbom", show_default=True)
@click.option("--workers", default=2, show_default=True, help="Fields at a time.")
@click.option("--timeout", default=600.0, show_default=True, help="Of one CLEAN, in seconds.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(casa, validation, deconvolver, workers, timeout, record):
    """Print purity, completeness, F1 and flux accuracy."""
    start = time.time()
    cleaning = {"deconvolver": deconvolver, "timeout": timeout}
    known = tally(validation, VALIDATION, PEAKS, SIGNALS, cleaning, workers, "validation")
    peak = max(PEAKS, key=lambda t: best_f1(known[f"{PYBDSF} {t}"], 0))
    signal = max(SIGNALS, key=lambda t: best_f1(known[f"{FILTER} {t}"], 0))
    print(f"tclean, {deconvolver}, automatic masks; seeds {VALIDATION} (validation), {CASA} (test)")
    for name, entry in known.items():
        print(f"  {name}: F1 {best_f1(entry, 0):.3f} on {validation} validation fields")
    print(f"thresh_pix {peak}, least S/N of the matched filter {signal}")
    found = tally(casa, CASA, [peak], [signal], cleaning, workers, "CASA")
    result = report(found, {}, f"{casa} CASA fields of 512 x 512 pixels")
    print(f"\n{time.time() - start:.0f} s")
    if record is not None:
        record.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
