"""The noise of CASA's default seed, carried to other declinations, beside that of CASA.

    python benchmarks/shared_noise.py --store NOISE

CASA observes an empty sky with D24's 240 channels once for the noise, and once for each of ten
declinations within two degrees of COSMOS, three minutes each on one core. What it made is kept in
the store, so the same command goes on where it was interrupted. Images are compared where the
primary beam is above 0.2.
"""

from pathlib import Path

import astropy.units as u
import click
import numpy as np
from astropy.coordinates import FK5, SkyCoord
from targets import Targets

from diffsky.instrument import KNOWN_DISHES, airy_primary_beam
from diffsky.simulation import ObservationSetup, SharedNoise
from diffsky.simulation.shared_noise import observe_noise

COSMOS = SkyCoord("10h00m28.6s +02d12m21.0s", frame=FK5())
DECLINATIONS = (0.25, 0.7, 1.1, 1.55, 1.9, 2.45, 2.8, 3.3, 3.75, 4.15)  # deg
GROUPS, PADDINGS = 8, (2, 4, 8)
PBLIMIT = 0.2


def set_up(declination):
    """D24's observation at the right ascension of COSMOS."""
    return ObservationSetup.drozdova2024(SkyCoord(COSMOS.ra, declination, frame=FK5()))


def taken_noise(store):
    """The noise of COSMOS, from CASA once."""
    path = store / "cosmos.npz"
    if not path.exists():
        SharedNoise.from_casa(set_up(COSMOS.dec), n_groups=GROUPS).write(path)
    return SharedNoise.read(path)


def casa_image(store, declination):
    """CASA's image of the noise at a declination."""
    path = store / f"casa-{declination:g}.npy"
    if not path.exists():
        np.save(path, observe_noise(set_up(declination * u.deg), GROUPS, imaged=True)["dirty"])
    return np.load(path)


def data_region(setup):
    """Where the primary beam is above the limit."""
    y, x = np.indices((setup.image_size,) * 2) - setup.image_size // 2
    separation = np.hypot(x, y) * setup.cell.to_value(u.arcsec)
    diameter, blockage = KNOWN_DISHES["ALMA"]
    frequency = setup.frequency.to_value(u.Hz)
    beam = airy_primary_beam(separation, frequency=frequency, diameter=diameter, blockage=blockage)
    return (beam > PBLIMIT) & (separation < 30)  # within the first null


@click.command()
@click.option("--store", type=click.Path(path_type=Path), default="noise", show_default=True)
def main(store):
    """Print correlation and rms of the images beside those of CASA."""
    store.mkdir(parents=True, exist_ok=True)
    noise, targets = taken_noise(store), Targets()
    for padding in PADDINGS:
        print(f"\nuv grid {padding} times as wide as the image, {GROUPS} groups of channels")
        correlations, ratios = [], []
        for declination in DECLINATIONS:
            setup = set_up(declination * u.deg)
            inside = data_region(setup)
            theirs = casa_image(store, declination)[inside]
            ours = noise.image(setup, padding=padding)[inside]
            correlations.append(np.corrcoef(theirs, ours)[0, 1])
            ratios.append(ours.std() / theirs.std())
            print(f"  {declination:5.2f} deg  {correlations[-1]:.4f}  rms {ratios[-1]:.4f}")
        low = 0.99 if padding == 4 else None
        targets.check_number("least correlation", min(correlations), 0.0, low)
        worst = max(ratios, key=lambda ratio: abs(ratio - 1))
        limits = (0.99, 1.01) if padding == 4 else (None, None)
        targets.check_number("rms over that of CASA, farthest from 1", worst, 0.0, *limits)


if __name__ == "__main__":
    main()
