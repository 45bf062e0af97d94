"""Training on stored pairs: what the network sees of them."""

import json
import runpy
import time
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.coordinates import Angle
from astropy.nddata import CCDData
from astropy.wcs.utils import pixel_to_skycoord
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from diffsky.deconvolution import WorkingScale
from diffsky.deconvolution.observation import prepare_observation
from diffsky.exceptions import DiffskyWarning
from diffsky.simulation import PairDataset, PairStore, SkyPrior, SourceList, render_sources

HELPER = runpy.run_path(str(Path(__file__).with_name("small_pairs.py")))
make_pair, CELL, PBLIMIT = HELPER["make_pair"], HELPER["CELL"], HELPER["PBLIMIT"]
N = 5
WIDE = SkyPrior(n_sources=(3, 3), flux=(1e-3, 2e-3), fwhm=(0.6, 1.4), half_width=3.0)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    store = PairStore(tmp_path_factory.mktemp("pairs") / "store")
    for number in range(N):
        store.write(number * 10, make_pair(number, pwv=1.0 + number, array="alma.cycle5.3"))
    return store.path


def whole(path_or_pair, tmp_path=None, **options):
    """Target in rms, dirty image in rms and primary beam of the first pair, the whole field."""
    if tmp_path is not None:
        store = PairStore(tmp_path / f"one-{len(list(tmp_path.iterdir()))}")
        store.write(0, path_or_pair)
        path_or_pair = store
    pairs = PairDataset(path_or_pair, augment=False, patch_size=64, **options)
    target, condition = pairs.batch([0])
    apparent = pairs.scale.unscale_target(target)[0, 0]
    return apparent.numpy(), condition[0, 0].numpy() * pairs.scale.dirty_unit, condition[0, 1]


def prepare(pair):
    return prepare_observation(
        pair.dirty, pixels_per_beam=4.25, stride=1, primary_beam=pair.primary_beam
    )


