"""RadioGalaxyGenerator from images to images, with a tiny network."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from radio_beam import Beam
from small_generator import LABELS, PLAN, make_images, make_small, wake

from diffsky import NotFittedError, RadioGalaxyGenerator
from diffsky.diffusion import drawing
from diffsky.generation import PRESETS, TrainingImages, scale_images

JY = u.Jy / u.beam
BEAM = Beam(6 * u.arcsec)


def fit_classes(**options):
    return make_small().fit(make_images(), labels=LABELS * 6, **{**PLAN, **options})


@pytest.fixture(scope="module")
def of_classes():
    return wake(fit_classes(pixel_scale=1.5 * u.arcsec, beam=BEAM))


@pytest.fixture(scope="module")
def of_peaks():
    return wake(make_small().fit(make_images(), peak_flux=True, **PLAN))


def test_cube(of_classes):
    cube = of_classes.sample(5, label="wide", guidance=0.5, seed=3)
    assert isinstance(cube, CCDData)
    assert (cube.shape, cube.unit, cube.data.dtype) == ((5, 16, 16), u.one, np.float32)
    assert cube.data.min() >= 0
    assert cube.data.max() <= 1
    assert cube.meta["label"] == ["wide"] * 5
    assert (cube.meta["guidance"], cube.meta["seed"]) == (0.5, 3)
    assert cube.meta["pixel_scale"] == 1.5 * u.arcsec
    assert cube.meta["beam"] == BEAM


def test_peaks_are_in_their_unit(of_peaks):
    peaks = [5, 50] * u.mJy / u.beam
    cube = of_peaks.sample(2, peak_flux=peaks, seed=3)
    assert cube.unit == JY
    assert u.allclose(cube.meta["peak_flux"], peaks)
    assert (cube.data.max(axis=(1, 2)) <= peaks.to_value(JY) * 1.0001).all()
    relative = of_peaks.sample(2, peak_flux=peaks, seed=3, guidance=0.0).data
    assert relative[1].max() > 0.005


def test_default_guidance_is_noted(of_classes, of_peaks):
    assert of_classes.sample(1, seed=1).meta["guidance"] == 0.75
    assert of_peaks.sample(1, seed=1).meta["guidance"] == 0.1


def test_label_and_guidance_matter(of_classes):
    images = {
        (label, w): of_classes.sample(2, label=label, guidance=w, seed=1).data
        for label in ("round", "wide")
        for w in (0.0, 1.0)
    }
    reference = images["round", 0.0]
    others = [image for key, image in images.items() if key != ("round", 0.0)]
    assert all(np.abs(other - reference).max() > 1e-3 for other in others)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_image_of_a_seed_is_the_same_in_every_batch(of_classes, of_peaks, monkeypatch, size):
    for generator in (of_classes, of_peaks):
        known = generator.sample(7, seed=5)
        with monkeypatch.context() as patch:
            patch.setattr(drawing, "fit_batch_size", lambda *_, **__: size)
            fewer = generator.sample(5, seed=5)
        np.testing.assert_allclose(fewer.data, known.data[:5], atol=1e-5)
        for key in {"label", "peak_flux"} & set(known.meta):
            assert (np.array(fewer.meta[key]) == np.array(known.meta[key])[:5]).all()


def test_stream_makes_a_batch_when_it_is_asked_for(of_classes, monkeypatch):
    monkeypatch.setattr(drawing, "fit_batch_size", lambda *_, **__: 2)
    calls = []
    hook = of_classes.denoiser_.network.register_forward_hook(lambda *_: calls.append(1))
    stream = of_classes.stream(5, label="wide", guidance=0.0, seed=1)
    assert not calls
    assert next(stream).shape == (2, 16, 16)
    assert len(calls) == 3
    assert [len(cube.data) for cube in stream] == [2, 1]
    hook.remove()


def test_peaks_are_drawn_from_the_training(of_peaks):
    peaks = of_peaks.sample(40, seed=2).meta["peak_flux"]
    assert len(set(peaks.value)) > 30
    assert (peaks > 0.99e-3 * JY).all()
    assert (peaks < 1.01e-1 * JY).all()


def test_save_and_load(of_classes, of_peaks, tmp_path):
    for name, generator in {"a": of_classes, "b": of_peaks}.items():
        generator.save(tmp_path / name, name=name)
        again = RadioGalaxyGenerator.load(
            tmp_path / name, device="cpu", precision="float32", n_steps=3
        )
        one, other = (which.sample(2, seed=1) for which in (generator, again))
        np.testing.assert_allclose(one.data, other.data, atol=1e-6)
        assert other.meta["weights"] == name


def test_resumed_training_ends_where_the_whole_one_ends(tmp_path):
    whole = fit_classes()
    plan = {"checkpoint_dir": tmp_path, "checkpoint_every": 2}
    fit_classes(**plan, steps=6)
    resumed = fit_classes(**plan, resume=True)
    for a, b in zip(whole._network().parameters(), resumed._network().parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_warm_start_goes_on_from_the_weights(tmp_path):
    generator = fit_classes(checkpoint_dir=tmp_path / "a")
    before = [value.clone() for value in generator._network().parameters()]
    about = {"labels": ["wide"] * 12, "seed": 1, "steps": 1, "learning_rate": 1e-12}
    generator.fit(make_images(), **about, warm_start=True)
    for old, new in zip(before, generator._network().parameters(), strict=True):
        torch.testing.assert_close(old, new)
    assert generator.condition_.classes == LABELS
    assert generator.description_["training"]["started_from"]["steps"] == 6
    with pytest.raises(ValueError, match="label is edge; expected one of round, wide"):
        generator.fit(make_images(), **{**about, "labels": ["edge"] * 12}, warm_start=True)
    run = {"checkpoint_dir": tmp_path / "a", "resume": True}
    with pytest.raises(ValueError, match="started from random weights; this one would start from"):
        generator.fit(make_images(), **about, **run, warm_start=True)
    with pytest.raises(NotFittedError):
        make_small().fit(make_images(), **about, warm_start=True)


def test_training_goes_on_with_its_own_images_alone(tmp_path):
    run = {"checkpoint_dir": tmp_path, "resume": True}
    fit_classes(checkpoint_dir=tmp_path)
    fit_classes(**run)
    for other in ({"labels": ["a", "b"] * 6}, {"peak_flux": True}, {"labels": LABELS[::-1] * 6}):
        with pytest.raises(ValueError, match="is trained on other images, labels or scales"):
            make_small().fit(make_images(), **{**PLAN, **run, **other})
    with pytest.raises(ValueError, match="is trained on other images, labels or scales"):
        make_small().fit(2 * make_images()[::-1], labels=LABELS * 6, **PLAN, **run)


def test_warm_start_keeps_pixels_and_beam():
    generator = fit_classes(pixel_scale=1.5 * u.arcsec, beam=BEAM)
    generator.fit(make_images(), labels=LABELS * 6, **PLAN, warm_start=True)
    assert generator.sample(1, seed=1).meta["pixel_scale"] == 1.5 * u.arcsec
    assert generator.description_["image"]["size"] == 16


def test_images_with_a_unit():
    images = 1e3 * make_images() * u.mJy / u.beam
    for same in (images, CCDData(images.value, unit=images.unit)):
        limits = make_small().fit(same, peak_flux=True, **PLAN).condition_.limits
        assert limits == pytest.approx((1e-3, 1e-1), rel=1e-5)
    with pytest.raises(ValueError, match="images: the unit is K; expected Jy / beam or none"):
        make_small().fit(images.value * u.K, peak_flux=True, **PLAN)


@pytest.mark.parametrize("labels", [np.array([0, 1] * 6), np.array([b"0", b"1"] * 6)])
def test_labels_of_other_types(labels):
    generator = make_small().fit(make_images(), labels=labels, **PLAN)
    assert generator.condition_.classes == ("0", "1")
    assert generator.sample(2, label=labels[:2], seed=1).meta["label"] == ["0", "1"]


def test_distilled_weights_know_their_condition():
    generator = fit_classes()
    labels = ["round", "wide"] * 6
    scale = generator.preset_.scale
    others = TrainingImages(make_images(), labels=["edge", "wide"] * 6, scale=scale)
    with pytest.raises(ValueError, match="condition classes .*'edge', 'wide'.*, the weights"):
        generator.distill(others, steps=1)
    about = {"labels": labels, "condition": generator.condition_}
    with pytest.raises(ValueError, match="the images have the scale {}, the weights {'gamma'"):
        generator.distill(TrainingImages(make_images(), **about), steps=1)
    pairs = TrainingImages(make_images(), **about, scale=scale)
    generator.distill(pairs, steps=1, batch_size=4)
    generator.n_steps = 1
    assert generator.sampling_plan()["sampler"] == "consistency"
    cube = generator.sample(2, label="wide", seed=1)
    assert cube.meta["label"] == ["wide"] * 2
    assert cube.meta["guidance"] == 0
    with pytest.raises(ValueError, match="guidance is 0.5 for distilled weights"):
        generator.sample(1, guidance=0.5)


def test_peaks_of_some_images_are_those_of_the_weights():
    """The transformation of the weights, and not one of its own."""
    generator = make_small().fit(make_images(), peak_flux=True, **PLAN)
    some = TrainingImages(make_images()[3:9], peak_flux=True, condition=generator.condition_)
    whole = TrainingImages(make_images(), peak_flux=True)
    np.testing.assert_allclose(some.context, whole.context[3:9])
    with pytest.raises(ValueError, match="expected TrainingImages"):
        generator.distill(TrainingImages(make_images()[3:9], peak_flux=True), steps=1)
    with pytest.raises(ValueError, match="of the kind 'peak_flux'; expected 'class'"):
        TrainingImages(make_images(), labels=["a", "b"] * 6, condition=generator.condition_)


def test_deviation_of_the_images_is_that_of_the_training(of_classes):
    scaled, _ = scale_images(make_images(), **of_classes.preset_.scale)
    assert of_classes.preset_.sigma_data == pytest.approx(np.sqrt((scaled**2).mean()), rel=1e-5)
    assert of_classes.denoiser_.sigma_data == of_classes.preset_.sigma_data
    assert PRESETS["vicanek2024"].sigma_data == 0.5


def test_training_without_moving_average_ends_with_the_last_weights(tmp_path):
    """As that of V24 on FIRST."""
    preset = make_small().preset
    preset = replace(preset, training={**preset.training, "ema_decay": 0.0})
    generator = make_small(preset).fit(
        make_images(), labels=LABELS * 6, **PLAN, checkpoint_dir=tmp_path
    )
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["current_model_state"]
    for name, value in generator.denoiser_.network.state_dict().items():
        torch.testing.assert_close(value, last[f"denoiser.network.{name}"])
    assert PRESETS["vicanek2024-first"].training["ema_decay"] == 0
    assert PRESETS["vicanek2024-first"].network == PRESETS["vicanek2024"].network


def test_copy_keeps_the_beam(of_classes):
    cube = of_classes.sample(1, seed=1)
    assert cube.copy().meta["beam"].major == BEAM.major


@pytest.mark.slow
def test_training_learns_the_class():
    """Two classes, narrow and wide Gaussians: images of a class have its area."""
    images = make_images(2)[[0, 1] * 8]
    generator = make_small().fit(
        images, labels=["narrow", "wide"] * 8, steps=250, batch_size=16, learning_rate=3e-3, seed=0
    )
    assert generator.description_["condition"] == {"type": "class", "classes": ["narrow", "wide"]}
    generator.n_steps = 8
    area = {
        label: (generator.sample(6, label=label, guidance=0.5, seed=1).data > 0.5).sum(axis=(1, 2))
        for label in ("narrow", "wide")
    }
    # Half of the peak: 4.4 and 39 pixels.
    assert area["narrow"].max() < 20
    assert area["wide"].min() > 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "FRI"}, "label is FRI; expected one of round, wide"),
        ({"label": ["wide"] * 2}, "for 3 images; expected a word or a Quantity"),
        ({"label": 3}, "label or peak_flux is 3 for 3 images"),
        ({"peak_flux": 1 * JY}, "peak_flux is given to weights that are conditioned on labels"),
        ({"guidance": -1}, "guidance is -1.* expected a number of 0 or more"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_request(of_classes, options, message):
    with pytest.raises(ValueError, match=message):
        of_classes.sample(3, **options)


def test_bad_peaks(of_peaks):
    with pytest.raises(ValueError, match="label is given to weights that are conditioned on peaks"):
        of_peaks.sample(1, label="round")
    with pytest.raises(ValueError, match="the range of the training, or extrapolate"):
        of_peaks.sample(1, peak_flux=1 * JY)
    with pytest.raises(ValueError, match="peak_flux is -1 Jy/beam"):
        of_peaks.sample(2, peak_flux=[10, -1] * JY, extrapolate=True)
    with pytest.raises(ValueError, match=r"has the shape \(2,\) for 3 images"):
        of_peaks.sample(3, peak_flux=[0.01, 0.02] * JY)
    with pytest.raises(ValueError, match="peak_flux is 0.005 for 1 images"):
        of_peaks.sample(1, peak_flux=0.005)
    cube = of_peaks.sample(1, peak_flux=1 * JY, extrapolate=True, seed=1)
    assert cube.meta["peak_flux"] == [1] * JY


@pytest.mark.parametrize("n", [0, 1.5])
def test_bad_number(of_classes, n):
    with pytest.raises(ValueError, match="expected an integer of 1 or more"):
        of_classes.sample(n)


def test_before_fit():
    with pytest.raises(NotFittedError, match="RadioGalaxyGenerator"):
        make_small().sample(1)


def test_images_that_the_network_cannot_take(tmp_path):
    images, plan = make_images(size=15), {**PLAN, "checkpoint_dir": tmp_path / "run"}
    with pytest.raises(ValueError, match="images have 15 pixels a side; expected a multiple of 4"):
        make_small().fit(images, peak_flux=True, **plan)
    assert not (tmp_path / "run").exists()


def test_bad_beam():
    with pytest.raises(ValueError, match="beam: expected a Beam, an angle or angles"):
        fit_classes(beam="6 arcsec wide")


def test_no_images():
    with pytest.raises(ValueError, match="there are no images to train on"):
        make_small().fit(np.zeros((0, 16, 16)), peak_flux=True)


@pytest.mark.parametrize("scale", [1.5, 1.5 * u.Jy, -1 * u.arcsec])
def test_bad_pixel_scale(scale):
    with pytest.raises(ValueError, match="pixel_scale is"):
        fit_classes(pixel_scale=scale)
