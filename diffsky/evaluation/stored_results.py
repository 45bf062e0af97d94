"""Results of fields on disk: one file each, so that an evaluation goes on where it stopped."""

import json
import os
import shutil
import tempfile
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np

from diffsky.evaluation.results import Detections, FieldResult, TrueSources

__all__ = ["StoredResults"]

_SETTINGS, _VERSION = "settings.json", 2


class StoredResults:
    """Results of one evaluation in a folder.

    Each is a file of its own, numpy's npz without pickles, which appears whole or not at all.

    Parameters
    ----------
    path : path-like
        The folder; made if need be.
    settings : dict
        What decides the results, in what JSON can hold: weights, number of samples, seed.
    overwrite : bool, optional
        Whether results of other settings are removed.

    Raises
    ------
    ValueError
        If the folder has results of other settings and ``overwrite`` is False, or other things
        than results.
    OSError
        If it cannot be written.
    """

    def __init__(self, path, settings, *, overwrite=False):
        self.path = Path(path).expanduser().absolute()
        self.settings = json.loads(json.dumps({"version": _VERSION, **settings}))
        if self.path.exists() and not self.is_store(self.path):
            raise ValueError(f"{self.path} is no folder of results; expected one, or nothing")
        if self.path.exists() and overwrite and self._stored_settings() != self.settings:
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / _SETTINGS).exists():
            self._place(_SETTINGS, lambda file: file.write(json.dumps(self.settings).encode()))
        self._check_settings()

    @classmethod
    def is_store(cls, path):
        """Tell whether a folder is one of results.

        Parameters
        ----------
        path : path-like
            The folder.

        Returns
        -------
        bool
            Whether it is one, or empty.
        """
        path = Path(path)
        empty = path.is_dir() and not any(path.iterdir())
        return empty or (path / _SETTINGS).is_file()

    @classmethod
    def load(cls, path):
        """Open results that are there.

        Parameters
        ----------
        path : path-like
            The folder.

        Returns
        -------
        stored : `StoredResults`
            With the settings they were made with.

        Raises
        ------
        ValueError
            If the folder has no results.
        """
        path = Path(path)
        if not (path / _SETTINGS).is_file():
            raise ValueError(f"{path} is no folder of results: it has no {_SETTINGS}")
        settings = json.loads((path / _SETTINGS).read_text())
        settings.pop("version", None)
        return cls(path, settings)

    def __contains__(self, key):
        return self._file(*key).exists()

    def __len__(self):
        return len(self._files())

    def write(self, result):
        """Store a result; one of the same group and number is replaced.

        Parameters
        ----------
        result : `FieldResult`
            The result.

        Raises
        ------
        OSError
            If it cannot be written. Nothing that was stored is lost.
        """
        name = self._file(result.group, result.number).name
        self._place(name, lambda file: np.savez_compressed(file, **_flatten(result)))

    def read(self):
        """Read all results.

        Returns
        -------
        results : list of `FieldResult`
            In the order of groups and numbers.

        Raises
        ------
        ValueError
            If a file is damaged.
        """
        results = []
        for path in self._files():
            try:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                    results.append(_unflatten(dict(stored)))
            except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
                raise ValueError(
                    f"{path} is damaged ({error}); remove it, and it is made again"
                ) from error
        return sorted(results, key=lambda one: (one.group, one.number))

    def _file(self, group, number):
        # The group is the name of a folder already; an empty one is a single store.
        return self.path / f"{group or 'field'}-{int(number):08d}.npz"

    def _files(self):
        return sorted(self.path.glob("*.npz"))

    def _place(self, name, write):
        """Write a file under another name, then give it its own."""
        handle, scratch = tempfile.mkstemp(prefix=".writing-", dir=self.path)
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
            os.replace(scratch, self.path / name)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise

    def _stored_settings(self):
        try:
            return json.loads((self.path / _SETTINGS).read_text())
        except FileNotFoundError:
            return None

    def _check_settings(self):
        stored = self._stored_settings()
        if stored == self.settings:
            return
        names = sorted({*stored, *self.settings})
        different = [
            f"{name} {stored.get(name)!r}, now {self.settings.get(name)!r}"
            for name in names
            if stored.get(name) != self.settings.get(name)
        ]
        raise ValueError(
            f"{self.path} has results of other settings ({'; '.join(different)}); expected the "
            "same, another folder, or overwrite"
        )


def _flatten(result):
    """All of a result as named arrays."""
    arrays = {
        "number": result.number,
        "beam": result.beam,
        "rms": result.rms,
        "group": result.group,
        "methods": list(result.catalogs),
        "quantities": list(result.posterior),
        "aggregations": list(result.reconstruction),
    }
    tables = {"truth": result.truth}
    tables |= {f"found/{k}": table for k, table in enumerate(result.catalogs.values())}
    for name, table in tables.items():
        for one in fields(table):
            values = getattr(table, one.name)
            if values is not None:
                arrays[f"{name}/{one.name}"] = values
    for k, (truth, samples) in enumerate(result.posterior.values()):
        arrays[f"posterior/{k}/truth"], arrays[f"posterior/{k}/samples"] = truth, samples
    for k, scores in enumerate(result.reconstruction.values()):
        arrays[f"reconstruction/{k}"] = scores
    return {name: np.asarray(values) for name, values in arrays.items()}


def _unflatten(arrays):
    methods, quantities = (arrays[name].tolist() for name in ("methods", "quantities"))
    posterior = {
        name: (arrays[f"posterior/{k}/truth"], arrays[f"posterior/{k}/samples"])
        for k, name in enumerate(quantities)
    }
    names = arrays["aggregations"].tolist()
    reconstruction = {name: arrays[f"reconstruction/{k}"] for k, name in enumerate(names)}
    return FieldResult(
        number=int(arrays["number"]),
        beam=float(arrays["beam"]),
        rms=float(arrays["rms"]),
        truth=_table(TrueSources, arrays, "truth"),
        catalogs={name: _table(Detections, arrays, f"found/{k}") for k, name in enumerate(methods)},
        posterior=posterior,
        group=str(arrays["group"]),
        reconstruction=reconstruction,
    )


def _table(kind, arrays, name):
    columns = {one.name: arrays.get(f"{name}/{one.name}") for one in fields(kind)}
    missing = [key for key, values in columns.items() if values is None and key != "flux_samples"]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    return kind(**columns)
