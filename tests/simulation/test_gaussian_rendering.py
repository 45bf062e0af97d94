"""Points and Gaussians on a grid: flux, moments, angles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffsky.simulation.skymodels import (
    SourceList,
    render_sources,
)

FWHM = 2 * math.sqrt(2 * math.log(2))
KERNEL = 1.7  # pixels
offsets = st.floats(-3, 3)


def source(x=0.0, y=0.0, flux=1.0, major=0.0, minor=0.0, pa=0.0):
    return SourceList(*(np.array([value]) for value in (x, y, flux, major, minor, pa)))


def join(*lists):
    return SourceList.join(lists)


def draw(sources, shape=(64, 64), **options):
    return render_sources(sources, [0] * len(sources), 1, shape, **options)[0].double().numpy()


def moments(image):
    """Sum, centroid from the field's centre, and second moments (xx, yy, xy)."""
    total = image.sum()
    y, x = np.indices(image.shape) - np.array([n // 2 for n in image.shape])[:, None, None]
    cx, cy = (image * x).sum() / total, (image * y).sum() / total
    x, y = x - cx, y - cy
    return (
        total,
        (cx, cy),
        tuple((image * a * b).sum() / total for a, b in ((x, x), (y, y), (x, y))),
    )


@given(x=offsets, y=offsets, flux=st.floats(1e-6, 1e3))
def test_flux_of_a_point(x, y, flux):
    """At any place between pixels, to 0.1 % at the default kernel."""
    total = draw(source(x, y, flux), kernel_fwhm=KERNEL).sum()
    assert total == pytest.approx(flux, rel=1e-3)


@given(x=offsets, y=offsets, major=st.floats(0, 9), ratio=st.floats(0, 1), pa=st.floats(0, math.pi))
def test_moments_of_an_extended_source(x, y, major, ratio, pa):
    """Flux, centroid and second moments of the Gaussian convolved with the kernel."""
    minor = ratio * major
    image = draw(source(x, y, 2.0, major, minor, pa), kernel_fwhm=KERNEL)
    total, centre, (xx, yy, xy) = moments(image)
    a, b = (major**2 + KERNEL**2) / FWHM**2, (minor**2 + KERNEL**2) / FWHM**2
    assert total == pytest.approx(2.0, rel=1e-3)
    assert_allclose(centre, (x, y), atol=2e-3)
    # the major axis has the direction (-sin pa, cos pa): towards north, then east at smaller x
    assert_allclose(xx, a * np.sin(pa) ** 2 + b * np.cos(pa) ** 2, rtol=0.01)
    assert_allclose(yy, a * np.cos(pa) ** 2 + b * np.sin(pa) ** 2, rtol=0.01)
    assert_allclose(xy, (b - a) * np.sin(pa) * np.cos(pa), atol=0.01 * a)


@pytest.mark.parametrize(
    ("pa", "pixel"), [(0, (40, 32)), (90, (32, 24)), (45, (38, 26)), (135, (26, 26))]
)
def test_position_angle(pa, pixel):
    """North through east: 0 is up, 45 up and left, 90 left."""
    image = draw(source(major=12, minor=2, pa=np.deg2rad(pa)))
    mirrored = (pixel[0], 64 - pixel[1])
    if pa in (0, 90):
        assert image[pixel] > 100 * image[pixel[1], pixel[0]]
    else:
        assert image[pixel] > 100 * image[mirrored]


def test_peak_in_closed_form():
    """4 ln 2 / pi x flux / (major x minor) at the centre of a source on a pixel."""
    image = draw(source(flux=3.0, major=6.0, minor=4.0, pa=0.3))
    assert image[32, 32] == pytest.approx(3 * 4 * math.log(2) / math.pi / 24)
    assert image.argmax() == 32 * 64 + 32


@given(pixel=st.floats(0.05, 0.5), x=offsets)
def test_pixel_is_a_change_of_unit(pixel, x):
    in_arcsec = source(x * pixel, -x * pixel, 1.0, 3 * pixel, 2 * pixel, 0.5)
    one = draw(in_arcsec, pixel=pixel, kernel_fwhm=KERNEL)
    assert_allclose(one, draw(source(x, -x, 1.0, 3.0, 2.0, 0.5), kernel_fwhm=KERNEL), atol=1e-5)


def test_odd_field_and_centre():
    image = draw(source(), shape=(21, 30), kernel_fwhm=2.0)
    assert np.unravel_index(image.argmax(), image.shape) == (10, 15)


def test_border_cuts_the_flux():
    """Half of a source on the middle of the border is lost; one far outside adds nothing."""
    image = draw(source(x=-32.5), kernel_fwhm=3.0)
    assert image.sum() == pytest.approx(0.5, abs=1e-3)
    assert not draw(source(x=-80.0), kernel_fwhm=3.0).any()
    assert not draw(source(y=1e6), kernel_fwhm=3.0).any()


def test_images_of_a_batch():
    lists = [source(x=5.0), source(y=-4.0, flux=2.0), source(x=-3.0, major=4.0, minor=2.0)]
    together = render_sources(join(*lists), [0, 2, 2], 4, (64, 48), kernel_fwhm=2.0)
    assert together.shape == (4, 64, 48)
    assert not together[1].any()
    assert not together[3].any()
    expected = draw(lists[1], (64, 48), kernel_fwhm=2.0) + draw(lists[2], (64, 48), kernel_fwhm=2.0)
    assert_allclose(together[2], expected, atol=1e-4)


def test_source_does_not_depend_on_its_neighbours():
    """A wide source in the same call changes no pixel of another image."""
    small, wide = source(flux=1e3, major=8.0, minor=6.0), source(major=20.0, minor=20.0)
    alone = render_sources(small, [0], 1, (64, 64), kernel_fwhm=KERNEL)
    together = render_sources(join(small, wide), [0, 1], 2, (64, 64), kernel_fwhm=KERNEL)
    assert_allclose(together[0], alone[0], rtol=1e-5, atol=1e-7)


def test_no_sources():
    nothing = SourceList(*(np.zeros(0) for _ in range(6)))
    images = render_sources(nothing, [], 2, (8, 9))
    assert images.shape == (2, 8, 9)
    assert not images.any()


@pytest.mark.parametrize(("major", "minor", "kernel"), [(0, 0, 0), (4, 0.1, 1.2), (1, 1, 1)])
def test_too_narrow(major, minor, kernel):
    with pytest.raises(ValueError, match=r"pixels wide; expected 1.5 or more \(kernel_fwhm="):
        draw(source(major=major, minor=minor), kernel_fwhm=kernel)


def test_result_is_a_float32_tensor():
    image = render_sources(source(), [0], 1, (16, 16), kernel_fwhm=2.0)
    assert image.dtype == torch.float32
