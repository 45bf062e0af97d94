"""All figures of merit against what the groups of an evaluation vary, D24 section 4.6."""

import re

import numpy as np
from astropy.table import Table

__all__ = ["sweep_table"]

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")
_COPIED = (
    "n_fields", "threshold", "purity", "purity_err", "mean_reliability", "completeness",
    "completeness_err", "f1", "f1_err", "f1_ratio", "f1_ratio_err", "flux_within_rms", "flux_bias",
    "flux_bias_err", "flux_scatter", "position_ratio", "coverage_50", "coverage_68", "coverage_90",
    "ece", "ece_err", "ece_chance",
)  # fmt: skip
_ALL = "all"


def sweep_table(tables):
    """Put what each group has into one row for each method.

    Parameters
    ----------
    tables : dict of str to `~astropy.table.Table`
        ``summary`` and, where there is one, ``posterior`` of an `EvaluationReport`, with a column
        ``group``.

    Returns
    -------
    table : `~astropy.table.Table`
        group; value, the number in its name, NaN without one; method; figures of merit of the
        summary at its first radius; purity_excess, purity less mean reliability, 0 where
        reliabilities are probabilities; and for each quantity of the posterior samples the p-value
        of its ranks and the distance and p-value of TARP, which all methods with samples share.
        In the order of the values.
    """
    summary = tables["summary"]
    chosen = summary[(summary["radius"] == summary["radius"][0]) & (summary["group"] != _ALL)]
    table = Table({"group": chosen["group"], "value": list(map(_value, chosen["group"]))})
    table["method"] = chosen["method"]
    for name in _COPIED:
        table[name] = chosen[name]
    excess = chosen["purity"] - chosen["mean_reliability"]
    table.add_column(excess, name="purity_excess", index=table.index_column("completeness"))
    for name, values in _posterior_columns(tables.get("posterior"), table).items():
        table[name] = values
    return table[np.argsort(table["value"], kind="stable")]


def _value(group):
    found = _NUMBER.search(group.split("=", 1)[-1])
    return float(found.group()) if found else np.nan


def _posterior_columns(posterior, table):
    """Columns of the tests, NaN for methods without samples."""
    if posterior is None:
        return {}
    known = {(row["group"], row["quantity"]): row for row in posterior}
    columns = {}
    for quantity in dict.fromkeys(posterior["quantity"].tolist()):
        for name in ("rank_p_value", "tarp_distance", "tarp_p_value"):
            columns[f"{quantity.replace(' ', '_')}_{name}"] = [
                known[row["group"], quantity][name]
                if np.isfinite(row["ece"]) and (row["group"], quantity) in known
                else np.nan
                for row in table
            ]
    return columns
