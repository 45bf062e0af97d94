"""Plots of images, skies and catalogues; every function returns matplotlib axes.

Where no axes or figure are given, they come from pyplot. A `matplotlib.figure.Figure` of one's
own needs no display.
"""

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData
from astropy.wcs.utils import proj_plane_pixel_area

__all__ = ["fitting_unit", "plot_image", "plot_overview", "plot_sources"]

_SKY_UNIT = u.Jy / u.pix
_PANEL = (5.2, 4.4)  # inches
_SKY_STEP = 0.1  # of the brightest pixel: there the asinh stretch turns from linear
_RMS_LIMITS = (5, 10)
_DIVERGING, _SKY, _SPREAD = "RdBu_r", "inferno", "viridis"
_WAYS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))


def plot_image(
    image, *, ax=None, rms=None, vmax=None, cmap=None, title=None, colorbar=True, beam=True
):
    """Show an image with its sky coordinates, colour bar and beam.

    The frame is the part of the image that has data. Data in Jy/pix are shown from 0 on an asinh
    scale, where faint sources show beside bright ones; all others on a linear scale that is
    symmetric about 0.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        Shape (ny, nx), in Jy/beam, Jy/pix or units like these, with a celestial WCS. The beam is
        ``image.meta["beam"]``, where there is one.
    ax : `~astropy.visualization.wcsaxes.WCSAxes`, optional
        Axes to plot on. By default new ones.
    rms : float or `~astropy.units.Quantity`, optional
        Noise rms in the unit of the image; the image is then shown in units of it.
    vmax : float or `~astropy.units.Quantity`, optional
        Where the colours end, in the unit of the image, or in rms where that is given. By
        default at the largest value, for images in units of the rms within 5 and 10.
    cmap : str or `~matplotlib.colors.Colormap`, optional
        Colour map.
    title : str, optional
        Title of the axes.
    colorbar, beam : bool, optional
        Whether to add a colour bar with the unit, and an ellipse of the beam in the corner.

    Returns
    -------
    `~astropy.visualization.wcsaxes.WCSAxes`
        The axes.

    Raises
    ------
    TypeError
        If the image is no CCDData.
    ValueError
        If it has no celestial WCS, no unit of flux or no data, or if ``rms`` or ``vmax`` is not
        positive.
    """
    data, valid = _check_image(image)
    is_sky = rms is None and image.unit.is_equivalent(_SKY_UNIT)
    factor, vmax, label = _scaling(data[valid], image.unit, rms, vmax)
    data = data * factor
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.figure(figsize=_PANEL, layout="constrained").add_subplot(projection=image.wcs)
    shown = ax.imshow(
        np.where(valid, data, np.nan),
        origin="lower",
        interpolation="nearest",
        **_colours(vmax, cmap, is_sky=is_sky),
    )
    _frame(ax, valid)
    ax.set_title(title, size=10)
    if colorbar:
        _add_colorbar(ax, shown, label, data[valid])
    if beam and image.meta.get("beam") is not None:
        _add_beam(ax, image.meta["beam"])
    return ax


def plot_sources(catalog, ax, *, label=None, radius=None, color="white", max_labels=40):
    """Mark the sources of a catalogue on an image.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        As `diffsky.catalog.source_table` makes it. Axes without a WCS take ``x_centroid`` and
        ``y_centroid``.
    ax : `~matplotlib.axes.Axes`
        Axes with an image on them.
    label : str, optional
        Column that labels the sources, "reliability" or "flux" for instance. Fluxes are written
        in Jy, mJy, µJy or nJy, without the unit. By default no labels.
    radius : float, optional
        Radius of the circles in pixels. By default 2 % of the width of the axes, or 0.75 FWHM of
        the source where that is more.
    color : str, optional
        Colour of circles and labels. Circles are dashed where the reliability is below 0.5.
    max_labels : int, optional
        At most so many labels are written, those of the most reliable sources, and of these only
        the ones for which there is room.

    Returns
    -------
    `~matplotlib.axes.Axes`
        The axes.

    Raises
    ------
    ValueError
        If the catalogue has no such label.
    """
    from matplotlib.patches import Circle

    if label is not None and label not in catalog.colnames:
        raise ValueError(f"label is {label!r}; expected one of {', '.join(catalog.colnames)}")
    x, y = _positions(catalog, ax)
    radius = np.broadcast_to(_radii(catalog, ax) if radius is None else radius, len(catalog))
    certain = np.asarray(catalog["reliability"], dtype=float)
    for a, b, r, share in zip(x, y, radius, certain, strict=True):
        style = (0, (2, 2)) if share < 0.5 else "solid"
        ax.add_patch(Circle((a, b), r, fill=False, ec=color, linewidth=1, linestyle=style))
    if label is not None and len(catalog):
        texts = _label_texts(catalog[label])
        order = np.argsort(-certain, kind="stable")[:max_labels]
        _write_labels(ax, x, y, radius, [(k, texts[k]) for k in order], color)
    return ax


