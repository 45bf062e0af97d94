"""One page with everything in it: text, tables, and pictures as data."""

import base64
import html

import numpy as np

__all__ = ["make_page"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em;
       color: #222; background: #fff; }
table { border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums; }
th, td { padding: 2px 7px; text-align: right; border-bottom: 1px solid #ddd; }
th { background: #f3f3f3; position: sticky; top: 0; }
.wide { overflow-x: auto; max-height: 32em; }
figure { margin: 1.5em 0; } img { max-width: 100%; } figcaption { color: #555; }
"""
_TITLES = {
    "summary": "Summary",
    "sweep": "Sweep",
    "scores": "Threshold",
    "completeness": "Completeness",
    "purity": "Purity",
    "reliability": "Reliability",
    "coverage": "Flux intervals",
    "flux": "Fluxes",
    "position": "Positions",
    "pairs": "Close pairs",
    "posterior": "Posterior samples: tests",
    "ranks": "Posterior samples: ranks",
    "tarp": "Posterior samples: TARP",
    "reconstruction": "Reconstruction of the normalised sky",
}
_OPEN = ("summary", "sweep", "posterior")


def make_page(tables, figures, settings, *, title="diffsky: evaluation"):
    """Write a page that needs neither another file nor a network.

    Parameters
    ----------
    tables : dict of str to `~astropy.table.Table`
        Those of an `EvaluationReport`.
    figures : dict of str to tuple
        By the names of tables, pictures (PNG) and captions.
    settings : dict
        How the results were made.
    title : str, optional
        Title of the page.

    Returns
    -------
    page : str
        HTML.
    """
    parts = [f"<h1>{_text(title)}</h1>", _settings(settings)]
    names = [*_TITLES, *(name for name in tables if name not in _TITLES)]
    for name in names:
        if name in tables and len(tables[name]):
            parts.append(f"<h2>{_text(_TITLES.get(name, name))}</h2>")
            if name in figures:
                parts.append(_figure(*figures[name]))
            parts.append(_details(name, _table(tables[name])))
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _settings(settings):
    rows = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>"
        for name, value in settings.items()
    )
    return f"<table>{rows}</table>"


def _figure(picture, caption):
    data = base64.b64encode(picture).decode("ascii")
    return (
        f'<figure><img alt="{_text(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _details(name, table):
    start = "<details open>" if name in _OPEN else "<details>"
    return f'{start}<summary>{name}.ecsv</summary><div class="wide">{table}</div></details>'


def _table(table):
    head = "".join(f"<th>{_text(name)}</th>" for name in table.colnames)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{_text(_cell(value))}</td>" for value in row) + "</tr>"
        for row in table
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value):
    if isinstance(value, np.bool_ | bool):
        return "yes" if value else "no"
    if isinstance(value, np.floating | float):
        return f"{value:.4g}" if np.isfinite(value) else "–"
    return str(value)


def _text(value):
    return html.escape(str(value))
