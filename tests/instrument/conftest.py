"""Small instruments with random uv coverage."""

import numpy as np
import pytest

from diffsky.instrument import instrument_from_uv

ARCSEC = np.pi / 180 / 3600
PIXEL = 0.1  # arcsec
SHAPE = (24, 20)


def random_uv(seed=0, n=300):
    """Baselines with a beam of about 4 pixels, longer in u than in v."""
    rng = np.random.default_rng(seed)
    uv = rng.normal(0, [0.1, 0.07], (n, 2))
    return np.clip(uv, -0.3, 0.3) / (PIXEL * ARCSEC)


def gaussian_beam(shape=SHAPE, fwhm=25.0, centre=None):
    cy, cx = (n // 2 for n in shape) if centre is None else centre
    y, x = np.indices(shape)
    return np.exp(-4 * np.log(2) * ((y - cy) ** 2 + (x - cx) ** 2) / fwhm**2)


@pytest.fixture
def make_instrument():
    """Function that makes an instrument, of seed and keywords."""

    def make(seed=0, *, shape=SHAPE, primary_beam=None, rms=0.02, padding=4, weights=None):
        beam = gaussian_beam(shape) if primary_beam is None else primary_beam
        return instrument_from_uv(
            random_uv(seed),
            pixel_scale=PIXEL,
            primary_beam=beam,
            rms=rms,
            padding=padding,
            weights=weights,
        )

    return make


@pytest.fixture(scope="session")
def direct_image():
    """Function that sums the visibilities of a 1 Jy point into a dirty image of n x n pixels.

    V = exp(-2 pi i (u l + v m)) with l east and m north, on pixels that grow west and north.
    """

    def add(uv, weights, source, n):
        y, x = np.indices((n, n)) - n // 2
        sy, sx = (place - n // 2 for place in source)
        east, north = (-(x - sx) * PIXEL * ARCSEC, (y - sy) * PIXEL * ARCSEC)
        phase = uv[:, 0, None, None] * east + uv[:, 1, None, None] * north
        return np.tensordot(weights, np.cos(2 * np.pi * phase), 1) / weights.sum()

    return add