def plot_overview(
    dirty, sky, *, catalog=None, truth=None, true_sky=None, residual=None, figure=None
):
    """Show an observation and what was made of it.

    The panels are the dirty image, the true sky where it is given, the sky, its standard
    deviation, and the residual where it is given. Dirty image and residual are in units of the
    rms on one scale; true sky and sky share another.

    Parameters
    ----------
    dirty : `~astropy.nddata.CCDData`
        Dirty image, (ny, nx), Jy/beam.
    sky : `~astropy.nddata.CCDData`
        What `diffsky.DiffusionDeconvolver.predict` returned: (ny, nx), Jy/pix, with a standard
        deviation, and the rms in ``meta``.
    catalog : `~astropy.table.QTable`, optional
        Sources to mark on dirty image and sky, labelled with their reliability.
    truth : `~astropy.table.QTable`, optional
        True sources to mark on the true sky, labelled with their flux.
    true_sky : `~astropy.nddata.CCDData`, optional
        True sky at the resolution of ``sky``, Jy/pix.
    residual : `~astropy.nddata.CCDData`, optional
        Residual image, Jy/beam.
    figure : `~matplotlib.figure.Figure`, optional
        Figure to plot on, whose size and layout are set to fit. By default one of pyplot.

    Returns
    -------
    `numpy.ndarray` of `~astropy.visualization.wcsaxes.WCSAxes`
        One for each panel, in the order above; the figure is ``axes[0].figure``.

    Raises
    ------
    ValueError
        If ``sky`` has no uncertainty, or no rms in its ``meta``.
    """
    rms = sky.meta.get("rms")
    if sky.uncertainty is None or rms is None:
        raise ValueError("sky has no uncertainty or no meta['rms']; expected what predict returns")
    n_panels = 3 + (true_sky is not None) + (residual is not None)
    columns = 3 if n_panels in (3, 5) else 2
    free = iter(_panel_axes(figure, sky.wcs, n_panels, columns))
    unit = fitting_unit(rms)
    title = f"Dirty image (rms {rms * u.Jy.to(unit):.3g} {unit:unicode}/beam)"
    seen = plot_image(dirty, ax=next(free), rms=rms, title=title)
    floor = _least_peak(sky, rms)
    skies = [image for image in (true_sky, sky) if image is not None]
    top = max(floor, *(np.nanmax(np.where(_check_image(i)[1], i.data, 0)) for i in skies)) or None
    made = [seen]
    if true_sky is not None:
        made.append(plot_image(true_sky, ax=next(free), vmax=top, title="True sky"))
    made.append(plot_image(sky, ax=next(free), vmax=top, title=_sky_title(sky, catalog)))
    panel = made[-1]
    spread = CCDData(sky.uncertainty.array, unit=sky.unit, wcs=sky.wcs, mask=sky.mask)
    spread.meta["beam"] = sky.meta.get("beam")
    title, top = "Standard deviation of the samples", max(floor, spread.data.max()) or None
    made.append(plot_image(spread, ax=next(free), vmax=top, cmap=_SPREAD, title=title))
    if residual is not None:
        limit = seen.images[0].norm.vmax
        made.append(plot_image(residual, ax=next(free), rms=rms, vmax=limit, title="Residual"))
    _label_outer(made, columns)
    if truth is not None and true_sky is not None:
        unit = _flux_unit(truth["flux"])
        made[1].set_title(f"True sky (labels: flux in {unit:unicode})", size=10)
        plot_sources(truth, made[1], label="flux")
    if catalog is not None:
        plot_sources(catalog, seen, color="black")
        plot_sources(catalog, panel, label="reliability")
    return np.array(made, dtype=object)


