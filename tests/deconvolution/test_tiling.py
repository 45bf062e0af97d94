"""Tiles and the whole field."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsky.deconvolution import sampling
from diffsky.deconvolution.tiling import TiledDenoiser, tile_slices


@given(
    tile=st.integers(1, 40).map(lambda n: 8 * n),
    overlap=st.integers(0, 39).map(lambda n: 8 * n),
    length=st.integers(1, 200).map(lambda n: 8 * n),
)
def test_decided_parts_cover_the_axis_once(tile, overlap, length):
    if overlap >= tile:
        overlap = tile - 8
    slices = tile_slices(length, tile, overlap)
    decided = np.concatenate([np.arange(own.start, own.stop) for _, own in slices])
    assert decided.tolist() == list(range(length))
    for seen, own in slices:
        assert 0 <= seen.start <= own.start < own.stop <= seen.stop <= length
        assert seen.stop - seen.start == min(tile, length)
        assert seen.start % 8 == 0
        # Half an overlap of context on either side, but at the ends of the axis.
        assert own.start == 0 or own.start - seen.start >= overlap // 2
        assert own.stop == length or seen.stop - own.stop >= overlap // 2


@pytest.mark.parametrize(("tile", "overlap"), [(64, 64), (64, 72), (64, -8)])
def test_impossible_overlap_is_refused(tile, overlap):
    with pytest.raises(ValueError, match=f"overlap is {overlap}; expected 0 or more"):
        tile_slices(256, tile, overlap)


def inputs(shape, seed=0):
    stream = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(2, 1, *shape, generator=stream)
    return x, torch.tensor(1.5), torch.randn(2, 2, *shape, generator=stream)


def test_whole_field_away_from_the_borders_of_tiles(random_denoiser):
    denoiser = random_denoiser()
    reach, tile = denoiser.network.reach, 160
    x, sigma, condition = inputs((248, 312))
    overlap = 48
    with torch.inference_mode():
        whole = denoiser(x, sigma, condition)
        tiled = TiledDenoiser(denoiser, tile=tile, overlap=overlap)(x, sigma, condition)
    safe = [np.zeros(n, dtype=bool) for n in whole.shape[-2:]]
    for axis, n in zip(safe, whole.shape[-2:], strict=True):
        for seen, own in tile_slices(n, tile, overlap):
            low = seen.start + reach if seen.start else 0
            high = seen.stop - reach if seen.stop < n else n
            axis[max(own.start, low) : min(own.stop, high)] = True
    safe = torch.from_numpy(np.outer(*safe))
    assert 0.3 < safe.float().mean() < 1
    difference = (tiled - whole).abs()
    scale = whole.abs().max()
    assert difference[..., safe].max() < 1e-5 * scale
    # The reach is an honest bound: a smaller overlap than it does make a difference.
    with torch.inference_mode():
        narrow = TiledDenoiser(denoiser, tile=64, overlap=0)(x, sigma, condition)
    assert (narrow - whole).abs().max() > 1e-2 * scale


def test_overlap_of_twice_the_reach_gives_the_whole_field(random_denoiser):
    denoiser = random_denoiser()
    x, sigma, condition = inputs((296, 200), seed=1)
    stride = denoiser.network.stride
    overlap = 2 * stride * -(-denoiser.network.reach // stride)
    tile = overlap + 16
    assert tile < 200
    with torch.inference_mode():
        whole = denoiser(x, sigma, condition)
        tiled = TiledDenoiser(denoiser, tile=tile, overlap=overlap)(x, sigma, condition)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


def test_small_field_passes_in_one_call(random_denoiser):
    denoiser = random_denoiser()
    x, sigma, condition = inputs((64, 64))
    with torch.inference_mode():
        whole = denoiser(x, sigma, condition)
        tiled = TiledDenoiser(denoiser, tile=64, overlap=16)(x, sigma, condition)
    assert torch.equal(tiled, whole)


def test_predict_with_tiles_agrees(untrained, dirty, monkeypatch):
    image = dirty([(60, 90, 0.02), (150, 130, 0.01)], shape=(216, 232))
    options = {"n_samples": 2, "seed": 1, "primary_beam": 1.0, "rms": 1e-4}
    whole = untrained.sample(image, **options)
    draw = sampling.draw_samples
    calls = []

    def in_tiles(*args, **keywords):
        calls.append(keywords)
        return draw(*args, **keywords, tile=192, overlap=160)

    monkeypatch.setattr("diffsky.deconvolution.posterior.draw_samples", in_tiles)
    tiled = untrained.sample(image, **options)
    assert len(calls) == 1
    np.testing.assert_allclose(tiled.data, whole.data, rtol=0, atol=1e-3 * whole.data.max())
