"""Make reliabilities probabilities and intervals cover, by what was right on a validation set."""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["IsotonicRecalibration", "Recalibration"]

_VERSION = 2
_LEAST_PART = 0.5  # of the samples that a curve was fitted to
_SAME_RADIUS = 1e-3  # beams


class IsotonicRecalibration:
    """Monotonic function from the share of samples to the probability that a source is true.

    Linear between its knots and constant beyond the last; a source in no sample has 0 unless there
    is a knot for it. Shares that were right equally often get one reliability. It holds for skies
    like those of the validation set.

    Parameters
    ----------
    share : array_like
        Knots, ascending, between 0 and 1.
    reliability : array_like
        Probability at each knot, not falling, between 0 and 1.

    Raises
    ------
    ValueError
        If they are not like this.
    """

    def __init__(self, share, reliability):
        knots, values = (np.array(v, dtype=float) for v in (share, reliability))
        is_list = knots.ndim == 1 and knots.shape == values.shape and knots.size > 0
        if not is_list or not all(((v >= 0) & (v <= 1)).all() for v in (knots, values)):
            raise ValueError(
                "share and reliability must be lists of one length with numbers between 0 "
                f"and 1, got {knots} and {values}"
            )
        if not (np.diff(knots) > 0).all() or not (np.diff(values) >= 0).all():
            raise ValueError(
                f"share must ascend and reliability not fall, got {knots} and {values}"
            )
        self.share, self.reliability = knots, values

    def __repr__(self):
        return f"IsotonicRecalibration({self.share.tolist()}, {self.reliability.tolist()})"

    @classmethod
    def fit(cls, share, is_true):
        """Fit to detections of a validation set (pool-adjacent-violators algorithm).

        Half a true detection is added at the lowest share and half a false one at the highest, so
        that no finite number of detections makes a source certain or impossible: where all shares
        are alike this is the estimate with Jeffreys' prior.

        Parameters
        ----------
        share : array_like
            Shape (n,): share of the samples with each detection.
        is_true : array_like of bool
            Shape (n,): whether there is a true source.

        Returns
        -------
        recalibration : `IsotonicRecalibration`
            The monotonic function with the least squared error, with a knot at every share that
            occurs, and one of 0 at 0.

        Raises
        ------
        ValueError
            Without detections, or for shares that are none.
        """
        from scipy.optimize import isotonic_regression

        share, is_true = np.asarray(share, dtype=float), np.asarray(is_true, bool)
        if share.ndim != 1 or share.shape != is_true.shape or not share.size:
            raise ValueError(
                "expected one or more detections, each with a share of samples and whether it is "
                f"true, got shapes {share.shape} and {is_true.shape}"
            )
        knots, which, n = np.unique(share, return_inverse=True, return_counts=True)
        n_true, n = np.bincount(which, is_true), n.astype(float)
        n_true[0] += 0.5
        n[0] += 0.5
        n[-1] += 0.5
        fitted = isotonic_regression(n_true / n, weights=n, increasing=True).x
        if knots[0] > 0:
            knots, fitted = np.append(0.0, knots), np.append(0.0, fitted)
        return cls(knots, np.clip(fitted, 0, 1))

    def __call__(self, share):
        """Recalibrate shares.

        Parameters
        ----------
        share : array_like
            Any shape.

        Returns
        -------
        reliability : `numpy.ndarray`
            The same shape.
        """
        return np.interp(share, self.share, self.reliability)

    def to_dict(self):
        """Give what JSON can hold.

        Returns
        -------
        dict
            ``share`` and ``reliability``, lists of numbers.
        """
        return {"share": self.share.tolist(), "reliability": self.reliability.tolist()}

    @classmethod
    def from_dict(cls, values):
        """Make it from what `to_dict` gave.

        Parameters
        ----------
        values : dict
            As from `to_dict`; other keys are ignored.

        Returns
        -------
        recalibration : `IsotonicRecalibration`
            The same function.

        Raises
        ------
        ValueError
            If it holds something else.
        """
        try:
            return cls(values["share"], values["reliability"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"expected lists of share and reliability: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Recalibration:
    """The recalibration of each strategy, and what it holds for.

    Parameters
    ----------
    curves : dict of str to `IsotonicRecalibration`
        By strategy.
    n_detections : dict of str to int
        How many detections each curve was fitted to.
    n_fields : int
        In how many fields these were.
    n_samples : int
        How many posterior samples the shares were of.
    radius : float, optional
        Radius in beams within which detections in several samples were one source. Default 0.5.
    prior : str, optional
        The skies of the validation set, in words.
    sampling : dict, optional
        Sampler and noise levels, as `diffsky.DiffusionDeconvolver.sampling_plan` gives them. Empty
        holds for any.
    widths : dict of str to float, optional
        By strategy, the factor on the flux intervals that lets 68 % of them hold the true flux.
        1 for a strategy that is not among them.

    Raises
    ------
    ValueError
        If ``curves`` are none, or other strategies than in ``n_detections``, or numbers are not
        above 0.
    """

    curves: dict
    n_detections: dict
    n_fields: int
    n_samples: int
    radius: float = 0.5
    prior: str = ""
    sampling: dict = field(default_factory=dict)
    widths: dict = field(default_factory=dict)

    def __post_init__(self):
        if not self.curves or set(self.curves) != set(self.n_detections):
            raise ValueError(
                "expected a curve and a number of detections for one or more strategies, got "
                f"{list(self.curves)} and {list(self.n_detections)}"
            )
        numbers = (self.n_fields, self.n_samples, *self.n_detections.values())
        if not all(isinstance(n, int) and n > 0 for n in numbers) or not self.radius > 0:
            raise ValueError(f"expected numbers above 0, got {numbers} and radius {self.radius}")
        numbers = all(isinstance(width, int | float) for width in self.widths.values())
        if not numbers or not all(0 < width < np.inf for width in self.widths.values()):
            raise ValueError(f"expected widths above 0, got {self.widths}")
        if not set(self.widths) <= set(self.curves):
            raise ValueError(
                f"expected widths for some of {list(self.curves)}, got {list(self.widths)}"
            )

    def width(self, strategy):
        """Factor on the flux intervals of a strategy.

        Parameters
        ----------
        strategy : str
            Any.

        Returns
        -------
        width : float
            1 where there is none.
        """
        return float(self.widths.get(strategy, 1.0))

    def unfit_for(self, n_samples, radius, sampling):
        """Say why a run cannot be recalibrated.

        Shares of a few samples scatter more than those of many, which the curve does not undo;
        down to half of its samples, and for any larger number, that is below 0.02.

        Parameters
        ----------
        n_samples : int
            Posterior samples of the run.
        radius : float
            Its radius in beams.
        sampling : dict
            Its sampler and noise levels.

        Returns
        -------
        reason : str
            Empty where it can be used.
        """
        if n_samples < _LEAST_PART * self.n_samples:
            return f"it is for {self.n_samples} samples, here are {n_samples}"
        if abs(radius - self.radius) > _SAME_RADIUS:
            return f"it is for a radius of {self.radius:g} beam, here {radius:g}"
        if self.sampling and sampling != self.sampling:
            return "it is for another sampler"
        return ""

    def describe(self, strategy):
        """Say in one line what a curve holds for.

        Parameters
        ----------
        strategy : str
            One of ``curves``.

        Returns
        -------
        text : str
            Numbers of detections, fields and samples, the prior, and the factor on the intervals.
        """
        prior = f", prior {self.prior}" if self.prior else ""
        return (
            f"isotonic, {self.n_detections[strategy]} detections in {self.n_fields} fields, "
            f"{self.n_samples} samples{prior}; flux intervals x {self.width(strategy):.2f}"
        )

    def to_dict(self):
        """Give what JSON can hold.

        Returns
        -------
        dict
            Everything; ``strategies`` has the tables from share to reliability, and the widths.
        """
        tables = {
            name: {
                "n_detections": self.n_detections[name],
                "width": self.width(name),
                **curve.to_dict(),
            }
            for name, curve in self.curves.items()
        }
        return {
            "version": _VERSION,
            "n_fields": self.n_fields,
            "n_samples": self.n_samples,
            "radius": self.radius,
            "prior": self.prior,
            "sampling": dict(self.sampling),
            "strategies": tables,
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
        recalibration : `Recalibration`
            The same.

        Raises
        ------
        ValueError
            If it holds something else.
        """
        if not isinstance(values, dict) or values.get("version") not in (1, _VERSION):
            received = values.get("version") if isinstance(values, dict) else values
            raise ValueError(
                f"expected a recalibration of version 1 or {_VERSION}, got {received!r}"
            )
        try:
            tables = dict(values["strategies"])
            return cls(
                curves={k: IsotonicRecalibration.from_dict(t) for k, t in tables.items()},
                n_detections={k: t["n_detections"] for k, t in tables.items()},
                widths={k: float(t.get("width", 1.0)) for k, t in tables.items()},
                **{k: values[k] for k in ("n_fields", "n_samples", "radius", "prior", "sampling")},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"expected a recalibration: {error}") from error
