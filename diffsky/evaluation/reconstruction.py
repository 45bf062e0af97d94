"""How close a reconstructed sky is to the truth, on normalised images (D24 section 3.5.1).

Normalised images are those of D24 eq. 1, 0 to 1 in the range of the training set:
`diffsky.deconvolution.FluxScale.normalize_sky` makes them. In flux the metrics would say nothing:
almost all pixels are empty, and values are of the order of 1e-5.
"""

import numpy as np

__all__ = [
    "AGGREGATIONS",
    "mean_squared_error",
    "peak_snr",
    "pool_reconstructions",
    "reconstruction_scores",
    "reconstruction_table",
    "structural_similarity",
    "uncertainty_image",
]

AGGREGATIONS = ("single run", "mean", "median")


def mean_squared_error(predicted, truth):
    """Mean squared error, D24 eq. 11.

    Parameters
    ----------
    predicted, truth : `numpy.ndarray`
        Normalised images, shape (ny, nx).

    Returns
    -------
    error : float
        0 for equal images.

    Raises
    ------
    ValueError
        If the shapes differ, or a value is not finite.
    """
    from skimage import metrics

    return float(metrics.mean_squared_error(*_checked(predicted, truth)))


def peak_snr(predicted, truth, *, data_range=1.0):
    """Peak signal-to-noise ratio, D24 eq. 12: 20 lg(MAX) - 10 lg(MSE).

    Parameters
    ----------
    predicted, truth : `numpy.ndarray`
        Normalised images, shape (ny, nx).
    data_range : float, optional
        MAX, the largest possible value. Default 1, that of normalised images.

    Returns
    -------
    ratio : float
        In dB; infinite for equal images.

    Raises
    ------
    ValueError
        If the shapes differ, a value is not finite, or ``data_range`` is not above 0.
    """
    _check_range(data_range)
    error = mean_squared_error(predicted, truth)
    return float(10 * np.log10(data_range**2 / error)) if error > 0 else np.inf


def structural_similarity(predicted, truth, *, data_range=1.0):
    """Structural similarity, D24 eq. 13, as scikit-image computes it.

    The mean over windows of 7 x 7 pixels. With a data range of 1 the constants are c1 = 1e-4 and
    c2 = 9e-4, those of the paper.

    Parameters
    ----------
    predicted, truth : `numpy.ndarray`
        Normalised images, shape (ny, nx), at least 7 x 7 pixels.
    data_range : float, optional
        The largest possible value. Default 1, that of normalised images.

    Returns
    -------
    similarity : float
        1 for equal images, at most 1.

    Raises
    ------
    ValueError
        If the shapes differ, the images are smaller than a window, a value is not finite, or
        ``data_range`` is not above 0.
    """
    from skimage import metrics

    _check_range(data_range)
    predicted, truth = _checked(predicted, truth)
    if min(truth.shape) < 7:
        raise ValueError(f"images have shape {truth.shape}; expected at least 7 x 7 pixels")
    return float(metrics.structural_similarity(predicted, truth, data_range=data_range))


def uncertainty_image(samples):
    """Standard deviation of the samples of one image, D24 eq. 17.

    Parameters
    ----------
    samples : `numpy.ndarray`
        Shape (n, ny, nx): normalised samples.

    Returns
    -------
    uncertainty : `numpy.ndarray`
        Shape (ny, nx), divided by n, not n - 1, as the paper has it.

    Raises
    ------
    ValueError
        If ``samples`` have no three axes, or there is none.
    """
    return _checked_samples(samples).std(axis=0)


