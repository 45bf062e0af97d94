"""Purity, completeness and fluxes as D24 count them, in many fields with bootstrap errors."""

import re

import astropy.units as u
import numpy as np
from estimates import TOLERANCE

from diffsky.catalog import match_nearest
from diffsky.evaluation import DROZDOVA2024_RADIUS

RELIABILITY = 0.3 - 1e-3  # of detect-aggregate; a hair less, so that rounding decides nothing
RADIUS = DROZDOVA2024_RADIUS.to_value(u.arcsec)
SIGMA_NOISE, BEAM = 50e-6, 0.854  # Jy/beam and arcsec, of D24's normalised S/N
RUN = re.compile(r"D24 run \d+")


class Counted:
    """One of D24's aggregations in many fields.

    A single run is all runs one after the other, so that the scores are those of a run on average.
    """

    def __init__(self, results, name, boot, *, threshold=None):
        self.boot = boot
        if threshold is None:
            threshold = RELIABILITY if "aggregate" in name else -np.inf
        self.rows = [_count(one, _methods(one, name), threshold) for one in results]
        self.sums = np.array([row["sums"] for row in self.rows], dtype=float).T

    @property
    def purity(self):
        """D24 eq. 14."""
        return self.boot.ratio(self.sums[0], self.sums[0] + self.sums[1])

    @property
    def completeness(self):
        """D24 eq. 15."""
        return self.boot.ratio(self.sums[0], self.sums[2])

    @property
    def f1(self):
        """D24 eq. 16."""
        return self.boot.ratio(2 * self.sums[0], self.sums[0] + self.sums[1] + self.sums[2])

    @property
    def fluxes_of_found(self):
        """Share of the sources that are found whose flux is right, D24 table 3."""
        return self.boot.ratio(self.sums[3], self.sums[0])

    @property
    def fluxes_of_all(self):
        """Share of all true sources that are found with the right flux, as section 3.5.3 has it."""
        return self.boot.ratio(self.sums[3], self.sums[2])

    def completeness_between(self, low, high):
        """Completeness for a range of the normalised S/N."""
        cells = []
        for row in self.rows:
            inside = (row["snr"] >= low) & (row["snr"] < high)
            cells.append((row["is_found"][inside].sum(), inside.sum()))
        return self.boot.ratio(*np.array(cells, dtype=float).T)

    def column(self, name):
        """A column of all that are found: flux, flux_err, reliability, true_flux, true_snr..."""
        return np.concatenate([row[name] for row in self.rows])


def normalized_snr(truth):
    """Normalised flux of D24 section 4.4, which takes the same noise everywhere in the field."""
    return truth.flux / SIGMA_NOISE * BEAM**2 / (BEAM**2 + truth.size**2)


def _methods(one, name):
    if name != "single run":
        return [one.catalogs[f"D24 {name}"]]
    return [found for key, found in one.catalogs.items() if RUN.fullmatch(key)]


def _count(one, catalogs, threshold):
    truth, snr, sums, parts, whole = one.truth, normalized_snr(one.truth), np.zeros(4), [], []
    for found in catalogs:
        found = found[found.score >= threshold]
        matches, n_false = match_nearest(found.x, found.y, truth.x, truth.y, radius=RADIUS)
        kept, true = found[matches.catalog_index], matches.truth_index
        n_right = (np.abs(kept.flux - truth.flux[true]) <= TOLERANCE).sum()
        sums += (len(matches), n_false, len(truth), n_right)
        parts.append((kept.flux, truth.flux[true], snr[true], kept.score, kept.flux_err,
                      np.repeat(one.number, len(kept))))  # fmt: skip
        whole.append(np.isin(np.arange(len(truth)), true))
    names = ("flux", "true_flux", "true_snr", "reliability", "flux_err", "number")
    columns = dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))
    snr = np.tile(snr, len(catalogs))
    return {"sums": sums, "snr": snr, "is_found": np.concatenate(whole), **columns}


def neighbours(one, true_flux):
    """Fluxes of the true sources within a beam of the one of this flux, that one included."""
    truth = one.truth
    k = np.abs(truth.flux - true_flux).argmin()
    return truth.flux[np.hypot(truth.x - truth.x[k], truth.y - truth.y[k]) < one.beam]
