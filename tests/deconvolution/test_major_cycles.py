"""Major cycles: bright sources are subtracted, faint ones beside them are found."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy import units as u
from numpy.testing import assert_allclose, assert_array_equal
from radio_beam import Beam

from diffsky.backend import sample_generator
from diffsky.deconvolution import FluxScale, WorkingScale, bright_fit, major_cycles
from diffsky.deconvolution.bright_fit import BrightFit, working_instrument
from diffsky.deconvolution.major_cycles import bright_limits, bright_part, draw_skies
from diffsky.deconvolution.observation import prepare_observation
from diffsky.exceptions import DiffskyWarning
from diffsky.instrument import Instrument, instrument_from_images, load_psf_bank

SHAPE, BEAM, KERNEL, RMS = (96, 96), 4.25, 1.7, 1e-4
BRIGHT = (44.3, 51.6, 1000 * RMS)
FAINT = [(20.2, 20.4, 8 * RMS), (75.6, 30.1, 8 * RMS), (25.0, 76.3, 8 * RMS)]


@pytest.fixture(scope="module")
def bank():
    return load_psf_bank()


@pytest.fixture(scope="module")
def instrument(bank):
    """One of ALMA with strong sidelobes, 4.25 pixels per beam."""
    row = int(np.flatnonzero(bank.columns["weighting"] == "natural")[20])
    return Instrument(bank.weights[row], torch.ones(SHAPE), RMS, bank.noise_weights[row])


@pytest.fixture(scope="module")
def fitter(instrument):
    unit = replace(instrument, rms=1.0)
    return BrightFit(unit, kernel_fwhm=KERNEL, beam_fwhm=BEAM, rms=np.ones(SHAPE))


def tensor(image):
    return torch.from_numpy(np.asarray(image, dtype=np.float32))


def gaussian_psf(size=193, fwhm=BEAM):
    y, x = np.indices((size, size)) - size // 2
    return np.exp(-4 * np.log(2) * (x**2 + y**2) / fwhm**2)


@pytest.mark.parametrize("fwhm", [0.0, 6.0])
def test_noiseless_source_is_subtracted(fitter, instrument, blob, fwhm):
    # The start is 20 % too faint and a third of a pixel away.
    width = np.hypot(KERNEL, fwhm)
    sky = blob(SHAPE, 44.3, 51.6, width, 1000.0)
    start = blob(SHAPE, 44.0, 51.8, width, 800.0)
    start[start < 1e-4 * start.max()] = 0
    dirty = instrument.convolve(tensor(sky), kernel_fwhm=KERNEL)
    fitted = fitter.fit(tensor(start), dirty)
    before, after = (dirty - fitter.observe(s) for s in (tensor(start), fitted))
    assert after.abs().max() < 0.005 * dirty.max()
    assert after.abs().max() < 0.05 * before.abs().max()
    assert_allclose(fitted.sum(), 1000, rtol=0.01)
    assert not fitted[tensor(start) == 0].any()


def test_fits_of_noisy_data_spread_as_their_noise(fitter, blob):
    # The best estimate of the flux of a point has an error of 1 rms; a free shape has more.
    sky = tensor(blob(SHAPE, 44.3, 51.6, KERNEL, 1000.0))
    noise = fitter.noise([sample_generator(5, k) for k in range(16)])
    fluxes = torch.stack([fitter.fit(sky, fitter.observe(sky) + e).sum() for e in noise]).numpy()
    assert 0.7 < fluxes.std(ddof=1) < 4
    assert abs(fluxes.mean() - 1000) < 4 * fluxes.std() / np.sqrt(16) + 1


def test_padded_grids_are_of_one_sample_at_a_time(fitter, monkeypatch):
    """The grid of a wide PSF has several times the pixels of the field."""
    seen, crop = [], Instrument._crop
    monkeypatch.setattr(
        Instrument,
        "_crop",
        lambda self, spectrum: seen.append(spectrum.numel()) or crop(self, spectrum),
    )
    streams = [sample_generator(5, k) for k in range(6)]
    noise = fitter.noise(streams)
    skies = fitter.observe(noise.clamp(min=0))
    assert noise.shape == skies.shape == (6, *SHAPE)
    grid = fitter._instrument.grid_size
    assert max(seen) == grid * (grid // 2 + 1)


def test_largest_skies_are_fitted_in_part(fitter, monkeypatch):
    monkeypatch.setattr(bright_fit, "_MOST_PIXELS", 200)
    sky = torch.full(SHAPE, 1.0)
    sky[:30] = 2.0
    fitted = fitter.fit(sky, torch.zeros(SHAPE))
    assert 0 < (fitted != sky).sum() <= 200
    assert_array_equal(fitted[40:], sky[40:])


def test_fit_knows_where_noise_varies(instrument, blob):
    rms = np.where(np.arange(96) < 48, 1.0, 3.0) * np.ones(SHAPE)
    rms[:4] = 0
    fitter = BrightFit(instrument, kernel_fwhm=KERNEL, beam_fwhm=BEAM, rms=rms)
    sky = blob(SHAPE, 44.3, 51.6, KERNEL, 1000.0) / np.where(rms > 0, rms, 1)
    seen = fitter.observe(tensor(sky)).numpy()
    flux = instrument.convolve(tensor(sky * rms), kernel_fwhm=KERNEL).numpy()
    assert_allclose(seen * rms, np.where(rms > 0, flux, 0), atol=1e-2)


def test_working_instrument_has_the_psf_of_the_image(instrument, dirty):
    psf = instrument.psf().numpy()
    image = dirty(shape=SHAPE)
    prepared = prepare_observation(image, pixels_per_beam=4.25, stride=8, primary_beam=1.0)
    working = working_instrument(psf, prepared.grid).psf((41, 41)).numpy()
    middle = psf.shape[0] // 2
    assert_allclose(working, psf[middle - 20 : middle + 21, middle - 20 : middle + 21], atol=2e-3)


def test_largest_sidelobe():
    # A point at the centre of a ring of 5 beams, in the plane of the PSF.
    psf = gaussian_psf(255)
    y, x = np.indices(psf.shape) - 127
    psf = psf + 0.2 * np.exp(-((np.hypot(x, y) - 5 * BEAM) ** 2) / 8)
    fitter = BrightFit(
        instrument_from_images(psf, np.ones(SHAPE), rms=1.0),
        kernel_fwhm=KERNEL,
        beam_fwhm=BEAM,
        rms=np.ones(SHAPE),
    )
    assert_allclose(fitter.largest_sidelobe, 0.2, rtol=0.02)


def test_limits():
    assert bright_limits(np.inf) == (30, 100)
    assert bright_limits(150) == (30, 100)
    assert_allclose(bright_limits(10), (2, 6.7))


def test_bright_part(blob):
    bright, faint = blob(SHAPE, 30, 30, KERNEL, 200.0), blob(SHAPE, 70, 70, KERNEL, 20.0)
    valid = np.ones(SHAPE, dtype=bool)
    part = bright_part(bright + faint, valid, least=50, scale=WorkingScale())
    assert_allclose(part[60:, 60:], 0)
    assert_allclose(part.sum(), 200, rtol=0.01)
    both = bright_part(bright + faint, valid, least=15, scale=WorkingScale())
    assert_allclose(both.sum(), 220, rtol=0.01)
    assert not bright_part(np.zeros(SHAPE), valid, least=15, scale=WorkingScale()).any()


def test_bright_part_leaves_the_border_out(blob):
    sky, valid = blob(SHAPE, 30, 30, KERNEL, 200.0), np.ones(SHAPE, dtype=bool)
    valid[:, :25] = False
    assert bright_part(sky, valid, least=50, scale=WorkingScale()).any()
    valid[:, :28] = False
    assert not bright_part(sky, valid, least=50, scale=WorkingScale()).any()
    sky = blob(SHAPE, 94, 30, KERNEL, 200.0)
    assert not bright_part(sky, np.ones(SHAPE, bool), least=50, scale=WorkingScale()).any()


@pytest.fixture
def prepare(dirty):
    def make(sources, **options):
        image = dirty(sources, shape=SHAPE, rms=RMS)
        return prepare_observation(
            image, pixels_per_beam=4.25, stride=8, primary_beam=1.0, **options
        )

    return make


def draw(prepared, psf, sample, trained_snr=150.0):
    options = {"scale": WorkingScale(), "n_samples": 2, "seed": 1, "trained_snr": trained_snr}
    return draw_skies(prepared, psf, sample, **options)


def test_faint_fields_are_sampled_once(prepare):
    prepared, seen = prepare(FAINT, rms=RMS), []
    apparent, used = draw(prepared, gaussian_psf(), lambda p: seen.append(p) or "skies")
    assert apparent == "skies"
    assert used is prepared
    assert len(seen) == 1
    assert seen[0] is prepared


def test_bright_image_without_psf_warns(prepare):
    prepared = prepare([BRIGHT], rms=RMS)
    message = r"peaks at 9.. rms\. .* above 30 rms, .* above 150 rms, the largest of the training"
    with pytest.warns(DiffskyWarning, match=message):
        draw(prepared, None, lambda p: "skies")
    draw(prepared, None, lambda p: "skies", trained_snr=np.inf)  # nothing is known: no warning


def test_fixed_grid_has_no_major_cycles_and_says_so(prepare):
    prepared = prepare([BRIGHT], rms=RMS)
    options = {"scale": FluxScale(), "n_samples": 2, "seed": 1, "trained_snr": 50.0}
    with pytest.warns(DiffskyWarning, match=r"peaks at 9.. rms\. On a grid that does not follow"):
        apparent, _ = draw_skies(prepared, gaussian_psf(), lambda p: "skies", **options)
    assert apparent == "skies"


def test_source_at_the_border_is_announced(point_estimator, dirty):
    image = dirty([(1.0, 50.0, 500 * RMS), *FAINT], shape=SHAPE, rms=RMS)
    options = {"n_samples": 1, "seed": 1, "primary_beam": 1.0, "rms": RMS}
    with pytest.warns(DiffskyWarning, match=r"[45].. rms are left of the image") as record:
        point_estimator.predict(image, psf=gaussian_psf(), **options)
    assert [w.filename for w in record] == [__file__]


def test_sidelobes_that_are_most_of_the_measured_noise(prepare):
    # The source stands only 20 times above its own sidelobes: no reason to leave them.
    psf = 0.9 * gaussian_psf()
    rng = np.random.default_rng(7)
    ripple = rng.normal(0, 0.05, psf.shape)
    psf = psf + 0.5 * (ripple + ripple[::-1, ::-1])
    psf[96, 96] = 1.0
    prepared, seen = prepare([(48, 48, 15 * RMS)], rms=RMS), []

    def sample(p):
        seen.append(p.dirty_working)
        return np.zeros((2, *SHAPE), dtype=np.float32)

    options = {"scale": WorkingScale(), "n_samples": 2, "seed": 1, "trained_snr": 150.0}
    draw_skies(prepared, psf, sample, **options)
    assert len(seen) == 1  # the noise is known, the source is faint
    draw_skies(prepared, psf, sample, measure_rms=True, **options)
    assert len(seen) == 3


def test_noise_that_varies_is_measured_after_the_cycles(point_estimator, dirty, noise_image):
    shape = (160, 160)
    growth = 3 ** (np.arange(160) / 159)
    image = dirty([(100.3, 51.6, 200 * RMS)], shape=shape, noise=False)
    noise = RMS * growth * noise_image(shape, BEAM, np.random.default_rng(3))
    image.data = image.data + noise.astype("f4")
    options = {"n_samples": 1, "seed": 1, "primary_beam": 1.0}
    prepared = point_estimator._prepare(image, primary_beam=1.0)
    assert prepared.rms.min() == prepared.rms.max()  # sidelobes would count as noise
    psf = gaussian_psf(321)
    _, used = point_estimator.sample_observation(
        prepared, psf=psf, measured=True, n_samples=1, seed=1
    )
    assert_allclose(used.rms, RMS * growth * np.ones(shape), rtol=0.4)
    assert_allclose(used.rms_working[8:-8, 8:-8], used.rms[8:-8, 8:-8], rtol=0.05)
    _, catalog = point_estimator.predict(image, psf=psf, **options)
    assert_allclose(catalog["flux"][0].to_value(u.Jy), 200 * RMS, rtol=0.05)


@pytest.fixture(params=["root", "asinh"])
def scale(request):
    return WorkingScale(stretch=request.param)


@pytest.fixture
def point_estimator(local_estimator, scale):
    """An estimator that sees a point in every local maximum above 5 rms, to the pixel."""
    deconvolver = local_estimator()
    deconvolver.preset_ = replace(deconvolver.preset_, scale=scale)
    y = torch.arange(15.0) - 7
    profile = torch.exp(-4 * np.log(2) * y**2 / KERNEL**2)
    kernel = (profile[:, None] * profile / profile.sum() ** 2)[None, None]

    def forward(x, sigma, condition=None):
        dirty = condition[:, :1] * scale.dirty_unit
        top = torch.nn.functional.max_pool2d(dirty, 9, stride=1, padding=4)
        points = torch.where((dirty == top) & (dirty > 5), dirty, 0.0)
        sky = torch.nn.functional.conv2d(points, kernel, padding=7)
        return scale.scale_target(sky).expand_as(x)

    deconvolver.denoiser_.forward = forward
    return deconvolver


@pytest.mark.parametrize("rms", [RMS, None])
def test_bright_and_faint_sources(point_estimator, dirty, rms):
    deconvolver = point_estimator
    image = dirty([BRIGHT, *FAINT], shape=SHAPE, rms=RMS, seed=4)
    options = {"psf": gaussian_psf(), "n_samples": 4, "seed": 1, "primary_beam": 1.0, "rms": rms}
    sky, catalog = deconvolver.predict(image, **options)
    found = catalog[catalog["reliability"] > 0.5]
    assert len(found) == 4
    for x, y, flux in [BRIGHT, *FAINT]:
        offset = np.hypot(found["x_centroid"] - x, found["y_centroid"] - y)
        source = found[np.argmin(offset)]
        assert offset.min() < 1
        assert abs(source["flux"].to_value(u.Jy) - flux) < max(0.006 * flux, 4 * RMS)
    assert_allclose(sky.meta["rms"], RMS, rtol=0.15)


def test_statistics_of_the_residual(point_estimator, dirty):
    deconvolver = point_estimator
    image = dirty([BRIGHT], shape=SHAPE, rms=RMS, seed=4)
    options = {"n_samples": 4, "seed": 1, "primary_beam": 1.0, "rms": RMS}
    sky, _ = deconvolver.predict(image, psf=gaussian_psf(), **options)
    left = deconvolver.residual(image, sky, psf=gaussian_psf(), primary_beam=1.0, rms=RMS).data
    assert_allclose(sky.meta["residual_rms"], left.std(), rtol=1e-5)
    assert_allclose(sky.meta["residual_robust_rms"], RMS, rtol=0.1)
    assert_allclose(sky.meta["residual_peak"], np.abs(left).max() / RMS, rtol=1e-5)
    sky, _ = deconvolver.predict(image, **options)
    assert not [name for name in sky.meta if name.startswith("residual")]


def test_samples_do_not_depend_on_their_number(untrained, dirty, monkeypatch):
    monkeypatch.setattr(bright_fit, "_MOST_PIXELS", 200)
    monkeypatch.setattr(major_cycles, "_MOST_CYCLES", 2)
    image = dirty([BRIGHT, *FAINT], shape=SHAPE, rms=RMS)
    options = {"psf": gaussian_psf(), "seed": 3, "primary_beam": 1.0}
    warnings.simplefilter("ignore", DiffskyWarning)  # random weights leave the sources
    three, two = (untrained.sample(image, n_samples=n, **options).data for n in (3, 2))
    assert_allclose(three[:2], two, rtol=1e-3, atol=1e-6 * np.abs(two).max())


@pytest.mark.slow
@pytest.mark.parametrize("rms", [RMS, None])
def test_bundled_weights(bank, instrument, blob, dirty, rms):
    from diffsky import DiffusionDeconvolver
    from diffsky.deconvolution.psf_checks import fit_beam

    psf = instrument.psf().numpy()
    places = [BRIGHT, *FAINT, (72.1, 74.8, 8 * RMS), (48.4, 14.5, 8 * RMS)]
    sky = tensor(sum(blob(SHAPE, x, y, KERNEL, flux) for x, y, flux in places))
    data = instrument.observe(sky[None], [sample_generator(2, 0)], kernel_fwhm=KERNEL)[0]
    image = dirty(shape=SHAPE)
    major, minor = (0.1 * fwhm * u.arcsec for fwhm in fit_beam(psf))
    image.meta["beam"] = Beam(major, minor, 0 * u.deg)
    image.data = data.numpy()
    deconvolver = DiffusionDeconvolver.from_pretrained(device="cpu", precision="float32")
    options = {"n_samples": 10, "seed": 1, "primary_beam": 1.0, "rms": rms}
    sky, catalog = deconvolver.predict(image, psf=psf, **options)
    found = catalog[catalog["reliability"] > 0.5]
    assert len(found) == len(places)
    for x, y, flux in places:
        offset = np.hypot(found["x_centroid"] - x, found["y_centroid"] - y)
        source = found[np.argmin(offset)]
        assert offset.min() < BEAM / 2
        error = max(source["flux_err"].to_value(u.Jy), RMS)
        assert abs(source["flux"].to_value(u.Jy) - flux) < 3 * error
    assert_allclose(sky.meta["residual_rms"], RMS, rtol=0.05)
    assert sky.meta["residual_peak"] < 5.5
