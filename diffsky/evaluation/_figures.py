"""Figures of a report, each from one of its tables."""

import io

import numpy as np

__all__ = ["make_figures"]

_SIZE, _DPI = (6.4, 4.2), 110  # inches, dots per inch
_IDENTITY = {"color": "0.6", "ls": "--", "lw": 1}


def make_figures(tables):
    """Draw what there are tables for.

    Parameters
    ----------
    tables : dict of str to `~astropy.table.Table`
        Those of an `EvaluationReport`.

    Returns
    -------
    figures : dict of str to tuple
        By its name, the picture (bytes of a PNG) and the caption.
    """
    figures = {}
    for name, (draw, caption) in _FIGURES.items():
        if name in tables and len(tables[name]):
            figures[name] = (_render(draw, _together(tables[name], name)), caption)
    return figures


def _together(table, name):
    """The rows of all groups together, which a sweep has not."""
    return table if name == "sweep" or "group" not in table.colnames else _of_group(table, "all")


def _of_group(table, group):
    return table[table["group"] == group]


def _render(draw, table):
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    draw(figure, table)
    file = io.BytesIO()
    # Without the version of matplotlib the same table gives the same bytes.
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()


def _scores(figure, table):
    """Purity, completeness and F1 against threshold: reliabilities and S/N do not share an axis."""
    groups = [(m, t) for m, t in _by(table, "method")]
    limits = {method: t["threshold"].max() <= 1 for method, t in groups}
    kinds = [kind for kind in (True, False) if kind in limits.values()]
    for axes, kind in zip(np.atleast_1d(figure.subplots(1, len(kinds))), kinds, strict=True):
        for k, (method, rows) in enumerate([g for g in groups if limits[g[0]] == kind]):
            for name, style in (("f1", "-"), ("purity", ":"), ("completeness", "--")):
                label = method if name == "f1" else None  # the caption has the styles
                axes.plot(rows["threshold"], rows[name], style, color=f"C{k}", label=label, lw=1.5)
            axes.fill_between(
                rows["threshold"], *_around(rows["f1"], rows["f1_err"]), color=f"C{k}", alpha=0.2
            )
        axes.set(xlabel="least reliability" if kind else "least S/N", ylim=(0, 1.02))
        axes.legend(fontsize=7)


def _shares(label, x_label):
    def draw(figure, table):
        axes = figure.subplots()
        for k, (method, rows) in enumerate(_by(table, "method")):
            _errors(axes, _middle(rows) * 1.015**k, rows, "share", method)
        axes.set(xlabel=x_label, ylabel=label, ylim=(0, 1.02))
        _signal_axis(axes)
        axes.legend(fontsize=8)

    return draw


def _flux(figure, table):
    above, below = figure.subplots(2, 1, sharex=True)
    for k, (method, rows) in enumerate(_by(table, "method")):
        x = _middle(rows) * 1.015**k
        above.errorbar(x, rows["bias"], rows["bias_err"], fmt="o-", ms=3, lw=1, label=method)
        below.plot(x, rows["scatter"], "o-", ms=3, lw=1)
    above.axhline(0, **_IDENTITY)
    above.set(ylabel="median (flux − true) / flux", ylim=_within(table["bias"], 0.5, 1.0))
    below.set(xlabel="estimated S/N", ylabel="scatter", ylim=(0, None))
    _signal_axis(below)
    above.legend(fontsize=7)


def _position(figure, table):
    axes = figure.subplots()
    for method, rows in _by(table, "method"):
        axes.plot(_middle(rows), rows["error"], "o-", ms=3, lw=1, label=method)
    rows = next(iter(_by(table, "method")))[1]
    axes.plot(_middle(rows), rows["theory"], **_IDENTITY, label="theory")
    axes.set(yscale="log")
    axes.set(xlabel="normalised injected flux", ylabel="error of one coordinate (beams)")
    _signal_axis(axes)
    _plain_numbers(axes.yaxis)
    axes.legend(fontsize=8)


def _pairs(figure, table):
    axes = figure.subplots()
    for k, (method, rows) in enumerate(_by(table, "method")):
        middle = (rows["separation_low"] + rows["separation_high"]) / 2
        _errors(axes, middle + 0.01 * k, rows, "told_apart", method)
    axes.set(xlabel="separation (beams)", ylabel="share told apart", ylim=(0, 1.02))
    axes.set(xlim=(0, table["separation_high"].max()))
    if not table["n"].sum():
        axes.set_title("no pairs as close as this", size=9)
    axes.legend(fontsize=8)


def _reliability(figure, table):
    axes = figure.subplots()
    for k, (method, kind) in enumerate(_by(table, "method")):
        for recalibrated, rows in _by(kind, "recalibrated"):
            rows = rows[rows["n"] > 0]
            if not len(rows):
                continue
            label = (
                f"{method}{', recalibrated' if recalibrated else ''}: error {rows['ece'][0]:.3f}"
            )
            style = {"color": f"C{k}", "mfc": "white"} if recalibrated else {"color": f"C{k}"}
            _errors(axes, rows["reliability"], rows, "share", label, **style)
    axes.plot([0, 1], [0, 1], **_IDENTITY)
    axes.set(xlabel="reliability", ylabel="share that is true", xlim=(0, 1.02), ylim=(0, 1.02))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7)


def _coverage(figure, table):
    axes = figure.subplots()
    for k, (method, rows) in enumerate(_by(table, "method")):
        _errors(axes, rows["level"] + 0.005 * k, rows, "coverage", method)
    axes.plot([0, 1], [0, 1], **_IDENTITY)
    axes.set(xlabel="level of the interval", ylabel="share of true fluxes inside")
    axes.set(xlim=(0.3, 1), ylim=(0, 1.02))
    axes.legend(fontsize=8)


