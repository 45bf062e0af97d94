"""Random changes of the images of the classifier: what they keep, and where they stop."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch.testing import assert_close

from diffsky.backend import sample_generator
from diffsky.generation.augmentation import augment_images, blur_images, warp_images


def make_images(n=6, size=20, seed=0):
    return 2 * torch.rand(n, 1, size, size, generator=sample_generator(seed)) - 1


def warp(images, *, side=1.0, shift=(0.0, 0.0), angle=0.0, flip=False):
    n = len(images)
    return warp_images(
        images,
        side=torch.full((n,), side),
        shift=torch.tensor(shift).expand(n, 2),
        angle=torch.full((n,), angle),
        flip=torch.full((n,), flip),
    )


def streams(n, seed=3):
    return [sample_generator(seed, k) for k in range(n)]


def test_blur_is_a_gaussian_of_three_pixels():
    """The kernel is that of scipy, cut off after one pixel and normalised."""
    images = make_images()
    known = images.double().numpy()
    for axis in (2, 3):
        known = gaussian_filter1d(known, 0.7, axis=axis, radius=1, mode="nearest")
    blurred = blur_images(images, torch.full((len(images),), 0.7))
    np.testing.assert_allclose(blurred.numpy(), known, atol=1e-6)


def test_blur_conserves_the_mean():
    images, std = make_images(), torch.linspace(0.1, 1, 6)
    blurred = blur_images(images, std)
    assert_close(blurred.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)), atol=1e-6, rtol=0)
    spread = blurred.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    assert (spread.diff() < 0).all()  # the wider, the smoother
    assert_close(blur_images(images[:1], torch.tensor([0.1])), images[:1])


def test_nothing_to_do():
    images = make_images()
    assert_close(warp(images), images)


def test_flip_and_right_angles():
    images = make_images()
    assert_close(warp(images, flip=True), images.flip(2))
    turned = warp(images, angle=math.pi / 2)
    assert_close(turned, torch.rot90(images, 1, dims=(2, 3)), atol=1e-5, rtol=0)
    both = warp(images, angle=math.pi / 2, flip=True)
    assert_close(both, torch.rot90(images, 1, dims=(2, 3)).flip(2), atol=1e-5, rtol=0)


def test_rotation_leaves_gaps_of_minus_one():
    """The corners beyond the rotated square are a share 3 - 2 sqrt(2) of the area."""
    rotated = warp(torch.full((1, 1, 200, 200), 0.5), angle=math.pi / 4)
    assert (rotated[rotated != -1] - 0.5).abs().max() < 1e-6
    assert (rotated == -1).double().mean().item() == pytest.approx(3 - 2 * math.sqrt(2), abs=2e-3)


def test_crop_is_magnified():
    """Pixels of a ramp along x are those of the crop, and the crop stays within the image."""
    ramp = torch.linspace(-1, 1, 41).expand(1, 1, 41, 41)
    middle = warp(ramp, side=0.9)
    assert_close(middle, 0.9 * ramp, atol=1e-5, rtol=0)
    end = warp(ramp, side=0.9, shift=(0.1, 0.0))
    inner = end[..., 1:-1]
    assert_close(inner.diff(dim=-1), torch.full_like(inner[..., 1:], 0.9 / 20), atol=1e-4, rtol=0)
    assert end.max().item() == pytest.approx(1, abs=0.01)


def test_range():
    """Nothing but the noise, of 0.1 at most, goes beyond the range of the images."""
    images = make_images(200)
    changed = augment_images(images, streams(200))
    assert changed.shape == images.shape
    assert torch.isfinite(changed).all()
    assert changed.abs().max() < 1.6
    empty = torch.full((200, 1, 20, 20), -1.0)
    noise = augment_images(empty, streams(200)) + 1
    levels = noise[:, :, 5:15, 5:15].std(dim=(1, 2, 3))  # without gaps
    assert levels.max() < 0.12
    assert levels.min() < 0.01 < levels.median()
    assert noise.mean().abs() < 1e-3


def test_half_of_the_images_are_flipped_and_all_are_turned():
    """A spot beside the centre comes to all sides; a handed figure changes its hand in half."""
    figure = torch.full((400, 1, 40, 40), -1.0)
    figure[:, :, 20, 20:30] = 1  # an L, its long arm along x
    figure[:, :, 20:25, 28:30] = 1
    changed = augment_images(figure, streams(400)) + 1
    rows, columns = torch.meshgrid(*[torch.arange(40.0) - 19.5] * 2, indexing="ij")
    far = (rows**2 + columns**2) > 36
    weight = changed.clamp(min=0.5) - 0.5
    x, y = ((weight * axis).sum(dim=(1, 2, 3)) for axis in (columns, rows))
    angle = torch.atan2(y, x)
    counts = torch.histc(angle, 4, -math.pi, math.pi)
    assert (counts > 70).all()
    foot = weight * far
    x2, y2 = ((foot * axis).sum(dim=(1, 2, 3)) for axis in (columns, rows))
    left = (x * y2 - y * x2 > 0).double().mean()
    assert 0.4 < left < 0.6


def test_image_has_its_own_stream():
    images = make_images()
    whole = augment_images(images, streams(6))
    for k in range(6):
        alone = augment_images(images[k : k + 1], [sample_generator(3, k)])
        assert_close(alone, whole[k : k + 1], atol=1e-6, rtol=0)
    same = augment_images(images[:1].expand(2, 1, 20, 20), streams(2))
    assert (same[0] - same[1]).abs().max() > 0.1


def test_refused():
    with pytest.raises(ValueError, match="2 streams for 6 images"):
        augment_images(make_images(), streams(2))
    with pytest.raises(ValueError, match=r"images have the shape \(6, 1, 20, 10\)"):
        augment_images(make_images()[..., :10], streams(6))
