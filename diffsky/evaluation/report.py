"""From the results of many fields to tables, figures and one page."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import Table, vstack

from diffsky.evaluation._report_tables import (
    DETAILS,
    best_threshold,
    has_reliability,
    posterior_tables,
    reliability_table,
    summary_row,
)
from diffsky.evaluation.recalibration import IsotonicRecalibration
from diffsky.evaluation.results import pool_fields

__all__ = ["EvaluationReport", "make_report", "write_report"]

RADII = (0.5, 0.18 * u.arcsec)
THRESHOLDS = {True: 0.5, False: 4.0}  # of a reliability, of a signal-to-noise ratio
REFERENCE = "matched filter"
_ALL = "all"


@dataclass(frozen=True)
class EvaluationReport:
    """What an evaluation found.

    Parameters
    ----------
    tables : dict of str to `~astropy.table.Table`
        ``summary``, one row for each group, radius and method; ``scores`` against the threshold;
        ``completeness``, ``purity``, ``flux`` and ``position`` against S/N; ``pairs`` of close
        sources; ``reliability``, the diagram; ``coverage`` of intervals; ``ranks`` and ``tarp``
        of the posterior samples, and the p-values of both in ``posterior``.
    recalibrations : dict of str to `IsotonicRecalibration`
        For each method with reliabilities, fitted to these fields: to be used on others.
    settings : dict, optional
        How the results were made, in what JSON can hold.
    """

    tables: dict
    recalibrations: dict
    settings: dict = field(default_factory=dict)


def make_report(
    results,
    *,
    validation=None,
    thresholds=None,
    radii=RADII,
    settings=None,
    n_bootstrap=1000,
    seed=0,
):
    """Make all tables of an evaluation.

    Parameters
    ----------
    results : sequence of `FieldResult`
        At least one field; all with the same methods and quantities.
    validation : sequence of `FieldResult`, optional
        Other fields. The thresholds are those of the best F1 on them, and the diagram is made
        with reliabilities recalibrated on them too.
    thresholds : dict of str to float, optional
        Least scores by method, before all others. Without these and ``validation`` they are 0.5
        for a reliability and 4 for a signal-to-noise ratio.
    radii : sequence of float or `~astropy.units.Quantity`, optional
        Matching radii of the summary, in beams or angles; all other tables have the first.
        Default half a beam and 0.18 arcsec.
    settings : dict, optional
        How the results were made.
    n_bootstrap : int, optional
        Bootstraps over fields. Default 1000.
    seed : int, optional
        Of everything random.

    Returns
    -------
    report : `EvaluationReport`
        All of it.

    Raises
    ------
    ImportError
        Without the extra ``evaluation``.
    ValueError
        Without fields, or for thresholds of methods that there are not.
    """
    if len(results) == 0:
        raise ValueError("results are empty; expected at least one FieldResult")
    methods = list(results[0].catalogs)
    limits = _thresholds(results, methods, thresholds, validation, radii[0])
    tables = {"summary": _summary(results, limits, radii, n_bootstrap, seed)}
    for name, make in DETAILS.items():
        parts = [
            _labelled(make(results, method, limits[method], radii[0], n_bootstrap, seed), method)
            for method in methods
        ]
        tables[name] = vstack([part for part in parts if part is not None])
    rated = [method for method in methods if has_reliability(results, method)]
    fitted = _recalibrations(results, rated, radii[0])
    known = {} if validation is None else _recalibrations(validation, rated, radii[0])
    rows = []
    for method in rated:
        pool = pool_fields(results, method, radius=radii[0])
        raw = reliability_table(pool, None, n_bootstrap, seed)
        rows.append(_labelled(raw, method, recalibrated=False))
        if method in known:
            table = reliability_table(pool, known[method], n_bootstrap, seed)
            rows.append(_labelled(table, method, recalibrated=True))
    if rows:
        tables["reliability"] = vstack(rows)
    tables |= posterior_tables(results, seed)
    settings = {**(settings or {}), "thresholds": limits, "radii": [str(one) for one in radii]}
    return EvaluationReport(tables, fitted, settings)


def write_report(report, folder):
    """Write a report: tables as ECSV, figures as PNG, and all of it in one page.

    Parameters
    ----------
    report : `EvaluationReport`
        As from `make_report`.
    folder : path-like
        A folder, such as that of `diffsky.products.product_folder`. Gets ``report.html``, which
        needs no other file and no network, ``recalibration.json``, and a file for each table and
        each figure.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    from diffsky.evaluation._figures import make_figures
    from diffsky.evaluation._html import make_page

    folder = Path(folder)
    for name, table in report.tables.items():
        table.meta["settings"] = report.settings
        table.write(folder / f"{name}.ecsv", format="ascii.ecsv", overwrite=True)
    stored = {name: one.to_dict() for name, one in report.recalibrations.items()}
    (folder / "recalibration.json").write_text(json.dumps(stored, indent=2) + "\n")
    figures = make_figures(report.tables)
    for name, (picture, _) in figures.items():
        (folder / f"{name}.png").write_bytes(picture)
    page = make_page(report.tables, figures, report.settings)
    (folder / "report.html").write_text(page, encoding="utf-8")


def _thresholds(results, methods, given, validation, radius):
    given = dict(given or {})
    unknown = sorted(set(given) - set(methods))
    if unknown:
        raise ValueError(f"thresholds are given for {unknown}; the methods are {methods}")
    for method in methods:
        if method in given:
            continue
        if validation is None:
            given[method] = THRESHOLDS[has_reliability(results, method)]
        else:
            given[method] = best_threshold(validation, method, radius)
    return {method: float(given[method]) for method in methods}


def _summary(results, limits, radii, n_bootstrap, seed):
    groups = {one.group for one in results}
    chosen = {_ALL: list(results)}
    if len(groups) > 1:
        chosen |= {name: [r for r in results if r.group == name] for name in sorted(groups)}
    rows = []
    for group, members in chosen.items():
        for radius in radii:
            reference = REFERENCE if REFERENCE in limits else None
            for method, limit in limits.items():
                row = summary_row(
                    members, method, limit, radius, n_bootstrap, seed,
                    reference=reference and (reference, limits[reference]),
                )  # fmt: skip
                name = str(radius) if isinstance(radius, u.Quantity) else f"{radius:g} beam"
                rows.append({"group": group, "radius": name, "method": method, **row})
    return Table(rows)


def _recalibrations(results, methods, radius):
    fitted = {}
    for method in methods:
        pool = pool_fields(results, method, radius=radius)
        if len(pool.found):
            fitted[method] = IsotonicRecalibration.fit(pool.found.score, pool.is_true)
    return fitted


def _labelled(table, method, **labels):
    if table is None:
        return None
    for k, (name, value) in enumerate({"method": method, **labels}.items()):
        table.add_column(np.full(len(table), value), name=name, index=k)
    return table
