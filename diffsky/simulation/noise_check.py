"""Whether the noise of different pairs is the same noise."""

import itertools
import warnings
from dataclasses import dataclass

import numpy as np

from diffsky.exceptions import DiffskyWarning

__all__ = [
    "NoiseCorrelation",
    "NoiseWatch",
    "batch_noise",
    "measure_noise_correlation",
    "noise_image",
    "warn_of_shared_noise",
]

N_IMAGES = 8
_MEAN, _LARGEST = 0.1, 0.3  # correlations that are too high
_BY_CHANCE = 6  # errors
_LEAST_PIXELS = 100
_SOURCE = 3  # noise rms
_FAINT, _ASIDE = 0.01, 10  # of the largest target; working pixels


@dataclass(frozen=True)
class NoiseCorrelation:
    """Correlation of the noise of different images, pixel by pixel.

    Parameters
    ----------
    mean : float
        Of all couples of images; NaN where none can be compared.
    largest : float
        Of the clearest couple, the one that exceeds six of its errors by most.
    error, largest_error : float
        Standard deviation that a couple has where the noise is independent: the root of this: the
        sum of the product of both power spectra, over the product of their sums, times all pixels
        over those that both have. The mean of all couples, and that of the couple of ``largest``.
    n_images, n_couples : int
        How many were compared.

    Notes
    -----
    Independent noise is excluded where the mean exceeds 0.1 or the clearest couple 0.3, and
    both six errors.
    """

    mean: float
    largest: float
    error: float
    largest_error: float
    n_images: int
    n_couples: int

    @property
    def shared(self):
        """bool : whether independent noise is excluded."""
        if not self.n_couples:
            return False
        return bool(
            self.mean > max(_MEAN, _BY_CHANCE * self.error / self.n_couples**0.5)
            or self.largest > max(_LARGEST, _BY_CHANCE * self.largest_error)
        )


