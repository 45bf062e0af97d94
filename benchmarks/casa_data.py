"""CASA fields on disk, each with what CLEAN + PyBDSF find in it.

    python benchmarks/casa_data.py DATA

Protocol `independent`. DATA gets a store of pairs for each of the seeds 9001 (validation) and 9003
(test), which ``diffsky evaluate`` reads too, and beside it a folder with a table for each pair and
each ``thresh_pix``: what PyBDSF finds in the image that tclean makes from the visibilities. What is
there already is left as it is, so the same command goes on where it was interrupted, and with more
fields or thresholds it adds to them. A field that fails is named at the end, and the same command
tries it again.
"""

import functools
import os
import tempfile
import warnings
from pathlib import Path

import click
import numpy as np
from astropy.table import QTable
from fields import CASA, VALIDATION, pointing
from tqdm import tqdm

from diffsky.evaluation import clean, pybdsf
from diffsky.exceptions import DiffskyWarning
from diffsky.simulation import PRIORS, ObservationSetup, PairStore, simulate_pair

PEAKS = (3.25, 3.5, 3.75, 4.0, 4.25, 4.5, 4.75, 5.0)
LEAST_ISLAND = 3.0
TIMEOUT = 1800.0


def pair_store(data, seed):
    """The store of the CASA fields of a seed, which may still lack some."""
    return PairStore(Path(data) / f"casa-{seed}")


@functools.cache
def stored_pairs(data, seed):
    """The same store to read from. All its pairs are verified once in a process."""
    return PairStore(Path(data) / f"casa-{seed}", mode="r")


def clean_catalog(data, seed, number, peak):
    """What CLEAN + PyBDSF find in a field with PyBDSF's ``thresh_pix`` at `peak`."""
    return QTable.read(_catalog_file(data, seed, number, peak), format="ascii.ecsv")


def has_catalogs(data, seed, number, peaks):
    """Whether a field was searched with all of these thresholds."""
    return all(_catalog_file(data, seed, number, peak).exists() for peak in peaks)


def clean_and_find(observation, *, peaks=PEAKS, deconvolver="hogbom", timeout=TIMEOUT):
    """Clean an observation from its visibilities; what PyBDSF finds at each threshold."""
    cleaned = clean(observation, deconvolver=deconvolver, timeout=timeout)
    return {
        peak: pybdsf(cleaned, thresh_pix=peak, thresh_isl=LEAST_ISLAND, timeout=timeout)
        for peak in peaks
    }


def make_fields(data, seed, n, peaks):
    """Make what is missing of the fields of a seed; say which failed how."""
    store, failures = pair_store(data, seed), []
    missing = [k for k in range(n) if k not in store or not has_catalogs(data, seed, k, peaks)]
    for number in tqdm(missing, desc=f"CASA fields of seed {seed}"):
        try:
            _make_field(store, data, seed, number, peaks)
        except Exception as error:  # one field of hours
            failures.append(f"field {number} of seed {seed}: {type(error).__name__}: {error}")
            tqdm.write(failures[-1].splitlines()[0])
    return failures


def _make_field(store, data, seed, number, peaks):
    """Simulate a whole field of 512 x 512 pixels; clean it while its visibilities exist."""
    setup = ObservationSetup(direction=pointing(seed, number))
    sources = PRIORS["independent"].draw(np.random.default_rng([seed, 2, number]))
    with tempfile.TemporaryDirectory(prefix="diffsky-fields-") as folder:
        pair = simulate_pair(
            sources.to_table(setup.wcs),
            setup,
            seed=int(seed * 1000 + number),
            timeout=TIMEOUT,
            work_dir=folder,
            keep_measurement_set=True,
        )
        store.write(number, pair)
        missing = [p for p in peaks if not has_catalogs(data, seed, number, [p])]
        found = clean_and_find(pair, peaks=missing) if missing else {}
    for peak, catalog in found.items():
        _write_catalog(_catalog_file(data, seed, number, peak), catalog)


def _write_catalog(path, catalog):
    """Write a catalogue, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".writing")
    catalog.write(scratch, format="ascii.ecsv", overwrite=True)
    os.replace(scratch, path)


def _catalog_file(data, seed, number, peak):
    return Path(data) / f"clean-pybdsf-{seed}" / f"{number:08d}-{peak:.2f}.ecsv"


@click.command()
@click.argument("data", type=click.Path(file_okay=False, path_type=Path))
@click.option("--test", default=100, show_default=True, help="Fields of the test.")
@click.option("--validation", default=20, show_default=True, help="Fields for the thresholds.")
@click.option(
    "--peak",
    "peaks",
    multiple=True,
    type=float,
    default=PEAKS,
    help="thresh_pix on the test fields, where not all; the validation fields have all.",
)
def main(data, test, validation, peaks):
    """Make the fields, and say what failed."""
    warnings.simplefilter("ignore", DiffskyWarning)
    failures = make_fields(data, VALIDATION, validation, PEAKS)
    failures += make_fields(data, CASA, test, peaks)
    for seed, n, wanted in ((VALIDATION, validation, PEAKS), (CASA, test, peaks)):
        there = sum(has_catalogs(data, seed, k, wanted) for k in range(n))
        print(f"seed {seed}: {there} of {n} fields with CLEAN + PyBDSF in {data}")
    if failures:
        raise click.ClickException("\n".join([f"{len(failures)} fields failed", *failures]))


if __name__ == "__main__":
    main()
