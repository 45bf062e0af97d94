"""Train under the protocol of D24, in which all observations share their noise, to compare with it.

NOISE is what `diffsky.simulation.SharedNoise.write` wrote; where there is no such file, CASA takes
the noise for it first, in three minutes. Skies are those of D24: 1 to 5 sources of 50 to 500 uJy on
a grid of 1 arcsec, and none in 1000 of 10164 fields. Directions lie within two degrees of COSMOS,
where the noise of neighbours in a bank of 41 declinations correlates at 0.998. Fields are neither
turned nor flipped. All sources lie whole in the inner 24 arcsec, so ``--field-size 240`` leaves
none out and takes two fifths of the work. Scores of such weights say little about a new
observation.

With ``--warm-start`` the training starts from weights that know the PSF and the sources already, as
the bundled ones do, and has the noise alone to learn.

    python examples/train_shared_noise.py run-small noise.npz --preset small
    python examples/train_shared_noise.py run-d24 noise.npz --preset drozdova2024 --channels 32

The run folder holds checkpoints, the log and the weights; the same command continues a run that was
interrupted.
"""

import warnings
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import click
import numpy as np
import torch
from astropy.coordinates import SkyCoord

from diffsky.deconvolution import drozdova2024, get_preset
from diffsky.exceptions import DiffskyWarning
from diffsky.instrument import instrument_from_setup
from diffsky.simulation import PRIORS, FluxPairs, ObservationSetup, SharedNoise

RIGHT_ASCENSION = 150.119  # deg
DECLINATIONS = (0.2, 4.2)  # deg, COSMOS and 2 deg around it
PRIOR = replace(PRIORS["drozdova2024"], empty_share=1000 / 10164)
BEAM = 0.854  # arcsec
SEED = 2


def observed_at(declination):
    """D24's observation."""
    return ObservationSetup.drozdova2024(
        SkyCoord(RIGHT_ASCENSION * u.deg, declination * u.deg, frame="fk5")
    )


def make_pairs(noise, scale, *, field_size=512, padding=4, n_declinations=41, seed=SEED):
    """Pairs with one noise realisation, imaged on a uv grid ``padding`` times as wide as D24's."""
    setups = [observed_at(d) for d in np.linspace(*DECLINATIONS, n_declinations)]
    edge = (setups[0].image_size - field_size) // 2
    inner = slice(edge, edge + field_size)
    images = [noise.image(setup, padding=padding)[inner, inner] for setup in setups]
    instruments = [
        instrument_from_setup(replace(setup, image_size=field_size), padding=max(padding, 2))
        for setup in setups
    ]
    return FluxPairs(
        torch.stack([one.noise_weights for one in instruments]),
        instruments[0].primary_beam,
        noise=torch.from_numpy(np.stack(images)).float(),
        prior=PRIOR,
        scale=scale,
        beam=BEAM,
        seed=seed,
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("noise", type=click.Path(path_type=Path))
@click.option("--preset", type=click.Choice(("small", "drozdova2024")), default="small")
@click.option(
    "--channels", default=32, show_default=True, help="Of drozdova2024; the paper's: 128."
)
@click.option("--gamma", default=2.0, show_default=True, help="Root of D24 eq. 1.")
@click.option(
    "--padding", default=4, show_default=True, help="1 for the images that D24 published."
)
@click.option("--n-declinations", default=41, show_default=True)
@click.option(
    "--field-size",
    default=512,
    show_default=True,
    type=click.IntRange(240, 512),
    help="Pixels of 0.1 arcsec, an even number; 512 is D24's field.",
)
@click.option("--warm-start", default=None, help="Weights to start from, of the same preset.")
@click.option("--seed", default=SEED, show_default=True, help="Of the skies.")
@click.option("--steps", default=3000, show_default=True)
@click.option("--batch-size", default=8, show_default=True)
@click.option("--learning-rate", default=3e-4, show_default=True)
@click.option("--device", default=None, help="cuda, mps or cpu; the first there is if not given.")
def main(folder, noise, preset, channels, gamma, device, warm_start, padding, n_declinations,
         field_size, seed, **training):  # fmt: skip
    """Train in FOLDER and save the weights to FOLDER/shared-noise."""
    from diffsky import DiffusionDeconvolver

    if not noise.exists():
        SharedNoise.from_casa(observed_at(2.2)).write(noise)
    if preset == "small":
        chosen = get_preset("small")
        chosen = replace(chosen, scale=replace(chosen.scale, gamma=gamma))
    else:
        chosen = drozdova2024(gamma=gamma, channels=channels)
    how = {"padding": padding, "n_declinations": n_declinations, "field_size": field_size,
           "seed": seed}  # fmt: skip
    pairs = make_pairs(SharedNoise.read(noise), chosen.scale, **how)
    if warm_start is None:
        deconvolver = DiffusionDeconvolver(chosen, device=device)
    else:
        deconvolver = DiffusionDeconvolver.from_pretrained(warm_start, device=device)
        if deconvolver.preset_.network["type"] != chosen.network["type"]:
            raise click.UsageError(f"{warm_start} has another network than the preset {preset}")
        # The root may be another one, which the network gets used to.
        scale = replace(deconvolver.preset_.scale, gamma=gamma)
        deconvolver.preset_ = replace(deconvolver.preset_, scale=scale)
    with warnings.catch_warnings():
        # That the noise is correlated is the point here.
        warnings.filterwarnings("ignore", "the noise of these pairs", DiffskyWarning)
        deconvolver.fit(
            pairs,
            **training,
            checkpoint_dir=folder / "checkpoints",
            checkpoint_every=50,
            resume=True,
            seed=0,
            warm_start=warm_start is not None,
        )
    deconvolver.save(folder / "shared-noise", name="shared-noise", half=True, overwrite=True)


if __name__ == "__main__":
    main()
