"""From a simulated pair to what was found in it beside what was there."""

import astropy.units as u
import numpy as np

from diffsky.catalog.matched_filter import matched_filter
from diffsky.catalog.matching import match_pixels
from diffsky.catalog.table import pixel_scale
from diffsky.deconvolution.observation import prepare_observation
from diffsky.deconvolution.reconstruction import make_catalog, pixels_per_beam
from diffsky.deconvolution.scaling import FluxScale
from diffsky.deconvolution.strategies import STRATEGIES
from diffsky.evaluation.drozdova2024 import (
    drozdova2024_catalogs,
    drozdova2024_reconstruction,
)
from diffsky.evaluation.injected_flux import normalized_injected_flux
from diffsky.evaluation.reconstruction import reconstruction_scores
from diffsky.evaluation.results import Detections, FieldResult, TrueSources, offsets
from diffsky.simulation._working_pair import working_truth

__all__ = ["MATCHED_FILTER", "N_CELLS", "SINGLE_RUN", "TRUE_SKY", "evaluate_pair", "field_seed"]

MATCHED_FILTER = "matched filter"
SINGLE_RUN = "single run"
TRUE_SKY = "true sky"
N_CELLS = 16
_LEAST_SIGNAL = 3.0
_WINDOW = 7  # pixels of the structural similarity
_RADIUS = 0.5  # of a source in the samples, beams, as for `predict`


def evaluate_pair(
    deconvolver,
    pair,
    *,
    number=0,
    group="",
    n_samples=20,
    seed=1,
    strategies=STRATEGIES,
    least_signal=_LEAST_SIGNAL,
    use_psf=False,
    drozdova2024=False,
    progress=None,
):
    """Look for the sources of a pair with every strategy, and with a matched filter.

    The samples are drawn once, and the catalogue of each strategy is the one that
    `~diffsky.DiffusionDeconvolver.predict` makes with the seed `field_seed` and
    ``calibrated=False``: scores are shares of samples, to which `recalibrate` applies what
    recalibration the weights have. The matched filter has the true PSF.

    Parameters
    ----------
    deconvolver : `~diffsky.DiffusionDeconvolver`
        With weights.
    pair : `~diffsky.simulation.SimulatedPair`
        An observation with the list of its true sources.
    number : int, optional
        Number of the field; with ``seed`` it decides the samples.
    group : str, optional
        What the field has in common with others.
    n_samples : int, optional
        Posterior samples. Default 20.
    seed : int, optional
        Of the evaluation.
    strategies : sequence of str, optional
        By default all three.
    least_signal : float, optional
        Least S/N of the matched filter's detections. Default 3.
    use_psf : bool, optional
        Give the deconvolver the true PSF too, as ``predict(psf=...)``, for bright sources. Default
        False.
    drozdova2024 : bool, optional
        Look for sources in the way of D24 too, for a comparison with the paper: adds the
        ``catalogs`` of `drozdova2024_catalogs`, and what the averages of fewer samples have to
        ``reconstruction``. Default False.
    progress : bool or None, optional
        Show a progress bar; None shows one on a terminal.

    Returns
    -------
    result : `FieldResult`
        Its ``catalogs`` have the names of the strategies, ``"single run"`` (D24 section 3.4.1:
        what is in the first sample alone, with its S/N as score), ``"matched filter"``, and
        ``"true sky"``: what the detection finds in the true sky, the last row of D24's table 2. Its
        ``posterior`` has three quantities, each for the truth and for every sample by the same
        measurement: ``"total flux"``, the sum of the apparent sky over the rms; ``"number of
        sources"``, how many are detected; ``"pixel values"``, the sums over the 16 cells of about
        one beam that are brightest in the dirty image, apparent flux over the rms, brightest
        first. The true sky is drawn from the list of sources at the resolution of the samples.
        The last quantity is left out of fields too small for so many cells. Its
        ``reconstruction`` is about images on the working grid, normalised with the root of the
        preset as in D24 eq. 1 (``FluxScale.normalize_sky``); empty for fields below 7 x 7 pixels.

    Raises
    ------
    ValueError
        If the pair has a sky but no list of sources, or cannot be observed with.

    Warns
    -----
    DiffskyWarning
        If the image is too bright to be sampled without its PSF.
    """
    if not len(pair.sources) and np.any(pair.sky.data):
        raise ValueError(f"pair {number} has no list of its true sources, which its sky has")
    scale, stride = deconvolver.preset_.scale, deconvolver.denoiser_.network.stride
    prepared = prepare_observation(
        pair.dirty,
        primary_beam=pair.primary_beam,
        **scale.grid,
        stride=stride,
    )
    apparent, used = deconvolver.sample_observation(
        prepared,
        psf=_psf(pair, prepared) if use_psf else None,
        measured=True,
        n_samples=n_samples,
        seed=field_seed(seed, number),
        progress=progress,
    )
    # The true PSF is that of the image as observed, not of a reweighted one.
    seen = used if used.image is prepared.image else prepared
    centre, true = _centre(seen.image), _true_sky(pair, used, scale)
    singles = [_catalog_of(used, sample, scale) for sample in apparent]
    catalogs = {}
    for strategy in strategies:
        found = make_catalog(used, apparent, strategy, scale=scale)
        samples = _flux_samples(found, singles, used.image)
        catalogs[strategy] = Detections.from_catalog(found, centre=centre, flux_samples=samples)
    first = singles[0]
    catalogs[SINGLE_RUN] = Detections.from_catalog(first, centre=centre, score=first["snr"])
    catalogs[MATCHED_FILTER] = _filtered(pair, seen, centre, least_signal)
    known = _catalog_of(used, true, scale)
    catalogs[TRUE_SKY] = Detections.from_catalog(known, centre=centre, score=known["snr"])
    if drozdova2024:
        skies = (used.true_sky(sky) for sky in (apparent, true))
        catalogs |= drozdova2024_catalogs(used, *skies, centre=centre, gamma=_root(scale))
    return FieldResult(
        number=int(number),
        beam=_beam(seen.image),
        rms=float(np.median(seen.rms[seen.valid])),
        truth=_truth(pair, seen, centre),
        catalogs=catalogs,
        posterior=_posterior(used, true, len(known), apparent, singles),
        group=group,
        reconstruction=_reconstruction(used, true, apparent, scale, drozdova2024),
    )


