"""Make reliabilities probabilities, by what was right on a validation set."""

import numpy as np

__all__ = ["IsotonicRecalibration"]


class IsotonicRecalibration:
    """Monotonic function from the share of samples to the probability that a source is true.

    Linear between its knots and constant beyond the first and the last. It holds for skies like
    those of the validation set.

    Parameters
    ----------
    reliability : array_like
        Knots, ascending, between 0 and 1.
    probability : array_like
        Probability at each knot, not falling, between 0 and 1.

    Raises
    ------
    ValueError
        If they are not like this.
    """

    def __init__(self, reliability, probability):
        knots, values = (np.array(v, dtype=float) for v in (reliability, probability))
        is_list = knots.ndim == 1 and knots.shape == values.shape and knots.size > 0
        if not is_list or not all(((v >= 0) & (v <= 1)).all() for v in (knots, values)):
            raise ValueError(
                "reliability and probability must be lists of one length with numbers between 0 "
                f"and 1, got {knots} and {values}"
            )
        if not (np.diff(knots) > 0).all() or not (np.diff(values) >= 0).all():
            raise ValueError(
                f"reliability must ascend and probability not fall, got {knots} and {values}"
            )
        self.reliability, self.probability = knots, values

    def __repr__(self):
        knots, values = self.reliability.tolist(), self.probability.tolist()
        return f"IsotonicRecalibration({knots}, {values})"

    @classmethod
    def fit(cls, reliability, is_true):
        """Fit to detections of a validation set (pool-adjacent-violators algorithm).

        Parameters
        ----------
        reliability : array_like
            Shape (n,): share of the samples with each detection.
        is_true : array_like of bool
            Shape (n,): whether there is a true source.

        Returns
        -------
        recalibration : `IsotonicRecalibration`
            The monotonic function with the least squared error, with a knot at every
            reliability that occurs.

        Raises
        ------
        ValueError
            Without detections, or for reliabilities that are none.
        """
        from scipy.optimize import isotonic_regression

        reliability, is_true = np.asarray(reliability, dtype=float), np.asarray(is_true, bool)
        if reliability.ndim != 1 or reliability.shape != is_true.shape or not reliability.size:
            raise ValueError(
                "expected one or more detections, each with a reliability and whether it is true, "
                f"got shapes {reliability.shape} and {is_true.shape}"
            )
        knots, which, n = np.unique(reliability, return_inverse=True, return_counts=True)
        share = np.bincount(which, is_true) / n
        fitted = isotonic_regression(share, weights=n.astype(float), increasing=True).x
        return cls(knots, np.clip(fitted, 0, 1))

    def __call__(self, reliability):
        """Recalibrate reliabilities.

        Parameters
        ----------
        reliability : array_like
            Any shape.

        Returns
        -------
        probability : `numpy.ndarray`
            The same shape.
        """
        return np.interp(reliability, self.reliability, self.probability)

    def to_dict(self):
        """Give what JSON can hold.

        Returns
        -------
        dict
            ``type``, ``reliability`` and ``probability``, the latter two lists of numbers.
        """
        return {
            "type": "isotonic",
            "reliability": self.reliability.tolist(),
            "probability": self.probability.tolist(),
        }

    @classmethod
    def from_dict(cls, values):
        """Make it from what `to_dict` gave.

        Parameters
        ----------
        values : dict
            As from `to_dict`.

        Returns
        -------
        recalibration : `IsotonicRecalibration`
            The same function.

        Raises
        ------
        ValueError
            If it holds something else.
        """
        if not isinstance(values, dict) or values.get("type") != "isotonic":
            raise ValueError(f"expected a dict with type 'isotonic', got {values!r}")
        try:
            return cls(values["reliability"], values["probability"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"expected lists of reliability and probability: {error}") from error
