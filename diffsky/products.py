"""What a run leaves: a folder of files, and tables to read on a terminal."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import Table

from diffsky.visualization import fitting_unit

__all__ = [
    "format_catalog",
    "format_comparison",
    "product_folder",
    "truth_catalog",
    "write_products",
]

CERTAIN = 0.5  # reliability
_NAMES = ("sky.fits", "catalog.ecsv", "catalog.reg", "overview.png")
_MORE_NAMES = ("dirty.fits", "truth.ecsv", "residual.fits")


@contextlib.contextmanager
def product_folder(folder, *, overwrite=False):
    """Fill a folder with files, all of them or none.

    The folder is made, and tried, before the block runs. The block writes into a temporary folder
    inside it, whose files are moved to their places when the block ends without an error. After
    an error, or Ctrl-C, the folder is as it was before.

    Parameters
    ----------
    folder : path-like
        The folder; made with its parents if need be.
    overwrite : bool, optional
        Whether the folder may have something in it. Files with the names of new ones are
        replaced, all others stay.

    Yields
    ------
    stage : `pathlib.Path`
        The folder to write into.

    Raises
    ------
    FileExistsError
        If the folder has something in it and ``overwrite`` is False, or a folder where a file
        has to go.
    NotADirectoryError
        If there is a file in its place.
    OSError
        If it cannot be made or written.
    """
    folder = Path(folder).expanduser().resolve()
    _check_folder(folder, overwrite)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with _removed_if_empty(missing), _stage(folder) as stage:
        yield stage
        for path in sorted(stage.iterdir()):
            os.replace(path, folder / path.name)


def write_products(folder, sky, catalog, figure, *, images=None, catalogs=None):
    """Write a result.

    Parameters
    ----------
    folder : path-like
        An empty folder, such as that of `product_folder`. Gets ``sky.fits``, ``catalog.ecsv``,
        ``catalog.reg`` (DS9) and ``overview.png``.
    sky : `~astropy.nddata.CCDData`
        The sky with its standard deviation and mask.
    catalog : `~astropy.table.QTable`
        Its sources.
    figure : `~matplotlib.figure.Figure`
        The picture.
    images : dict of str to `~astropy.nddata.CCDData`, optional
        Further images by the names of their files, which end in .fits.
    catalogs : dict of str to `~astropy.table.QTable`, optional
        Further catalogues likewise, in .ecsv, .fits or .vot.

    Raises
    ------
    OSError
        If a file exists or cannot be written.
    """
    from diffsky.catalog import catalog_to_regions, write_catalog
    from diffsky.images import write_image

    folder = Path(folder)
    image_name, catalog_name, regions_name, picture_name = _NAMES
    for name, image in {image_name: sky, **(images or {})}.items():
        write_image(image, folder / name)
    for name, table in {catalog_name: catalog, **(catalogs or {})}.items():
        write_catalog(table, folder / name)
    catalog_to_regions(catalog).write(folder / regions_name, format="ds9")
    figure.savefig(folder / picture_name, dpi=150)


def truth_catalog(sources, observation, *, rms, meta=None):
    """Catalogue of the true sources of a simulated pointing.

    Parameters
    ----------
    sources : `~astropy.table.Table`
        ``x_centroid``, ``y_centroid``, ``flux``, ``major``, ``minor``, ``pa``, as
        `diffsky.simulation.SourceList.to_table` gives them.
    observation : `diffsky.simulation.Observation`
        What was observed.
    rms : float
        Noise rms of the dirty image in Jy/beam.
    meta : dict, optional
        What the table's ``meta`` shall hold.

    Returns
    -------
    `~astropy.table.QTable`
        All columns of `diffsky.catalog.source_table`, brightest first in ``snr``, without errors
        and with a reliability of 1.
    """
    from diffsky.catalog import source_table

    x, y = (np.asarray(sources[name], dtype=float) for name in ("x_centroid", "y_centroid"))
    gain = observation.primary_beam.data[np.rint(y).astype(int), np.rint(x).astype(int)]
    cell = observation.dirty.meta["pixel_scale"]
    flux = sources["flux"].to_value(u.Jy) * gain
    columns = {"x": x, "y": y, "flux": flux, "flux_lower": flux, "flux_upper": flux}
    columns |= {name: (sources[name] / cell).to_value(u.one) for name in ("major", "minor")}
    columns["pa"] = sources["pa"].to_value(u.deg) + 90  # from north to +x
    columns |= dict.fromkeys(("flux_err", "position_err", "n_detections", "flags"), 0 * flux)
    columns["reliability"] = np.ones(len(flux))
    truth = source_table(
        Table(columns),
        wcs=observation.dirty.wcs,
        beam=observation.beam,
        rms=rms * u.Jy / u.beam,
        primary_beam=gain,
        meta=meta,
    )
    truth = truth[np.argsort(-truth["snr"], kind="stable")]
    truth["id"] = np.arange(1, len(truth) + 1)
    return truth


def format_catalog(catalog):
    """Catalogue as lines of text.

    Parameters
    ----------
    catalog : `~astropy.table.QTable`
        As from `diffsky.catalog.source_table`.

    Returns
    -------
    str
        One line a source, with two of headings; position, flux with its 68 % interval as
        distances from it, S/N, reliability, flags.
    """
    if not len(catalog):
        return "No source was found."
    unit = _unit(catalog)
    heads = [("id", ""), ("position (ICRS)", ""), *_flux_heads(unit)]
    heads += [("S/N", ""), ("reliability", ""), ("flags", "")]
    rows = [
        [str(row["id"]), _position(row), *_flux_cells(row, unit)]
        + [f"{row['snr']:.1f}", f"{row['reliability']:.2f}", str(row["flags"])]
        for row in catalog
    ]
    return _lines(heads, rows)


def format_comparison(catalog, truth, *, radius):
    """Catalogue beside the truth as text.

    Parameters
    ----------
    catalog, truth : `~astropy.table.QTable`
        As from `diffsky.catalog.source_table`.
    radius : `~astropy.units.Quantity`
        Sources no farther apart than this angle are matched, one to one.

    Returns
    -------
    str
        Matched sources, sources without a true one, missed true sources, and purity and
        completeness of what has a reliability of at least 0.5.
    """
    from diffsky.catalog import match_catalogs

    matches = match_catalogs(catalog, truth, radius=radius)
    unit = _unit(truth)
    near = f"within {radius.to_value(u.arcsec):.2f} arcsec"
    heads = [("id", ""), ("true flux", f"{unit:unicode}"), ("true S/N", ""), *_flux_heads(unit)]
    heads += [("offset", "arcsec"), ("reliability", "")]
    rows = []
    for i, j, offset in zip(
        matches.catalog_index, matches.truth_index, matches.separation, strict=True
    ):
        row, true = catalog[int(i)], truth[int(j)]
        cells = [str(row["id"]), f"{true['flux'].to_value(unit):.3g}", f"{true['snr']:.1f}"]
        cells += [*_flux_cells(row, unit), f"{offset.to_value(u.arcsec):.2f}"]
        rows.append([*cells, f"{row['reliability']:.2f}"])
    parts = [f"Sources {near} of a true one", _lines(heads, rows)]
    others = np.setdiff1d(np.arange(len(catalog)), matches.catalog_index)
    missed = np.setdiff1d(np.arange(len(truth)), matches.truth_index)
    if len(others):
        parts += ["", f"Sources with no true one {near}", format_catalog(catalog[others])]
    if len(missed):
        heads = [("true flux", f"{unit:unicode}"), ("true S/N", ""), ("position (ICRS)", "")]
        rows = [
            [f"{row['flux'].to_value(unit):.3g}", f"{row['snr']:.1f}", _position(row)]
            for row in truth[missed]
        ]
        parts += ["", f"True sources with none {near}", _lines(heads, rows)]
    return "\n".join([*parts, "", _summary(catalog, truth, radius)])


def _summary(catalog, truth, radius):
    from diffsky.catalog import score_catalogs

    certain = catalog[catalog["reliability"] >= CERTAIN]
    scores = score_catalogs(certain, truth, radius=radius)
    found = (
        f"{scores.n_true_positive} of {scores.n_truth} true sources are found "
        f"(completeness {scores.completeness:.2f})"
    )
    if not len(certain):
        return f"No source has a reliability of {CERTAIN} or more, so nothing is claimed; {found}."
    return (
        f"With a reliability of {CERTAIN} or more: {scores.n_true_positive} of {len(certain)} "
        f"sources are true (purity {scores.purity:.2f}), and {found}.\n"
        "These are the counts of one field with few sources, not a measure of the method."
    )


def _unit(catalog):
    return fitting_unit(np.nanmax(catalog["flux"].to_value(u.Jy)))


def _flux_heads(unit):
    return [(name, f"{unit:unicode}") for name in ("flux", "-err", "+err")]


def _flux_cells(row, unit):
    flux, low, high = (row[name].to_value(unit) for name in ("flux", "flux_lower", "flux_upper"))
    return [f"{v:.3g}" if np.isfinite(v) else "-" for v in (flux, flux - low, high - flux)]


def _position(row):
    return row["sky_centroid"].to_string("hmsdms", sep=":", precision=2)


def _lines(heads, rows):
    """Columns flush right under their names and units."""
    if not rows:
        return "  none"
    table = [[name for name, _ in heads], [unit for _, unit in heads], *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(map(str.rjust, cells, widths)) for cells in table)
    return "\n".join(f"  {line}".rstrip() for line in lines)


def _check_folder(folder, overwrite):
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; expected a folder, or nothing, in its place")
    content = list(folder.iterdir()) if folder.is_dir() else []
    if content and not overwrite:
        raise FileExistsError(
            f"{folder} is not empty; expected an empty folder or none, or overwrite"
        )
    for path in content:
        if path.name in (*_NAMES, *_MORE_NAMES) and path.is_dir():
            raise FileExistsError(f"{path} is a folder; expected a file, or nothing, in its place")


@contextlib.contextmanager
def _stage(folder):
    """A temporary folder inside a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".diffsky-", dir=folder))
    except OSError as error:
        raise OSError(f"cannot write into {folder}: {error.strerror}") from error
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def _removed_if_empty(folders):
    """Remove folders after the block unless something is in them."""
    try:
        yield
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
