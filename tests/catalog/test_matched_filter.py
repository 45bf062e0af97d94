import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData
from radio_beam import Beam
from regions import CirclePixelRegion, CircleSkyRegion, PixCoord

from diffsky.catalog import (
    SourceFlag,
    check_catalog,
    inside_regions,
    matched_filter,
    matched_filter_pixels,
)
from diffsky.catalog._template_fit import Field, Model, drop_faint


def find(image, array, rms=1.0, **options):
    options = {"beam_fwhm": array.beam_fwhm, "threshold": 5.0} | options
    return matched_filter_pixels(image, array.psf, rms=rms, **options)


def template_norm(array, fwhm):
    """g^T P g by brute force in the plane of the image, for a template in pixels."""
    y, x = np.indices(array.grid) - array.n
    if fwhm == 0:
        return 1.0
    sigma = fwhm / np.sqrt(8 * np.log(2))
    g = np.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    transform = np.fft.fft2(np.fft.ifftshift(g))
    power = np.abs(transform) ** 2 * np.fft.fft2(np.fft.ifftshift(array.psf))
    return np.fft.ifft2(power)[0, 0].real


@pytest.mark.parametrize(("size", "flux"), [(0.0, 15.0), (0.5, 20.0), (1.0, 30.0)])
def test_flux_and_position_errors_are_the_scatter(interferometer, size, flux):
    rng = np.random.default_rng(11)
    rows, offsets = [], []
    for _ in range(60):
        x, y = rng.uniform(25, 40, 2)
        source = [(x, y, flux, size * interferometer.beam_fwhm)]
        image = interferometer.dirty(source) + interferometer.noise(1.0, rng)
        rows.append(find(image, interferometer, sizes=(size,))[0])
        offsets.append((rows[-1]["x"] - x, rows[-1]["y"] - y))
    error = 1 / np.sqrt(template_norm(interferometer, size * interferometer.beam_fwhm))
    assert rows[0]["flux_err"] == pytest.approx(error, rel=1e-3)
    fluxes = np.array([row["flux"] for row in rows])
    assert fluxes.mean() == pytest.approx(flux, abs=3 * error / np.sqrt(60))
    assert fluxes.std(ddof=1) == pytest.approx(error, rel=0.3)
    expected = np.mean([row["position_err"] for row in rows])
    assert np.std(offsets) == pytest.approx(expected, rel=0.3)
    assert np.abs(np.mean(offsets, axis=0)).max() < 3.5 * expected / np.sqrt(60)
    np.testing.assert_allclose([row["snr"] for row in rows], fluxes / error, rtol=1e-3)


def test_noise_scale(interferometer):
    rng = np.random.default_rng(3)
    options = {"rms": 2.0, "threshold": 1.0, "max_sources": 1}
    highest = [
        find(interferometer.noise(2.0, rng), interferometer, **options)["snr"][0] for _ in range(20)
    ]
    # Of some two hundred beams the highest is at about 3 sigma.
    assert 2.7 < np.median(highest) < 4.0
    quiet = [find(interferometer.noise(2.0, rng), interferometer, rms=2.0) for _ in range(20)]
    assert sum(len(found) for found in quiet) <= 2


def test_sub_pixel_positions(interferometer):
    rng = np.random.default_rng(2)
    for _ in range(10):
        x, y = rng.uniform(20, 44, 2)
        image = interferometer.dirty([(x, y, 1.0, 0)])
        (row,) = find(image, interferometer, rms=1e-3, threshold=50, sizes=(0,))
        assert (row["x"], row["y"]) == pytest.approx((x, y), abs=2e-3)
        assert row["flux"] == pytest.approx(1, abs=1e-3)


def test_unequal_pair_of_one_beam(interferometer):
    sources = [(30.3, 30.7, 50, 0), (34.2, 33.1, 25, 2.125)]
    found = find(interferometer.dirty(sources), interferometer, rms=0.1, threshold=10)
    assert len(found) == 2
    for (x, y, flux, fwhm), row in zip(sources, found, strict=True):
        assert (row["x"], row["y"]) == pytest.approx((x, y), abs=0.02)
        assert row["flux"] == pytest.approx(flux, rel=0.01)
        assert row["major"] == pytest.approx(fwhm)


