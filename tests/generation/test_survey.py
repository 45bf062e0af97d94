"""Cutouts of mosaics, on images with known sources and on a real one."""

import shutil

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal
from radio_beam import Beam

from diffsky.generation import (
    CutoutStore,
    cut_mosaic,
    make_cutouts,
    read_survey_sources,
    select_cutouts,
)
from diffsky.generation.cutouts import ABSENT, UNRESOLVED

CENTRE = SkyCoord(30 * u.deg, 20 * u.deg)


def make_mosaic(positions, *, pixel=1.5, shape=(200, 260), centre=CENTRE, turn=0.0):
    """A mosaic with a round source of 10 mJy/beam and 6 arcsec at each position."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = [centre.ra.deg, centre.dec.deg]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-pixel / 3600, pixel / 3600]
    cos, sin = np.cos(turn), np.sin(turn)
    wcs.wcs.pc = [[cos, -sin], [sin, cos]]
    rng = np.random.default_rng(1)
    data = 1e-4 + 1e-5 * rng.standard_normal(shape)
    y, x = np.indices(shape)
    for column, row in np.transpose(wcs.world_to_pixel(positions)):
        distance2 = ((x - column) ** 2 + (y - row) ** 2) * pixel**2
        data += 0.01 * np.exp(-4 * np.log(2) * distance2 / 36)
    beam = Beam(6 * u.arcsec)
    header = {"BMAJ": 6 / 3600, "BMIN": 6 / 3600, "BPA": 0.0}
    return CCDData(data, unit="Jy/beam", wcs=wcs, meta={"beam": beam, **header})


def make_catalog(positions, **columns):
    return QTable({"RA": positions.ra, "DEC": positions.dec, **columns})


def around(*offsets):
    """Positions by offsets in arcsec."""
    east, north = np.transpose(offsets) * u.arcsec
    return CENTRE.spherical_offsets_by(east, north)


def write(mosaic, path):
    header = mosaic.wcs.to_header()
    for key in ("BMAJ", "BMIN", "BPA"):
        header[key] = mosaic.meta[key]
    header["BUNIT"] = "JY/BEAM"
    fits.PrimaryHDU(mosaic.data, header).writeto(path)
    return path


def test_pixels_are_those_of_the_mosaic():
    positions = around((0.6, 0.4), (80.3, -20.2))
    mosaic = make_mosaic(positions)
    cutouts = make_cutouts(mosaic, make_catalog(positions), resolved=False, progress=False)
    assert cutouts.images.shape == (2, 80, 80)
    for image, wcs, position in zip(cutouts.images, cutouts.wcs, positions, strict=True):
        x, y = wcs.world_to_pixel(position)
        assert abs(x - 39.5) <= 0.5
        assert abs(y - 39.5) <= 0.5
        row, column = np.unravel_index(image.argmax(), image.shape)
        assert (column, row) == (round(float(x)), round(float(y)))
        x, y = (int(np.rint(v)) for v in mosaic.wcs.world_to_pixel(wcs.pixel_to_world(0, 0)))
        assert_allclose(image, mosaic.data[y : y + 80, x : x + 80], rtol=1e-6)


@pytest.mark.parametrize("options", [{"pixel": 1.0, "shape": (300, 380)}, {"turn": 0.3}])
def test_other_grids_are_interpolated(options):
    positions = around((10.4, 5.7))
    mosaic = make_mosaic(positions, **options)
    cutouts = make_cutouts(mosaic, make_catalog(positions), resolved=False, progress=False)
    assert cutouts.images.shape == (1, 80, 80)
    x, y = cutouts.wcs[0].world_to_pixel(positions[0])
    assert_allclose([x, y], 39.5, atol=1e-6)
    rows, columns = np.indices((80, 80))
    distance2 = ((columns - 39.5) ** 2 + (rows - 39.5) ** 2) * 1.5**2
    expected = 1e-4 + 0.01 * np.exp(-4 * np.log(2) * distance2 / 36)
    assert_allclose(cutouts.images[0], expected, atol=8e-5)


def test_sources_off_the_mosaic_are_listed_with_their_reason():
    positions = around((0, 0), (4000, 0), (185, 0))
    far = SkyCoord([*positions.ra, CENTRE.ra + 180 * u.deg], [*positions.dec, -CENTRE.dec])
    mosaic = make_mosaic(positions[:1])
    cutouts = make_cutouts(mosaic, make_catalog(far), resolved=False, progress=False)
    assert_array_equal(cutouts.sources["row"], [0, 2, 1, 3])
    assert_array_equal(cutouts.sources["reason"][[0, 2, 3]], ["", ABSENT, ABSENT])
    assert cutouts.sources["reason"][1] != ""
    assert cutouts.sources["coverage"][1] < 1
    assert_array_equal(cutouts.catalog["row"], [0])
    removed = dict(zip(*cutouts.selection["step", "removed"].columns.values(), strict=True))
    assert (removed[UNRESOLVED], removed[ABSENT]) == (0, 2)
    assert_array_equal(cutouts.selection["kept"][[0, -1]], [4, 1])


@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_sources_off_the_mosaic_that_is_cut(turn):
    """Far off, just beyond its edge, and on the other side of the sky."""
    near = around((0, 0), (4000, 0), (0, 240))
    positions = SkyCoord([*near.ra, CENTRE.ra + 180 * u.deg], [*near.dec, -CENTRE.dec])
    mosaic = make_mosaic(positions[:1], turn=turn)
    sources = read_survey_sources(make_catalog(positions), resolved=False)
    cutouts = cut_mosaic(mosaic, sources)
    assert_array_equal(cutouts.sources["reason"], ["", ABSENT, ABSENT, ABSENT])
    assert_array_equal(np.isnan(cutouts.sources["peak_flux"]), [False, True, True, True])
    assert (len(cutouts), len(cutouts.wcs)) == (1, 1)
    same = make_cutouts(mosaic, make_catalog(positions), resolved=False, progress=False)
    assert_array_equal(same.sources["reason"], cutouts.sources["reason"])


def test_unresolved_sources_are_listed_with_their_reason():
    positions = around((-80, 0), (80, 0), (4000, 0))
    catalog = make_catalog(positions, Resolved=[True, False, False])
    cutouts = make_cutouts(make_mosaic(positions[:2]), catalog, progress=False)
    assert_array_equal(cutouts.sources["row"], [0, 1, 2])
    assert_array_equal(cutouts.sources["reason"], ["", UNRESOLVED, UNRESOLVED])
    assert_array_equal(cutouts.selection["step"][:3], ["sources", UNRESOLVED, ABSENT])
    assert_array_equal(cutouts.selection["removed"], [0, 2, 0, 0, 0, 0, 0])
    assert_array_equal(cutouts.selection["kept"], [3, 1, 1, 1, 1, 1, 1])


def test_all_rejected():
    mosaic = make_mosaic(around((0, 0)))
    elsewhere = around((100, 100))  # only noise within reach
    cutouts = make_cutouts(mosaic, make_catalog(elsewhere), resolved=False, progress=False)
    assert len(cutouts) == 0
    assert cutouts.images.shape == (0, 80, 80)
    assert_array_equal(cutouts.selection["kept"][[0, -1]], [1, 0])


def test_a_source_is_cut_from_the_mosaic_where_it_is_furthest_from_the_edge(tmp_path):
    positions = around((-60, 0), (100, 0))
    left = make_mosaic(positions, centre=around((-60, 0))[0])
    right = make_mosaic(positions, centre=around((100, 0))[0])
    paths = [write(left, tmp_path / "left.fits"), write(right, tmp_path / "right.fits")]
    catalog = make_catalog(positions)
    cutouts = make_cutouts(paths, catalog, resolved=False, progress=False)
    assert_array_equal(cutouts.catalog["row"], [0, 1])
    assert_array_equal(cutouts.catalog["coverage"], 1)
    named = make_catalog(positions, Mosaic_ID=["right", "right"])
    cutouts = make_cutouts(paths, named, resolved=False, progress=False)
    assert_array_equal(cutouts.sources["reason"], ["incomplete", ""])


def test_store_continues(tmp_path, monkeypatch):
    positions = around((-100, 0), (100, 0))
    paths = [
        write(make_mosaic(positions, centre=place), tmp_path / f"{name}.fits")
        for name, place in zip(("left", "right"), around((-100, 0), (100, 0)), strict=True)
    ]
    catalog, folder = make_catalog(positions), tmp_path / "store"
    import diffsky.generation.survey as survey

    whole, made = survey.cut_mosaic, []

    def interrupted(mosaic, sources, **options):
        if made:
            raise KeyboardInterrupt
        made.append(mosaic)
        return whole(mosaic, sources, **options)

    options = {"resolved": False, "store": folder, "progress": False}
    monkeypatch.setattr(survey, "cut_mosaic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_cutouts(paths, catalog, **options)
    assert CutoutStore(folder).names() == ["left.fits"]

    def second(mosaic, sources, **options):
        made.append(mosaic)
        return whole(mosaic, sources, **options)

    monkeypatch.setattr(survey, "cut_mosaic", second)
    cutouts = make_cutouts(paths, catalog, **options)
    assert made == paths
    again = CutoutStore(folder).read()
    assert_array_equal(again.images, cutouts.images)
    assert_array_equal(again.catalog["row"], cutouts.catalog["row"])
    assert again.catalog["peak_flux"].unit == u.Jy / u.beam
    for one, other in zip(again.wcs, cutouts.wcs, strict=True):
        there = one.pixel_to_world(3, 70).separation(other.pixel_to_world(3, 70))
        assert there < 1e-4 * u.arcsec


def test_store_refuses_other_settings_and_damage(tmp_path):
    positions = around((0, 0))
    mosaic, catalog = make_mosaic(positions), make_catalog(positions)
    options = {"resolved": False, "store": tmp_path / "store", "progress": False}
    make_cutouts(mosaic, catalog, **options)
    with pytest.raises(ValueError, match="other settings than asked for: min_signal"):
        make_cutouts(mosaic, catalog, min_signal=3, **options)
    store = CutoutStore(tmp_path / "store")
    (name,) = store.names()
    chunk = next(path for path in (store.path / name / "images").rglob("0") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(ValueError, match="are damaged: .*images"):
        store.read([name])
    assert store.names() == []
    assert len(make_cutouts(mosaic, catalog, **options)) == 1  # made again
    assert len(store.read()) == 1
    with pytest.raises(KeyError, match="no cutouts of other"):
        store.read(["other"])
    with pytest.raises(FileNotFoundError, match="no store of cutouts"):
        CutoutStore(tmp_path / "none")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ValueError, match="no store of cutouts"):
        CutoutStore(tmp_path / "full")


def test_store_follows_the_catalogue_and_the_mosaic(tmp_path):
    positions = around((-80, 0), (80, 0))
    path = write(make_mosaic(positions), tmp_path / "one.fits")
    options = {"resolved": False, "store": tmp_path / "store", "progress": False}
    first = make_cutouts(path, make_catalog(positions[:1]), **options)
    both = make_cutouts(path, make_catalog(positions), **options)
    assert (len(first), len(both)) == (1, 2)
    other = make_cutouts(path, make_catalog(positions[1:]), **options)
    assert_array_equal(other.images[0], both.images[1])
    path.unlink()
    write(make_mosaic(positions[1:]), path)
    again = make_cutouts(path, make_catalog(positions), **options)
    assert len(again) == 1
    assert len(CutoutStore(tmp_path / "store").read()) == 1
    explicit = make_cutouts(path, make_catalog(positions), min_signal=5, **options)
    assert len(explicit) == 1


def test_store_is_not_made_for_an_order_that_cannot_be(tmp_path):
    positions = around((0, 0))
    mosaic, catalog = make_mosaic(positions), make_catalog(positions)
    for options in ({"max_edge": -1}, {"min_signl": 3}):
        with pytest.raises((ValueError, TypeError), match="max_edge|min_signl"):
            make_cutouts(mosaic, catalog, resolved=False, store=tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()


def test_a_blank_pixel_spoils_no_other_in_an_interpolated_cutout():
    positions = around((0, 0))
    mosaic = make_mosaic(positions, pixel=1.0, shape=(300, 380))
    whole = make_cutouts(mosaic, make_catalog(positions), resolved=False, progress=False)
    mosaic.data[150 + 80, 190] = np.nan  # 80 arcsec north, off the cutout
    off = make_cutouts(mosaic, make_catalog(positions), resolved=False, progress=False)
    assert_array_equal(off.sources["coverage"], 1)
    assert_allclose(off.images, whole.images, atol=1e-6)
    mosaic.data[150 + 20, 190] = np.nan
    on = make_cutouts(mosaic, make_catalog(positions), resolved=False, progress=False)
    assert_array_equal(on.sources["reason"], ["broken"])
    assert_array_equal(on.sources["coverage"], 1)


def test_mosaics_of_one_name_in_folders_of_their_own(tmp_path):
    positions = around((-60, 0), (100, 0))
    paths = []
    for name, place in zip(("P1", "P10"), positions, strict=True):
        (tmp_path / name).mkdir()
        paths.append(write(make_mosaic(positions, centre=place), tmp_path / name / "mosaic.fits"))
    catalog = make_catalog(positions, Mosaic_ID=["P1", "P10"])
    cutouts = make_cutouts(paths, catalog, resolved=False, progress=False)
    assert_array_equal(cutouts.catalog["row"], [0, 1])
    swapped = make_catalog(positions, Mosaic_ID=["P10", "P1"])
    cutouts = make_cutouts(paths, swapped, resolved=False, progress=False)
    assert_array_equal(cutouts.sources["row"], [1, 0])  # each from the other mosaic


def test_cluster_makes_the_same(tmp_path):
    distributed = pytest.importorskip("distributed")
    positions = around((-100, 0), (100, 0))
    paths = [
        write(make_mosaic(positions, centre=place), tmp_path / f"{name}.fits")
        for name, place in zip(("left", "right"), around((-100, 0), (100, 0)), strict=True)
    ]
    catalog = make_catalog(positions)
    here = make_cutouts(paths, catalog, resolved=False, progress=False)
    with distributed.Client(n_workers=1, processes=False, dashboard_address=None) as client:
        there = make_cutouts(paths, catalog, resolved=False, client=client, progress=False)
    assert_array_equal(there.images, here.images)
    assert_array_equal(there.sources["row"], here.sources["row"])


def test_mosaics_that_cannot_be_used(tmp_path):
    positions = around((0, 0))
    good, catalog = make_mosaic(positions), make_catalog(positions)
    path = write(good, tmp_path / "good.fits")
    without = {"unit": "BUNIT", "wcs": "CTYPE1", "beam": "BMAJ"}
    for name, key in without.items():
        shutil.copy(path, tmp_path / f"{name}.fits")
        with fits.open(tmp_path / f"{name}.fits", mode="update") as hdus:
            del hdus[0].header[key]
    with pytest.raises(ValueError, match="unit.fits has no unit"):
        make_cutouts([path, tmp_path / "unit.fits"], catalog, resolved=False)
    with fits.open(path) as hdus:
        hdus[0].header["BUNIT"] = "Hz"
        hdus.writeto(tmp_path / "other.fits")
    with pytest.raises(ValueError, match="other.fits is in Hz, expected Jy / beam"):
        make_cutouts([path, tmp_path / "other.fits"], catalog, resolved=False)
    with pytest.raises(ValueError, match="wcs.fits has no celestial WCS"):
        make_cutouts(tmp_path / "wcs.fits", catalog, resolved=False)
    with pytest.raises(ValueError, match="beam.fits has no beam"):
        make_cutouts([path, tmp_path / "beam.fits"], catalog, resolved=False)
    with fits.open(path) as hdus:
        fits.HDUList([*hdus, fits.ImageHDU(hdus[0].data)]).writeto(tmp_path / "two.fits")
        hdus[0].header["BMAJ"] = hdus[0].header["BMIN"] = 9 / 3600
        hdus.writeto(tmp_path / "wide.fits")
    with pytest.raises(ValueError, match="mosaics have beams of .* expected one beam"):
        make_cutouts([path, tmp_path / "wide.fits"], catalog, resolved=False)
    with pytest.raises(ValueError, match="two.fits has 2 images; expected one"):
        make_cutouts([path, tmp_path / "two.fits"], catalog, resolved=False)
    with pytest.raises(ValueError, match="there are no mosaics"):
        make_cutouts([], catalog)
    with pytest.raises(ValueError, match="several mosaics are named .*good.fits"):
        make_cutouts([path, path], catalog, resolved=False)
    with pytest.raises(ValueError, match="expected angles, the size of 8 pixels or more"):
        make_cutouts(path, catalog, size=3 * u.arcsec, resolved=False)
    with pytest.raises(ValueError, match="expected angles"):
        make_cutouts(path, catalog, size=80, resolved=False)


def test_real_mosaic(data_dir):
    folder = data_dir / "lotss"
    options = {"progress": False}
    cutouts = make_cutouts(
        folder / "P205+55-mosaic.fits", folder / "catalog.srl.fits", resolved=False, **options
    )
    on = cutouts.sources[cutouts.sources["reason"] != ABSENT]
    assert len(on) == 27
    assert_array_equal(cutouts.selection["removed"][3:], [0, 0, 4, 10])
    assert cutouts.images.shape == (13, 80, 80)
    assert np.isfinite(cutouts.images).all()
    assert_allclose(cutouts.beam.major.to_value(u.arcsec), 6)
    assert_array_equal(select_cutouts(cutouts.images).kept, True)
    assert_allclose(cutouts.catalog["peak_flux"].value, cutouts.images.max(axis=(1, 2)))
