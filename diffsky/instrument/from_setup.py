"""An instrument from an array configuration alone."""

import astropy.units as u
import numpy as np

from diffsky.instrument.antennas import read_array
from diffsky.instrument.constructors import instrument_from_uv, rms_value
from diffsky.instrument.gridding import imaging_weights
from diffsky.instrument.noise import image_rms, visibility_noise
from diffsky.instrument.primary_beam import KNOWN_DISHES, airy_primary_beam
from diffsky.instrument.tracks import uv_tracks

__all__ = ["instrument_from_setup"]

_LIGHT = 299792458.0
_FIRST_NULL = 1.21967  # of the Airy pattern, in wavelengths over diameter


def instrument_from_setup(setup, *, rms=None, primary_beam=None, padding=4):
    """Make the instrument that CASA would simulate, without CASA.

    Antenna positions, hour angles and declination give the uv points; weights for imaging and
    the noise follow from them, from the weather and from the receivers. Only the names of CASA's
    antenna configurations need CASA's data.

    Parameters
    ----------
    setup : `diffsky.simulation.ObservationSetup`
        What is observed how, and how it is imaged. Channels are merged at the centre of the band.
    rms : float, `~astropy.units.Quantity` or None, optional
        Noise rms in Jy/beam. None computes it from ``setup.pwv``, for ALMA and the ACA.
    primary_beam : array_like or None, optional
        Shape (image_size, image_size): response, not NaN. None takes the pattern that CASA has
        for the telescope, out to its first null.
    padding : float, optional
        uv grid over field, as for `instrument_from_uv`.

    Returns
    -------
    instrument : `Instrument`
        For skies on the pixels of ``setup.wcs``.

    Raises
    ------
    ImportError, ValueError
        As `read_array`, `uv_tracks`, `imaging_weights` and `visibility_noise`; ValueError too if
        the primary beam of the telescope is not known.
    `~astropy.units.UnitConversionError`
        If the rms is in another unit.
    """
    array = read_array(setup.array)
    if primary_beam is None:
        primary_beam = _primary_beam(array.telescope, setup)
    tracks = uv_tracks(
        array,
        direction=setup.direction,
        frequency=setup.frequency,
        total_time=setup.total_time,
        integration=setup.integration,
        hour_angle=setup.hour_angle,
    )
    pixel_scale = setup.cell.to_value(u.arcsec)
    weights = imaging_weights(
        tracks.uv,
        tracks.weights,
        weighting=setup.weighting,
        robust=setup.robust,
        pixel_scale=pixel_scale,
        image_size=setup.image_size,
    )
    if rms is None:
        noise = _noise(tracks, array.telescope, setup)
        rms = image_rms(weights, noise)
    else:
        noise = 1 / np.sqrt(tracks.weights)
        rms = rms_value(rms)
    return instrument_from_uv(
        tracks.uv,
        pixel_scale=pixel_scale,
        primary_beam=primary_beam,
        rms=rms,
        weights=weights,
        noise_variance=noise**2,
        padding=padding,
    )


def _noise(tracks, telescope, setup):
    """Noise of each visibility; the elevation is one for all rows of an integration."""
    elevations, place = np.unique(tracks.elevation, return_inverse=True)
    noise = visibility_noise(
        setup.frequency.to_value(u.Hz),
        pwv=setup.pwv.to_value(u.mm),
        elevation=elevations,
        areas=1.0,
        bandwidth=setup.bandwidth.to_value(u.Hz),
        integration=setup.integration.to_value(u.s),
        telescope=telescope,
    )
    return noise[place] / tracks.areas


def _primary_beam(telescope, setup):
    if telescope not in KNOWN_DISHES:
        raise ValueError(
            f"the primary beam of telescope {telescope!r} is not known; expected one of "
            f"{', '.join(KNOWN_DISHES)}, or primary_beam="
        )
    diameter, blockage = KNOWN_DISHES[telescope]
    frequency = setup.frequency.to_value(u.Hz)
    y, x = np.indices((setup.image_size, setup.image_size)) - setup.image_size // 2
    separation = np.hypot(x, y) * setup.cell.to_value(u.arcsec)
    response = airy_primary_beam(
        separation, frequency=frequency, diameter=diameter, blockage=blockage
    )
    null = np.rad2deg(_FIRST_NULL * _LIGHT / frequency / diameter) * 3600
    return np.where(separation < null, response, 0)
