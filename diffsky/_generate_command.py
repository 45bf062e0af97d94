"""The command ``diffsky generate``."""

from pathlib import Path

import click

from diffsky._console import plain_warnings, start
from diffsky._options import device_options, draw_seed, sampling_options, seed_option

__all__ = ["generate"]

_SUFFIXES = (".png", ".pdf", ".svg")


class _PeakFlux(click.ParamType):
    name = "flux"

    def convert(self, value, param, ctx):
        import astropy.units as u

        try:
            peak = u.Quantity(value)
            if peak.unit == u.one:
                return peak * u.Jy / u.beam
            if peak.unit.is_equivalent(u.Jy):
                peak = peak / u.beam
            return peak.to(u.Jy / u.beam)
        except (TypeError, ValueError, u.UnitConversionError):
            self.fail(f"{value!r} is no flux density; expected one such as 5mJy/beam", param, ctx)


def _check_gallery(ctx, param, value):
    if value is not None and Path(value).suffix.lower() not in _SUFFIXES:
        raise click.BadParameter(f"{value!r} is no picture; expected {', '.join(_SUFFIXES)}")
    if value is not None and not Path(value).absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {Path(value).parent}")
    return value


@click.command("generate", short_help="Draw images of radio galaxies.")
@click.argument("output", type=click.Path())
@click.option(
    "--weights", default="first", show_default=True, help="Name or folder of the weights."
)
@click.option("-n", "n", type=click.IntRange(min=1), default=100, show_default=True, help="Images.")
@click.option("--label", help="Class of the images; by default all classes alike.")
@click.option(
    "--peak-flux",
    type=_PeakFlux(),
    help="Peak flux density of the images, such as 5mJy/beam; by default drawn as in the training.",
)
@click.option("--guidance", type=float, help="By default that of the weights.")
@seed_option
@click.option(
    "--gallery",
    type=click.Path(dir_okay=False),
    callback=_check_gallery,
    help="Picture of the first images.",
)
@sampling_options
@click.option("--extrapolate", is_flag=True, help="Accept peaks beyond those of the training.")
@click.option("--resume", is_flag=True, help="Go on with a file that was interrupted.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@device_options
def generate(output, weights, n, label, peak_flux, seed, gallery, overwrite, **options):
    """Draw images of radio galaxies into OUTPUT, a FITS file or a zarr store.

    They are written as they are drawn. A run that was interrupted goes on with the same command,
    its seed and --resume.
    """
    if gallery is not None and Path(gallery).exists() and not overwrite:
        raise click.ClickException(f"{gallery} is there; pass --overwrite to replace it")
    if options["resume"] and seed is None:
        raise click.UsageError("--resume needs the --seed of the run")
    seed = draw_seed(seed)
    step = start(f"diffsky generate {output} with seed {seed}")
    run = {name: options.pop(name) for name in ("sampler", "n_steps", "device", "precision")}
    with plain_warnings():
        step(f"loading the weights {weights}")
        from diffsky import RadioGalaxyGenerator

        generator = RadioGalaxyGenerator.from_pretrained(weights, **run)
        step(f"drawing {n} images")
        asked = {"label": label, "peak_flux": peak_flux, "seed": seed}
        path = generator.write(output, n, **asked, overwrite=overwrite, **options)
        if gallery is not None:
            step("plotting")
            _write_gallery(path, gallery)
    click.echo(f"{n} images in {path}\nThe same with --seed {seed} repeats it.")
    step("done")


def _write_gallery(path, gallery):
    from matplotlib.figure import Figure

    from diffsky.generation import plot_gallery, read_images

    plot_gallery(read_images(path, 64), figure=Figure()).savefig(gallery, dpi=150)
