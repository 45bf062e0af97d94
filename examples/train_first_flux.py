"""Train a generator of radio galaxies by their peak flux density, on cutouts of VLA FIRST.

The file is one for `diffsky.generation.read_cutout_cube`, with the cutouts around the sources of
MiraBest (Porter & Scaife 2023). They are brought to 80 x 80 pixels of 1.5 arcsec and go through the
selection of V24 section 3.1. Every tenth one is put aside for validation. The run folder holds
checkpoints and the log; the same command continues a run that was interrupted.

    python examples/train_first_flux.py run-first-flux cutouts.fits
"""

from pathlib import Path

import astropy.units as u
import click
from radio_beam import Beam

from diffsky.generation import read_cutout_cube

PIXEL, BEAM = 1.5 * u.arcsec, Beam(5.4 * u.arcsec)
DATA = {
    "source": "VLA FIRST; cutouts around the sources of MiraBest (Porter & Scaife 2023)",
    "terms": "scholarly, educational and private non-commercial use",
}


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

    images, selection = read_cutout_cube(data, "train", pixel=PIXEL)
    click.echo("\n".join(selection.to_table().pformat()))
    generator = RadioGalaxyGenerator(preset, device=device)
    generator.fit(
        images,
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
    generator.description_["data"] = DATA
    generator.save(folder / "first-flux", name="first-flux", half=True, overwrite=True)
    click.echo(f"saved {folder / 'first-flux'}")


if __name__ == "__main__":
    main()
