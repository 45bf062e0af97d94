import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from regions import Regions

from diffsky.catalog import (
    catalog_to_regions,
    empty_catalog,
    read_catalog,
    write_catalog,
)

EXTENSIONS = ("ecsv", "fits", "vot", "xml")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_round_trip(catalog, tmp_path, extension):
    path = tmp_path / f"catalog.{extension}"
    catalog["name"] = ["α", "b"] if extension == "ecsv" else ["a", "b"]
    write_catalog(catalog, path)
    back = read_catalog(path)
    assert back.colnames == catalog.colnames
    assert back.meta == catalog.meta
    assert (back["sky_centroid"].separation(catalog["sky_centroid"]) < 1e-9 * u.arcsec).all()
    assert back["sky_centroid"].frame.name == "icrs"
    for name in set(catalog.colnames) - {"sky_centroid", "name"}:
        assert type(back[name]) is type(catalog[name]) or name in ("id", "flags")
        assert back[name].unit == catalog[name].unit
        assert back[name].dtype.kind == catalog[name].dtype.kind
        assert back[name].info.description == catalog[name].info.description
        np.testing.assert_array_equal(np.asarray(back[name]), np.asarray(catalog[name]))
    assert list(back["name"]) == list(catalog["name"])


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_empty_round_trip(tmp_path, extension):
    path = tmp_path / f"empty.{extension}"
    write_catalog(empty_catalog(), path)
    back = read_catalog(path)
    assert len(back) == 0
    assert back.colnames == empty_catalog().colnames


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_meta_of_any_kind(tmp_path, extension):
    meta = {
        "rms": 1 * u.Jy,
        "a long key with spaces": [1, np.float64(2.5)],
        "text": "x" * 200,
        "nothing": None,
        "nested": {"n": np.int64(3)},
    }
    path = tmp_path / f"meta.{extension}"
    write_catalog(empty_catalog(meta), path)
    assert read_catalog(path).meta == meta | {
        "rms": "1.0 Jy",
        "a long key with spaces": [1, 2.5],
        "nested": {"n": 3},
    }


def test_writing_leaves_the_catalog_alone(catalog, tmp_path):
    names, meta = list(catalog.colnames), dict(catalog.meta)
    write_catalog(catalog, tmp_path / "a.vot")
    write_catalog(catalog, tmp_path / "a.fits")
    assert catalog.colnames == names
    assert catalog.meta == meta


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_existing_file(catalog, tmp_path, extension):
    path = tmp_path / f"catalog.{extension}"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=f"catalog.{extension} exists; pass overwrite"):
        write_catalog(catalog, path)
    assert path.read_text() == "precious"
    write_catalog(catalog, path, overwrite=True)
    assert len(read_catalog(path)) == 2


def test_a_file_of_another_program(catalog, tmp_path):
    path = tmp_path / "other.fits"
    catalog.meta = {}
    catalog.write(path)
    assert read_catalog(str(path)).meta == {}