def middle(image, shape):
    """The field within a patch that is larger."""
    y, x = ((n - m) // 2 for n, m in zip(image.shape, shape, strict=True))
    return image[y : y + shape[0], x : x + shape[1]]


# What is seen


def test_shapes(path):
    pairs = PairDataset(path, patch_size=24)
    target, condition = pairs.batch([3, 0, 1, 7])
    assert target.shape == (4, 1, 24, 24)
    assert condition.shape == (4, 2, 24, 24)
    assert target.dtype == condition.dtype == torch.float32
    assert len(pairs) == N
    assert pairs.scale == WorkingScale()


def test_dirty_image_as_predict_sees_it(path):
    pair = make_pair(0)
    _, dirty, gain = whole(path)
    prepared = prepare(pair)
    shape = prepared.grid.working_shape
    assert shape == (53, 53) or max(shape) < 64
    assert_allclose(middle(dirty, shape), prepared.dirty_working, atol=1e-5)
    assert_allclose(middle(gain, shape), prepared.primary_beam_working, atol=1e-6)
    assert not dirty[: (64 - shape[0]) // 2].any()


def test_target_is_the_apparent_sky(tmp_path):
    """Flux and position of every source, seen through the primary beam, in rms."""
    pair = make_pair(0, prior=WIDE)
    prepared = prepare(pair)
    apparent, _, gain = whole(pair, tmp_path)
    gain = np.asarray(gain)
    true = np.divide(apparent, gain, out=np.zeros_like(apparent), where=gain > 0)
    rms = np.median(prepared.rms[prepared.valid])
    assert true.sum() * rms == pytest.approx(pair.sources["flux"].value.sum(), rel=1e-3)
    shape = prepared.grid.working_shape
    y, x = np.indices(shape)
    x, y = prepared.grid.to_image_pixels(x, y)
    true = middle(true, shape)
    for axis, name in ((x, "x_centroid"), (y, "y_centroid")):
        expected = np.average(pair.sources[name], weights=pair.sources["flux"].value)
        assert (true * axis).sum() / true.sum() == pytest.approx(expected, abs=0.01)


def test_target_explains_the_dirty_image(path):
    """Its peak is where the dirty image is bright, for every pair and every turn."""
    prior = SkyPrior(n_sources=(1, 1), flux=(5e-3, 5e-3), fwhm=(0.0, 0.0), half_width=2.0)
    store = PairStore(path.parent / "bright")
    for number in range(3):
        store.write(number, make_pair(number, prior=prior))
    pairs = PairDataset(store, patch_size=48)
    target, condition = pairs.batch(range(30))
    for image, dirty in zip(target[:, 0], condition[:, 0], strict=True):
        y, x = np.unravel_index(int(image.argmax()), image.shape)
        if image[y, x] > 0 and 2 <= y < 46 and 2 <= x < 46:
            assert dirty[y, x] == pytest.approx(float(dirty.max()), rel=0.05)
    assert (target.flatten(1).amax(1) > 0).sum() > 20


def test_no_data_below_the_limit(path):
    apparent, dirty, gain = whole(path, pblimit=0.5)
    assert gain[gain > 0].min() > 0.5
    assert not apparent[gain == 0].any()
    assert not dirty[gain == 0].any()


def without_table(pair, fwhm, **changes):
    """The same sky as an image alone, convolved with a Gaussian of a FWHM in arcsec."""
    offsets = {"x": "x_centroid", "y": "y_centroid"}
    columns = {one: (pair.sources[name] - 32) * CELL for one, name in offsets.items()}
    for name, unit in (("flux", u.Jy), ("major", u.arcsec), ("minor", u.arcsec), ("pa", u.rad)):
        columns[name] = pair.sources[name].to_value(unit)
    image = render_sources(
        SourceList(**columns), [0] * 3, 1, (64, 64), pixel=CELL, kernel_fwhm=fwhm / CELL
    )[0].numpy()
    meta = {"kernel_fwhm": fwhm * u.arcsec}
    sky = CCDData(image, unit="Jy/pix", wcs=pair.sky.wcs, meta=meta)
    return replace(pair, sky=sky, sources=pair.sources[:0], **changes)


@pytest.mark.parametrize("beams", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("pixels_per_beam", [3.4, 4.25, 6.1])
def test_sky_images_give_the_targets_of_their_tables(tmp_path, beams, pixels_per_beam):
    """Whatever they are convolved with, up to the kernel, and on working grids of any pixel."""
    pair = make_pair(1, prior=WIDE)
    fwhm = beams * float(np.sqrt(0.9 * 0.8))
    scale = WorkingScale(pixels_per_beam=pixels_per_beam, kernel_beams=0.48)
    expected = whole(pair, tmp_path, scale=scale)[0]
    found = whole(without_table(pair, fwhm), tmp_path, scale=scale)[0]
    assert_allclose(found, expected, atol=0.01 * expected.max())
    assert found.sum() == pytest.approx(expected.sum(), rel=2e-3)


def test_sky_image_of_points(tmp_path):
    """A pixel that is not convolved is a point: its target is the kernel, its flux kept."""
    pair = make_pair(2)
    image = np.zeros((64, 64), dtype=np.float32)
    image[30, 37] = 4e-3
    sky = CCDData(image, unit="Jy/pix", wcs=pair.sky.wcs, meta={"kernel_fwhm": 0 * u.arcsec})
    sources = pair.sources[:1]
    sources["flux"], sources["major"], sources["minor"] = 4 * u.mJy, 0 * u.deg, 0 * u.deg
    sources["sky_centroid"] = pixel_to_skycoord([37], [30], pair.sky.wcs)
    exact = whole(replace(pair, sources=sources), tmp_path)[0]
    assert_allclose(
        whole(replace(pair, sky=sky, sources=sources[:0]), tmp_path)[0],
        exact,
        atol=1e-4 * exact.max(),
    )


def test_sky_smoother_than_the_kernel(tmp_path):
    pair = without_table(make_pair(1, prior=WIDE), 0.6)
    message = "pair 0 of .*one-0: the sky is convolved with 0.6 arcsec; expected .* 0.339"
    with pytest.raises(ValueError, match=message):
        whole(pair, tmp_path)


def test_empty_field(tmp_path):
    pair = make_pair(1, prior=SkyPrior(n_sources=(0, 0)))
    apparent, dirty, _ = whole(pair, tmp_path)
    assert not apparent.any()
    assert dirty.std() > 0.3


def test_empty_field_whose_truth_was_drawn_smoother(tmp_path):
    """As CASA's pairs have it where there are few pixels in a beam."""
    pair = make_pair(1, prior=SkyPrior(n_sources=(0, 0)))
    sky = CCDData(np.zeros(pair.sky.shape), unit=pair.sky.unit, wcs=pair.sky.wcs)
    sky.meta["kernel_fwhm"] = 0.8 * pair.beam.major
    apparent, _, _ = whole(replace(pair, sky=sky), tmp_path)
    assert not apparent.any()
    assert PairDataset(tmp_path / "one-0").describe()["largest_flux"] == 0


@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_images(tmp_path, mirrored):
    """Angles are those on the sky, whichever way the axes of an image run."""
    pair = without_table(make_pair(1, prior=WIDE), 0.0)
    table = make_pair(1, prior=WIDE).sources
    wcs = pair.sky.wcs.deepcopy()
    turn = np.deg2rad(35)
    wcs.wcs.pc = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    if mirrored:
        wcs.wcs.cdelt = [CELL / 3600, CELL / 3600]
    wcs.wcs.set()
    # the major axis on the sky, from two points along it in the image
    x, y = (np.asarray(table[name]) for name in ("x_centroid", "y_centroid"))
    pa = table["pa"].to_value(u.rad)
    table["sky_centroid"] = pixel_to_skycoord(x, y, wcs)
    ahead = pixel_to_skycoord(x - np.sin(pa), y + np.cos(pa), wcs)
    table["pa"] = Angle(table["sky_centroid"].position_angle(ahead)).to(u.deg)
    meta = {"beam": pair.beam, "frequency": 230 * u.GHz}
    dirty = CCDData(pair.dirty.data, unit="Jy/beam", wcs=wcs, mask=pair.dirty.mask, meta=meta)
    sky = CCDData(pair.sky.data, unit="Jy/pix", wcs=wcs, meta=pair.sky.meta)
    gain = CCDData(pair.primary_beam.data, unit="", wcs=wcs)
    changes = {"dirty": dirty, "sky": sky, "primary_beam": gain}
    expected = whole(replace(pair, **changes), tmp_path)[0]
    found = whole(replace(pair, **changes, sources=table), tmp_path)[0]
    assert_allclose(found, expected, atol=2e-3 * expected.max())


def test_disks(tmp_path):
    """A table with shapes: a disk is not the Gaussian of the same axes."""
    pair = make_pair(1, prior=WIDE)
    pair.sources["shape"] = ["disk", "gaussian", "ring"]
    disks = whole(pair, tmp_path)[0]
    pair.sources["shape"] = "gaussian"
    gaussians = whole(pair, tmp_path)[0]
    assert disks.sum() == pytest.approx(gaussians.sum(), rel=0.02)
    assert np.abs(disks - gaussians).max() > 0.05 * gaussians.max()
    pair.sources["shape"] = "square"
    with pytest.raises(ValueError, match=r"shapes \['square'\]; expected some of"):
        whole(pair, tmp_path)


# Patches


@settings(max_examples=15)
@given(numbers=st.lists(st.integers(0, 200), min_size=1, max_size=6))
def test_pair_does_not_depend_on_the_batch(shared, numbers):
    target, condition = shared.batch(numbers)
    for place, number in enumerate(numbers):
        alone = shared.batch([number])
        assert torch.equal(target[place], alone[0][0])
        assert torch.equal(condition[place], alone[1][0])


@pytest.fixture(scope="module")
def shared(path):
    return PairDataset(path, patch_size=16)


def test_repeatable(path):
    one, other = (PairDataset(path, patch_size=16, seed=3).batch(range(20)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[1], PairDataset(path, patch_size=16, seed=4).batch(range(20))[1])


def test_epochs_differ(shared):
    """The same pair, cut, flipped and turned anew."""
    _, condition = shared.batch([2 + N * epoch for epoch in range(10)])
    different = {condition[k].numpy().tobytes() for k in range(10)}
    assert len(different) == 10


def test_patches_are_patches_of_the_field(path):
    """In all eight orientations, from all over it."""
    field = np.stack(whole(path)[1:])
    field[0] /= WorkingScale().dirty_unit
    small = PairDataset(path, patch_size=53)
    _, condition = small.batch([N * epoch for epoch in range(60)])
    shape = prepare(make_pair(0)).grid.working_shape
    field = np.stack([middle(one, shape) for one in field])
    windows = np.lib.stride_tricks.sliding_window_view(field, (53, 53), axis=(1, 2))
    found = set()
    for patch in condition:
        for flip in (False, True):
            for turn in range(4):
                back = torch.rot90(patch, -turn, (-2, -1))
                back = (back.flip(-1) if flip else back).numpy()
                match = np.abs(windows - back[:, None, None]).max(axis=(0, 3, 4)) < 1e-5
                if match.any():
                    found.add((flip, turn, *np.argwhere(match)[0].tolist()))
    assert len({key[:2] for key in found}) == 8
    assert len({key[2:] for key in found}) == np.prod(np.array(windows.shape[1:3]))


def test_without_augmentation(path):
    pairs = PairDataset(path, patch_size=16, augment=False)
    one, other = pairs.batch([1]), pairs.batch([1 + N])
    assert torch.equal(one[1], other[1])
    larger = PairDataset(path, patch_size=64, augment=False).batch([1])
    shape = prepare(make_pair(1)).grid.working_shape
    expected = middle(middle(larger[1][0, 0].numpy(), shape), (16, 16))
    assert_allclose(one[1][0, 0], expected, atol=1e-6)


# Memory


def test_cache(path):
    """Its size changes nothing but the time; it holds what was used last."""
    pairs = PairDataset(path, patch_size=16, cache_bytes=0)
    field = 3 * 4 * np.prod(prepare(make_pair(0)).grid.working_shape)
    small = PairDataset(path, patch_size=16, cache_bytes=int(2.5 * field))
    large = PairDataset(path, patch_size=16)
    numbers = [0, 1, 2, 0, 4, 3, 0, 0, 1]
    batches = [one.batch(numbers) for one in (pairs, small, large)]
    for target, condition in batches[1:]:
        assert torch.equal(target, batches[0][0])
        assert torch.equal(condition, batches[0][1])
    reads = []
    for one in (pairs, small, large):
        read = one.store.read
        one.store.read = lambda number, read=read: reads.append(number) or read(number)
    for one, expected in ((pairs, [0, 10, 0]), (small, [10]), (large, [])):
        reads.clear()
        one.batch([0, 0, 1, 0] if one is small else [0, 1, 0])
        assert len(reads) <= len(expected)
        assert (one is not pairs) or reads == expected


def test_speed_of_a_batch(path):
    """32 patches of fields in memory take less than 50 ms of one processor."""
    pairs = PairDataset(path)
    times = []
    for epoch in range(10):
        start = time.process_time()
        pairs.batch(range(epoch * 32, epoch * 32 + 32))
        times.append(time.process_time() - start)
    assert min(times) < 0.05


# Description, damage, refusals


def test_description(path):
    description = PairDataset(path, seed=2).describe()
    assert json.loads(json.dumps(description)) == description
    assert str(path) not in json.dumps(description)
    assert description["pairs"] == N
    assert description["varied"] == {"pwv": [1.0, 5.0], "seed": [0, 4]}
    assert description["seed"] == 2
    pairs = [make_pair(number) for number in range(N)]
    rms = np.array([np.median(prepare(pair).rms) for pair in pairs])
    fluxes = []
    for pair in pairs:
        x, y = (np.rint(pair.sources[name]).astype(int) for name in ("x_centroid", "y_centroid"))
        fluxes.append((pair.sources["flux"].value * pair.primary_beam.data[y, x]).max())
    assert description["largest_flux"] == pytest.approx((fluxes / rms).max(), rel=0.02)


def test_many_values_are_counted(tmp_path):
    store = PairStore(tmp_path)
    for number in range(12):
        varied = {"name": f"field {number}", "kind": number % 2 == 0, "sky": f"/home/me/{number}"}
        store.write(number, make_pair(0, noise=number, size=32, **varied))
    varied = PairDataset(store, patch_size=16).describe()["varied"]
    assert varied == {"kind": [False, True], "name": 12}


def test_damaged_pairs_take_no_part(tmp_path):
    store = PairStore(tmp_path / "store")
    for number in range(4):
        store.write(number, make_pair(number, size=32))
    (store.path / "pairs" / "00000002" / "sky" / "zarr.json").unlink()
    with pytest.warns(DiffskyWarning, match="1 of 4 pairs are damaged"):
        pairs = PairDataset(store.path, patch_size=16)
    assert len(pairs) == 3
    assert pairs.numbers == [0, 1, 3]
    assert pairs.batch(range(6))[0].shape[0] == 6
    with pytest.raises(ValueError, match="pair 2 of .* is damaged"):
        PairDataset(PairStore(store.path, verify=False), patch_size=16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 0}, "patch_size is 0; expected an int of 1 or more"),
        ({"patch_size": 8.0}, "patch_size is 8.0"),
        ({"seed": -1}, "seed is -1"),
        ({"cache_bytes": -1}, "cache_bytes is -1"),
        ({"pblimit": 0.05}, "pblimit is 0.05; expected 0.1 to 1"),
        ({"pblimit": 1.0}, "pblimit is 1.0"),
    ],
)
def test_refused(path, options, message):
    with pytest.raises(ValueError, match=message):
        PairDataset(path, **options)


def test_no_pairs(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no store"):
        PairDataset(tmp_path / "none")
    PairStore(tmp_path / "empty")
    with pytest.raises(ValueError, match="has no whole pair"):
        PairDataset(tmp_path / "empty")
