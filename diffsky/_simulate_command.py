"""The command ``diffsky simulate``: options to a set-up, and a store of pairs."""

from dataclasses import fields
from pathlib import Path

import click

__all__ = ["QUANTITIES", "draw_pairs", "make_setup", "setup_options"]

# Options of the set-up that are quantities, with what the default has.
QUANTITIES = {
    "frequency": "230GHz",
    "bandwidth": "1.875GHz",
    "total_time": "20min",
    "integration": "10s",
    "hour_angle": "0h",
    "pwv": "1.796mm",
    "cell": "0.1arcsec",
}
_TEXTS = {
    "array": "Antenna configuration: the path of a .cfg file, or a name of CASA's.",
    "direction": "Pointing, such as 'J2000 10h00m28.6s +02d12m21.0s'.  [default: COSMOS]",
}


class _Quantity(click.ParamType):
    name = "quantity"

    def convert(self, value, param, ctx):
        import astropy.units as u

        if isinstance(value, u.Quantity):
            return value
        try:
            quantity = u.Quantity(value)
        except (TypeError, ValueError):
            quantity = None
        if quantity is None or quantity.unit == u.one:
            example = QUANTITIES[param.name]
            self.fail(f"{value!r} has no unit; expected a quantity such as {example}", param, ctx)
        if param.name == "hour_angle":
            quantity = quantity.value * u.hourangle if quantity.unit == u.h else quantity
        return quantity


def setup_options(command):
    """Give a command the options of an `~diffsky.simulation.ObservationSetup`."""
    options = [click.option(f"--{name}", help=text) for name, text in _TEXTS.items()]
    options += [
        click.option(f"--{name.replace('_', '-')}", type=_Quantity(), help=f"[default: {default}]")
        for name, default in QUANTITIES.items()
    ]
    options += [
        click.option("--weighting", type=click.Choice(["natural", "uniform", "briggs"])),
        click.option("--robust", type=float, help="Of Briggs weights, -2 to 2.  [default: 0.5]"),
        click.option("--image-size", type=int, help="Pixels along a side.  [default: 512]"),
        click.option("--pblimit", type=float, help="[default: 0.2]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def make_setup(options):
    """Take the set-up out of the options of a command.

    Parameters
    ----------
    options : dict
        What `setup_options` gave; its entries are removed. None takes the default.

    Returns
    -------
    `~diffsky.simulation.ObservationSetup`
    """
    from diffsky.simulation import ObservationSetup

    names = [field.name for field in fields(ObservationSetup) if field.name in options]
    given = {name: options.pop(name) for name in names}
    return ObservationSetup(**{name: value for name, value in given.items() if value is not None})


def draw_pairs(store, setup, *, prior, n, seed, workers, log_dir):
    """Make pairs of a prior by CASA.

    Parameters
    ----------
    store : path-like
        Folder of the store.
    setup : `~diffsky.simulation.ObservationSetup`
        What is observed how.
    prior : str
        A name of `~diffsky.simulation.PRIORS`, or a JSON file.
    n, seed, workers, log_dir
        As `~diffsky.simulation.simulate_pairs` takes them.

    Returns
    -------
    `~diffsky.simulation.PairStore`
        The store.
    """
    from diffsky.simulation import PRIORS, Prior, simulate_pairs

    if prior in PRIORS:
        sky = PRIORS[prior]
    elif Path(prior).is_file():
        sky = Prior.from_json(Path(prior).read_text())
    else:
        raise click.ClickException(
            f"prior is {prior!r}; expected one of {', '.join(PRIORS)}, or a JSON file"
        )
    return simulate_pairs(sky, setup, seed=seed, n=n, store=store, workers=workers, log_dir=log_dir)
