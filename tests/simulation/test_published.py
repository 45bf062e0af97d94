"""The published pairs: where their sources are, and files that are not what they claim."""

import os
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import FK5
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from diffsky.deconvolution.observation import prepare_observation
from diffsky.instrument import KNOWN_DISHES, airy_primary_beam
from diffsky.simulation import PublishedPair, SourceList, read_drozdova2024, render_sources
from diffsky.simulation._plain_pickle import load_plain_pickle

KEYS = ["a-1", "b-2"]
SHAPE = (96, 96)


def draw(pair, **changes):
    """Image of the sources of a pair."""
    table = pair.sources
    ny, nx = pair.sky.shape
    columns = {
        "x": table["x_centroid"] - nx // 2,
        "y": table["y_centroid"] - ny // 2,
        "flux": table["flux"].to_value(u.Jy),
        "major": table["major"].to_value(u.arcsec) / 0.1,
        "minor": table["minor"].to_value(u.arcsec) / 0.1,
        "pa": table["pa"].to_value(u.rad),
    } | changes
    return render_sources(SourceList(**columns), [0] * len(table), 1, (ny, nx))[0].numpy()


def centroid(image, x, y, radius):
    rows, columns = np.indices(image.shape)
    weight = image * (np.hypot(columns - x, rows - y) < radius)
    return (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()


# The real ones


@pytest.fixture(scope="module")
def pairs(data_dir):
    return list(read_drozdova2024(data_dir / "d24"))


def test_sources_lie_where_the_true_images_have_them(pairs):
    """To a fiftieth of a pixel, 2 mas, with no turn or mirror in which they would do as well."""
    assert len(pairs) == 4
    assert [len(pair.sources) for pair in pairs] == [1, 3, 3, 5]
    for pair in pairs:
        true = pair.sky.data.astype(float)
        model = draw(pair)
        assert np.abs(model - true).max() < 0.005 * true.max()
        assert model.sum() == pytest.approx(true.sum(), rel=1e-3)
        for turned in (true.T, true[::-1], true[:, ::-1], true[::-1, ::-1]):
            assert np.corrcoef(model.ravel(), turned.ravel())[0, 1] < 0.5
        for x, y in pair.sources["x_centroid", "y_centroid"]:
            assert np.hypot(*np.subtract(centroid(true, x, y, 8), (x, y))) < 0.02


def test_shift_of_half_a_pixel_would_show(pairs):
    pair = pairs[1]
    moved = draw(pair, x=pair.sources["x_centroid"] - 255.5)
    assert np.abs(moved - pair.sky.data).max() > 0.1 * pair.sky.data.max()


def test_dirty_images_show_the_sources(pairs):
    """Brightest at the source that is: the dirty image is on the same pixels."""
    for pair in (pairs[1], pairs[3]):  # the others have none that stands out of the noise
        brightest = pair.sources[np.argmax(pair.sources["flux"])]
        y, x = np.unravel_index(np.nanargmax(pair.dirty.data), pair.dirty.shape)
        assert np.hypot(x - brightest["x_centroid"], y - brightest["y_centroid"]) < 3


def test_published_mask_is_that_of_the_primary_beam(pairs):
    """NaN where the beam of a 12 m dish at 230 GHz, centred on the phase centre, is below 0.2."""
    y, x = np.indices((512, 512)) - 256
    diameter, blockage = KNOWN_DISHES["ALMA"]
    gain = airy_primary_beam(
        np.hypot(x, y) * 0.1, frequency=230e9, diameter=diameter, blockage=blockage
    )
    for pair in pairs:
        assert gain[~pair.dirty.mask].min() == pytest.approx(0.2, abs=0.005)
        assert gain[pair.dirty.mask].max() == pytest.approx(0.2, abs=0.005)


def test_ready_for_predict(pairs):
    """Beam, frequency and telescope are known: nothing warns."""
    prepared = prepare_observation(pairs[0].dirty, pixels_per_beam=4.25, stride=4)
    assert prepared.rms[0, 0] == pytest.approx(4.7e-5, rel=0.05)
    assert pairs[0].dirty.unit == u.Jy / u.beam
    assert pairs[0].sky.meta["kernel_fwhm"] == 0 * u.arcsec


def test_shared_noise(pairs):
    """Pointings of nearly one declination carry the same noise (0.98 and more)."""
    inner = np.hypot(*(np.indices((512, 512)) - 256)) < 110
    for one, other in ((pairs[0], pairs[1]), (pairs[2], pairs[3])):
        seen = ~one.dirty.mask & ~inner
        assert np.corrcoef(one.dirty.data[seen], other.dirty.data[seen])[0, 1] > 0.95


def test_beam_can_be_given(data_dir):
    pair = next(read_drozdova2024(data_dir / "d24", beam=0.85 * u.arcsec))
    assert pair.dirty.meta["beam"].major == 0.85 * u.arcsec


# The layout


@pytest.fixture
def folder(tmp_path):
    """Two small pairs in the published layout, with two and with no sources."""
    rng = np.random.default_rng(4)
    wcs_rows = {KEYS[0]: [], KEYS[1]: []}
    skies = {KEYS[0]: np.zeros(SHAPE), KEYS[1]: np.zeros(SHAPE)}
    for name in ("dirty", "true"):
        (tmp_path / name).mkdir()
    x, y = np.array([12.3, 4.0]), np.array([-7.1, -7.0])  # close enough to touch
    flux, major, minor = np.array([1e-3, 4e-4]), np.array([0.9, 0.8]), np.array([0.5, 0.4])
    sources = SourceList(x, y, flux, major / 0.1, minor / 0.1, np.radians([30.0, 110.0]))
    skies[KEYS[0]] = render_sources(sources, [0, 0], 1, SHAPE)[0].numpy()
    for k in range(2):
        row = [150 - x[k] * 0.1 / 3600, y[k] * 0.1 / 3600, flux[k] / 5e-5, 3.0, flux[k]]
        wcs_rows[KEYS[0]].append([*map(np.float64, row), float(minor[k]), float(major[k])])
    for place, key in enumerate(KEYS):
        noise = rng.normal(0, 5e-5, SHAPE).astype(np.float32)
        np.save(tmp_path / "dirty" / f"{place:05d}.npy", noise)
        np.save(tmp_path / "true" / f"{place:05d}.npy", skies[key].astype(np.float32))
    np.save(tmp_path / "sky_keys.npy", np.array(KEYS))
    centres = {np.str_(key): {"RA": 150.0, "DEC": np.float64(0)} for key in KEYS}
    np.save(tmp_path / "ra_dec.npy", centres)
    np.save(tmp_path / "sky_sources_snr_extended.npy", wcs_rows)
    return tmp_path


def test_layout(folder):
    """Positions as they were put; angles, which no file gives, to half a degree."""
    first, second = read_drozdova2024(str(folder))
    assert isinstance(first, PublishedPair)
    assert [first.key, second.key] == KEYS
    assert_allclose(first.sources["x_centroid"], [48 + 12.3, 48 + 4.0], atol=1e-3)
    assert_allclose(first.sources["y_centroid"], [48 - 7.1, 48 - 7.0], atol=1e-3)
    assert_allclose(first.sources["pa"].to_value(u.deg), [30, 110], atol=0.5)
    assert_allclose(first.sources["major"].to_value(u.arcsec), [0.9, 0.8])
    assert_allclose(first.sources["flux"].to_value(u.mJy), [1.0, 0.4])
    assert_allclose(draw(first), first.sky.data, atol=0.01 * first.sky.data.max())
    centre = first.dirty.wcs.pixel_to_world(48, 48).transform_to(FK5())
    assert centre.ra.deg == pytest.approx(150)
    assert len(second.sources) == 0
    assert second.sources["flux"].unit == u.Jy


def test_pairs_are_read_one_at_a_time(folder):
    pairs = read_drozdova2024(folder)
    (folder / "dirty" / "00001.npy").write_bytes(b"not an array")
    assert next(pairs).key == KEYS[0]
    with pytest.raises(ValueError, match="00001.npy is not readable"):
        next(pairs)


@pytest.mark.parametrize(
    "name", ["sky_keys.npy", "ra_dec.npy", "sky_sources_snr_extended.npy", "dirty/00001.npy"]
)
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name.split("/")[-1]):
        read_drozdova2024(folder)


