"""Whether a generator repeats its training images, and how diverse its images are (V24 app. A)."""

from dataclasses import dataclass

import numpy as np

__all__ = [
    "MemorisedShare",
    "NearestImages",
    "align_images",
    "diversity",
    "memorised_share",
    "nearest_images",
    "similarity_matrix",
]

_C1, _C2 = 1e-4, 9e-4  # V24 eq. A.2
_WINDOW = 7  # pixels, that of scikit-image
_MIRRORS = ((), (-1,), (-2,), (-2, -1))  # flipped axes
_CPU_CHUNK, _MAX_CHUNK = 16, 2048  # images at a time; on the CPU they have to stay in its cache
_BYTES_PER_PIXEL = 64


@dataclass(frozen=True)
class NearestImages:
    """The training images that are most like each image.

    Parameters
    ----------
    index : `numpy.ndarray`
        Shape (n, n_nearest), int: their numbers, the most similar first.
    similarity : `numpy.ndarray`
        Shape (n, n_nearest): structural similarity, 1 for equal images.
    """

    index: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True)
class MemorisedShare:
    """Share of generated images that are nearer to a training image than real ones are.

    Parameters
    ----------
    share, lower, upper : float
        The share, and its binomial interval of one standard deviation (Wilson), which leaves out
        that the threshold is of a finite number of validation images.
    expected, chance_lower, chance_upper : float
        The share of a generator that draws from the distribution of the validation images: its
        mean, and the central interval that holds it in 95 % of cases for so many generated and
        validation images. A share above it is memorised.
    threshold : float
        The similarity to the nearest training image that counts as too near.
    generated, validation : `numpy.ndarray`
        Shape (n,), (m,): similarity of each image to its nearest training image.
    """

    share: float
    lower: float
    upper: float
    expected: float
    chance_lower: float
    chance_upper: float
    threshold: float
    generated: np.ndarray
    validation: np.ndarray


def align_images(images):
    """Turn images so that their principal component is horizontal (V24 appendix A).

    The component is that of the positions of all pixels above tau_PCA = 0.1 + 0.5 sigma_x (eq.
    A.1), each with the same weight; sigma_x is the sigma-clipped standard deviation of the image,
    as for S/N_sigma (section 3.1). Images are turned about their centre by bilinear interpolation,
    which does not overshoot, and what comes from outside is 0. A turn by 180 deg and a mirror image
    remain open. An image without two pixels above the threshold is left as it is, and the angle of
    a round one means nothing.

    Parameters
    ----------
    images : `numpy.ndarray`
        Shape (n, ny, ny), relative to their peaks, 0 to 1.

    Returns
    -------
    aligned : `numpy.ndarray`
        Shape (n, ny, ny), float32.

    Raises
    ------
    ValueError
        If images are not square, have values that are not finite, or beyond 0 and 1.
    """
    from astropy.stats import sigma_clipped_stats
    from scipy.ndimage import affine_transform

    images = _checked(images, "images")
    sigma = sigma_clipped_stats(images, axis=(1, 2))[2] if len(images) else np.zeros(0)
    aligned = np.empty_like(images)
    centre = (np.array(images.shape[1:]) - 1) / 2
    for k, (image, limit) in enumerate(zip(images, 0.1 + 0.5 * np.ravel(sigma), strict=True)):
        angle = _principal_angle(image > limit)
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, s], [-s, c]])  # (y, x) of the aligned image to those of the image
        start = centre - turn @ centre
        aligned[k] = affine_transform(image, turn, start, order=1, mode="grid-constant")
    return aligned


def similarity_matrix(images, others, *, mirrored=True, device=None, progress=None):
    """Structural similarity of all pairs of images (V24 eq. A.2; Wang et al. 2004).

    That of scikit-image with a data range of 1: the mean over windows of 7 x 7 pixels, where the
    text of V24 leaves the window open, with their constants c1 = 1e-4 and c2 = 9e-4.

    Parameters
    ----------
    images, others : `numpy.ndarray`
        Shape (n, ny, ny), (m, ny, ny), 0 to 1.
    mirrored : bool, optional
        Whether the best of four counts: as they are, mirrored left to right, top to bottom, or
        both. Default True: so much aligned images leave open.
    device : str or None, optional
        ``"cuda"``, ``"mps"`` or ``"cpu"``; None takes the first that is there.
    progress : bool or None, optional
        Show a progress bar; None shows one on a terminal.

    Returns
    -------
    similarity : `numpy.ndarray`
        Shape (n, m), float32, at most 1; within 1e-4 of scikit-image, whose numbers have double
        precision.

    Raises
    ------
    ValueError
        If shapes differ or are smaller than a window, or values are not finite, or beyond 0 and 1.
    """
    from tqdm import tqdm

    images, others = _checked(images, "images"), _checked(others, "others")
    if images.shape[1:] != others.shape[1:] or images.shape[1] < _WINDOW:
        raise ValueError(
            f"images have the shapes {images.shape} and {others.shape}; expected the same number "
            f"of pixels, {_WINDOW} x {_WINDOW} or more"
        )
    rows = _Rows(others, mirrored, device)
    hidden = None if progress is None else not progress
    result = np.empty((len(images), len(others)), dtype=np.float32)
    for k, image in enumerate(tqdm(images, unit="image", disable=hidden)):
        result[k] = rows.similarity(image)
    return result


