"""Data sets of simulated pairs on disk: appendable, resumable, and checked when opened."""

import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

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
from diffsky.exceptions import DiffskyWarning
from diffsky.simulation._pair_codec import decode_pair, decode_plain, encode_pair

__all__ = ["PairStore"]

_FORMAT, _VERSION = "diffsky-pairs", 1
_NODE, _PAIRS, _SETUPS = "zarr.json", "pairs", "setups"
_NAMED = 20  # damaged pairs that a warning gives reasons for


class PairStore:
    """Simulated pairs in a folder, in the format zarr 3: one group per pair.

    Any number of threads and processes may write to one store, on one machine or, where they
    share the folder, on several. A pair appears in the store whole or not at all, also when its
    writer is killed. PSF, primary beam, uv points, weights and beam are stored once for all pairs
    that have the same ones. Images are stored as float32.

    Parameters
    ----------
    path : str or path-like
        The folder.
    mode : {"a", "r"}, optional
        ``"a"`` (default) reads and appends, and makes the store where there is none; ``"r"``
        reads.
    verify : bool, optional
        Compare all that is stored with its checksums, in threads. Damaged pairs are named in one
        warning and skipped until they are written again. Without it, damage shows when a pair
        is read.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, with ``mode="r"``.
    ValueError
        If the mode is another one, if the folder holds something else than a store, or a store
        of another version of the format.
    OSError
        If the folder cannot be made or written to.

    Notes
    -----
    Nothing in a store is pickled. The groups ``pairs/00000012`` hold the arrays ``dirty`` and
    ``sky`` and, as attributes, the rest; the groups ``setups`` are named by what they hold.
    """

    def __init__(self, path, *, mode="a", verify=True):
        if mode not in ("a", "r"):
            raise ValueError(f"mode is {mode!r}; expected 'a' (read and append) or 'r' (read)")
        self.path, self.mode = Path(path).expanduser().absolute(), mode
        self._damaged = {}
        self._whole_setups, self._last_setup = set(), None
        _open_folder(self.path, mode)
        if mode == "a":
            remove_leftovers(self.path)
        if verify:
            self._verify(self.numbers())
            self._warn()

    def __repr__(self):
        return f"PairStore({str(self.path)!r}, mode={self.mode!r}): {len(self)} pairs"

    def __getstate__(self):
        return {**vars(self), "_last_setup": None}

    def __len__(self):
        """Number of whole pairs."""
        return len(self.numbers())

    def __contains__(self, number):
        try:
            return self._folder(number).exists() and number not in self._damaged
        except ValueError:
            return False

    @property
    def damaged(self):
        """list of int : numbers of the pairs that were found damaged, in increasing order."""
        return sorted(self._damaged)

    def numbers(self):
        """List the whole pairs, those of other writers included.

        Returns
        -------
        list of int
            Their numbers in increasing order.
        """
        with os.scandir(self.path / _PAIRS) as entries:
            numbers = sorted(int(e.name) for e in entries if _is_pair_name(e.name))
        return [number for number in numbers if number not in self._damaged]

    def write(self, number, pair):
        """Store a pair, unless there is a whole one of this number.

        Parameters
        ----------
        number : int
            0 or more.
        pair : `diffsky.simulation.SimulatedPair`
            Masked pixels are stored as NaN, the positions of the sources as ICRS. What has no
            plain form in the ``meta`` of an image is left out, and so is ``measurement_set``.

        Returns
        -------
        bool
            Whether it was stored. False where the store has a pair of this number, which stays; a
            damaged one is replaced, or mended where only its set-up was damaged.

        Raises
        ------
        TypeError, ValueError
            If the number or the pair is none.
        io.UnsupportedOperation
            If the store was opened with ``mode="r"``.
        OSError
            If it cannot be written, for instance to a full disk. Nothing that was stored is
            lost, and nothing is left of this pair.
        """
        if self.mode == "r":
            raise io.UnsupportedOperation(f"{self.path} was opened with mode='r'; expected 'a'")
        target = self._folder(number)
        if target.exists() and self._is_whole(number):
            return False
        setup, own = encode_pair(pair)
        try:
            with scratch_folder(self.path) as scratch:
                self._write_setup(setup, scratch)
                write_group(scratch / target.name, own)
                stored = place_group(scratch / target.name, target, scratch, self._verify_folder)
        except OSError as error:
            message = f"cannot store pair {number} in {self.path}: {error.strerror or error}"
            raise OSError(error.errno, message) from error
        self._damaged.pop(int(number), None)
        return stored

    def read(self, number):
        """Read a pair, compared with its checksums.

        Parameters
        ----------
        number : int
            One of `numbers`.

        Returns
        -------
        `diffsky.simulation.SimulatedPair`
            Its ``measurement_set`` is None.

        Raises
        ------
        KeyError
            If there is no pair of this number.
        ValueError
            If the pair is damaged.
        """
        folder = self._existing(number)
        try:
            attributes = self._verify_pair(number)
        except DamagedError as error:
            self._damaged[int(number)] = str(error)
            raise ValueError(
                f"pair {number} of {self.path} is damaged: {error}; write it again"
            ) from None
        own = Record(read_group(folder, attributes["images"]), attributes)
        return decode_pair(self._read_setup(attributes["setup"]), own)

    def parameters(self, number):
        """Read the parameters of a pair alone.

        Parameters
        ----------
        number : int
            One of `numbers`.

        Returns
        -------
        dict
            What its ``parameters`` are: all inputs of the simulation, the seed of the noise and
            the version of CASA.

        Raises
        ------
        KeyError
            If there is no pair of this number.
        ValueError
            If its attributes are damaged.
        """
        return decode_plain(read_attributes(self._existing(number))["parameters"])

    def _folder(self, number):
        is_int = isinstance(number, int | np.integer) and not isinstance(number, bool)
        if not is_int or number < 0:
            raise ValueError(f"number is {number!r}; expected an int of 0 or more")
        return self.path / _PAIRS / _pair_name(number)

    def _existing(self, number):
        folder = self._folder(number)
        if not folder.exists():
            raise KeyError(f"there is no pair {number} in {self.path}, which has {len(self)}")
        return folder

    def _read_setup(self, address):
        """Read a set-up, from memory where it is that of the last pair."""
        last = self._last_setup
        if last is None or last[0] != address:
            folder = self.path / _SETUPS / address
            attributes = read_attributes(folder)
            arrays = read_group(folder, [*attributes["images"], "uv", "weights"])
            self._last_setup = last = (address, Record(arrays, attributes))
        return last[1]

    def _write_setup(self, setup, scratch):
        """Store a set-up; a damaged one is replaced, which may mend pairs that need it."""
        address = setup.address
        target = self.path / _SETUPS / address
        try:
            return self._verify_setup(address)
        except DamagedError:
            write_group(scratch / address, setup)
        place_group(scratch / address, target, scratch, verify_group)
        self._whole_setups.add(address)
        self._verify(self.damaged)

    def _is_whole(self, number):
        try:
            self._verify_pair(number)
        except DamagedError:
            return False
        self._damaged.pop(int(number), None)
        return True

    def _verify_pair(self, number):
        return self._verify_folder(self._folder(number))

    def _verify_folder(self, folder):
        attributes = verify_group(folder)
        self._verify_setup(attributes["setup"])
        return attributes

    def _verify_setup(self, address):
        folder = self.path / _SETUPS / address
        if address in self._whole_setups and (folder / _NODE).exists():
            return
        try:
            verify_group(folder)
        except DamagedError as error:
            raise DamagedError(f"in its set-up {address[:8]}, {error}") from error
        self._whole_setups.add(address)

    def _verify(self, numbers):
        """Note which of some pairs are damaged, and why."""

        def find_damage(number):
            try:
                self._verify_pair(number)
            except DamagedError as error:
                return str(error)

        with ThreadPoolExecutor(max_workers=min(32, os.cpu_count() or 1)) as pool:
            found = pool.map(find_damage, numbers)
            found = tqdm(found, "verifying", len(numbers), leave=False, delay=2, disable=None)
            for number, damage in zip(numbers, found, strict=True):
                self._damaged.pop(number, None)
                if damage is not None:
                    self._damaged[number] = damage

    def _warn(self):
        if not self._damaged:
            return
        named = [f"{number} ({self._damaged[number]})" for number in self.damaged[:_NAMED]]
        more = len(self._damaged) - len(named)
        warnings.warn(
            f"{self.path}: {len(self._damaged)} of {len(self) + len(self._damaged)} pairs are "
            f"damaged and skipped: {', '.join(named)}{f' and {more} more' if more else ''}. Write "
            "them again",
            DiffskyWarning,
            stacklevel=3,
        )


