import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable, Table
from astropy.wcs import WCS
from astropy.wcs.utils import skycoord_to_pixel
from radio_beam import Beam

from diffsky.catalog import (
    SourceFlag,
    aggregate_detections,
    check_catalog,
    detect_sources,
    empty_catalog,
    near_bright_source,
    source_table,
)

RMS = 5e-5 * u.Jy / u.beam


def test_fluxes_and_units(measured, wcs, beam):
    catalog = source_table(
        measured, wcs=wcs, beam=beam, rms=RMS, flux_unit=50 * u.uJy, primary_beam=[0.5, 1.0]
    )
    np.testing.assert_allclose(catalog["flux"].to_value(u.mJy), [1.0, 0.1])
    np.testing.assert_allclose(catalog["flux_err"][0].to_value(u.mJy), 0.1)
    np.testing.assert_allclose(catalog["flux_lower"][0].to_value(u.mJy), 0.9)
    np.testing.assert_allclose(catalog["flux_upper"][0].to_value(u.mJy), 1.1)
    np.testing.assert_allclose(catalog["major"].to_value(u.arcsec), [1.2, 0.0], atol=1e-9)
    np.testing.assert_allclose(catalog["minor"].to_value(u.arcsec), [0.6, 0.0], atol=1e-9)
    np.testing.assert_allclose(catalog["position_err"][0].to_value(u.arcsec), 0.02)
    assert list(catalog["id"]) == [1, 2]
    assert list(catalog["n_detections"]) == [20, 2]
    assert list(catalog["flags"]) == [0, 16]
    assert np.isnan(catalog["flux_err"][1])


def test_peak_and_snr(measured, wcs):
    measured["major"] = measured["minor"] = [4.0, 0.0]
    beam = Beam(0.6 * u.arcsec)
    catalog = source_table(measured, wcs=wcs, beam=beam, rms=RMS, flux_unit=5e-5 * u.Jy)
    # Circular: the beam's share of the area, 0.6^2 / (0.6^2 + 0.8^2); a point has all.
    np.testing.assert_allclose(catalog["peak"].value, [0.36 * 5e-4, 1e-4])
    np.testing.assert_allclose(catalog["snr"], [3.6, 2.0])
    half = source_table(
        measured, wcs=wcs, beam=beam, rms=RMS, flux_unit=5e-5 * u.Jy, primary_beam=0.5
    )
    # The primary beam raises the true flux, but not what was seen over the noise.
    np.testing.assert_allclose(half["peak"].value, [0.72 * 5e-4, 2e-4])
    np.testing.assert_allclose(half["snr"], [3.6, 2.0])


def test_peak_of_crossed_ellipses(measured, wcs):
    measured["major"], measured["minor"] = [5.0, 5.0], [2.0, 2.0]
    # The WCS has east at -x, so an angle of 0 in pixels is a position angle of 90 deg.
    measured["pa"] = [0.0, 90.0]
    beam = Beam(1.0 * u.arcsec, 0.4 * u.arcsec, 0 * u.deg)
    catalog = source_table(measured, wcs=wcs, beam=beam, rms=RMS)
    share = (catalog["peak"].value / catalog["flux"].value).round(6)
    crossed = 0.4 / (1 + 0.16)
    assert list(share) == pytest.approx([crossed, 0.5], rel=1e-4)


def test_kernel_is_taken_out(measured, wcs, beam):
    measured["major"], measured["minor"] = [5.0, 1.7], [3.0, 1.6]
    catalog = source_table(measured, wcs=wcs, beam=beam, rms=RMS, kernel_fwhm=3.0)
    np.testing.assert_allclose(catalog["major"].to_value(u.arcsec), [0.8, 0.0])
    np.testing.assert_allclose(catalog["minor"].to_value(u.arcsec), [0.0, 0.0])


@pytest.mark.parametrize("rotation", [0, 30, 200])
@pytest.mark.parametrize("pa", [0.0, 25.0, 120.0])
def test_position_angle_against_the_wcs(measured, wcs, beam, rotation, pa):
    c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    wcs.wcs.pc = [[c, -s], [s, c]]
    wcs.wcs.set()
    measured["pa"] = [pa, pa]
    catalog = source_table(measured, wcs=wcs, beam=beam, rms=RMS)
    tip = catalog["sky_centroid"].directional_offset_by(catalog["pa"], 1 * u.arcsec)
    x, y = skycoord_to_pixel(tip, wcs, origin=0)
    angle = np.degrees(np.arctan2(y - measured["y"], x - measured["x"]))
    np.testing.assert_allclose((angle - pa + 90) % 180 - 90, 0, atol=0.01)
    assert ((catalog["pa"] >= 0 * u.deg) & (catalog["pa"] < 180 * u.deg)).all()


@pytest.mark.parametrize("frame", ["ICRS", "FK5", "GAL"])
def test_positions_are_icrs(measured, wcs, beam, frame):
    if frame == "GAL":
        wcs.wcs.ctype = "GLON-SIN", "GLAT-SIN"
    else:
        wcs.wcs.radesys = frame
    catalog = source_table(measured, wcs=wcs, beam=beam, rms=RMS)
    assert catalog["sky_centroid"].frame.name == "icrs"
    x, y = skycoord_to_pixel(catalog["sky_centroid"], wcs, origin=0)
    np.testing.assert_allclose([x, y], [measured["x"], measured["y"]], atol=1e-5)


def test_pixels_of_another_image(measured, wcs, beam):
    fine = wcs.deepcopy()
    fine.wcs.cdelt = wcs.wcs.cdelt / 2
    fine.wcs.crpix = 65.5, 65.5
    catalog = source_table(measured, wcs=wcs, beam=beam, rms=RMS, image_wcs=fine)
    np.testing.assert_allclose(catalog["x_centroid"], 2 * measured["x"] + 0.5, atol=1e-6)
    np.testing.assert_allclose(catalog["y_centroid"], 2 * measured["y"] + 0.5, atol=1e-6)


