"""One source of S/N 1000 and five of S/N 8 in a field, and extended sources with a foreign PSF.

python benchmarks/bright_sources.py
"""

import time
import warnings

import astropy.units as u
import click
import numpy as np
import torch
from astropy.nddata import CCDData
from astropy.wcs import WCS
from radio_beam import Beam

from diffsky import DiffusionDeconvolver
from diffsky.backend import sample_generator
from diffsky.deconvolution.psf_checks import fit_beam, psf_content
from diffsky.exceptions import DiffskyWarning
from diffsky.instrument import Instrument, load_psf_bank
from diffsky.simulation import SourceList, render_sources

SIZE, CELL, RMS, SEED = 128, 0.1, 1e-4, 9004
FAINT = [(-40.2, 20.1), (35.4, -33.3), (-25.6, -38.2), (30.7, 40.4), (-10.1, 30.9)]
GRID = [(x, y) for y in (-40, 0, 40) for x in (-40, 0, 40)]
PEDESTAL, PEDESTAL_FWHM = 0.35, 15.0  # share of the peak, and FWHM in pixels


@click.command()
@click.option("--weights", default="alma-band6", show_default=True)
@click.option("--fields", default=6, show_default=True)
@click.option("--n-samples", default=20, show_default=True)
@click.option("--snr", default=1000.0, show_default=True, help="Of the bright source.")
def main(weights, fields, n_samples, snr):
    """Print what is found with and without the PSF, and fluxes where the PSF has a pedestal."""
    warnings.simplefilter("ignore", DiffskyWarning)
    deconvolver = DiffusionDeconvolver.from_pretrained(weights)
    sources = [(10.3, 5.6, snr, 0)] + [(x, y, 8, 0) for x, y in FAINT]
    rows = natural_rows(fields)
    for rms in (RMS, None):
        print(f"bright field, rms {'given' if rms else 'measured'}")
        for number, row in enumerate(rows):
            image, psf, _ = observe(row, sources, number)
            for name, response in (("with psf", psf), ("without", None)):
                options = {"psf": response, "rms": rms, "n_samples": n_samples}
                line = bright_line(deconvolver, image, options, sources)
                print(f"  field {number}, {name}: {line}")
    for pedestal in (0.0, PEDESTAL):
        ratios = {0: [], 1: [], 2: []}
        for number, row in enumerate(rows):
            extended_field(deconvolver, row, number, pedestal, n_samples, ratios)
        for size, values in ratios.items():
            values = np.array(values)
            print(
                f"pedestal {pedestal:g}, FWHM {size} beams: {len(values)} found, flux over truth "
                f"{np.median(values[:, 0]):.2f} without, {np.median(values[:, 1]):.2f} with psf"
            )


def natural_rows(n):
    """Entries of the bundled bank, evenly spread over those of natural weighting."""
    natural = np.flatnonzero(load_psf_bank().columns["weighting"] == "natural")
    return natural[np.linspace(0, len(natural) - 1, n).astype(int)]