def _open_folder(path, mode):
    """Check that a folder is a store, or make it one."""
    if not path.exists() and mode == "r":
        raise FileNotFoundError(f"there is no store {path}; mode='a' makes one")
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; expected the folder of a store")
    if mode == "a" and _is_empty(path):
        path.mkdir(parents=True, exist_ok=True)
        write_node(path, {"format": _FORMAT, "version": _VERSION})
    _check_marker(path)
    if mode == "a":
        for name in (_PAIRS, _SETUPS):
            (path / name).mkdir(exist_ok=True)
            if not (path / name / _NODE).exists():
                write_node(path / name, {})


def _check_marker(path):
    try:
        marker = read_node(path)
    except DamagedError as error:
        found = sorted(entry.name for entry in path.iterdir())[:5]
        raise ValueError(
            f"{path} is no store of pairs ({error}; it holds {', '.join(found) or 'nothing'}); "
            "expected one, or an empty folder with mode='a'"
        ) from None
    if marker.get("format") != _FORMAT:
        raise ValueError(f"{path} is a zarr group, but no store of pairs (format {_FORMAT!r})")
    if marker.get("version") != _VERSION:
        raise ValueError(
            f"{path} is a store of format version {marker.get('version')!r}; this diffsky reads "
            f"and writes version {_VERSION}"
        )


def _is_empty(path):
    """Whether there is nothing but what another process is about to write."""
    return not path.exists() or all(is_scratch(entry.name) for entry in path.iterdir())


def _pair_name(number):
    return f"{int(number):08d}"


def _is_pair_name(name):
    return name.isascii() and name.isdecimal() and name == _pair_name(name)
