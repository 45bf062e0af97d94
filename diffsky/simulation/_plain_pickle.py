"""Pickled dictionaries read as data: nothing in the file is executed."""

import pickle
from pathlib import Path

import numpy as np

__all__ = ["load_plain_pickle"]

_DEEPEST = 12  # levels of dicts and lists; those of D24 have 4
_DTYPES = ("b1", "O8", *(f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)))


def load_plain_pickle(path):
    """Read an array file that holds one pickled object, as `numpy.save` writes a dict.

    Nothing in the file is executed: classes and functions that it names are refused, but for the
    few by which NumPy describes arrays of objects and scalars, and those are replaced by readers
    of our own.

    Parameters
    ----------
    path : str or path-like
        An ``.npy`` file.

    Returns
    -------
    object
        Of dicts, lists, tuples, str and numbers; NumPy's scalars come as Python's.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file names anything else, or is damaged.
    """
    path = Path(path)
    with path.open("rb") as stream:
        try:
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                version, np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(stream)
            if shape != () or not dtype.hasobject:
                raise ValueError(f"it holds an array {shape} of {dtype}, not one pickled object")
            array = _PlainUnpickler(stream).load()
            (value,) = array.items
        except _RefusedError as error:
            raise ValueError(
                f"{path} asks for {error}; expected dict, list, float, str and NumPy scalars alone"
            ) from None
        except Exception as error:  # a damaged pickle can raise anything
            raise ValueError(f"{path} is not readable: {error}") from error
    _check_plain(value, path)
    return value


class _RefusedError(Exception):
    """A pickle names a class or function that is not admitted."""


class _PlainUnpickler(pickle.Unpickler):
    """Admits what NumPy writes around plain values, and reads it without NumPy's own functions."""

    def find_class(self, module, name):
        if module in ("numpy._core.multiarray", "numpy.core.multiarray"):
            if name == "_reconstruct":
                return _ObjectArray
            if name == "scalar":
                return _read_scalar
        if module == "numpy" and name == "dtype":
            return _Dtype
        if module == "numpy" and name == "ndarray":
            return "ndarray"  # an argument of _reconstruct, never called
        raise _RefusedError(f"{module}.{name}")


class _ObjectArray:
    """Stands for the array of one object that `numpy.save` puts around it."""

    def __init__(self, *_):
        self.items = []

    def __setstate__(self, state):
        self.items = state[4]


class _Dtype:
    """Stands for `numpy.dtype`, of numbers and str alone."""

    def __init__(self, text, *_):
        is_text = text[:1] == "U" and text[1:].isdecimal()
        if not is_text and text not in _DTYPES:
            raise _RefusedError(f"the dtype {text!r}")
        self.text, self.order = text, "="

    def __setstate__(self, state):
        self.order = state[1]


def _read_scalar(dtype, raw):
    if dtype.text == "O8":
        raise _RefusedError("a scalar of the dtype 'O8'")
    order = dtype.order if dtype.order in ("<", ">") else "="
    return np.frombuffer(raw, dtype=np.dtype(order + dtype.text), count=1)[0].item()


def _check_plain(value, path):
    """Refuse what the readers above leave behind where a file uses them in another way.

    Containers are looked into level by level, each once: a small file can hold one in many places,
    or in itself.
    """
    level = [value]
    for _ in range(_DEEPEST):
        containers = {}
        for one in level:
            if isinstance(one, dict | list | tuple):
                containers[id(one)] = one
            elif one is not None and not isinstance(one, bool | int | float | str):
                raise ValueError(f"{path} holds a {type(one).__name__}; expected plain values")
        level = [one for found in containers.values() for one in _content(found)]
    if level:
        raise ValueError(f"{path} is nested deeper than {_DEEPEST} levels")


def _content(container):
    return [*container, *container.values()] if isinstance(container, dict) else container
