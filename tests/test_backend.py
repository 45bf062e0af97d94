"""Device, precision, batch size and random streams."""

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsky.backend import (
    Backend,
    draw_normal,
    fit_batch_size,
    sample_generator,
    select_backend,
)
from diffsky.diffusion import UNet

CPU = torch.device("cpu")
numbers = st.integers(0, 2**32 - 1)


def first(generator, n=4):
    return torch.randn(n, generator=generator).tolist()


# Device and precision


def test_select_float32():
    backend = select_backend("cpu", "float32")
    assert backend == Backend(CPU, None, False)
    assert backend.precision == "float32"
    assert backend.lightning_precision == "32-true"
    with backend.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_select_bfloat16():
    backend = select_backend(torch.device("cpu"), "bfloat16")
    assert backend.precision == "bfloat16"
    assert backend.lightning_precision == "bf16-mixed"
    with backend.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_select_auto():
    backend = select_backend()
    assert backend.device.type in ("cuda", "mps", "cpu")
    assert backend.precision in ("float32", "bfloat16")
    assert select_backend("cpu").device == CPU
    if torch.cuda.is_available():
        assert backend.device.type == "cuda"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cpu", "float16"), "precision is 'float16'; expected one of auto, float32, bfloat16"),
        (("cpu", None), "precision is None"),
        (("tpu",), "device 'tpu' is not known; expected cuda, mps or cpu"),
        (("meta",), "device 'meta' is not available here; found .*cpu"),
    ],
)
def test_select_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        select_backend(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_select_without_gpu():
    with pytest.raises(ValueError, match="device 'cuda:0' is not available here; found .*cpu"):
        select_backend("cuda:0")


def test_prepare():
    network = UNet(1, channels=(4,), blocks=1, width=4).train()
    prepared = select_backend("cpu", "float32").prepare(network)
    assert prepared is network
    assert not prepared.training
    assert prepared.first.weight.is_contiguous(memory_format=torch.channels_last)


def test_float32_is_bitwise_repeatable():
    torch.manual_seed(0)
    network = UNet(1, channels=(8, 8), blocks=1, width=8)
    torch.nn.init.normal_(network.last.weight)
    network = select_backend("cpu", "float32").prepare(network)
    x, c_noise = torch.randn(2, 1, 16, 16), torch.zeros(2)
    with torch.inference_mode():
        results = [network(x, c_noise) for _ in range(5)]
    assert results[0].std() > 0
    assert all(torch.equal(results[0], other) for other in results[1:])


# Random streams


@given(seed=numbers, index=st.lists(numbers, max_size=3))
def test_stream_is_repeatable(seed, index):
    assert first(sample_generator(seed, *index)) == first(sample_generator(seed, *index))


@given(
    one=st.lists(numbers, min_size=1, max_size=3),
    other=st.lists(numbers, min_size=1, max_size=3),
)
def test_streams_differ(one, other):
    """Also those of different depth: seed 3 is not sample 0 of seed 3."""
    if one != other:
        assert first(sample_generator(*one)) != first(sample_generator(*other))


@pytest.mark.parametrize(("one", "other"), [((3,), (3, 0)), ((3, 1), (3, 1, 0))])
def test_streams_of_different_depth_differ(one, other):
    assert first(sample_generator(*one)) != first(sample_generator(*other))


def test_streams_are_independent():
    """Neighbouring seeds and samples are uncorrelated standard normal numbers."""
    streams = [sample_generator(seed, k) for seed in range(5) for k in range(5)]
    draws = torch.stack([torch.randn(10000, generator=stream) for stream in streams])
    covariance = torch.cov(draws)
    assert (covariance - torch.eye(25)).abs().max() < 0.06  # 4.2 sigma of 0.0141 on the diagonal
    assert draws.mean(dim=1).abs().max() < 0.04


@given(
    seed=st.integers(0, 1000),
    batches=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    shape=st.sampled_from([(3,), (1, 4, 4), (2, 3)]),
)
def test_sample_does_not_depend_on_the_batch(seed, batches, shape):
    singles = [torch.randn(shape, generator=sample_generator(seed, k)) for k in range(sum(batches))]
    start, drawn = 0, []
    for size in batches:
        streams = [sample_generator(seed, k) for k in range(start, start + size)]
        drawn.append(draw_normal(streams, shape))
        start += size
    assert torch.equal(torch.cat(drawn), torch.stack(singles))


def test_draws_continue_their_streams():
    stream = sample_generator(1, 2)
    two = torch.cat([draw_normal([stream], (8,)), draw_normal([stream], (8,))])
    assert not torch.equal(two[0], two[1])
    assert two.dtype == torch.float32


def test_global_state_has_no_say():
    torch.manual_seed(1)
    one = draw_normal([sample_generator(5, 0)], (4,))
    torch.manual_seed(2)
    assert torch.equal(one, draw_normal([sample_generator(5, 0)], (4,)))


@pytest.mark.parametrize("seed", [-1, "one"])
def test_seed_refused(seed):
    with pytest.raises(ValueError, match="."):
        sample_generator(seed)


# Batch size


@given(bytes_per_item=st.floats(1, 1e15), limit=st.integers(1, 10000))
def test_batch_size_in_range(bytes_per_item, limit):
    size = fit_batch_size(select_backend("cpu", "float32"), bytes_per_item, limit=limit)
    assert isinstance(size, int)
    assert 1 <= size <= limit
    assert size == 1 or size * bytes_per_item <= 1.5e9


def test_batch_size_of_small_and_large_items():
    backend = select_backend("cpu", "float32")
    assert fit_batch_size(backend, 1, limit=1000) == 1000
    assert fit_batch_size(backend, sys.maxsize, limit=1000) == 1
