"""Groups of a store on disk: written whole or not at all, and checked against their checksums."""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = [
    "DamagedError",
    "Record",
    "is_scratch",
    "place_group",
    "read_attributes",
    "read_group",
    "read_node",
    "remove_leftovers",
    "scratch_folder",
    "verify_group",
    "write_group",
    "write_node",
]

_NODE = "zarr.json"
_SCRATCH = ".writing"
_FOREIGN_AGE = 86400  # s; after this a folder of another machine's writer is taken for left over
_ATTEMPTS = 5


@dataclass(frozen=True)
class Record:
    """What is stored in one group.

    Parameters
    ----------
    arrays : dict of str to `numpy.ndarray`
    attributes : dict
        Plain values, for JSON.
    """

    arrays: dict
    attributes: dict

    @property
    def address(self):
        """str : what tells it from records of other content."""
        digest = hashlib.sha256(json.dumps(self.attributes, sort_keys=True).encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:32]


class DamagedError(ValueError):
    """A group is not what was written."""


def write_node(folder, attributes):
    """Make a folder a zarr group in one step.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where ``zarr.json`` goes; it has to exist.
    attributes : dict
    """
    node = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    fresh = folder / f"{_SCRATCH}-{_NODE}-{uuid.uuid4().hex}"
    try:
        fresh.write_text(json.dumps(node))
        fresh.replace(folder / _NODE)
    finally:
        fresh.unlink(missing_ok=True)


def read_node(folder):
    """Read the attributes of any zarr group.

    Parameters
    ----------
    folder : `pathlib.Path`

    Returns
    -------
    dict

    Raises
    ------
    DamagedError
        If the folder is no zarr group.
    """
    try:
        attributes = json.loads((folder / _NODE).read_text())["attributes"]
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedError(f"{_NODE} is missing") from None
    except (OSError, ValueError, KeyError, TypeError):
        attributes = None
    if not isinstance(attributes, dict):
        raise DamagedError(f"{_NODE} is not readable")
    return attributes


def is_scratch(name):
    """Whether a name is that of a folder or file which a writer has not finished."""
    return name.startswith(f"{_SCRATCH}-")


def write_group(folder, record):
    """Write arrays and attributes as a zarr group, with the checksum of every file.

    Parameters
    ----------
    folder : `pathlib.Path`
        A new folder.
    record : `Record`
    """
    import zarr
    from zarr.codecs import BloscCodec

    folder.mkdir()
    compressor = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
    for name, array in record.arrays.items():
        zarr.create_array(
            zarr.storage.LocalStore(folder / name),
            data=array,
            chunks=tuple(max(1, n) for n in array.shape),
            compressors=compressor,
        )
    sums = {name: _file_sum(path) for name, path in sorted(_files(folder).items())}
    attributes = {**record.attributes, "files": sums}
    write_node(folder, {**attributes, "sha256": _json_sum(attributes)})


def read_group(folder, names):
    """Read arrays of a group that was verified.

    Parameters
    ----------
    folder : `pathlib.Path`
    names : iterable of str

    Returns
    -------
    dict of str to `numpy.ndarray`
    """
    import zarr

    return {name: zarr.open_array(folder / name, mode="r")[...] for name in names}


def read_attributes(folder):
    """Read the attributes of a group.

    Parameters
    ----------
    folder : `pathlib.Path`

    Returns
    -------
    dict

    Raises
    ------
    DamagedError
        If there are none, or they are not those that were written.
    """
    attributes = read_node(folder)
    expected = attributes.pop("sha256", None)
    if _json_sum(attributes) != expected:
        raise DamagedError(f"{_NODE} was altered")
    return attributes


def verify_group(folder):
    """Compare a group with the checksums that were written with it.

    Parameters
    ----------
    folder : `pathlib.Path`

    Returns
    -------
    dict
        The attributes.

    Raises
    ------
    DamagedError
        If a file is missing, altered or too many.
    """
    attributes = read_attributes(folder)
    found, expected = _files(folder), attributes["files"]
    for name, checksum in expected.items():
        if name not in found:
            raise DamagedError(f"{name} is missing")
        try:
            is_same = _file_sum(found[name]) == checksum
        except OSError as error:
            raise DamagedError(f"{name} is not readable: {error.strerror}") from error
        if not is_same:
            raise DamagedError(f"{name} is not what was written")
    strange = sorted(set(found) - set(expected))
    if strange:
        raise DamagedError(f"{strange[0]} does not belong to it")
    return attributes


def place_group(fresh, target, scratch, verify):
    """Move a finished group into place, where no other has come before.

    Parameters
    ----------
    fresh, target : `pathlib.Path`
        On one file system.
    scratch : `pathlib.Path`
        Where a damaged group goes that was there.
    verify : callable
        Takes a folder; raises `DamagedError` where the group in it is not whole.

    Returns
    -------
    bool
        Whether it was moved: False where a whole group is there already, which stays.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(OSError):
            os.rename(fresh, target)  # fails where the target is a folder that is not empty
            return True
        if not target.exists():
            break
        if _is_whole(target, verify):
            return False
        aside = scratch / f"damaged-{uuid.uuid4().hex}"
        with contextlib.suppress(OSError):  # another writer was faster
            os.rename(target, aside)
            if _is_whole(aside, verify):  # so it was, and this is its group
                os.rename(aside, target)
    os.rename(fresh, target)
    return True


def _is_whole(folder, verify):
    try:
        verify(folder)
    except DamagedError:
        return False
    return True


@contextlib.contextmanager
def scratch_folder(root):
    """Folder inside a store that is gone afterwards, and is known as left over if it is not.

    Parameters
    ----------
    root : `pathlib.Path`

    Yields
    ------
    `pathlib.Path`
    """
    folder = root / f"{_SCRATCH}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(root):
    """Remove what writers left that are no more.

    Parameters
    ----------
    root : `pathlib.Path`
    """
    for path in root.glob(f"{_SCRATCH}-*"):
        with contextlib.suppress(OSError):  # removed by another process meanwhile
            if _is_left_over(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_left_over(path):
    changed = path.stat().st_mtime
    host, _, process = path.name.removeprefix(f"{_SCRATCH}-").rpartition("-")[0].rpartition("-")
    if host != socket.gethostname() or not process.isdecimal():
        return time.time() - changed > _FOREIGN_AGE
    try:
        # A process that began later has only the number of the writer.
        return psutil.Process(int(process)).create_time() > changed + 1
    except psutil.NoSuchProcess:
        return True


def _files(folder):
    """Files of a group by their names within it, without its own node and hidden ones."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            key = path.relative_to(folder).as_posix()
            if key != _NODE and not name.startswith("."):
                found[key] = path
    return found


def _file_sum(path):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _json_sum(attributes):
    return hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()