def noise_image(pair, pblimit=0.2):
    """What the true sky leaves of a dirty image, outside of its sources.

    Parameters
    ----------
    pair : `diffsky.simulation.SimulatedPair`
        The pair.
    pblimit : float, optional
        There is no data where the primary beam is this or less. Default 0.2.

    Returns
    -------
    noise : `numpy.ndarray`
        Shape of the dirty image in Jy/beam; NaN where there is no data, and where the sky
        contributes more than three times the rms of the rest.
    """
    from scipy.signal import fftconvolve

    dirty, psf, gain = (np.asarray(a.data) for a in (pair.dirty, pair.psf, pair.primary_beam))
    gain = np.nan_to_num(gain)
    whole = fftconvolve(pair.sky.data * gain, np.nan_to_num(psf))
    place = tuple(slice(m // 2, m // 2 + n) for n, m in zip(dirty.shape, psf.shape, strict=True))
    model = whole[place]
    noise = np.where(gain > pblimit, dirty - model, np.nan)
    rms = 1.4826 * np.nanmedian(np.abs(noise))
    return np.where(np.abs(model) > _SOURCE * rms, np.nan, noise)


def batch_noise(target, condition):
    """Dirty images of a batch of pairs, outside of their sources.

    Parameters
    ----------
    target : `torch.Tensor`
        Shape (n, 1, ny, nx): scaled skies.
    condition : `torch.Tensor`
        Shape (n, planes, ny, nx), the first plane the dirty image.

    Returns
    -------
    noise : list of `numpy.ndarray`
        Eight of them, as the network sees them; NaN where there are no data, and within ten pixels
        of where the target is not that of an empty sky.
    """
    from torch.nn.functional import max_pool2d

    target, condition = (part[:N_IMAGES].float().cpu() for part in (target, condition))
    empty = target.amin(dim=(2, 3), keepdim=True)
    source = (target - empty > _FAINT * (target.amax() - empty)).float()
    near = max_pool2d(source, 2 * _ASIDE + 1, stride=1, padding=_ASIDE)[:, 0] > 0
    dirty = condition[:, 0].numpy()
    return list(np.where(near.numpy() | (dirty == 0), np.nan, dirty))


def measure_noise_correlation(images):
    """Correlate images without sources, each with every other of its size.

    Parameters
    ----------
    images : sequence of `numpy.ndarray`
        Noise, two axes each; NaN where there is none, or where sources are.

    Returns
    -------
    correlation : `NoiseCorrelation`
        Of all couples that share a hundred pixels or more.
    """
    found, errors = [], []
    powers = [_power(image) for image in images]
    for (one, p), (other, q) in itertools.combinations(zip(images, powers, strict=True), 2):
        if one.shape != other.shape:
            continue
        both = np.isfinite(one) & np.isfinite(other)
        if both.sum() < _LEAST_PIXELS or not (one[both].std() and other[both].std()):
            continue
        found.append(np.corrcoef(one[both], other[both])[0, 1])
        independent = (p * q).sum() / (p.sum() * q.sum())
        errors.append(np.sqrt(independent * both.size / both.sum()))
    if not found:
        return NoiseCorrelation(*[float("nan")] * 4, len(images), 0)
    found, errors = np.array(found), np.array(errors)
    k = (found - _BY_CHANCE * errors).argmax()
    values = found.mean(), found[k], errors.mean(), errors[k]
    return NoiseCorrelation(*map(float, values), len(images), len(found))


def warn_of_shared_noise(correlation):
    """Warn where the noise of different pairs is correlated.

    Parameters
    ----------
    correlation : `NoiseCorrelation`
        As measured.
    """
    if correlation.shared:
        warnings.warn(
            f"the noise of these pairs is correlated: {correlation.mean:.2f} on average and "
            f"{correlation.largest:.2f} in the clearest of {correlation.n_couples} couples of "
            f"{correlation.n_images} pairs, where independent noise has 0.00 with an error of "
            f"{correlation.error:.2f}. A network learns such noise by heart, and its scores do not "
            "hold for a new observation. Give every simulation a seed of its own "
            '(simulate_pairs(..., noise="independent")), and test with other noise and other skies',
            DiffskyWarning,
            stacklevel=4,
        )


class NoiseWatch:
    """Training pairs, of which the noise of the first eight is looked at.

    Parameters
    ----------
    pairs : object
        As `diffsky.DiffusionDeconvolver.fit` takes them. Everything else of them is passed on.
    """

    def __init__(self, pairs):
        self._pairs, self._noise, self._seen = pairs, [], set()

    def __len__(self):
        return len(self._pairs)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._pairs, name)

    def batch(self, numbers, device="cpu"):
        """Pairs of a training step, as they are.

        Parameters
        ----------
        numbers : sequence of int
            Which ones.
        device : str or `torch.device`, optional
            Where they end.

        Returns
        -------
        target, condition : `torch.Tensor`
            As those of the pairs.

        Warns
        -----
        DiffskyWarning
            If they are among the first eight, and the noise of those so far is correlated; once.
        """
        target, condition = self._pairs.batch(numbers, device)
        if self._noise is not None:
            self._look(numbers, target, condition)
        return target, condition

    def _look(self, numbers, target, condition):
        """Compare pairs that are new: in a second pass one would be compared with itself."""
        n_pairs = len(self._pairs)  # 0 stands for pairs without end
        new = []
        for k, number in enumerate(map(int, numbers)):
            own = number % n_pairs if n_pairs else number
            new += [] if own in self._seen else [k]
            self._seen.add(own)
        if not new:
            return
        self._noise = [*self._noise, *batch_noise(target[new], condition[new])][:N_IMAGES]
        found = measure_noise_correlation(self._noise)
        if found.shared or len(self._noise) == N_IMAGES:
            self._noise = None
        warn_of_shared_noise(found)


def _power(image):
    known = np.isfinite(image)
    mean = image[known].mean() if known.any() else 0.0
    return np.abs(np.fft.fft2(np.where(known, image - mean, 0.0))) ** 2
