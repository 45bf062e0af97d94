"""Cutouts of all sources of a survey, one mosaic after the other or many at a time with dask."""

from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import QTable, vstack
from tqdm import tqdm

from diffsky._cluster import submit_to, task_slots
from diffsky._reading import same_beam
from diffsky.generation.cutout_store import CutoutStore, fingerprint, folder_name
from diffsky.generation.cutouts import (
    ABSENT,
    PIXEL,
    SIZE,
    UNRESOLVED,
    Cutouts,
    cut_mosaic,
    join_cutouts,
    n_pixels,
    on_mosaic,
    read_grid,
)
from diffsky.generation.selection import THRESHOLDS, select_cutouts
from diffsky.generation.survey_catalog import read_survey_sources

__all__ = ["make_cutouts"]

_OWN = 1e9  # pixels: what a mosaic is ahead of others for the sources that name it


def make_cutouts(
    mosaics,
    catalog,
    *,
    size=SIZE,
    pixel=PIXEL,
    columns=None,
    resolved=True,
    store=None,
    client=None,
    progress=None,
    **selection,
):
    """Cut the sources of a catalogue out of the mosaics of a survey (V24 section 3.1).

    A source is cut out of the mosaic that its row names, where that is among them and holds the
    source, else out of the one with the source furthest from the edge. One mosaic is in memory at a
    time, on every worker.

    Parameters
    ----------
    mosaics : path-like, `~astropy.nddata.CCDData` or sequence of these
        FITS files or images in Jy/beam or what converts to it.
    catalog : `~astropy.table.Table` or path-like
        As for `read_survey_sources`.
    size, pixel : `~astropy.units.Quantity`, optional
        Sides of a cutout and of its pixels. Default 120 and 1.5 arcsec.
    columns, resolved : optional
        As for `read_survey_sources`.
    store : path-like or None, optional
        Folder of a `CutoutStore` that keeps each mosaic when it is done. A mosaic that is there is
        not made again, unless its file or its part of the catalogue has changed.
    client : `distributed.Client` or None, optional
        Cluster that makes the mosaics; it needs to see their files.
    progress : bool or None, optional
        Show a progress bar; None shows one on a terminal.
    **selection : optional
        Keywords of `select_cutouts`.

    Returns
    -------
    cutouts : `Cutouts`
        Of all mosaics. Sources that lie in none have the reason ``"off the mosaics"``, those that
        are left out because nothing says that they are resolved ``"unresolved"``; they come last.

    Raises
    ------
    ValueError
        If a mosaic has no celestial WCS, unit or beam, beams differ by more than 1 per cent, the
        catalogue lacks a column, a number is out of range or the store has other settings, before
        anything is cut.
    KeyboardInterrupt
        On Ctrl-C; mosaics that are done are in the store.
    """
    mosaics = _listed(mosaics)
    if not hasattr(catalog, "colnames"):
        catalog = QTable.read(catalog)
    sources = read_survey_sources(catalog, columns=columns, resolved=resolved)
    n = n_pixels(size, pixel)
    select_cutouts(np.zeros((0, n, n)), **selection)  # refuses thresholds that are none
    names = _names(mosaics)
    owner = _assign(mosaics, names, sources)
    kept = None
    if store is not None:
        kept = CutoutStore(store, _settings(size, pixel, selection))
    orders = [
        (mosaic, sources[owner == k], names[k])
        for k, mosaic in enumerate(mosaics)
        if (owner == k).any() or (kept is not None and names[k] in kept)
    ]
    options = {"size": size, "pixel": pixel, **selection}
    parts = _cut_all(orders, options, kept, client, progress)
    without = [_without_image(sources[owner < 0], ABSENT)]
    if resolved:
        everything = read_survey_sources(catalog, columns=columns, resolved=False)
        left = everything[~np.isin(everything["row"], sources["row"])]
        without.append(_without_image(left, UNRESOLVED))
    return _with_others(parts, vstack(without), size, pixel)


def _listed(mosaics):
    single = isinstance(mosaics, str | Path) or hasattr(mosaics, "wcs")
    mosaics = [mosaics] if single else list(mosaics)
    if not mosaics:
        raise ValueError("there are no mosaics; expected one or more")
    return mosaics


