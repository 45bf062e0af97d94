"""Counter-based random numbers: published values, independence, distributions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsky.simulation.counter import CounterStreams, philox

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_published_values(counter, key, expected):
    """The known answers of Random123, by the authors of the generator."""
    words = philox([torch.tensor([word]) for word in counter], key)
    assert [int(word) for word in words] == list(expected)


def test_value_of_the_cpp_standard():
    """The 10000th number of std::philox4x32 of C++26."""
    words = philox([torch.tensor([word]) for word in (2499, 0, 0, 0)], (20111115, 0))
    assert int(words[3]) == 1955073260


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**70),
    numbers=st.lists(st.integers(0, 2**62), min_size=1, max_size=5),
    n=st.integers(1, 9),
)
def test_a_stream_is_a_function_of_seed_and_number(seed, numbers, n):
    together = CounterStreams(seed, numbers)
    for place, number in enumerate(numbers):
        alone = CounterStreams(seed, [number])
        assert torch.equal(together.uniform(1, n)[place], alone.uniform(1, n)[0])
        one, other = together.complex_normal(1, n)[place], alone.complex_normal(1, n)[0]
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
        assert torch.equal(together[[place]].uniform(1, n), alone.uniform(1, n))


def test_more_numbers_begin_with_the_same():
    streams = CounterStreams(1, [7, 8])
    assert torch.equal(streams.uniform(0, 50)[:, :7], streams.uniform(0, 7))
    assert torch.equal(streams.complex_normal(0, 51)[:, :7], streams.complex_normal(0, 7))


def test_parts_agree_with_the_whole():
    """More numbers than are made at once."""
    many = CounterStreams(1, range(40)).complex_normal(2, 2000)
    assert many.shape == (40, 2000, 2)
    few = CounterStreams(1, [37]).complex_normal(2, 2000)
    torch.testing.assert_close(many[37], few[0], rtol=1e-6, atol=1e-6)


def test_uniform():
    uniform = CounterStreams(2, range(500)).uniform(0, 400)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    counts = torch.histc(uniform, 64, 0, 1)
    expected = uniform.numel() / 64
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert 30 < chi_squared < 110  # 63 degrees of freedom


def test_normal():
    normal = CounterStreams(2, range(100)).complex_normal(0, 2000).double()
    for part in normal.unbind(-1):
        moments = [float((part**k).mean()) for k in (1, 2, 3, 4)]
        assert moments == pytest.approx([0, 1, 0, 3], abs=0.06)
    assert float((normal[..., 0] * normal[..., 1]).mean()) == pytest.approx(0, abs=0.01)
    assert 4.3 < float(normal.abs().max()) < 6.8


def test_seeds_numbers_and_purposes_are_independent():
    one = CounterStreams(1, [1]).uniform(0, 10000)
    others = [
        CounterStreams(2, [1]).uniform(0, 10000),
        CounterStreams(1, [2]).uniform(0, 10000),
        CounterStreams(1, [1 + 2**32]).uniform(0, 10000),
        CounterStreams(1, [1]).uniform(1, 10000),
    ]
    correlation = np.corrcoef(np.stack([u[0].numpy() for u in (one, *others)]))
    assert np.abs(correlation - np.eye(5)).max() < 0.05


def test_no_streams():
    streams = CounterStreams(0, [])
    assert streams.uniform(0, 3).shape == (0, 3)
    assert streams.complex_normal(0, 3).shape == (0, 3, 2)
