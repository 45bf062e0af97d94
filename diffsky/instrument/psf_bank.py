"""A bank of point-spread functions on the working grid, for training on many arrays."""

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import torch

from diffsky.instrument.gridding import grid_uv, working_weights

__all__ = ["PSFBank", "bank_entry", "beam_fwhm", "load_psf_bank", "write_psf_bank"]

_ARCSEC = np.pi / 180 / 3600
_FORMAT = 1
_UNITS = {"frequency": "GHz", "declination": "deg", "hour_angle": "hourangle", "beam": "arcsec"}
_COLUMNS = ("array", "frequency", "declination", "hour_angle", "weighting", "robust", "beam")
_FINE_GRID = 2048


@dataclass(frozen=True, eq=False)
class PSFBank:
    """Gridded uv weights of many observations, all with the same number of pixels per beam.

    Parameters
    ----------
    weights : `torch.Tensor`
        Shape (n, N, N // 2 + 1), float32, 0 or more, at most 1. Pairs of all the observations
        come from ``SimulatedPairs.from_bank(bank)`` (`diffsky.simulation.SimulatedPairs`).
    noise_weights : `torch.Tensor`
        Same shape: power of the noise, equal to ``weights`` for natural weighting.
    columns : dict of `numpy.ndarray`
        What each entry is: array, frequency (GHz), declination (deg), hour_angle (hours),
        weighting, robust (NaN for natural weights) and beam (geometric mean FWHM in arcsec).
    """

    weights: torch.Tensor
    noise_weights: torch.Tensor
    columns: dict

    def __len__(self):
        return len(self.weights)

    def __repr__(self):
        n, rows, columns = self.weights.shape
        return f"<PSFBank: {n} entries of {rows} x {columns}>"

    @property
    def table(self):
        """`~astropy.table.QTable` : the columns with their units, one row for each entry."""
        import astropy.units as u
        from astropy.table import QTable

        table = QTable(self.columns)
        for name, unit in _UNITS.items():
            table[name] = table[name] * u.Unit(unit)
        return table

    def select(self, rows):
        """Take some entries.

        Parameters
        ----------
        rows : array_like
            Numbers of entries, or a boolean for each, such as
            ``bank.columns["weighting"] == "natural"``.

        Returns
        -------
        bank : `PSFBank`
            With these entries alone.
        """
        rows = np.arange(len(self))[np.asarray(rows)]
        columns = {name: column[rows] for name, column in self.columns.items()}
        return PSFBank(self.weights[rows], self.noise_weights[rows], columns)


def load_psf_bank(path=None):
    """Load a bank of point-spread functions.

    Parameters
    ----------
    path : path-like or None, optional
        A file of `write_psf_bank`. None loads the bundled bank: ALMA at 0.1 to 2.6 arcsec,
        declinations from -70 to +30 deg and hour angles up to 2 h, natural and Briggs weights of
        robust 0.5. Configuration 4 of every cycle and the ACA are not in it.

    Returns
    -------
    bank : `PSFBank`
        On the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no bank, or of another format version.
    """
    path = files("diffsky") / "data" / "psf-bank" / "psf-bank.npz" if path is None else path
    with np.load(path, allow_pickle=False) as stored:
        version = int(stored["format"]) if "format" in stored else None
        if version != _FORMAT:
            raise ValueError(f"{path} has format {version}; expected a PSF bank of {_FORMAT}")
        values = dict(stored)
    columns = {name: values[name] for name in _COLUMNS}
    return PSFBank(_unpack(values, "weights"), _unpack(values, "noise_weights"), columns)


