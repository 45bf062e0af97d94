"""The command ``diffsky``.

What is heavy is imported after the options were checked, so that help and refusals come at once.
"""

import contextlib
import sys
import warnings
from pathlib import Path

import click

from diffsky import __version__
from diffsky._console import fail, plain_warnings, start
from diffsky._evaluate_command import (
    check_output,
    check_validation,
    evaluate_stores,
    find_stores,
    format_summary,
    read_validation,
    save_calibrated,
    write_evaluation,
)
from diffsky._generate_command import generate
from diffsky._lotss_command import lotss
from diffsky._options import device_options, draw_seed, sampling_options, seed_option
from diffsky._simulate_command import draw_pairs, make_setup, setup_options

__all__ = ["main"]

WEIGHTS = "alma-band6"
STRATEGIES = ("median", "mean", "detect-aggregate")
_INTERRUPTED = 130
_BEAM_UNITS = ("arcsec", "arcsec", "deg")


class _Commands(click.Group):
    """A group whose errors are a message on stderr, without usage or traceback."""

    def main(self, *args, **options):
        options["standalone_mode"] = False
        try:
            code = super().main(*args, **options)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "diffsky"
            fail(f"{error.format_message()} Try '{path} --help'.", error.exit_code)
        except click.ClickException as error:
            fail(error.format_message(), error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            fail("interrupted", _INTERRUPTED)
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            fail(" ".join(str(error).split()), 1)
        sys.exit(code if isinstance(code, int) else 0)


class _NumberOrFile(click.ParamType):
    name = "number|file"

    def convert(self, value, param, ctx):
        with contextlib.suppress(ValueError):
            return float(value)
        return _FILE.convert(value, param, ctx)


class _Beam(click.ParamType):
    name = "major[,minor,pa]"

    def convert(self, value, param, ctx):
        import astropy.units as u

        try:
            numbers = [float(part) for part in value.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            expected = "MAJOR or MAJOR,MINOR,PA in arcsec, arcsec and deg"
            self.fail(f"{value!r} is no beam; expected {expected}", param, ctx)
        numbers = numbers if len(numbers) == 3 else [*numbers, *numbers, 0.0]
        return tuple(n * u.Unit(unit) for n, unit in zip(numbers, _BEAM_UNITS, strict=True))


_FILE = click.Path(exists=True, dir_okay=False)
_SHARED = {
    "output": click.option("--output", type=click.Path(), help="Folder to write into."),
    "seed": seed_option,
    "samples": click.option(
        "--n-samples",
        type=click.IntRange(min=1),
        default=20,
        show_default=True,
        help="Posterior samples to draw.",
    ),
    "weights": click.option(
        "--weights", default=WEIGHTS, show_default=True, help="Name or folder of the weights."
    ),
    "overwrite": click.option(
        "--overwrite", is_flag=True, help="Replace files of an earlier run in the folder."
    ),
}


def _shared_options(command):
    for option in reversed(_SHARED.values()):
        command = option(command)
    return command


@click.group(
    cls=_Commands, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="diffsky", message="%(prog)s %(version)s")
def main():
    """Sky models and source catalogues with uncertainties from dirty images."""


@main.command("demo", short_help="Observe a random sky with CASA, and find it again.")
@_shared_options
def _demo(output, seed, n_samples, weights, overwrite):
    """Observe a random sky with CASA, deconvolve it, compare with the truth.

    ALMA observes up to five faint sources in a new pointing with new noise. The folder, by
    default ./diffsky-demo-SEED, gets sky.fits, catalog.ecsv, catalog.reg, overview.png,
    dirty.fits and truth.ecsv.
    """
    from diffsky.products import format_comparison, product_folder

    seed = draw_seed(seed)
    folder = Path(output or f"diffsky-demo-{seed}")
    step = start(f"diffsky demo with seed {seed}")
    with plain_warnings(), product_folder(folder, overwrite=overwrite) as stage:
        result = _observe_and_predict(seed, n_samples, weights, step)
        step("plotting and writing")
        _write_demo(stage, **result)
    catalog, truth, beam = result["catalog"], result["truth"], result["observation"].beam
    click.echo()
    click.echo(format_comparison(catalog, truth, radius=(beam.major * beam.minor) ** 0.5 / 2))
    _name_folder(folder, seed, step)


@main.command("predict", short_help="Deconvolve a dirty image and list its sources.")
@click.argument("image", type=_FILE)
@_shared_options
@click.option(
    "--primary-beam",
    type=_NumberOrFile(),
    help="Primary beam; by default that of the telescope and frequency in the header.",
)
@click.option(
    "--psf",
    type=_FILE,
    help="Point-spread function: bright sources are subtracted with it in major cycles, an image "
    "of unusual weighting is reweighted, and the residual is written as well.",
)
@click.option(
    "--rms", type=_NumberOrFile(), help="Noise rms in Jy/beam; measured where it is not given."
)
@click.option(
    "--beam", type=_Beam(), help="Beam (FWHM in arcsec, PA in deg) where the header has none."
)
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default=STRATEGIES[0],
    show_default=True,
    help="Where the positions of the sources come from.",
)
@device_options
@click.option("--regions", type=_FILE, help="Region file; sources inside it alone are listed.")
def _predict(image, output, seed, overwrite, **options):
    """Deconvolve the dirty image in the FITS file IMAGE and list its sources.

    IMAGE is in Jy/beam and not corrected for the primary beam. The folder, by default
    ./NAME-diffsky, gets sky.fits, catalog.ecsv, catalog.reg and overview.png, and with a PSF
    residual.fits.
    """
    from diffsky.products import format_catalog, product_folder, write_products

    seed = draw_seed(seed)
    name = Path(image).name.removesuffix(".gz").removesuffix(".fits")
    folder = Path(output or f"{name}-diffsky")
    step = start(f"diffsky predict {image} with seed {seed}")
    with plain_warnings(), product_folder(folder, overwrite=overwrite) as stage:
        dirty, sky, catalog, residual = _predict_file(image, seed, step, **options)
        step("plotting and writing")
        images = {} if residual is None else {"residual.fits": residual}
        figure = _overview(dirty, sky, catalog=catalog, residual=residual)
        write_products(stage, sky, catalog, figure, images=images)
    click.echo()
    click.echo(format_catalog(catalog))
    _name_folder(folder, seed, step)


@main.command("simulate", short_help="Make training pairs with CASA.")
@click.argument("store", type=click.Path())
@click.option("--n", type=click.IntRange(min=1), required=True, help="Pairs, with those there are.")
@click.option(
    "--prior", default="independent", show_default=True, help="Name of a sky prior, or JSON file."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CASA processes, of one core each.",
)
@click.option("--log-dir", type=click.Path(), help="Folder for CASA's logs, one per pair.")
@setup_options
def _simulate(store, n, prior, seed, workers, log_dir, **options):
    """Make pairs of a dirty image and its true sky with CASA, into the folder STORE.

    Each has its own sky and its own noise. The same command goes on where it was interrupted,
    and with a larger --n it appends.
    """
    step = start(f"diffsky simulate {store} with seed {seed}")
    with plain_warnings():
        setup = make_setup(options)
        step("observing with CASA")
        pairs = draw_pairs(
            store, setup, prior=prior, n=n, seed=seed, workers=workers, log_dir=log_dir
        )
    click.echo(f"{len(pairs)} pairs in {store}")
    step("done")


@main.command("evaluate", short_help="Measure how good weights are on simulated pairs.")
@click.argument("store", type=click.Path(exists=True, file_okay=False))
@_SHARED["weights"]
@click.option(
    "--output", type=click.Path(), required=True, help="Folder for the report and its results."
)
@_SHARED["samples"]
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--n", type=click.IntRange(min=1), help="First pairs to take.  [default: all]")
@click.option(
    "--validation",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of a report on other pairs, which gives thresholds and recalibration.",
)
@click.option(
    "--calibrate",
    type=click.Path(file_okay=False),
    help="Folder for the weights with a recalibration fitted to these pairs.",
)
@click.option(
    "--psf", "use_psf", is_flag=True, help="Give the weights the true PSF too, for bright sources."
)
@sampling_options
@device_options
@click.option("--overwrite", is_flag=True, help="Replace results of other weights or options.")
def _evaluate(
    store, weights, output, n_samples, seed, n, validation, calibrate, use_psf, overwrite, **run
):
    """Measure how good weights are on the simulated pairs in the folder STORE.

    STORE is what diffsky simulate made, or a folder of such as a sweep makes it. The folder gets
    report.html, figures and tables, and in its folder fields the result of each pair: the same
    command goes on where it was interrupted. A matched filter with the true PSF is evaluated
    beside the weights.
    """
    step = start(f"diffsky evaluate {store} with seed {seed}")
    with plain_warnings():
        check_output(output, overwrite=overwrite, weights=calibrate)
        if validation is not None:
            read_validation(validation)  # refused now rather than after the sampling
        stores = find_stores(store)
        step(f"loading the weights {weights}")
        from diffsky import DiffusionDeconvolver
        from diffsky.evaluation import require_tarp

        require_tarp()
        deconvolver = DiffusionDeconvolver.from_pretrained(weights, **run)
        how = {"n_samples": n_samples, "seed": seed, "use_psf": use_psf}
        check_validation(validation, deconvolver, stores, **how)
        results, settings = evaluate_stores(
            deconvolver, stores, output, n=n, overwrite=overwrite, step=step, **how
        )
        if not results:
            raise click.ClickException(f"no pair of {store} can be evaluated")
        step("making the report")
        known = deconvolver.recalibration(n_samples=n_samples)
        report = write_evaluation(
            results, settings, output, validation=validation, recalibration=known
        )
        if calibrate is not None:
            save_calibrated(deconvolver, report, store, calibrate, overwrite=overwrite)
            step(f"weights with a recalibration are in {calibrate}")
    click.echo(format_summary(report))
    click.echo(f"\nWritten to {output}: see {Path(output) / 'report.html'}")
    step("done")


main.add_command(generate)
main.add_command(lotss)


def _observe_and_predict(seed, n_samples, weights, step):
    step(f"loading the weights {weights}")
    from diffsky import DiffusionDeconvolver
    from diffsky.products import truth_catalog
    from diffsky.simulation import CasaError, ObservationSetup
    from diffsky.simulation.demo import render_truth, simulate_pointing

    deconvolver = DiffusionDeconvolver.from_pretrained(weights)
    setup = ObservationSetup()
    step("observing a new sky with CASA")
    try:
        sources, observation = simulate_pointing(seed, setup=setup)
    except CasaError as error:
        raise click.ClickException(str(error)) from error
    step(f"drawing {n_samples} samples of the sky")
    sky, catalog = deconvolver.predict(
        observation.dirty, primary_beam=observation.primary_beam, n_samples=n_samples, seed=seed
    )
    meta = {"seed": seed, "observation": observation.parameters}
    columns = sources.to_table(setup.wcs)
    true_sky = render_truth(sources, setup, kernel_fwhm=sky.meta["kernel_fwhm"])
    true_sky.mask, true_sky.meta["beam"] = sky.mask, observation.beam
    return {
        "observation": observation,
        "sky": sky,
        "catalog": catalog,
        "truth": truth_catalog(columns, observation, rms=sky.meta["rms"], meta=meta),
        "true_sky": true_sky,
    }


def _write_demo(stage, observation, sky, catalog, truth, true_sky):
    from diffsky.products import write_products

    figure = _overview(observation.dirty, sky, catalog=catalog, truth=truth, true_sky=true_sky)
    more = {"images": {"dirty.fits": observation.dirty}, "catalogs": {"truth.ecsv": truth}}
    write_products(stage, sky, catalog, figure, **more)


def _predict_file(image, seed, step, *, psf, beam, regions, weights, device, precision, **options):
    step(f"reading {image}")
    from diffsky.exceptions import DiffskyWarning
    from diffsky.images import load_image, load_map, load_psf

    observation = {name: options.pop(name) for name in ("primary_beam", "rms")}
    dirty = load_image(image, beam=beam)
    for name, value in observation.items():
        if value is not None:
            observation[name] = load_map(value, like=dirty, name=name)
    if psf is not None:
        load_psf(psf, like=dirty)  # refused now rather than after the sampling
    regions = None if regions is None else _read_regions(regions)
    step(f"loading the weights {weights}")
    from diffsky import DiffusionDeconvolver

    deconvolver = DiffusionDeconvolver.from_pretrained(weights, device=device, precision=precision)
    step(f"drawing {options['n_samples']} samples of the sky")
    sky, catalog = deconvolver.predict(
        dirty, seed=seed, psf=psf, regions=regions, **options, **observation
    )
    residual = None
    if psf is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DiffskyWarning)  # predict has given the same ones
            residual = deconvolver.residual(dirty, sky, psf=psf, **observation)
    return dirty, sky, catalog, residual


def _read_regions(path):
    from regions import Regions

    try:
        return Regions.read(path)
    except Exception as error:  # each reader of regions has errors of its own
        reason = " ".join(str(error).split())
        raise click.ClickException(
            f"{path} is no region file; expected DS9, CRTF or FITS regions ({reason})"
        ) from error


def _overview(dirty, sky, **more):
    from matplotlib.figure import Figure

    from diffsky.visualization import plot_overview

    return plot_overview(dirty, sky, **more, figure=Figure())[0].figure


def _name_folder(folder, seed, step):
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    click.echo(f"\nWritten to {folder}: {names}\nThe same with --seed {seed} repeats it.")
    step("done")
