"""Signal-to-noise of simulated sources (D24 section 4.4)."""

import astropy.units as u
import numpy as np

__all__ = ["normalized_injected_flux"]


def normalized_injected_flux(flux, major, minor, *, rms, beam):
    """Flux of a source over the noise, reduced by what its extent spreads over the beam.

    D24 section 4.4, after Bethermin et al. (2020): with the flux f, the FWHM s of the source and b
    of the beam, f / rms * b_min b_maj / (sqrt(b_min^2 + s_min^2) sqrt(b_maj^2 + s_maj^2)). For
    axes that are parallel it is the peak of the source in the dirty image over the noise.

    Parameters
    ----------
    flux : `~astropy.units.Quantity`
        Total fluxes, 0 or more, any shape. Apparent ones (times the primary beam) where ``rms`` is
        that of an image that is not corrected for the primary beam.
    major, minor : `~astropy.units.Quantity`
        FWHM of the sources, angles of 0 or more that broadcast with ``flux``.
    rms : `~astropy.units.Quantity`
        Noise, in Jy/beam, above 0; broadcasts with ``flux``.
    beam : `radio_beam.Beam`
        Restoring beam.

    Returns
    -------
    normalized : `numpy.ndarray`
        Of the shape that the arguments have together, without unit.

    Raises
    ------
    ValueError
        If the rms is not above 0, or a flux or a FWHM is below 0.
    astropy.units.UnitConversionError
        If a unit is not as expected.
    """
    flux = u.Quantity(flux).to_value(u.Jy)
    noise = u.Quantity(rms).to_value(u.Jy / u.beam)
    size = [u.Quantity(extent).to_value(u.arcsec) for extent in (major, minor)]
    _check_all(flux, np.greater_equal, "flux must be 0 Jy or more")
    _check_all(noise, np.greater, "rms must be above 0 Jy/beam")
    _check_all(size[0], np.greater_equal, "major must be 0 arcsec or more")
    _check_all(size[1], np.greater_equal, "minor must be 0 arcsec or more")
    axes = [fwhm.to_value(u.arcsec) for fwhm in (beam.major, beam.minor)]
    major, minor = (b / np.hypot(b, s) for b, s in zip(axes, size, strict=True))
    return flux / noise * major * minor


def _check_all(values, compare, expected):
    if not np.all(compare(values, 0)):
        raise ValueError(f"{expected}, got {np.min(values)}")