def write_psf_bank(path, rows, weights, noise_weights):
    """Write a bank of point-spread functions.

    The weights are kept as the values of the cells that are not 0, in half precision.

    Parameters
    ----------
    path : path-like
        The file to write, ``.npz``; its folder is made if need be.
    rows : sequence of dict
        What each entry is: one value for each column of `PSFBank`.
    weights, noise_weights : sequence of array_like
        Shape (N, N // 2 + 1) each, 0 to 1.

    Raises
    ------
    ValueError
        If weights are negative, above 1 or not finite, their number or shapes differ, or a row
        lacks a column.
    """
    from pathlib import Path

    for place, row in enumerate(rows):
        if missing := [name for name in _COLUMNS if name not in row]:
            raise ValueError(
                f"row {place} has no {', '.join(missing)}; expected {', '.join(_COLUMNS)}"
            )
    values = {"format": np.array(_FORMAT)}
    for name, planes in (("weights", weights), ("noise_weights", noise_weights)):
        planes = np.stack([np.asarray(plane, dtype=float) for plane in planes])
        if len(planes) != len(rows) or planes.shape[2] != planes.shape[1] // 2 + 1:
            raise ValueError(
                f"{name} have shape {planes.shape}; expected ({len(rows)}, N, N // 2 + 1)"
            )
        if not ((planes >= 0) & (planes <= 1)).all():
            raise ValueError(f"{name} are {planes.min():g} to {planes.max():g}; expected 0 to 1")
        values |= _pack(planes, name)
    values |= {name: np.array([row[name] for row in rows]) for name in _COLUMNS}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **values)


def bank_entry(uv, weights, *, imaging=None, pixels_per_beam=4.25, grid_size=256):
    """Grid one observation on the working grid.

    Visibilities on baselines that the working pixel does not sample are left out.

    Parameters
    ----------
    uv : array_like
        Shape (n, 2): u and v in wavelengths, with the signs of a measurement set.
    weights : array_like
        Shape (n,): statistical weight of each visibility, the inverse of its variance.
    imaging : array_like or None, optional
        Shape (n,): weight of each visibility in the image, from `imaging_weights`. None takes
        ``weights``, which is natural weighting.
    pixels_per_beam : float, optional
        Working pixels per beam (geometric mean FWHM). By default 4.25, those of the preset
        ``small``.
    grid_size : int, optional
        N, even: twice the field of the pairs, by default 256.

    Returns
    -------
    signal, noise : `numpy.ndarray`
        Shape (N, N // 2 + 1) each, float32, 0 to 1: weights of the PSF and power of the noise.
    beam : float
        Geometric mean FWHM in arcsec.

    Raises
    ------
    ValueError
        As `working_weights`.
    """
    weights = np.asarray(weights, dtype=float)
    imaging = weights if imaging is None else np.asarray(imaging, dtype=float)
    beam = beam_fwhm(uv, weights=imaging)
    grid = {"pixel_scale": beam / pixels_per_beam, "grid_size": grid_size}
    power = np.divide(imaging**2, weights, out=np.zeros_like(weights), where=weights > 0)
    signal, noise = (working_weights(uv, weights=w, **grid) for w in (imaging, power))
    return signal, noise, beam


def beam_fwhm(uv, *, weights=None):
    """Width of the main lobe of visibilities.

    Parameters
    ----------
    uv : array_like
        Shape (n, 2): u and v in wavelengths.
    weights : array_like or None, optional
        Shape (n,): weight of each visibility; None weighs all alike.

    Returns
    -------
    fwhm : float
        Geometric mean FWHM in arcsec: the diameter of a disk as large as the connected area
        around the peak in which the PSF is above one half.

    Raises
    ------
    ValueError
        As `grid_uv`.
    """
    from scipy.ndimage import label

    uv = np.asarray(uv, dtype=float)
    pixel, n = 0.12 / np.abs(uv).max() / _ARCSEC, _FINE_GRID
    psf = np.fft.irfft2(grid_uv(uv, pixel_scale=pixel, grid_size=n, weights=weights), s=(n, n))
    regions, _ = label(np.fft.fftshift(psf) > 0.5 * psf[0, 0])
    lobe = regions == regions[n // 2, n // 2]
    return float(2 * np.sqrt(lobe.sum() / np.pi) * pixel)


def _pack(planes, name):
    """A mask of the cells, in bits, and the values of those that are not 0."""
    halves = planes.astype(np.float16)
    measured = halves != 0
    return {
        f"{name}_shape": np.array(planes.shape),
        f"{name}_cells": np.packbits(measured),
        f"{name}_values": halves[measured],
    }


def _unpack(values, name):
    shape = tuple(int(n) for n in values[f"{name}_shape"])
    measured = np.unpackbits(values[f"{name}_cells"], count=np.prod(shape)).astype(bool)
    planes = np.zeros(shape, dtype=np.float32)
    planes[measured.reshape(shape)] = values[f"{name}_values"]
    return torch.from_numpy(planes)
