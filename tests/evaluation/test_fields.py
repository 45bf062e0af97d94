"""One pair through predict's stages, the matched filter, and the truth by the same measurement."""

import runpy
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from evaluated_fields import same_results
from numpy.testing import assert_allclose

from diffsky import DiffusionDeconvolver
from diffsky.catalog.table import pixel_scale
from diffsky.deconvolution import STRATEGIES, FluxScale, drozdova2024
from diffsky.deconvolution.observation import prepare_observation
from diffsky.diffusion import build_denoiser, build_network
from diffsky.evaluation import evaluate_pair, pool_fields
from diffsky.evaluation.fields import (
    MATCHED_FILTER,
    N_CELLS,
    SINGLE_RUN,
    TRUE_SKY,
    _psf,
    field_seed,
)
from diffsky.exceptions import DiffskyWarning
from diffsky.simulation.sources import SourceList

HELPER = Path(__file__).parents[1] / "simulation" / "small_pairs.py"
make_pair = runpy.run_path(str(HELPER))["make_pair"]
N_SAMPLES, SEED = 5, 11


@pytest.fixture(scope="module")
def deconvolver():
    return DiffusionDeconvolver.from_pretrained(device="cpu", precision="float32", n_steps=4)


@pytest.fixture(scope="module")
def pair():
    """Three points of S/N 20 and more, one of them where there is no data."""
    numbers = ([-3.0, 2.0, 6.2], [1.0, -3.0, 6.2], [1.5e-3, 2e-3, 1e-3])
    zero = np.zeros(3)
    sources = SourceList(*map(np.array, numbers), zero, zero, zero)
    return make_pair(3, sources=sources, weighting="natural")


@pytest.fixture(scope="module")
def result(deconvolver, pair):
    return evaluate_pair(deconvolver, pair, number=3, n_samples=N_SAMPLES, seed=SEED, group="a")


def test_catalogues_are_those_of_predict(deconvolver, pair, result):
    assert set(result.catalogs) == {*STRATEGIES, SINGLE_RUN, MATCHED_FILTER, TRUE_SKY}
    for strategy in STRATEGIES:
        _, catalog = deconvolver.predict(
            pair.dirty,
            primary_beam=pair.primary_beam,
            n_samples=N_SAMPLES,
            seed=field_seed(SEED, 3),
            strategy=strategy,
            calibrated=False,
        )
        found = result.catalogs[strategy]
        assert len(found) == len(catalog) > 0
        assert_allclose(found.flux, catalog["flux"].to_value(u.Jy))
        assert_allclose(found.score, catalog["share"])


def test_with_the_psf_it_is_predict_with_the_psf(deconvolver):
    """A source of S/N 200: a warning without the PSF, major cycles with it."""
    zero = np.zeros(2)
    sources = SourceList(np.array([-3.0, 2.0]), np.array([1.0, -3.0]), np.array([2e-2, 1e-3]),
                         zero, zero, zero)  # fmt: skip
    pair = make_pair(4, sources=sources, weighting="natural")
    options = {"number": 4, "n_samples": N_SAMPLES, "seed": SEED, "strategies": ["median"]}
    with pytest.warns(DiffskyWarning, match="the image peaks at .* rms. Without psf="):
        evaluate_pair(deconvolver, pair, **options)
    result = evaluate_pair(deconvolver, pair, use_psf=True, **options)
    prepared = prepare_observation(
        pair.dirty, primary_beam=pair.primary_beam, stride=8, pixels_per_beam=4.25
    )
    _, catalog = deconvolver.predict(
        pair.dirty,
        primary_beam=pair.primary_beam,
        psf=_psf(pair, prepared),
        n_samples=N_SAMPLES,
        seed=field_seed(SEED, 4),
        calibrated=False,
    )
    found = result.catalogs["median"]
    assert_allclose(found.flux, catalog["flux"].to_value(u.Jy), rtol=1e-5)
    assert abs(found.flux.max() / 2e-2 - 1) < 0.1


