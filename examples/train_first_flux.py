"""Train a generator of radio galaxies by their peak flux density, on cutouts of VLA FIRST.

The file has a cube CUTOUTS in Jy/beam with CDELT2 in degrees, as that of the cutouts around the
sources of MiraBest (Porter & Scaife 2023), each about its source. They are brought to 80 x 80
pixels of 1.5 arcsec and go through the selection of V24 section 3.1. Every tenth one is put aside
for validation. The run folder holds checkpoints and the log; the same command continues a run that
was interrupted.

    python examples/train_first_flux.py run-first-flux cutouts.fits
"""

from pathlib import Path

import astropy.units as u
import click
import numpy as np
from astropy.io import fits
from radio_beam import Beam
from scipy.ndimage import map_coordinates

from diffsky.generation import select_cutouts

SIZE, PIXEL, BEAM = 80, 1.5 * u.arcsec, Beam(5.4 * u.arcsec)
VALIDATION = 10  # one image of so many


def read_cutouts(path):
    """Images in Jy/beam of 1.5 arcsec pixels that pass the selection, and what it removed."""
    with fits.open(path) as file:
        images = np.asarray(file["CUTOUTS"].data, dtype=float)
        ratio = PIXEL.to_value(u.deg) / abs(file["CUTOUTS"].header["CDELT2"])
    # Surface brightness is interpolated: a pixel holds Jy/beam, and the beam stays.
    places = (images.shape[-1] - 1) / 2 + (np.arange(SIZE) - (SIZE - 1) / 2) * ratio
    grid = np.meshgrid(places, places, indexing="ij")
    images = np.array([map_coordinates(one, grid, order=3) for one in images], dtype=np.float32)
    found = select_cutouts(images)
    return images[found.kept], found.to_table()


def split(images):
    """Images for training, and those for validation."""
    aside = np.arange(len(images)) % VALIDATION == 0
    return images[~aside], images[aside]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(exists=True, dir_okay=False))
@click.option("--preset", default="compact", show_default=True)
@click.option("--steps", default=None, type=int, help="The preset's if not given.")
@click.option("--batch-size", default=None, type=int, help="The preset's if not given.")
@click.option("--learning-rate", default=None, type=float, help="The preset's if not given.")
@click.option("--device", default=None, help="cuda, mps or cpu; the first there is if not given.")
def main(folder, data, preset, steps, batch_size, learning_rate, device):
    """Train on DATA in FOLDER and save the weights to FOLDER/first-flux."""
    from diffsky import RadioGalaxyGenerator

    images, removed = read_cutouts(data)
    click.echo("\n".join(removed.pformat()))
    generator = RadioGalaxyGenerator(preset, device=device)
    generator.fit(
        split(images)[0],
        peak_flux=True,
        pixel_scale=PIXEL,
        beam=BEAM,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        checkpoint_dir=folder / "checkpoints",
        resume=True,
        seed=1,
    )
    generator.save(folder / "first-flux", name="first-flux", half=True, overwrite=True)
    click.echo(f"saved {folder / 'first-flux'}")


if __name__ == "__main__":
    main()
