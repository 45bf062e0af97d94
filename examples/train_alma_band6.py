"""Train the bundled weights ``alma-band6``.

One command makes everything, in four stages that follow one another. In the first, CASA observes
the uv points of ALMA at several declinations and configurations, and the network learns from two
priors. In the others it goes on with the bundled bank of PSFs: with skies of any field beside those
of the protocol `independent` at several depths, then with the protocol alone, then with the
protocol, some skies of any field and some of bright sources. Pairs are simulated on the fly, every
one with its own noise. The run folder holds uv points, checkpoints, logs and weights; the same
command continues a run that was interrupted.

    python examples/train_alma_band6.py run-alma-band6

With --from-weights the first stage is left out: the second starts from weights that there are, such
as those that an earlier run left in its folder first-stage.
"""

from pathlib import Path

import click
import numpy as np
import torch

from diffsky.deconvolution import get_preset
from diffsky.instrument import grid_uv, load_psf_bank
from diffsky.simulation.pairs import SimulatedPairs
from diffsky.simulation.skymodels import PRIORS, GeneralPrior

NAME, VERSION = "alma-band6", 3
ARRAYS = {
    "alma.cycle5.3": (-60, -40, -23, -10, 2.2, 12, 25),
    "alma.cycle5.1": (-23, 10),
    "alma.cycle5.2": (-23, 10),
    "alma.cycle5.5": (-23, 10),
    "alma.cycle5.6": (-23, 10),
}
ROTATIONS = {"alma.cycle5.3": 6}
OTHER_ROTATIONS = 2
FIELD, PATCH = 128, 64
RMS, BEAM = 48e-6, 0.854  # Jy/beam and arcsec of the prior's observation
OTHER_DEPTHS = (40e-6, 60e-6, 90e-6)
FIRST = {"steps": 7500, "seed": 0}
STAGES = {
    "second-stage": {"steps": 5000, "learning_rate": 5e-4, "seed": 1},
    "third-stage": {"steps": 1800, "learning_rate": 3e-4, "seed": 2},
    NAME: {"steps": 6500, "learning_rate": 3e-4, "seed": 4, "balance": True},
}
PAIRS_SEED = {"second-stage": 2, "third-stage": 3, NAME: 5}
SHARES = {  # of the protocol at its own depth, and at each of the others
    "second-stage": (0.4, 0.05),
    "third-stage": (0.7, 0.1),
    NAME: (0.5, 0.08),
}
ARCSEC = np.pi / 180 / 3600


