"""The [CII] source of a real ALMA image, beside what CLEAN measured.

DIFFSKY_DATA=... python benchmarks/pisco.py
"""

import os
from pathlib import Path

import astropy.units as u
import click
import numpy as np
from astropy.io import fits

from diffsky import DiffusionDeconvolver
from diffsky.deconvolution import STRATEGIES
from diffsky.images import load_image, load_psf
from diffsky.instrument import instrument_from_uv
from diffsky.simulation import ObservationSetup, observe_uv


@click.command()
@click.option("--weights", default="alma-band6", show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(weights, seed):
    """Print position and flux of the brightest source for every strategy."""
    if "DIFFSKY_DATA" not in os.environ:
        raise click.ClickException("set DIFFSKY_DATA to the folder of the real data")
    stem = str(Path(os.environ["DIFFSKY_DATA"]) / "alma_pisco" / "Pisco.cii.455kms")
    clean = load_image(f"{stem}.image.fits")
    peak = clean.wcs.pixel_to_world(*np.unravel_index(np.nanargmax(clean.data), clean.shape)[::-1])
    model = np.nansum(fits.getdata(f"{stem}.model.fits"))
    print(f"CLEAN: peak at {peak.to_string('hmsdms')}, model {1e3 * model:.2f} mJy")
    print_psfs(load_psf(f"{stem}.psf.fits", like=clean), clean)
    deconvolver = DiffusionDeconvolver.from_pretrained(weights)
    for strategy in STRATEGIES:
        sky, catalog = deconvolver.predict(
            f"{stem}.dirty.fits",
            primary_beam=f"{stem}.pb.fits",
            psf=f"{stem}.psf.fits",
            strategy=strategy,
            seed=seed,
        )
        source = catalog[np.argmax(catalog["flux"])]
        offset = source["sky_centroid"].separation(peak).to(u.arcsec)
        interval = u.Quantity([source["flux_lower"], source["flux_upper"]]).to(u.mJy)
        near = catalog["sky_centroid"].separation(peak) < 1.2 * u.arcsec
        print(
            f"{strategy}: {offset:.3f} from the CLEAN peak, flux {source['flux'].to(u.mJy):.2f} "
            f"({interval[0].value:.2f} to {interval[1].value:.2f}), "
            f"reliability {source['reliability']:.2f}; all within 1.2 arcsec "
            f"{catalog['flux'][near].sum().to(u.mJy):.2f}; sky within it "
            f"{1e3 * aperture_sum(sky, peak):.2f} mJy; residual rms "
            f"{1e6 * sky.meta['residual_rms']:.1f} uJy/beam, noise {1e6 * sky.meta['rms']:.1f}"
        )
        images = {name: f"{stem}.{name}.fits" for name in ("psf", "pb")}
        dirty = load_image(f"{stem}.dirty.fits")
        left = deconvolver.residual(dirty, sky, psf=images["psf"], primary_beam=images["pb"])
        print(f"  the dirty image has {fitting_factor(dirty, left, peak):.2f} of it")


def print_psfs(psf, clean):
    """Print how much of each PSF lies within two beams: here, and in D24's observation."""
    pixel = clean.meta["pixel_scale"].to_value(u.arcsec)
    print(f"PSF within two beams: {psf_content(psf, clean.meta['beam'], pixel):.2f} beam areas")
    known, cell = observe_uv(ObservationSetup()), 0.1
    instrument = instrument_from_uv(
        known.uv, weights=known.weights, pixel_scale=cell, primary_beam=np.ones((512, 512)), rms=0.0
    )
    content = psf_content(instrument.psf((257, 257)).numpy(), known.beam, cell)
    print(f"  that of D24's observation, of the kind trained on: {content:.2f}")


def psf_content(psf, beam, pixel):
    """Sum of a PSF within two beams of its peak, in areas of the Gaussian beam."""
    fwhm = np.sqrt(beam.major * beam.minor).to_value(u.arcsec)
    y, x = np.indices(psf.shape)
    distance = np.hypot(y - psf.shape[0] // 2, x - psf.shape[1] // 2) * pixel
    area = np.pi / (4 * np.log(2)) * fwhm**2
    return float(psf[distance < 2 * fwhm].sum() * pixel**2 / area)


def fitting_factor(dirty, residual, centre, radius=0.8):
    """Factor by which the re-observed sky fits the dirty image best within a radius in arcsec."""
    y, x = np.indices(dirty.shape)
    distance = dirty.wcs.pixel_to_world(x, y).separation(centre).to_value(u.arcsec)
    near = (distance < radius) & ~residual.mask
    model = dirty.data[near] - residual.data[near]
    return float((dirty.data[near] * model).sum() / (model**2).sum())


def aperture_sum(sky, centre, radius=1.2):
    """Sum of the sky in Jy within a radius in arcsec."""
    y, x = np.indices(sky.shape)
    distance = sky.wcs.pixel_to_world(x, y).separation(centre).to_value(u.arcsec)
    return float(sky.data[distance < radius].sum())


if __name__ == "__main__":
    main()
