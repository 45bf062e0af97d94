"""Folders that are filled whole or not at all, and tables that say what was found."""

import os
import tempfile
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable, Table
from astropy.wcs import WCS
from matplotlib.figure import Figure
from radio_beam import Beam
from regions import Regions

from diffsky.catalog import check_catalog, read_catalog, source_table
from diffsky.images import load_image
from diffsky.products import (
    format_catalog,
    format_comparison,
    product_folder,
    truth_catalog,
    write_products,
)
from diffsky.simulation import Observation

BEAM = Beam(0.9 * u.arcsec, 0.9 * u.arcsec, 0 * u.deg)
RMS = 4e-5
NOBODY = 65534


def make_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [33, 33]
    wcs.wcs.cdelt = [-0.1 / 3600, 0.1 / 3600]
    return wcs


def make_catalog(x, y, flux, reliability=1.0):
    """Sources at pixels, with intervals of 10 % below and 20 % above the flux in Jy."""
    flux = np.asarray(flux, dtype=float)
    ones = np.ones(len(flux))
    columns = {"x": x, "y": y, "flux": flux, "flux_err": 0.15 * flux}
    columns |= {"flux_lower": 0.9 * flux, "flux_upper": 1.2 * flux}
    columns |= dict.fromkeys(("major", "minor", "pa", "flags"), 0 * ones)
    columns |= {"position_err": ones, "n_detections": ones, "reliability": reliability * ones}
    return source_table(Table(columns), wcs=make_wcs(), beam=BEAM, rms=RMS * u.Jy / u.beam)


def make_observation(gain=1.0):
    data = np.random.default_rng(0).normal(0, RMS, (64, 64))
    dirty = CCDData(data, unit="Jy/beam", wcs=make_wcs(), meta={"beam": BEAM})
    unused = {"uv": np.zeros((0, 2)), "weights": np.zeros(0), "parameters": {}, "psf": None}
    primary_beam = CCDData(np.full((64, 64), gain), unit="", wcs=make_wcs())
    return Observation(
        dirty=load_image(dirty),
        beam=BEAM,
        primary_beam=primary_beam,
        measurement_set=None,
        **unused,
    )


