"""Tables 1 to 4 of D24, ours beside the printed ones."""

from dataclasses import replace

import numpy as np
import printed
from counted import Counted, neighbours
from estimates import Bootstrap

from diffsky.evaluation import pool_reconstructions

MEDIAN = "median"
LEAST_FLUX = 25e-6  # Jy, half that of the faintest source
D24_FIELD = 512  # pixels
N_OUTLIERS = 5


def rows_of(runs, network):
    """Roots of D24's tables, and the results of a kind of network for each, or none."""
    return ((gamma, runs.get((network, gamma))) for gamma in printed.GAMMAS)


def print_reconstruction(runs, network, size):
    """Table 1, ours beside the printed one; errors are its standard deviations.

    `size` is that of fields smaller than those of D24, where they are compared on no more.
    """
    print("\nD24 table 1: mean squared error (1e-5), peak S/N (dB), structural similarity")
    if size is not None:
        share = (size / D24_FIELD) ** 2
        print(
            f"  on the inner {size} pixels; were the rest of {D24_FIELD} without error, mean"
            f" squared errors would be {share:.2f} of these, peak S/N"
            f" {-10 * np.log10(share):.1f} dB more"
        )
    for gamma, results in rows_of(runs, network):
        if results is None:
            print(f"  gamma {gamma:<3} not run")
            continue
        table = pool_reconstructions([one.reconstruction for one in results])
        for name, mse, mse_err, *others in table.iterrows():
            cells = (1e5 * mse, 1e5 * mse_err, *others)
            shown = "".join(f"{a:>9.3f} ±{b:.3f}" for a, b in zip(*[iter(cells)] * 2, strict=True))
            theirs = printed.RECONSTRUCTION[gamma][name]
            print(f"  gamma {gamma:<3} {name:<18}{shown}   printed {theirs}")


def print_localization(runs, network):
    """Tables 2 and 3."""
    print("\nD24 table 2 (purity, completeness, F1) and table 3 (fluxes within 50 uJy), per cent")
    print(f"  {'':<29}{'purity':>14}{'completeness':>14}{'F1':>14}{'flux, found':>14}"
          f"{'flux, all':>14}   printed")  # fmt: skip
    for gamma, results in rows_of(runs, network):
        if results is None:
            print(f"  gamma {gamma:<3} not run")
            continue
        for name in printed.AGGREGATIONS:
            theirs = (*printed.LOCALIZATION[gamma][name], 100 * printed.FLUXES[gamma][name])
            print_row(f"gamma {gamma:<3} {name}", results, name, theirs)
    known = next(iter(runs.values()))
    print_row("photutils on the true sky", known, "true sky", printed.OTHERS["true sky"])
    for title in ("PyBDSF, clean image", "Taran et al. (2023)"):
        print(f"  {title:<99}   " + ", ".join(f"{value:g}" for value in printed.OTHERS[title]))
    print(f"  {'CLEAN + PyBDSF, fluxes':<99}   {100 * printed.FLUXES_CLEAN:g}")


def print_row(title, results, name, theirs):
    """Our figures in per cent beside printed ones."""
    one = Counted(results, name, Bootstrap(len(results)))
    figures = (one.purity, one.completeness, one.f1, one.fluxes_of_found, one.fluxes_of_all)
    cells = (f"{100 * value.value:.2f} ±{100 * value.error:.2f}" for value in figures)
    print(f"  {title:<29}" + "".join(f"{cell:>14}" for cell in cells)
          + "   " + ", ".join(f"{value:g}" for value in theirs))  # fmt: skip


def print_outliers(results):
    """The kind of table 4: fluxes that are furthest from the truth."""
    counted = Counted(results, MEDIAN, Bootstrap(len(results)))
    columns = ("flux", "true_flux", "number")
    flux, true, number = (counted.column(name) for name in columns)
    fields = {one.number: one for one in results}
    print(f"\nD24 table 4: largest relative errors of the flux, {MEDIAN}, uJy")
    for k in np.argsort(-np.abs(flux / true - 1))[:N_OUTLIERS]:
        near = ", ".join(f"{1e6 * x:.0f}" for x in neighbours(fields[number[k]], true[k]))
        print(f"  field {number[k]}: {1e6 * flux[k]:.0f} for {1e6 * true[k]:.0f}; "
              f"true sources within a beam: {near}")  # fmt: skip
    for real, predicted in printed.OUTLIERS:
        print(f"  printed: {predicted} for {real}")


def print_false(results):
    """Where the false detections are, and the F1 without what is too faint for a source."""
    boot = Bootstrap(len(results))
    whole = Counted(results, MEDIAN, boot)
    bright = Counted([brighter(one, LEAST_FLUX) for one in results], MEDIAN, boot)
    empty = np.array([len(one.truth) == 0 for one in results])
    print(f"\nfalse detections, {MEDIAN}: {whole.sums[1].sum():g}, of them in {empty.sum()} fields"
          f" without a source {whole.sums[1][empty].sum():g}, above {1e6 * LEAST_FLUX:g} uJy"
          f" {bright.sums[1].sum():g}; F1 of detections above that {bright.f1}")  # fmt: skip


def brighter(one, flux):
    """A field without the detections that are fainter."""
    catalogs = {name: found[found.flux >= flux] for name, found in one.catalogs.items()}
    return replace(one, catalogs=catalogs)
