"""Train a generator on the sources of LoTSS: mosaics and a catalogue to weights (V24).

What ``diffsky lotss fetch OUT ...`` downloads is what this takes:

    python examples/train_lotss.py run-lotss OUT/mosaics OUT/catalog.fits

Resolved sources are cut out and selected as in V24 section 3.1, and an image is conditioned on its
peak flux density. The run folder holds the cutouts, checkpoints, the log and the weights; the same
command continues a run that was interrupted. Other mosaics or sources want another run folder.
"""

from pathlib import Path

import click

from diffsky.generation import PRESETS, make_cutouts

NAME = "lotss"


def find_mosaics(folder, catalog):
    """FITS files of a folder, without the catalogue."""
    mosaics = sorted(path for path in folder.glob("*.fits") if not path.samefile(catalog))
    if not mosaics:
        raise click.ClickException(f"{folder} has no FITS files; expected mosaics of LoTSS")
    return mosaics


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("mosaics", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("catalog", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--preset", type=click.Choice(list(PRESETS)), default="compact", show_default=True)
@click.option("--steps", default=None, type=int, help="The preset's if not given.")
@click.option("--batch-size", default=None, type=int, help="The preset's if not given.")
@click.option("--learning-rate", default=None, type=float, help="The preset's if not given.")
@click.option("--all-sources", is_flag=True, help="Take those that are not resolved too.")
@click.option("--device", default=None, help="cuda, mps or cpu; the first there is if not given.")
def main(folder, mosaics, catalog, preset, steps, batch_size, learning_rate, all_sources, device):
    """Cut the sources of CATALOG out of MOSAICS, train in FOLDER and save to FOLDER/lotss."""
    from diffsky import RadioGalaxyGenerator

    cutouts = make_cutouts(
        find_mosaics(mosaics, catalog), catalog, resolved=not all_sources, store=folder / "cutouts"
    )
    click.echo("\n".join(cutouts.selection.pformat(max_lines=-1, max_width=-1)))
    if len(cutouts) == 0:
        raise click.ClickException(f"no source of {catalog} in {mosaics} passes the selection")
    generator = RadioGalaxyGenerator(preset, device=device)
    generator.fit(
        cutouts.images,
        peak_flux=True,
        pixel_scale=cutouts.pixel_scale,
        beam=cutouts.beam,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        checkpoint_dir=folder / "checkpoints",
        resume=True,
    )
    generator.save(folder / NAME, name=NAME, half=True, overwrite=True)
    click.echo(f"saved {folder / NAME}")


if __name__ == "__main__":
    main()
