"""Sources on a grid, convolved with a Gaussian kernel and drawn only where they have flux."""

import functools
import math

import numpy as np
import torch

from diffsky.simulation.sources import SHAPES, STAMP_SIGMAS, SourceList

__all__ = ["render_sources", "shape_nodes", "to_points"]

_FWHM = 2 * math.sqrt(2 * math.log(2))
_NARROWEST = 1.5  # pixels
_STEP = 1.5  # ratio of the sizes of neighbouring classes of stamps
_SPACING = 1.2  # of the nodes of a disk or ring, in sigma of the kernel
_VALUES_AT_ONCE = {"cpu": 2**18, "other": 2**24}
_NODES_AT_ONCE = 4096


def render_sources(sources, owner, n_images, shape, *, pixel=1.0, kernel_fwhm=0.0):
    """Draw sources on a batch of images.

    Sources are drawn only where they have flux, out to 4.5 sigma. A Gaussian convolved with the
    Gaussian kernel is drawn in closed form, so positions between pixels are exact. Disks and
    rings are drawn as kernels at the nodes of `shape_nodes`.

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
        Shape (n_images, ny, nx), flux per pixel, where the sources are: on the CPU if they are
        arrays. Flux beyond the border is lost.

    Raises
    ------
    ValueError
        If a source would be narrower than 1.5 pixels after the convolution.
    """
    x, y, flux, major, minor, pa = (
        torch.as_tensor(getattr(sources, name), dtype=torch.float32)
        for name in ("x", "y", "flux", "major", "minor", "pa")
    )
    images = torch.zeros(n_images, *shape, device=flux.device)
    if len(flux) == 0:
        return images
    kernel_fwhm = float(kernel_fwhm)
    kind = torch.as_tensor(sources.shape, device=flux.device)
    filled = kind >= SHAPES.index("disk")
    owner = torch.as_tensor(owner, device=flux.device)
    major, minor = major / pixel, minor / pixel
    _check_widths(torch.where(filled, 0.0, minor), kernel_fwhm)
    x, y = x / pixel + shape[1] // 2, y / pixel + shape[0] // 2
    sigma = kernel_fwhm / _FWHM
    reach = torch.where(filled, major / 2 + STAMP_SIGMAS * sigma, 0.0)
    wide = torch.sqrt(major**2 + kernel_fwhm**2)
    reach = torch.where(filled, reach, STAMP_SIGMAS / _FWHM * wide)
    # One class holds sources of one kind and of like extent. It depends on the source alone, so
    # that the image of a source does not depend on what else is drawn.
    level = torch.ceil(torch.log(reach.clamp(min=4.0) / 4.0) / math.log(_STEP) - 1e-4).long()
    classes = level * len(SHAPES) + torch.where(filled, kind.long(), 0)
    columns = (x, y, flux, major, minor, pa)
    for number in torch.unique(classes).tolist():
        level, name = number // len(SHAPES), SHAPES[number % len(SHAPES)]
        here = torch.nonzero(classes == number)[:, 0]
        half = math.ceil(4.0 * _STEP**level)
        if name in ("disk", "ring"):
            nodes = _nodes_on(name, half, sigma, flux.device)
            draw = functools.partial(_filled, nodes=nodes, sigma=sigma)
            values = 2 * min(len(nodes[0]), _NODES_AT_ONCE) * (2 * half + 1)
        else:
            draw = functools.partial(_gaussian, kernel_fwhm=kernel_fwhm)
            values = (2 * half + 1) ** 2
        at_once = max(1, _VALUES_AT_ONCE.get(flux.device.type, _VALUES_AT_ONCE["other"]) // values)
        for some in here.split(at_once):
            _add_stamps(images, owner[some], [column[some] for column in columns], half, draw)
    return images


def shape_nodes(name, extent):
    """Nodes at which a unit disk or ring is replaced by points.

    A disk or ring convolved with a Gaussian is an integral over Gaussians. Angles are summed by
    the trapezoidal rule and radii by that of Gauss and Legendre, both of which converge
    exponentially for a smooth integrand; the weights sum to one, so that the flux is exact.

    Parameters
    ----------
    name : {"disk", "ring"}
        The shape, of radius one.
    extent : float
        Diameter in sigma of the Gaussian.

    Returns
    -------
    nodes : `numpy.ndarray`
        Shape (k, 2), along the major and the minor axis; at most 1.2 sigma apart.
    weights : `numpy.ndarray`
        Shape (k,): share of the flux.
    """
    if name == "ring":
        radii, shares = np.ones(1), np.ones(1)
    else:
        n = max(3, math.ceil(math.pi / 4 * extent / _SPACING) + 2)
        radii, shares = np.polynomial.legendre.leggauss(n)
        radii = (radii + 1) / 2
        shares = shares * radii
    counts = np.maximum(6, np.ceil(math.pi * radii * extent / _SPACING) + 4).astype(int)
    ring = np.repeat(np.arange(len(radii)), counts)
    step = np.concatenate([np.arange(count) for count in counts])
    angle = 2 * np.pi * (step / counts[ring] + 0.618 * ring)
    nodes = radii[ring, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    weights = (shares / counts)[ring]
    return nodes, weights / weights.sum()


def to_points(sources, resolution):
    """Replace disks and rings by points, for what knows points and Gaussians alone.

    Parameters
    ----------
    sources : `SourceList`
        The sources, as arrays.
    resolution : float
        FWHM, in the unit of the sources, of the finest Gaussian through which they are seen:
        the same picture to 1e-4 of its peak.

    Returns
    -------
    sources : `SourceList`
        Points and Gaussians first, then the points of each disk and ring.
    """
    filled = np.asarray(sources.shape) >= SHAPES.index("disk")
    lists = [sources[~filled]]
    for place in np.flatnonzero(filled):
        x, y, flux, major, minor, pa, shape = (getattr(sources, n)[place] for n in vars(sources))
        nodes, weights = shape_nodes(SHAPES[shape], max(major / resolution * _FWHM, 1))
        along, across = major / 2 * nodes[:, 0], minor / 2 * nodes[:, 1]
        x = x - np.sin(pa) * along + np.cos(pa) * across
        y = y + np.cos(pa) * along + np.sin(pa) * across
        nothing = np.zeros(len(nodes))
        lists.append(SourceList(x, y, flux * weights, nothing, nothing, nothing))
    return SourceList.join(lists)


@functools.lru_cache(maxsize=128)
def _nodes_on(name, half, sigma, device):
    nodes, weights = shape_nodes(name, 2 * max(half / sigma - STAMP_SIGMAS, 1))
    return tuple(torch.as_tensor(a, dtype=torch.float32, device=device) for a in (nodes, weights))


def _check_widths(minor, kernel_fwhm):
    narrowest = math.hypot(float(minor.min()), kernel_fwhm)
    if narrowest < _NARROWEST:
        raise ValueError(
            f"a source is {narrowest:.2f} pixels wide; expected {_NARROWEST} or more (kernel_fwhm="
            f"{kernel_fwhm} pixels)"
        )


def _add_stamps(images, owner, source, half, draw):
    """Add one class of sources to their images."""
    ny, nx = images.shape[-2:]
    x, y = source[:2]
    columns, rows = _stamp(x, half, nx), _stamp(y, half, ny)
    values = draw(columns - x[:, None], rows - y[:, None], *source[2:])
    inside = ((rows >= 0) & (rows < ny))[:, :, None] & ((columns >= 0) & (columns < nx))[:, None]
    place = (owner[:, None] * ny + rows.clamp(0, ny - 1))[:, :, None] * nx
    place = place + columns.clamp(0, nx - 1)[:, None]
    images.view(-1).index_add_(0, place.view(-1), (values * inside).view(-1))


def _stamp(centre, half, n):
    """Pixels of stamps along one axis: around the centres, or all there are if these are fewer."""
    if 2 * half + 1 >= n:
        return torch.arange(n, device=centre.device).expand(len(centre), n)
    return centre.round().long()[:, None] + torch.arange(-half, half + 1, device=centre.device)


def _gaussian(dx, dy, flux, major, minor, pa, *, kernel_fwhm):
    """Elliptical Gaussians of given total flux on stamps, shape (n, ny, nx)."""
    kernel = torch.tensor(kernel_fwhm, device=major.device)
    major, minor = torch.hypot(major, kernel), torch.hypot(minor, kernel)
    sin, cos = torch.sin(pa)[:, None, None], torch.cos(pa)[:, None, None]
    dx, dy = dx[:, None, :], dy[:, :, None]
    along, across = -sin * dx + cos * dy, cos * dx + sin * dy
    along, across = along / major[:, None, None], across / minor[:, None, None]
    squared = _FWHM**2 * (along**2 + across**2)
    # Cut by the source's own size: the stamp is as wide as the widest source of its class.
    shape = torch.exp(-0.5 * squared) * (squared <= STAMP_SIGMAS**2)
    return (flux * _FWHM**2 / (2 * np.pi * major * minor))[:, None, None] * shape


def _filled(dx, dy, flux, major, minor, pa, *, nodes, sigma):
    """Elliptical disks or rings convolved with the kernel, shape (n, ny, nx)."""
    sin, cos = torch.sin(pa)[:, None], torch.cos(pa)[:, None]
    image = 0
    for places, weights in zip(*(part.split(_NODES_AT_ONCE) for part in nodes), strict=True):
        along, across = major[:, None] / 2 * places[:, 0], minor[:, None] / 2 * places[:, 1]
        x, y = -sin * along + cos * across, cos * along + sin * across
        amplitude = flux[:, None] * weights / (2 * math.pi * sigma**2)
        columns = _bell(dx[:, None, :] - x[:, :, None], sigma)
        rows = _bell(dy[:, None, :] - y[:, :, None], sigma) * amplitude[:, :, None]
        # Networks train under autocast; the images that they learn from are made in float32.
        with torch.autocast(rows.device.type, enabled=False):
            image = image + rows.mT @ columns
    return image


def _bell(offset, sigma):
    return torch.exp(-0.5 * (offset / sigma) ** 2)
