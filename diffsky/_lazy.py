"""Public names that are imported when they are first used."""

import importlib

__all__ = ["lazy_names"]


def lazy_names(package, sources):
    """Make ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Parameters
    ----------
    package : str
        Full name of the package.
    sources : dict of str to list of str
        The public names that each of its modules provides.

    Returns
    -------
    getter, lister : callable
        ``__getattr__`` and ``__dir__`` for the package.
    names : list of str
        ``__all__``.
    """
    where = {name: module for module, names in sources.items() for name in names}

    def getter(name):
        if name in where:
            return getattr(importlib.import_module(f"{package}.{where[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def lister():
        return sorted(where)

    return getter, lister, sorted(where)
