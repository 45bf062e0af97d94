"""Gridding of uv points, and instruments from images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.testing import assert_close

from diffsky.instrument import grid_uv, instrument_from_images, instrument_from_uv

ARCSEC = np.pi / 180 / 3600
PIXEL, N = 0.1, 64
CELL = 1 / (N * PIXEL * ARCSEC)  # wavelengths

cell_numbers = st.integers(-N // 2 + 1, N // 2 - 1)
points = st.lists(st.tuples(cell_numbers, cell_numbers), min_size=1, max_size=30)


def direct_image(uv, weights, source, n):
    """Dirty image of a 1 Jy point by the sum over its visibilities.

    V = exp(-2 pi i (u l + v m)) with l east and m north, on pixels that grow west and north.
    """
    y, x = np.indices((n, n)) - n // 2
    sy, sx = (place - n // 2 for place in source)
    east, north = (-(x - sx) * PIXEL * ARCSEC, (y - sy) * PIXEL * ARCSEC)
    phase = uv[:, 0, None, None] * east + uv[:, 1, None, None] * north
    return np.tensordot(weights, np.cos(2 * np.pi * phase), 1) / weights.sum()


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
def test_orientation(cells, source):
    """North up and east left: the direct sum of visibilities, for points on cell centres."""
    uv = np.array(cells) * CELL
    half = grid_uv(uv, pixel_scale=PIXEL, grid_size=N)
    sky = np.zeros((16, 16))
    sky[source] = 1
    dirty = np.fft.irfft2(np.fft.rfft2(sky, (N, N)) * half)[:16, :16]
    dirty *= N**2 / (2 * len(uv))
    assert_allclose(dirty, direct_image(uv, np.ones(len(uv)), source, 16), atol=1e-9)


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
@given(source=st.tuples(st.integers(0, 31), st.integers(0, 31)), seed=st.integers(0, 100))
def test_instrument_against_the_direct_sum(source, seed):
    """Gridding on four times the field: a percent of the peak for points off cell centres."""
    rng = np.random.default_rng(seed)
    uv = np.clip(rng.normal(0, 0.08, (800, 2)), -0.3, 0.3) / (PIXEL * ARCSEC)
    weights = rng.uniform(0.5, 2, 800)
    beam = np.ones((32, 32))
    instrument = instrument_from_uv(
        uv, pixel_scale=PIXEL, primary_beam=beam, rms=1, weights=weights
    )
    sky = torch.zeros(32, 32)
    sky[source] = 1
    expected = direct_image(uv, weights, source, 32)
    residual = instrument.forward(sky).numpy() - expected
    assert np.abs(residual).max() < 0.05
    assert residual.std() < 0.015


def test_instrument_of_uv(make_instrument):
    instrument = make_instrument(rms=2e-5)
    assert instrument.weights.dtype == instrument.primary_beam.dtype == torch.float32
    assert instrument.rms == 2e-5
    assert instrument.shape == (24, 20)
    assert instrument.grid_size == 96
    assert make_instrument(padding=2).grid_size == 48


def test_field_of_doubles_and_big_endian(make_instrument):
    beam = np.linspace(0, 1, 480).reshape(24, 20)
    expected = make_instrument(primary_beam=beam.astype("f4")).primary_beam
    for kind in (">f8", ">f4", "f8"):
        assert torch.equal(make_instrument(primary_beam=beam.astype(kind)).primary_beam, expected)
    assert torch.equal(make_instrument(primary_beam=beam.T.copy().T).primary_beam, expected)


# From images


def test_own_psf_gives_the_instrument_again(make_instrument):
    """Within 1 % of the peak, for a PSF half as wide again as what the field needs."""
    instrument = make_instrument()
    again = instrument_from_images(
        instrument.psf((72, 72)).numpy(), instrument.primary_beam.numpy(), rms=0.02
    )
    sky = torch.zeros(24, 20)
    sky[3, 5], sky[15, 12], sky[20, 2] = 1.0, 0.5, 2.0
    expected = instrument.forward(sky)
    assert_close(again.forward(sky), expected, rtol=0, atol=0.01 * expected.max().item())
    assert_close(again.psf((5, 5)), instrument.psf((5, 5)), rtol=0, atol=0.01)
    assert again.rms == 0.02


def test_peak_is_kept(make_instrument):
    """Negative weights stay, so a 1 Jy source at the centre has a peak of 1 Jy/beam."""
    psf = make_instrument().psf((47, 39)).numpy()
    instrument = instrument_from_images(psf, np.ones((24, 20)), rms=1)
    assert instrument.weights.min() < 0
    sky = torch.zeros(24, 20)
    sky[12, 10] = 1
    assert_close(instrument.forward(sky)[12, 10], torch.tensor(1.0))


@pytest.mark.parametrize("shape", [(30, 31), (41, 20), (19, 19)])
def test_psf_of_any_shape(shape):
    """Odd, even or smaller than the field: a Gaussian PSF comes back."""
    y, x = np.indices(shape) - np.array([n // 2 for n in shape])[:, None, None]
    psf = np.exp(-(x**2 / 2 + y**2 / 3) / 2)
    instrument = instrument_from_images(psf, np.ones((20, 24)), rms=1)
    sky = torch.zeros(20, 24)
    sky[9, 13] = 1
    y, x = np.indices((20, 24)) - np.array([9, 13])[:, None, None]
    expected = np.exp(-(x**2 / 2 + y**2 / 3) / 2)
    assert_allclose(instrument.forward(sky), expected, atol=0.02)


def centred(peak=1.0, n=21):
    psf = np.zeros((n, n))
    psf[n // 2, n // 2] = peak
    return psf


@pytest.mark.parametrize(
    ("psf", "message"),
    [
        (centred()[0], r"psf has shape \(21,\); expected a 2-D image without NaN"),
        (centred()[None], "2-D image"),
        (np.where(np.eye(21) > 0, np.nan, centred()), "without NaN"),
        (centred(1.2), "psf is 1.2 at its centre .* expected a peak of 1"),
        (np.roll(centred(), 1, 0), r"psf is 0 at its centre and 1 at its maximum"),
        (centred() + np.roll(centred(2), 3), "2 at its maximum"),
    ],
)
def test_psf_refused(psf, message):
    with pytest.raises(ValueError, match=message):
        instrument_from_images(psf, np.ones((10, 10)), rms=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda beam: instrument_from_uv(GOOD, pixel_scale=PIXEL, primary_beam=beam, rms=1),
        lambda beam: instrument_from_images(centred(), beam, rms=1),
    ],
)
def test_primary_beam_with_nan_refused(make):
    beam = np.ones((10, 10))
    beam[0, 0] = np.nan
    with pytest.raises(ValueError, match="primary_beam"):
        make(beam)
