"""Make the bundled bank of point-spread functions.

CASA observes the uv points of ALMA configurations at declinations from -70 to +30 deg and hour
angles up to 2 h; natural and Briggs weights of the same points are gridded on the working grid.
Configuration 4 of every cycle and every configuration of the ACA stay out: they are kept to test
weights on arrays that no training has seen. The uv points are kept in FOLDER, and the same
command continues a run that was interrupted. With --tracks the points come from the antenna
positions alone, in seconds; they differ from CASA's by a few wavelengths.

    python examples/make_psf_bank.py uv-of-bank diffsky/data/psf-bank/psf-bank.npz
"""

from pathlib import Path

import astropy.units as u
import click
import numpy as np
from astropy.coordinates import SkyCoord

from diffsky.deconvolution import get_preset

CONFIGURATIONS = {1: (1, 2, 3, 5, 6), 2: (1, 2, 3, 5, 6, 7), 3: (1, 2, 3, 5, 6)}
CONFIGURATIONS |= {4: (1, 2, 3, 5, 6, 7), 5: (1, 2, 3, 5, 6, 7)}
OBSERVATIONS = {5: 3}  # of each configuration; those of cycle 5 are in use to this day
FREQUENCIES = {1: 180, 7: 210}  # GHz
OTHER_FREQUENCY = 230
DECLINATIONS, HOUR_ANGLES = (-70, 30), (-2, 2)
RIGHT_ASCENSION = 150.119  # deg
WEIGHTINGS = ("natural", "briggs")
ROBUST = 0.5
FIELD = 128  # working pixels; the grid is twice as wide
SEED = 4
SPEED_OF_LIGHT = 299792458.0


def observations(seed=SEED):
    """The observations of the bank: file name and setup of each."""
    from diffsky.simulation import ObservationSetup

    rng, found = np.random.default_rng(seed), {}
    arrays = [
        (f"alma.cycle{cycle}.{number}", FREQUENCIES.get(number, OTHER_FREQUENCY) * u.GHz)
        for cycle, numbers in CONFIGURATIONS.items()
        for number in numbers
        for _ in range(OBSERVATIONS.get(cycle, 1))
    ]
    declinations, hour_angles = (
        rng.permutation(np.linspace(*ends, len(arrays)).round(2))
        for ends in (DECLINATIONS, HOUR_ANGLES)
    )
    for (array, frequency), declination, hour_angle in zip(
        arrays, declinations, hour_angles, strict=True
    ):
        found[f"{array}_{declination:+.2f}_{hour_angle:+.2f}"] = ObservationSetup(
            array=array,
            direction=SkyCoord(RIGHT_ASCENSION * u.deg, declination * u.deg),
            hour_angle=hour_angle * u.hourangle,
            frequency=frequency,
            cell=fine_cell(array, frequency),
            image_size=128,
        )
    return found


def fine_cell(array, frequency):
    """A fifth of the finest fringe."""
    import casadata

    path = Path(casadata.datapath) / "alma" / "simmos" / f"{array}.cfg"
    antennas = np.loadtxt(path, usecols=(0, 1, 2))
    longest = np.linalg.norm(antennas[:, None] - antennas, axis=-1).max()
    return (SPEED_OF_LIGHT / frequency.to_value(u.Hz) / longest / 5 * u.rad).to(u.arcsec)


def own_tracks(setup):
    """The uv points of a setup from its antenna positions."""
    from diffsky.instrument import read_array, uv_tracks

    names = ("direction", "frequency", "total_time", "integration", "hour_angle")
    return uv_tracks(read_array(setup.array), **{name: getattr(setup, name) for name in names})


def observe_all(folder):
    """Have CASA compute the uv points of every observation, once."""
    from diffsky.simulation import observe_uv

    folder.mkdir(parents=True, exist_ok=True)
    for name, setup in observations().items():
        path = folder / f"{name}.npz"
        if not path.exists():
            observed = observe_uv(setup, timeout=30 * u.min)
            np.savez(path, uv=observed.uv, weights=observed.weights)
            own = own_tracks(setup).uv
            same = len(own) == len(observed.uv)
            far = f"{np.abs(own - observed.uv).max():.2f} wavelengths" if same else "other rows"
            click.echo(f"{name}: {len(own)} points, own tracks differ from CASA's by {far}")


def read_points(folder, name, setup):
    """The uv points of CASA in a folder, or own ones where there is none."""
    if folder is None:
        tracks = own_tracks(setup)
        return tracks.uv, tracks.weights
    with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
        return stored["uv"], stored["weights"]


def make_entries(folder):
    """Rows of the table and gridded weights, one for each observation and weighting."""
    from diffsky.instrument import bank_entry, beam_fwhm, imaging_weights

    pixels_per_beam = get_preset("small").scale.pixels_per_beam
    for name, setup in observations().items():
        uv, weights = read_points(folder, name, setup)
        fine = beam_fwhm(uv, weights=weights) / 8
        for weighting in WEIGHTINGS:
            # Briggs weights depend on the image: one that holds the primary beam.
            width = 2 * 1.22 * SPEED_OF_LIGHT / setup.frequency.to_value(u.Hz) / 12 * u.rad
            size = 2 * int(width.to_value(u.arcsec) / fine / 2)
            used = imaging_weights(
                uv, weights, weighting=weighting, robust=ROBUST, pixel_scale=fine, image_size=size
            )
            *planes, beam = bank_entry(
                uv, weights, imaging=used, pixels_per_beam=pixels_per_beam, grid_size=2 * FIELD
            )
            row = {
                "array": setup.array,
                "frequency": setup.frequency.to_value(u.GHz),
                "declination": setup.direction.dec.deg,
                "hour_angle": setup.hour_angle.to_value(u.hourangle),
                "weighting": weighting,
                "robust": ROBUST if weighting == "briggs" else np.nan,
                "beam": beam,
            }
            yield row, *planes


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--tracks", is_flag=True, help="Compute the points without CASA; FOLDER is not used.")
def main(folder, output, tracks):
    """Observe uv points into FOLDER and write the bank to OUTPUT (.npz)."""
    from diffsky.instrument import write_psf_bank

    if not tracks:
        observe_all(folder)
    entries = make_entries(None if tracks else folder)
    rows, weights, noise_weights = zip(*entries, strict=True)
    write_psf_bank(output, rows, weights, noise_weights)
    click.echo(f"{len(rows)} PSFs, {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
