"""One pair by the fast instrument: what `evaluate_pair` takes, without CASA."""

import astropy.units as u
import numpy as np
import torch
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.wcs import WCS

from diffsky.backend import sample_generator
from diffsky.deconvolution.scaling import WorkingScale
from diffsky.images import load_image
from diffsky.instrument import KNOWN_DISHES, airy_primary_beam, instrument_from_uv
from diffsky.simulation.pair import SimulatedPair
from diffsky.simulation.rendering import render_sources

__all__ = ["simulate_fast_pair"]

_CENTRE = SkyCoord(150.119 * u.deg, 2.206 * u.deg)


def simulate_fast_pair(
    sources,
    coverage,
    *,
    rms,
    seed,
    number=0,
    image_size=128,
    pixels_per_beam=WorkingScale.pixels_per_beam,
    kernel_beams=WorkingScale.kernel_beams,
    telescope="ALMA",
    frequency=230 * u.GHz,
    centre=_CENTRE,
    pblimit=0.2,
):
    """Observe sources with the fast instrument.

    The images agree with those of CASA (natural weighting) to a per cent of the noise; noise is
    drawn in the image plane, with the power of the visibilities.

    Parameters
    ----------
    sources : `SourceList`
        In Jy and arcsec from the phase centre.
    coverage : `UVCoverage`
        uv points, their weights and the beam, for instance of `observe_uv`.
    rms : `~astropy.units.Quantity`
        Noise rms in Jy/beam.
    seed, number : int
        Of the noise.
    image_size : int, optional
        Pixels along a side. Default 128.
    pixels_per_beam : float, optional
        Pixels per geometric mean FWHM of the beam. Default 4.25.
    kernel_beams : float, optional
        FWHM in beams of the Gaussian that the true sky is convolved with. Default 0.4.
    telescope : str, optional
        Whose primary beam: a name of ``KNOWN_DISHES``. Default "ALMA".
    frequency : `~astropy.units.Quantity`, optional
        Default 230 GHz.
    centre : `~astropy.coordinates.SkyCoord`, optional
        Phase centre. By default that of D24.
    pblimit : float, optional
        There is no data where the primary beam is below this. Default 0.2.

    Returns
    -------
    pair : `SimulatedPair`
        As `simulate_pairs` makes it; ``parameters`` has seed, number and rms.
    """
    rms = u.Quantity(rms).to_value(u.Jy / u.beam)
    beam = np.sqrt(coverage.beam.major * coverage.beam.minor).to_value(u.arcsec)
    pixel, shape = beam / pixels_per_beam, (image_size, image_size)
    wcs, gain = _wcs(centre, pixel, shape), _gain(telescope, frequency, pixel, image_size)
    instrument = instrument_from_uv(
        coverage.uv, weights=coverage.weights, pixel_scale=pixel, primary_beam=gain, rms=rms
    )
    kernel = kernel_beams * pixels_per_beam
    owner = np.zeros(len(sources), dtype=int)
    sky = render_sources(sources, owner, 1, shape, pixel=pixel, kernel_fwhm=kernel)
    noise = [sample_generator(seed, number)]
    dirty = instrument.observe(torch.as_tensor(sky), noise, kernel_fwhm=kernel)[0].numpy()
    parameters = {"seed": int(seed), "number": int(number), "rms": float(rms)}
    return assemble_pair(
        {"dirty": dirty, "psf": instrument.psf(shape), "primary_beam": gain, "sky": sky[0]},
        sources,
        coverage,
        wcs=wcs,
        kernel_fwhm=kernel_beams * beam * u.arcsec,
        meta={"frequency": frequency, "telescope": telescope},
        pblimit=pblimit,
        parameters=parameters,
    )


def assemble_pair(
    images, sources, coverage, *, wcs, kernel_fwhm, meta, pblimit=0.2, parameters=None
):
    """Make a pair of what the fast instrument has observed.

    Parameters
    ----------
    images : dict
        ``dirty`` in Jy/beam, ``psf``, ``primary_beam``, and ``sky`` in Jy/pixel.
    sources : `SourceList`
        In Jy and arcsec from the phase centre.
    coverage : `UVCoverage`
        uv points, their weights, the beam and parameters.
    wcs : `~astropy.wcs.WCS`
        Of all images.
    kernel_fwhm : `~astropy.units.Quantity`
        FWHM of the Gaussian that the sky is convolved with.
    meta : dict
        ``frequency`` and ``telescope`` of the dirty image.
    pblimit : float, optional
        There is no data where the primary beam is below this. Default 0.2.
    parameters : dict or None, optional
        Beside those of the coverage.

    Returns
    -------
    pair : `SimulatedPair`
        As `simulate_pairs` makes it.
    """
    images = {name: np.asarray(image) for name, image in images.items()}
    mask, jy_beam = images["primary_beam"] < pblimit, u.Jy / u.beam
    meta = {"beam": coverage.beam, **meta}
    return SimulatedPair(
        uv=coverage.uv,
        weights=coverage.weights,
        beam=coverage.beam,
        parameters={**coverage.parameters, **(parameters or {})},
        dirty=load_image(CCDData(images["dirty"], unit=jy_beam, wcs=wcs, mask=mask, meta=meta)),
        psf=CCDData(images["psf"], unit=jy_beam, wcs=wcs),
        primary_beam=CCDData(images["primary_beam"], unit="", wcs=wcs),
        measurement_set=None,
        sky=CCDData(images["sky"], unit=u.Jy / u.pix, wcs=wcs, meta={"kernel_fwhm": kernel_fwhm}),
        sources=sources.to_table(wcs),
    )


def _wcs(centre, pixel, shape):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---SIN", "DEC--SIN"], ["deg", "deg"]
    wcs.wcs.crval = [centre.icrs.ra.deg, centre.icrs.dec.deg]
    wcs.wcs.crpix = [shape[1] // 2 + 1, shape[0] // 2 + 1]
    wcs.wcs.cdelt = [-pixel / 3600, pixel / 3600]
    wcs.wcs.radesys = "ICRS"
    wcs.array_shape = shape
    return wcs


def _gain(telescope, frequency, pixel, size):
    if telescope not in KNOWN_DISHES:
        raise ValueError(f"telescope is {telescope!r}; expected one of {', '.join(KNOWN_DISHES)}")
    diameter, blockage = KNOWN_DISHES[telescope]
    axis = (np.arange(size) - size // 2) * pixel
    return airy_primary_beam(
        np.hypot(axis[:, None], axis),
        frequency=frequency.to_value(u.Hz),
        diameter=diameter,
        blockage=blockage,
    ).astype(np.float32)
