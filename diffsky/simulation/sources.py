"""Sources as plain arrays: points, Gaussians, disks and rings."""

from dataclasses import dataclass, fields, replace

import numpy as np

__all__ = ["SHAPES", "STAMP_SIGMAS", "SourceList"]

SHAPES = ("point", "gaussian", "disk", "ring")
STAMP_SIGMAS = 4.5  # where the image of a Gaussian ends
_FWHM = float(2 * np.sqrt(2 * np.log(2)))


@dataclass(frozen=True)
class SourceList:
    """Sources as plain arrays of length n.

    Parameters
    ----------
    x, y : `numpy.ndarray`
        Offset from the centre of the field, along the columns and rows of the image.
    flux : `numpy.ndarray`
        Total flux density.
    major, minor : `numpy.ndarray`
        Axes: the FWHM of a Gaussian, the diameters of a disk or a ring.
    pa : `numpy.ndarray`
        Angle of the major axis from the positive y axis towards negative x, in radians: north
        through east where x grows westwards.
    shape : `numpy.ndarray` of int, optional
        Index into `SHAPES`. A disk is uniformly bright, a ring infinitely thin; both may be seen
        inclined, as ellipses. By default Gaussians, and points where the major axis is 0.

    Notes
    -----
    Units are those of the prior that drew them: Jy and arcsec, or rms and beams.
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    major: np.ndarray
    minor: np.ndarray
    pa: np.ndarray
    shape: np.ndarray | None = None

    def __post_init__(self):
        if self.shape is None:
            shape = (np.asarray(self.major) > 0).astype(np.int8)
            object.__setattr__(self, "shape", shape)

    def __len__(self):
        return len(self.flux)

    def __getitem__(self, index):
        """Select sources, by anything that selects elements of their arrays."""
        return SourceList(*(getattr(self, one.name)[index] for one in fields(self)))

    @classmethod
    def join(cls, lists):
        """Put sources one after the other.

        Parameters
        ----------
        lists : iterable of `SourceList`
            At least one.

        Returns
        -------
        sources : `SourceList`
            All of them.
        """
        lists = list(lists)
        columns = ([getattr(one, field.name) for one in lists] for field in fields(cls))
        join = np.concatenate if isinstance(lists[0].flux, np.ndarray) else _cat
        return cls(*(join(column) for column in columns))

    def scaled(self, *, flux=1.0, size=1.0):
        """Change the units.

        Parameters
        ----------
        flux : float, optional
            What a flux of 1 becomes; the noise rms in Jy/beam takes rms to Jy.
        size : float, optional
            What a length of 1 becomes; the geometric mean FWHM of the beam in arcsec takes
            beams to arcsec.

        Returns
        -------
        sources : `SourceList`
            The same sources in the new units.
        """
        lengths = {name: getattr(self, name) * size for name in ("x", "y", "major", "minor")}
        return replace(self, flux=self.flux * flux, **lengths)

    def reach(self, kernel_fwhm=0.0):
        """How far from its centre a source has flux.

        Parameters
        ----------
        kernel_fwhm : float, optional
            FWHM of the Gaussian that the sky is convolved with, in the unit of the sources.

        Returns
        -------
        reach : `numpy.ndarray`
            Shape (n,): 4.5 sigma of a convolved Gaussian, or the radius of a disk or ring and
            4.5 sigma of the kernel.
        """
        extended = (self.shape >= SHAPES.index("disk")) * self.major
        gaussian = self.major - extended
        return extended / 2 + STAMP_SIGMAS / _FWHM * (gaussian**2 + kernel_fwhm**2) ** 0.5

    def whole(self, within, *, kernel_fwhm=0.0):
        """Which sources lie whole in a field.

        Parameters
        ----------
        within : tuple of float
            Half of the field's side along x and y, in the unit of the sources.
        kernel_fwhm : float, optional
            As for `reach`.

        Returns
        -------
        whole : `numpy.ndarray`
            Shape (n,), bool.
        """
        reach = self.reach(kernel_fwhm)
        return (abs(self.x) + reach <= within[0]) & (abs(self.y) + reach <= within[1])

    def to_table(self, wcs):
        """Put sources in Jy and arcsec on the sky.

        Parameters
        ----------
        wcs : `astropy.wcs.WCS`
            Celestial WCS with ``array_shape``, x growing westwards; offsets count from pixel
            (ny // 2, nx // 2).

        Returns
        -------
        sources : `astropy.table.QTable`
            id, sky_centroid, x_centroid, y_centroid (0-based pixels), flux (Jy), major, minor
            (arcsec), pa (deg east of north), shape (a name of `SHAPES`).
        """
        import astropy.units as u
        from astropy.table import QTable
        from astropy.wcs.utils import pixel_to_skycoord, proj_plane_pixel_scales

        scale = proj_plane_pixel_scales(wcs)[0] * 3600
        ny, nx = wcs.array_shape
        x, y = nx // 2 + self.x / scale, ny // 2 + self.y / scale
        return QTable(
            {
                "id": np.arange(1, len(self) + 1),
                "sky_centroid": pixel_to_skycoord(x, y, wcs).icrs,
                "x_centroid": x,
                "y_centroid": y,
                "flux": self.flux * u.Jy,
                "major": self.major * u.arcsec,
                "minor": self.minor * u.arcsec,
                "pa": np.degrees(self.pa) * u.deg,
                "shape": np.array(SHAPES)[self.shape],
            }
        )


def _cat(tensors):
    import torch

    return torch.cat(tensors)