def test_blend_is_flagged_and_its_errors_are_larger(interferometer):
    sources = [(30, 30, 200, 0), (33, 30, 150, 0), (50, 12, 100, 0)]
    image = interferometer.dirty(sources)
    found = find(image, interferometer, rms=1.0, sizes=(0,))
    assert len(found) == 3
    assert list(found["flags"]) == [SourceFlag.BLENDED, SourceFlag.BLENDED, 0]
    # Two sources share what they have in common: 1 / sqrt(1 - psf^2).
    common = interferometer.psf[64, 67]
    np.testing.assert_allclose(found["flux_err"][:2], 1 / np.sqrt(1 - common**2), rtol=0.01)
    assert found["flux_err"][2] == pytest.approx(1, abs=0.01)


def test_crowded_field(interferometer):
    rng = np.random.default_rng(0)
    grid = [(x, y) for x in (10.2, 24.6, 38.9, 53.1) for y in (11.4, 25.3, 39.5, 53.8)]
    sources = [(x, y, flux, 0) for (x, y), flux in zip(grid, rng.uniform(10, 100, 16), strict=True)]
    image = interferometer.dirty(sources) + interferometer.noise(1.0, rng)
    found = find(image, interferometer, sizes=(0,))
    assert len(found) == 16
    assert (np.diff(found["snr"]) <= 0).all()
    for x, y, flux, _ in sources:
        row = found[np.argmin(np.hypot(found["x"] - x, found["y"] - y))]
        assert row["flux"] == pytest.approx(flux, abs=4)


def test_max_sources(interferometer):
    image = interferometer.dirty([(15, 15, 50, 0), (30, 40, 40, 0), (50, 20, 30, 0)])
    found = find(image, interferometer, sizes=(0,), max_sources=2)
    assert list(np.round(found["flux"])) == [50, 40]


@pytest.mark.parametrize("size", [40, 63, 101, 128])
def test_psf_of_any_width(interferometer, size):
    start = (128 - size) // 2 + (size % 2)
    psf = interferometer.psf[start : start + size, start : start + size]
    image = interferometer.dirty([(30.2, 33.3, 50, 0)])
    found = matched_filter_pixels(image, psf, rms=1, beam_fwhm=4.25, sizes=(0,), threshold=10)
    assert (found["x"][0], found["y"][0]) == pytest.approx((30.2, 33.3), abs=0.01)
    assert found["flux"][0] == pytest.approx(50, rel=0.01)


def test_oblong_image(interferometer):
    image = interferometer.dirty([(30.2, 13.3, 50, 0)])[:31]
    (row,) = find(image, interferometer, sizes=(0,), threshold=10)
    assert (row["x"], row["y"]) == pytest.approx((30.2, 13.3), abs=0.01)


def test_masked_pixels_are_ignored(interferometer):
    image = interferometer.dirty([(15, 15, 50, 0), (45, 45, 40, 0)])
    mask = np.zeros(image.shape, dtype=bool)
    mask[:30] = True
    image[:30] = 1e6
    (row,) = find(image, interferometer, mask=mask, threshold=10)
    assert (row["x"], row["flux"]) == pytest.approx((45, 40), rel=0.01)
    image[:30] = np.nan
    (again,) = find(image, interferometer, threshold=10)
    assert again["flux"] == pytest.approx(row["flux"])
    assert len(find(np.full((64, 64), np.nan), interferometer)) == 0


def test_edge_flag(interferometer):
    image = interferometer.dirty([(1.0, 30, 50, 0), (30, 30, 40, 0)])
    found = find(image, interferometer, sizes=(0,), threshold=10)
    assert list(found["flags"]) == [SourceFlag.EDGE, 0]
    assert found["flux"][0] == pytest.approx(50, rel=0.02)


def test_search_map(interferometer):
    image = interferometer.dirty([(15, 15, 50, 0), (45, 45, 40, 0)])
    search = np.zeros(image.shape, dtype=bool)
    search[30:, 30:] = True
    (row,) = find(image, interferometer, search=search, threshold=10)
    # The other source is not looked for, so its sidelobes stay.
    assert row["x"] == pytest.approx(45, abs=0.2)


@pytest.fixture
def observation(interferometer, wcs):
    """Two sources of 40 and 50 times the rms of 20 uJy/beam, the second at half power."""
    y, x = np.indices((64, 64))
    gain = np.exp(-np.log(2) * ((x - 16) ** 2 + (y - 16) ** 2) / 40**2)
    image = interferometer.dirty([(16, 16, 8e-4, 0), (40, 48, 1e-3, 0)])
    beam = Beam(interferometer.beam_fwhm * 0.2 * u.arcsec)
    ccd = CCDData(image, unit=u.Jy / u.beam, wcs=wcs, meta={"beam": beam})
    return ccd, gain