def test_near_bright_source():
    near = near_bright_source([0, 3, 3, 50], [0, 0, 1, 0], [100, 5, 50, 1], radius=4)
    assert list(near) == [False, True, False, False]


def test_near_bright_flag(measured, wcs, beam):
    measured["x"], measured["y"] = [20.0, 24.0], [20.0, 20.0]
    measured["flux"] = [100.0, 2.0]
    catalog = source_table(measured, wcs=wcs, beam=beam, rms=RMS)
    assert list(catalog["flags"]) == [0, SourceFlag.UNRELIABLE | SourceFlag.NEAR_BRIGHT]
    measured["flux"] = [10.0, 2.0]
    assert list(source_table(measured, wcs=wcs, beam=beam, rms=RMS)["flags"]) == [0, 16]


def test_empty_and_full_have_one_schema(catalog, measured, wcs, beam):
    for empty in (empty_catalog(), source_table(measured[:0], wcs=wcs, beam=beam, rms=RMS)):
        assert len(empty) == 0
        assert check_catalog(empty) is empty
        assert empty.colnames == catalog.colnames
        for name in catalog.colnames:
            assert type(empty[name]) is type(catalog[name])
            assert empty[name].info.description == catalog[name].info.description
            if name != "sky_centroid":
                assert empty[name].dtype == catalog[name].dtype
                assert empty[name].unit == catalog[name].unit


def test_meta_is_copied(catalog):
    assert catalog.meta == {"seed": 1, "name": "alma"}
    meta = {"a": 1}
    empty_catalog(meta).meta["a"] = 2
    assert meta == {"a": 1}


def test_from_detections_to_catalog(plane, wcs, beam):
    tables = [
        detect_sources(plane((64, 64), [(30, 20, f, 1.7, 1.7, 0)]), threshold=0.1)
        for f in (9.0, 10.0, 11.0)
    ]
    sources = aggregate_detections(tables, radius=2)
    (row,) = source_table(
        sources, wcs=wcs, beam=beam, rms=RMS, flux_unit=5e-5 * u.Jy, kernel_fwhm=1.7
    )
    assert row["flux"].to_value(u.mJy) == pytest.approx(0.5, rel=0.01)
    assert row["flux_err"].to_value(u.mJy) == pytest.approx(0.05, rel=0.02)
    assert row["major"] < 0.1 * u.arcsec
    assert row["snr"] == pytest.approx(10, rel=0.02)


def test_check_names_all_that_is_wrong(catalog):
    bad = catalog.copy()
    bad.remove_column("snr")
    bad["flux"] = bad["flux"].value * u.m
    bad["major"] = [1.0, 2.0]
    bad["x_centroid"] = bad["x_centroid"] * u.arcsec
    bad["id"] = [1.0, 2.0]
    bad["sky_centroid"] = ["a", "b"]
    with pytest.raises(ValueError, match="not a catalogue") as caught:
        check_catalog(bad)
    for words in (
        "no column snr",
        "flux has the unit m, not Jy",
        "major has the unit None, not arcsec",
        "x_centroid has the unit arcsec, not none",
        "id holds float64, not integers",
        "sky_centroid is no SkyCoord",
    ):
        assert words in str(caught.value)


def test_check_takes_equivalent_units_and_more_columns(catalog):
    catalog["flux"] = catalog["flux"].to(u.uJy)
    catalog["name"] = ["a", "b"]
    catalog["id"] = catalog["id"].astype("int32")
    assert check_catalog(catalog) is catalog


def test_check_wants_a_qtable():
    with pytest.raises(TypeError, match="astropy QTable, got Table"):
        check_catalog(Table())
    with pytest.raises(ValueError, match="no column id, sky_centroid"):
        check_catalog(QTable())


def test_wcs_refusals(measured, beam):
    with pytest.raises(ValueError, match="celestial with two axes"):
        source_table(measured, wcs=WCS(naxis=2), beam=beam, rms=RMS)
    oblong = WCS(naxis=2)
    oblong.wcs.ctype, oblong.wcs.cdelt = ["RA---SIN", "DEC--SIN"], [-0.1, 0.2]
    with pytest.raises(ValueError, match="square pixels, got 36"):
        source_table(measured, wcs=oblong, beam=beam, rms=RMS)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rms": 0 * RMS}, ValueError, "rms must be positive"),
        ({"rms": 1 * u.K}, u.UnitConversionError, "K"),
        ({"flux_unit": u.arcsec}, u.UnitConversionError, "arcsec"),
        ({"primary_beam": [1.0, np.nan]}, ValueError, "primary_beam must be positive"),
        ({"kernel_fwhm": -1}, ValueError, "kernel_fwhm .* got -1"),
        ({"sources": Table({"x": [1.0]})}, ValueError, "sources lack the columns y, flux"),
    ],
)
def test_refusals(measured, wcs, beam, options, error, message):
    arguments = {"sources": measured, "wcs": wcs, "beam": beam, "rms": RMS} | options
    with pytest.raises(error, match=message):
        source_table(arguments.pop("sources"), **arguments)


def test_near_bright_source_agrees_with_all_pairs():
    x, y, flux = np.random.default_rng(2).uniform(0, 1, (3, 200)) * [[100], [100], [1]]
    flux = 10 ** (3 * flux)
    near = np.hypot(x[:, None] - x, y[:, None] - y) <= 8
    expected = (near & (flux > 10 * flux[:, None])).any(axis=1)
    assert 0 < expected.sum() < 200
    np.testing.assert_array_equal(near_bright_source(x, y, flux, radius=8), expected)
