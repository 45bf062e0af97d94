"""One simulated pair: its sky, CASA's observation of it, and the truth on the same pixels."""

from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.nddata import CCDData, NDData
from astropy.table import QTable, Table

from diffsky.deconvolution.scaling import WorkingScale
from diffsky.simulation._casa_inputs import sky_inputs
from diffsky.simulation._casa_process import CasaProcess
from diffsky.simulation._casa_results import observation_parts
from diffsky.simulation._prior import Prior
from diffsky.simulation.pair import SimulatedPair
from diffsky.simulation.rendering import render_sources
from diffsky.simulation.setup import ObservationSetup
from diffsky.simulation.sources import SourceList
from diffsky.simulation.user_skies import sky_from_image, sources_from_table

__all__ = ["KERNEL_BEAMS", "PairMaker", "PairTask", "Sky", "finish_pair", "resolve_sky", "stream"]

KERNEL_BEAMS = WorkingScale.kernel_beams
_SCRIPT = str(Path(__file__).with_name("_casa_pairs.py"))
_TABLES = (".ecsv", ".vot", ".xml")
_NARROWEST = 1.7  # pixels; sources as narrow as this are still whole on a grid
_MEASURED_SEED = 1
PURPOSES = {"sky": 1, "setup": 2, "noise": 3}  # of the random streams of a pair


@dataclass(frozen=True, kw_only=True)
class Sky:
    """A sky on the field of a set-up: sources or an image.

    Parameters
    ----------
    sources : `SourceList`, optional
        In Jy and arcsec from the phase centre.
    image : `numpy.ndarray`, optional
        ``[y, x]`` in Jy/pix.
    """

    sources: SourceList | None = None
    image: np.ndarray | None = None

    def inputs(self, setup):
        """Arrays for CASA; none of an empty list of sources."""
        given = self.image if self.sources is None else self.sources.to_table(setup.wcs)
        return sky_inputs(given, setup)

    def table(self, setup):
        """The sources, none of an image."""
        none = SourceList(*np.zeros((6, 0)))
        return (none if self.sources is None else self.sources).to_table(setup.wcs)


@dataclass(frozen=True, kw_only=True)
class PairTask:
    """What decides one pair.

    Parameters
    ----------
    job : dict
        Plain values of its observation, with the seed and number of the pair, "series" and
        "number".
    setup, reference : `ObservationSetup`
        That of the pair, and the one whose field, noise and beam the prior draws for.
    sky : `Prior` or `Sky`
    kernel_beams : float
        FWHM in beams of the Gaussian that the truth is convolved with.
    reference_job : dict or None
        Plain values of ``reference``, for a prior in noise rms and beams.
    """

    job: dict
    setup: ObservationSetup
    reference: ObservationSetup
    sky: object
    kernel_beams: float
    reference_job: dict | None = None


def stream(seed, number, purpose, *more):
    """The random stream of a pair for one purpose."""
    return np.random.default_rng([seed, number, PURPOSES[purpose], *more])


class PairMaker:
    """Makes pairs with a CASA process of its own.

    Parameters
    ----------
    work_dir : path-like, optional
        Folder for temporary files. By default that of the system.
    """

    def __init__(self, *, work_dir=None):
        self._work_dir = work_dir
        self._process = CasaProcess(scratch_dir=work_dir)
        self._measured = {}

    def close(self):
        """End the CASA process."""
        self._process.close()

    def make(self, task, *, timeout, retries, log_file=None):
        """Make a pair.

        Parameters
        ----------
        task : `PairTask`
        timeout, retries, log_file
            As `CasaProcess.run` takes them.

        Returns
        -------
        `SimulatedPair`
        """
        options = {"timeout": timeout, "retries": retries, "log_file": log_file}
        sky = self._draw(task, options) if isinstance(task.sky, Prior) else task.sky
        arrays, values = self._observe(task.job, sky.inputs(task.setup), options)
        parts = observation_parts(task.job, task.setup, arrays, values)
        return finish_pair(parts, sky, task.setup, kernel_beams=task.kernel_beams)

    def _observe(self, job, inputs, options):
        job = {**job, "empty_sky": not inputs}
        if job["simulator"] == "simalma":
            job |= {"task": "observe"}
        else:
            job |= {"task": "observe_pair", "script": _SCRIPT}
        arrays, values, _ = self._process.run(
            job, inputs=inputs, work_dir=self._work_dir, **options
        )
        return arrays, values

    def _draw(self, task, options):
        """Draw a sky in Jy and arcsec, every source whole in the field."""
        rms, beam = 1.0, 1.0
        if task.sky.relative:
            rms, beam = self._measure(task, options)
        reference = task.reference
        half = (reference.image_size - 1) // 2 * reference.cell.to_value(u.arcsec)
        rng = stream(task.job["series"], task.job["number"], "sky")
        sources = task.sky.draw(rng, within=half / beam)
        return Sky(sources=sources.scaled(flux=rms, size=beam))

    def _measure(self, task, options):
        """Noise rms (Jy/beam) and beam (arcsec) of the reference set-up, by an empty sky."""
        job = {**task.reference_job, "seed": _MEASURED_SEED}
        key = repr(sorted(job.items()))
        if key not in self._measured:
            arrays, values = self._observe(job, {}, options)
            good = arrays["primary_beam"] >= task.reference.pblimit
            rms = float(np.std(arrays["dirty"][good]))
            self._measured[key] = rms, float(np.sqrt(values["beam"][0] * values["beam"][1]))
        return self._measured[key]


