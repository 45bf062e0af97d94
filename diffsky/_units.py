"""Numbers of values that may have a unit."""

import astropy.units as u
import numpy as np
from astropy.nddata import NDData

__all__ = ["plain_values"]


def plain_values(values, *, name, unit=u.Jy / u.beam):
    """Numbers in a unit.

    Parameters
    ----------
    values : `~astropy.units.Quantity`, `~astropy.nddata.NDData` or array-like
        Numbers without a unit, or dimensionless ones, are taken as they are.
    name : str
        What the message of an error calls them.
    unit : `~astropy.units.Unit`, optional
        By default Jy/beam.

    Returns
    -------
    numbers : `numpy.ndarray`
        Of the same shape.

    Raises
    ------
    ValueError
        If they have another kind of unit.
    """
    if isinstance(values, NDData):
        values = values.data if values.unit is None else values.data * values.unit
    if isinstance(values, u.Quantity):
        if values.unit.is_equivalent(u.one):
            return values.to_value(u.one)
        if not values.unit.is_equivalent(unit):
            raise ValueError(f"{name}: the unit is {values.unit}; expected {unit} or none")
        return values.to_value(unit)
    return np.asarray(values)
