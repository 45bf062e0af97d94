"""Resampling between the pixels of an image and the working grid."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from diffsky.deconvolution.grid import WorkingGrid, resampling_matrix

KERNEL = 1.7  # working pixels: the FWHM of every sky
zooms = st.floats(0.5, 3.0)
shares = st.floats(0.3, 0.7)


def whole(shape, zoom, stride=8):
    """Grid over an image that has data everywhere."""
    return WorkingGrid.around(np.ones(shape, dtype=bool), zoom, stride)


def centroid(image):
    y, x = np.indices(image.shape)
    return (x * image).sum() / image.sum(), (y * image).sum() / image.sum()


def waves(shape, longest, rng, n=40):
    """Sum of cosines of at most ``longest`` cycles per pixel, as function and on the pixels."""
    angle, k = rng.uniform(0, 2 * np.pi, n), longest * np.sqrt(rng.uniform(0, 1, n))
    phase = rng.uniform(0, 2 * np.pi, n)

    def at(x, y):
        inner = k * np.cos(angle) * x[..., None] + k * np.sin(angle) * y[..., None]
        return np.cos(2 * np.pi * inner + phase).sum(axis=-1)

    y, x = np.indices(shape)
    return at, at(x, y)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("width", [1.0, 2.3])
def test_matrix_keeps_constants_or_sums(linear, width):
    positions = np.linspace(-0.4, 29.4, 41)
    intensity = resampling_matrix(
        30, positions, width=width, conserve="intensity", linear=linear
    ).toarray()
    assert_allclose(intensity.sum(axis=1), 1)
    flux = resampling_matrix(30, positions, width=width, conserve="flux", linear=linear).toarray()
    assert_allclose(flux.sum(axis=0), 1)


def test_matrix_on_the_pixels_is_the_identity():
    matrix = resampling_matrix(12, np.arange(12), conserve="flux")
    assert_allclose(matrix.toarray(), np.eye(12), atol=1e-15)


def test_matrix_is_sparse():
    # A dense one takes minutes for an image of 4096 x 4096 pixels.
    matrix = resampling_matrix(4096, np.arange(0, 4096, 1.05), conserve="intensity")
    assert matrix.nnz <= 11 * matrix.shape[0]


def test_matrix_gives_nothing_far_beyond_the_axis():
    matrix = resampling_matrix(10, [-20.0, 30.0], conserve="intensity")
    assert matrix.nnz == 0 or not matrix.toarray().any()


@settings(max_examples=40)
@given(zoom=zooms, x=shares, y=shares, ny=st.integers(60, 90), nx=st.integers(60, 90))
def test_flux_is_conserved_and_positions_agree(blob, zoom, x, y, ny, nx):
    grid = whole((ny, nx), zoom)
    height, width = grid.working_shape
    x, y = x * width, y * height
    image = grid.to_image(blob((height, width), x, y, KERNEL, 1.0))
    assert image.shape == (ny, nx)
    assert image.dtype == np.float32
    assert_allclose(image.sum(), 1, rtol=1e-3)
    assert_allclose(centroid(image), grid.to_image_pixels(x, y), atol=0.02)


def test_stack_of_skies_is_resampled_one_by_one(blob):
    grid = whole((50, 60), 1.3)
    skies = np.stack([blob(grid.working_shape, x, 20, KERNEL, x) for x in (15, 20, 25)])
    images = grid.to_image(skies)
    assert images.shape == (3, 50, 60)
    for image, sky in zip(images, skies, strict=True):
        assert_array_equal(image, grid.to_image(sky))


@pytest.mark.parametrize("zoom", [0.55, 0.8, 1.0, 1.6, 2.9])
def test_band_limited_image_is_resampled_accurately(zoom):
    # The longest baselines of an image whose beam is 4.25 working pixels wide.
    rng = np.random.default_rng(1)
    at, image = waves((120, 100), min(1.4 / (4.25 * zoom), 0.4), rng)
    grid = whole((120, 100), zoom)
    working = grid.to_working(image)
    y, x = np.indices(grid.working_shape)
    px, py = grid.to_image_pixels(x, y)
    inner = (np.abs(px - 49.5) < 40) & (np.abs(py - 59.5) < 50)
    error = (working - at(px, py))[inner].std() / image.std()
    assert error < 0.02


@pytest.mark.parametrize("zoom", [0.8, 1.6, 2.9])
def test_round_trip_of_a_band_limited_image(zoom):
    image = waves((120, 100), 1.2 / (4.25 * zoom), np.random.default_rng(2))[1]
    grid = whole((120, 100), zoom)
    back = grid.to_image(grid.to_working(image), conserve="intensity")
    inner = (slice(25, -25), slice(25, -25))
    assert (back - image)[inner].std() < 0.02 * image.std()


@pytest.mark.parametrize("pixels", [2.5, 4.25, 12.0])
def test_noise_keeps_its_rms(noise_image, pixels):
    image = noise_image((256, 256), pixels, np.random.default_rng(3))
    grid = whole(image.shape, pixels / 4.25)
    inside = grid.valid_to_working(np.ones(image.shape, dtype=bool))
    assert_allclose(grid.to_working(image)[inside].std(), image.std(), rtol=0.01)


def test_constant_stays_and_is_zero_beyond_the_image():
    grid = whole((41, 30), 1.1, stride=16)
    working = grid.to_working(np.full((41, 30), 2.5))
    assert set(np.unique(np.round(working, 5))) == {0.0, 2.5}
    inside = grid.valid_to_working(np.ones((41, 30), dtype=bool))
    assert_array_equal(working > 0, inside)


@pytest.mark.parametrize("zoom", [0.6, 1.0, 2.2])
def test_linear_maps_stay_in_their_range(zoom):
    steps = np.where(np.arange(80) < 40, 1.0, 50.0) * np.ones((70, 1))
    grid = whole(steps.shape, zoom)
    inside = grid.valid_to_working(np.ones(steps.shape, dtype=bool))
    working = grid.to_working(steps, linear=True)[inside]
    assert working.min() >= 1
    assert working.max() <= 50


@settings(max_examples=60)
@given(
    zoom=zooms,
    stride=st.sampled_from([1, 4, 8, 16]),
    box=st.tuples(*[st.integers(0, 20)] * 4),
)
def test_grid_covers_the_valid_pixels_alone(zoom, stride, box):
    valid = np.zeros((64, 51), dtype=bool)
    valid[box[0] : 64 - box[1], box[2] : 51 - box[3]] = True
    grid = WorkingGrid.around(valid, zoom, stride)
    assert grid.box == (box[0], 64 - box[1], box[2], 51 - box[3])
    height, width = grid.working_shape
    assert height % stride == 0
    assert width % stride == 0
    lengths = (64 - box[0] - box[1], 51 - box[2] - box[3])
    for n, length in zip((height, width), lengths, strict=True):
        assert length - 1e-4 <= n * zoom < length + stride * zoom
    left, low = grid.to_image_pixels(-0.5, -0.5)
    right, high = grid.to_image_pixels(width - 0.5, height - 0.5)
    # Even or odd, the grid lies symmetrically around the box.
    assert_allclose((left + right) / 2, (box[2] + 51 - box[3] - 1) / 2)
    assert_allclose((low + high) / 2, (box[0] + 64 - box[1] - 1) / 2)


@pytest.mark.parametrize("zoom", [1 - 1e-9, 1, 1 + 1e-9])
def test_rounded_numbers_add_no_stride(zoom):
    assert whole((96, 64), zoom).working_shape == (96, 64)


def test_valid_pixels_are_those_of_the_nearest():
    valid = np.ones((40, 40), dtype=bool)
    valid[10:20, 5:15] = False
    grid = whole(valid.shape, 1.0)
    assert_array_equal(grid.valid_to_working(valid), valid)
    coarse = WorkingGrid.around(valid, 2.0, 1)
    assert_allclose(coarse.valid_to_working(valid).mean(), valid.mean(), atol=0.02)


def test_flux_near_the_border_is_kept(blob):
    grid = whole((40, 40), 1.7)
    working = np.zeros(grid.working_shape)
    inside = np.argwhere(grid.valid_to_working(np.ones((40, 40), dtype=bool)))
    working[tuple(inside[0])] = 1
    assert_allclose(grid.to_image(working).sum(), 1, rtol=1e-5)


# The fixed grid of D24


def test_fixed_grid_is_bicubic_interpolation():
    """512 pixels of 0.1 arcsec to 128 of 0.4, as torch interpolates without averaging."""
    image = np.random.default_rng(1).normal(size=(512, 512))
    grid = WorkingGrid.fixed(np.ones((512, 512), dtype=bool), 4.0, 128)
    assert grid.working_shape == (128, 128)
    tensor = torch.from_numpy(image)[None, None]
    expected = torch.nn.functional.interpolate(tensor, scale_factor=0.25, mode="bicubic")
    assert_allclose(grid.to_working(image), expected[0, 0], atol=1e-5)


@settings(max_examples=25)
@given(zoom=st.floats(0.3, 5.0), n=st.integers(8, 40), size=st.sampled_from([16, 32]))
def test_fixed_grid_has_its_size(zoom, n, size):
    valid = np.zeros((n, n + 3), dtype=bool)
    valid[n // 2, n // 2 + 1] = True
    grid = WorkingGrid.fixed(valid, zoom, size)
    assert grid.working_shape == (size, size)
    x, y = grid.to_image_pixels((size - 1) / 2, (size - 1) / 2)
    assert (x, y) == (pytest.approx((n + 2) / 2), pytest.approx((n - 1) / 2))


def test_fixed_grid_keeps_fluxes():
    grid = WorkingGrid.fixed(np.ones((64, 64), dtype=bool), 2.0, 32)
    working = np.random.default_rng(2).uniform(size=(32, 32))
    assert grid.to_image(working).sum() == pytest.approx(working.sum(), rel=1e-5)


def test_data_beyond_the_fixed_grid():
    valid = np.zeros((64, 80), dtype=bool)
    valid[:, 30:50] = True
    WorkingGrid.fixed(valid, 2.0, 32)
    valid[:, 6] = True
    with pytest.raises(ValueError, match=r"pixels 6 to 49 of 80; expected none beyond the 32 x 32"):
        WorkingGrid.fixed(valid, 2.0, 32)
