"""Between the pixels of an image and the working grid, flux conserved."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

__all__ = ["WorkingGrid", "resample", "resampling_matrix"]

_LOBES = 5
_ROUNDING = 1e-6  # of a stride: beams and pixels come as rounded numbers


def resampling_matrix(n_in, positions, *, width=1.0, conserve, linear=False):
    """Matrix that resamples one axis by Lanczos or linear interpolation.

    Parameters
    ----------
    n_in : int
        Number of pixels that there are.
    positions : array_like
        Shape (n_out,): where the new pixels lie, in units of the old ones.
    width : float, optional
        Width of the kernel in old pixels: 1 interpolates, more averages as well.
    conserve : {"intensity", "flux"}
        ``"intensity"`` keeps a constant constant (rows sum to 1, for Jy/beam); ``"flux"`` keeps
        the sum (columns sum to 1, for Jy/pix).
    linear : bool, optional
        Linear interpolation, which never leaves the range of the values; else Lanczos with 5
        lobes, which keeps a band-limited image.

    Returns
    -------
    matrix : `scipy.sparse.csr_array`
        Shape (n_out, n_in).
    """
    positions = np.asarray(positions, dtype=float)[:, None]
    lobes = 1 if linear else _LOBES
    reach = int(np.ceil(lobes * width))
    columns = np.floor(positions).astype(int) + np.arange(1 - reach, reach + 1)
    offset = (positions - columns) / width
    kernel = 1 - np.abs(offset) if linear else np.sinc(offset) * np.sinc(offset / _LOBES)
    used = (np.abs(offset) < lobes) & (columns >= 0) & (columns < n_in)
    rows = np.broadcast_to(np.arange(len(positions))[:, None], columns.shape)[used]
    columns, kernel = columns[used], kernel[used]
    group, n_groups = {"intensity": (rows, len(positions)), "flux": (columns, n_in)}[conserve]
    total = np.bincount(group, kernel, n_groups)
    kernel = kernel / np.where(np.abs(total) > 0.1, total, np.inf)[group]
    return csr_array((kernel, (rows, columns)), shape=(len(positions), n_in))


def resample(image, rows, columns):
    """Resample both axes of an image.

    Parameters
    ----------
    image : `numpy.ndarray`
        Shape (ny, nx).
    rows, columns : `scipy.sparse.csr_array`
        Matrices of the two axes, from `resampling_matrix`.

    Returns
    -------
    resampled : `numpy.ndarray`
        One pixel per row of ``rows`` and per row of ``columns``.
    """
    return (columns @ (rows @ image).T).T


@dataclass(frozen=True)
class WorkingGrid:
    """Where the working pixels lie in an image.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the image.
    zoom : float
        Working pixel in pixels of the image.
    box : tuple of int
        (y0, y1, x0, x1): the part of the image that the working grid covers.
    stride : int, optional
        Height and width of the working grid are multiples of this.
    """

    shape: tuple
    zoom: float
    box: tuple
    stride: int = 1

    @classmethod
    def around(cls, valid, zoom, stride):
        """Grid that covers all valid pixels.

        Parameters
        ----------
        valid : `numpy.ndarray`
            Shape (ny, nx), True where there is data.
        zoom : float
            Working pixel in pixels of the image.
        stride : int
            Height and width are multiples of this.

        Returns
        -------
        grid : `WorkingGrid`
            The smallest that does, centred on the valid pixels.
        """
        rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
        box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
        return cls(valid.shape, float(zoom), box, stride)

    @property
    def working_shape(self):
        """tuple of int : (ny, nx) of the working grid."""
        lengths = np.array([self.box[1] - self.box[0], self.box[3] - self.box[2]])
        strides = np.ceil(lengths / self.zoom / self.stride - _ROUNDING).astype(int)
        return tuple((self.stride * strides).tolist())

    @cached_property
    def _axes(self):
        """For each axis the position of every working pixel in the image."""
        axes = []
        for n, (low, high) in zip(self.working_shape, (self.box[:2], self.box[2:]), strict=True):
            centre = (low + high - 1) / 2
            axes.append(centre + (np.arange(n) - (n - 1) / 2) * self.zoom)
        return axes

    def to_working(self, image, *, linear=False):
        """Resample an image of intensity.

        Parameters
        ----------
        image : `numpy.ndarray`
            Shape (ny, nx), without NaN.
        linear : bool, optional
            Interpolate linearly, for maps that may have steps and must stay positive; else by
            Lanczos' kernel, for images that the beam makes smooth.

        Returns
        -------
        resampled : `numpy.ndarray`
            Shape `working_shape`, float32; 0 beyond the image.
        """
        rows, columns = (
            resampling_matrix(n, axis, conserve="intensity", linear=linear)
            for n, axis in zip(self.shape, self._axes, strict=True)
        )
        return (resample(image, rows, columns) * self._inside).astype(np.float32)

    def valid_to_working(self, valid):
        """Carry the map of valid pixels over: a working pixel is valid if its nearest one is.

        Parameters
        ----------
        valid : `numpy.ndarray`
            Shape (ny, nx), bool.

        Returns
        -------
        valid : `numpy.ndarray`
            Shape `working_shape`, bool.
        """
        indices = (
            np.clip(np.rint(axis).astype(int), 0, n - 1)
            for n, axis in zip(self.shape, self._axes, strict=True)
        )
        return valid[np.ix_(*indices)] & self._inside

    def to_image(self, working, *, conserve="flux"):
        """Resample skies back to the pixels of the image.

        Parameters
        ----------
        working : `numpy.ndarray`
            Shape (..., height, width) of `working_shape`, flux per working pixel.
        conserve : {"flux", "intensity"}, optional
            ``"flux"`` keeps sums; ``"intensity"`` keeps values.

        Returns
        -------
        images : `numpy.ndarray`
            Shape (..., ny, nx), float32, flux per pixel of the image; 0 beyond the grid.
        """
        matrices = []
        for n, axis in zip(self.shape, self._axes, strict=True):
            positions = (np.arange(n) - axis[0]) / self.zoom
            width = max(1.0, 1 / self.zoom)
            matrices.append(resampling_matrix(len(axis), positions, width=width, conserve=conserve))
        rows, columns = (matrix.astype(np.float32) for matrix in matrices)
        working = np.asarray(working, dtype=np.float32)
        images = np.empty((*working.shape[:-2], *self.shape), dtype=np.float32)
        for k in np.ndindex(working.shape[:-2]):
            images[k] = resample(working[k], rows, columns)
        return images

    def to_image_pixels(self, x, y):
        """Positions on the working grid as pixels of the image.

        Parameters
        ----------
        x, y : array_like
            0-based working pixels.

        Returns
        -------
        x, y : `numpy.ndarray`
            0-based pixels of the image.
        """
        return (
            self._axes[1][0] + np.asarray(x) * self.zoom,
            self._axes[0][0] + np.asarray(y) * self.zoom,
        )

    @property
    def _inside(self):
        """Working pixels whose centre lies in the image."""
        inside = [
            (axis > -0.5) & (axis < n - 0.5) for n, axis in zip(self.shape, self._axes, strict=True)
        ]
        return inside[0][:, None] & inside[1]
