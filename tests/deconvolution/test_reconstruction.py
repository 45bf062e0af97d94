"""Images and catalogues that come out of predictions: units, positions, samples, regions."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from astropy.table import QTable
from astropy.wcs.utils import pixel_to_skycoord
from numpy.testing import assert_allclose, assert_array_equal
from regions import CirclePixelRegion, CircleSkyRegion, PixCoord, Regions

from diffsky import DiffskyWarning
from diffsky.catalog import check_catalog, empty_catalog, read_catalog, write_catalog
from diffsky.deconvolution import STRATEGIES
from diffsky.images import write_image

SOURCES = [(40.3, 50.7, 0.1), (70.2, 30.1, 0.05)]
OPTIONS = {"n_samples": 3, "seed": 1, "primary_beam": 1.0}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sky_and_catalogue(local_estimator, dirty, strategy):
    image = dirty(SOURCES)
    sky, catalog = local_estimator().predict(image, strategy=strategy, **OPTIONS)
    assert sky.unit == u.Jy / u.pix
    assert sky.shape == sky.mask.shape == sky.uncertainty.array.shape == image.shape
    assert sky.wcs.wcs.compare(image.wcs.wcs)
    assert isinstance(sky.uncertainty, StdDevUncertainty)
    assert not sky.mask.any()
    assert_allclose(sky.data.sum(), 0.15, rtol=0.02)
    assert sky.meta["beam"].major == image.meta["beam"].major
    assert_allclose(sky.meta["rms"], 1e-4, rtol=0.05)
    assert_allclose(sky.meta["kernel_fwhm"].to_value("arcsec"), 0.4 * 0.425)
    expected = {"weights": "test", "weights_version": 1, "seed": 1, "n_samples": 3}
    expected |= {"strategy": strategy, "sampler": "euler", "n_steps": 4}
    assert expected.items() <= sky.meta.items()
    assert expected.items() <= catalog.meta.items()
    check_catalog(catalog)
    assert len(catalog) == 2
    catalog.sort("flux", reverse=True)
    assert_allclose(catalog["flux"].to_value("Jy"), [0.1, 0.05], rtol=0.03)
    assert_allclose(catalog["x_centroid"], [40.3, 70.2], atol=0.1)
    assert_allclose(catalog["y_centroid"], [50.7, 30.1], atol=0.1)
    assert_allclose(catalog["reliability"], 1)
    assert_array_equal(catalog["n_detections"], 3)
    true = pixel_to_skycoord(*np.array(SOURCES).T[:2], image.wcs)
    assert (catalog["sky_centroid"].separation(true) < 0.01 * u.arcsec).all()


def test_units_change_nothing(local_estimator, dirty):
    image = dirty(SOURCES)
    deconvolver = local_estimator()
    sky, catalog = deconvolver.predict(image, **OPTIONS)
    milli = image.copy()
    milli.data, milli.unit = image.data * 1e3, u.mJy / u.beam
    same, again = deconvolver.predict(milli, **OPTIONS)
    assert_allclose(same.data, sky.data, rtol=1e-4, atol=1e-9)
    assert_allclose(again["flux"].to_value("Jy"), catalog["flux"].to_value("Jy"), rtol=1e-5)
    assert same.unit == sky.unit


@pytest.mark.parametrize("known", [True, False])
def test_scaling_image_and_rms_scales_fluxes(untrained, local_estimator, dirty, known):
    image = dirty(SOURCES)
    for deconvolver in (untrained, local_estimator()):
        skies = []
        for factor in (1, 16):  # a power of two, which rounds nothing
            scaled = image.copy()
            scaled.data = image.data * factor
            rms = {"rms": 2**-13 * factor} if known else {}
            skies.append(deconvolver.predict(scaled, **OPTIONS, **rms))
        (sky, catalog), (bright, brighter) = skies
        assert_allclose(bright.data, 16 * sky.data, rtol=1e-5, atol=1e-9)
        assert len(catalog) == len(brighter)
        for name in ("flux", "peak"):
            assert_allclose(brighter[name].value, 16 * catalog[name].value, rtol=1e-5)
        assert_allclose(brighter["snr"], catalog["snr"], rtol=1e-5)


def test_primary_beam_is_divided_out(local_estimator, dirty):
    y, x = np.indices((96, 96))
    gain = np.exp(-((x - 47) ** 2 + (y - 47) ** 2) / (2 * 30**2))
    gain[gain < 0.2] = np.nan
    image = dirty(SOURCES, gain=np.nan_to_num(gain))
    deconvolver = local_estimator()
    sky, catalog = deconvolver.predict(image, n_samples=1, seed=1, primary_beam=gain)
    catalog.sort("flux", reverse=True)
    assert_allclose(catalog["flux"].to_value("Jy"), [0.1, 0.05], rtol=0.05)
    apparent = catalog["peak"].value * gain[[51, 30], [40, 70]]
    assert_allclose(catalog["snr"] * sky.meta["rms"], apparent, rtol=0.02)
    assert_array_equal(sky.mask, np.isnan(gain))
    assert not sky.data[sky.mask].any()
    assert not sky.uncertainty.array[sky.mask].any()


@pytest.mark.parametrize("shape", [(96, 96), (81, 120), (75, 64)])
@pytest.mark.parametrize("fwhm", [2.6, 5.0, 11.0])
def test_any_sampling_of_the_beam(local_estimator, dirty, shape, fwhm):
    x, y = 0.45 * shape[1], 0.6 * shape[0]
    image = dirty([(x, y, 0.1)], shape=shape, fwhm=fwhm)
    _, catalog = local_estimator().predict(image, rms=1e-4, **OPTIONS)
    brightest = catalog[np.argmax(catalog["flux"])]
    assert_allclose(brightest["flux"].to_value("Jy"), 0.1, rtol=0.03)
    assert_allclose(brightest["x_centroid"], x, atol=0.02 * fwhm)
    assert_allclose(brightest["y_centroid"], y, atol=0.02 * fwhm)


@pytest.mark.parametrize("turn", [0, 37, 180])
@pytest.mark.parametrize("flip", [False, True])
def test_positions_in_turned_images(local_estimator, dirty, turn, flip):
    image = dirty(SOURCES, turn=turn, flip=flip)
    _, catalog = local_estimator().predict(image, **OPTIONS)
    true = pixel_to_skycoord(*np.array(SOURCES).T[:2], image.wcs)
    catalog.sort("flux", reverse=True)
    assert (catalog["sky_centroid"].separation(true) < 0.01 * u.arcsec).all()


def test_rms_map(local_estimator, dirty):
    rms = np.where(np.arange(96) < 55, 1e-4, 3e-4) * np.ones((96, 1))
    _, catalog = local_estimator().predict(dirty(SOURCES), rms=rms, **OPTIONS)
    catalog.sort("flux", reverse=True)
    assert_allclose(catalog["flux"].to_value("Jy"), [0.1, 0.05], rtol=0.05)
    assert_allclose(catalog["snr"] * [1e-4, 3e-4], catalog["peak"].value, rtol=0.01)


def test_source_around_a_blank_hole(local_estimator, dirty):
    image = dirty([(40.0, 50.0, 0.1)])
    mask = np.zeros(image.shape, dtype=bool)
    mask[49:52, 39:42] = True
    sky, catalog = local_estimator().predict(image, mask=mask, **OPTIONS)
    assert_array_equal(sky.mask, mask)
    assert np.isfinite(catalog["flux"]).all()
    assert (catalog["flux"] > 0).all()


@pytest.mark.parametrize("fwhm", [2.6, 4.25, 9.0])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sky_is_that_of_the_samples(local_estimator, dirty, strategy, fwhm):
    image = dirty(SOURCES, fwhm=fwhm)
    deconvolver = local_estimator(jitter=True)
    options = {**OPTIONS, "n_samples": 7}
    sky, _ = deconvolver.predict(image, strategy=strategy, **options)
    cube = deconvolver.sample(image, **options).data
    average = np.median(cube, axis=0) if strategy == "median" else cube.mean(axis=0)
    assert_allclose(sky.data, average, atol=0.01 * average.max())
    spread = cube.std(axis=0, ddof=1)
    assert spread.max() > 0.1 * average.max()
    assert_allclose(sky.uncertainty.array, spread, atol=0.01 * spread.max())


def test_reliability_is_the_share_of_samples(local_estimator, dirty):
    n = 12
    deconvolver = local_estimator(doubt=True)
    image = dirty(SOURCES)
    options = {"n_samples": n, "seed": 4, "primary_beam": 1.0}
    present = (deconvolver.sample(image, **options).data.sum(axis=(1, 2)) > 0.1).sum()
    assert 0 < present < n
    for strategy in ("mean", "detect-aggregate"):
        _, catalog = deconvolver.predict(image, strategy=strategy, **options)
        assert_array_equal(catalog["n_detections"], present)
        assert_allclose(catalog["reliability"], present / n)
    _, catalog = deconvolver.predict(image, strategy="mean", min_reliability=1.0, **options)
    assert len(catalog) == 0


def test_radius_in_beams_or_as_angle(local_estimator, dirty):
    image, n = dirty(SOURCES), 7
    deconvolver = local_estimator(jitter=True)
    options = {"n_samples": n, "seed": 1, "primary_beam": 1.0, "strategy": "detect-aggregate"}
    for radius in (1.2, 1.2 * 0.425 * u.arcsec):
        _, catalog = deconvolver.predict(image, radius=radius, **options)
        assert_array_equal(catalog["reliability"], [1, 1])
        assert_array_equal(catalog["id"], [1, 2])
    for radius in (0.2, 0.2 * 0.425 * u.arcsec):
        _, catalog = deconvolver.predict(image, radius=radius, **options)
        assert len(catalog) == 4
        share = catalog["reliability"]
        assert ((share > 0) & (share < 1)).all()
        assert_allclose(share * n, catalog["n_detections"])
        assert catalog["n_detections"].sum() == 2 * n


def test_empty_field(local_estimator, dirty):
    sky, catalog = local_estimator().predict(dirty(), **OPTIONS)
    assert len(catalog) == 0
    assert isinstance(catalog, QTable)
    check_catalog(catalog)
    expected = empty_catalog()
    assert catalog.colnames == expected.colnames
    for name in catalog.colnames:
        if name != "sky_centroid":
            assert catalog[name].dtype.kind == expected[name].dtype.kind
    assert_allclose(sky.data, 0, atol=1e-12)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_sample(local_estimator, dirty, strategy):
    sky, catalog = local_estimator().predict(
        dirty(SOURCES), n_samples=1, seed=1, primary_beam=1, strategy=strategy
    )
    assert len(catalog) == 2
    assert_array_equal(sky.uncertainty.array, 0)
    assert np.isnan(catalog["flux_err"]).all()
    assert (catalog["flags"] & 16 > 0).all()


def test_cube(local_estimator, dirty):
    image = dirty(SOURCES)
    image.data[:10] = np.nan
    cube = local_estimator().sample(image, **OPTIONS)
    assert cube.shape == cube.mask.shape == (3, 96, 96)
    assert cube.unit == u.Jy / u.pix
    assert cube.mask[:, :10].all()
    assert not cube.mask[:, 10:].any()
    assert not cube.data[:, :10].any()
    assert cube.meta["seed"] == 1
    assert_allclose(cube.data.sum(axis=(1, 2)), 0.15, rtol=0.03)


def test_cube_knows_its_place(local_estimator, dirty, tmp_path):
    """Also as a FITS file, whose third axis counts the samples."""
    image = dirty(SOURCES)
    cube = local_estimator().sample(image, **OPTIONS)
    x, y, number = cube.wcs.all_world2pix(*cube.wcs.all_pix2world(20, 70, 2, 0), 0)
    assert_allclose([x, y, number], [20, 70, 2], atol=1e-6)
    sky = cube.wcs.celestial.pixel_to_world(20, 70)
    assert sky.separation(image.wcs.pixel_to_world(20, 70)).arcsec < 1e-6
    fits.PrimaryHDU(cube.data, cube.wcs.to_header()).writeto(tmp_path / "cube.fits")
    header = fits.getheader(tmp_path / "cube.fits")
    assert (header["NAXIS3"], header["CTYPE3"], header["CRVAL3"]) == (3, "SAMPLE", 0)


def test_list_gives_a_list(local_estimator, dirty, tmp_path):
    images = [dirty(SOURCES), dirty(SOURCES[:1], shape=(64, 80))]
    write_image(images[1], tmp_path / "second.fits")
    deconvolver = local_estimator()
    results = deconvolver.predict([images[0], tmp_path / "second.fits"], **OPTIONS)
    assert isinstance(results, list)
    for image, (sky, catalog) in zip(images, results, strict=True):
        alone, alike = deconvolver.predict(image, **OPTIONS)
        assert_allclose(sky.data, alone.data, rtol=1e-3, atol=1e-7)
        assert len(catalog) == len(alike)
    assert deconvolver.predict([], **OPTIONS) == []


def test_same_seed_same_result(untrained, dirty):
    image = dirty(SOURCES)
    one, other = (untrained.sample(image, **OPTIONS) for _ in range(2))
    assert_array_equal(one.data, other.data)
    more = untrained.sample(image, **{**OPTIONS, "n_samples": 5})
    assert_allclose(more.data[:3], one.data, atol=1e-3 * one.data.max())
    seeds = [untrained.sample(image, n_samples=1, primary_beam=1.0) for _ in range(2)]
    assert seeds[0].meta["seed"] != seeds[1].meta["seed"]
    again = untrained.sample(image, n_samples=1, primary_beam=1.0, seed=seeds[0].meta["seed"])
    assert_array_equal(again.data, seeds[0].data)


def test_unknown_telescope_warns_once_at_the_caller(local_estimator, dirty):
    y, x = np.indices((96, 96)) - 48
    psf = np.exp(-4 * np.log(2) * (x**2 + y**2) / 4.25**2)
    with pytest.warns(DiffskyWarning, match="no primary beam is known") as record:
        local_estimator().predict(dirty(SOURCES), n_samples=1, seed=1, psf=psf)
    assert len(record) == 1
    assert record[0].filename == __file__


def test_nothing_is_shown_without_a_terminal(local_estimator, dirty, capsys):
    local_estimator().predict(dirty(SOURCES), **OPTIONS)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["pixel", "sky", "list", "regions"])
def test_regions(local_estimator, dirty, kind):
    image = dirty(SOURCES)
    pixel = CirclePixelRegion(PixCoord(70, 30), 3)
    sky = CircleSkyRegion(pixel_to_skycoord(70, 30, image.wcs), 0.3 * u.arcsec)
    region = {"pixel": pixel, "sky": sky, "list": [pixel, sky], "regions": Regions([sky])}[kind]
    deconvolver = local_estimator()
    whole, _ = deconvolver.predict(image, **OPTIONS)
    found, catalog = deconvolver.predict(image, regions=region, **OPTIONS)
    assert len(catalog) == 1
    assert_allclose(catalog["x_centroid"], 70.2, atol=0.1)
    assert_array_equal(catalog["id"], 1)
    assert catalog["id"].info.description
    assert_array_equal(found.data, whole.data)  # the sky is the whole one


def test_region_without_sources(local_estimator, dirty):
    region = CirclePixelRegion(PixCoord(10, 10), 3)
    _, catalog = local_estimator().predict(dirty(SOURCES), regions=region, **OPTIONS)
    assert len(check_catalog(catalog)) == 0


def test_regions_and_sources_at_the_border(local_estimator, dirty):
    image = dirty([(-0.6, 50, 0.1), (95.6, 20, 0.1), (60, 95.7, 0.1), (30, -0.5, 0.1)])
    deconvolver = local_estimator()
    everywhere = CirclePixelRegion(PixCoord(48, 48), 100)
    _, catalog = deconvolver.predict(image, regions=everywhere, **OPTIONS)
    assert len(catalog) == 4
    assert (catalog["flags"] & 1 == 1).all()
    away = CirclePixelRegion(PixCoord(48, 48), 30)
    assert len(deconvolver.predict(image, regions=away, **OPTIONS)[1]) == 0


def test_region_far_larger_than_the_image(local_estimator, dirty):
    region = CircleSkyRegion(SkyCoord(150.1, 2.2, unit="deg"), 1 * u.deg)
    _, catalog = local_estimator().predict(dirty(SOURCES), regions=region, **OPTIONS)
    assert len(catalog) == 2


def test_residual_with_the_psf(local_estimator, dirty, blob):
    image = dirty(SOURCES)
    area = np.pi * 4.25**2 / (4 * np.log(2))
    psf = blob((192, 192), 96, 96, 4.25, area)
    deconvolver = local_estimator()
    sky, _ = deconvolver.predict(image, psf=psf, **OPTIONS)
    left = deconvolver.residual(image, sky, psf=psf, primary_beam=1.0)
    assert left.unit == u.Jy / u.beam
    assert_allclose(sky.meta["residual_rms"], left.data[~left.mask].std(), rtol=1e-6)
    assert sky.meta["residual_rms"] < image.data.std()


def test_sky_can_be_written(local_estimator, dirty, tmp_path):
    sky, _ = local_estimator().predict(dirty(SOURCES), **OPTIONS)
    write_image(sky, tmp_path / "sky.fits")
    with fits.open(tmp_path / "sky.fits") as hdus:
        assert_allclose(hdus[0].data, sky.data)
        assert hdus[0].header["BUNIT"] == "Jy/pixel"
        assert hdus[0].header["BMAJ"] * 3600 == pytest.approx(0.425)


@pytest.mark.parametrize("name", ["empty.ecsv", "empty.fits", "empty.vot"])
def test_empty_catalogue_can_be_written(local_estimator, dirty, tmp_path, name):
    _, catalog = local_estimator().predict(dirty(), **OPTIONS)
    assert len(catalog) == 0
    write_catalog(catalog, tmp_path / name)
    again = check_catalog(read_catalog(tmp_path / name))
    assert len(again) == 0
    assert again.colnames == catalog.colnames
    assert again["flux"].unit == u.Jy


def test_weights_of_any_number_of_pixels_per_beam(local_estimator, dirty, tiny_preset):
    image = dirty([(40.3, 50.7, 0.1)], rms=1e-4)
    for pixels in (3.0, 6.5):
        deconvolver = local_estimator()
        scale = replace(tiny_preset.scale, pixels_per_beam=pixels)
        deconvolver.preset_ = replace(tiny_preset, scale=scale)
        deconvolver.denoiser_.scale = scale
        _, (row,) = deconvolver.predict(image, **OPTIONS)
        assert abs(row["flux"].to_value(u.Jy) - 0.1) < 0.005
        assert abs(row["x_centroid"] - 40.3) < 0.2
