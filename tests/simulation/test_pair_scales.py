"""Pairs under other scales: the same observations, other targets."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from diffsky.deconvolution import WorkingScale
from diffsky.simulation import PRIORS, SimulatedPairs, SkyPrior
from diffsky.simulation.counter import CounterStreams

RESOLVED = SkyPrior(n_sources=(2, 2), flux=(5, 9), fwhm=(0.4, 1.0), half_width=3, relative=True)


def make_pairs(prior=RESOLVED, **scale):
    radius = np.hypot(*np.meshgrid(np.fft.rfftfreq(64), np.fft.fftfreq(64)))
    weights = torch.from_numpy((radius < 0.1).astype(np.float32))[None]
    options = {"field_size": 64, "patch_size": None, "pblimit": 0.0}
    return SimulatedPairs(weights, priors=[(prior, 1.0)], scale=WorkingScale(**scale), **options)


def test_stretches_hold_the_same_sky():
    root, asinh = make_pairs(), make_pairs(stretch="asinh")
    (target, condition), (other, same) = (pairs.batch(range(4)) for pairs in (root, asinh))
    assert torch.equal(condition, same)
    assert_close(
        asinh.scale.unscale_target(other), root.scale.unscale_target(target), rtol=1e-4, atol=1e-5
    )


def test_without_a_kernel_the_sky_is_sharp():
    """Peaks are higher and sums the same: fluxes through the primary beam."""
    blurred, sharp = make_pairs(), make_pairs(kernel_beams=0.0)
    skies = [pairs._all_at_once(range(6), "cpu")[:, [0, 2]].double() for pairs in (blurred, sharp)]
    true = [(sky[:, 0] / sky[:, 1]).sum((1, 2)) for sky in skies]
    sources, owner = RESOLVED.draw_many(CounterStreams(0, range(6)))
    fluxes = torch.zeros(6).double().index_add_(0, owner, sources.flux.double())
    for totals in true:
        assert_close(totals, fluxes, rtol=5e-3, atol=0)
    assert (skies[1][:, 0].amax((1, 2)) > 1.02 * skies[0][:, 0].amax((1, 2))).all()


def test_points_need_a_kernel():
    with pytest.raises(ValueError, match="a source is .* pixels wide; expected 1.5 or more"):
        make_pairs(PRIORS["wide"], kernel_beams=0.0).batch(range(4))
