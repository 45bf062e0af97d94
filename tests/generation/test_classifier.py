"""MorphologyClassifier: what it learns, and runs that end the same whatever interrupts them."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from diffsky import NotFittedError
from diffsky.backend import select_backend
from diffsky.exceptions import WeightsError
from diffsky.generation import FIRST_CLASSES, _classifier_training, read_first, resnet
from diffsky.generation.classifier import MorphologyClassifier, accuracy, confusion, recall
from diffsky.generation.scaling import scale_images

PLAN = {"epochs": 2, "batch_size": 8, "seed": 1}


def make_images(n, seed=0, size=32):
    """One Gaussian at a random place, or two of them, in turn."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((size, size))
    labels = ["one", "two"] * (n // 2)
    images = np.zeros((n, size, size), dtype=np.float32)
    for image, label in zip(images, labels, strict=True):
        centre = size / 2 + rng.uniform(-2, 2, 2)
        angle, distance = rng.uniform(0, 2 * np.pi), size / 5
        step = distance * np.array([np.cos(angle), np.sin(angle)]) * (label == "two")
        for y, x in (centre - step, centre + step):
            width = rng.uniform(1.5, 2.5)
            image += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
    return images, labels


def make(**options):
    return MorphologyClassifier(device="cpu", precision="float32", **options)


def fit(n=20, **options):
    return make().fit(*make_images(n), **{**PLAN, **options})


def weights(classifier):
    return torch.cat(
        [value.flatten().float() for value in classifier.network_.state_dict().values()]
    )


def one_view(classifier, images):
    """Probabilities from the images as they lie."""
    scaled = torch.from_numpy(scale_images(images)[0])[:, None]
    backend = select_backend("cpu", "float32")
    return resnet.compute_logits(classifier.network_, scaled, backend).softmax(dim=1).numpy()


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(resnet, "WIDTHS", (4, 8, 8, 16))


@pytest.fixture(scope="module")
def trained():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "WIDTHS", (4, 8, 8, 16))
        yield fit(validation=make_images(6, seed=1))


@pytest.mark.parametrize(
    "widths", [(16, 32, 64, 128), pytest.param(resnet.WIDTHS, marks=pytest.mark.slow)]
)
def test_learns_two_classes(monkeypatch, widths):
    monkeypatch.setattr(resnet, "WIDTHS", widths)
    classifier = make().fit(*make_images(256), epochs=6, batch_size=32, seed=0)
    images, labels = make_images(200, seed=7)
    counts = confusion(labels, classifier.predict(images), classifier.classes_)
    assert accuracy(counts) > 0.9


def test_rare_class_weighs_more(narrow, monkeypatch):
    """The sum of the weights of the images is the same for every class."""
    seen = []
    known = _classifier_training.cross_entropy
    monkeypatch.setattr(
        _classifier_training, "cross_entropy", lambda *given: seen.append(given[2]) or known(*given)
    )
    images, labels = make_images(20)
    rare = [*range(0, 20, 2), 1, 3]
    make().fit(images[rare], [labels[k] for k in rare], **{**PLAN, "epochs": 1})
    assert seen[0].tolist() == pytest.approx([12 / 10, 12 / 2])


def test_mixed_precision(narrow):
    classifier = MorphologyClassifier(device="cpu", precision="bfloat16")
    classifier.fit(*make_images(20), **PLAN)
    assert weights(classifier).dtype == torch.float32
    images, _ = make_images(6, seed=2)
    rounded = classifier.predict_proba(images)
    classifier.precision = "float32"
    exact = classifier.predict_proba(images)
    assert np.abs(rounded - exact).max() < 0.05
    assert not np.array_equal(rounded, exact)


def test_learning_rate_falls_where_the_loss_stands(narrow):
    """A patience of 0 and the loss of a validation that no training can lower."""
    images, labels = make_images(8, seed=3)
    wrong = [{"one": "two", "two": "one"}[label] for label in labels]
    classifier = fit(
        n=64, validation=(images, wrong), epochs=8, patience=0, factor=0.1, min_learning_rate=1e-4
    )
    rates = [row["learning_rate"] for row in classifier.description_["training"]["curve"]]
    losses = [row["validation_loss"] for row in classifier.description_["training"]["curve"]]
    assert rates[0] == 1e-3
    assert min(rates) >= 1e-4
    assert rates[-1] == pytest.approx(1e-4)
    assert max(losses[1:]) > losses[0]


