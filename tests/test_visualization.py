"""What the plots show: units, scales, frames, and labels that can be read."""

from itertools import combinations

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable
from astropy.wcs import WCS
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox
from matplotlib.patches import Circle, Ellipse
from radio_beam import Beam

from diffsky.visualization import fitting_unit, plot_image, plot_overview, plot_sources

BEAM = Beam(0.9 * u.arcsec, 0.6 * u.arcsec, 30 * u.deg)
SIZE = 80


def make_wcs(east=-1):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [41, 41]
    wcs.wcs.cdelt = [east * 0.1 / 3600, 0.1 / 3600]
    return wcs


def make_image(data=None, unit="Jy/beam", mask=None, wcs=None):
    if data is None:
        data = np.random.default_rng(1).normal(0, 1e-5, (SIZE, SIZE))
    wcs = make_wcs() if wcs is None else wcs
    return CCDData(data, unit=unit, mask=mask, wcs=wcs, meta={"beam": BEAM})


def make_sky(peak=5e-6):
    data = np.zeros((SIZE, SIZE))
    data[40, 40] = peak
    meta = {"beam": BEAM, "rms": 1e-5, "kernel_fwhm": 0.3 * u.arcsec}
    meta |= {"strategy": "median", "n_samples": 7}
    spread = StdDevUncertainty(data / 3)
    return CCDData(data, unit="Jy/pix", wcs=make_wcs(), uncertainty=spread, meta=meta)


def make_catalog(x, y, reliability):
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return QTable(
        {
            "sky_centroid": make_wcs().pixel_to_world(x, y).icrs,
            "x_centroid": x,
            "y_centroid": y,
            "flux": np.full(len(x), 2.5e-4) * u.Jy,
            "reliability": np.asarray(reliability, dtype=float),
            "flags": np.zeros(len(x), dtype=int),
        }
    )


def make_axes(image=None):
    image = make_image() if image is None else image
    axes = Figure(figsize=(5, 5)).add_subplot(projection=image.wcs)
    return plot_image(image, ax=axes)


def circles(ax):
    return [patch for patch in ax.patches if isinstance(patch, Circle)]


def labels(ax):
    return [text for text in ax.texts if text.get_text()]


def bar_of(ax):
    return ax.images[0].colorbar


@pytest.mark.parametrize(
    ("flux", "unit"),
    [
        (20, u.Jy),
        (1, u.Jy),
        (0.999, u.mJy),
        (2e-3, u.mJy),
        (5e-4, u.uJy),
        (3e-8, u.nJy),
        (0, u.nJy),
    ],
)
def test_fitting_unit_gives_the_smallest_number_above_one(flux, unit):
    assert fitting_unit(flux) == unit


def test_images_in_rms_are_symmetric_and_limited():
    rms = 1e-5
    for peak, limit in ((2, 5), (7, 7), (300, 10)):
        data = np.zeros((SIZE, SIZE))
        data[30, 30] = peak * rms
        ax = plot_image(make_image(data), ax=make_axes(), rms=rms)
        norm = ax.images[-1].norm
        assert (norm.vmin, norm.vmax) == pytest.approx((-limit, limit))
        assert ax.images[-1].get_array().max() == pytest.approx(peak)
        assert ax.images[-1].colorbar.extend == ("max" if peak > limit else "neither")


def test_a_quantity_is_converted_to_the_unit_of_the_image():
    image = make_image(np.full((SIZE, SIZE), 3e-5))
    ax = plot_image(image, ax=make_axes(), rms=10 * u.uJy / u.beam)
    assert ax.images[-1].get_array().max() == pytest.approx(3)


@pytest.mark.parametrize(
    ("unit", "peak", "text", "shown"),
    [
        ("Jy/beam", 3e-4, "µJy / beam", 300),
        ("mJy/beam", 5e3, "Jy / beam", 5),
        ("Jy/pix", 4e-3, "mJy / pixel", 4),
    ],
)
def test_the_colour_bar_names_the_unit_that_is_shown(unit, peak, text, shown):
    data = np.zeros((SIZE, SIZE))
    data[40, 40] = peak
    ax = make_axes(make_image(data, unit=unit))
    assert bar_of(ax).ax.get_ylabel() == text
    assert ax.images[0].norm.vmax == pytest.approx(shown)
    assert ax.images[0].get_array().max() == pytest.approx(shown)


