"""Small observations and denoisers whose results are known."""

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs import WCS
from radio_beam import Beam
from torch import nn

from diffsky.backend import Backend
from diffsky.deconvolution import DiffusionDeconvolver, Preset, WorkingScale, presets
from diffsky.diffusion import Denoiser, build_network
from diffsky.images import load_image

FWHM = np.sqrt(8 * np.log(2))
NETWORK = {"type": "unet", "in_channels": 3, "channels": (8, 16), "blocks": 1, "width": 16}


def make_wcs(shape, cell=0.1, *, turn=0.0, flip=False):
    """Tangent plane around (150.1, 2.2) deg, turned by an angle in deg, flipped in RA or not."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [150.1, 2.2]
    wcs.wcs.crpix = [shape[1] // 2 + 1, shape[0] // 2 + 1]
    wcs.wcs.cdelt = [cell / 3600 if flip else -cell / 3600, cell / 3600]
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    wcs.wcs.pc = [[c, -s], [s, c]]
    wcs.wcs.set()
    return wcs


def gaussian(shape, x, y, fwhm, flux):
    """Round Gaussian of a given sum."""
    rows, columns = np.indices(shape)
    sigma = fwhm / FWHM
    profile = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return flux * profile / (2 * np.pi * sigma**2)


def correlated_noise(shape, fwhm, rng):
    """White noise seen with a Gaussian beam, rms 1."""
    axes = (np.fft.fftfreq(n) for n in shape)
    ky, kx = np.meshgrid(*axes, indexing="ij")
    response = np.exp(-(np.pi**2) * fwhm**2 * (kx**2 + ky**2) / (4 * np.log(2)))
    image = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) * response).real
    return image / (np.sqrt((response**2).mean()))


def make_dirty(
    sources=(),
    *,
    shape=(96, 96),
    fwhm=4.25,
    rms=1e-4,
    seed=0,
    noise=True,
    cell=0.1,
    gain=1.0,
    meta=None,
    **wcs,
):
    """Image in Jy/beam of point sources (x, y, flux in Jy) seen with a Gaussian beam."""
    area = np.pi * fwhm**2 / (4 * np.log(2))
    image = sum((gaussian(shape, *s[:2], fwhm, s[2]) for s in sources), np.zeros(shape)) * area
    image = image * gain
    if noise:
        image = image + rms * correlated_noise(shape, fwhm, np.random.default_rng(seed))
    beam = Beam(fwhm * cell * u.arcsec)
    meta = {"beam": beam, "frequency": 230 * u.GHz, **(meta or {})}
    image = CCDData(image, unit=u.Jy / u.beam, wcs=make_wcs(shape, cell, **wcs), meta=meta)
    return load_image(image)


class LocalDenoiser(nn.Module):
    """A denoiser that knows the answer for isolated sources far above the noise.

    With a Gaussian beam the flux per pixel of a sky at the resolution of the beam is the dirty
    image over the area of the beam, so fluxes and positions come out as the sources had them,
    for every way of scaling, masking and turning the image. What is below ``threshold`` rms
    counts as nothing. In a second state of the same probability, which the mean of the first
    noise chooses, there is no source (``doubt``), or all are 2 pixels further to the left and not
    to the right (``jitter``).
    """

    def __init__(self, scale, *, threshold=5.0, doubt=False, jitter=False, stride=8):
        super().__init__()
        self.network = nn.Identity()
        self.network.stride = stride
        self.network.memory_per_pixel = lambda *_: 1000.0
        self.scale, self.threshold = scale, threshold
        self.doubt, self.jitter, self.calls = doubt, jitter, 0

    def forward(self, x, sigma, condition=None):
        self.calls += 1
        dirty = condition[:, :1] * self.scale.dirty_unit
        area = np.pi * self.scale.pixels_per_beam**2 / (4 * np.log(2))
        target = self.scale.scale_target(torch.where(dirty > self.threshold, dirty, 0) / area)
        first = x.mean(dim=(1, 2, 3), keepdim=True) > 0
        if self.doubt:
            target = torch.where(first, target, -1.0)
        if self.jitter:
            # The sign of the shift has to survive in the mean of what comes out.
            moved = [torch.roll(target, shift, dims=-1) for shift in (2, -2)]
            target = torch.where(first, moved[0], moved[1]) + torch.where(first, 0.0, -1e-3)
            return torch.where(target > 0.01, target, torch.where(first, 1e-4, -10.0))
        return target.expand_as(x)


@pytest.fixture(scope="session")
def cpu():
    """float32 on the CPU, the reference."""
    return Backend(torch.device("cpu"))


@pytest.fixture(scope="session")
def tiny_preset():
    """A preset with a network of a few thousand parameters."""
    sampling = {"sampler": "euler", "n_steps": 4, "sigma_min": 0.05, "sigma_max": 5.0, "rho": 4.0}
    training = {"steps": 4, "batch_size": 2, "learning_rate": 1e-3}
    return Preset(
        network=NETWORK,
        scale=WorkingScale(),
        sigma_data=0.2,
        training=training,
        sampling=sampling,
    )


@pytest.fixture
def tiny(tiny_preset, monkeypatch):
    """Name of the tiny preset, registered for the time of a test."""
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    return "tiny"


@pytest.fixture(scope="session")
def random_denoiser():
    """Function that makes a denoiser with random weights in every layer."""

    def make(seed=0, **network):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            unet = build_network({**NETWORK, **network})
            for parameter in unet.parameters():
                nn.init.normal_(parameter, std=0.2)
        return Denoiser(unet, sigma_data=0.2).eval()

    return make


def _description(preset):
    return {"name": "test", "version": 1, "preset": preset, "training": {}, "merits": {}}


@pytest.fixture
def untrained(tiny, tiny_preset, random_denoiser):
    """An estimator with random weights."""
    deconvolver = DiffusionDeconvolver(tiny, device="cpu", precision="float32")
    deconvolver._adopt(random_denoiser(), tiny_preset, _description(tiny))
    return deconvolver


@pytest.fixture
def local_estimator(tiny, tiny_preset):
    """Function that makes an estimator around a `LocalDenoiser`."""

    def make(**options):
        deconvolver = DiffusionDeconvolver(tiny, device="cpu", precision="float32")
        denoiser = LocalDenoiser(tiny_preset.scale, **options)
        deconvolver._adopt(denoiser, tiny_preset, _description(tiny))
        return deconvolver

    return make


@pytest.fixture(scope="session")
def dirty():
    """Function that makes a dirty image: see `make_dirty`."""
    return make_dirty


@pytest.fixture(scope="session")
def blob():
    """Function that makes a round Gaussian: see `gaussian`."""
    return gaussian


@pytest.fixture(scope="session")
def noise_image():
    """Function that makes correlated noise: see `correlated_noise`."""
    return correlated_noise