def fitting_unit(flux):
    """Find the unit in which a flux is written with few digits.

    Parameters
    ----------
    flux : float
        The largest flux to write, in Jy.

    Returns
    -------
    `~astropy.units.Unit`
        Jy, mJy, µJy or nJy, whichever gives the smallest number above 1.
    """
    return next((unit for unit in (u.Jy, u.mJy, u.uJy) if flux * u.Jy.to(unit) >= 1), u.nJy)


def _check_image(image):
    """Data in float64 and where they are valid."""
    if not isinstance(image, CCDData):
        raise TypeError(f"image is of type {type(image).__name__}; expected CCDData")
    if image.wcs is None or not image.wcs.has_celestial:
        raise ValueError("image has no celestial WCS; expected one")
    if not any(image.unit.is_equivalent(unit) for unit in (u.Jy / u.beam, _SKY_UNIT)):
        raise ValueError(f"image is in {image.unit}; expected Jy/beam, Jy/pix or the like")
    valid = np.isfinite(image.data)
    valid = valid if image.mask is None else valid & ~np.asarray(image.mask, dtype=bool)
    if not valid.any():
        raise ValueError("image has no data: every pixel is masked or not finite")
    return np.asarray(image.data, dtype=float), valid


def _plain(value, unit, name):
    value = float(value.to_value(unit) if isinstance(value, u.Quantity) else value)
    if not 0 < value < np.inf:
        raise ValueError(f"{name} is {value}; expected a positive, finite number")
    return value


def _scaling(values, unit, rms, vmax):
    """Factor that the values are shown with, end of the colours after it, and what to call it."""
    if rms is not None:
        factor = 1 / _plain(rms, unit, "rms")
        vmax = np.clip(np.abs(values).max() * factor, *_RMS_LIMITS) if vmax is None else vmax
        return factor, _plain(vmax, u.one, "vmax"), "apparent flux density / rms"
    vmax = np.abs(values).max() or 1.0 if vmax is None else vmax
    vmax = _plain(vmax, unit, "vmax")
    per = u.pix if unit.is_equivalent(_SKY_UNIT) else u.beam
    shown = fitting_unit((vmax * unit).to_value(u.Jy / per))
    factor = unit.to(shown / per)
    return factor, vmax * factor, f"{shown:unicode} / {'pixel' if per == u.pix else 'beam'}"


def _colours(vmax, cmap, *, is_sky):
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm, Normalize

    cmap = colormaps.get_cmap(cmap or (_SKY if is_sky else _DIVERGING)).with_extremes(bad="0.88")
    norm = AsinhNorm(_SKY_STEP * vmax, 0, vmax) if is_sky else Normalize(-vmax, vmax)
    return {"cmap": cmap, "norm": norm}


def _frame(ax, valid):
    """Show the pixels with data, the names of the coordinates beside them."""
    for axis, limit in enumerate((ax.set_ylim, ax.set_xlim)):
        used = np.flatnonzero(valid.any(axis=1 - axis))
        limit(used[0] - 0.5, used[-1] + 0.5)
    names = {"RA--": "RA", "DEC-": "Dec", "GLON": "l", "GLAT": "b"}
    for coordinate, kind in zip(ax.coords, ax.wcs.wcs.ctype, strict=True):
        coordinate.set_axislabel(names.get(kind[:4], kind[:4]))
        coordinate.set_ticklabel(size=8)
        coordinate.set_ticks(number=5)
        coordinate.display_minor_ticks(False)


def _add_colorbar(ax, shown, label, values):
    low, high = shown.norm.vmin, shown.norm.vmax
    below, above = values.min() < low * (1 + 1e-6), values.max() > high * (1 + 1e-6)
    extend = ("neither", "max", "min", "both")[2 * int(below and low < 0) + int(above)]
    bar = ax.figure.colorbar(shown, ax=ax, extend=extend, pad=0.02, shrink=0.95)
    if low == 0:
        steps = np.outer(10.0 ** np.arange(-3, 4), (1, 2, 5)).ravel()
        ticks = [0, *steps[(steps >= 0.4 * _SKY_STEP * high) & (steps <= high)]]
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        bar.minorticks_off()
    bar.set_label(label, size=9)
    bar.ax.tick_params(labelsize=8)


