"""Fetching LoTSS from local services: what comes, what is cut, and what is not there."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits, votable
from astropy.table import MaskedColumn, QTable, Table
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from diffsky._lotss_command import lotss
from diffsky.generation import make_cutouts
from diffsky.generation.lotss import CATALOG_SERVICE, _cone_catalog, fetch_lotss, find_lotss_mosaics
from diffsky.generation.survey_catalog import SURVEY_COLUMNS, read_survey_sources

ROOT = Path(__file__).resolve().parents[2]
CENTER = SkyCoord("0h10m +20d")
CONE = {"center": CENTER, "radius": 1 * u.deg}
# Three mosaics of DR2, as ASTRON's service lists them: name, centre in deg, pixels a side.
REAL = (
    ("P002+18", 2.1779, 18.3938, 10210),
    ("P005+21", 5.03954, 20.9288, 9622),
    ("P124+62", 124.678, 61.9895, 9264),
)
SERVICES = ("mosaic_service", "catalog_service")
PIXEL = 0.0004166669968981296
# VizieR's kind of names, with those of the authors in the descriptions.
COLUMNS = (
    ("Source", "Name of the source (Source_Name)", None),
    ("RAdeg", "Right ascension (J2000) (RA)", u.deg),
    ("DEdeg", "Declination (J2000) (DEC)", u.deg),
    ("e_RAdeg", "Error of the right ascension (E_RA)", u.arcsec),
    ("Stot", "Total flux density (Total_flux)", u.mJy),
    ("e_Stot", "Its error (E_Total_flux)", u.mJy),
    ("Speak", "Peak flux density (Peak_flux)", u.mJy / u.beam),
    ("Mosaic", "Mosaic of the source (Mosaic_ID)", None),
    ("RAo", "? Optical right ascension (ID_RA)", u.deg),
    ("DEo", "? Optical declination (ID_DEC)", u.deg),
    ("Res", "[0/1] Resolved (Resolved)", None),
)


def mosaic_file(value=1.0):
    """A FITS image of 1 MB."""
    data = np.full((400, 320), value)
    fits.PrimaryHDU(data).writeto(stream := io.BytesIO())
    return stream.getvalue()


def catalog():
    """Sources about the centre, the second without an optical position, the last 3 deg off."""
    positions = CENTER.directional_offset_by([0, 90, 180, 0] * u.deg, [0.1, 0.5, 0.9, 3] * u.deg)
    flux = np.array([10.0, 20.0, 30.0, 40.0])
    values = {
        "Source": [f"ILTJ{k}" for k in range(4)],
        "RAdeg": positions.ra.deg,
        "DEdeg": positions.dec.deg,
        "e_RAdeg": np.full(4, 0.1),
        "Stot": flux,
        "e_Stot": np.full(4, 0.1),
        "Speak": flux / 2,
        "Mosaic": ["P002+18"] * 4,
        "RAo": MaskedColumn(positions.ra.deg + 1e-4, mask=flux == 20),
        "DEo": MaskedColumn(positions.dec.deg, mask=flux == 20),
        "Res": [1, 0, 1, 1],
    }
    table = Table(values)
    for name, description, unit in COLUMNS:
        table[name].description, table[name].unit = description, unit
    return table


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.services.asked.append(self.path)
        self.server.services.send_file(self)

    def do_POST(self):
        query = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.services.asked.append(self.path)
        self.server.services.answer(self, parse_qs(query)["QUERY"][0])

    def log_message(self, *arguments):
        pass


class Services:
    """TAP services and files on this machine; ``files`` says what is at an address."""

    def __init__(self):
        self.files = {f"/{name}": mosaic_file(k) for k, (name, *_) in enumerate(REAL)}
        self.catalog = catalog()
        self.status = "OK"
        self.asked = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.services = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.options = {
            "mosaic_service": f"{self.url}/astron",
            "catalog_service": f"{self.url}/vizier",
            "progress": False,
        }

    def send_file(self, handler):
        content = self.files.get(handler.path)
        if content is None:
            handler.send_error(404)
            return
        content, said, pause = content if isinstance(content, tuple) else (content, None, 0)
        handler.send_response(200)
        if said != "nothing":
            handler.send_header("Content-Length", said or len(content))
        handler.end_headers()
        for first in range(0, len(content), 100_000):
            handler.wfile.write(content[first : first + 100_000])
            time.sleep(pause)

    def answer(self, handler, query):
        table = self.mosaics() if "lotss_dr2.mosaics" in query else self.select(query)
        tree = votable.from_table(table)
        tree.resources[0].type = "results"
        tree.resources[0].infos.append(votable.tree.Info(name="QUERY_STATUS", value=self.status))
        stream = io.BytesIO()
        tree.to_xml(stream, tabledata_format="binary2")
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-votable+xml")
        handler.end_headers()
        handler.wfile.write(stream.getvalue())

    def mosaics(self):
        names, ra, dec, pixels = zip(*REAL, strict=True)
        return Table(
            {
                "mosaic_id": names,
                "accref": [f"{self.url}/{name}" for name in names],
                "accsize": [len(mosaic_file())] * 3,
                "centeralpha": ra,
                "centerdelta": dec,
                "pixelsize": [[n, n] for n in pixels],
                "pixelscale": np.full((3, 2), PIXEL),
            }
        )

    def select(self, query):
        assert '"J/A+A/678/A151/catalog"' in query
        if "TOP 1 *" in query:
            return self.catalog[:1]
        names = re.findall(r'"(\w+)"', query.partition("FROM")[0])
        ra, dec, radius = map(float, re.findall(r"[-+.\de]+", query.partition("CIRCLE")[2])[:3])
        x, y = re.search(r'POINT\(\'ICRS\', "(\w+)", "(\w+)"\)', query).groups()
        positions = SkyCoord(self.catalog[x], self.catalog[y])
        near = positions.separation(SkyCoord(ra * u.deg, dec * u.deg)) <= radius * u.deg
        return self.catalog[near][names]


@pytest.fixture
def services():
    """Local services."""
    pytest.importorskip("pyvo")
    made = Services()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def words_of(services, *arguments):
    """The words of a command that fetches the cone."""
    options = [f"--{key.replace('_', '-')}={services.options[key]}" for key in SERVICES]
    cone = ["--center", "0h10m +20d", "--radius", "60arcmin"]
    return ["fetch", *map(str, arguments), *cone, *options]


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_mosaics_of_a_cone(services):
    """The nearest first; by their edges, and not by their centres."""
    service = services.options["mosaic_service"]
    found = find_lotss_mosaics(CENTER, 1 * u.deg, service=service)
    assert_array_equal(found["name"], ["P002+18", "P005+21"])
    assert_allclose(found["side"].to_value(u.deg), [4.254, 4.009], atol=1e-3)
    small = {"radius": 0.1 * u.deg, "service": service}
    edge = SkyCoord(2.1779 * u.deg, (18.3938 - 10210 * PIXEL / 2) * u.deg)
    below = edge.directional_offset_by(180 * u.deg, [0.09, 0.11] * u.deg)
    assert len(find_lotss_mosaics(below[0], **small)) == 1
    with pytest.raises(ValueError, match="no mosaic of LoTSS DR2 overlaps the cone of 0.1 deg"):
        find_lotss_mosaics(below[1], **small)
    assert len(find_lotss_mosaics(CENTER, 180 * u.deg, service=service)) == 3
    nearest = find_lotss_mosaics(CENTER, 180 * u.deg, n_mosaics=1, service=service)
    assert_array_equal(nearest["name"], ["P002+18"])


def test_everything_comes_once(services, tmp_path):
    mosaics, sources = fetch_lotss(tmp_path / "out", **CONE, **services.options)
    assert [path.name for path in mosaics] == ["P002+18.fits", "P005+21.fits"]
    assert_array_equal([fits.getdata(path)[0, 0] for path in mosaics], [0, 1])
    files = ["catalog.fits", "mosaics", "mosaics/P002+18.fits", "mosaics/P005+21.fits"]
    assert files_in(tmp_path / "out") == files
    services.asked.clear()
    assert fetch_lotss(tmp_path / "out", **CONE, **services.options) == (mosaics, sources)
    assert services.asked == ["/astron/sync"]
    wider = {"center": CENTER, "radius": 180 * u.deg}
    with pytest.raises(ValueError, match="catalog.fits is of another cone"):
        fetch_lotss(tmp_path / "out", **wider, **services.options)
    mosaics, sources = fetch_lotss(tmp_path / "out", catalog=False, **wider, **services.options)
    assert len(mosaics) == 3
    assert sources is None
    assert [one for one in services.asked if one.startswith("/P")] == ["/P124+62"]


def test_catalog_is_what_cutouts_need(services, tmp_path):
    _, path = fetch_lotss(tmp_path, **CONE, **services.options)
    table = QTable.read(path)
    assert set(table.colnames) == {usual[0] for usual in SURVEY_COLUMNS.values()}
    assert_array_equal(table["Source_Name"], ["ILTJ0", "ILTJ1", "ILTJ2"])
    assert table["Peak_flux"].unit == u.mJy / u.beam
    everything = read_survey_sources(path, resolved=False)
    assert_array_equal(everything["is_optical"], [True, False, True])
    assert_array_equal(everything["mosaic"], "P002+18")
    assert_array_equal(read_survey_sources(path)["row"], [0, 2])
    services.catalog["Res"] = ["T", "F", "F", "T"]
    services.catalog["Res"].description = "Resolved (Resolved)"
    path.unlink()
    fetch_lotss(tmp_path, **CONE, **services.options)
    assert_array_equal(read_survey_sources(path)["row"], [0])
    path.write_bytes(path.read_bytes()[:-2880])  # damaged, so it is made again
    services.catalog.remove_column("Res")
    fetch_lotss(tmp_path, **CONE, **services.options)
    assert_array_equal(read_survey_sources(path)["row"], [1, 2])  # by the flux densities


def test_catalog_that_cannot_be_used(services, tmp_path):
    services.catalog.remove_columns(["RAo", "Mosaic"])
    with pytest.raises(ValueError, match="none is known as optical_ra, mosaic. The whole"):
        fetch_lotss(tmp_path, **CONE, **services.options)
    services.catalog = catalog()[3:]
    with pytest.raises(ValueError, match="no source in the cone of 1 deg"):
        fetch_lotss(tmp_path, **CONE, **services.options)
    assert not [one for one in services.asked if one.startswith("/P")]  # refused before that
    assert files_in(tmp_path) == ["mosaics"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "answered 404"),
        ((mosaic_file()[:500_000], len(mosaic_file()), 0), "cut after 500000 of 1028160 bytes"),
        ((mosaic_file()[:500_000], "nothing", 0), "no whole FITS file: File may .* truncated"),
        (b"<html>Down for maintenance</html>", "no whole FITS file: .* it starts with b'<html>"),
    ],
)
def test_a_file_that_does_not_come_whole(services, tmp_path, content, message):
    """It is named, all others come, and the same again fetches it."""
    whole = services.files.pop("/P002+18")
    if content is not None:
        services.files["/P002+18"] = content
    with pytest.raises(OSError, match=f"1 of 2 mosaics .*{services.url}/P002.18 .*{message}"):
        fetch_lotss(tmp_path, **CONE, **services.options)
    assert files_in(tmp_path) == ["catalog.fits", "mosaics", "mosaics/P005+21.fits"]
    services.files["/P002+18"] = whole
    services.asked.clear()
    (first, second), _ = fetch_lotss(tmp_path, **CONE, **services.options)
    assert services.asked == ["/astron/sync", "/P002+18"]
    second.write_bytes(second.read_bytes()[:-2880])  # as a disk that was full leaves it
    fetch_lotss(tmp_path, **CONE, **services.options)
    assert first.read_bytes() == whole
    assert second.read_bytes() == services.files["/P005+21"]


def test_services_that_refuse(services, tmp_path):
    services.status = "ERROR"
    with pytest.raises(OSError, match=f"{services.url}/astron did not answer 'SELECT mosaic_id"):
        fetch_lotss(tmp_path / "out", **CONE, **services.options)
    services.status = "OVERFLOW"
    with pytest.raises(OSError, match=f"{services.url}/astron has more rows than it gives"):
        fetch_lotss(tmp_path / "out", **CONE, **services.options)
    nowhere = {**services.options, "mosaic_service": "http://127.0.0.1:9/tap"}
    with pytest.raises(OSError, match="http://127.0.0.1:9/tap did not answer"):
        fetch_lotss(tmp_path / "out", **CONE, **nowhere)
    assert not (tmp_path / "out").exists()


def test_interrupt_leaves_no_half_file(services, tmp_path):
    services.files["/P005+21"] = (mosaic_file(1), None, 0.5)
    code = "from diffsky._lotss_command import lotss; lotss(prog_name='lotss')"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words_of(services, tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while "/P005+21" not in services.asked and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Aborted!" in words
    assert files_in(tmp_path) == ["catalog.fits", "mosaics", "mosaics/P002+18.fits"]


def command(services, *arguments):
    return CliRunner().invoke(lotss, words_of(services, *arguments))


def test_command(services, tmp_path):
    listed = command(services, tmp_path / "out", "--list")
    assert listed.exit_code == 0, listed.output
    assert listed.stdout.splitlines()[-1] == "mosaics: 2, 0.00 GB"
    assert not (tmp_path / "out").exists()
    result = command(services, tmp_path / "out", "--n-mosaics", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"mosaics: 1, in {tmp_path}/out/mosaics",
        f"sources: 3, in {tmp_path}/out/catalog.fits",
    ]
    assert command(services, tmp_path / "alone", "--no-catalog").exit_code == 0
    assert not (tmp_path / "alone" / "catalog.fits").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("center", "M 31, or so"), ("center", "205 55"), ("radius", "1"), ("radius", "1 Jy")],
)
def test_command_refuses(option, value):
    given = {"center": "0h10m +20d", "radius": "1deg", option: value}
    words = [f"--{name}={text}" for name, text in given.items()]
    result = CliRunner().invoke(lotss, ["fetch", "out", *words])
    assert result.exit_code == 2
    example = {"center": "'13h40m +55d'", "radius": "1deg"}[option]
    assert f"expected one such as {example}" in result.stderr


@given(st.floats() | st.just(5 * u.Jy) | st.lists(st.floats(0, 1), max_size=3))
def test_cone_that_is_none(radius):
    """Refused without asking any service."""
    if isinstance(radius, float):
        radius = radius * u.deg if not 0 < radius <= 180 else radius
    elif isinstance(radius, list):
        radius = radius * u.deg
    with pytest.raises(ValueError, match="radius is .*; expected"):
        find_lotss_mosaics(CENTER, radius, service="http://127.0.0.1:9")


def test_without_pyvo(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyvo.dal", None)
    with pytest.raises(ImportError, match=r"needs pyvo: pip install diffsky-radio\[survey\]"):
        fetch_lotss(tmp_path / "out", **CONE)
    assert not (tmp_path / "out").exists()


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="n_mosaics is 0; expected 1 or more"):
        find_lotss_mosaics(CENTER, 1 * u.deg, n_mosaics=0, service="http://127.0.0.1:9")
    with pytest.raises(ValueError, match="center is 'M 31'; expected one position"):
        find_lotss_mosaics("M 31", 1 * u.deg, service="http://127.0.0.1:9")


@pytest.mark.remote_data
def test_real_services(tmp_path):
    """The smallest part of what the archives have: a list of mosaics, and a few sources."""
    pytest.importorskip("pyvo")
    found = find_lotss_mosaics(CENTER, 1 * u.deg)
    assert {"P002+18", "P005+21"} <= set(found["name"])
    assert ((found["size"] > 4e8) & (found["size"] < 1.5e9)).all()
    table = _cone_catalog(CATALOG_SERVICE, SkyCoord("13h +50d").icrs, 0.1 * u.deg)
    table.write(tmp_path / "catalog.fits")
    sources = read_survey_sources(tmp_path / "catalog.fits")
    assert 0 < len(sources) < len(table)
    assert sources["is_optical"].any()


@pytest.mark.remote_data
@pytest.mark.slow
def test_real_mosaic(tmp_path):
    mosaics, sources = fetch_lotss(tmp_path, **CONE, n_mosaics=1)
    cutouts = make_cutouts(mosaics, sources)
    assert len(cutouts) > 0
    assert_allclose(cutouts.beam.major.to_value(u.arcsec), 6, rtol=1e-3)