def test_keys_without_entries(folder):
    np.save(folder / "ra_dec.npy", {KEYS[0]: {"RA": 1.0, "DEC": 2.0}, KEYS[1]: {"RA": "x"}})
    with pytest.raises(ValueError, match="ra_dec.npy has no phase centre .* of the key b-2"):
        read_drozdova2024(folder)
    np.save(folder / "ra_dec.npy", {key: {"RA": 1.0, "DEC": 2.0} for key in KEYS})
    np.save(folder / "sky_sources_snr_extended.npy", {KEYS[0]: [[1.0, 2.0]], KEYS[1]: []})
    with pytest.raises(ValueError, match="no rows of 7 numbers .* of the key a-1"):
        read_drozdova2024(folder)


def test_shapes_that_differ(folder):
    np.save(folder / "true" / "00000.npy", np.zeros((90, 96)))
    with pytest.raises(ValueError, match=r"shape \(90, 96\); expected that of the dirty image"):
        next(read_drozdova2024(folder))


def test_pickled_image_is_refused(folder):
    np.save(folder / "true" / "00000.npy", np.array([Trap(folder / "sprung")], dtype=object))
    with pytest.raises(ValueError, match="00000.npy is not readable"):
        next(read_drozdova2024(folder))
    assert not (folder / "sprung").exists()


