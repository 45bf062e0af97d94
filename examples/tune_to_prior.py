"""Tune weights to the skies of one prior, for reliabilities and samples that hold for these.

Posterior samples are those of the skies of a training. Weights that were trained on skies of many
kinds go on here with skies of one, simulated on the fly with the bundled bank of PSFs. The run
folder holds checkpoints and the log; the same command continues a run that was interrupted.

    python examples/tune_to_prior.py run-tune

A prior in Jy and arcsec is taken for an observation of the depth and the beam that --rms and --beam
give, by default those of the protocol `independent`.
"""

from pathlib import Path

import click

from diffsky.instrument import load_psf_bank
from diffsky.simulation import PRIORS, SimulatedPairs


def make_pairs(prior, rms, beam, scale, seed=11):
    """Endless pairs of all observations of the bank with skies of one prior."""
    prior = prior if prior.relative else prior.in_units_of(rms, beam)
    return SimulatedPairs.from_bank(
        load_psf_bank(),
        priors=[(prior, 1.0)],
        field_size=128,
        patch_size=64,
        scale=scale,
        seed=seed,
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--weights", default="alma-band6", show_default=True, help="Name or folder.")
@click.option("--prior", default="independent", show_default=True, type=click.Choice(list(PRIORS)))
@click.option("--rms", default=48e-6, show_default=True, help="Noise in Jy/beam.")
@click.option("--beam", default=0.854, show_default=True, help="FWHM in arcsec.")
@click.option("--steps", default=2000, show_default=True, help="Optimizer steps.")
@click.option("--batch-size", default=None, type=int, help="The preset's if not given.")
@click.option("--learning-rate", default=3e-4, show_default=True)
@click.option("--device", default=None, help="cuda, mps or cpu; the first there is if not given.")
def main(folder, weights, prior, rms, beam, steps, batch_size, learning_rate, device):
    """Tune WEIGHTS in FOLDER and save the result to FOLDER/NAME-PRIOR."""
    from diffsky import DiffusionDeconvolver

    deconvolver = DiffusionDeconvolver.from_pretrained(weights, device=device)
    name = f"{deconvolver.description_['name']}-{prior}"
    deconvolver.fit(
        make_pairs(PRIORS[prior], rms, beam, deconvolver.preset_.scale),
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=6,
        warm_start=True,
        checkpoint_dir=folder / "checkpoints",
        resume=True,
    )
    deconvolver.save(folder / name, name=name, half=True, overwrite=True)
    click.echo(f"saved {folder / name}")


if __name__ == "__main__":
    main()