def test_catalog(observation, interferometer):
    dirty, gain = observation
    catalog = check_catalog(
        matched_filter(dirty, interferometer.psf, rms=2e-5, primary_beam=gain, threshold=10)
    )
    assert len(catalog) == 2
    np.testing.assert_allclose(catalog["snr"], [50, 40], rtol=0.01)
    np.testing.assert_allclose(catalog["flux"].to_value(u.mJy), [2, 0.8], rtol=0.01)
    np.testing.assert_allclose(catalog["flux_err"].to_value(u.uJy), [40, 20], rtol=0.02)
    np.testing.assert_allclose(catalog["flux_upper"], catalog["flux"] + catalog["flux_err"])
    np.testing.assert_allclose(catalog["flux_lower"], catalog["flux"] - catalog["flux_err"])
    np.testing.assert_allclose(catalog["x_centroid"], [40, 16], atol=0.02)
    assert np.isnan(catalog["reliability"]).all()
    assert list(catalog["n_detections"]) == [1, 1]
    expected = dirty.wcs.pixel_to_world([40, 16], [48, 16])
    assert (catalog["sky_centroid"].separation(expected) < 0.01 * u.arcsec).all()


def test_input_in_other_forms(observation, interferometer):
    dirty, _ = observation
    one = matched_filter(dirty, interferometer.psf, rms=2e-5, threshold=10)
    milli = CCDData(dirty.data * 1e3, unit=u.mJy / u.beam, wcs=dirty.wcs, meta=dirty.meta)
    psf = CCDData(interferometer.psf, unit=u.Jy / u.beam)
    two = matched_filter(milli, psf, rms=20 * u.uJy / u.beam, threshold=10)
    three = matched_filter(
        dirty.data,
        interferometer.psf,
        rms=2e-5,
        wcs=dirty.wcs,
        beam=dirty.meta["beam"],
        threshold=10,
    )
    for other in (two, three):
        np.testing.assert_allclose(other["flux"].value, one["flux"].value)


def test_masks_and_the_primary_beam_limit_the_search(observation, interferometer):
    dirty, gain = observation
    options = {"rms": 2e-5, "threshold": 10}
    for blank in (np.nan, 0.0):
        limited = np.where(gain < 0.6, blank, gain)
        found = matched_filter(dirty, interferometer.psf, primary_beam=limited, **options)
        np.testing.assert_allclose(found["x_centroid"], [16], atol=0.05)
    dirty.mask = gain < 0.6
    found = matched_filter(dirty, interferometer.psf, **options)
    np.testing.assert_allclose(found["x_centroid"], [16], atol=0.05)
    everywhere = np.ones(dirty.shape, dtype=bool)
    assert len(matched_filter(dirty, interferometer.psf, mask=everywhere, **options)) == 0


def test_regions_limit_the_search(observation, interferometer):
    dirty, _ = observation
    circle = CirclePixelRegion(PixCoord(40, 48), 6)
    centre = dirty.wcs.pixel_to_world(40, 48)
    outside = CirclePixelRegion(PixCoord(400, 48), 6)
    for regions in (circle, [circle, outside], CircleSkyRegion(centre, 1.2 * u.arcsec)):
        found = matched_filter(dirty, interferometer.psf, rms=2e-5, threshold=10, regions=regions)
        np.testing.assert_allclose(found["x_centroid"], [40], atol=0.2)
    with pytest.raises(TypeError, match="regions must hold regions.Region, got str"):
        matched_filter(dirty, interferometer.psf, rms=2e-5, regions=["circle"])


