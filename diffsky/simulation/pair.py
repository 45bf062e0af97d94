"""One training pair made by CASA: an observation with its truth."""

from dataclasses import dataclass

from astropy.nddata import CCDData
from astropy.table import QTable

from diffsky.simulation.casa import Observation

__all__ = ["SimulatedPair"]


@dataclass(frozen=True, kw_only=True)
class SimulatedPair(Observation):
    """A simulated observation and the sky it was made from.

    Parameters
    ----------
    uv, weights : `numpy.ndarray`
        See `UVCoverage`.
    beam : `~radio_beam.Beam`
        The restoring beam.
    parameters : dict
        See `UVCoverage`.
    dirty, psf, primary_beam : `~astropy.nddata.CCDData`
        See `Observation`.
    measurement_set : `pathlib.Path` or None
        See `Observation`.
    sky : `~astropy.nddata.CCDData`
        True sky in Jy/pix, before the primary beam, on the WCS of the dirty image, convolved with
        a Gaussian whose FWHM is ``meta["kernel_fwhm"]`` (an angle; 0 where it is not convolved).
    sources : `~astropy.table.QTable`
        id, sky_centroid, x_centroid, y_centroid (0-based pixels), flux (Jy), major, minor (FWHM),
        pa (east of north), shape. No rows where the sky was given as an image.
    """

    sky: CCDData
    sources: QTable
