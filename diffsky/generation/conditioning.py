"""What an image is asked to be: a class, or a peak flux density (V24 sections 3.1, 3.2 and 6.1)."""

import astropy.units as u
import numpy as np
import torch

__all__ = ["ClassCondition", "PeakFluxCondition", "condition_from_dict", "plain_labels"]

N_BINS = 100  # of the histogram that peaks are drawn from, V24 section 6.1
JY_PER_BEAM = u.Jy / u.beam


class ClassCondition:
    """Morphological classes as one-hot vectors.

    Parameters
    ----------
    classes : sequence of str
        Names, each once.

    Raises
    ------
    ValueError
        If there are fewer than two names, or one of them twice.
    """

    kind = "class"

    def __init__(self, classes):
        self.classes = tuple(map(str, classes))
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes are {self.classes}; expected two names or more, each once")

    @property
    def length(self):
        """int : length of the vector."""
        return len(self.classes)

    def encode(self, labels):
        """One-hot vectors of labels.

        Parameters
        ----------
        labels : str or sequence of str
            Names of classes.

        Returns
        -------
        context : `torch.Tensor`
            Shape (n, number of classes).

        Raises
        ------
        ValueError
            If a label is none of the classes.
        """
        labels = plain_labels([labels] if isinstance(labels, str) else labels)
        unknown = sorted({one for one in labels if one not in self.classes})
        if unknown:
            raise ValueError(
                f"label is {', '.join(unknown)}; expected one of {', '.join(self.classes)}"
            )
        numbers = torch.tensor([self.classes.index(one) for one in labels], dtype=torch.long)
        return torch.nn.functional.one_hot(numbers, len(self.classes)).float()

    def draw(self, rng):
        """Draw a class, all with the same probability.

        Parameters
        ----------
        rng : `numpy.random.Generator`
            Random numbers.

        Returns
        -------
        label : str
            Name of a class.
        """
        return self.classes[rng.integers(len(self.classes))]

    def to_dict(self):
        """Describe in what JSON can hold.

        Returns
        -------
        description : dict
            For `condition_from_dict`.
        """
        return {"type": self.kind, "classes": list(self.classes)}