def test_a_sky_starts_at_zero_and_shows_faint_sources():
    ax = make_axes(make_image(np.linspace(0, 1e-5, SIZE**2).reshape(SIZE, SIZE), unit="Jy/pix"))
    norm = ax.images[0].norm
    assert norm.vmin == 0
    assert norm(0.05 * norm.vmax) > 0.12  # a linear scale would give 0.05


def test_the_frame_is_where_there_is_data():
    mask = np.ones((SIZE, SIZE), dtype=bool)
    mask[20:60, 10:70] = False
    ax = make_axes(make_image(mask=mask))
    assert ax.get_xlim() == (9.5, 69.5)
    assert ax.get_ylim() == (19.5, 59.5)


def test_nan_is_no_data_even_without_a_mask():
    data = np.ones((SIZE, SIZE))
    data[:, :30] = np.nan
    assert make_axes(make_image(data)).get_xlim() == (29.5, SIZE - 0.5)


@pytest.mark.parametrize(("east", "angle"), [(-1, 30), (1, -30)])
def test_the_beam_turns_from_north_to_east(east, angle):
    ax = make_axes(make_image(wcs=make_wcs(east)))
    (box,) = (child for child in ax.get_children() if isinstance(child, AnchoredOffsetbox))
    ellipse = next(artist for artist in box.findobj(Ellipse))
    assert (ellipse.width, ellipse.height) == pytest.approx((6, 9))
    assert ellipse.angle == pytest.approx(angle, abs=0.1)


def test_colour_bar_and_beam_are_left_out_on_request():
    axes = Figure().add_subplot(projection=make_wcs())
    ax = plot_image(make_image(), ax=axes, colorbar=False, beam=False)
    assert bar_of(ax) is None
    assert not any(isinstance(child, AnchoredOffsetbox) for child in ax.get_children())


def test_new_axes_come_from_pyplot():
    import matplotlib.pyplot as plt

    ax = plot_image(make_image(), title="a field")
    try:
        assert plt.gcf() is ax.figure
        assert ax.get_title() == "a field"
    finally:
        plt.close(ax.figure)


@pytest.mark.parametrize(
    ("image", "error", "text"),
    [
        (np.ones((4, 4)), TypeError, "ndarray; expected CCDData"),
        (CCDData(np.ones((4, 4)), unit="Jy/beam"), ValueError, "no celestial WCS"),
        (make_image(unit="K"), ValueError, "image is in K; expected Jy/beam, Jy/pix"),
        (make_image(mask=np.ones((SIZE, SIZE), dtype=bool)), ValueError, "no data"),
    ],
)
def test_what_is_no_image_is_refused(image, error, text):
    with pytest.raises(error, match=text):
        plot_image(image)


@pytest.mark.parametrize("option", [{"rms": 0}, {"rms": np.nan}, {"vmax": -1.0}])
def test_scales_that_are_not_positive_are_refused(option):
    with pytest.raises(ValueError, match="expected a positive, finite number"):
        plot_image(make_image(), **option)


def test_circles_lie_on_the_sources_and_are_dashed_where_unsure():
    ax = plot_sources(make_catalog([20.5, 60], [30, 45.25], [0.9, 0.4]), make_axes())
    assert [circle.center for circle in circles(ax)] == [
        pytest.approx((20.5, 30), abs=1e-4),
        pytest.approx((60, 45.25), abs=1e-4),
    ]
    assert [circle.get_linestyle() for circle in circles(ax)] != ["solid", "solid"]
    assert circles(ax)[0].get_linestyle() == "solid"
    assert not labels(ax)


def test_axes_without_coordinates_take_the_pixels():
    ax = Figure().add_subplot()
    catalog = make_catalog([10], [20], [1.0])
    catalog["x_centroid"] = [33.0]
    plot_sources(catalog, ax, radius=2)
    assert circles(ax)[0].center == (33, 20)
    assert circles(ax)[0].radius == 2


def test_labels_are_numbers_of_the_column():
    catalog = make_catalog([20, 60], [30, 45], [0.9, 0.4])
    for name, texts in (("reliability", ["0.90", "0.40"]), ("flux", ["250", "250"])):
        ax = plot_sources(catalog, make_axes(), label=name)
        assert sorted(text.get_text() for text in labels(ax)) == sorted(texts)
    assert {
        text.get_text() for text in labels(plot_sources(catalog, make_axes(), label="flags"))
    } == {"0"}


