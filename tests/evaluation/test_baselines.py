"""The tools beside each other: one kind of catalogue from all of them."""

import os
import subprocess
import sys
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData
from baseline_images import (
    BEAM,
    SETUP,
    check_two_sources,
    needs_pybdsf,
    schema,
    wcs_of,
    without_edge,
)
from small_casa import ROOT, needs_casa

from diffsky import DiffusionDeconvolver
from diffsky.catalog import check_catalog, empty_catalog, read_catalog, write_catalog
from diffsky.evaluation import clean_pybdsf, matched_filter, pybdsf


@pytest.fixture(scope="module")
def catalog(observed):
    """From the visibilities, in one step."""
    return clean_pybdsf(observed, cleaning={"gain": 0.1}, finding={"thresh_pix": 5})


@needs_casa
@needs_pybdsf
def test_catalogue_of_clean_and_pybdsf(catalog, cleaned):
    point, gaussian = check_two_sources(catalog)
    assert point["major"] < 0.4 * u.arcsec
    assert abs(gaussian["major"] - 1.2 * u.arcsec) < 0.3 * u.arcsec
    assert abs(gaussian["minor"] - 0.8 * u.arcsec) < 0.3 * u.arcsec
    assert abs(gaussian["pa"] - 30 * u.deg) < 15 * u.deg
    assert abs(point["snr"] - 27) < 5
    assert np.isnan(catalog["reliability"]).all()
    assert list(catalog["n_detections"]) == [1, 1]
    assert list(catalog["flags"]) == [0, 0]
    np.testing.assert_allclose(catalog["flux_upper"] - catalog["flux"], catalog["flux_err"])
    assert catalog.meta["clean"] == cleaned.parameters
    assert catalog.meta["clean"]["algorithm"] == "tclean"
    apart = pybdsf(cleaned)  # in two steps
    for name in ("x_centroid", "flux", "major"):
        np.testing.assert_array_equal(catalog[name], apart[name])


@needs_casa
@needs_pybdsf
@pytest.mark.parametrize("extension", ["ecsv", "fits", "vot"])
def test_catalogue_and_its_parameters_in_files(catalog, tmp_path, extension):
    write_catalog(catalog, tmp_path / f"found.{extension}")
    back = read_catalog(tmp_path / f"found.{extension}")
    assert back.meta == catalog.meta
    assert back.meta["clean"]["noisethreshold"] == 4.25
    for name in ("flux", "flux_err", "pa", "snr", "flags"):
        np.testing.assert_array_equal(back[name], catalog[name])
    assert (back["sky_centroid"].separation(catalog["sky_centroid"]) < 1 * u.uas).all()


@needs_casa
@needs_pybdsf
def test_all_catalogues_are_alike(observed, cleaned, catalog):
    """The matched filter and diffsky find the same, without CLEAN, in the same columns."""
    known = matched_filter(
        observed.dirty, without_edge(observed.psf.data), rms=cleaned.rms, threshold=8,
        primary_beam=observed.primary_beam,
    )  # fmt: skip
    check_two_sources(known)
    _, predicted = DiffusionDeconvolver.from_pretrained(n_steps=3).predict(
        observed.dirty, primary_beam=observed.primary_beam, n_samples=2, seed=1
    )
    assert len(predicted) >= 2
    nothing = pybdsf(cleaned, thresh_pix=100)
    assert len(nothing) == 0
    for found in (catalog, nothing, known, predicted):
        assert schema(found) == schema(empty_catalog())


@needs_casa
@needs_pybdsf
def test_noise_alone_gives_next_to_nothing(observed):
    rng = np.random.default_rng(0)
    power = np.fft.fft2(np.fft.ifftshift(observed.psf.data)).real.clip(0)
    white = np.fft.fft2(rng.normal(size=power.shape))
    noise = np.fft.ifft2(white * np.sqrt(power)).real
    noise *= 7e-5 / noise.std()
    empty = replace(
        observed,
        dirty=CCDData(noise, unit="Jy/beam", wcs=SETUP.wcs, meta={"beam": observed.beam}),
        measurement_set=None,
    )
    catalog = clean_pybdsf(empty, finding={"thresh_pix": 5})
    check_catalog(catalog)
    assert len(catalog) <= 1
    made_by = catalog.meta["clean"]
    assert made_by["algorithm"] == "deconvolve"
    assert made_by["rms"] == pytest.approx(7e-5, rel=0.05)


@needs_casa
@needs_pybdsf
def test_what_the_pair_takes(observed):
    with pytest.raises(TypeError, match="psf is None; expected the PSF of the dirty image"):
        clean_pybdsf(observed.dirty)
    with pytest.raises(TypeError, match="beside an Observation, which has both"):
        clean_pybdsf(observed, observed.psf)
    wide = CCDData(
        np.ones((64, 64)), unit="Jy/beam", wcs=wcs_of(stretch=1.005), meta={"beam": BEAM}
    )
    psf = np.zeros((64, 64))
    psf[32, 32] = 1
    with pytest.raises(ValueError, match="must have square pixels"):
        clean_pybdsf(wide, psf, cleaning={"timeout": 1e-3})


def test_what_is_missing_is_named():
    code = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith(("casa", "bdsf")):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
import diffsky.evaluation
assert not {"astropy", "torch"} & set(sys.modules)
from diffsky.evaluation import clean, clean_image, clean_pybdsf, pybdsf
for call in (
    lambda: clean("nothing"),
    lambda: clean_image("nothing.fits", "nothing.fits"),
    lambda: clean_pybdsf("nothing.fits", "nothing.fits"),
    lambda: pybdsf("nothing.fits"),
):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("this needs CASA, but casatools, ") == 2
    assert done.stdout.count('pip install "diffsky-radio[casa]"') == 2
    assert done.stdout.count('pip install "diffsky-radio[bdsf]"') == 2


def test_all_baselines_are_found_in_one_place():
    import diffsky.catalog
    import diffsky.evaluation
    from diffsky.evaluation import baselines

    assert diffsky.evaluation.matched_filter is diffsky.catalog.matched_filter
    assert {"clean", "clean_image", "clean_pybdsf", "pybdsf"} < set(diffsky.evaluation.__all__)
    assert set(baselines.__all__) < set(diffsky.evaluation.__all__)
    for name in baselines.__all__:
        assert getattr(diffsky.evaluation, name) is getattr(baselines, name)