def test_best_epoch_is_kept(narrow):
    validation = make_images(8, seed=3)
    whole = fit(validation=validation, epochs=4)
    curve = whole.description_["training"]["curve"]
    losses = [row["validation_loss"] for row in curve]
    best = int(np.argmin(losses))
    probability = one_view(whole, validation[0])
    picked = probability[np.arange(8), [0, 1] * 4]
    assert -np.log(picked).mean() == pytest.approx(losses[best], rel=1e-4)
    predicted = [whole.classes_[k] for k in probability.argmax(axis=1)]
    counts = confusion(validation[1], predicted, whole.classes_)
    assert accuracy(counts) == curve[best]["validation_accuracy"]


# Predictions


def test_probabilities(trained):
    images, _ = make_images(10, seed=5)
    probability = trained.predict_proba(images)
    assert trained.classes_ == ["one", "two"]
    assert probability.shape == (10, 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
    labels = [trained.classes_[k] for k in probability.argmax(axis=1)]
    assert trained.predict(images) == labels
    assert trained.predict(images[:0]) == []
    # The unit of the images does not matter.
    np.testing.assert_allclose(trained.predict_proba(1e-4 * images), probability, atol=1e-4)


def test_how_a_galaxy_lies_does_not_matter(trained):
    """The mean over eight views of one, whichever of them is asked about."""
    images, _ = make_images(6, seed=5)
    known = trained.predict_proba(images)
    views = [np.rot90(images, k, axes=(1, 2)) for k in range(4)]
    views += [view[:, ::-1] for view in views]
    alone = [one_view(trained, view) for view in views]
    assert np.ptp(alone, axis=0).max() > 1e-3  # else the mean would say nothing
    np.testing.assert_allclose(np.mean(alone, axis=0), known, atol=1e-6)
    for n in (1, 3):
        some = trained.predict_proba(images, n_views=n)
        np.testing.assert_allclose(some, np.mean(alone[:n], axis=0), atol=1e-6)
    for view in views:
        np.testing.assert_allclose(trained.predict_proba(view), known, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_batches_do_not_matter(trained, monkeypatch, size):
    images, _ = make_images(10, seed=5)
    known = trained.predict_proba(images)
    monkeypatch.setattr(resnet, "fit_batch_size", lambda *_, **__: size)
    np.testing.assert_allclose(trained.predict_proba(images), known, atol=1e-5)


def test_save_and_load(trained, narrow, tmp_path):
    trained.save(tmp_path, name="blobs")
    again = MorphologyClassifier.load(tmp_path, device="cpu", precision="float32")
    images, _ = make_images(6, seed=5)
    assert np.array_equal(again.predict_proba(images), trained.predict_proba(images))
    assert again.classes_ == trained.classes_
    assert again.description_["name"] == "blobs"
    curve = again.description_["training"]["curve"]
    assert curve == trained.description_["training"]["curve"]
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        again.save(tmp_path)
    again.save(tmp_path, overwrite=True)


# Runs that are interrupted


def test_same_seed_same_weights(narrow):
    one, other, third = fit(), fit(), fit(seed=2)
    assert torch.equal(weights(one), weights(other))
    assert not torch.equal(weights(one), weights(third))


def test_state_of_the_caller_does_not_matter_and_stays(narrow):
    torch.manual_seed(5)
    known = torch.random.get_rng_state()
    one = fit()
    assert torch.equal(torch.random.get_rng_state(), known)
    torch.manual_seed(6)
    assert torch.equal(weights(fit()), weights(one))


def test_resumed_run_ends_where_the_whole_one_ends(narrow, tmp_path):
    """With a last batch that runs into the next epoch."""
    validation = make_images(8, seed=3)
    whole = fit(validation=validation, epochs=4, patience=0)
    for epochs in (1, 3):
        fit(validation=validation, epochs=epochs, patience=0, checkpoint_dir=tmp_path, resume=True)
    again = {"checkpoint_dir": tmp_path, "resume": True, "patience": 0}
    resumed = fit(validation=validation, epochs=4, **again)
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.description_ == whole.description_
    with pytest.raises(ValueError, match="epochs is 3; expected 4 or more"):
        fit(validation=validation, epochs=3, **again)
    finished = fit(validation=validation, epochs=4, **again)
    assert torch.equal(weights(finished), weights(whole))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_goes_on(narrow, tmp_path, number):
    """A signal within the second of the three steps of an epoch."""
    before, steps = signal.getsignal(number), []

    def hook(optimizer, args, kwargs):
        steps.append(1)
        if len(steps) == 2:
            signal.raise_signal(number)

    handle = register_optimizer_step_post_hook(hook)
    try:
        with pytest.raises(KeyboardInterrupt, match="step 2 of 6.*resume=True"):
            fit(checkpoint_dir=tmp_path)
    finally:
        handle.remove()
    assert signal.getsignal(number) is before
    resumed, whole = fit(checkpoint_dir=tmp_path, resume=True), fit()
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.description_ == whole.description_


def test_second_signal_does_not_wait(narrow, tmp_path):
    def hook(optimizer, args, kwargs):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    handle = register_optimizer_step_post_hook(hook)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(checkpoint_dir=tmp_path)
    finally:
        handle.remove()
    assert not (tmp_path / "last.ckpt").exists()


def test_checkpoints_are_written_in_between(narrow, tmp_path, monkeypatch):
    known, written = _classifier_training.ClassifierTraining._save, []

    def save(run, folder):
        written.append(run.step)
        known(run, folder)

    monkeypatch.setattr(_classifier_training.ClassifierTraining, "_save", save)
    fit(checkpoint_dir=tmp_path, epochs=5, checkpoint_every=2)
    assert written == [6, 12, 15]
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_checkpoint_of_another_run(narrow, tmp_path):
    fit(checkpoint_dir=tmp_path, epochs=1)
    with pytest.raises(FileExistsError, match="last.ckpt exists; pass resume=True"):
        fit(checkpoint_dir=tmp_path)
    images, labels = make_images(20)
    images[3, 4, 5] += 0.1
    again = {**PLAN, "checkpoint_dir": tmp_path, "resume": True}
    message = "is of a run on other images, labels or settings"
    with pytest.raises(ValueError, match=message):
        make().fit(images, labels, **again)
    for option in ({"seed": 2}, {"batch_size": 4}, {"validation": make_images(6)}):
        with pytest.raises(ValueError, match=message):
            fit(**{**again, **option})
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=message):
        fit(**again)


class Payload:
    """What a pickle in place of a checkpoint could do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_checkpoint_runs_no_code(narrow, tmp_path):
    torch.save({"origin": Payload(tmp_path / "ran")}, tmp_path / "last.ckpt")
    with pytest.raises(Exception, match=r"(?i)weights_only"):
        fit(checkpoint_dir=tmp_path, resume=True)
    assert not (tmp_path / "ran").exists()


def test_progress(narrow, capsys):
    fit(progress=True, epochs=1)
    shown = capsys.readouterr().err
    assert "training: 100%" in shown
    assert "loss=" in shown
    fit(epochs=1)
    assert not capsys.readouterr().err


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected 1 or more"),
        ({"batch_size": 1}, "batch_size is 1; expected 2 or more"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"patience": 1.5}, "patience is 1.5; expected 0 or more, an integer"),
        ({"learning_rate": 0}, "learning_rate is 0; expected a number above 0"),
        ({"factor": 1.0}, "factor is 1.0; expected 0 or more and less than 1"),
        ({"dropout": "half"}, "dropout is 'half'; expected 0 or more and less than 1"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; expected a number above 0"),
        ({"min_learning_rate": -1}, "min_learning_rate is -1"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"resume": True}, "resume=True needs checkpoint_dir="),
        ({"validation": (np.ones((2, 32, 32)), ["one", "two"])}, "images 0, 1 .* are flat"),
        ({"validation": (make_images(2)[0], ["one", "three"])}, "label is three; expected one of"),
        ({"validation": (make_images(2)[0], ["one"])}, "1 labels for 2 images"),
        ({"validation": make_images(2, size=16)}, r"shape \(16, 16\); expected 32 x 32 pixels"),
        ({"validation": make_images(2)[0][:1]}, "validation is no pair"),
    ],
)
def test_bad_settings(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)


def test_bad_images():
    images, labels = make_images(6)
    with pytest.raises(ValueError, match="5 labels for 6 images; expected as many"):
        make().fit(images, labels[:5])
    with pytest.raises(ValueError, match=r"classes are \('one',\); expected two names or more"):
        make().fit(images, ["one"] * 6)
    with pytest.raises(ValueError, match=r"shape \(32, 30\); expected 30 x 30 pixels"):
        make().fit(images[:, :, :30], labels)
    images[2, 3, 4] = np.nan
    with pytest.raises(ValueError, match="images 2 .* not finite"):
        make().fit(images, labels)


def test_bad_prediction(trained):
    with pytest.raises(NotFittedError, match=r"call fit\(\)"):
        make().predict(make_images(2)[0])
    with pytest.raises(NotFittedError, match="MorphologyClassifier"):
        make().save("nowhere")
    for n_views in (0, 9):
        with pytest.raises(ValueError, match=f"n_views is {n_views}"):
            trained.predict(make_images(2)[0], n_views=n_views)
    with pytest.raises(ValueError, match=r"shape \(16, 16\); expected 32 x 32 pixels"):
        trained.predict(make_images(2, size=16)[0])
    images, _ = make_images(4)
    images[1, 0, 0] = np.inf
    with pytest.raises(ValueError, match="images 1 .* not finite"):
        trained.predict(images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": None}, "recipe that is none"),
        ({"recipe": {}}, "recipe that is none: KeyError"),
        ({"kind": "generator"}, "expected that of a morphology classifier"),
        ({"size": "32"}, "expected that of a morphology classifier"),
        ({"classes": ["one"]}, "expected two names or more"),
        ({"classes": "ab"}, "expected that of a morphology classifier"),
        ({"classes": ["one", "two", "three"]}, "another network than its description says"),
        ({"sha256": "0" * 64}, None),
    ],
)
def test_altered_description(trained, narrow, tmp_path, change, message):
    trained.save(tmp_path)
    path = tmp_path / "description.json"
    about = json.loads(path.read_text())
    where = about if set(change) & set(about) else about["recipe"]
    where.update(change)
    path.write_text(json.dumps(about))
    with pytest.raises(WeightsError if message else FileNotFoundError, match=message):
        MorphologyClassifier.load(tmp_path)


def test_altered_weights(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder of weights"):
        MorphologyClassifier.load(tmp_path)
    trained.save(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="truncated or was altered"):
        MorphologyClassifier.load(tmp_path)


# Figures of merit


def test_confusion_by_hand():
    true = ["a", "a", "a", "b", "b", "c"]
    predicted = ["a", "a", "b", "b", "a", "c"]
    counts = confusion(true, predicted, ["a", "b", "c", "d"])
    assert counts.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert counts.dtype.kind == "i"
    assert accuracy(counts) == pytest.approx(4 / 6)
    np.testing.assert_allclose(recall(counts), [2 / 3, 1 / 2, 1, np.nan])
    assert confusion(predicted, true, ["a", "b", "c", "d"]).tolist() == counts.T.tolist()
    assert np.isnan(accuracy(np.zeros((2, 2), dtype=int)))


def test_bad_confusion():
    with pytest.raises(ValueError, match="1 predicted labels for 2 true ones"):
        confusion(["a", "b"], ["a"], ["a", "b"])
    with pytest.raises(ValueError, match="label is c; expected one of a, b"):
        confusion(["a", "c"], ["a", "b"], ["a", "b"])


# The data set


def test_real_images(narrow, data_dir):
    """What the data set gives goes in as it is."""
    pytest.importorskip("h5py")
    test = read_first(data_dir / "first" / "galaxy_data_h5.zip", "test")
    classifier = make().fit(test.images, test.labels, epochs=1, batch_size=50)
    assert classifier.classes_ == sorted(FIRST_CLASSES)
    assert classifier.predict_proba(test.images[:3]).shape == (3, 4)