def _add_beam(ax, beam):
    from astropy.visualization.wcsaxes import add_beam

    middle = np.array([np.mean(ax.get_xlim()), np.mean(ax.get_ylim())])
    centre = ax.wcs.pixel_to_world(*middle)
    north = ax.wcs.world_to_pixel(centre.directional_offset_by(0 * u.deg, beam.minor))
    dx, dy = np.array(north) - middle
    turn = -np.sign(np.linalg.det(ax.wcs.pixel_scale_matrix))  # 1 where east is left of north
    angle = np.degrees(np.arctan2(-dx, dy)) * u.deg + turn * beam.pa
    options = {"facecolor": "white", "edgecolor": "black", "linewidth": 0.8, "borderpad": 0.6}
    add_beam(ax, major=beam.major, minor=beam.minor, angle=angle, **options)


def _positions(catalog, ax):
    if hasattr(ax, "wcs") and "sky_centroid" in catalog.colnames:
        return (np.atleast_1d(v) for v in ax.wcs.world_to_pixel(catalog["sky_centroid"]))
    return (np.asarray(catalog[name], dtype=float) for name in ("x_centroid", "y_centroid"))


def _radii(catalog, ax):
    least = np.full(len(catalog), 0.02 * abs(np.diff(ax.get_xlim())[0]))
    if "major" not in catalog.colnames or not hasattr(ax, "wcs"):
        return least
    return np.fmax(least, 0.75 * catalog["major"].to_value(u.deg) / _pixel_scale(ax.wcs))


def _pixel_scale(wcs):
    return np.sqrt(proj_plane_pixel_area(wcs.celestial))  # deg


def _label_texts(column):
    if u.Quantity(column).unit.is_equivalent(u.Jy):
        return [f"{flux:.3g}" for flux in column.to_value(_flux_unit(column))]
    kind = ".2f" if column.dtype.kind == "f" else ".0f"
    return [f"{value:{kind}}" for value in u.Quantity(column).value]


def _flux_unit(column):
    return fitting_unit(np.nanmax(column.to_value(u.Jy)))


def _write_labels(ax, x, y, radius, texts, color):
    """Write each label where there is room beside its circle, or not at all."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    ax.figure.canvas.figure.draw_without_rendering()  # the layout decides how much room there is
    taken = [
        Bbox(ax.transData.transform([[a - r, b - r], [a + r, b + r]]))
        for a, b, r in zip(x, y, radius, strict=True)
    ]
    around = withStroke(linewidth=1.8, foreground="black" if color == "white" else "white")
    for k, text in texts:
        label = ax.text(x[k], y[k], text, color=color, size=8, path_effects=[around])
        label.set_in_layout(False)
        if not any(_try_place(label, ax, (x[k], y[k]), radius[k], way, taken) for way in _WAYS):
            label.remove()


def _try_place(label, ax, centre, radius, way, taken):
    """Put a label on one side of a circle; tell whether it is free there."""
    gap = 1.15 * radius * np.array(way) / np.hypot(*way)
    label.set_position(np.array(centre) + gap)
    label.set_ha({1: "left", 0: "center", -1: "right"}[way[0]])
    label.set_va({1: "bottom", 0: "center", -1: "top"}[way[1]])
    box, frame = label.get_window_extent(), ax.get_window_extent()
    if not all(frame.contains(*corner) for corner in box.corners()) or box.count_overlaps(taken):
        return False
    taken.append(box)
    return True


def _panel_axes(figure, wcs, n_panels, columns):
    rows = -(-n_panels // columns)
    if figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure()
    figure.set_size_inches(columns * _PANEL[0], rows * _PANEL[1])
    figure.set_layout_engine("constrained", h_pad=0.08)
    return [figure.add_subplot(rows, columns, k + 1, projection=wcs) for k in range(n_panels)]


def _least_peak(sky, rms):
    """Peak in Jy/pix of a point source as bright as the noise: what is fainter is no sky."""
    kernel = sky.meta.get("kernel_fwhm")
    if kernel is None:
        return 0.0
    return rms * 4 * np.log(2) / np.pi * (_pixel_scale(sky.wcs) / kernel.to_value(u.deg)) ** 2


def _sky_title(sky, catalog):
    average = "median" if sky.meta.get("strategy") == "median" else "mean"
    text = f"Sky: {average} of {sky.meta.get('n_samples', 'the')} samples"
    return text if catalog is None or not len(catalog) else f"{text} (labels: reliability)"


def _label_outer(axes, columns):
    """Coordinates on the left and lower panels alone."""
    for k, ax in enumerate(axes):
        inner = (k + columns < len(axes), k % columns > 0)
        for coordinate, is_inner in zip(ax.coords, inner, strict=True):
            if is_inner:
                coordinate.set_ticklabel_visible(False)
                coordinate.set_axislabel(" ")