def _names(mosaics):
    """Names that tell the mosaics apart: of files, with their folder where names repeat."""
    paths = [Path(one) if isinstance(one, str | Path) else None for one in mosaics]
    for depth in (1, 2):
        names = [
            f"mosaic-{k}" if path is None else "_".join(path.parts[-depth:])
            for k, path in enumerate(paths)
        ]
        folders = list(map(folder_name, names))
        twice = sorted({name for name in names if folders.count(folder_name(name)) > 1})
        if not twice:
            return names
    raise ValueError(f"several mosaics are named {', '.join(twice)}; expected different names")


def _assign(mosaics, names, sources):
    """Number of the mosaic of each source, -1 for none."""
    best, owner = np.zeros(len(sources)), np.full(len(sources), -1)
    asked, which = np.unique(np.asarray(sources["mosaic"], dtype=str), return_inverse=True)
    known = None
    for k, mosaic in enumerate(mosaics):
        wcs, shape, beam = read_grid(mosaic)
        known = beam if known is None else known
        if not same_beam(beam, known):
            raise ValueError(f"mosaics have beams of {known} and {beam}; expected one beam")
        margin = on_mosaic(wcs, shape, sources["position"])
        own = np.array([_is_named(names[k], one) for one in asked], dtype=bool)[which]
        margin = np.where(own & (margin > 0), margin + _OWN, margin)
        better = margin > best
        best[better], owner[better] = margin[better], k
    return owner


def _is_named(name, asked):
    """Whether a mosaic is the one that a catalogue names, without what stands after its name."""
    rest = name.removeprefix(asked)
    return bool(asked) and name.startswith(asked) and not rest[:1].isalnum()


def _settings(size, pixel, selection):
    """What decides the cutouts of all mosaics, for the store."""
    thresholds = {name: float(value) for name, value in {**THRESHOLDS, **selection}.items()}
    return {"size": size.to_value(u.arcsec), "pixel": pixel.to_value(u.arcsec), **thresholds}


def _cut_all(orders, options, store, client, progress):
    """Cutouts of each mosaic, in the order of the mosaics."""
    hidden = None if progress is None else not progress
    done = {}
    with tqdm(total=len(orders), unit="mosaic", disable=hidden) as bar:
        for name, part in _made(orders, options, store, client):
            done[name] = part
            bar.update()
    return [done[name] for *_, name in orders]


def _made(orders, options, store, client):
    missing, marks = [], {}
    for mosaic, sources, name in orders:
        marks[name] = None if store is None else fingerprint(mosaic, sources)
        if store is not None and store.has(name, marks[name]):
            yield name, store.read([name])
        else:
            missing.append((mosaic, sources, name))
    results = _on_cluster(missing, options, client) if client else _here(missing, options)
    for name, part in results:
        if store is not None:
            store.write(name, part, mark=marks[name])
        yield name, part


def _here(orders, options):
    for mosaic, sources, name in orders:
        yield name, cut_mosaic(mosaic, sources, **options)


def _on_cluster(orders, options, client):
    """Results as they come; no more tasks at a time than the cluster has use for."""
    waiting, running = list(reversed(orders)), {}
    try:
        while waiting or running:
            while waiting and len(running) < task_slots(client):
                mosaic, sources, name = waiting.pop()
                running[submit_to(client, _cut, mosaic, sources, options)] = name
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield running.pop(future), future.result()
    finally:
        for future in running:
            future.cancel()


def _cut(mosaic, sources, options):
    return cut_mosaic(mosaic, sources, **options)


def _without_image(sources, reason):
    table = sources.copy()
    table["reason"] = np.full(len(table), reason)
    table["signal"] = np.full(len(table), np.nan)
    table["uncertain"] = np.zeros(len(table), dtype=bool)
    table["coverage"] = np.zeros(len(table))
    table["peak_flux"] = np.full(len(table), np.nan) * u.Jy / u.beam
    return table


def _with_others(parts, others, size, pixel):
    n = n_pixels(size, pixel)
    nothing = Cutouts(np.zeros((0, n, n), dtype=np.float32), others, [], None, pixel)
    return join_cutouts([*parts, nothing]) if len(others) or not parts else join_cutouts(parts)
