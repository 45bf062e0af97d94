"""Sources as D24 look for them: known skies, and what is added to an evaluation."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from diffsky import DiffusionDeconvolver
from diffsky.deconvolution.observation import prepare_observation
from diffsky.evaluation import (
    drozdova2024_catalogs,
    evaluate_pair,
)
from diffsky.simulation import render_sources
from diffsky.simulation.sources import SourceList

HELPER = Path(__file__).parents[1] / "simulation" / "small_pairs.py"
make_pair = runpy.run_path(str(HELPER))["make_pair"]


@pytest.fixture(scope="module")
def prepared():
    """An observation whose working grid is some 0.2 arcsec wide, and its scale."""
    deconvolver = DiffusionDeconvolver.from_pretrained(device="cpu")
    pair = make_pair(3, weighting="natural")
    scale, stride = deconvolver.preset_.scale, deconvolver.denoiser_.network.stride
    return prepare_observation(
        pair.dirty, primary_beam=pair.primary_beam, **scale.grid, stride=stride
    )


def sky_of(prepared, x, y, flux):
    """Sources of 4 pixels where they are on the working grid, in Jy per working pixel."""
    shape = prepared.grid.working_shape
    sizes = [np.full(len(x), 4.0)] * 2
    middle = [n // 2 for n in shape]
    sources = SourceList(
        np.array(x) - middle[1], np.array(y) - middle[0], np.array(flux), *sizes, np.zeros(len(x))
    )
    owner = np.zeros(len(x), dtype=int)
    return render_sources(sources, owner, 1, shape, pixel=1.0)[0].numpy().astype(float)


def test_what_is_in_the_samples_is_found(prepared):
    """Two sources in all of 5 samples, one in 2 of them: the median has two, clusters say 2/5."""
    ny, nx = prepared.grid.working_shape
    x, y, flux = [0.4 * nx, 0.6 * nx, 0.5 * nx], [0.5 * ny, 0.5 * ny, 0.35 * ny], [2e-4, 3e-4, 1e-4]
    both, all_three = sky_of(prepared, x[:2], y[:2], flux[:2]), sky_of(prepared, x, y, flux)
    samples = np.stack([all_three, all_three, both, both, both])
    image = prepared.image
    centre = image.wcs.pixel_to_world(image.shape[1] // 2, image.shape[0] // 2).icrs
    found = drozdova2024_catalogs(prepared, samples, all_three, centre=centre, gamma=2.0)
    assert [len(found[f"D24 run {k}"]) for k in range(1, 6)] == [3, 3, 2, 2, 2]
    assert len(found["D24 median"]) == 2
    assert len(found["D24 mean"]) == len(found["D24 true sky"]) == 3
    assert_allclose(np.sort(found["D24 median"].flux), [2e-4, 3e-4], rtol=0.02)
    clusters = found["D24 detect-aggregate"]
    assert_allclose(np.sort(clusters.score), [0.4, 1, 1])
    assert clusters.flux[clusters.score < 1] == pytest.approx(1e-4, rel=0.02)
    assert len(found["D24 detect-aggregate of 2"]) == 3
    assert "D24 median of 5" not in found  # those are all of them
    # The mean of roots: a source in 2 of 5 samples has (2/5)^2 of its flux.
    faint = found["D24 mean"].flux.min()
    assert faint == pytest.approx(0.16e-4, rel=0.1)
    assert_allclose(clusters.snr, clusters.flux * _gain_over_rms(prepared, clusters), rtol=0.05)


def _gain_over_rms(prepared, found):
    x, y = found.x, found.y
    pixel = abs(prepared.image.wcs.wcs.cdelt[0]) * 3600
    rows = np.rint(prepared.image.shape[0] // 2 + y / pixel).astype(int)
    columns = np.rint(prepared.image.shape[1] // 2 - x / pixel).astype(int)
    return prepared.primary_beam[rows, columns] / prepared.rms[rows, columns]


def test_an_empty_sky_has_no_sources(prepared):
    nothing = np.zeros((3, *prepared.grid.working_shape))
    centre = prepared.image.wcs.pixel_to_world(0, 0).icrs
    found = drozdova2024_catalogs(prepared, nothing, nothing[0], centre=centre, gamma=2.0)
    assert {len(one) for one in found.values()} == {0}


def test_samples_of_another_grid_are_refused(prepared):
    centre = prepared.image.wcs.pixel_to_world(0, 0).icrs
    with pytest.raises(ValueError, match=r"samples have shape \(2, 8, 8\) .*working grid"):
        drozdova2024_catalogs(
            prepared, np.zeros((2, 8, 8)), np.zeros((8, 8)), centre=centre, gamma=2.0
        )


def test_evaluation_adds_these_catalogues_and_nothing_else_changes():
    columns = map(np.array, ([-3.0, 2.0], [1.0, -3.0], [1.5e-3, 2e-3]))
    sources = SourceList(*columns, *np.zeros((3, 2)))
    pair = make_pair(3, sources=sources, weighting="natural")
    deconvolver = DiffusionDeconvolver.from_pretrained(device="cpu", n_steps=2)
    plain, more = (
        evaluate_pair(deconvolver, pair, n_samples=3, seed=1, drozdova2024=flag, progress=False)
        for flag in (False, True)
    )
    added = set(more.catalogs) - set(plain.catalogs)
    assert all(name.startswith("D24 ") for name in added)
    assert {"D24 run 3", "D24 median", "D24 median of 2", "D24 true sky"} <= added
    assert_allclose(more.catalogs["median"].flux, plain.catalogs["median"].flux)
    assert set(more.reconstruction) - set(plain.reconstruction) == {"mean of 2", "median of 2"}
    assert_allclose(more.reconstruction["median"], plain.reconstruction["median"])
    exact = more.catalogs["D24 true sky"]
    assert_allclose(np.sort(exact.flux), [1.5e-3, 2e-3], rtol=0.1)
