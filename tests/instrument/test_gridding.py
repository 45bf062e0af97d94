"""Visibilities on grids: cells, imaging weights, and the PSF of points between cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffsky.instrument import (
    grid_uv,
    image_visibilities,
    imaging_weights,
    psf_weights,
    working_weights,
)

ARCSEC = np.pi / 180 / 3600
PIXEL, N = 0.1, 64
CELL = 1 / (N * PIXEL * ARCSEC)  # wavelengths

cell_numbers = st.integers(-N // 2 + 1, N // 2 - 1)
points = st.lists(st.tuples(cell_numbers, cell_numbers), min_size=1, max_size=30)


@given(cells=points, data=st.data())
def test_weight_is_kept(cells, data):
    """Every point counts twice, once at its mirror image."""
    weights = np.array(
        data.draw(st.lists(st.floats(0.1, 9), min_size=len(cells), max_size=len(cells)))
    )
    half = grid_uv(np.array(cells) * CELL, pixel_scale=PIXEL, grid_size=N, weights=weights)
    assert half.shape == (N, N // 2 + 1)
    assert half.dtype == np.float64
    total = 2 * half[:, 1:-1].sum() + half[:, [0, -1]].sum()
    assert_allclose(total, 2 * weights.sum())
    # the first and last column mirror themselves
    assert_allclose(half[:, 0], np.roll(half[::-1, 0], 1))
    assert_allclose(half[:, -1], np.roll(half[::-1, -1], 1))


@given(cells=points, source=st.tuples(st.integers(0, 15), st.integers(0, 15)))
def test_orientation(direct_image, cells, source):
    """North up and east left: the direct sum of visibilities, for points on cell centres."""
    uv = np.array(cells) * CELL
    half = grid_uv(uv, pixel_scale=PIXEL, grid_size=N)
    sky = np.zeros((16, 16))
    sky[source] = 1
    dirty = np.fft.irfft2(np.fft.rfft2(sky, (N, N)) * half)[:16, :16]
    dirty *= N**2 / (2 * len(uv))
    assert_allclose(dirty, direct_image(uv, np.ones(len(uv)), source, 16), atol=1e-9)


@given(cells=points, source=st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)))
def test_image_of_visibilities(cells, source):
    """Visibilities of a point, as a measurement set has them, make the image of its PSF."""
    uv = np.array(cells) * CELL
    east, north = N // 2 - source[1], source[0] - N // 2
    phase = 2 * np.pi * PIXEL * ARCSEC * (uv @ [east, north])
    weights = np.arange(1.0, len(uv) + 1)
    options = {"pixel_scale": PIXEL, "weights": weights}
    image = image_visibilities(uv, np.exp(1j * phase), image_size=N, **options)
    assert_allclose(image[source], 1)
    sky = np.zeros((N, N))
    sky[source] = 1
    half = grid_uv(uv, grid_size=N, **options)
    expected = np.fft.irfft2(np.fft.rfft2(sky) * half, (N, N)) * N**2 / (2 * weights.sum())
    assert_allclose(image, expected, atol=1e-9)


@pytest.mark.parametrize("bad", [[1.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_visibilities_that_are_none(bad):
    with pytest.raises(ValueError, match=r"visibilities have shape .*; expected \(2,\)"):
        image_visibilities(np.zeros((2, 2)), bad, pixel_scale=PIXEL, image_size=N)


def test_one_cell():
    """u = 3 cells east and v = 2 cells north: the fringe of pixel columns has the sign of -u."""
    half = grid_uv([[3 * CELL, 2 * CELL]], pixel_scale=PIXEL, grid_size=N)
    assert np.argwhere(half).tolist() == [[N - 2, 3]]


@given(cells=points, data=st.data())
def test_nearest_cell(cells, data):
    shift = st.floats(-0.49, 0.49)
    moved = [(u + data.draw(shift), v + data.draw(shift)) for u, v in cells]
    expected = grid_uv(np.array(cells) * CELL, pixel_scale=PIXEL, grid_size=N)
    result = grid_uv(np.array(moved) * CELL, pixel_scale=PIXEL, grid_size=N)
    assert_allclose(result, expected)


@given(cells=points)
def test_conjugates_are_the_same(cells):
    uv = np.array(cells) * CELL
    one = grid_uv(uv, pixel_scale=PIXEL, grid_size=N)
    assert_allclose(grid_uv(-uv, pixel_scale=PIXEL, grid_size=N), one)


GOOD = [[CELL, 2 * CELL], [3 * CELL, 0]]
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("uv", "weights", "message"),
    [
        ([], None, r"uv has shape \(0,\); expected \(n, 2\) finite wavelengths"),
        (np.zeros((0, 2)), None, "n > 0"),
        (np.ones((4, 3)), None, r"uv has shape \(4, 3\)"),
        (np.ones(2), None, r"uv has shape \(2,\)"),
        ([[1.0, NAN]], None, "finite"),
        ([[1.0, INF]], None, "finite"),
        (GOOD, [1.0], "one number of 0 or more per uv point"),
        (GOOD, [1.0, -1.0], "0 or more"),
        (GOOD, [1.0, NAN], "0 or more"),
        (GOOD, [1.0, INF], "weights"),
        (GOOD, [0.0, 0.0], "not all 0"),
        ([[N / 2 * CELL, 0]], None, "undersamples baselines of .* wavelengths; expected less than"),
        ([[0, -N / 2 * CELL]], None, "undersamples"),
        ([[1e30, 0]], None, "undersamples"),
    ],
)
def test_refused(uv, weights, message):
    with pytest.raises(ValueError, match=message):
        grid_uv(uv, pixel_scale=PIXEL, grid_size=N, weights=weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid_size": 63}, "grid_size"),
        ({"pixel_scale": 0}, "pixel_scale"),
        ({"pixel_scale": -0.1}, "pixel_scale"),
    ],
)
def test_grid_refused(options, message):
    with pytest.raises(ValueError, match=message):
        grid_uv(GOOD, **{"pixel_scale": PIXEL, "grid_size": N, **options})


def test_limit_in_the_message_is_enough():
    with pytest.raises(ValueError, match="undersamples") as error:
        grid_uv([[40 * CELL, 0]], pixel_scale=PIXEL, grid_size=N)
    limit = float(str(error.value).split("less than ")[1].split()[0])
    assert grid_uv([[40 * CELL, 0]], pixel_scale=0.97 * limit, grid_size=N).any()


@settings(max_examples=10)
@given(
    places=st.lists(st.tuples(*[st.floats(-0.48, 0.48)] * 2), min_size=1, max_size=30),
    n=st.sampled_from([32, 48, 64, 96]),
    seed=st.integers(0, 100),
)
def test_psf_of_points_between_cells(direct_image, places, n, seed):
    """The sum over visibilities, wherever they lie and however little wider the grid is."""
    uv = np.array(places) / (PIXEL * ARCSEC)
    weights = np.random.default_rng(seed).uniform(0.1, 3, len(uv))
    transform = psf_weights(uv, pixel_scale=PIXEL, grid_size=n, extent=16, weights=weights)
    assert transform.shape == (n, n // 2 + 1)
    psf = np.roll(np.fft.irfft2(transform, s=(n, n)), (15, 15), (0, 1))[:31, :31]
    assert_allclose(psf, direct_image(uv, weights, (15, 15), 31), atol=2e-5)


def test_psf_fades_out():
    """Beyond the extent there is less and less, and nothing a third further on."""
    uv = [[3.3 * CELL, -2.1 * CELL]]
    transform = psf_weights(uv, pixel_scale=PIXEL, grid_size=96, extent=24)
    psf = np.fft.fftshift(np.fft.irfft2(transform, s=(96, 96)))
    assert np.abs(psf[48, 18:24]).max() > 0.1
    assert_allclose(psf[:16], 0, atol=1e-12)
    assert_allclose(psf[:, 80:], 0, atol=1e-12)


def test_points_in_many_parts(monkeypatch):
    """Points are gridded part by part, with the same result."""
    uv = np.random.default_rng(3).uniform(-20, 20, (50, 2)) * CELL
    options = {"pixel_scale": PIXEL, "grid_size": N, "extent": 20}
    expected = psf_weights(uv, **options)
    monkeypatch.setattr("diffsky.instrument.gridding._CHUNK", 7)
    assert_allclose(psf_weights(uv, **options), expected, atol=1e-12)


# Imaging weights

CROWD = np.array([[3.2, 5.1]] * 4 + [[-7.3, 2.2]] * 2 + [[9.4, -9.4]]) * CELL
OPTIONS = {"pixel_scale": PIXEL, "image_size": N}


def test_natural_weights():
    weights = np.arange(1.0, 8)
    assert_allclose(imaging_weights(CROWD, weights, weighting="natural", **OPTIONS), weights)


def test_uniform_weights():
    """Every cell counts alike, whatever lies in it; a conjugate shares the cell of its point."""
    uv = np.concatenate([CROWD, -CROWD[:1]])
    weights = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    uniform = imaging_weights(uv, weights, weighting="uniform", **OPTIONS)
    assert_allclose(uniform[4:6].sum(), 1)
    assert_allclose(uniform[6], 1)
    assert_allclose(uniform[:4], weights[:4] / (10 + 8))


@pytest.mark.parametrize("robust", [-2.0, 0.5, 2.0])
def test_briggs_weights(robust):
    """w / (1 + f W) with f = (5 x 10**-robust)**2 over the mean W of the visibilities."""
    weights = np.ones(7)
    density = np.array([4.0, 4, 4, 4, 2, 2, 1])
    f = (5 * 10**-robust) ** 2 / density.mean()
    briggs = imaging_weights(CROWD, weights, weighting="briggs", robust=robust, **OPTIONS)
    assert_allclose(briggs, 1 / (1 + f * density))


@given(cells=points, seed=st.integers(0, 50))
def test_briggs_lies_between(cells, seed):
    uv = np.array(cells) * CELL
    weights = np.random.default_rng(seed).uniform(0.5, 2, len(uv))
    natural, low, uniform = (
        imaging_weights(uv, weights, weighting=kind, robust=robust, **OPTIONS)
        for kind, robust in (("briggs", 8), ("briggs", -8), ("uniform", 0))
    )
    assert_allclose(natural, weights, rtol=1e-6)
    assert_allclose(low / low.sum(), uniform / uniform.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("uv", "weights", "options", "message"),
    [
        (CROWD, np.ones(7), {"weighting": "robust"}, "weighting is 'robust'; expected 'natural'"),
        (CROWD, np.ones(3), {"weighting": "briggs"}, "one number of 0 or more per uv point"),
        (CROWD, np.ones(7), {"weighting": "briggs", "image_size": 9}, "expected an even number"),
        (3.5 * CROWD, np.ones(7), {"weighting": "briggs"}, "undersamples"),
    ],
)
def test_imaging_weights_refused(uv, weights, options, message):
    with pytest.raises(ValueError, match=message):
        imaging_weights(uv, weights, **{**OPTIONS, **options})


# Working grid


def test_working_weights():
    """Points that the pixel does not sample are left out, the rest is as it is."""
    uv = np.concatenate([CROWD, [[40 * CELL, 0], [25 * CELL, 25 * CELL]]])
    working = working_weights(uv, pixel_scale=PIXEL, grid_size=N)
    expected = grid_uv(CROWD, pixel_scale=PIXEL, grid_size=N)
    assert working.dtype == np.float32
    assert_allclose(working, expected / expected.max())
    with pytest.raises(ValueError, match="too large for every visibility"):
        working_weights(uv[-1:], pixel_scale=PIXEL, grid_size=N)
