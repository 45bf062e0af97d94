"""Galleries show what they are given."""

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData
from matplotlib.figure import Figure

from diffsky.generation import plot_gallery

IMAGES = np.random.default_rng(1).random((10, 8, 8))


def test_every_image_has_its_axes_and_title():
    cube = CCDData(IMAGES, unit=u.one, meta={"label": [f"class {k}" for k in range(10)]})
    figure = plot_gallery(cube, columns=4, figure=Figure())
    assert [ax.get_title() for ax in figure.axes] == cube.meta["label"]
    shown = [ax.images[0].get_array() for ax in figure.axes]
    np.testing.assert_array_equal(shown, IMAGES)
    figure.canvas.draw()


def test_peaks_are_titles_in_a_unit_that_fits():
    peaks = np.geomspace(1e-3, 1e-1, 10) * u.Jy / u.beam
    cube = CCDData(IMAGES, unit=u.Jy / u.beam, meta={"peak_flux": peaks})
    figure = plot_gallery(cube, max_images=3, figure=Figure())
    assert [ax.get_title() for ax in figure.axes] == ["1 mJy", "1.67 mJy", "2.78 mJy"]


def test_array_has_no_titles_unless_given():
    assert not any(ax.get_title() for ax in plot_gallery(IMAGES, figure=Figure()).axes)
    labels = list("abcdefghij")
    axes = plot_gallery(IMAGES, labels=labels, max_images=2, figure=Figure()).axes
    assert [ax.get_title() for ax in axes] == ["a", "b"]


def test_images_of_any_values():
    """Part of a cube, which keeps the labels of all, without data, and below 0."""
    cube = CCDData(IMAGES.copy(), unit=u.Jy / u.beam, meta={"label": ["a"] * 10})
    cube.data[0, :2], cube.data[1] = np.nan, -1
    figure = plot_gallery(cube[:2], figure=Figure())
    figure.canvas.draw()
    shown = plot_gallery(cube[2:], vmax=500 * u.mJy / u.beam, figure=Figure()).axes[0].images[0]
    assert shown.norm.vmax == 0.5
    assert not figure.axes[0].get_title()


@pytest.mark.parametrize("name", ["columns", "max_images"])
def test_bad_numbers(name):
    with pytest.raises(ValueError, match=f"{name} is 0; expected an integer of 1 or more"):
        plot_gallery(IMAGES, **{name: 0}, figure=Figure())


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[0], None, r"shape \(8, 8\); expected \(n, ny, nx\)"),
        (IMAGES[:0], None, "n 1 or more"),
        (IMAGES, ["a"], "1 labels for 10 images"),
    ],
)
def test_bad_input(images, labels, message):
    with pytest.raises(ValueError, match=message):
        plot_gallery(images, labels=labels, figure=Figure())
