"""A cube of cutouts in Jy/beam, each about its source, to train and validate on."""

from pathlib import Path

import astropy.units as u
import numpy as np

from diffsky.generation.cutouts import n_pixels
from diffsky.generation.selection import select_cutouts

__all__ = ["read_cutout_cube"]

_VALIDATION = 10  # one image of so many
_SPLITS = ("train", "valid")
_MARGIN = 2  # pixels about those that are needed


def read_cutout_cube(path, split=None, *, size=80, pixel=1.5 * u.arcsec):
    """Read cutouts of a survey that are one cube, such as those of MiraBest's sources in FIRST.

    Images are interpolated to the pixels asked for: a pixel holds Jy/beam, and the beam stays.
    They go through `select_cutouts` (V24 section 3.1).

    Parameters
    ----------
    path : path-like
        FITS file with the cube as the extension ``CUTOUTS``: BUNIT Jy/beam, CDELT2 the side of a
        pixel in degrees, the sources in the centre.
    split : {"train", "valid"} or None, optional
        Every tenth of the images that pass the selection is for validation. None takes all.
    size : int, optional
        Pixels of a side. Default 80, V24's.
    pixel : `~astropy.units.Quantity`, optional
        Side of a pixel. Default 1.5 arcsec, V24's.

    Returns
    -------
    images : `numpy.ndarray`
        Shape (n, size, size), float32, Jy/beam.
    selection : `CutoutSelection`
        What became of each cutout of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the split is none of these, size or pixel is out of range, or the file has no such cube,
        or one that is too small.
    """
    from scipy.ndimage import map_coordinates

    if split is not None and split not in _SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(_SPLITS)}, or None")
    n_pixels(size * pixel, pixel)  # refuses what is no angle
    cube, side = _read(Path(path))
    ratio = pixel.to_value(u.deg) / side
    places = (np.arange(size) - (size - 1) / 2) * ratio
    middle = (np.array(cube.shape[1:]) - 1) / 2
    if places.max() > middle.min():
        raise ValueError(
            f"{size} pixels of {pixel} are wider than the cutouts of {path}, which have "
            f"{cube.shape[1]} x {cube.shape[2]} of {side * 3600:.3g} arcsec"
        )
    # The splines of the interpolation would carry a bad pixel far from its place.
    first = np.maximum(np.floor(middle - places.max()).astype(int) - _MARGIN, 0)
    last = np.ceil(middle + places.max()).astype(int) + _MARGIN + 1
    cube = cube[:, first[0] : last[0], first[1] : last[1]]
    grid = np.meshgrid(*(middle[:, None] - first[:, None] + places), indexing="ij")
    images = np.array([map_coordinates(one, grid, order=3) for one in cube], dtype=np.float32)
    selection = select_cutouts(images)
    images = images[selection.kept]
    aside = np.arange(len(images)) % _VALIDATION == 0
    taken = {None: slice(None), "train": ~aside, "valid": aside}[split]
    return images[taken], selection


def _read(path):
    from astropy.io import fits

    try:
        with fits.open(path) as file:
            cube, header = np.asarray(file["CUTOUTS"].data, dtype=float), file["CUTOUTS"].header
            side, unit = abs(float(header["CDELT2"])), u.Unit(header["BUNIT"])
    except FileNotFoundError:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} has no cube CUTOUTS with BUNIT and CDELT2: {' '.join(str(error).split())}"
        ) from error
    if cube.ndim != 3 or not unit.is_equivalent(u.Jy / u.beam) or not side > 0:
        raise ValueError(
            f"CUTOUTS of {path} has the shape {cube.shape}, BUNIT {unit} and CDELT2 {side}; "
            "expected (n, ny, nx), Jy/beam and a side of a pixel"
        )
    return cube * unit.to(u.Jy / u.beam), side