@pytest.fixture
def readonly_folder():
    """Root may write anywhere, so where it runs the tests it becomes somebody else."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        if is_root:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if is_root:
                os.seteuid(0)
            folder.chmod(0o755)


def fill(folder, *names, error=None, **options):
    """Write files; without names the folder has to be refused before."""
    with product_folder(folder, **options) as stage:
        assert names, "the block ran"
        for name in names:
            (stage / name).write_text("new")
        if error is not None:
            raise error


def test_files_appear_when_the_block_has_ended(tmp_path):
    folder = tmp_path / "new" / "folder"
    with product_folder(folder) as stage:
        (stage / "a.txt").write_text("a")
        assert [path for path in folder.iterdir() if path.name == "a.txt"] == []
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    assert (folder / "a.txt").read_text() == "a"


def test_files_and_folder_have_the_usual_permissions(tmp_path):
    mask = os.umask(0o022)
    try:
        fill(tmp_path / "out", "a.txt")
    finally:
        os.umask(mask)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "a.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("bad"), OSError("disk")])
def test_nothing_is_left_of_a_block_that_fails(tmp_path, error):
    with pytest.raises(type(error)):
        fill(tmp_path / "new" / "folder", "a.txt", error=error)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_block_is_not_reworded(tmp_path):
    missing = tmp_path / "missing.fits"
    with pytest.raises(FileNotFoundError, match="missing.fits"), product_folder(tmp_path / "out"):
        missing.read_text()


def test_an_existing_folder_is_as_before_after_a_failure(tmp_path):
    (tmp_path / "sky.fits").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, "sky.fits", error=KeyboardInterrupt(), overwrite=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("sky.fits", "old")]


def test_an_empty_folder_may_be_there(tmp_path):
    fill(tmp_path, "a.txt")
    assert (tmp_path / "a.txt").exists()


def test_overwriting_replaces_its_own_files_alone(tmp_path):
    for name in ("sky.fits", "notes.txt"):
        (tmp_path / name).write_text("old")
    fill(tmp_path, "sky.fits", overwrite=True)
    assert (tmp_path / "sky.fits").read_text() == "new"
    assert (tmp_path / "notes.txt").read_text() == "old"


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("old")
    with pytest.raises(FileExistsError, match="is not empty; expected an empty folder"):
        fill(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "out"
    path.write_text("a file")
    for folder in (path, path / "below"):
        with pytest.raises(OSError, match="out"):
            fill(folder, overwrite=True)
    assert path.read_text() == "a file"


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "sky.fits").mkdir()
    with pytest.raises(FileExistsError, match="sky.fits is a folder; expected a file"):
        fill(tmp_path, overwrite=True)


@pytest.mark.parametrize("name", ["", "new", "new/below"])
def test_a_folder_that_cannot_be_written_is_refused(readonly_folder, name):
    with pytest.raises(OSError, match="cannot write into .*: Permission denied"):
        fill(readonly_folder / name)
    assert list(readonly_folder.iterdir()) == []


def make_sky():
    data = np.zeros((64, 64))
    data[20, 40] = 1e-5
    meta = {"beam": BEAM, "rms": RMS, "kernel_fwhm": 0.36 * u.arcsec, "seed": 5}
    mask = np.zeros((64, 64), dtype=bool)
    mask[0] = True
    spread = StdDevUncertainty(data / 4)
    return CCDData(data, unit="Jy/pix", wcs=make_wcs(), mask=mask, uncertainty=spread, meta=meta)


def test_products_read_back(tmp_path):
    sky, catalog = make_sky(), make_catalog([40.2, 10], [20.1, 12], [3e-4, 1e-4], 0.75)
    more = {"images": {"dirty.fits": make_observation().dirty}, "catalogs": {"truth.ecsv": catalog}}
    write_products(tmp_path, sky, catalog, Figure(), **more)
    assert {path.name for path in tmp_path.iterdir()} == {
        "sky.fits", "catalog.ecsv", "catalog.reg", "overview.png", "dirty.fits", "truth.ecsv",
    }  # fmt: skip
    again = CCDData.read(tmp_path / "sky.fits")
    np.testing.assert_array_equal(again.data, sky.data)
    np.testing.assert_array_equal(again.uncertainty.array, sky.uncertainty.array)
    np.testing.assert_array_equal(again.mask, sky.mask)
    assert again.unit == u.Jy / u.pix
    assert (again.meta["SEED"], again.meta["BMAJ"] * 3600) == (5, pytest.approx(0.9))
    for name in ("catalog.ecsv", "truth.ecsv"):
        table = read_catalog(tmp_path / name)
        assert u.allclose(table["flux"], catalog["flux"])
    regions = Regions.read(tmp_path / "catalog.reg")
    centres = [region.center for region in regions]
    for centre, position in zip(centres, catalog["sky_centroid"], strict=True):
        assert centre.separation(position) < 1e-3 * u.arcsec
    assert float(regions[0].meta["text"]) == 0.75
    assert load_image(tmp_path / "dirty.fits").shape == (64, 64)


def test_products_are_not_replaced(tmp_path):
    (tmp_path / "catalog.ecsv").write_text("old")
    with pytest.raises(FileExistsError, match="catalog.ecsv"):
        write_products(tmp_path, make_sky(), make_catalog([1], [1], [1e-4]), Figure())


def test_the_truth_is_a_catalogue_without_errors():
    columns = {"flux": [1e-4, 4e-4] * u.Jy, "x_centroid": [20.0, 41.5], "y_centroid": [32.0, 30.0]}
    columns |= {name: [0.0, 0.9] * u.arcsec for name in ("major", "minor")}
    truth = truth_catalog(
        QTable({**columns, "pa": [0, 60] * u.deg}), make_observation(0.5), rms=RMS, meta={"seed": 3}
    )
    assert check_catalog(truth) is truth
    assert list(truth["id"]) == [1, 2]
    assert u.allclose(truth["flux"], [4e-4, 1e-4] * u.Jy)
    assert u.allclose(truth["flux_err"], 0 * u.Jy)
    # Seen with a beam of its own size a round source has half its flux in the peak.
    assert truth["snr"] == pytest.approx(np.array([4e-4 / 2, 1e-4]) * 0.5 / RMS, rel=1e-5)
    assert truth["x_centroid"] == pytest.approx(np.array([41.5, 20]))
    assert truth["reliability"] == pytest.approx(np.ones(2))
    assert truth.meta == {"seed": 3}


def test_the_position_angle_of_the_truth_is_kept():
    columns = {"flux": [1e-4] * u.Jy, "x_centroid": [30.0], "y_centroid": [30.0]}
    columns |= {"major": [0.8] * u.arcsec, "minor": [0.4] * u.arcsec, "pa": [35] * u.deg}
    truth = truth_catalog(QTable(columns), make_observation(), rms=RMS)
    assert truth["pa"][0].to_value(u.deg) == pytest.approx(35, abs=0.01)
    assert truth["major"][0].to_value(u.arcsec) == pytest.approx(0.8)


def test_the_catalogue_as_text():
    text = format_catalog(make_catalog([40.2, 10], [20.1, 12], [3e-4, 1e-4], 0.75))
    heads, units, first, second = text.splitlines()
    names = ["id", "position (ICRS)", "flux", "-err", "+err", "S/N", "reliability", "flags"]
    assert heads.split() == " ".join(names).split()
    assert units.split() == ["µJy"] * 3
    assert first.split()[0] == "1"
    assert first.split()[3:] == ["300", "30", "60", "7.5", "0.75", "0"]
    assert second.split()[3:] == ["100", "10", "20", "2.5", "0.75", "0"]
    assert {len(line) for line in (heads, first, second)} == {len(heads)}


def test_an_interval_that_is_unknown_is_a_dash():
    catalog = make_catalog([40], [20], [3e-4])
    catalog["flux_lower"] = catalog["flux_upper"] = [np.nan] * u.Jy
    assert format_catalog(catalog).splitlines()[-1].split()[3:6] == ["300", "-", "-"]


def test_an_empty_catalogue_as_text():
    assert format_catalog(make_catalog([], [], [])) == "No source was found."


def test_the_catalogue_beside_the_truth():
    truth = make_catalog([20, 40, 50], [20, 20, 50], [2e-4, 4e-4, 1e-4])
    found = make_catalog([41, 19, 10, 30], [20, 20, 50, 50], [3e-4, 1e-4, 5e-5, 6e-5])
    found["reliability"] = [0.9, 0.3, 0.6, 0.2]
    text = format_comparison(found, truth, radius=0.45 * u.arcsec)
    matched, others, missed, summary = text.split("\n\n")
    assert matched.splitlines()[0] == "Sources within 0.45 arcsec of a true one"
    rows = [line.split() for line in matched.splitlines()[3:]]
    assert rows == [
        ["1", "400", "10.0", "300", "30", "60", "0.10", "0.90"],
        ["2", "200", "5.0", "100", "10", "20", "0.10", "0.30"],
    ]
    assert [line.split()[0] for line in others.splitlines()[3:]] == ["3", "4"]
    assert [line.split()[:2] for line in missed.splitlines()[3:]] == [["100", "2.5"]]
    assert "1 of 2 sources are true (purity 0.50)" in summary
    assert "1 of 3 true sources are found (completeness 0.33)" in summary


def test_a_source_is_matched_once():
    truth = make_catalog([20], [20], [2e-4])
    found = make_catalog([20.5, 19], [20, 20], [2e-4, 2e-4], 0.9)
    text = format_comparison(found, truth, radius=0.45 * u.arcsec)
    assert "1 of 2 sources are true (purity 0.50), and 1 of 1" in text


@pytest.mark.parametrize("reliability", [None, 0.4])
def test_nothing_is_claimed_where_nothing_is_certain(reliability):
    truth = make_catalog([20], [20], [2e-4])
    found = (
        make_catalog([], [], []) if reliability is None else make_catalog([20], [20], [2e-4], 0.4)
    )
    summary = format_comparison(found, truth, radius=0.45 * u.arcsec).splitlines()[-1]
    assert summary == (
        "No source has a reliability of 0.5 or more, so nothing is claimed; "
        "0 of 1 true sources are found (completeness 0.00)."
    )
