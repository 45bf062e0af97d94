"""Skies, images and catalogues that the tests of diffsky.catalog share."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from astropy.wcs import WCS
from radio_beam import Beam
from scipy import fft

from diffsky.catalog import source_table

SIGMA = 1 / np.sqrt(8 * np.log(2))


def gaussian_plane(shape, sources):
    """Sky plane of Gaussians (x, y, flux, major, minor, angle), flux per pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    plane = np.zeros(shape)
    for x0, y0, flux, major, minor, angle in sources:
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        along = ((x - x0) * c + (y - y0) * s) / (major * SIGMA)
        across = (-(x - x0) * s + (y - y0) * c) / (minor * SIGMA)
        norm = 2 * np.pi * major * minor * SIGMA**2
        plane += flux / norm * np.exp(-(along**2 + across**2) / 2)
    return plane


class Interferometer:
    """Exact natural-weight images on a periodic grid twice as wide as the field."""

    beam_fwhm = 4.25

    def __init__(self, n):
        self.n, self.grid = n, (2 * n, 2 * n)
        self.v, self.u = fft.fftfreq(2 * n), fft.rfftfreq(2 * n)
        f2 = self.v[:, None] ** 2 + self.u**2
        # A Gaussian uv coverage with a hole in the middle and an end: sidelobes.
        weights = np.exp(-2 * np.pi**2 * (self.beam_fwhm * SIGMA) ** 2 * f2)
        weights *= (1 - 0.8 * np.exp(-f2 / 0.02**2)) * (f2 < 0.35**2)
        self.weights = weights / fft.irfft2(weights, self.grid)[0, 0]
        self.psf = fft.fftshift(fft.irfft2(self.weights, self.grid))

    def noise(self, rms, rng):
        white = fft.rfft2(rng.normal(size=self.grid))
        return rms * fft.irfft2(np.sqrt(self.weights) * white, self.grid)[: self.n, : self.n]

    def dirty(self, sources):
        """Dirty image of Gaussians (x, y, flux, fwhm), 0 for points."""
        total = np.zeros(self.weights.shape, dtype=complex)
        f2 = self.v[:, None] ** 2 + self.u**2
        for x, y, flux, fwhm in sources:
            phase = np.outer(np.exp(-2j * np.pi * self.v * y), np.exp(-2j * np.pi * self.u * x))
            total += flux * phase * np.exp(-2 * np.pi**2 * (fwhm * SIGMA) ** 2 * f2)
        return fft.irfft2(total * self.weights, self.grid)[: self.n, : self.n]


@pytest.fixture(scope="session")
def interferometer():
    return Interferometer(64)


@pytest.fixture(scope="session")
def plane():
    return gaussian_plane


@pytest.fixture
def wcs():
    result = WCS(naxis=2)
    result.wcs.ctype = "RA---SIN", "DEC--SIN"
    result.wcs.crval = 150.1, 2.2
    result.wcs.crpix = 33.0, 33.0
    result.wcs.cdelt = -0.2 / 3600, 0.2 / 3600
    return result


@pytest.fixture
def beam():
    return Beam(0.9 * u.arcsec, 0.8 * u.arcsec, 30 * u.deg)


@pytest.fixture
def measured():
    """Two sources in pixels, one of them a point with few detections."""
    return Table(
        {
            "x": [20.0, 40.0],
            "y": [25.0, 45.0],
            "flux": [10.0, 2.0],
            "flux_err": [1.0, np.nan],
            "flux_lower": [9.0, np.nan],
            "flux_upper": [11.0, np.nan],
            "major": [6.0, 0.0],
            "minor": [3.0, 0.0],
            "pa": [30.0, np.nan],
            "position_err": [0.1, np.nan],
            "reliability": [1.0, 0.1],
            "n_detections": [20, 2],
            "flags": [0, 16],
        }
    )


@pytest.fixture
def catalog(measured, wcs, beam):
    rms = 5e-5 * u.Jy / u.beam
    meta = {"seed": 1, "name": "alma"}
    return source_table(measured, wcs=wcs, beam=beam, rms=rms, flux_unit=5e-5 * u.Jy, meta=meta)
