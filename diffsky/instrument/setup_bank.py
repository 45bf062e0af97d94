"""A bank of point-spread functions of one's own array, without CASA."""

import astropy.units as u
import numpy as np
import torch

from diffsky.instrument.antennas import read_array
from diffsky.instrument.gridding import imaging_weights
from diffsky.instrument.psf_bank import PSFBank, bank_entry
from diffsky.instrument.tracks import uv_tracks

__all__ = ["bank_from_setups"]

_OBSERVED = ("direction", "frequency", "total_time", "integration", "hour_angle")


def bank_from_setups(setups, *, pixels_per_beam=4.25, grid_size=256):
    """Make a bank of the observations of an array.

    The uv points follow from the antenna positions (`uv_tracks`), the weights from the weighting,
    cell and image size of each set-up.

    Parameters
    ----------
    setups : sequence of `diffsky.simulation.ObservationSetup`
        What is observed how: several declinations and hour angles make weights that serve many
        observations. Channels are merged at the centre of the band, and the water vapour does
        not matter: pairs are in units of the noise.
    pixels_per_beam : float, optional
        Working pixels per beam (geometric mean FWHM). By default 4.25, those of the preset
        ``small``.
    grid_size : int, optional
        N, even: twice the field of the pairs, by default 256.

    Returns
    -------
    bank : `PSFBank`
        One entry for each set-up; ``SimulatedPairs.from_bank(bank)`` makes training pairs.

    Raises
    ------
    ImportError, ValueError
        As `read_array`, `uv_tracks`, `imaging_weights` and `bank_entry`; ValueError too without
        any set-up.
    """
    setups = list(setups)
    if not setups:
        raise ValueError("setups are empty; expected at least one ObservationSetup")
    signals, noises, rows = [], [], []
    for setup in setups:
        signal, noise, row = _observe(setup, pixels_per_beam, grid_size)
        signals.append(signal)
        noises.append(noise)
        rows.append(row)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    weights, noise_weights = (torch.from_numpy(np.stack(planes)) for planes in (signals, noises))
    return PSFBank(weights, noise_weights, columns)


def _observe(setup, pixels_per_beam, grid_size):
    """Gridded weights of one set-up, and its row of the table."""
    observed = {name: getattr(setup, name) for name in _OBSERVED}
    tracks = uv_tracks(read_array(setup.array), **observed)
    used = imaging_weights(
        tracks.uv,
        tracks.weights,
        weighting=setup.weighting,
        robust=setup.robust,
        pixel_scale=setup.cell.to_value(u.arcsec),
        image_size=setup.image_size,
    )
    signal, noise, beam = bank_entry(
        tracks.uv,
        tracks.weights,
        imaging=used,
        pixels_per_beam=pixels_per_beam,
        grid_size=grid_size,
    )
    row = {
        "array": str(setup.array),
        "frequency": setup.frequency.to_value(u.GHz),
        "declination": setup.direction.icrs.dec.deg,
        "hour_angle": setup.hour_angle.to_value(u.hourangle),
        "weighting": setup.weighting,
        "robust": setup.robust if setup.weighting == "briggs" else np.nan,
        "beam": beam,
    }
    return signal, noise, row