def reconstruction_table(samples, truths, *, data_range=1.0):
    """Mean metrics of many images, and their errors: table 1 of D24.

    The scores of single runs are the mean over images and runs, their error the standard deviation
    over runs of the means over images. Those of the mean (eq. 9) and the median (eq. 10) are means
    over images, their error the standard deviation over images.

    Parameters
    ----------
    samples : iterable of `numpy.ndarray`
        For each image its normalised samples, shape (n, ny, nx), with the same n for all.
    truths : iterable of `numpy.ndarray`
        The normalised truth of each image, shape (ny, nx).
    data_range : float, optional
        The largest possible value. Default 1, that of normalised images.

    Returns
    -------
    table : `~astropy.table.Table`
        One row for each of `AGGREGATIONS`: aggregation, mse, mse_err, psnr, psnr_err (dB), ssim,
        ssim_err; in ``meta`` the number of images and of runs. The peak S/N is infinite where
        that of an image is, as of an empty sky that is found empty.

    Raises
    ------
    ValueError
        If there is no image, their numbers differ, or shapes do not agree.
    """
    pairs = zip(samples, truths, strict=True)
    scores = [reconstruction_scores(*pair, data_range=data_range) for pair in pairs]
    return pool_reconstructions(scores)


def reconstruction_scores(samples, truth, *, data_range=1.0):
    """Metrics of one image.

    Parameters
    ----------
    samples : `numpy.ndarray`
        Normalised samples, shape (n, ny, nx).
    truth : `numpy.ndarray`
        The normalised truth, shape (ny, nx).
    data_range : float, optional
        The largest possible value. Default 1, that of normalised images.

    Returns
    -------
    scores : dict of str to `numpy.ndarray`
        For each of `AGGREGATIONS` mean squared error, peak S/N (dB) and structural similarity:
        of single runs shape (n, 3), of the mean and the median of the samples (1, 3).

    Raises
    ------
    ValueError
        If shapes do not agree, or are smaller than 7 x 7 pixels.
    """
    samples = _checked_samples(samples)
    images = {
        "single run": samples,
        "mean": samples.mean(axis=0)[None],
        "median": np.median(samples, axis=0)[None],
    }
    return {
        name: np.array([_scores(image, truth, data_range) for image in images[name]])
        for name in AGGREGATIONS
    }


def pool_reconstructions(scores):
    """Mean metrics of many images from those of each.

    Parameters
    ----------
    scores : sequence of dict
        As `reconstruction_scores` gives them, with the same number of runs in all.

    Returns
    -------
    table : `~astropy.table.Table`
        As that of `reconstruction_table`.

    Raises
    ------
    ValueError
        If there is no image, or their numbers of runs differ.
    """
    from astropy.table import Table

    numbers = [len(one["single run"]) for one in scores]
    if len(set(numbers)) != 1:
        raise ValueError(
            f"images have {numbers} samples; expected one or more images with the same number"
        )
    runs = np.array([one["single run"] for one in scores])
    rows = []
    for name in AGGREGATIONS:
        averages = np.concatenate([one[name] for one in scores])
        spread = runs.mean(axis=0) if name == "single run" else averages
        with np.errstate(invalid="ignore"):  # of an infinite peak S/N
            means, errors = averages.mean(axis=0), spread.std(axis=0)
        rows.append((name, *np.stack([means, errors], axis=1).ravel()))
    names = ["aggregation", "mse", "mse_err", "psnr", "psnr_err", "ssim", "ssim_err"]
    return Table(rows=rows, names=names, meta={"n_images": len(runs), "n_runs": runs.shape[1]})


def _scores(predicted, truth, data_range):
    return (
        mean_squared_error(predicted, truth),
        peak_snr(predicted, truth, data_range=data_range),
        structural_similarity(predicted, truth, data_range=data_range),
    )


def _checked(predicted, truth):
    images = [np.asarray(image, dtype=float) for image in (predicted, truth)]
    if images[0].shape != images[1].shape or images[0].ndim != 2:
        raise ValueError(
            f"images have shapes {images[0].shape} and {images[1].shape}; expected two of (ny, nx)"
        )
    if not all(np.isfinite(image).all() for image in images):
        raise ValueError("an image has values that are not finite; expected normalised images")
    return images


def _checked_samples(samples):
    samples = np.asarray(samples, dtype=float)
    if samples.ndim != 3 or not len(samples):
        raise ValueError(f"samples have shape {samples.shape}; expected (n, ny, nx) with n above 0")
    return samples


def _check_range(data_range):
    if not data_range > 0:
        raise ValueError(f"data_range is {data_range}; expected a number above 0")
