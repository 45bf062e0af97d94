"""Cutouts of a survey on disk: one group a mosaic, whole or not at all."""

import hashlib
import io
import json
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS

from diffsky._reading import make_beam
from diffsky._store_files import (
    DamagedError,
    Record,
    is_scratch,
    place_group,
    read_attributes,
    read_group,
    read_node,
    remove_leftovers,
    scratch_folder,
    verify_group,
    write_group,
    write_node,
)
from diffsky.generation.cutouts import Cutouts, join_cutouts

__all__ = ["CutoutStore", "fingerprint", "folder_name"]

_FORMAT, _VERSION = "diffsky-cutouts", 1
_WORDS = ("name", "mosaic", "reason")  # columns that may be empty


class CutoutStore:
    """Cutouts of many mosaics in a folder, a zarr group for each mosaic.

    Parameters
    ----------
    path : str or path-like
        The folder; a new or empty one becomes a store.
    settings : dict or None, optional
        What the cutouts are made with, in what JSON can hold; a store has one set of them. None
        opens a store as it is, to read.

    Raises
    ------
    FileNotFoundError
        If there is no store and ``settings`` is None.
    ValueError
        If the folder holds something else, another version of the format, or cutouts that were made
        with other settings.

    Notes
    -----
    A group has the arrays ``images``, ``crpix`` and ``crval``, and as attributes the beam in
    degrees, the projection and, as ECSV, the table of the sources. Nothing is pickled.
    """

    def __init__(self, path, settings=None):
        self.path = Path(path).expanduser().absolute()
        fresh = not self.path.exists() or all(is_scratch(one.name) for one in self.path.iterdir())
        if settings is not None and fresh:
            self.path.mkdir(parents=True, exist_ok=True)
            write_node(
                self.path, {"format": _FORMAT, "version": _VERSION, "settings": dict(settings)}
            )
        elif fresh:
            raise FileNotFoundError(f"there is no store of cutouts in {self.path}")
        self.settings = self._check(settings)
        if settings is not None:
            remove_leftovers(self.path)

    def __contains__(self, name):
        return self._is_whole(folder_name(name))

    def has(self, name, mark):
        """Whether the cutouts of a mosaic are there and whole, and still those that are asked for.

        Parameters
        ----------
        name : str
            Of the mosaic.
        mark : str
            `fingerprint` of the mosaic and its sources.

        Returns
        -------
        has : bool
            Whether they are.
        """
        folder = folder_name(name)
        return self._is_whole(folder) and read_attributes(self.path / folder)["mark"] == mark

    def __len__(self):
        """Mosaics."""
        return len(self.names())

    def names(self):
        """List the mosaics whose cutouts are there and whole.

        Returns
        -------
        names : list of str
            In the order of their names.
        """
        folders = sorted(one.name for one in self.path.iterdir() if one.is_dir())
        return [name for name in folders if not is_scratch(name) and self._is_whole(name)]

    def write(self, name, cutouts, *, mark=""):
        """Store the cutouts of a mosaic, in place of those of the same name.

        Parameters
        ----------
        name : str
            Of the mosaic.
        cutouts : `diffsky.generation.Cutouts`
            What was cut out of it.
        mark : str, optional
            `fingerprint` of the mosaic and its sources.

        Raises
        ------
        OSError
            If it cannot be written. Nothing that was stored is lost.
        """
        folder = folder_name(name)
        try:
            with scratch_folder(self.path) as scratch:
                write_group(scratch / folder, _encode(name, cutouts, mark))
                if (self.path / folder).exists():
                    (self.path / folder).rename(scratch / f"old-{folder}")
                place_group(scratch / folder, self.path / folder, scratch, verify_group)
        except OSError as error:
            reason = error.strerror or error
            message = f"cannot store the cutouts of {name} in {self.path}: {reason}"
            raise OSError(error.errno, message) from error

    def read(self, names=None):
        """Read cutouts, compared with their checksums.

        Parameters
        ----------
        names : sequence of str or None, optional
            Of the mosaics; None means all.

        Returns
        -------
        cutouts : `diffsky.generation.Cutouts`
            Of all these mosaics together.

        Raises
        ------
        KeyError
            If a mosaic is not there.
        ValueError
            If what is stored of a mosaic is damaged, there are none, or beams differ.
        """
        names = self.names() if names is None else names
        return join_cutouts(self._read(name) for name in names)

    def _read(self, name):
        folder = self.path / folder_name(name)
        if not folder.exists():
            raise KeyError(f"{self.path} has no cutouts of {name}")
        try:
            attributes = verify_group(folder)
        except DamagedError as error:
            raise ValueError(
                f"the cutouts of {name} in {self.path} are damaged: {error}; make them again"
            ) from None
        return _decode(read_group(folder, ("images", "crpix", "crval")), attributes)

    def _is_whole(self, folder):
        try:
            verify_group(self.path / folder)
        except DamagedError:
            return False
        return True

    def _check(self, settings):
        try:
            marker = read_node(self.path)
        except DamagedError as error:
            raise ValueError(f"{self.path} is no store of cutouts: {error}") from None
        if (marker.get("format"), marker.get("version")) != (_FORMAT, _VERSION):
            raise ValueError(
                f"{self.path} has the format {marker.get('format')!r}, version "
                f"{marker.get('version')!r}; expected {_FORMAT!r}, version {_VERSION}"
            )
        stored = marker["settings"]
        if settings is not None and stored != settings:
            other = [key for key in {*stored, *settings} if stored.get(key) != settings.get(key)]
            raise ValueError(
                f"the cutouts in {self.path} were made with other settings than asked for: "
                f"{', '.join(sorted(other))}; expected another folder"
            )
        return stored


