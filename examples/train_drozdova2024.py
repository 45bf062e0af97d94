"""Train the preset ``drozdova2024`` for the observation of D24, on the protocol `independent`.

Skies of the prior ``independent`` are observed on the fly as in D24: ALMA cycle 5 configuration 3
at 230 GHz, 20 minutes about transit, 1.796 mm of water vapour, around COSMOS, each with its own
noise. uv points, noise and primary beam follow from the antenna positions (CASA's data name them;
CASA does not run). The run folder holds checkpoints, the log and the weights; the same command
continues a run that was interrupted.

    python examples/train_drozdova2024.py run-drozdova2024 --steps 1200

The network of the paper has 128 channels and saw 1.2 million images; 32 channels take a sixteenth
of the work.
"""

from pathlib import Path

import astropy.units as u
import click
import torch
from astropy.coordinates import SkyCoord

from diffsky.deconvolution import drozdova2024
from diffsky.instrument import instrument_from_setup
from diffsky.simulation import FluxPairs, ObservationSetup

NAME = "drozdova2024"
RIGHT_ASCENSION = 150.119  # deg
DECLINATIONS = (0.2, 1.2, 2.2, 3.2, 4.2)  # deg, COSMOS and 2 deg around it
SEED = 1


def make_pairs(scale, declinations=DECLINATIONS, seed=SEED):
    """Pairs of the observation at several declinations, with the noise that it has there."""
    instruments = []
    for declination in declinations:
        direction = SkyCoord(RIGHT_ASCENSION * u.deg, declination * u.deg)
        setup = ObservationSetup(direction=direction)  # D24's in all else
        instruments.append(instrument_from_setup(setup, padding=2))
    levels = [one.rms for one in instruments]
    return FluxPairs(
        # With natural weights the power of the noise is the weight of each cell.
        torch.stack([one.noise_weights for one in instruments]),
        instruments[0].primary_beam,
        (min(levels), max(levels)),
        cell=setup.cell.to_value(u.arcsec),
        scale=scale,
        seed=seed,
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--steps", default=1200, show_default=True, help="Optimizer steps.")
@click.option("--batch-size", default=8, show_default=True)
@click.option("--learning-rate", default=3e-4, show_default=True)
@click.option("--channels", default=32, show_default=True, help="The paper's network has 128.")
@click.option("--gamma", default=2.0, show_default=True, help="Root of D24 eq. 1.")
@click.option("--device", default=None, help="cuda, mps or cpu; the first there is if not given.")
def main(folder, steps, batch_size, learning_rate, channels, gamma, device):
    """Train drozdova2024 in FOLDER and save the weights to FOLDER/drozdova2024."""
    from diffsky import DiffusionDeconvolver

    preset = drozdova2024(gamma=gamma, channels=channels)
    deconvolver = DiffusionDeconvolver(preset, device=device)
    deconvolver.fit(
        make_pairs(preset.scale),
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        checkpoint_dir=folder / "checkpoints",
        checkpoint_every=50,
        resume=True,
        seed=0,
    )
    deconvolver.save(folder / NAME, name=NAME, half=True, overwrite=True)


if __name__ == "__main__":
    main()
