"""Normalised injected flux of D24 section 4.4."""

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose
from radio_beam import Beam

from diffsky.evaluation import normalized_injected_flux

BEAM = Beam(0.89 * u.arcsec, 0.82 * u.arcsec, 0 * u.deg)
RMS = 50 * u.uJy / u.beam


def test_point_source_is_flux_over_noise():
    value = normalized_injected_flux(
        [100, 250] * u.uJy, 0 * u.arcsec, 0 * u.arcsec, rms=RMS, beam=BEAM
    )
    assert_allclose(value, [2, 5])
    # As large as the beam: b^2 / (2 b^2) of the flux is in the peak.
    value = normalized_injected_flux(100 * u.uJy, BEAM.major, BEAM.minor, rms=RMS, beam=BEAM)
    assert value == pytest.approx(1)


def test_is_the_peak_of_the_convolved_source():
    """A Gaussian on axes parallel to the beam's, convolved on a fine grid."""
    axis = (np.arange(401) - 200) * 0.02
    widths = {"source": (0.7, 0.5), "beam": (0.89, 0.82)}

    def gaussian(major, minor):
        y, x = axis[:, None] / major, axis[None, :] / minor
        return np.exp(-4 * np.log(2) * (x**2 + y**2))

    source = gaussian(*widths["source"])
    peak = (source / source.sum() * gaussian(*widths["beam"])).sum()  # Jy/beam of 1 Jy, centre
    value = normalized_injected_flux(
        0.3 * u.mJy, 0.7 * u.arcsec, 0.5 * u.arcsec, rms=RMS, beam=BEAM
    )
    assert value == pytest.approx(6 * peak, rel=1e-3)


def test_units():
    given = normalized_injected_flux(
        3e-4 * u.Jy, 0.7 / 3600 * u.deg, 500 * u.mas, rms=0.05 * u.mJy / u.beam, beam=BEAM
    )
    expected = normalized_injected_flux(
        300 * u.uJy, 0.7 * u.arcsec, 0.5 * u.arcsec, rms=RMS, beam=BEAM
    )
    assert given == pytest.approx(float(expected))
    with pytest.raises(u.UnitConversionError):
        normalized_injected_flux(3e-4, 0.7 * u.arcsec, 0.5 * u.arcsec, rms=RMS, beam=BEAM)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("flux", -1 * u.uJy, "flux must be 0 Jy or more"),
        ("major", -1 * u.arcsec, "major must be 0 arcsec or more"),
        ("minor", [0.1, np.nan] * u.arcsec, "minor must be 0 arcsec or more"),
        ("rms", 0 * u.Jy / u.beam, "rms must be above 0 Jy/beam"),
    ],
)
def test_refused(name, value, message):
    options = {"flux": 1 * u.uJy, "major": 1 * u.arcsec, "minor": 1 * u.arcsec, "rms": RMS}
    with pytest.raises(ValueError, match=message):
        normalized_injected_flux(**{**options, name: value}, beam=BEAM)