def field_seed(seed, number):
    """Seed of the samples of one field.

    Parameters
    ----------
    seed : int
        Of the evaluation.
    number : int
        Number of the field.

    Returns
    -------
    seed : int
        What `~diffsky.DiffusionDeconvolver.predict` takes.
    """
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)


def _catalog_of(prepared, sky, scale):
    """What is detected in one sky."""
    return make_catalog(prepared, sky[None], "detect-aggregate", scale=scale, min_reliability=0.0)


def _flux_samples(catalog, singles, image):
    """Fluxes of the sources in the single samples, NaN in those without them, in Jy."""
    radius = _RADIUS * _beam(image) / pixel_scale(image.wcs)
    fluxes = np.full((len(catalog), len(singles)), np.nan)
    for k, single in enumerate(singles):
        positions = (t[name] for t in (single, catalog) for name in ("x_centroid", "y_centroid"))
        pairs = match_pixels(*positions, radius=radius)
        # The primary beam is that at the source, not where this sample has it.
        apparent = single["flux"] / _per_snr(single)
        fluxes[pairs.truth_index, k] = apparent[pairs.catalog_index].to_value(u.one)
    return fluxes * _per_snr(catalog)[:, None].to_value(u.Jy)


def _per_snr(catalog):
    """Flux density of a point source of S/N 1 where each source is."""
    return catalog["peak"] / catalog["snr"] * u.beam


def _filtered(pair, prepared, centre, least_signal):
    found = matched_filter(
        prepared.image,
        _psf(pair, prepared),
        rms=float(np.median(prepared.rms[prepared.valid])),
        primary_beam=prepared.primary_beam,
        threshold=least_signal,
        mask=~prepared.valid,
    )
    signal = (found["flux"] / found["flux_err"]).to_value(u.one)
    return Detections.from_catalog(found, centre=centre, score=signal)