def folder_name(name):
    """Name of the group of a mosaic.

    Parameters
    ----------
    name : str
        Of the mosaic.

    Returns
    -------
    folder : str
        One that every file system takes; those of LoTSS stay as they are.
    """
    return "".join(c if c.isalnum() or c in "+-._" else "_" for c in str(name)).lstrip(".") or "_"


def fingerprint(mosaic, sources):
    """What tells an order to cut from others: the mosaic and the sources.

    Parameters
    ----------
    mosaic : str, path-like or `~astropy.nddata.CCDData`
        A file, told by its path, size and time of change, or an image, by its pixels.
    sources : `~astropy.table.QTable`
        As from `read_survey_sources`.

    Returns
    -------
    mark : str
        Hexadecimal digits.
    """
    digest = hashlib.sha256()
    if isinstance(mosaic, str | Path):
        about = Path(mosaic).stat()
        known = [str(Path(mosaic).absolute()), about.st_size, about.st_mtime_ns]
        digest.update(json.dumps(known).encode())
    else:
        digest.update(np.ascontiguousarray(mosaic.data).tobytes())
        digest.update(mosaic.wcs.to_header_string().encode())
    place = sources["position"].icrs
    for column in (place.ra.deg, place.dec.deg, np.asarray(sources["row"])):
        digest.update(np.ascontiguousarray(column).tobytes())
    digest.update(json.dumps(list(map(str, sources["name"]))).encode())
    return digest.hexdigest()


def _encode(name, cutouts, mark):
    grids = [grid.wcs for grid in cutouts.wcs]
    text = io.StringIO()
    table = cutouts.sources.copy()
    table.meta.clear()
    table.write(text, format="ascii.ecsv")
    beam = cutouts.beam
    return Record(
        {
            "images": cutouts.images,
            "crpix": np.array([grid.crpix for grid in grids], dtype=float).reshape(-1, 2),
            "crval": np.array([grid.crval for grid in grids], dtype=float).reshape(-1, 2),
        },
        {
            "mosaic": str(name),
            "mark": mark,
            "pixel_scale": cutouts.pixel_scale.to_value(u.arcsec),
            "beam": [getattr(beam, key).to_value(u.deg) for key in ("major", "minor", "pa")],
            "header": cutouts.wcs[0].to_header_string() if grids else "",
            "sources": text.getvalue(),
        },
    )


def _decode(arrays, attributes):
    grids = []
    for crpix, crval in zip(arrays["crpix"], arrays["crval"], strict=True):
        grid = WCS(fits.Header.fromstring(attributes["header"]))
        grid.wcs.crpix, grid.wcs.crval = crpix, crval
        grids.append(grid)
    major, minor, pa = attributes["beam"] * u.deg
    return Cutouts(
        arrays["images"],
        _read_table(attributes["sources"]),
        grids,
        make_beam((major, minor, pa)),
        attributes["pixel_scale"] * u.arcsec,
    )


def _read_table(text):
    """A table of sources from ECSV, which takes empty words for missing ones."""
    table = QTable.read(text, format="ascii.ecsv")
    for name in _WORDS:
        if hasattr(table[name], "mask"):
            table[name] = table[name].filled("")
    return table