def resolve_sky(sky, setup):
    """A sky on the field of a set-up.

    Parameters
    ----------
    sky : `~astropy.table.Table`, `SourceList`, `~astropy.nddata.NDData`, array_like or path-like
        As `diffsky.simulation.simulate_pair` takes it.
    setup : `ObservationSetup`

    Returns
    -------
    `Sky`
        Sources that lie whole in the field, or an image.

    Raises
    ------
    ValueError, TypeError
        If it is none.
    """
    if isinstance(sky, str | Path):
        sky = _read(Path(sky).expanduser(), setup)
    if isinstance(sky, SourceList):
        sky = sky.to_table(setup.wcs)
    if isinstance(sky, Table):
        return Sky(sources=sources_from_table(sky, setup.wcs))
    if isinstance(sky, NDData) and sky.wcs is not None:
        sky = sky_from_image(sky, setup.wcs)
    return Sky(image=sky_inputs(sky, setup)["sky"])


def _read(path, setup):
    if not path.is_file():
        raise FileNotFoundError(f"sky: there is no file {path}")
    if path.suffix.lower() in _TABLES:
        return QTable.read(path)
    return sky_from_image(path, setup.wcs)


def finish_pair(parts, sky, setup, *, kernel_beams, measurement_set=None):
    """Put the truth beside an observation.

    Parameters
    ----------
    parts : dict
        As `diffsky.simulation._casa_results.observation_parts` makes them.
    sky : `Sky`
    setup : `ObservationSetup`
    kernel_beams : float
        FWHM in beams of the Gaussian that the truth is convolved with.
    measurement_set : `pathlib.Path`, optional

    Returns
    -------
    `SimulatedPair`
    """
    beam, cell = parts["beam"], setup.cell.to_value(u.arcsec)
    kernel = kernel_beams * np.sqrt(beam.major * beam.minor).to_value(u.arcsec) / cell
    if sky.sources is None:
        image = _convolve(sky.image, kernel)
    else:
        kernel = max(float(kernel), _NARROWEST)
        image = _render(sky.sources, setup, kernel)
    meta = {"kernel_fwhm": float(kernel * cell) * u.arcsec}
    truth = CCDData(image, unit=u.Jy / u.pix, wcs=setup.wcs, meta=meta)
    return SimulatedPair(
        **parts, sky=truth, sources=sky.table(setup), measurement_set=measurement_set
    )


def _render(sources, setup, kernel):
    """Image of sources, convolved in closed form."""
    shape, owner = setup.wcs.array_shape, np.zeros(len(sources), dtype=int)
    pixel = setup.cell.to_value(u.arcsec)
    return render_sources(sources, owner, 1, shape, pixel=pixel, kernel_fwhm=kernel)[0].numpy()


def _convolve(image, kernel):
    from scipy.ndimage import gaussian_filter

    if not kernel:
        return np.array(image)
    return gaussian_filter(image, kernel / np.sqrt(8 * np.log(2)), mode="constant", truncate=6.0)