def _psf(pair, prepared):
    """The true PSF, wide: CASA's image of it is no wider than the field and wrong at its edge."""
    from diffsky.instrument import instrument_from_uv

    if pair.parameters.get("weighting", "natural") != "natural":
        return pair.psf
    instrument = instrument_from_uv(
        pair.uv,
        weights=pair.weights,
        pixel_scale=pixel_scale(prepared.image.wcs),
        primary_beam=prepared.primary_beam,
        rms=0.0,
    )
    return instrument.psf().numpy()


def _truth(pair, prepared, centre):
    """The true sources where there is data."""
    sources, shape = pair.sources, prepared.valid.shape
    rows, columns = (
        np.rint(np.asarray(sources[name], dtype=float)).astype(int)
        for name in ("y_centroid", "x_centroid")
    )
    inside = (rows >= 0) & (columns >= 0) & (rows < shape[0]) & (columns < shape[1])
    inside[inside] = prepared.valid[rows[inside], columns[inside]]
    sources, rows, columns = sources[inside], rows[inside], columns[inside]
    gain = prepared.primary_beam[rows, columns]
    flux = sources["flux"].to_value(u.Jy)
    size = tuple(sources[name].to_value(u.arcsec) for name in ("major", "minor"))
    beam = prepared.image.meta["beam"]
    rms = prepared.rms[rows, columns] * u.Jy / u.beam
    axes = (sources["major"], sources["minor"])
    snr = normalized_injected_flux(sources["flux"] * gain, *axes, rms=rms, beam=beam)
    return TrueSources(*offsets(sources, centre), flux, snr, np.sqrt(size[0] * size[1]))


def _true_sky(pair, prepared, scale):
    """The true sky as a sample would have it: apparent flux over the rms."""
    true, _ = working_truth(pair.sources, prepared, scale, points=True)
    gain = prepared.primary_beam_working
    return true * np.divide(gain, prepared.rms_working, out=np.zeros_like(gain), where=gain > 0)


def _root(scale):
    """The root of D24 eq. 1 that is next to that of a scale."""
    return min(max(scale.gamma, 1), 30)


def _reconstruction(prepared, true, apparent, scale, fewer):
    """Metrics of D24 section 3.5.1, with the true sky at the resolution of the samples."""
    if min(true.shape) < _WINDOW:
        return {}
    pixel = float(pixel_scale(prepared.image.wcs) * prepared.grid.zoom)
    normalize = FluxScale(pixel=pixel, gamma=_root(scale)).normalize_sky
    function = drozdova2024_reconstruction if fewer else reconstruction_scores
    return function(*(normalize(prepared.true_sky(sky)) for sky in (apparent, true)))


def _posterior(prepared, true, count, apparent, singles):
    posterior = {
        "total flux": (np.array([true.sum()]), apparent.sum(axis=(1, 2))[:, None]),
        "number of sources": (
            np.array([float(count)]),
            np.array([[float(len(single))] for single in singles]),
        ),
    }
    size = max(1, round(pixels_per_beam(prepared)))
    cells = _bright_cells(prepared, size)
    if len(cells) == N_CELLS:
        posterior["pixel values"] = tuple(
            _cells(sky, size)[..., cells].astype(float) for sky in (true, apparent)
        )
    return posterior


def _bright_cells(prepared, size):
    """Cells with data that are brightest in the dirty image, which any observer could choose."""
    brightness = _cells(prepared.dirty_working, size)
    whole = _cells((prepared.primary_beam_working > 0).astype(float), size) == size**2
    order = np.argsort(np.where(whole, -brightness, np.inf), kind="stable")
    return order[: min(N_CELLS, int(whole.sum()))]


def _cells(images, size):
    """Sums over square cells, shape (..., n_cells)."""
    ny, nx = (n // size for n in images.shape[-2:])
    cut = images[..., : ny * size, : nx * size]
    sums = cut.reshape(*images.shape[:-2], ny, size, nx, size).sum(axis=(-3, -1))
    return sums.reshape(*images.shape[:-2], ny * nx)


def _centre(image):
    ny, nx = image.shape
    return image.wcs.pixel_to_world(nx // 2, ny // 2).icrs


def _beam(image):
    beam = image.meta["beam"]
    return float(np.sqrt(beam.major * beam.minor).to_value(u.arcsec))
