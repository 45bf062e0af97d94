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
from diffsky.evaluation._sweep_table import sweep_table
from diffsky.evaluation.recalibration import Recalibration, fit_recalibration, recalibrate
from diffsky.evaluation.reconstruction import pool_reconstructions
from diffsky.evaluation.results import pool_fields

__all__ = ["EvaluationReport", "make_report", "write_report"]

RADII = (0.5, 0.18 * u.arcsec)
THRESHOLDS = {True: 0.5, False: 4.0}  # of a reliability, of a signal-to-noise ratio
REFERENCE = "matched filter"
OWN_THRESHOLDS = {"single run": 0.0, "true sky": 0.0}  # D24 take all that is in one
_ALL = "all"


@dataclass(frozen=True)
class EvaluationReport:
    """What an evaluation found.

    Parameters
    ----------
    tables : dict of str to `~astropy.table.Table`
        ``summary``, one row for each group, radius and method; ``sweep``, the same and the tests
        of the posterior samples against what the groups vary, where there are several; for each
        group and for all together ``scores`` against the threshold;
        ``completeness``, ``purity``, ``flux`` and ``position`` against S/N; ``pairs`` of close
        sources; ``reliability``, the diagram; ``coverage`` of intervals; ``ranks`` and ``tarp``
        of the posterior samples, and the p-values of both in ``posterior``; ``reconstruction``,
        table 1 of D24.
    recalibration : `~diffsky.catalog.Recalibration` or None
        Fitted to these fields, to be used on others. None where there is no detection with a
        reliability.
    settings : dict, optional
        How the results were made, in what JSON can hold.
    """

    tables: dict
    recalibration: Recalibration | None
    settings: dict = field(default_factory=dict)


def make_report(
    results,
    *,
    validation=None,
    recalibration=None,
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
        Other fields. The thresholds are those of the best F1 on them, and without
        ``recalibration`` the diagram is made with one fitted to them too.
    recalibration : `~diffsky.catalog.Recalibration`, optional
        That of the weights. All tables then have recalibrated reliabilities, as a user of the
        weights has them, and the diagram has both.
    thresholds : dict of str to float, optional
        Least scores by method, before all others. Without these and ``validation`` they are 0.5
        for a reliability and 4 for a signal-to-noise ratio; of a single run and of the true sky,
        all detections count.
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
    raw, methods, radius = results, list(results[0].catalogs), radii[0]
    results = recalibrate(results, recalibration)
    known = recalibration
    if validation is not None:
        known = known or fit_recalibration(validation, radius=radius)
        validation = recalibrate(validation, recalibration)
    limits = _thresholds(results, methods, thresholds, validation, radius)
    groups = _groups(results)
    tables = {"summary": _summary(groups, limits, radii, n_bootstrap, seed)}
    for name, make in DETAILS.items():
        parts = [
            _labelled(
                make(members, method, limits[method], radius, n_bootstrap, seed),
                group=group,
                method=method,
            )
            for group, members in groups.items()
            for method in methods
        ]
        tables[name] = vstack(parts)
    rated = [method for method in methods if has_reliability(results, method)]
    curves = {} if known is None else known.curves
    diagrams = [
        _labelled(table, group=group, method=method, recalibrated=recalibrated)
        for group, members in _groups(raw).items()
        for method in rated
        for recalibrated, table in _diagrams(members, method, curves, radius, n_bootstrap, seed)
    ]
    if diagrams:
        tables["reliability"] = vstack(diagrams)
    tables |= _posterior(groups, seed)
    tables |= _reconstruction(groups)
    if len(groups) > 1:
        tables["sweep"] = sweep_table(tables)
    settings = {**(settings or {}), "thresholds": limits, "radii": [str(one) for one in radii]}
    if recalibration is not None:
        settings["recalibration"] = {k: recalibration.describe(k) for k in recalibration.curves}
    return EvaluationReport(tables, fit_recalibration(raw, radius=radius), settings)


def write_report(report, folder):
    """Write a report: tables as ECSV, figures as PNG, and all of it in one page.

    Parameters
    ----------
    report : `EvaluationReport`
        As from `make_report`.
    folder : path-like
        A folder, such as that of `diffsky.products.product_folder`. Gets ``report.html``, which
        needs no other file and no network, ``recalibration.json`` where there is one, and a file
        for each table and each figure.

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
    if report.recalibration is not None:
        text = json.dumps(report.recalibration.to_dict(), indent=2)
        (folder / "recalibration.json").write_text(text + "\n")
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
            usual = THRESHOLDS[has_reliability(results, method)]
            given[method] = OWN_THRESHOLDS.get(method, usual)
        else:
            given[method] = best_threshold(validation, method, radius)
    return {method: float(given[method]) for method in methods}


def _groups(results):
    """All fields, and where there are several groups those of each."""
    names = sorted({one.group for one in results})
    if len(names) == 1:
        return {_ALL: results}
    return {_ALL: results} | {name: [r for r in results if r.group == name] for name in names}


def _summary(groups, limits, radii, n_bootstrap, seed):
    reference = (REFERENCE, limits[REFERENCE]) if REFERENCE in limits else None
    rows = []
    for group, members in groups.items():
        for radius in radii:
            name = str(radius) if isinstance(radius, u.Quantity) else f"{radius:g} beam"
            for method, limit in limits.items():
                row = summary_row(
                    members, method, limit, radius, n_bootstrap, seed, reference=reference
                )
                rows.append({"group": group, "radius": name, "method": method, **row})
    return Table(rows)


def _diagrams(results, method, curves, radius, n_bootstrap, seed):
    """Reliability diagrams with shares of samples, and with recalibrated reliabilities."""
    pool = pool_fields(results, method, radius=radius)
    yield False, reliability_table(pool, None, n_bootstrap, seed)
    if method in curves:
        yield True, reliability_table(pool, curves[method], n_bootstrap, seed)


def _posterior(groups, seed):
    """Tests of the posterior samples, of each group."""
    parts = {}
    for group, members in groups.items():
        for name, table in posterior_tables(members, seed).items():
            parts.setdefault(name, []).append(_labelled(table, group=group))
    return {name: vstack(tables) for name, tables in parts.items()}


def _reconstruction(groups):
    """Table 1 of D24 for each group, from the fields that have its metrics."""
    parts = []
    for group, members in groups.items():
        scores = [one.reconstruction for one in members if one.reconstruction]
        if scores:
            parts.append(_labelled(pool_reconstructions(scores), group=group))
    return {"reconstruction": vstack(parts, metadata_conflicts="silent")} if parts else {}


def _labelled(table, **labels):
    for k, (name, value) in enumerate(labels.items()):
        table.add_column(np.full(len(table), value), name=name, index=k)
    return table
