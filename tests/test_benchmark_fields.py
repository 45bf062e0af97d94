"""The fast fields that quality is measured on: what is in them is what their list says."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose

from diffsky.simulation import PRIORS, GeneralPrior, ObservationSetup, render_sources

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def telescope():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        from telescope import Telescope

        return Telescope(ObservationSetup(direction="J2000 150.119deg 2.2deg"), rms=1e-8)


def test_sources_have_their_size(telescope):
    """Gaussians of 2 pixels and more can be drawn without the kernel of the target."""
    for number in range(4):
        pair = telescope.pair(1, number)
        sources = PRIORS["independent"].draw(np.random.default_rng([1, 2, number]))
        owner, shape = np.zeros(len(sources), dtype=int), pair.dirty.shape
        sharp = render_sources(sources, owner, 1, shape, pixel=telescope.pixel)
        expected = telescope.instrument.forward(sharp)[0].numpy()
        assert_allclose(pair.dirty.data, expected, atol=0.005 * expected.max())
        assert pair.sky.meta["kernel_fwhm"].to_value(u.arcsec) == pytest.approx(
            0.4 * telescope.fwhm
        )


def test_any_prior_can_be_observed(telescope):
    prior = GeneralPrior(n_sources=(5, 5), empty_share=0.0, half_width=6.0)
    pair = telescope.pair(1, 3, prior=prior)
    gain = telescope.instrument.primary_beam.numpy()
    rows, columns = (np.rint(pair.sources[n]).astype(int) for n in ("y_centroid", "x_centroid"))
    apparent = pair.sources["flux"].to_value(u.Jy) @ gain[rows, columns]
    assert (pair.sky.data * gain).sum() / apparent == pytest.approx(1, abs=0.05)