def nearest_images(images, training, *, n_nearest=5, align=True, device=None, progress=None):
    """Find the training images that are most like each image (V24 figures A.1 and A.2).

    All pairs are compared. 1000 pairs of 80 x 80 pixels, four orientations each, take about 0.25 s
    of a core.

    Parameters
    ----------
    images, training : `numpy.ndarray`
        Shape (n, ny, ny), (m, ny, ny), relative to their peaks, 0 to 1.
    n_nearest : int, optional
        Number of training images for each, m at most. Default 5, as in the paper.
    align : bool, optional
        Whether to align both (`align_images`). Default True.
    device, progress : optional
        As for `similarity_matrix`.

    Returns
    -------
    nearest : `NearestImages`
        Numbers and similarities, the best of four mirror images.

    Raises
    ------
    ValueError
        As by `similarity_matrix`, or if ``n_nearest`` is not from 1 to m.
    """
    if n_nearest != int(n_nearest) or not 1 <= n_nearest <= len(training):
        raise ValueError(f"n_nearest is {n_nearest!r}; expected an int from 1 to {len(training)}")
    if align:
        images, training = align_images(images), align_images(training)
    similarity = similarity_matrix(images, training, device=device, progress=progress)
    index = np.argsort(-similarity, axis=1, kind="stable")[:, :n_nearest]
    return NearestImages(index, np.take_along_axis(similarity, index, axis=1))


def memorised_share(
    generated, validation, training, *, quantile=0.99, align=True, device=None, progress=None
):
    """Share of generated images that are too near to a training image.

    Too near is more similar to the nearest training image than 99 % of the validation images are
    to theirs. A generator that has learned the distribution has a share of 0.01, one that repeats
    its training images of 1. The threshold is the similarity of rank ceil(0.99 (m + 1)) of the m
    validation images, or the largest one, for which the expected share is known. Below 99
    validation images it is the largest: one of them that is nearly a training image then hides all
    that is not nearer.

    Parameters
    ----------
    generated, validation, training : `numpy.ndarray`
        Shape (n, ny, ny), (m, ny, ny), (k, ny, ny), relative to their peaks, 0 to 1. Validation
        images are real ones that were not trained with; about 100 or more. Compare images of one
        class or with the same shares of the classes: compact sources are all alike.
    quantile : float, optional
        Share of the validation images below the threshold, above 0 and below 1. Default 0.99.
    align, device, progress : optional
        As for `nearest_images`.

    Returns
    -------
    share : `MemorisedShare`
        The share with its errors, and the share that chance gives.

    Raises
    ------
    ValueError
        As by `nearest_images`, or if there are no images, or ``quantile`` is out of range.
    """
    from scipy.stats import betabinom

    from diffsky.evaluation.localization import binomial_interval

    n, m = len(generated), len(validation)
    if not n or not m or not 0 < quantile < 1:
        raise ValueError(
            f"there are {n} generated and {m} validation images and quantile is {quantile}; "
            "expected one or more of each, and a number above 0 and below 1"
        )
    if align:
        generated, validation, training = map(align_images, (generated, validation, training))
    options = {"n_nearest": 1, "align": False, "device": device, "progress": progress}
    real, drawn = (
        nearest_images(images, training, **options).similarity[:, 0]
        for images in (validation, generated)
    )
    rank = min(m, int(np.ceil(np.round(quantile * (m + 1), 9))))
    threshold = np.sort(real)[rank - 1]
    beyond = int((drawn > threshold).sum())
    chance = betabinom(n, m + 1 - rank, rank)  # of n draws above that order statistic of m
    share, lower, upper = map(float, binomial_interval(beyond, n))
    return MemorisedShare(
        share=share,
        lower=lower,
        upper=upper,
        expected=(m + 1 - rank) / (m + 1),
        chance_lower=float(chance.ppf(0.025)) / n,
        chance_upper=float(chance.ppf(0.975)) / n,
        threshold=float(threshold),
        generated=drawn,
        validation=real,
    )