class PeakFluxCondition:
    """Peak flux density, Box-Cox transformed (V24 eq. 12) and brought to mean 0 and variance 1.

    Parameters
    ----------
    exponent : float
        Lambda of the transformation of the peaks in Jy/beam.
    mean, std : float
        Of the transformed peaks.
    counts : sequence of int
        Histogram of the standardised peaks, from which new ones are drawn.
    limits : tuple of float
        Least and largest peak in Jy/beam, the ends of the histogram.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    V24 find lambda = -0.23 for their peaks. The paper takes the transformation alone for
    standardised; a transformed distribution has its own mean and deviation, which are taken out
    here.
    """

    kind = "peak_flux"
    length = 1

    def __init__(self, exponent, mean, std, counts, limits):
        self.exponent, self.mean, self.std = float(exponent), float(mean), float(std)
        self.counts = np.asarray(counts, dtype=int)
        self.limits = tuple(map(float, limits))
        if not (std > 0 and 0 < self.limits[0] < self.limits[1]):
            raise ValueError(f"std is {std}, limits are {limits}; expected growing numbers above 0")
        if self.counts.ndim != 1 or (self.counts < 0).any() or self.counts.sum() < 1:
            raise ValueError("counts hold no histogram; expected numbers of 0 and more")

    @classmethod
    def fit(cls, peaks):
        """Choose the transformation by maximum likelihood.

        Parameters
        ----------
        peaks : `~astropy.units.Quantity`
            Peak flux densities in Jy/beam or what converts to it, above 0, not all alike.

        Returns
        -------
        condition : `PeakFluxCondition`
            With the histogram of these peaks in 100 bins.

        Raises
        ------
        ValueError
            If a peak is not a number above 0, or all are the same.
        """
        from scipy.stats import boxcox

        peaks = _in_jansky(peaks)
        if len(peaks) < 2 or not (np.isfinite(peaks) & (peaks > 0)).all() or np.ptp(peaks) == 0:
            raise ValueError("peak_flux must be finite, above 0 and not the same for all images")
        transformed, exponent = boxcox(peaks)
        mean, std = transformed.mean(), transformed.std()
        counts, _ = np.histogram((transformed - mean) / std, bins=N_BINS)
        return cls(exponent, mean, std, counts, (peaks.min(), peaks.max()))

    def encode(self, peaks, *, extrapolate=False):
        """Standardised values of peaks.

        Parameters
        ----------
        peaks : `~astropy.units.Quantity`
            Scalar or shape (n,), in Jy/beam or what converts to it.
        extrapolate : bool, optional
            Accept peaks beyond those of the training.

        Returns
        -------
        context : `torch.Tensor`
            Shape (n, 1).

        Raises
        ------
        ValueError
            If a peak is outside of the range of the training, and ``extrapolate`` is False, or
            not above 0.
        """
        peaks = _in_jansky(peaks)
        low, high = self.limits
        # The last digit is that of a unit conversion.
        within = (peaks >= low * (1 - 1e-6)) & (peaks <= high * (1 + 1e-6))
        bad = ~(np.isfinite(peaks) & (peaks > 0) & (within | extrapolate))
        if bad.any():
            raise ValueError(
                f"peak_flux is {peaks[bad][0]:.4g} Jy/beam; expected {low:.4g} to {high:.4g} "
                "Jy/beam, the range of the training, or extrapolate to any above 0"
            )
        return torch.from_numpy(self._standardise(peaks)[:, None]).float()

    def decode(self, context):
        """Peaks of standardised values.

        Parameters
        ----------
        context : `torch.Tensor`
            Shape (n, 1).

        Returns
        -------
        peaks : `~astropy.units.Quantity`
            Shape (n,), in Jy/beam.
        """
        from scipy.special import inv_boxcox

        values = np.asarray(context, dtype=float)[:, 0]
        return inv_boxcox(self.mean + self.std * values, self.exponent) * JY_PER_BEAM

    def draw(self, rng):
        """Draw a peak: a bin of the histogram by its count, and a place in it (V24 section 6.1).

        Parameters
        ----------
        rng : `numpy.random.Generator`
            Random numbers.

        Returns
        -------
        peak : `~astropy.units.Quantity`
            Scalar, in Jy/beam.
        """
        place = rng.choice(len(self.counts), p=self.counts / self.counts.sum()) + rng.random()
        low, high = self._standardise(np.array(self.limits))
        value = low + (high - low) * place / len(self.counts)
        return self.decode([[value]])[0]

    def to_dict(self):
        """Describe in what JSON can hold.

        Returns
        -------
        description : dict
            For `condition_from_dict`.
        """
        return {
            "type": self.kind,
            "exponent": self.exponent,
            "mean": self.mean,
            "std": self.std,
            "counts": self.counts.tolist(),
            "limits": list(self.limits),
        }

    def _standardise(self, peaks):
        from scipy.special import boxcox

        return (boxcox(peaks, self.exponent) - self.mean) / self.std


def condition_from_dict(description):
    """Make a condition from its stored description.

    Parameters
    ----------
    description : dict
        What ``to_dict`` gave.

    Returns
    -------
    condition : `ClassCondition` or `PeakFluxCondition`
        What was described.

    Raises
    ------
    ValueError
        If there is no such type, or a value is missing or out of range.
    """
    values = dict(description)
    kind = values.pop("type", None)
    known = {one.kind: one for one in (ClassCondition, PeakFluxCondition)}
    if kind not in known:
        raise ValueError(f"condition is {kind!r}; expected one of {', '.join(known)}")
    try:
        return known[kind](**values)
    except TypeError as error:
        raise ValueError(f"condition {kind!r} has other values than expected: {error}") from error


def plain_labels(labels):
    """Labels as text.

    Parameters
    ----------
    labels : sequence of str, bytes or numbers
        Such as a column of a table.

    Returns
    -------
    labels : list of str
        As they print.
    """
    return [one.decode() if isinstance(one, bytes) else str(one) for one in labels]


def _in_jansky(peaks):
    if not hasattr(peaks, "unit"):
        raise ValueError(f"peak_flux is {peaks!r}; expected a Quantity in Jy/beam")
    if not peaks.unit.is_equivalent(JY_PER_BEAM):
        raise ValueError(f"peak_flux is in {peaks.unit}; expected Jy/beam or what converts to it")
    return np.atleast_1d(peaks.to_value(JY_PER_BEAM)).astype(float)