@pytest.mark.parametrize("n", [5, 60])
def test_labels_overlap_neither_each_other_nor_circles_nor_the_frame(n):
    rng = np.random.default_rng(n)
    catalog = make_catalog(*rng.uniform(0, SIZE - 1, (2, n)), rng.uniform(0.1, 1, n))
    ax = plot_sources(catalog, make_axes(), label="reliability")
    boxes = [text.get_window_extent() for text in labels(ax)]
    assert len(boxes) >= 5
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    rings = [circle.get_window_extent() for circle in circles(ax)]
    assert not any(a.overlaps(b) for a in boxes for b in rings)
    frame = ax.get_window_extent()
    assert all(frame.contains(*corner) for box in boxes for corner in box.corners())


def test_the_most_reliable_sources_are_labelled_first():
    catalog = make_catalog([10, 40, 70], [40, 40, 40], [0.2, 0.9, 0.6])
    ax = plot_sources(catalog, make_axes(), label="reliability", max_labels=2)
    assert [text.get_text() for text in labels(ax)] == ["0.90", "0.60"]


def test_an_empty_catalogue_leaves_the_image_as_it_is():
    ax = plot_sources(make_catalog([], [], []), make_axes(), label="reliability")
    assert not circles(ax)
    assert not labels(ax)


def test_an_unknown_label_is_refused_with_the_columns():
    with pytest.raises(ValueError, match="label is 'size'; expected one of .*reliability"):
        plot_sources(make_catalog([1], [1], [1]), make_axes(), label="size")


@pytest.mark.parametrize(
    ("more", "titles"),
    [
        ({}, ["Dirty", "Sky", "Standard"]),
        ({"true_sky": make_sky()}, ["Dirty", "True", "Sky", "Standard"]),
        ({"residual": make_image()}, ["Dirty", "Sky", "Standard", "Residual"]),
        (
            {"true_sky": make_sky(), "residual": make_image()},
            ["Dirty", "True", "Sky", "Standard", "Residual"],
        ),
    ],
)
def test_panels_of_the_overview(more, titles, tmp_path):
    catalog = make_catalog([40], [40], [0.8])
    figure = Figure()
    axes = plot_overview(make_image(), make_sky(), catalog=catalog, figure=figure, **more)
    assert [ax.get_title().split()[0].rstrip(":") for ax in axes] == titles
    assert all(ax.figure is figure for ax in axes)
    assert axes[0].get_title() == "Dirty image (rms 10 µJy/beam)"
    sky = axes[titles.index("Sky")]
    assert sky.get_title() == "Sky: median of 7 samples (labels: reliability)"
    assert [text.get_text() for text in labels(sky)] == ["0.80"]
    assert len(circles(axes[0])) == 1
    figure.savefig(tmp_path / "overview.png", dpi=40)
    assert (tmp_path / "overview.png").stat().st_size > 5000


def test_images_that_are_compared_share_their_scale():
    axes = plot_overview(
        make_image(),
        make_sky(2e-6),
        truth=make_catalog([40], [40], [1]),
        true_sky=make_sky(9e-6),
        residual=make_image(np.full((SIZE, SIZE), 1.2e-4)),
        figure=Figure(),
    )
    dirty, truth, sky, _, residual = (ax.images[0].norm.vmax for ax in axes)
    assert dirty == residual
    assert truth == sky == pytest.approx(9)
    assert axes[1].get_title() == "True sky (labels: flux in µJy)"
    assert [text.get_text() for text in labels(axes[1])] == ["250"]


def test_an_empty_sky_does_not_show_rounding_errors():
    """The scale ends no lower than the peak of a point source as bright as the noise."""
    axes = plot_overview(make_image(), make_sky(1e-15), figure=Figure())
    area = np.pi / (4 * np.log(2)) * 3**2  # of the kernel, in pixels
    for ax in axes[1:]:
        top = ax.images[0].norm.vmax * u.Unit(bar_of(ax).ax.get_ylabel().split()[0])
        assert top.to_value(u.Jy) == pytest.approx(1e-5 / area, rel=1e-6)


@pytest.mark.parametrize("missing", ["rms", "uncertainty"])
def test_an_overview_needs_a_standard_deviation_and_an_rms(missing):
    sky = make_sky()
    if missing == "rms":
        del sky.meta["rms"]
    else:
        sky.uncertainty = None
    with pytest.raises(ValueError, match="no uncertainty or no meta"):
        plot_overview(make_image(), sky)


def test_the_circle_of_a_large_source_encloses_it():
    catalog = make_catalog([20, 60], [40, 40], [1, 1])
    catalog["major"] = [0.1, 2.0] * u.arcsec
    small, large = circles(plot_sources(catalog, make_axes()))
    assert small.radius == pytest.approx(0.02 * SIZE)
    assert large.radius == pytest.approx(0.75 * 20, rel=1e-3)