def test_matched_filter_has_the_image_of_its_psf(deconvolver, pair, result, monkeypatch):
    """Where the samples are of a reweighted image, here a blank one of half the noise."""
    draw = type(deconvolver).sample_observation

    def reweighted(self, prepared, **options):
        apparent, prepared = draw(self, prepared, **options)
        image = prepared.image.copy()
        image.data = np.zeros_like(image.data)
        return apparent, replace(prepared, image=image, rms=prepared.rms / 2)

    monkeypatch.setattr(type(deconvolver), "sample_observation", reweighted)
    other = evaluate_pair(deconvolver, pair, number=3, n_samples=N_SAMPLES, seed=SEED)
    known, found = (one.catalogs[MATCHED_FILTER] for one in (result, other))
    assert len(found) == len(known) > 0
    assert_allclose(found.flux, known.flux)
    assert_allclose(other.truth.snr, result.truth.snr)
    assert other.rms == result.rms


def test_flux_samples_give_the_interval_of_the_catalogue(deconvolver, pair, result):
    _, catalog = deconvolver.predict(
        pair.dirty,
        primary_beam=pair.primary_beam,
        n_samples=N_SAMPLES,
        seed=field_seed(SEED, 3),
        calibrated=False,
    )
    samples = result.catalogs["median"].flux_samples
    assert samples.shape == (len(catalog), N_SAMPLES)
    assert np.isfinite(samples).sum(axis=1).tolist() == catalog["n_detections"].tolist()
    many = catalog["n_detections"] >= 3
    ends = np.nanquantile(samples[many], [0.16, 0.84], axis=1, method="weibull")
    for end, name in zip(ends, ("flux_lower", "flux_upper"), strict=True):
        assert_allclose(end, catalog[name][many].to_value(u.Jy), rtol=1e-6)


def test_truth_is_what_there_is_data_for(pair, result):
    assert len(result.truth) == 2
    assert_allclose(result.truth.flux, [1.5e-3, 2e-3])
    # Columns grow westwards, rows northwards.
    assert_allclose(result.truth.x, [3, -2], atol=1e-3)
    assert_allclose(result.truth.y, [1, -3], atol=1e-3)
    gain = pair.primary_beam.data[32 + 5, 32 - 15]
    assert result.truth.snr[0] == pytest.approx(1.5e-3 * gain / result.rms, rel=1e-3)
    assert result.rms == pytest.approx(50e-6, rel=0.15)


@pytest.mark.parametrize("method", [*STRATEGIES, SINGLE_RUN, MATCHED_FILTER, TRUE_SKY])
def test_bright_sources_are_found_where_they_are(result, method):
    pool = pool_fields([result], method)
    assert pool.is_found.all()
    assert (pool.separation[pool.is_true] < 0.15).all()
    ratio = (pool.found.flux / pool.true_flux)[pool.is_true]
    assert_allclose(ratio, 1, atol=0.3)


def test_posterior_quantities_are_near_the_truth(result):
    assert set(result.posterior) == {"total flux", "number of sources", "pixel values"}
    for name, size in (("total flux", 1), ("number of sources", 1), ("pixel values", N_CELLS)):
        truth, samples = result.posterior[name]
        assert (truth.shape, samples.shape) == ((size,), (N_SAMPLES, size))
    truth, samples = result.posterior["total flux"]
    # Apparent flux over the rms; the source without data does not count.
    assert truth[0] == pytest.approx(result.truth.snr.sum(), rel=0.05)
    assert np.abs(samples.mean() / truth[0] - 1) < 0.5
    assert result.posterior["number of sources"][0] == 2
    cells = result.posterior["pixel values"]
    # The brightest cells are those of the sources, which have flux in truth and samples alike.
    assert cells[0][:2].min() > 1
    assert np.corrcoef(cells[0], cells[1].mean(axis=0))[0, 1] > 0.8