def observe_all(folder):
    """Have CASA compute the uv points of every array and declination, once."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    from diffsky.simulation.casa import ObservationSetup, observe_uv

    folder.mkdir(parents=True, exist_ok=True)
    for array, declinations in ARRAYS.items():
        for declination in declinations:
            path = folder / f"{array}_{declination}.npz"
            if not path.exists():
                direction = SkyCoord(150.119 * u.deg, declination * u.deg)
                observed = observe_uv(ObservationSetup(array=array, direction=direction))
                np.savez(path, uv=observed.uv, weights=observed.weights)


def beam_of(uv, weights):
    """Geometric mean FWHM in arcsec: the area in which the PSF is above one half."""
    pixel = 0.12 / np.abs(uv).max() / ARCSEC
    n = 2048
    gridded = grid_uv(uv, pixel_scale=pixel, grid_size=n, weights=weights)
    psf = np.fft.irfft2(gridded, s=(n, n))
    return 2 * np.sqrt((psf > 0.5 * psf[0, 0]).sum() / np.pi) * pixel


def make_bank(folder, pixels_per_beam, seed=0):
    """Gridded weights of every array and declination, turned by random angles."""
    rng, bank = np.random.default_rng(seed), []
    for array, declinations in ARRAYS.items():
        for declination in declinations:
            with np.load(folder / f"{array}_{declination}.npz", allow_pickle=False) as stored:
                uv, weights = stored["uv"], stored["weights"]
            pixel = beam_of(uv, weights) / pixels_per_beam
            measured = np.hypot(*uv.T) * pixel * ARCSEC < 0.49
            for angle in rng.uniform(0, np.pi, ROTATIONS.get(array, OTHER_ROTATIONS)):
                cos, sin = np.cos(angle), np.sin(angle)
                turned = uv[measured] @ np.array([[cos, sin], [-sin, cos]])
                gridded = grid_uv(
                    turned, pixel_scale=pixel, grid_size=2 * FIELD, weights=weights[measured]
                )
                bank.append(torch.from_numpy((gridded / gridded.max()).astype(np.float32)))
    return torch.stack(bank)


def first_pairs(folder):
    """Pairs of the first stage: fifteen observations of CASA, two priors."""
    observe_all(folder)
    bank = make_bank(folder, get_preset("small").scale.pixels_per_beam)
    priors = [(PRIORS["independent"].in_units_of(RMS, BEAM), 0.6), (PRIORS["wide"], 0.4)]
    return SimulatedPairs(
        bank, priors=priors, field_size=FIELD, patch_size=PATCH, seed=1, version=1
    )


def skies(stage):
    """Priors of one of the later stages, with the share of each."""
    independent, (main, other) = PRIORS["independent"], SHARES[stage]
    priors = [(independent.in_units_of(RMS, BEAM), main)]
    priors += [(independent.in_units_of(rms, BEAM), other) for rms in OTHER_DEPTHS]
    bright = GeneralPrior(slope=1.5, snr=(8, 1000), n_sources=(1, 8))
    fields = {
        "second-stage": [(GeneralPrior(), 0.2), (GeneralPrior(slope=1.5), 0.25)],
        NAME: [(GeneralPrior(), 0.12), (bright, 0.14)],
    }
    return priors + fields.get(stage, [])


def later_pairs(stage):
    """Pairs of one of the later stages: the bundled bank, skies of its own."""
    return SimulatedPairs.from_bank(
        load_psf_bank(), priors=skies(stage), field_size=FIELD, patch_size=PATCH,
        seed=PAIRS_SEED[stage],
    )  # fmt: skip


def first_stage(folder, batch_size, device):
    """An estimator with the weights of the first stage, trained if they are not there yet."""
    from diffsky import DiffusionDeconvolver

    weights = folder / "first-stage"
    if not (weights / "description.json").exists():
        deconvolver = DiffusionDeconvolver(preset="small", device=device)
        options = {"checkpoint_dir": folder / "first-checkpoints", "resume": True, **FIRST}
        deconvolver.fit(first_pairs(folder / "uv"), batch_size=batch_size, **options)
        deconvolver.save(weights, name=f"{NAME}, first stage")
    return DiffusionDeconvolver.load(weights, device=device)


def later_stage(folder, stage, deconvolver, **options):
    """Go on with the weights of the stage before, and save what they are now."""
    checkpoints = folder / f"{stage}-checkpoints"
    options |= {"checkpoint_dir": checkpoints, "resume": True, "warm_start": True}
    deconvolver.fit(later_pairs(stage), **options)
    deconvolver.description_["version"] = VERSION
    name = NAME if stage == NAME else f"{NAME}, {stage.replace('-', ' ')}"
    deconvolver.save(folder / stage, name=name, half=True, overwrite=True)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--from-weights", help="Name or folder of weights; the first stage is left out.")
@click.option("--steps", type=(int, int, int), help="Of the later stages, to try the command.")
@click.option("--batch-size", default=None, type=int, help="The preset's if not given.")
@click.option("--device", default=None, help="cuda, mps or cpu; the first there is if not given.")
def main(folder, from_weights, steps, batch_size, device):
    """Train alma-band6 in FOLDER, and save the weights to FOLDER/alma-band6."""
    from diffsky import DiffusionDeconvolver

    if from_weights is None:
        deconvolver = first_stage(folder, batch_size, device)
    else:
        deconvolver = DiffusionDeconvolver.from_pretrained(from_weights, device=device)
    for k, (stage, options) in enumerate(STAGES.items()):
        options = options if steps is None else {**options, "steps": steps[k]}
        later_stage(folder, stage, deconvolver, batch_size=batch_size, **options)
        deconvolver = DiffusionDeconvolver.load(folder / stage, device=device)


if __name__ == "__main__":
    main()
