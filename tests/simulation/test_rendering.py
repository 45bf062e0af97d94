"""Disks and rings on a grid, against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import i0e
from scipy.stats import ncx2

from diffsky.simulation.rendering import render_sources, shape_nodes, to_points
from diffsky.simulation.sources import SHAPES, SourceList

KERNEL = 1.7
SIGMA = KERNEL / (2 * np.sqrt(2 * np.log(2)))


def source(name, x, y, major, minor, pa, flux=1.0):
    columns = (np.array([value]) for value in (x, y, flux, major, minor, pa))
    return SourceList(*columns, np.array([SHAPES.index(name)]))


def draw(sources, shape=(64, 64), **options):
    owner = np.zeros(len(sources), dtype=int)
    options = {"kernel_fwhm": KERNEL, **options}
    return render_sources(sources, owner, 1, shape, **options)[0].double().numpy()


def convolved_disk(r, radius):
    """The Marcum Q function: a non-central chi-squared of two degrees of freedom."""
    return ncx2.cdf((radius / SIGMA) ** 2, 2, (r / SIGMA) ** 2) / (np.pi * radius**2)


def convolved_ring(r, radius):
    bell = np.exp(-(((r - radius) / SIGMA) ** 2) / 2)
    return bell * i0e(r * radius / SIGMA**2) / (2 * np.pi * SIGMA**2)


@pytest.mark.parametrize("diameter", [0.5, 2.0, 5.0, 9.0, 21.25, 34.0])
@pytest.mark.parametrize(("name", "profile"), [("disk", convolved_disk), ("ring", convolved_ring)])
def test_profile(name, profile, diameter):
    """Every pixel of a round one to 1e-5 of the peak, the flux to 1e-4."""
    image = draw(source(name, 0.3, -1.6, diameter, diameter, 0.4, 2.0))
    y, x = np.indices(image.shape)
    expected = 2 * profile(np.hypot(x - 32.3, y - 30.4), diameter / 2)
    assert_allclose(image, expected, atol=1e-5 * expected.max())
    assert image.sum() == pytest.approx(2, rel=1e-4)


@settings(max_examples=30)
@given(
    name=st.sampled_from(["disk", "ring"]),
    x=st.floats(-3, 3),
    y=st.floats(-3, 3),
    major=st.floats(0.1, 22),
    ratio=st.floats(0.05, 1),
    pa=st.floats(0, np.pi),
)
def test_moments(name, x, y, major, ratio, pa):
    """Flux to 0.1 %, centroid, and second moments of an inclined one and the kernel."""
    image = draw(source(name, x, y, major, ratio * major, pa, 3.0))
    total = image.sum()
    assert total == pytest.approx(3, rel=1e-3)
    rows, columns = np.indices(image.shape) - 32
    dx, dy = columns - x, rows - y
    assert_allclose([(image * dx).sum(), (image * dy).sum()], 0, atol=3e-2)
    share = 16 if name == "disk" else 8
    a, b = (axis**2 / share + SIGMA**2 for axis in (major, ratio * major))
    xx = a * np.sin(pa) ** 2 + b * np.cos(pa) ** 2
    yy = a * np.cos(pa) ** 2 + b * np.sin(pa) ** 2
    xy = (b - a) * np.sin(pa) * np.cos(pa)
    moments = [(image * one * two).sum() / total for one, two in ((dx, dx), (dy, dy), (dx, dy))]
    assert_allclose(moments, [xx, yy, xy], rtol=0.01, atol=0.01 * a)


def test_flux_lies_where_the_source_is():
    """Nothing is drawn beyond the reach of a source."""
    for name in SHAPES[1:]:
        one = source(name, 4.0, 2.0, 12.0, 12.0, 0.0)
        image = draw(one, (128, 128))
        y, x = np.indices(image.shape) - 64
        beyond = np.hypot(x - 4, y - 2) > one.reach(KERNEL)[0]
        assert image[beyond].max() < 1e-4 * image.max()
        far = np.maximum(abs(x - 4), abs(y - 2)) > 1.5 * one.reach(KERNEL)[0] + 2
        assert not image[far].any()


def test_larger_than_the_image():
    """A disk that covers the image is drawn on all of it, one far away on none."""
    image = draw(source("disk", 0, 0, 80.0, 80.0, 0.0, 1e4), (32, 48))
    assert_allclose(image, 1e4 / (np.pi * 40**2), rtol=1e-4)
    assert not draw(source("ring", 1000, 0, 50.0, 50.0, 0.0)).any()


def test_many_kinds_in_one_call():
    kinds = [source(name, 3 * k, -2 * k, 2 + 3 * k, 2 + 2 * k, k) for k, name in enumerate(SHAPES)]
    kinds[0] = source("point", 0, 0, 0, 0, 0)
    together = render_sources(SourceList.join(kinds), [1, 0, 1, 0], 2, (64, 64), kernel_fwhm=KERNEL)
    expected = [draw(kinds[1]) + draw(kinds[3]), draw(kinds[0]) + draw(kinds[2])]
    assert_allclose(together, expected, atol=1e-6)


def test_disk_needs_a_kernel():
    with pytest.raises(ValueError, match=r"0.00 pixels wide; expected 1.5 or more"):
        draw(source("disk", 0, 0, 20.0, 20.0, 0.0), kernel_fwhm=0.0)


@pytest.mark.parametrize("name", ["disk", "ring"])
def test_nodes(name):
    nodes, weights = shape_nodes(name, 10.0)
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    assert_allclose(weights @ nodes, 0, atol=1e-12)
    assert np.hypot(*nodes.T).max() <= 1 + 1e-12
    variance = weights @ nodes**2
    assert_allclose(variance, 1 / 4 if name == "disk" else 1 / 2, rtol=1e-9)


def test_points_in_place_of_shapes():
    """The same picture through the kernel, with the same flux."""
    kinds = [source(name, 3.3, -2, 12, 7, 0.7, 2.0) for name in ("ring", "gaussian", "disk")]
    sources = SourceList.join(kinds)
    points = to_points(sources, KERNEL)
    assert set(points.shape) == {0, 1}
    assert points.flux.sum() == pytest.approx(6)
    assert_allclose(draw(points), draw(sources), atol=1e-4 * draw(sources).max())
