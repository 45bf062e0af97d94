"""Fluxes of sources brighter and larger than those of the protocol, in the fast instrument.

    python benchmarks/flux_range.py

Each field has three sources of one S/N and one size (FWHM in beams). The S/N is that of the peak
which the source alone would have at the pointing centre. A source is found where the catalogue has
a row of reliability 0.5 or more within half a beam, or half its FWHM, whichever is larger; other
such rows are false or pieces. Fluxes over the true ones have their median, the standard deviation
of the sources, and the claimed error beside them. With ``psf=`` images that peak above 30 rms are
predicted in major cycles.
"""

import time
import warnings
from dataclasses import replace

import astropy.units as u
import click
import numpy as np
from fields import pointing
from telescope import RMS, Telescope

from diffsky import DiffusionDeconvolver
from diffsky.exceptions import DiffskyWarning
from diffsky.simulation import PRIORS, ObservationSetup

SEED, N_SOURCES, HALF_WIDTH = 9007, 3, 7.0  # arcsec
SNR, SIZES = (8, 15, 30, 60, 120), (0.6, 1.2, 2.0)
LEAST_WITH_PSF = 30  # S/N from which major cycles make a difference


def set_sources(telescope, snr, size):
    """Let the fields of the telescope have sources of this S/N and FWHM alone."""
    flux, fwhm = snr * RMS * (1 + size**2), size * telescope.fwhm
    telescope.prior = replace(
        PRIORS["independent"], n_sources=(N_SOURCES, N_SOURCES), flux=(flux, flux),
        fwhm=(fwhm, fwhm), half_width=HALF_WIDTH, step=0.0,
    )  # fmt: skip


def match(catalog, sources, radius):
    """Row of the catalogue of each source, or None."""
    rows = []
    for position in sources["sky_centroid"]:
        distance = position.separation(catalog["sky_centroid"]).to_value(u.arcsec)
        near = len(catalog) and distance.min() < radius
        rows.append(int(distance.argmin()) if near else None)
    return rows


def measure(deconvolver, telescope, size, fields, options, psf):
    """Sources found, other reliable rows, fluxes and claimed errors over the true fluxes."""
    fluxes, errors, others = [], [], 0
    for number in range(fields):
        pair = telescope.pair(SEED, number)
        known = {"psf": pair.psf} if psf else {}
        _, catalog = deconvolver.predict(
            pair.dirty, primary_beam=pair.primary_beam, rms=RMS * u.Jy / u.beam, **known, **options
        )
        catalog = catalog[catalog["reliability"] >= 0.5]
        rows = match(catalog, pair.sources, telescope.fwhm * max(size, 1) / 2)
        found = [(row, k) for k, row in enumerate(rows) if row is not None]
        others += len(catalog) - len({row for row, _ in found})
        for row, k in found:
            fluxes.append(float(catalog["flux"][row] / pair.sources["flux"][k]))
            errors.append(float(catalog["flux_err"][row] / pair.sources["flux"][k]))
    return fluxes, errors, others


@click.command()
@click.option("--weights", default="alma-band6", show_default=True)
@click.option("--fields", default=4, show_default=True, help="Fields for each row.")
@click.option("--n-samples", default=20, show_default=True)
@click.option("--device", default=None)
def main(weights, fields, n_samples, device):
    """Print one row for each S/N and size, without and with the PSF."""
    warnings.simplefilter("ignore", DiffskyWarning)
    start = time.perf_counter()
    deconvolver = DiffusionDeconvolver.from_pretrained(weights, device=device)
    telescope = Telescope(ObservationSetup(direction=pointing(SEED, 0)), rms=RMS)
    options = {"n_samples": n_samples, "seed": 1, "progress": False}
    print(f"weights {weights} {deconvolver.description_['version']}, {n_samples} samples, "
          f"seed {SEED}, {fields} fields of {N_SOURCES} sources for each row")  # fmt: skip
    print(f"{'S/N':>5}{'FWHM':>6}{'psf':>5}{'found':>8}{'flux':>7}{'scatter':>9}{'claimed':>9}"
          f"{'others':>8}")  # fmt: skip
    for snr in SNR:
        for size in SIZES:
            set_sources(telescope, snr, size)
            for psf in (False, True) if snr >= LEAST_WITH_PSF else (False,):
                fluxes, errors, others = measure(
                    deconvolver, telescope, size, fields, options, psf
                )  # fmt: skip
                numbers = (np.median(fluxes), np.std(fluxes), np.median(errors)) if fluxes else ()
                cells = "".join(f"{n:>{w}.2f}" for n, w in zip(numbers, (7, 9, 9), strict=False))
                found = f"{len(fluxes)}/{fields * N_SOURCES}"
                print(f"{snr:>5}{size:>6}{'yes' if psf else 'no':>5}{found:>8}{cells}{others:>8}",
                      flush=True)  # fmt: skip
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
