"""Between the pixels of an image and the working grid, flux conserved."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

__all__ = ["WorkingGrid", "resample", "resampling_matrix"]

_LOBES = 5
_CUBIC = -0.75  # slope of bicubic interpolation at 1, as in torch and OpenCV
_DIGITS = 9  # of a zoom
_ROUNDING = 1e-6  # of a stride: beams and pixels come as rounded numbers


def resampling_matrix(n_in, positions, *, width=1.0, conserve, linear=False, cubic=False):
    """Matrix that resamples one axis by Lanczos, cubic or linear interpolation.

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
    cubic : bool, optional
        Cubic convolution over four pixels.

    Returns
    -------
    matrix : `scipy.sparse.csr_array`
        Shape (n_out, n_in).
    """
    positions = np.asarray(positions, dtype=float)[:, None]
    lobes = 1 if linear else 2 if cubic else _LOBES
    reach = int(np.ceil(lobes * width))
    columns = np.floor(positions).astype(int) + np.arange(1 - reach, reach + 1)
    offset = (positions - columns) / width
    if linear:
        kernel = 1 - np.abs(offset)
    else:
        kernel = _cubic(offset) if cubic else np.sinc(offset) * np.sinc(offset / _LOBES)
    used = (np.abs(offset) < lobes) & (columns >= 0) & (columns < n_in)
    rows = np.broadcast_to(np.arange(len(positions))[:, None], columns.shape)[used]
    columns, kernel = columns[used], kernel[used]
    group, n_groups = {"intensity": (rows, len(positions)), "flux": (columns, n_in)}[conserve]
    total = np.bincount(group, kernel, n_groups)
    kernel = kernel / np.where(np.abs(total) > 0.1, total, np.inf)[group]
    return csr_array((kernel, (rows, columns)), shape=(len(positions), n_in))


def _cubic(offset):
    """Kernel of cubic convolution."""
    x = np.abs(offset)
    inner = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x**2 + 1
    outer = _CUBIC * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, inner, outer)


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
    box : tuple of float
        (y0, y1, x0, x1): the part of the image that the working grid covers, in pixels.
    stride : int, optional
        Height and width of the working grid are multiples of this.
    cubic : bool, optional
        Images are brought to the grid by cubic convolution without averaging, as D24 did, and
        skies back by it; else by Lanczos' kernel.
    """

    shape: tuple
    zoom: float
    box: tuple
    stride: int = 1
    cubic: bool = False

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

    @classmethod
    def fixed(cls, valid, zoom, size):
        """Grid of a fixed number of pixels around the centre of the image, as D24 has it.

        Parameters
        ----------
        valid : `numpy.ndarray`
            Shape (ny, nx), True where there is data.
        zoom : float
            Working pixel in pixels of the image.
        size : int
            Height and width of the grid.

        Returns
        -------
        grid : `WorkingGrid`
            With ``cubic``; it may be larger than the image.

        Raises
        ------
        ValueError
            If there is data beyond the grid.
        """
        rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
        # Working pixels may lie half-way between those of the image: no ties for rounding to break.
        zoom = round(float(zoom), _DIGITS)
        box, half = (), size * zoom / 2
        for n, used in zip(valid.shape, (rows, columns), strict=True):
            low, high = n / 2 - half, n / 2 + half
            if used[0] + 0.5 < low or used[-1] + 0.5 > high:
                raise ValueError(
                    f"there is data in the pixels {used[0]} to {used[-1]} of {n}; expected none "
                    f"beyond the {size} x {size} working pixels, {low:.4g} to {high:.4g}"
                )
            box += (low, high)
        return cls(valid.shape, zoom, box, size, True)

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
            Lanczos' kernel or ``cubic``, for images that the beam makes smooth.

        Returns
        -------
        resampled : `numpy.ndarray`
            Shape `working_shape`, float32; 0 beyond the image.
        """
        return (resample(image, *self.matrices(linear=linear)) * self._inside).astype(np.float32)

    def matrices(self, *, linear=False):
        """Matrices with which `to_working` resamples.

        Parameters
        ----------
        linear : bool, optional
            As for `to_working`.

        Returns
        -------
        rows, columns : `scipy.sparse.csr_array`
            Those of the two axes.
        """
        return tuple(
            resampling_matrix(n, axis, conserve="intensity", linear=linear, cubic=self.cubic)
            for n, axis in zip(self.shape, self._axes, strict=True)
        )

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
            options = {"width": width, "conserve": conserve, "cubic": self.cubic}
            matrices.append(resampling_matrix(len(axis), positions, **options))
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