def test_real_observation(data_dir):
    fits = pytest.importorskip("astropy.io.fits")
    folder = data_dir / "alma_pisco"
    planes = {
        name: np.squeeze(fits.getdata(folder / f"Pisco.cii.455kms.{name}.fits")).astype(float)
        for name in ("dirty", "psf", "residual", "pb")
    }
    scale = 0.04
    beam_fwhm = np.sqrt(0.282 * 0.197) / scale
    valid = np.isfinite(planes["dirty"]) & np.isfinite(planes["residual"])
    residual = planes["residual"][valid]
    rms = 1.4826 * np.median(np.abs(residual - np.median(residual)))
    found = matched_filter_pixels(
        planes["dirty"], planes["psf"], rms=rms, beam_fwhm=beam_fwhm, sizes=(0, 1, 2), threshold=6
    )
    peak = np.unravel_index(np.nanargmax(planes["dirty"]), planes["dirty"].shape)
    apart = np.hypot(found["x"][0] - peak[1], found["y"][0] - peak[0]) * scale
    assert apart < 0.3
    assert 1e-3 < found["flux"][0] < 4e-3


@pytest.mark.parametrize("missing", ["wcs", "beam"])
def test_what_an_array_lacks(observation, interferometer, missing):
    dirty, _ = observation
    given = {"wcs": dirty.wcs, "beam": dirty.meta["beam"]}
    given.pop(missing)
    with pytest.raises(ValueError, match=f"dirty has no {missing}: pass {missing}="):
        matched_filter(dirty.data, interferometer.psf, rms=1.0, **given)


def test_primary_beam_of_another_shape(observation, interferometer):
    with pytest.raises(ValueError, match=r"shape \(64, 64\) of dirty, got \(3, 3\)"):
        matched_filter(observation[0], interferometer.psf, rms=1.0, primary_beam=np.ones((3, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dirty": np.zeros((64, 64, 1))}, r"2-D, at least 9 pixels wide, got shape \(64, 64, 1\)"),
        ({"dirty": np.zeros((64, 5))}, "at least 9 pixels"),
        ({"psf": np.zeros(5)}, r"psf must be a finite 2-D array, got shape \(5,\)"),
        ({"psf": np.full((9, 9), np.nan)}, "psf must be a finite"),
        ({"psf": np.eye(8)[::-1]}, r"peak of 1 at pixel \(4, 4\), found 1 at \(0, 7\)"),
        ({"mask": np.zeros((2, 2), dtype=bool)}, r"mask must be boolean of shape \(64, 64\)"),
        ({"search": np.zeros((64, 64))}, "search must be boolean .* got float64"),
        ({"rms": 0.0}, "rms must be a positive number, got 0.0"),
        ({"beam_fwhm": np.nan}, "beam_fwhm must be a positive number"),
        ({"threshold": -3}, "threshold must be a positive number, got -3"),
        ({"sizes": ()}, "sizes must be one or more numbers"),
        ({"sizes": (-1,)}, r"sizes must be one or more numbers >= 0 \(beams\), got \(-1,\)"),
        ({"max_sources": 0}, "max_sources must be an integer >= 1, got 0"),
    ],
)
def test_refusals(interferometer, options, message):
    arguments = {"dirty": np.zeros((64, 64)), "psf": interferometer.psf} | options
    arguments = {"rms": 1.0, "beam_fwhm": 4.25} | arguments
    with pytest.raises(ValueError, match=message):
        matched_filter_pixels(arguments.pop("dirty"), arguments.pop("psf"), **arguments)


def test_what_the_joint_fit_leaves_faint_is_dropped(interferometer):
    image = interferometer.dirty([(30, 30, 50, 0), (50, 20, 8, 0)])
    valid = np.ones(image.shape, dtype=bool)
    field = Field(image, interferometer.psf, valid, None, np.zeros(1), interferometer.beam_fwhm)
    model = Model()
    for x, y, flux in ((30, 30, 45), (12, 50, 1), (50, 20, 8)):
        model.add(x, y, 0)
        model.flux[-1] = flux
    drop_faint(field, model, 1.0, 5.0)
    # The source without signal is gone, and the others were fitted again.
    assert list(model.x) == [30, 50]
    np.testing.assert_allclose(model.flux, [50, 8], rtol=1e-3)
    drop_faint(field, model, 1.0, 100.0)
    assert len(model) == 0


def test_inside_regions(wcs):
    circles = [CirclePixelRegion(PixCoord(5, 5), 2.5), CirclePixelRegion(PixCoord(19, 9), 3)]
    inside = inside_regions(circles, (12, 20), wcs)
    y, x = np.indices(inside.shape)
    expected = (np.hypot(x - 5, y - 5) < 2.5) | (np.hypot(x - 19, y - 9) < 3)
    np.testing.assert_array_equal(inside, expected)
    assert not inside_regions([], (12, 20), wcs).any()
