"""Sky priors: what sources there are, and how they look on a grid."""

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

__all__ = [
    "PRIORS",
    "SkyPrior",
    "SourceList",
    "render_sources",
]

_FWHM = 2 * np.sqrt(2 * np.log(2))
_STAMP_SIGMAS = 4.5


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
        FWHM.
    pa : `numpy.ndarray`
        Angle of the major axis from the positive y axis towards negative x, in radians: north
        through east where x grows westwards.

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

    def __len__(self):
        return len(self.flux)

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
            (arcsec), pa (deg east of north).
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
            }
        )


@dataclass(frozen=True, kw_only=True)
class SkyPrior:
    """Random skies of Gaussian sources.

    Parameters
    ----------
    n_sources : tuple of int
        Smallest and largest number of sources, drawn uniformly.
    flux : tuple of float
        Range of the total flux.
    flux_law : {"uniform", "log-uniform"}
        Distribution of the flux over its range.
    fwhm : tuple of float
        Range from which both axes are drawn, uniformly; the larger is the major one.
    half_width : float
        Centres lie within plus or minus this in both coordinates.
    step : float
        Centres lie on a grid of this spacing; 0 draws them continuously.
    point_share : float
        Share of sources that are points (FWHM 0).
    empty_share : float
        Share of skies without any source, beside those that ``n_sources`` allows.
    relative : bool
        False: Jy and arcsec. True: noise rms and beams (geometric mean FWHM).
    """

    n_sources: tuple = (1, 5)
    flux: tuple = (50e-6, 500e-6)
    flux_law: str = "uniform"
    fwhm: tuple = (0.4, 0.8)
    half_width: float = 10.0
    step: float = 0.0
    point_share: float = 0.0
    empty_share: float = 0.0
    relative: bool = False

    def __post_init__(self):
        if self.flux_law not in ("uniform", "log-uniform"):
            raise ValueError(f"flux_law is {self.flux_law!r}; expected 'uniform' or 'log-uniform'")
        for name in ("n_sources", "flux", "fwhm"):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (low, high))  # JSON has lists
            if not 0 <= low <= high:
                raise ValueError(f"{name} is ({low}, {high}); expected 0 <= low <= high")
        if self.flux_law == "log-uniform" and not self.flux[0] > 0:
            raise ValueError(f"flux is {self.flux}; expected above 0 with a log-uniform law")
        if not 0 < self.half_width < np.inf:
            raise ValueError(f"half_width is {self.half_width}; expected a number above 0")
        if not 0 <= self.step < np.inf:
            raise ValueError(f"step is {self.step}; expected a number of 0 or more")
        for name in ("point_share", "empty_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")

    def draw(self, rng):
        """Draw one sky.

        Parameters
        ----------
        rng : `numpy.random.Generator`
            Random stream.

        Returns
        -------
        sources : `SourceList`
            In the units of the prior; none, where the number drawn is 0.
        """
        n = rng.integers(self.n_sources[0], self.n_sources[1] + 1)
        n = 0 if rng.random() < self.empty_share else n
        axes = np.sort(rng.uniform(*self.fwhm, (n, 2)), axis=1)
        axes[rng.random(n) < self.point_share] = 0
        if self.flux_law == "uniform":
            flux = rng.uniform(*self.flux, n)
        else:
            flux = np.exp(rng.uniform(*np.log(self.flux), n))
        x, y = rng.uniform(-self.half_width, self.half_width, (2, n))
        if self.step:
            x, y = (np.rint(offset / self.step) * self.step for offset in (x, y))
        return SourceList(x, y, flux, axes[:, 1], axes[:, 0], rng.uniform(0, np.pi, n))

    def in_units_of(self, rms, beam):
        """Express a physical prior in noise rms and beams.

        Parameters
        ----------
        rms : float
            Noise rms in Jy/beam.
        beam : float
            Geometric mean FWHM of the beam in arcsec.

        Returns
        -------
        prior : `SkyPrior`
            With ``relative=True``; a relative prior is returned as it is.
        """
        if self.relative:
            return self
        return replace(
            self,
            flux=tuple(f / rms for f in self.flux),
            fwhm=tuple(w / beam for w in self.fwhm),
            half_width=self.half_width / beam,
            step=self.step / beam,
            relative=True,
        )

    def to_dict(self):
        """Describe the prior in plain numbers, for JSON.

        Returns
        -------
        description : dict
            The keywords that make the prior again.
        """
        return asdict(self)


