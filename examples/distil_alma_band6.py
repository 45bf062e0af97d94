"""Distil weights until a sample takes one to four network calls.

The weights teach a copy of themselves on pairs that are simulated on the fly from the bundled bank
of PSFs, with the priors that the weights were trained on. The run folder holds checkpoints and the
log; the same command continues a run that was interrupted.

    python examples/distil_alma_band6.py run-distil
"""

from pathlib import Path

import click

from diffsky.instrument import load_psf_bank
from diffsky.simulation import Prior, SimulatedPairs


def make_pairs(deconvolver, seed=6):
    """Endless pairs of all observations of the bank, skies as in the training of the weights."""
    described = deconvolver.description_["training"]["pairs"]["priors"]
    priors = [
        (Prior.from_dict({k: v for k, v in one.items() if k != "share"}), one["share"])
        for one in described
    ]
    return SimulatedPairs.from_bank(
        load_psf_bank(),
        priors=priors,
        field_size=128,
        patch_size=64,
        scale=deconvolver.preset_.scale,
        seed=seed,
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--weights", default="alma-band6", show_default=True, help="Name or folder.")
@click.option("--steps", default=None, type=int, help="Optimizer steps; 2000 if not given.")
@click.option(
    "--batch-size", default=None, type=int, help="Pairs a step; the preset's if not given."
)
@click.option("--learning-rate", default=None, type=float, help="2e-4 if not given.")
@click.option("--device", default=None, help="cuda, mps or cpu; the first there is if not given.")
def main(folder, weights, steps, batch_size, learning_rate, device):
    """Distil WEIGHTS in FOLDER and save the result to FOLDER/NAME-distilled."""
    from diffsky import DiffusionDeconvolver

    deconvolver = DiffusionDeconvolver.from_pretrained(weights, device=device)
    deconvolver.distill(
        make_pairs(deconvolver),
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        checkpoint_dir=folder / "checkpoints",
        resume=True,
    )
    name = deconvolver.description_["name"]
    deconvolver.save(folder / name, half=True, overwrite=True)
    click.echo(f"saved {folder / name}")


if __name__ == "__main__":
    main()
