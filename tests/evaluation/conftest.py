"""One observation and its cleaned images, made once."""

import astropy.units as u
import pytest
from astropy.table import QTable
from baseline_images import FLUX, PIXELS, SETUP

from diffsky.evaluation import clean
from diffsky.simulation import simulate_observation


@pytest.fixture(scope="session")
def observed(tmp_path_factory):
    """A point of 2 mJy and a Gaussian of 4 mJy, with noise, the measurement set kept."""
    sources = QTable(
        {
            "flux": FLUX,
            "sky_centroid": SETUP.wcs.pixel_to_world(*PIXELS.T),
            "major": [0, 1.2] * u.arcsec,
            "minor": [0, 0.8] * u.arcsec,
            "pa": [0, 30] * u.deg,
        }
    )
    folder = tmp_path_factory.mktemp("kept")
    return simulate_observation(sources, SETUP, seed=3, work_dir=folder, keep_measurement_set=True)


@pytest.fixture(scope="session")
def cleaned(observed):
    """What CLEAN makes of `observed`."""
    return clean(observed)
