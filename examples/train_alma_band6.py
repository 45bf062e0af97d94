"""Train the bundled weights ``alma-band6``.

One command makes everything: CASA observes the uv points of ALMA at several declinations and
configurations, and the network trains on pairs simulated on the fly, every one with its own
noise. The run folder holds uv points, checkpoints and the log; the same command continues a run
that was interrupted.

    python examples/train_alma_band6.py run-alma-band6
"""

from pathlib import Path

import click
import numpy as np
import torch

from diffsky.deconvolution import get_preset
from diffsky.instrument import grid_uv
from diffsky.simulation.pairs import SimulatedPairs
from diffsky.simulation.skymodels import PRIORS

ARRAYS = {
    "alma.cycle5.3": (-60, -40, -23, -10, 2.2, 12, 25),
    "alma.cycle5.1": (-23, 10),
    "alma.cycle5.2": (-23, 10),
    "alma.cycle5.5": (-23, 10),
    "alma.cycle5.6": (-23, 10),
}
ROTATIONS = {"alma.cycle5.3": 6}
OTHER_ROTATIONS = 2
FIELD = 128
RMS, BEAM = 48e-6, 0.854  # Jy/beam and arcsec of the prior's observation
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


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--steps", default=None, type=int, help="Optimizer steps; the preset's if not given.")
@click.option("--device", default=None, help="cuda, mps or cpu; the first there is if not given.")
def main(folder, steps, device):
    """Train alma-band6 in FOLDER and save the weights to FOLDER/alma-band6."""
    from diffsky import DiffusionDeconvolver

    observe_all(folder / "uv")
    deconvolver = DiffusionDeconvolver(preset="small", device=device)
    priors = [(PRIORS["independent"].in_units_of(RMS, BEAM), 0.6), (PRIORS["wide"], 0.4)]
    bank = make_bank(folder / "uv", get_preset("small").scale.pixels_per_beam)
    pairs = SimulatedPairs(bank, priors=priors, field_size=FIELD, patch_size=64, seed=1, version=1)
    deconvolver.fit(pairs, steps=steps, checkpoint_dir=folder / "checkpoints", resume=True, seed=0)
    deconvolver.save(folder / "alma-band6", name="alma-band6", half=True, overwrite=True)


if __name__ == "__main__":
    main()
