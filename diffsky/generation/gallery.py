"""Many images in one figure."""

import astropy.units as u
import numpy as np

from diffsky._units import plain_values

__all__ = ["plot_gallery"]

_PANEL = 1.1  # inch
_SHOWN_UNITS = (u.Jy, u.mJy, u.uJy)


def plot_gallery(
    images, *, labels=None, columns=8, max_images=64, vmax=None, cmap=None, figure=None
):
    """Show images beside each other, on an asinh scale of each.

    Parameters
    ----------
    images : `~astropy.nddata.CCDData` or `numpy.ndarray`
        Shape (n, ny, nx). ``meta`` of a cube gives the titles.
    labels : sequence of str or None, optional
        Title of each image; None takes the classes or peak flux densities in ``meta``.
    columns : int, optional
        Images in a row. Default 8.
    max_images : int, optional
        At most so many are shown, the first ones. Default 64.
    vmax : float, `~astropy.units.Quantity` or None, optional
        Where the colours end, in Jy/beam where it has no unit; None is the largest pixel of each.
    cmap : str or `~matplotlib.colors.Colormap`, optional
        Colour map.
    figure : `~matplotlib.figure.Figure`, optional
        An empty figure to fill. By default a new one.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        With an axes for each image.

    Raises
    ------
    ValueError
        If the images are no cube or their labels not as many, or a number is out of range.
    """
    data = plain_values(images, name="images")
    vmax = None if vmax is None else float(plain_values(vmax, name="vmax"))
    if data.ndim != 3 or not len(data):
        raise ValueError(f"images have the shape {data.shape}; expected (n, ny, nx), n 1 or more")
    for name, value in (("columns", columns), ("max_images", max_images)):
        if value != int(value) or value < 1:
            raise ValueError(f"{name} is {value!r}; expected an integer of 1 or more")
    labels = _titles(images, len(data)) if labels is None else list(labels)
    if labels is not None and len(labels) != len(data):
        raise ValueError(f"{len(labels)} labels for {len(data)} images; expected as many")
    data = data[:max_images]
    columns = min(columns, len(data))
    rows = -(-len(data) // columns)
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure()
    figure.set_size_inches(_PANEL * columns, (_PANEL + (0.18 if labels else 0)) * rows)
    figure.set_layout_engine("constrained", h_pad=0.01, w_pad=0.01, hspace=0, wspace=0)
    for k, image in enumerate(data):
        ax = figure.add_subplot(rows, columns, k + 1)
        _show(ax, image, vmax, cmap)
        if labels:
            ax.set_title(labels[k], size=6, pad=2)
    return figure


def _show(ax, image, vmax, cmap):
    from matplotlib.colors import AsinhNorm

    finite = image[np.isfinite(image)]
    top = float(finite.max(initial=0.0) if vmax is None else vmax)
    top = top if top > 0 else 1.0
    low = float(finite.min(initial=0.0))
    norm = AsinhNorm(linear_width=0.05 * top, vmin=low, vmax=top)
    ax.imshow(image, origin="lower", interpolation="nearest", norm=norm, cmap=cmap or "inferno")
    ax.set_axis_off()


def _titles(images, n):
    """Classes, or peaks in a unit that fits them; None for a part of a cube, which keeps all."""
    meta = getattr(images, "meta", {})
    if len(meta.get("label", ())) == n:
        return list(meta["label"])
    peaks = meta.get("peak_flux", ())
    if len(peaks) != n:
        return None
    middle = np.median(peaks.to_value(u.Jy / u.beam))
    unit = next((one for one in _SHOWN_UNITS if middle >= one.to(u.Jy)), _SHOWN_UNITS[-1])
    return [f"{value:.3g} {unit}" for value in peaks.to_value(unit / u.beam)]
