"""The operator sky -> dirty image: closed forms, adjoint, batches, noise."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from diffsky.backend import sample_generator
from diffsky.instrument import Instrument, grid_size_for, instrument_from_images
from diffsky.simulation.skymodels import SourceList, render_sources

SHAPE = (24, 20)


def double(instrument):
    return replace(
        instrument,
        weights=instrument.weights.double(),
        primary_beam=instrument.primary_beam.double(),
        noise_weights=None,
    )


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stack(*instruments):
    """One instrument that holds several."""
    return Instrument(
        torch.stack([i.weights for i in instruments]),
        torch.stack([i.primary_beam for i in instruments]),
        instruments[0].rms,
        torch.stack([i.noise_weights for i in instruments]),
    )


def streams(*numbers, seed=5):
    return [sample_generator(seed, k) for k in numbers]


# Linear algebra


@pytest.mark.parametrize("shape", [(24, 20), (17, 31), (16, 16), (1, 8)])
@pytest.mark.parametrize("kind", ["uv", "images"])
def test_adjoint(make_instrument, shape, kind):
    """<A x, y> = <x, A^T y> for every field, of weights that may be negative too."""
    instrument = make_instrument(shape=shape)
    if kind == "images":
        psf = instrument.psf(tuple(2 * n + 1 for n in shape)).numpy()
        instrument = instrument_from_images(psf, instrument.primary_beam.numpy(), rms=0.02)
    instrument = double(instrument)
    x, y = draw(*shape, seed=1).double(), draw(*shape, seed=2).double()
    one, other = (instrument.forward(x) * y).sum(), (x * instrument.adjoint(y)).sum()
    assert abs(one) > 1e-3
    assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_adjoint_is_the_transposed_matrix(make_instrument):
    instrument = double(make_instrument(shape=(5, 4)))
    basis = torch.eye(20, dtype=torch.float64).reshape(20, 5, 4)
    forward = instrument.forward(basis).reshape(20, 20)
    adjoint = instrument.adjoint(basis).reshape(20, 20)
    assert_close(adjoint, forward.T, rtol=1e-9, atol=1e-12)


def test_linear(make_instrument):
    instrument = double(make_instrument())
    x, y = draw(*SHAPE, seed=1).double(), draw(*SHAPE, seed=2).double()
    together = instrument.forward(2 * x - 3 * y)
    assert_close(together, 2 * instrument.forward(x) - 3 * instrument.forward(y))


def test_gradient(make_instrument):
    instrument = double(make_instrument(shape=(5, 4)))
    sky = draw(5, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(instrument.forward, sky)
    assert torch.autograd.gradcheck(lambda s: instrument.forward(s, kernel_fwhm=1.7), sky)


def test_gradient_of_least_squares(make_instrument):
    """The gradient of |d - A s|**2 / 2 is A^T (A s - d)."""
    instrument = make_instrument()
    sky, dirty = draw(*SHAPE, seed=1).requires_grad_(), draw(*SHAPE, seed=2)
    (instrument.forward(sky) - dirty).square().sum().div(2).backward()
    expected = instrument.adjoint(instrument.forward(sky.detach()) - dirty)
    assert_close(sky.grad, expected, rtol=1e-4, atol=1e-5)


# Known skies


def test_one_jansky_at_the_centre(make_instrument):
    instrument = make_instrument()
    sky = torch.zeros(SHAPE)
    sky[12, 10] = 1
    dirty = instrument.forward(sky)
    assert_close(dirty[12, 10], torch.tensor(1.0))
    assert dirty.argmax() == sky.argmax()


@pytest.mark.parametrize("padding", [2, 4])
@pytest.mark.parametrize("place", [(0, 0), (23, 19), (5, 17)])
def test_point_source_is_the_psf(make_instrument, place, padding):
    """Anywhere in the field: the response there times the shifted PSF, nothing wrapped around."""
    instrument = make_instrument(padding=padding)
    sky = torch.zeros(SHAPE)
    sky[place] = 2
    psf = instrument.psf()
    assert psf.shape == (47, 39)
    y, x = 23 - place[0], 19 - place[1]
    expected = 2 * instrument.primary_beam[place] * psf[y : y + 24, x : x + 20]
    assert_close(instrument.forward(sky), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [None, (5, 5), (6, 9), (40, 33), (96, 96)])
def test_psf_peak(make_instrument, shape):
    instrument = make_instrument()
    psf = instrument.psf(shape)
    assert psf.shape == (shape or (47, 39))
    assert_close(psf[psf.shape[0] // 2, psf.shape[1] // 2], torch.tensor(1.0))
    assert psf.max() <= 1 + 1e-6


def test_psf_fits_a_grid_that_is_the_field(make_instrument):
    """Without padding, every offset is there once, or the refusal says why not."""
    instrument = make_instrument(padding=1)
    assert instrument.grid_size == 24
    psf = instrument.psf((24, 24))
    assert_close(psf[12, 12], torch.tensor(1.0))
    with pytest.raises(ValueError, match="24"):
        instrument.psf((25, 24))


def test_convolve_is_forward_without_primary_beam(make_instrument):
    instrument = make_instrument()
    sky = draw(*SHAPE)
    assert_close(instrument.convolve(sky * instrument.primary_beam), instrument.forward(sky))


# The target kernel


@settings(max_examples=25)
@given(x=st.floats(-6, 6), y=st.floats(-6, 6), kernel=st.floats(1.7, 2.5), seed=st.integers(0, 50))
def test_kernel_is_divided_out(x, y, kernel, seed):
    """A point between pixels, drawn with the kernel: the sum of cosines of its visibilities."""
    n, size = 32, 128
    rng = np.random.default_rng(seed)
    cells = np.rint(np.clip(rng.normal(0, 0.08, (200, 2)), -0.2, 0.2) * size).astype(int)
    plane = np.zeros((size, size))
    for sign in (1, -1):
        np.add.at(plane, (sign * cells[:, 0], sign * cells[:, 1]), 1.0)
    weights = torch.from_numpy(plane[:, : size // 2 + 1].astype(np.float32))
    instrument = Instrument(weights, torch.ones(n, n), 1.0)
    source = SourceList(*(np.array([v]) for v in (x, y, 3.0, 0.0, 0.0, 0.0)))
    sky = render_sources(source, [0], 1, (n, n), kernel_fwhm=kernel)[0]
    dirty = instrument.convolve(sky, kernel_fwhm=kernel).numpy()
    rows, columns = np.indices((n, n)) - n // 2
    phase = cells[:, :1, None] * (rows - y) + cells[:, 1:, None] * (columns - x)
    expected = 3.0 * np.cos(2 * np.pi * phase / size).mean(0)
    np.testing.assert_allclose(dirty, expected, atol=3e-3)


def test_kernel_of_an_extended_source(make_instrument):
    """Divided out, a source of 3 pixels with the kernel is the source without it."""
    instrument = make_instrument()
    source = SourceList(*(np.array([v]) for v in (1.3, -2.6, 1.0, 4.0, 3.0, 0.4)))
    smooth, sharp = (
        render_sources(source, [0], 1, SHAPE, kernel_fwhm=kernel)[0] for kernel in (1.7, 0.0)
    )
    flat = replace(instrument, primary_beam=torch.ones(SHAPE))
    one, other = flat.forward(smooth, kernel_fwhm=1.7), flat.forward(sharp)
    assert other.max() > 0.3
    assert_close(one, other, rtol=0, atol=2e-3)


# Batches


def test_batch_of_skies(make_instrument):
    instrument, skies = make_instrument(), draw(3, *SHAPE)
    singles = torch.stack([instrument.forward(sky) for sky in skies])
    assert_close(instrument.forward(skies), singles)
    assert_close(instrument.adjoint(skies)[1], instrument.adjoint(skies[1]))
    assert instrument.forward(draw(2, 3, *SHAPE)).shape == (2, 3, *SHAPE)


def test_batch_of_instruments(make_instrument):
    singles = [make_instrument(k, primary_beam=np.full(SHAPE, 1 - k / 10)) for k in range(3)]
    together, skies = stack(*singles), draw(3, *SHAPE)
    each = zip(singles, skies, strict=True)
    assert_close(together.forward(skies), torch.stack([i.forward(sky) for i, sky in each]))
    each = zip(singles, skies, strict=True)
    assert_close(together.adjoint(skies), torch.stack([i.adjoint(sky) for i, sky in each]))
    assert_close(together.psf(), torch.stack([i.psf() for i in singles]))
    noise = [i.noise(streams(k))[0] for k, i in enumerate(singles)]
    assert_close(together.noise(streams(0, 1, 2)), torch.stack(noise))
    observed = [i.observe(skies[k : k + 1], streams(k))[0] for k, i in enumerate(singles)]
    assert_close(together.observe(skies, streams(0, 1, 2)), torch.stack(observed))


def test_noise_does_not_depend_on_the_batch(make_instrument):
    instrument = make_instrument()
    together = instrument.noise(streams(0, 1, 2, 3))
    assert_close(together[2:], instrument.noise(streams(2, 3)))
    assert not torch.allclose(together[0], together[1])


def test_observe_is_signal_plus_noise(make_instrument):
    instrument, sky = make_instrument(), draw(2, *SHAPE)
    for kernel in (0.0, 1.7):
        observed = instrument.observe(sky, streams(0, 1), kernel_fwhm=kernel)
        parts = instrument.forward(sky, kernel_fwhm=kernel) + instrument.noise(streams(0, 1))
        assert_close(observed, parts, rtol=1e-4, atol=1e-5)


# Noise


@pytest.mark.parametrize("padding", [1, 4])
def test_noise_covariance(make_instrument, padding):
    """rms**2 x PSF of the noise weights at every pair of pixels, of uncorrelated images."""
    n = 6000
    instrument = make_instrument(shape=(8, 6), padding=padding, rms=0.5)
    noise = instrument.noise(streams(*range(n))).reshape(n, 48).double()
    weights = instrument.noise_weights
    wide = replace(instrument, primary_beam=torch.ones(8, 6), weights=weights)
    basis = torch.eye(48).reshape(48, 8, 6)
    expected = 0.25 * wide.forward(basis).reshape(48, 48).double()
    covariance = noise.T @ noise / n
    error = 0.25 * math.sqrt(2 / n)  # of one element of the diagonal
    assert_close(covariance, expected, rtol=0, atol=4.5 * error)
    assert covariance.diagonal().mean().item() == pytest.approx(0.25, rel=0.04)
    assert noise.mean(0).abs().max() < 4.5 * 0.5 / math.sqrt(n)


def test_noise_is_gaussian(make_instrument):
    noise = make_instrument(rms=1.0).noise(streams(*range(400))).flatten().double()
    assert (noise**4).mean().item() == pytest.approx(3, abs=0.1)
    assert (noise**3).mean().item() == pytest.approx(0, abs=0.05)


def test_noise_of_negative_weights(make_instrument):
    """Weights of a PSF image may be negative; the noise has the asked rms all the same."""
    psf = make_instrument().psf((47, 47)).numpy()
    instrument = instrument_from_images(psf, np.ones(SHAPE), rms=0.1)
    assert instrument.weights.min() < 0
    noise = instrument.noise(streams(*range(300)))
    assert noise.std().item() == pytest.approx(0.1, rel=0.02)


def test_noise_weights_of_their_own(make_instrument):
    """They decide the noise and nothing else; without them the weights do."""
    instrument, other = make_instrument(0), make_instrument(1)
    mixed = replace(instrument, noise_weights=other.noise_weights)
    assert_close(mixed.noise(streams(3)), other.noise(streams(3)))
    assert_close(mixed.forward(draw(*SHAPE)), instrument.forward(draw(*SHAPE)))
    plain = replace(instrument, weights=other.noise_weights, noise_weights=None)
    assert_close(plain.noise(streams(3)), other.noise(streams(3)))


def test_no_noise(make_instrument):
    assert not make_instrument(rms=0.0).noise(streams(1)).any()


# Refusals and helpers


@pytest.mark.parametrize(
    ("weights", "beam", "rms", "message"),
    [
        (
            (16, 8),
            (8, 8),
            1.0,
            r"weights have shape \(16, 8\); expected \(N, N // 2 \+ 1\), N even",
        ),
        ((15, 8), (8, 8), 1.0, "N even"),
        ((16, 9), (17, 8), 1.0, r"primary_beam has shape \(17, 8\); expected .* at most 16"),
        ((16, 9), (8,), 1.0, "expected two axes"),
        ((16, 9), (8, 8), -1.0, "rms is -1.0; expected a number of 0 or more"),
        ((16, 9), (8, 8), math.nan, "rms is nan"),
    ],
)
def test_refused(weights, beam, rms, message):
    with pytest.raises(ValueError, match=message):
        Instrument(torch.ones(weights), torch.ones(beam), rms)


def test_noise_weights_of_another_shape_refused():
    with pytest.raises(ValueError, match=r"noise_weights have shape \(8, 5\); expected .*16, 9"):
        Instrument(torch.ones(16, 9), torch.ones(8, 8), 1.0, torch.ones(8, 5))


def test_attributes(make_instrument):
    instrument = make_instrument()
    assert instrument.shape == SHAPE
    assert instrument.grid_size == 96
    assert instrument.device == torch.device("cpu")
    moved = instrument.to("cpu")
    assert torch.equal(moved.weights, instrument.weights)
    assert torch.equal(moved.noise_weights, instrument.noise_weights)
    assert moved.rms == instrument.rms
    assert replace(instrument, noise_weights=None).to("cpu").noise_weights is None


@given(ny=st.integers(1, 5000), nx=st.integers(1, 5000), padding=st.sampled_from([1, 2, 4, 6.5]))
def test_grid_size(ny, nx, padding):
    n = grid_size_for((ny, nx), padding)
    least = padding * max(ny, nx)
    assert n % 2 == 0
    assert least <= n
    assert n <= max(2 * least, 4)
    odd = n // (n & -n)
    assert odd in (1, 3)