def test_refusals(catalog, tmp_path):
    with pytest.raises(ValueError, match=r"must end in one of .ecsv, .fits, .vot, .xml"):
        write_catalog(catalog, tmp_path / "catalog.csv")
    with pytest.raises(ValueError, match="must end in one of"):
        read_catalog(tmp_path / "catalog")
    with pytest.raises(FileNotFoundError, match="no file .*missing.ecsv"):
        read_catalog(tmp_path / "missing.ecsv")
    with pytest.raises(FileNotFoundError, match="no folder .*none"):
        write_catalog(catalog, tmp_path / "none" / "catalog.ecsv")
    with pytest.raises(ValueError, match="not a catalogue: no column id"):
        write_catalog(QTable(), tmp_path / "catalog.ecsv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_reading_another_table(tmp_path, extension):
    path = tmp_path / f"other.{extension}"
    kind = {"ecsv": "ascii.ecsv", "fits": "fits"}.get(extension, "votable")
    QTable({"ra": [1.0] * u.deg, "flux": [1.0] * u.Jy}).write(path, format=kind)
    with pytest.raises(ValueError, match=rf"other.{extension}: not a catalogue: no column id"):
        read_catalog(path)


def test_ellipses_lie_as_the_sources(catalog, measured, wcs):
    big, point = (region.to_pixel(wcs) for region in catalog_to_regions(catalog))
    assert (big.center.x, big.center.y) == pytest.approx((20, 25), abs=1e-6)
    # The height is the major axis, so the width is a right angle from it.
    assert (big.height, big.width) == pytest.approx((6, 3), rel=1e-5)
    turn = big.angle.to_value(u.deg) + 90 - measured["pa"][0]
    assert np.sin(np.radians(turn)) == pytest.approx(0, abs=1e-4)
    assert (point.height, point.width) == pytest.approx((0.5, 0.5), rel=1e-5)


@pytest.mark.parametrize("shape", ["ellipse", "circle", "point"])
def test_ds9_round_trip(catalog, tmp_path, shape):
    regions = catalog_to_regions(catalog, shape=shape, radius=0.5 * u.arcsec)
    regions.write(tmp_path / "catalog.reg", format="ds9")
    back = Regions.read(tmp_path / "catalog.reg", format="ds9")
    assert [type(r) for r in back] == [type(r) for r in regions]
    assert [float(r.meta["text"]) for r in back] == [1.0, 0.1]
    for one, two in zip(back, regions, strict=True):
        assert one.center.separation(two.center) < 1e-4 * u.arcsec
    if shape == "ellipse":
        assert u.isclose(back[0].height, catalog["major"][0], rtol=0.01)
        assert u.isclose(back[0].angle, catalog["pa"][0], rtol=1e-6)


@pytest.mark.parametrize("shape", ["ellipse", "circle"])
def test_crtf_round_trip(catalog, tmp_path, shape):
    regions = catalog_to_regions(catalog, shape=shape, radius=0.5 * u.arcsec)
    regions.write(tmp_path / "catalog.crtf", format="crtf", fmt=".9f")
    back = Regions.read(tmp_path / "catalog.crtf", format="crtf")
    assert [r.meta["label"] for r in back] == ["1.00", "0.10"]
    for one, two in zip(back, regions, strict=True):
        # CRTF has FK5 (J2000), which is within 0.03 arcsec of ICRS but transformed here.
        assert one.center.icrs.separation(two.center) < 1e-4 * u.arcsec
    if shape == "ellipse":
        assert u.isclose(back[0].height, catalog["major"][0], rtol=0.01)
    else:
        assert u.isclose(back[0].radius, 0.5 * u.arcsec, rtol=0.01)


def test_fits_round_trip_in_pixels(catalog, tmp_path, wcs):
    pixels = Regions([r.to_pixel(wcs) for r in catalog_to_regions(catalog)])
    pixels.write(tmp_path / "catalog.fits", format="fits")
    back = Regions.read(tmp_path / "catalog.fits", format="fits")
    for one, two in zip(back, pixels, strict=True):
        assert (one.center.x, one.center.y) == pytest.approx((two.center.x, two.center.y))
        assert (one.width, one.height) == pytest.approx((two.width, two.height))


def test_labels(catalog):
    def labels(name):
        return [r.meta.get("text", "") for r in catalog_to_regions(catalog, label=name)]

    assert labels("reliability") == ["1.00", "0.10"]
    assert labels("id") == ["1", "2"]
    assert labels(None) == ["", ""]
    catalog["reliability"] = [0.5, np.nan]
    assert labels("reliability") == ["0.50", ""]


def test_no_sources_no_regions():
    assert len(catalog_to_regions(empty_catalog())) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "box"}, "shape must be one of ellipse, circle, point, got 'box'"),
        ({"shape": "circle"}, "circles need a radius, a positive angle; got None"),
        ({"label": "colour"}, "label must be one of id, .* got 'colour'"),
    ],
)
def test_region_refusals(catalog, options, message):
    with pytest.raises(ValueError, match=message):
        catalog_to_regions(catalog, **options)
