"""Training pairs: repeatable, independent, and what they say they are."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from diffsky.deconvolution.scaling import WorkingScale
from diffsky.instrument import Instrument, grid_uv, load_psf_bank
from diffsky.simulation.pairs import SimulatedPairs
from diffsky.simulation.skymodels import PRIORS, SkyPrior

ARCSEC = np.pi / 180 / 3600
FIELD, N = 32, 128
EMPTY = SkyPrior(n_sources=(0, 0), relative=True)
BRIGHT = SkyPrior(
    n_sources=(1, 1), flux=(100.0, 100.0), fwhm=(0.0, 0.0), half_width=2.0, relative=True
)


def make_weights(seed=0, stretch=(0.08, 0.08), angle=0.0):
    """Weights of random uv points, for a beam of about 4.25 pixels."""
    points = np.random.default_rng(seed).normal(0, stretch, (400, 2))
    cos, sin = np.cos(angle), np.sin(angle)
    uv = np.clip(points @ [[cos, sin], [-sin, cos]], -0.3, 0.3) / ARCSEC
    gridded = grid_uv(uv, pixel_scale=1.0, grid_size=N)
    return torch.from_numpy((gridded / gridded.max()).astype(np.float32))


BANK = torch.stack([make_weights(k) for k in range(3)])


def make_pairs(prior=None, **options):
    options = {"weights": BANK, "field_size": FIELD, "patch_size": 16, "pblimit": 0.0, **options}
    if prior is not None:
        options["priors"] = [(prior, 1.0)]
    return SimulatedPairs(**options)


def dirty_images(pairs, n, start=0):
    _, condition = pairs.batch(range(start, start + n))
    return condition[:, 0] * pairs.scale.dirty_unit


@pytest.fixture(params=[1, 2], ids=["one by one", "all at once"])
def version(request):
    return request.param


def test_noise_weights_decide_the_noise_alone(version):
    """Short baselines make noise that stays alike over more pixels; without them, the weights."""

    def likeness(**weights):
        images = dirty_images(make_pairs(EMPTY, patch_size=None, version=version, **weights), 80)
        assert images.std().item() == pytest.approx(1, abs=0.1)
        return (images[:, :, 4:] * images[:, :, :-4]).mean().item()

    narrow, wide = make_weights(1, stretch=(0.03, 0.03))[None], BANK[:1]
    expected, other = likeness(weights=narrow), likeness(weights=wide)
    assert expected > other + 0.2
    assert likeness(weights=wide, noise_weights=narrow) == pytest.approx(expected, abs=0.06)
    with pytest.raises(ValueError, match="noise_weights have shape .*; expected that of weights"):
        make_pairs(weights=wide, noise_weights=BANK)


def test_bundled_bank(version):
    """Noise of every entry has the rms and, of Briggs weights too, the power that it should."""
    bank = load_psf_bank().select([0, 1])
    assert set(bank.columns["weighting"]) == {"natural", "briggs"}
    options = {"priors": [(EMPTY, 1.0)], "patch_size": None, "pblimit": 0.0, "version": version}
    ones = torch.ones(128, 128)
    for row in (0, 1):
        one = bank.select([row])
        noise = dirty_images(SimulatedPairs.from_bank(one, **options), 24)
        assert noise.std().item() == pytest.approx(1, abs=0.03)
        expected = Instrument(one.noise_weights[0], ones, 1.0).psf((9, 9))[4, 4:]
        n = noise.shape[-1]
        for shift in range(1, 5):
            alike = (noise[:, :, shift:] * noise[:, :, : n - shift]).mean().item()
            assert alike == pytest.approx(expected[shift].item(), abs=0.03)
    mixed = SimulatedPairs.from_bank(bank, priors=[(PRIORS["general"], 1.0)], version=version)
    assert all(torch.isfinite(part).all() for part in mixed.batch(range(8)))


def test_training_in_bfloat16_changes_no_pair(version):
    """Networks are trained under autocast, and the pairs are made there."""
    pairs = make_pairs(PRIORS["general"], version=version)
    expected = pairs.batch(range(6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(pairs.batch(range(6)), expected, rtol=0, atol=0)


def test_prior_by_its_name():
    with pytest.raises(TypeError, match="a prior is 'general'; expected a Prior"):
        SimulatedPairs(BANK, priors=[("general", 1.0)])


def test_field_larger_than_the_uv_grid():
    with pytest.raises(ValueError, match="field_size is 129; expected 1 to 128, the side"):
        make_pairs(field_size=129)


def test_shapes(version):
    target, condition = make_pairs(version=version).batch([3, 1, 4])
    assert target.shape == (3, 1, 16, 16)
    assert condition.shape == (3, 2, 16, 16)
    assert target.dtype == condition.dtype == torch.float32
    target, condition = make_pairs(patch_size=None, version=version).batch([0])
    assert target.shape == (1, 1, FIELD, FIELD)
    assert len(make_pairs()) == 0


@settings(max_examples=15)
@given(
    numbers=st.lists(st.integers(0, 200), min_size=1, max_size=6, unique=True),
    version=st.sampled_from([1, 2]),
)
def test_pair_does_not_depend_on_the_batch(numbers, version):
    pairs = make_pairs(PRIORS["general"], version=version)
    target, condition = pairs.batch(numbers)
    for place, number in enumerate(numbers):
        alone = pairs.batch([number])
        assert_close(target[place], alone[0][0], rtol=1e-5, atol=1e-5)
        assert_close(condition[place], alone[1][0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("version", [1, 2])
def test_more_pairs_than_are_made_at_once(version):
    pairs = make_pairs(version=version)
    target, condition = pairs.batch(range(40))
    alone = pairs.batch([37])
    assert_close(target[37], alone[0][0], rtol=1e-5, atol=1e-5)
    assert_close(condition[37], alone[1][0], rtol=1e-5, atol=1e-5)


def test_repeatable(version):
    options = {"version": version}
    one, other = (make_pairs(seed=4, **options).batch([5, 6]) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[1], make_pairs(seed=5, **options).batch([5, 6])[1])


def test_pairs_of_a_seed_never_change():
    """Sums and noise of the pairs that weights were trained on."""
    priors = [(PRIORS["independent"].in_units_of(48e-6, 0.854), 0.6), (PRIORS["wide"], 0.4)]
    pairs = make_pairs(priors=priors, pblimit=0.2, seed=1, version=1)
    target, condition = pairs.batch(range(5))
    sums = [18.723583040293306, 15.277194212190807, 0.0, 5.891626201570034, 0.0]
    rms = [0.45173216954508233, 0.3078232588794433, 0.36196940487209367]
    assert target.double().sum((1, 2, 3)).tolist() == pytest.approx(sums, rel=1e-4)
    assert condition[:3, 0].double().std((1, 2)).tolist() == pytest.approx(rms, rel=1e-4)
    beam = [0.9981908202171326, 0.9945541620254517, 0.9943448901176453]
    assert condition[:3, 1, 3, 5].tolist() == pytest.approx(beam, rel=1e-5)
    dirty = [-0.15777917206287384, 0.28148341178894043, 0.8250768184661865]
    assert condition[:3, 0, 3, 5].tolist() == pytest.approx(dirty, rel=1e-3)


def test_description(version):
    pairs = make_pairs(PRIORS["general"], version=version)
    described = pairs.describe()
    assert described["version"] == version
    assert described["largest_flux"] == 1000
    assert described["priors"][0]["kind"] == "general"
    assert make_pairs().describe()["largest_flux"] == 150
    json.dumps(described)


def test_global_random_state_has_no_say(version):
    pairs = make_pairs(version=version)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    one = pairs.batch([0])
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert torch.equal(one[1], pairs.batch([0])[1])


# Noise


def test_noise_of_unit_rms(version):
    """Whatever the instrument, dirty images without sources are in units of the rms."""
    dirty = dirty_images(make_pairs(EMPTY, version=version), 600)
    assert dirty.std().item() == pytest.approx(1, abs=0.02)
    assert dirty.mean().item() == pytest.approx(0, abs=0.05)
    options = {"version": version}
    each = [
        dirty_images(make_pairs(EMPTY, weights=BANK[k : k + 1], **options), 300).std()
        for k in range(3)
    ]
    assert each == pytest.approx([1, 1, 1], abs=0.03)


def test_every_pair_has_its_own_noise(version):
    dirty = dirty_images(make_pairs(EMPTY, patch_size=None, version=version), 40).flatten(1)
    correlation = torch.corrcoef(dirty)
    correlation.fill_diagonal_(0)
    # some 32 * 32 / 20 independent values an image: a spread of 0.14
    assert correlation.abs().max() < 0.7
    assert correlation.square().mean().sqrt() < 0.25
    assert correlation.mean().abs() < 0.02


def test_noise_is_not_that_of_the_same_pair_of_another_seed(version):
    options = {"patch_size": None, "version": version}
    one, other = (dirty_images(make_pairs(EMPTY, seed=s, **options), 20) for s in (0, 1))
    together = torch.stack([one.flatten(), other.flatten()])
    assert torch.corrcoef(together)[0, 1].abs() < 0.1


# Signal


def test_target_is_the_sky_of_the_dirty_image(version):
    """Dirty image and target show one source at one place: patch, flip and rotation alike."""
    pairs = make_pairs(BRIGHT, patch_size=24, version=version)
    target, condition = pairs.batch(range(60))
    sky = pairs.scale.unscale_target(target)[:, 0]
    inside = sky.amax((1, 2)) > 5
    inside &= (sky[:, 2:-2, 2:-2].amax((1, 2)) == sky.amax((1, 2))).bool()
    assert inside.sum() > 30
    places = [image.flatten(1).argmax(1)[inside] for image in (sky, condition[:, 0])]
    (y1, x1), (y2, x2) = ((place // 24, place % 24) for place in places)
    assert ((y1 - y2).abs() <= 1).all()
    assert ((x1 - x2).abs() <= 1).all()


def test_fluxes(version):
    """Whole fields: the target sums to flux x primary beam, the dirty peak is near it."""
    pairs = make_pairs(BRIGHT, patch_size=None, version=version)
    target, condition = pairs.batch(range(30))
    sky = pairs.scale.unscale_target(target)[:, 0]
    flux = sky.sum((1, 2))
    response = (sky * condition[:, 1]).sum((1, 2)) / flux
    assert_close(flux, 100 * response, rtol=0.03, atol=0.1)
    peak = condition[:, 0].amax((1, 2)) * pairs.scale.dirty_unit
    strong = flux > 30
    assert strong.sum() > 15
    assert ((peak - flux).abs()[strong] < 5 + 0.05 * flux[strong]).all()


def test_primary_beam(version):
    _, condition = make_pairs(EMPTY, patch_size=None, version=version).batch(range(60))
    beam = condition[:, 1]
    assert beam.min() >= 0
    assert beam.max() <= 1
    flat = (beam == 1).all(-1).all(-1)
    assert 1 <= flat.sum() < 20
    assert len({b.min().item() for b in beam[~flat]}) > 30


def test_no_data_below_the_limit(version):
    pairs = make_pairs(patch_size=None, pblimit=0.9, version=version)
    target, condition = pairs.batch(range(40))
    blank = condition[:, 1] == 0
    assert 0 < blank.float().mean() < 1
    assert (condition[:, 1][~blank] > 0.9).all()
    assert not condition[:, 0][blank].any()
    assert not target[:, 0][blank].any()


# Patches, flips and turns


def orientations(pairs, n):
    """Angle modulo 180 deg along which each dirty image varies fastest."""
    power = torch.fft.fft2(dirty_images(pairs, n)).abs() ** 2
    frequency = torch.fft.fftfreq(power.shape[-1])
    ky, kx = frequency[:, None], frequency[None, :]
    tensor = [(power * a * b).sum((1, 2)) for a, b in ((kx, kx), (ky, ky), (kx, ky))]
    return torch.rad2deg(0.5 * torch.atan2(2 * tensor[2], tensor[0] - tensor[1])) % 180


def test_turns_and_flips(version):
    """A beam at 30 deg comes out at 30, 60, 120 and 150 deg, all equally often."""
    weights = make_weights(stretch=(0.1, 0.02), angle=np.deg2rad(30))[None]
    options = {"patch_size": None, "version": version}
    angles = orientations(make_pairs(EMPTY, weights=weights, **options), 200)
    nearest = torch.tensor([30.0, 60.0, 120.0, 150.0])
    distance = (angles[:, None] - nearest).abs()
    assert (distance.amin(1) < 12).float().mean() > 0.95
    counts = torch.bincount(distance.argmin(1), minlength=4)
    assert counts.min() > 30


def test_patches_come_from_all_over_the_field(version):
    """The centre of the primary beam lies anywhere in and around a patch."""
    _, condition = make_pairs(EMPTY, patch_size=8, version=version).batch(range(200))
    beam = condition[:, 1]
    slopes = torch.stack(
        [beam[:, -1].mean(1) - beam[:, 0].mean(1), beam[:, :, -1].mean(1) - beam[:, :, 0].mean(1)]
    )
    assert (slopes > 0.001).any(1).all()
    assert (slopes < -0.001).any(1).all()


def test_every_instrument_is_used(version):
    """Instruments whose beams have different widths: the noise has different slopes."""
    bank = torch.stack([make_weights(stretch=(s, s)) for s in (0.03, 0.12)])
    options = {"patch_size": None, "version": version}
    dirty = dirty_images(make_pairs(EMPTY, weights=bank, **options), 100)
    slope = (dirty.diff(dim=-1).var((1, 2)) / dirty.var((1, 2))).log()
    wide = slope < (slope.min() + slope.max()) / 2
    assert 30 < wide.sum() < 70
    assert slope[~wide].min() - slope[wide].max() > 0.5


# Priors


def test_shares(version):
    priors = [(EMPTY, 3.0), (BRIGHT, 1.0)]
    target, _ = make_pairs(priors=priors, patch_size=None, version=version).batch(range(300))
    empty = (target == 0).flatten(1).all(1).float().mean().item()
    assert empty == pytest.approx(0.75, abs=0.1)


def test_scale(version):
    scale = WorkingScale(unit=4.0, gamma=1.0, dirty_unit=1.5)
    options = {"version": version}
    ours, default = make_pairs(BRIGHT, scale=scale, **options), make_pairs(BRIGHT, **options)
    (target, condition), (expected, usual) = (p.batch(range(4)) for p in (ours, default))
    assert_close(scale.unscale_target(target), default.scale.unscale_target(expected))
    assert_close(condition[:, 0] * 1.5, usual[:, 0] * default.scale.dirty_unit)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"priors": [(PRIORS["independent"], 1.0)]},
            "a prior is in Jy and arcsec; expected .*units",
        ),
        ({"patch_size": 33}, "patch_size is 33; expected 1 to field_size 32"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"weights": BANK[0]}, "weights"),
        ({"priors": []}, "prior"),
        ({"version": 3}, "version is 3; expected 1 or 2"),
        ({"priors": [(EMPTY, 0.0)]}, "share"),
        ({"priors": [(EMPTY, -1.0), (BRIGHT, 2.0)]}, "share"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_pairs(**options)


def test_description_tells_what_the_psfs_hold():
    pairs = make_pairs()
    y, x = (np.arange(n) - n // 2 for n in (81, 81))
    near = np.hypot(y[:, None], x) < 2 * pairs.scale.pixels_per_beam
    area = np.pi * pairs.scale.pixels_per_beam**2 / (4 * np.log(2))
    contents = []
    for weights in pairs.weights:
        psf = Instrument(weights, torch.ones(41, 41), 1.0).psf((81, 81)).numpy()
        contents.append(psf[near].sum() / psf.max() / area)
    described = pairs.describe()["psf_content"]
    assert described == pytest.approx([min(contents), max(contents)], abs=2e-3)
