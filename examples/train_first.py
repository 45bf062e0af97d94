"""Train a generator of radio galaxies by their class, on the FIRST data set (V24 section 3.2).

The file is galaxy_data_h5.h5 of Griese et al. (2023), or a zip file that holds it; its images have
1.8 arcsec pixels and are relative to their peaks. The training split alone is used. The run folder
holds checkpoints and the log; the same command continues a run that was interrupted.

    python examples/train_first.py run-first galaxy_data_h5.zip

``--warm-start first`` goes on from weights, here the bundled ones; their own description says how
many steps they had, at which learning rates.
"""

from pathlib import Path

import astropy.units as u
import click
from radio_beam import Beam

from diffsky.generation import read_first

PIXEL, BEAM = 1.8 * u.arcsec, Beam(5.4 * u.arcsec)  # VLA FIRST
DATA = {
    "source": "VLA FIRST; training split of Griese et al. 2023, https://zenodo.org/records/7351724",
    "terms": "scholarly, educational and private non-commercial use",
}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(exists=True, dir_okay=False))
@click.option("--preset", help="Default compact; with --warm-start that of the weights.")
@click.option("--warm-start", help="Weights to start from.")
@click.option("--seed", default=1, show_default=True, help="Of order, noise and levels.")
@click.option("--steps", default=None, type=int, help="The preset's if not given.")
@click.option("--batch-size", default=None, type=int, help="The preset's if not given.")
@click.option("--learning-rate", default=None, type=float, help="The preset's if not given.")
@click.option("--device", default=None, help="cuda, mps or cpu; the first there is if not given.")
def main(folder, data, preset, warm_start, seed, steps, batch_size, learning_rate, device):
    """Train on DATA in FOLDER and save the weights to FOLDER/first."""
    from diffsky import RadioGalaxyGenerator

    if preset is not None and warm_start is not None:
        raise click.UsageError(f"--preset is {preset} beside --warm-start; expected one of them")
    everything = read_first(data, "train")
    train = everything.with_sources()
    click.echo(
        f"{len(train)} images; {len(everything) - len(train)} have no source and are left out"
    )
    if warm_start is None:
        generator = RadioGalaxyGenerator(preset or "compact", device=device)
    else:
        generator = RadioGalaxyGenerator.from_pretrained(warm_start, device=device)
    generator.fit(
        train.images,
        labels=train.labels,
        pixel_scale=PIXEL,
        beam=BEAM,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        checkpoint_dir=folder / "checkpoints",
        resume=True,
        seed=seed,
        warm_start=warm_start is not None,
    )
    generator.description_["data"] = DATA
    generator.save(folder / "first", name="first", half=True, overwrite=True)
    click.echo(f"saved {folder / 'first'}")


if __name__ == "__main__":
    main()
