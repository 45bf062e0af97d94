"""Observations: noise, primary beam, masks, and refusals."""

import importlib.util

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from numpy.testing import assert_allclose, assert_array_equal

from diffsky.deconvolution.noise import estimate_rms
from diffsky.deconvolution.observation import fill_from_nearest, prepare_observation
from diffsky.exceptions import DiffskyWarning
from diffsky.images import write_image

SOURCES = [(40.3, 50.7, 0.02), (70.2, 30.1, 0.01)]
ALMA = {"telescope": "ALMA"}


def prepare(image, **options):
    options = {"primary_beam": 1.0, **options}
    return prepare_observation(image, pixels_per_beam=4.25, stride=8, **options)


@pytest.mark.parametrize("n", [0, 60])
@pytest.mark.parametrize("seed", [1, 2])
def test_rms_is_measured_with_sources(dirty, n, seed):
    rng = np.random.default_rng(seed)
    where = rng.uniform(10, 502, (n, 2))
    sources = [
        (x, y, s) for (x, y), s in zip(where, 1e-4 * 10 ** rng.uniform(0.5, 2, n), strict=True)
    ]
    image = dirty(sources, shape=(512, 512), rms=1e-4, seed=seed)
    true = image.data.std() if n == 0 else 1e-4
    assert_allclose(estimate_rms(image.data), true, rtol=0.02)
    assert_allclose(np.unique(prepare(image).rms), estimate_rms(image.data), rtol=1e-5)


def test_dirty_image_over_rms(dirty):
    image = dirty(SOURCES, rms=1e-4)
    prepared = prepare(image, rms=2e-4)
    assert prepared.grid.zoom == pytest.approx(1)
    assert prepared.dirty_working.dtype == np.float32
    assert_allclose(prepared.dirty_working, image.data / 2e-4, rtol=1e-4, atol=1e-3)
    assert_allclose(prepared.rms_working, 2e-4)
    assert_allclose(prepared.primary_beam_working, 1)


@pytest.mark.parametrize(
    "rms",
    [
        2e-4,
        0.2 * u.mJy / u.beam,
        np.full((96, 96), 2e-4),
        np.full((96, 96), 0.2) * u.mJy / u.beam,
        CCDData(np.full((96, 96), 0.2), unit="mJy/beam"),
    ],
    ids=["number", "quantity", "array", "quantity-array", "ccddata"],
)
def test_rms_in_every_form(dirty, rms):
    prepared = prepare(dirty(SOURCES), rms=rms)
    assert_allclose(prepared.rms, 2e-4)
    assert_allclose(prepared.rms_working, 2e-4)


def test_rms_and_primary_beam_from_files(dirty, tmp_path):
    image = dirty(SOURCES)
    gain = np.linspace(0.3, 1, 96)[:, None] * np.ones(96)
    write_image(CCDData(gain, unit="", wcs=image.wcs), tmp_path / "pb.fits")
    write_image(CCDData(2e-4 * gain, unit="Jy/beam", wcs=image.wcs), tmp_path / "rms.fits")
    write_image(image, tmp_path / "dirty.fits")
    files = {"primary_beam": tmp_path / "pb.fits", "rms": str(tmp_path / "rms.fits")}
    prepared = prepare(tmp_path / "dirty.fits", **files)
    direct = prepare(image, primary_beam=gain, rms=2e-4 * gain)
    for name in ("dirty_working", "primary_beam_working", "rms_working"):
        assert_allclose(getattr(prepared, name), getattr(direct, name), rtol=1e-4, atol=1e-4)


def test_rms_map_with_steps_stays_positive(dirty):
    rms = np.where(np.arange(96) < 40, 1e-4, 1e-2) * np.ones((96, 1))
    prepared = prepare(dirty(SOURCES, fwhm=7.0), rms=rms)
    inside = prepared.primary_beam_working > 0
    assert prepared.rms_working[inside].min() >= 0.99e-4
    assert prepared.rms_working[inside].max() <= 1.01e-2


def test_pixels_without_rms_have_no_data(dirty):
    rms = np.full((96, 96), 1e-4)
    rms[:, :20], rms[:, 20:30] = 0, np.nan
    prepared = prepare(dirty(SOURCES), rms=rms)
    assert_array_equal(prepared.valid, np.arange(96) >= 30 + np.zeros((96, 1)))
    assert np.isfinite(prepared.dirty_working).all()