def diversity(images, *, n_images=None, seed=0, align=True, device=None, progress=None):
    """Mean distance of the images of a class, 1 minus their structural similarity.

    Over all pairs, the best of four mirror images of each. A generator whose images are more alike
    than the real ones of the class has a smaller one.

    Parameters
    ----------
    images : `numpy.ndarray`
        Shape (n, ny, ny), relative to their peaks, 0 to 1, of one class.
    n_images : int or None, optional
        So many of them, drawn without replacement. None takes all.
    seed : int, optional
        Of the drawing.
    align, device, progress : optional
        As for `nearest_images`.

    Returns
    -------
    distance : float
        The mean, 0 for equal images.
    error : float
        Its standard deviation over draws of the images (jackknife); NaN for two images.

    Raises
    ------
    ValueError
        As by `similarity_matrix`, or if there are fewer than two images, or ``n_images`` is not
        from 2 to n.
    """
    images = np.asarray(images)
    n = len(images) if n_images is None else n_images
    if n != int(n) or not 2 <= n <= len(images):
        raise ValueError(f"{n} of {len(images)} images are asked for; expected two or more of them")
    if n < len(images):
        chosen = np.random.default_rng(seed).choice(len(images), size=int(n), replace=False)
        images = images[np.sort(chosen)]
    if align:
        images = align_images(images)
    distance = 1 - similarity_matrix(images, images, device=device, progress=progress).astype(float)
    np.fill_diagonal(distance, 0)
    total = distance.sum()
    mean = total / (n * (n - 1))
    if n == 2:
        return float(mean), float("nan")
    without = (total - 2 * distance.sum(axis=1)) / ((n - 1) * (n - 2))
    return float(mean), float(np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2)))


class _Rows:
    """Structural similarity of one image to each of many, whose moments are kept."""

    def __init__(self, others, mirrored, device):
        import torch

        from diffsky.backend import fit_batch_size, select_backend

        self._torch = torch
        backend = select_backend(device, "float32")
        self._device, self._mirrors = backend.device, _MIRRORS if mirrored else _MIRRORS[:1]
        size, n_pixels = others.shape[1], _WINDOW**2
        self._unbiased = n_pixels / (n_pixels - 1)  # scikit-image has sample covariances
        window = np.tri(size - _WINDOW + 1, size, _WINDOW - 1) - np.tri(
            size - _WINDOW + 1, size, -1
        )
        self._window = self._tensor(window / _WINDOW)
        chunk = _CPU_CHUNK
        if self._device.type != "cpu":
            chunk = fit_batch_size(backend, _BYTES_PER_PIXEL * size**2, limit=_MAX_CHUNK)
        self._others = [
            self._moments(self._tensor(others[k : k + chunk])) for k in range(0, len(others), chunk)
        ]

    def similarity(self, image):
        """Shape (m,): the best over the mirror images of one image."""
        best = []
        images = [self._moments(self._tensor(np.flip(image, axes))) for axes in self._mirrors]
        for chunk in self._others:
            values = [self._compare(one, chunk) for one in images]
            best.append(self._torch.stack(values).amax(dim=0))
        return self._torch.cat(best).clamp(max=1).cpu().numpy() if best else np.zeros(0)

    def _tensor(self, array):
        array = np.ascontiguousarray(array, dtype=np.float32)
        return self._torch.from_numpy(array).to(self._device)

    def _mean(self, images):
        """Means over all windows within the images."""
        return self._window @ (images @ self._window.T)

    def _moments(self, images):
        """Images, their means, and what the denominators of eq. A.2 take from each."""
        mean = self._mean(images)
        variance = (self._mean(images**2) - mean**2) * self._unbiased
        return images, mean, mean**2 + _C1 / 2, variance + _C2 / 2

    def _compare(self, one, others):
        x, mean_x, square_x, variance_x = one
        y, mean_y, square_y, variance_y = others
        means = (2 * mean_x) * mean_y
        similarity = self._mean(x * y).mul_(2).sub_(means).mul_(self._unbiased).add_(_C2)
        similarity.mul_(means.add_(_C1))
        bottom = (square_x + square_y).mul_(variance_x + variance_y)
        return similarity.div_(bottom).mean(dim=(1, 2))


def _principal_angle(selected):
    """Angle of the first principal component, from +x towards +y in rad; 0 where there is none."""
    positions = np.argwhere(selected)
    if len(positions) < 2:
        return 0.0
    (yy, xy), (_, xx) = np.cov(positions, rowvar=False)
    return 0.5 * np.arctan2(2 * xy, xx - yy)


def _checked(images, name):
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise ValueError(f"{name} have the shape {images.shape}; expected (n, ny, ny)")
    if images.size and not (images.min() >= 0 and images.max() <= 1):  # NaN is neither
        raise ValueError(
            f"{name} have values from {images.min()} to {images.max()}; expected 0 to 1, relative "
            "to the peak"
        )
    return images
