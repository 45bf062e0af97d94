"""Purity, completeness and fluxes as D24 count them, in many fields with bootstrap errors."""

import re

import numpy as np
from estimates import TOLERANCE

from diffsky.evaluation import DROZDOVA2024_RADIUS, drozdova2024_matches

RELIABILITY = 0.3 - 1e-3  # of detect-aggregate; a hair less, so that rounding decides nothing


class Counted:
    """One of D24's aggregations in many fields.

    A single run is all runs one after the other, so that the scores are those of a run on average.
    """

    def __init__(self, results, name, boot, *, threshold=None, radius=DROZDOVA2024_RADIUS):
        self.boot = boot
        if threshold is None:
            threshold = RELIABILITY if "aggregate" in name else -np.inf
        self.rows = [_count(one, _methods(one, name), threshold, radius) for one in results]
        self.sums = np.array([row["sums"] for row in self.rows], dtype=float).T

    @property
    def purity(self):
        """D24 eq. 14: share of the detections near a true source."""
        return self.boot.ratio(self.sums[1], self.sums[0])

    @property
    def completeness(self):
        """D24 eq. 15: share of the true sources near a detection."""
        return self.boot.ratio(self.sums[3], self.sums[2])

    @property
    def f1(self):
        """D24 eq. 16."""
        purity, completeness = self.purity, self.completeness
        return purity.combine(completeness, lambda p, c: 2 * p * c / (p + c))

    @property
    def fluxes_of_found(self):
        """Share of the true detections with the right flux, D24 table 3."""
        return self.boot.ratio(self.sums[4], self.sums[1])

    @property
    def fluxes_of_all(self):
        """Share of all true sources with a detection of the right flux, as section 3.5.3 has it."""
        return self.boot.ratio(self.sums[5], self.sums[2])

    def completeness_between(self, low, high):
        """Completeness for a range of the normalised S/N."""
        cells = []
        for row in self.rows:
            inside = (row["snr"] >= low) & (row["snr"] < high)
            cells.append((row["is_found"][inside].sum(), inside.sum()))
        return self.boot.ratio(*np.array(cells, dtype=float).T)

    def column(self, name):
        """A column of all true detections: flux, true_flux, true_snr or reliability."""
        return np.concatenate([row[name] for row in self.rows])


def _methods(one, name):
    if name != "single run":
        return [one.catalogs[f"D24 {name}"]]
    return [found for key, found in one.catalogs.items() if re.fullmatch(r"D24 run \d+", key)]


def _count(one, catalogs, threshold, radius):
    truth, sums, parts, whole = one.truth, np.zeros(6), [], []
    for found in catalogs:
        found = found[found.score >= threshold]
        partner, is_found = drozdova2024_matches(found, truth, radius=radius)
        true = partner >= 0
        partner, kept = partner[true], found[true]
        right = np.abs(kept.flux - truth.flux[partner]) <= TOLERANCE
        n_right = len(np.unique(partner[right]))
        sums += (len(found), true.sum(), len(truth), is_found.sum(), right.sum(), n_right)
        parts.append((kept.flux, truth.flux[partner], truth.snr[partner], kept.score, kept.flux_err,
                      np.repeat(one.number, len(kept))))  # fmt: skip
        whole.append(is_found)
    names = ("flux", "true_flux", "true_snr", "reliability", "flux_err", "number")
    columns = dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))
    snr = np.tile(truth.snr, len(catalogs))
    return {"sums": sums, "snr": snr, "is_found": np.concatenate(whole), **columns}


def neighbours(one, true_flux):
    """Fluxes of the true sources within a beam of the one of this flux, that one included."""
    truth = one.truth
    k = np.abs(truth.flux - true_flux).argmin()
    return truth.flux[np.hypot(truth.x - truth.x[k], truth.y - truth.y[k]) < one.beam]