def test_true_sky(dirty):
    gain = np.linspace(0.3, 1, 96)[:, None] * np.ones(96)
    prepared = prepare(dirty(SOURCES), primary_beam=gain, rms=2e-4)
    sky = prepared.true_sky(np.ones((2, *prepared.dirty_working.shape)))
    assert_allclose(sky[1], 2e-4 / gain, rtol=1e-5)


def test_alma_beam_from_the_header(dirty):
    image = dirty(SOURCES, meta=ALMA, shape=(512, 512))
    prepared = prepare(image, primary_beam=None)
    gain = prepared.primary_beam
    assert_allclose(gain[256, 256], 1, atol=1e-6)
    # 12 m antennas at 230 GHz: a FWHM of 1.13 wavelengths over 12 m, 25.3 arcsec; CASA's is wider.
    row = gain[256, 256:]
    half = np.interp(-0.5, -row[row > 0], np.arange((row > 0).sum())) * 0.1
    assert_allclose(2 * half, 25.3, rtol=0.03)
    assert prepared.valid.sum() < prepared.valid.size
    assert gain[~prepared.valid].max() == 0
    assert gain[prepared.valid].min() > 0.1


def test_beam_is_centred_on_the_pointing(dirty):
    header = fits.Header({"OBSRA": 150.1 + 4 / 3600, "OBSDEC": 2.2 - 3 / 3600})
    image = dirty(SOURCES, meta={**ALMA, "header": header}, shape=(256, 256))
    gain = prepare(image, primary_beam=None).primary_beam
    y, x = np.unravel_index(np.argmax(gain), gain.shape)
    assert (x, y) == (128 - 40, 128 - 30)


def test_beam_moves_with_a_cutout(dirty):
    image = dirty(SOURCES, meta=ALMA, shape=(256, 256))
    whole = prepare(image, primary_beam=None).primary_beam
    part = prepare(image[60:200, 100:220], primary_beam=None).primary_beam
    assert_allclose(part, whole[60:200, 100:220], atol=1e-6)


@pytest.mark.parametrize(
    "meta", [{}, {"telescope": "LOFAR"}, {"telescope": "ALMA", "frequency": None}]
)
def test_unknown_telescope_gives_one_warning(dirty, meta):
    image = dirty(SOURCES, meta=meta)
    with pytest.warns(DiffskyWarning, match="Pass primary_beam= to correct it") as record:
        prepared = prepare(image, primary_beam=None)
    assert len(record) == 1
    assert_array_equal(prepared.primary_beam, 1)


def test_masks_are_joined(dirty):
    image = dirty(SOURCES)
    image.mask = np.zeros(image.shape, dtype=bool)
    image.mask[:5] = True
    image.data[:, :7] = np.nan
    mask = np.zeros(image.shape, dtype=bool)
    mask[20:30, 30:40] = True
    gain = np.ones(image.shape)
    gain[-4:] = 0.05
    prepared = prepare(image, mask=mask, primary_beam=gain)
    expected = np.ones(image.shape, dtype=bool)
    expected[:5], expected[:, :7], expected[20:30, 30:40], expected[-4:] = (False,) * 4
    assert_array_equal(prepared.valid, expected)
    assert prepared.grid.box == (5, 92, 7, 96)
    blank = prepared.primary_beam_working == 0
    assert_array_equal(blank, ~prepared.grid.valid_to_working(expected))
    assert not prepared.dirty_working[blank].any()
    assert not prepared.rms_working[blank].any()


def test_blanks_leave_no_ringing(dirty):
    image = dirty(shape=(128, 128), fwhm=6.0)
    image.data[:] += 1.0  # an edge of 10000 rms where pixels are blank
    y, x = np.indices(image.shape)
    image.data[np.hypot(x - 63, y - 60) > 45] = np.nan
    prepared = prepare(image, rms=1e-4)
    inside = prepared.primary_beam_working > 0
    assert inside.any()
    assert np.ptp(prepared.dirty_working[inside]) < 15


def test_fill_from_nearest():
    image = np.array([[1.0, np.nan, np.nan, 4.0]])
    assert_array_equal(fill_from_nearest(image, np.isfinite(image)), [[1, 1, 4, 4]])
    assert_array_equal(fill_from_nearest(np.eye(3), np.ones((3, 3), bool)), np.eye(3))