PRIORS = {
    "independent": SkyPrior(),
    "drozdova2024": SkyPrior(step=1.0),
    # 0 to 12 sources per 25 arcsec at D24's beam of 0.854 arcsec, from far below the noise to far
    # above it, from points to three beams.
    "wide": SkyPrior(
        n_sources=(0, 12),
        flux=(0.5, 150.0),
        flux_law="log-uniform",
        fwhm=(0.0, 3.0),
        half_width=14.6,
        point_share=0.2,
        relative=True,
    ),
}


def render_sources(sources, owner, n_images, shape, *, pixel=1.0, kernel_fwhm=0.0):
    """Draw Gaussian sources on a batch of images.

    Sources are drawn only where they have flux, out to 4.5 sigma. A Gaussian convolved with the
    Gaussian kernel is drawn in closed form, so positions between pixels are exact.

    Parameters
    ----------
    sources : `SourceList`
        The sources of all images, one after the other.
    owner : array_like of int
        Shape (len(sources),): the image each source belongs to.
    n_images : int
        Number of images.
    shape : tuple of int
        (ny, nx); the centre of the field is pixel (ny // 2, nx // 2).
    pixel : float, optional
        Pixel in the unit of the sources' positions and sizes.
    kernel_fwhm : float, optional
        FWHM in pixels of the Gaussian that the sky is convolved with. The sum of a source is its
        flux to 1e-4 where the convolved FWHM is at least 1.7 pixels.

    Returns
    -------
    images : `torch.Tensor`
        Shape (n_images, ny, nx), flux per pixel. Flux beyond the border is lost.

    Raises
    ------
    ValueError
        If a source would be narrower than 1.5 pixels after the convolution.
    """
    images = torch.zeros(n_images, *shape)
    if len(sources) == 0:
        return images
    columns = (sources.x, sources.y, sources.flux, sources.major, sources.minor, sources.pa)
    x, y, flux, major, minor, pa = (torch.as_tensor(c, dtype=torch.float32) for c in columns)
    kernel = torch.tensor(float(kernel_fwhm))
    major, minor = torch.hypot(major / pixel, kernel), torch.hypot(minor / pixel, kernel)
    if minor.min() < 1.5:
        raise ValueError(
            f"a source is {float(minor.min()):.2f} pixels wide; expected 1.5 or more (kernel_fwhm="
            f"{kernel_fwhm} pixels)"
        )
    x, y = x / pixel + shape[1] // 2, y / pixel + shape[0] // 2
    half = int(np.ceil(_STAMP_SIGMAS * float(major.max()) / _FWHM))
    offset = torch.arange(-half, half + 1)
    columns, rows = x.round().long()[:, None] + offset, y.round().long()[:, None] + offset
    values = _gaussian(columns - x[:, None], rows - y[:, None], flux, major, minor, pa)
    inside = ((rows >= 0) & (rows < shape[0]))[:, :, None]
    inside = inside & ((columns >= 0) & (columns < shape[1]))[:, None, :]
    place = torch.as_tensor(owner)[:, None, None] * shape[0] + rows[:, :, None]
    place = place * shape[1] + columns[:, None, :]
    images.view(-1).index_add_(0, place[inside], values[inside])
    return images


def _gaussian(dx, dy, flux, major, minor, pa):
    """Elliptical Gaussians of given total flux on stamps, shape (n, ny, nx)."""
    sin, cos = torch.sin(pa)[:, None, None], torch.cos(pa)[:, None, None]
    dx, dy = dx[:, None, :], dy[:, :, None]
    along, across = -sin * dx + cos * dy, cos * dx + sin * dy
    along, across = along / major[:, None, None], across / minor[:, None, None]
    squared = _FWHM**2 * (along**2 + across**2)
    # Cut by the source's own size: the stamp is as wide as the widest source of the call.
    shape = torch.exp(-0.5 * squared) * (squared <= _STAMP_SIGMAS**2)
    return (flux * _FWHM**2 / (2 * np.pi * major * minor))[:, None, None] * shape