def _sweep(figure, table):
    figure.set_size_inches(9, 5)
    names = ("f1_ratio", "purity", "completeness", "ece", "coverage_68", "flux_bias")
    labels = ("F1 / matched filter", "purity", "completeness", "calibration error",
              "coverage of 68 %", "flux bias")  # fmt: skip
    for axes, name, label in zip(figure.subplots(2, 3).flat, names, labels, strict=True):
        for k, (method, rows) in enumerate(_by(table, "method")):
            known = np.isfinite(rows["value"]).all()
            x = rows["value"] if known else np.arange(len(rows))
            error = rows[f"{name}_err"] if f"{name}_err" in rows.colnames else None
            axes.errorbar(x, rows[name], error, fmt="o-", color=f"C{k}", ms=3, lw=1, label=method)
            if name == "purity":
                axes.plot(x, rows["mean_reliability"], "--", color=f"C{k}", lw=1)
        if known and (x > 0).all():
            axes.set_xscale("log")
        axes.minorticks_off()
        names_of_x = [f"{value:.3g}" for value in x] if known else rows["group"].tolist()
        axes.set_xticks(x, names_of_x, fontsize=7, rotation=45)
        axes.set(ylabel=label)
        if name in ("f1_ratio", "coverage_68", "flux_bias"):
            axes.axhline({"f1_ratio": 1, "coverage_68": 0.68}.get(name, 0), **_IDENTITY)
    figure.axes[0].legend(fontsize=6)


def _ranks(figure, table):
    groups = list(_by(table, "quantity"))
    for axes, (name, rows) in zip(
        np.atleast_1d(figure.subplots(1, len(groups))), groups, strict=True
    ):
        # Relative to what is expected, since bins may hold different numbers of ranks.
        edges, spread = np.arange(len(rows) + 1), 2 / np.sqrt(rows["expected"])
        axes.stairs(rows["n"] / rows["expected"], edges, fill=True, color="C0", alpha=0.6)
        axes.stairs(1 + spread, edges, baseline=1 - spread, fill=True, color="0.5", alpha=0.3)
        axes.axhline(1, **_IDENTITY)
        axes.set_title(name, size=9)
        axes.set(xlabel="rank of the truth", xticks=[], ylim=(0, None))


def _tarp(figure, table):
    axes = figure.subplots()
    for k, (name, rows) in enumerate(_by(table, "quantity")):
        axes.plot(rows["credibility"], rows["coverage"], color=f"C{k}", label=name)
        axes.fill_between(
            rows["credibility"],
            *_around(rows["coverage"], rows["coverage_err"]),
            color=f"C{k}",
            alpha=0.2,
        )
    axes.plot([0, 1], [0, 1], **_IDENTITY)
    axes.set(xlabel="credibility", ylabel="expected coverage", xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize=8)


_FIGURES = {
    "scores": (_scores, "F1 (solid), purity (dotted) and completeness (dashed) against the least "
               "score that a detection needs."),
    "completeness": (_shares("completeness", "normalised injected flux"),
                     "Share of the true sources that are found, with binomial intervals."),
    "purity": (_shares("purity", "estimated S/N"),
               "Share of the detections that are true, with binomial intervals."),
    "reliability": (_reliability, "Share of the detections that are true against their "
                    "reliability. The number is the expected calibration error."),
    "coverage": (_coverage, "Share of the true fluxes inside the intervals of the matched "
                 "sources."),
    "flux": (_flux, "Bias and scatter of the fluxes of matched sources, relative to the "
             "estimated flux."),
    "position": (_position, "Position errors of matched sources, and the least that noise allows."),
    "pairs": (_pairs, "Pairs of true sources that are each other's nearest: share with a "
              "detection for each."),
    "sweep": (_sweep, "Figures of merit against what the groups vary: F1 over that of the matched "
              "filter, purity (points) and mean reliability (dashed), completeness, calibration "
              "error, coverage of the 68 % interval, and flux bias."),
    "ranks": (_ranks, "Ranks of the truth among the posterior samples, which are flat where these "
              "are samples of the posterior. The band is two standard deviations wide on either "
              "side."),
    "tarp": (_tarp, "Expected coverage of the posterior samples (TARP). Calibrated posteriors lie "
             "on the diagonal."),
}  # fmt: skip


def _by(table, column):
    for value in dict.fromkeys(table[column].tolist()):
        yield value, table[table[column] == value]


def _middle(rows):
    """Middle of the bins on a logarithmic axis, which has no 0."""
    return np.sqrt(np.maximum(rows["snr_low"], rows["snr_high"] / 2) * rows["snr_high"])


def _signal_axis(axes):
    """A logarithmic axis of S/N."""
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)


def _plain_numbers(axis):
    """Label 1, 2, 5, 10 and so on as such, not as powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _within(values, least, most):
    """Limits about 0 that show all values up to `most`, and no less than `least`."""
    largest = np.nanmax(np.abs(values), initial=0.0)
    reach = float(np.clip(1.1 * largest, least, most))
    return -reach, reach


def _errors(axes, x, rows, name, label, **style):
    y, low, high = (np.asarray(rows[key], dtype=float) for key in (name, "lower", "upper"))
    errors = np.clip([y - low, high - y], 0, None)
    axes.errorbar(x, y, errors, fmt="o-", ms=3, lw=1, capsize=2, label=label, **style)


def _around(value, error):
    return value - error, value + error