@pytest.mark.parametrize("pixels", [2.5, 4.25, 9.0])
def test_noise_of_the_working_grid_is_one(dirty, pixels):
    prepared = prepare(dirty(shape=(256, 240), fwhm=pixels), rms=None)
    inside = prepared.primary_beam_working > 0
    assert_allclose(prepared.dirty_working[inside].std(), 1, rtol=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": np.zeros((5, 96), dtype=bool)}, r"mask has shape \(5, 96\); expected .*96, 96"),
        ({"mask": np.ones((96, 96), dtype=bool)}, "no pixel has both data and a primary beam"),
        ({"primary_beam": np.full((96, 96), 0.05)}, "no pixel has both data and a primary beam"),
        ({"primary_beam": np.ones((96, 95))}, r"primary_beam has shape \(96, 95\)"),
        ({"primary_beam": 2.0}, "primary_beam has values from 2 to 2, expected 0 to 1"),
        ({"rms": np.ones((3, 3))}, r"rms has shape \(3, 3\)"),
        ({"rms": 0.0}, "rms has values from 0 to 0, expected positive"),
        ({"rms": -1e-4}, "rms has values from -0.0001 to"),
        ({"rms": np.nan}, "rms: none of its"),
        ({"rms": 1 * u.Jy}, "rms is in Jy, expected Jy / beam"),
    ],
)
def test_refusals(dirty, options, message):
    with pytest.raises(ValueError, match=message):
        prepare(dirty(SOURCES), **options)


def test_image_without_noise_is_refused(dirty):
    with pytest.raises(
        ValueError, match="the noise rms is 0; expected an image with noise, or rms="
    ):
        prepare(dirty(noise=False))


def test_unknown_option_is_refused(dirty):
    with pytest.raises(TypeError, match="pwv"):
        prepare(dirty(SOURCES), pwv=1.0)


@pytest.mark.slow
def test_alma_beam_agrees_with_casa(tmp_path):
    if importlib.util.find_spec("casatools") is None:
        pytest.skip('needs CASA: pip install "diffsky-radio[casa]"')
    from diffsky.simulation import ObservationSetup, simulate_observation

    setup = ObservationSetup()
    sky = np.zeros((setup.image_size,) * 2)
    sky[300, 200] = 1e-3
    seen = simulate_observation(sky, setup, seed=1, work_dir=tmp_path)
    prepared = prepare(seen.dirty, primary_beam=None)
    casa = seen.primary_beam.data
    main = casa > 0.2
    assert main.sum() > 1e5
    assert_allclose(prepared.primary_beam[main], casa[main], rtol=0.015)
    assert_allclose(
        prepare(seen.dirty, primary_beam=seen.primary_beam).primary_beam[main], casa[main]
    )


def test_blocks_of_zeros_are_blank(dirty):
    image = dirty(SOURCES, shape=(128, 128))
    image.data[:, :60] = 0
    with pytest.warns(DiffskyWarning, match="47% of the pixels are exactly 0, in blocks"):
        prepared = prepare(image)
    assert_array_equal(prepared.valid, np.arange(128) >= 60 + np.zeros((128, 1)))
    assert_allclose(prepared.rms[prepared.valid], 1e-4, rtol=0.1)
    assert prepare(image, rms=1e-4).valid.all()  # as it is, and no warning


def test_scattered_zeros_are_data(dirty):
    image = dirty(SOURCES)
    image.data[::3, ::2] = 0  # a coarse analogue-to-digital converter
    assert prepare(image).valid.all()


def test_fixed_pixels_that_do_not_sample_the_beam(dirty):
    options = {"pixel": 0.4, "size": 32, "stride": 8, "primary_beam": 1.0}
    with pytest.raises(ValueError, match=r"pixels of 0\.4 arcsec, .* beam of 0\.425 arcsec"):
        prepare_observation(dirty(SOURCES, fwhm=4.25), **options)
    prepared = prepare_observation(dirty(SOURCES, fwhm=8.5), **options)
    assert prepared.dirty_working.shape == (32, 32)


def test_one_beam_is_enough(dirty):
    prepared = prepare(dirty(shape=(5, 5), fwhm=4.25), rms=1e-4)
    assert prepared.dirty_working.shape == (8, 8)