def test_reconstruction_is_about_normalised_skies(deconvolver, pair, result):
    """The same from the samples and the sky of the pair, D24 eq. 1 with c for their pixels."""
    prepared = deconvolver._prepare(pair.dirty, primary_beam=pair.primary_beam)
    seed = field_seed(SEED, 3)
    apparent = deconvolver.sample_apparent(prepared, n_samples=N_SAMPLES, seed=seed)
    gain, rms = prepared.primary_beam_working, prepared.rms_working
    flux = np.divide(apparent * rms, gain, out=np.zeros_like(apparent), where=gain > 0)
    unit = 2.960064e-5 * (pixel_scale(prepared.image.wcs) * prepared.grid.zoom / 0.1) ** 2
    truth = prepared.grid.to_working(pair.sky.data) * prepared.grid.zoom**2 * (gain > 0) / unit
    truth[truth < 1e-4] = 0  # what the resampling leaves around the sources
    samples = np.sqrt(flux / unit)
    expected = np.mean((samples.mean(axis=0) - np.sqrt(truth)) ** 2)
    assert list(result.reconstruction) == ["single run", "mean", "median"]
    assert result.reconstruction["single run"].shape == (N_SAMPLES, 3)
    ((mse, peak, similarity),) = result.reconstruction["mean"]
    assert mse == pytest.approx(expected, rel=0.3)  # roots of wings, resampled and drawn
    assert peak == pytest.approx(-10 * np.log10(mse))
    assert 0.5 < similarity < 1
    assert mse < result.reconstruction["single run"][:, 0].mean()


def test_samples_depend_on_seed_and_number_alone(deconvolver, pair, result):
    again = evaluate_pair(deconvolver, pair, number=3, n_samples=N_SAMPLES, seed=SEED, group="a")
    assert same_results(result, again)
    assert len({field_seed(seed, k) for seed in (1, 2) for k in range(50)}) == 100


def test_truth_has_the_resolution_of_the_samples_whatever_that_of_the_pair(deconvolver, pair):
    sky = pair.sky.copy()
    sky.meta["kernel_fwhm"] = 0.1 * u.arcsec
    other = evaluate_pair(deconvolver, replace(pair, sky=sky), n_samples=2, strategies=["median"])
    same = evaluate_pair(deconvolver, pair, n_samples=2, strategies=["median"])
    assert same_results(other, same)
    assert set(other.catalogs) == {"median", SINGLE_RUN, MATCHED_FILTER, TRUE_SKY}


def test_truth_is_that_of_the_pair_on_the_working_grid(deconvolver, pair, result):
    prepared = deconvolver._prepare(pair.dirty, primary_beam=pair.primary_beam)
    sky = prepared.grid.to_working(pair.sky.data) * prepared.grid.zoom**2
    gain, rms = prepared.primary_beam_working, prepared.rms_working
    apparent = sky * np.divide(gain, rms, out=np.zeros_like(gain), where=rms > 0)
    assert result.posterior["total flux"][0][0] == pytest.approx(apparent.sum(), rel=0.01)


def test_preset_in_jy_and_arcsec_goes_the_same_way(pair):
    """D24's preset with a network that was never trained."""
    preset = drozdova2024(channels=32)
    preset = replace(
        preset,
        scale=FluxScale(size=64, pixel=0.4),
        sampling={**preset.sampling, "sampler": "ddim", "n_steps": 1},
    )
    deconvolver = DiffusionDeconvolver(preset, device="cpu", precision="float32")
    denoiser = build_denoiser(build_network(preset.network), preconditioning=preset.preconditioning)
    deconvolver._adopt(denoiser, preset, {"name": "a", "version": 1, "training": {}})
    result = evaluate_pair(deconvolver, pair, n_samples=2, strategies=["median"])
    truth, samples = result.posterior["total flux"]
    assert truth[0] == pytest.approx(result.truth.snr.sum(), rel=0.05)
    assert samples.shape == (2, 1)
    assert result.posterior["pixel values"][0].shape == (N_CELLS,)
    # Two of the sixteen cells of 0.8 arcsec have the sources, which are points to this network.
    assert (result.posterior["pixel values"][0] > 10).sum() >= 2
    assert len(result.truth) == 2


def test_sky_without_list_is_refused(deconvolver, pair):
    with pytest.raises(ValueError, match="pair 5 has no list of its true sources"):
        evaluate_pair(deconvolver, replace(pair, sources=pair.sources[:0]), number=5)


def test_empty_sky(deconvolver, pair):
    empty = make_pair(4, sources=SourceList(*[np.zeros(0)] * 6), weighting="natural")
    result = evaluate_pair(deconvolver, empty, n_samples=2)
    assert len(result.truth) == 0
    assert result.posterior["total flux"][0] == 0