# Pickled dictionaries


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50)
@given(value=st.dictionaries(st.text(), plain))
def test_plain_values(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "plain.npy"
    np.save(path, value)
    assert load_plain_pickle(path) == value


@pytest.mark.parametrize("protocol", range(2, 6))
def test_numpy_scalars(tmp_path, protocol):
    """Of all kinds, written by any NumPy of the last decade; they come as Python's."""
    kinds = (np.float64, np.float32, np.float16, np.int8, np.uint64, np.bool_, np.str_)
    values = {"list": [kind(1) for kind in kinds], "big": np.array([2.5], dtype=">f8")[0]}
    path = tmp_path / "scalars.npy"
    array = np.empty((), dtype=object)
    array[()] = values
    with path.open("wb") as stream:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(stream, header)
        text = pickle.dumps(array, protocol=protocol)
        if protocol == 3:  # as NumPy 1 names it
            text = text.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        stream.write(text)
    if protocol == 2:  # before bytes, which are pickled as calls
        with pytest.raises(ValueError, match="asks for _codecs.encode"):
            load_plain_pickle(path)
        return
    found = load_plain_pickle(path)
    assert found == {"list": [1.0, 1.0, 1.0, 1, 1, True, "1"], "big": 2.5}
    assert {type(item) for item in found["list"]} == {float, int, bool, str}


@pytest.mark.parametrize("wrapped", [lambda t: {"a": t}, lambda t: t, lambda t: {"a": [[t]]}])
def test_code_is_not_run(tmp_path, wrapped):
    np.save(tmp_path / "trap.npy", np.array(wrapped(Trap(tmp_path / "sprung")), dtype=object))
    with pytest.raises(ValueError, match=r"trap.npy asks for (posix|nt).mkdir; expected dict"):
        load_plain_pickle(tmp_path / "trap.npy")
    assert not (tmp_path / "sprung").exists()


def save_text(path, text):
    """A pickle of our own making as the object of an array file."""
    with path.open("wb") as stream:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "asks for os.system"),
        (b"(S'true'\nios\nsystem\n.", "asks for os.system"),
        (b"(cos\nsystem\nS'true'\no.", "asks for os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "asks for builtins.eval"),
        (b"cnumpy\nload\n(S'other.npy'\ntR.", "asks for numpy.load"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "asks for numpy.core.multiarray.fromfile"),
        (b"cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR.", "asks for the dtype 'V8'"),
        (b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.", "not readable"),
        (b"Pid\n.", "not readable"),
        (b"}.", "not readable"),
        (b"cnumpy\nndarray\n(tR.", "not readable"),
        (b"\x80\x04}", "not readable"),
        (b"", "not readable"),
    ],
)
def test_forged_pickles(tmp_path, text, message):
    save_text(tmp_path / "forged.npy", text)
    with pytest.raises(ValueError, match=message):
        load_plain_pickle(tmp_path / "forged.npy")


def test_small_files_with_much_in_them(tmp_path):
    """A list in itself, and one that doubles at every level."""
    endless, wide = [], [1]
    endless.append(endless)
    for _ in range(60):
        wide = [wide, wide]
    for value in (endless, wide):
        array = np.empty((), dtype=object)
        array[()] = {"a": value}
        save_text(tmp_path / "deep.npy", pickle.dumps(array, protocol=4))
        assert (tmp_path / "deep.npy").stat().st_size < 2000
        with pytest.raises(ValueError, match="nested deeper than 12 levels"):
            load_plain_pickle(tmp_path / "deep.npy")


@pytest.mark.parametrize("value", [{"a": np.datetime64(5, "D")}, {"a": 1j}, {"a": {1, 2}}])
def test_values_that_are_not_plain(tmp_path, value):
    np.save(tmp_path / "odd.npy", value)
    with pytest.raises(ValueError, match="odd.npy .*(asks for|holds a set)"):
        load_plain_pickle(tmp_path / "odd.npy")


def test_other_files(tmp_path):
    np.save(tmp_path / "numbers.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"holds an array \(3,\) of float64"):
        load_plain_pickle(tmp_path / "numbers.npy")
    np.save(tmp_path / "dict.npy", {"a": [1.0] * 50})
    whole = (tmp_path / "dict.npy").read_bytes()
    for length in (3, 100, 140, len(whole) - 1):
        (tmp_path / "cut.npy").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut.npy is not readable"):
            load_plain_pickle(tmp_path / "cut.npy")
    with pytest.raises(FileNotFoundError):
        load_plain_pickle(tmp_path / "none.npy")


def test_reader_agrees_with_numpy(data_dir):
    """On files that are trusted."""
    for name in ("ra_dec.npy", "sky_sources_snr_extended.npy"):
        path = data_dir / "d24" / name
        expected = np.load(path, allow_pickle=True).item()
        found = load_plain_pickle(path)
        assert found == expected
        assert all(type(key) is str for key in found)
    rows = load_plain_pickle(data_dir / "d24" / "sky_sources_snr_extended.npy")
    assert_array_equal([len(row) for table in rows.values() for row in table], 7)
