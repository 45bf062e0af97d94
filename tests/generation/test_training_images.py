"""Images for training: balance, turns, dropped contexts, streams."""

import numpy as np
import pytest
import torch

from diffsky.generation import TrainingImages

LABELS = ["a"] * 6 + ["b"] * 3 + ["c"] * 4


def make_images(n=13, size=4):
    """Image k has its peak, k + 1, in one corner and a half of it beside that."""
    images = np.zeros((n, size, size))
    images[:, 0, 0] = np.arange(n) + 1
    images[:, 0, 1] = images[:, 0, 0] / 2
    return images


def make(**options):
    options = {"labels": LABELS, "context_dropout": 0.0, **options}
    return TrainingImages(make_images(), **options)


def classes_of(pairs, numbers):
    return pairs.batch(numbers)[1].argmax(dim=1).bincount(minlength=3).tolist()


def test_shapes_and_range():
    target, context = make().batch(range(5))
    assert (target.shape, context.shape) == ((5, 1, 4, 4), (5, 3))
    assert (target.min(), target.max()) == (-1, 1)


def test_every_pass_has_as_many_of_each_class():
    pairs = make()
    assert len(pairs) == 9
    assert all(classes_of(pairs, range(9 * k, 9 * k + 9)) == [3, 3, 3] for k in range(5))


def test_all_images_of_a_larger_class_are_seen():
    """Each pass leaves others out, and none is in a pass twice."""
    pairs = make(augment=False)
    members = [[pairs._member(k) for k in range(9 * e, 9 * e + 9)] for e in range(20)]
    assert all(len(set(one)) == 9 for one in members)
    assert set().union(*members) == set(range(len(LABELS)))


def test_label_belongs_to_the_image():
    pairs = make(augment=False)
    for number in range(30):
        k = pairs._member(number)
        target, context = pairs.batch([number])
        assert torch.equal(target[0, 0], pairs.images[k])
        assert pairs.condition.classes[context.argmax()] == LABELS[k]


def test_turns_are_the_eight_of_a_square():
    pairs = TrainingImages(make_images(2), labels=["a", "b"], context_dropout=0.0)
    seen = {tuple(pairs.batch([k])[0].flatten().tolist()) for k in range(400)}
    assert len(seen) == 8


def test_dropped_contexts():
    pairs = make(context_dropout=0.1)
    context = pairs.batch(range(3000))[1]
    dropped = context.isnan().all(dim=1)
    assert torch.equal(dropped, context.isnan().any(dim=1))
    assert 0.08 < dropped.float().mean() < 0.12


def test_a_number_is_the_same_in_every_batch():
    pairs, numbers = make(context_dropout=0.5), [40, 3, 17]
    together = pairs.batch(numbers)
    for k, number in enumerate(numbers):
        alone = make(context_dropout=0.5).batch([number])
        assert all(
            torch.equal(a[0].nan_to_num(9), b[k].nan_to_num(9))
            for a, b in zip(alone, together, strict=True)
        )


def test_seed():
    same, other = (make(seed=seed).batch(range(9))[0] for seed in (0, 1))
    assert torch.equal(make().batch(range(9))[0], same)
    assert not torch.equal(same, other)


def test_peaks():
    pairs = TrainingImages(make_images(), peak_flux=True, context_dropout=0.0, augment=False)
    assert len(pairs) == len(LABELS)
    context = pairs.batch(range(13))[1]
    found = np.sort(pairs.condition.decode(context).value)
    np.testing.assert_allclose(found, np.arange(13) + 1, rtol=1e-4)


def test_description():
    description = make(seed=4).describe()
    assert description["per_class"] == [6, 3, 4]
    assert (description["used_per_pass"], description["seed"]) == (9, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": None}, "expected either labels or peak_flux=True"),
        ({"peak_flux": True}, "expected either labels or peak_flux=True"),
        ({"labels": ["a", "b"]}, "2 labels for 13 images"),
        ({"labels": ["a"] * 13}, "expected two names"),
        ({"context_dropout": 1.5}, "context_dropout is 1.5; expected 0 to 1"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_images_that_are_not_square():
    with pytest.raises(ValueError, match=r"\(13, 3, 4\); expected square ones"):
        TrainingImages(make_images()[:, 1:] + make_images()[:, :3], labels=LABELS)