def observe(row, sources, number, pedestal=0.0):
    """Observe sources (x, y, flux in rms, FWHM in beams) with a PSF of the bank."""
    bank = load_psf_bank()
    weights, noise_weights = bank.weights[row], bank.noise_weights[row]
    if pedestal:
        weights = (1 - pedestal) * unit_peak(weights)
        weights = weights + pedestal * unit_peak(gaussian(PEDESTAL_FWHM, len(weights)))
        noise_weights = weights
    instrument = Instrument(weights, torch.ones(SIZE, SIZE), RMS, noise_weights)
    psf = instrument.psf().numpy()
    major, minor = fit_beam(psf)
    beam = np.sqrt(major * minor)
    x, y, flux, size = np.transpose(sources)
    skies = SourceList(x, y, flux * RMS, size * beam, size * beam, np.zeros(len(x)))
    owner = np.zeros(len(x), dtype=int)
    sky = render_sources(skies, owner, 1, (SIZE, SIZE), kernel_fwhm=0.4 * beam)
    noise = [sample_generator(SEED, number)]
    data = instrument.observe(sky, noise, kernel_fwhm=0.4 * beam)[0].numpy()
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---SIN", "DEC--SIN"], ["deg", "deg"]
    wcs.wcs.crval, wcs.wcs.crpix = [150.1, 2.2], [SIZE // 2 + 1, SIZE // 2 + 1]
    wcs.wcs.cdelt = [-CELL / 3600, CELL / 3600]
    meta = {"beam": Beam(major * CELL * u.arcsec, minor * CELL * u.arcsec, 0 * u.deg)}
    return CCDData(data, unit="Jy/beam", wcs=wcs, meta=meta), psf, beam


def gaussian(fwhm, n):
    """uv weights of a PSF that is a round Gaussian."""
    k2 = torch.fft.fftfreq(n)[:, None] ** 2 + torch.fft.rfftfreq(n) ** 2
    return torch.exp(-(np.pi**2) * fwhm**2 * k2 / (4 * np.log(2)))


def unit_peak(weights):
    """Weights of the same PSF with its peak of 1 on their own grid."""
    return weights / torch.fft.irfft2(weights + 0j, s=(len(weights), len(weights)))[0, 0]


def predict(deconvolver, image, options, sources, radius):
    """Sky, catalogue, and for each source the row that is it, or None."""
    sky, catalog = deconvolver.predict(image, primary_beam=1.0, seed=1, **options)
    rows = []
    for x, y, *_ in sources:
        offset = np.hypot(
            catalog["x_centroid"] - x - SIZE // 2, catalog["y_centroid"] - y - SIZE // 2
        )
        near = len(catalog) and offset.min() < radius
        rows.append(int(np.argmin(offset)) if near else None)
    return sky, catalog, rows


def bright_line(deconvolver, image, options, sources):
    """Say what was found of a bright field."""
    start = time.perf_counter()
    sky, catalog, rows = predict(deconvolver, image, options, sources, radius=2.1)
    seconds = time.perf_counter() - start
    reliable = np.asarray(catalog["reliability"]) > 0.5
    found = [row for row in rows if row is not None and reliable[row]]
    pulls = [
        abs(catalog["flux"][row].value / RMS - source[2]) / (catalog["flux_err"][row].value / RMS)
        for source, row in zip(sources, rows, strict=True)
        if row in found
    ]
    line = (
        f"{len(found)} of {len(sources)} found, {reliable.sum() - len(found)} false, "
        f"largest flux error {max(pulls, default=np.nan):.1f} sigma, "
        f"rms {sky.meta['rms'] / RMS:.2f}"
    )
    if "residual_rms" in sky.meta:
        line += (
            f", residual rms {sky.meta['residual_rms'] / RMS:.3f}, "
            f"peak {sky.meta['residual_peak']:.1f}"
        )
    return f"{line}, {seconds:.0f} s"


def extended_field(deconvolver, row, number, pedestal, n_samples, ratios):
    """Nine sources of 0, 1 and 2 beams and S/N 12: their fluxes over the truth."""
    shift = np.random.default_rng([SEED, number]).uniform(-3, 3, (9, 2))
    sizes = [(k + number) % 3 for k in range(9)]
    sources = [
        (x + dx, y + dy, 12 * (1 + size**2), size)
        for (x, y), (dx, dy), size in zip(GRID, shift, sizes, strict=True)
    ]
    image, psf, beam = observe(row, sources, number, pedestal)
    content = psf_content(psf, beam)
    print(f"  field {number}: the PSF holds {content:.2f} beam areas within two beams")
    results = []
    for response in (None, psf):
        options = {"psf": response, "rms": RMS, "n_samples": n_samples}
        results.append(predict(deconvolver, image, options, sources, radius=3)[1:])
    for k, source in enumerate(sources):
        if all(rows[k] is not None for _, rows in results):
            truth = source[2] * RMS
            ratios[source[3]].append([c["flux"][rows[k]].value / truth for c, rows in results])


if __name__ == "__main__":
    main()
