"""DiffusionDeconvolver: from a dirty image to a sky and a catalogue."""

import secrets

import astropy.units as u
import numpy as np
import torch
from astropy.nddata import CCDData, StdDevUncertainty

from diffsky.backend import select_backend
from diffsky.deconvolution.observation import prepare_observation
from diffsky.deconvolution.presets import Preset, get_preset
from diffsky.deconvolution.residual import residual_image
from diffsky.deconvolution.sampling import draw_samples
from diffsky.deconvolution.strategies import check_strategy, find_sources, summarize_samples
from diffsky.diffusion.networks import build_network
from diffsky.diffusion.preconditioning import Denoiser
from diffsky.diffusion.training import train_denoiser
from diffsky.diffusion.weights import load_into, load_weights, resolve_weights, save_weights
from diffsky.exceptions import NotFittedError

__all__ = ["DiffusionDeconvolver"]

DEFAULT_WEIGHTS = "alma-band6"
_FIELD_UNIT = u.Jy / u.pix


class DiffusionDeconvolver:
    """Sky model and source catalogue from a dirty image, by conditional diffusion.

    Parameters
    ----------
    preset : str, optional
        Network, scaling and training: ``"small"``.
    device : str or None, optional
        ``"cuda"``, ``"mps"`` or ``"cpu"``; None takes the first that is there.
    precision : {"auto", "float32", "bfloat16"}, optional
        float32 is the reference; ``"auto"`` takes bfloat16 where the hardware computes in it.
    compile : bool, optional
        Compile the network with `torch.compile`: slower to start, faster in long runs.
    sampler : {"heun", "euler", "dpmpp-2m"} or None, optional
        None takes that of the preset.
    n_steps : int or None, optional
        Steps of the sampler; None takes those of the preset.

    Attributes
    ----------
    denoiser_ : `diffsky.diffusion.Denoiser`
        The trained denoiser, after ``fit`` or ``load``.
    preset_ : `diffsky.deconvolution.presets.Preset`
        What it was trained with.
    description_ : dict
        Name, version, training and figures of merit of the weights.

    Examples
    --------
    >>> from diffsky import DiffusionDeconvolver
    >>> deconvolver = DiffusionDeconvolver.from_pretrained()
    >>> sky, catalog = deconvolver.predict("dirty.fits", seed=1)  # doctest: +SKIP
    """

    def __init__(
        self,
        preset="small",
        *,
        device=None,
        precision="auto",
        compile=False,
        sampler=None,
        n_steps=None,
    ):
        self.preset = preset
        self.device = device
        self.precision = precision
        self.compile = compile
        self.sampler = sampler
        self.n_steps = n_steps

    def fit(
        self,
        pairs,
        *,
        steps=None,
        batch_size=None,
        learning_rate=None,
        checkpoint_dir=None,
        checkpoint_every=250,
        resume=False,
        seed=0,
        progress=None,
    ):
        """Train on pairs of dirty image and sky.

        Parameters
        ----------
        pairs : `diffsky.simulation.SimulatedPairs` or alike
            ``pairs.batch(numbers, device)`` gives (target, condition), ``len(pairs)`` their
            number or 0 for endless ones, ``pairs.scale`` their working scale.
        steps, batch_size : int or None, optional
            Optimizer steps and pairs a step; None takes the preset's.
        learning_rate : float or None, optional
            None takes the preset's.
        checkpoint_dir : path-like or None, optional
            Folder for checkpoints and the log. Without it nothing can be resumed.
        checkpoint_every : int, optional
            Steps between checkpoints.
        resume : bool, optional
            Continue the run in ``checkpoint_dir``, if there is one.
        seed : int, optional
            Of the first weights, the order of pairs, and the noise of training.
        progress : bool or None, optional
            Show a progress bar; None shows one on a terminal.

        Returns
        -------
        self : `DiffusionDeconvolver`

        Raises
        ------
        ValueError
            If the pairs were made with another scale than the preset's, or a number is out of
            range.
        FileExistsError
            If ``checkpoint_dir`` holds a run and ``resume`` is False.
        KeyboardInterrupt
            On Ctrl-C, after a checkpoint was written.
        """
        preset = get_preset(self.preset)
        if pairs.scale != preset.scale:
            raise ValueError(f"pairs have {pairs.scale}; preset {self.preset!r} has {preset.scale}")
        backend = self._backend()
        given = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
        plan = {**preset.training, **{k: v for k, v in given.items() if v is not None}}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            denoiser = Denoiser(build_network(preset.network), sigma_data=preset.sigma_data)
        denoiser = denoiser.to(memory_format=torch.channels_last)
        history = train_denoiser(
            denoiser,
            pairs,
            **plan,
            seed=seed,
            backend=backend,
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
            resume=resume,
            progress=progress,
        )
        describe = getattr(pairs, "describe", dict)
        self._adopt(
            denoiser,
            preset,
            {
                "name": "unnamed",
                "version": 1,
                "preset": self.preset,
                "training": {**plan, **history, "seed": seed, "pairs": describe()},
                "merits": {},
            },
        )
        return self

    def sample(self, dirty, *, n_samples=20, seed=None, progress=None, **observation):
        """Draw skies from the posterior.

        Parameters
        ----------
        dirty : `astropy.nddata.CCDData` or path
            Dirty image in Jy/beam, as for `predict`.
        n_samples : int, optional
            Number of samples, 1 or more.
        seed : int or None, optional
            Sample k of a seed is always the same. None draws a seed and notes it in ``meta``.
        progress : bool or None, optional
            Show a progress bar; None shows one on a terminal.
        **observation
            ``primary_beam``, ``rms``, ``mask``, ``beam``: as for `predict`.

        Returns
        -------
        cube : `astropy.nddata.CCDData`
            Shape (n_samples, ny, nx): true sky in Jy/pix on the pixels of the input.
        """
        seed = self._check_run(n_samples, seed)
        prepared = self._prepare(dirty, **observation)
        apparent = self._sample_apparent(prepared, n_samples, seed, progress)
        cube = prepared.grid.to_image(prepared.true_sky(apparent))
        mask = np.broadcast_to(~prepared.valid, cube.shape)
        meta = self._meta(prepared, seed, n_samples)
        cube[:, ~prepared.valid] = 0
        return CCDData(cube, unit=_FIELD_UNIT, mask=mask, meta=meta)

    def predict(
        self,
        dirty,
        *,
        n_samples=20,
        strategy="median",
        seed=None,
        radius=0.5,
        min_reliability=0.1,
        regions=None,
        psf=None,
        progress=None,
        **observation,
    ):
        """Reconstruct the sky and list its sources.

        Parameters
        ----------
        dirty : `astropy.nddata.CCDData`, path, or list of these
            Dirty image in Jy/beam, not corrected for the primary beam: whatever
            `diffsky.images.load_image` takes. A list gives a list of results.
        n_samples : int, optional
            Number of posterior samples, 1 or more; intervals need 3.
        strategy : {"median", "mean", "detect-aggregate"}, optional
            Where the positions of the sources come from, D24 section 3.4.1.
        seed : int or None, optional
            Sample k of a seed is always the same. None draws a seed and notes it in ``meta``.
        radius : float or `astropy.units.Quantity`, optional
            Detections in several samples within this distance are one source; a number is in
            beams (geometric mean FWHM), an angle is an angle.
        min_reliability : float, optional
            Sources in a smaller share of the samples are not listed.
        regions : `regions.Region`, `regions.Regions` or None, optional
            List sources inside these alone.
        psf : array, CCDData, path or None, optional
            With the PSF given, ``sky.meta`` gets the rms of the residual.
        progress : bool or None, optional
            Show a progress bar; None shows one on a terminal.
        **observation
            ``primary_beam``, ``rms`` (array, number, CCDData or path), ``mask`` (True where
            there is no data) and ``beam`` (if the header has none). Without ``primary_beam``
            it is that of the telescope and frequency in the header where the dish is known,
            else unity with a warning; without ``rms`` the noise is measured.

        Returns
        -------
        sky : `astropy.nddata.CCDData`
            Shape (ny, nx), Jy/pix, true sky at the resolution of the target kernel (0.4 beam),
            with the standard deviation over the samples, the mask, and in ``meta`` the beam,
            rms, kernel, weights, seed and sampler.
        catalog : `astropy.table.QTable`
            See `diffsky.catalog.source_table`.

        Raises
        ------
        NotFittedError
            Before ``fit`` or ``load``.
        ValueError
            If an option or the image is not as expected.
        """
        check_strategy(strategy)
        seed = self._check_run(n_samples, seed)
        if isinstance(dirty, (list, tuple)):
            options = dict(
                n_samples=n_samples, strategy=strategy, seed=seed, radius=radius,
                min_reliability=min_reliability, regions=regions, psf=psf, progress=progress,
            )  # fmt: skip
            return [self.predict(image, **options, **observation) for image in dirty]
        prepared = self._prepare(dirty, **observation)
        apparent = self._sample_apparent(prepared, n_samples, seed, progress)
        sky = self._make_sky(prepared, apparent, strategy, seed)
        catalog = self._make_catalog(prepared, apparent, strategy, radius, min_reliability, sky.meta)
        if regions is not None:
            from diffsky.catalog import inside_regions

            x, y = (np.rint(catalog[f"{axis}_centroid"]).astype(int) for axis in "xy")
            inside = inside_regions(regions, prepared.image.shape, prepared.image.wcs)
            catalog = catalog[inside[y, x]]
            catalog["id"] = np.arange(1, len(catalog) + 1)
        if psf is not None:
            left = self.residual(dirty, sky, psf=psf, **observation)
            sky.meta["residual_rms"] = float(np.std(left.data[~left.mask]))
        return sky, catalog

    def residual(self, dirty, sky, *, psf, **observation):
        """Dirty image less the re-observed sky.

        Parameters
        ----------
        dirty : `astropy.nddata.CCDData` or path
            The image that ``sky`` was made from.
        sky : `astropy.nddata.CCDData`
            What `predict` returned.
        psf : array, CCDData or path
            PSF with its peak of 1 at the centre, on the pixels of the image; wide ones are
            better.
        **observation
            ``primary_beam``, ``rms``, ``mask``, ``beam``: as given to `predict`.

        Returns
        -------
        residual : `astropy.nddata.CCDData`
            Jy/beam, masked where there is no data. The target kernel is divided out.
        """
        preset = self._fitted().preset_
        prepared = self._prepare(dirty, **observation)
        kernel = preset.scale.kernel_fwhm * prepared.grid.zoom
        return residual_image(prepared, sky, psf, kernel_fwhm=kernel)

    def save(self, folder, *, name=None, half=False, overwrite=False):
        """Write the weights and what they are.

        Parameters
        ----------
        folder : path-like
            Gets ``weights.safetensors`` and ``description.json``.
        name : str or None, optional
            Name in the description; None keeps the present one.
        half : bool, optional
            Store float16 instead of float32.
        overwrite : bool, optional
            Replace weights that are there.

        Raises
        ------
        FileExistsError
            If the folder holds weights and ``overwrite`` is False.
        """
        fitted = self._fitted()
        if name is not None:
            fitted.description_["name"] = name
        description = {**fitted.description_, **fitted.preset_.to_dict()}
        save_weights(
            folder, fitted.denoiser_.network, description, half=half, overwrite=overwrite
        )

    @classmethod
    def load(cls, folder, **options):
        """Read weights from a folder.

        Parameters
        ----------
        folder : path-like
            What `save` wrote.
        **options
            Keywords of the class (``device``, ``precision``, ``sampler``, ``n_steps``...).

        Returns
        -------
        deconvolver : `DiffusionDeconvolver`

        Raises
        ------
        FileNotFoundError
            If the folder has no weights.
        WeightsError
            If they are damaged, altered or of another architecture.
        """
        tensors, description = load_weights(folder)
        stored = {key: description.pop(key) for key in Preset.__dataclass_fields__ if key != "training"}
        preset = Preset.from_dict({**stored, "training": description["training"]})
        denoiser = Denoiser(build_network(preset.network), sigma_data=preset.sigma_data)
        load_into(denoiser.network, tensors, str(folder))
        deconvolver = cls(description["preset"], **options)
        deconvolver._adopt(denoiser, preset, description)
        return deconvolver

    @classmethod
    def from_pretrained(cls, name=DEFAULT_WEIGHTS, **options):
        """Read weights by their name.

        Parameters
        ----------
        name : path-like, optional
            The name of bundled weights, or a folder.
        **options
            Keywords of the class.

        Returns
        -------
        deconvolver : `DiffusionDeconvolver`

        Raises
        ------
        FileNotFoundError
            If there are none of that name; the message lists the bundled ones.
        """
        return cls.load(resolve_weights(name), **options)

    def _backend(self):
        return select_backend(self.device, self.precision, compile=self.compile)

    def _adopt(self, denoiser, preset, description):
        self.denoiser_, self.preset_, self.description_ = denoiser.eval(), preset, description
        self._run = None

    def _fitted(self):
        if not hasattr(self, "denoiser_"):
            raise NotFittedError(
                "this DiffusionDeconvolver has no weights; call fit(), or make it with "
                "DiffusionDeconvolver.from_pretrained() or .load(folder)"
            )
        return self

    def _check_run(self, n_samples, seed):
        self._fitted()
        if not isinstance(n_samples, (int, np.integer)) or n_samples < 1:
            raise ValueError(f"n_samples is {n_samples!r}; expected an integer of 1 or more")
        if seed is None:
            return secrets.randbits(32)
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed is {seed!r}; expected an integer of 0 or more, or None")
        return int(seed)

    def _prepare(self, dirty, **observation):
        fitted = self._fitted()
        return prepare_observation(
            dirty,
            pixels_per_beam=fitted.preset_.scale.pixels_per_beam,
            stride=fitted.denoiser_.network.stride,
            **observation,
        )

    def _sampling(self):
        given = {"sampler": self.sampler, "n_steps": self.n_steps}
        return {**self.preset_.sampling, **{k: v for k, v in given.items() if v is not None}}

    def _sample_apparent(self, prepared, n_samples, seed, progress):
        """Samples of the apparent sky in rms on the working grid."""
        if self._run is None:
            backend = self._backend()
            self.denoiser_.network = backend.prepare(self.denoiser_.network)
            self._run = backend
        scale = self.preset_.scale
        images = (prepared.dirty_working, prepared.primary_beam_working)
        condition = scale.condition(*(torch.from_numpy(image)[None] for image in images))
        targets = draw_samples(
            self.denoiser_,
            condition[0],
            n_samples=n_samples,
            seed=seed,
            sampling=self._sampling(),
            backend=self._run,
            progress=progress,
        )
        return scale.unscale_target(targets).numpy() * (prepared.primary_beam_working > 0)

    def _make_sky(self, prepared, apparent, strategy, seed):
        sky = prepared.true_sky(apparent)
        average = prepared.grid.to_image(summarize_samples(sky, strategy))
        spread = prepared.grid.to_image(sky.std(axis=0, ddof=min(1, len(sky) - 1)))
        for image in (average, spread):
            image[~prepared.valid] = 0
        meta = {**self._meta(prepared, seed, len(apparent)), "strategy": strategy}
        return CCDData(
            average,
            unit=_FIELD_UNIT,
            uncertainty=StdDevUncertainty(np.clip(spread, 0, None)),
            mask=~prepared.valid,
            wcs=prepared.image.wcs,
            meta=meta,
        )

    def _make_catalog(self, prepared, apparent, strategy, radius, min_reliability, meta):
        from diffsky.catalog import source_table

        beam = prepared.image.meta["beam"]
        scale = self.preset_.scale
        if isinstance(radius, u.Quantity):
            radius = (radius / np.sqrt(beam.major * beam.minor)).to_value(u.one)
        sources = find_sources(
            apparent,
            strategy,
            radius=radius * scale.pixels_per_beam,
            mask=prepared.primary_beam_working <= 0,
            min_reliability=min_reliability,
        )
        columns = np.rint(sources["x"]).astype(int), np.rint(sources["y"]).astype(int)
        place = (columns[1], columns[0])
        zoom = prepared.grid.zoom
        sources["x"], sources["y"] = prepared.grid.to_image_pixels(sources["x"], sources["y"])
        for name in ("major", "minor", "position_err"):
            sources[name] = sources[name] * zoom
        rms = prepared.rms_working[place]
        for name in ("flux", "flux_err", "flux_lower", "flux_upper"):
            sources[name] = sources[name] * rms
        return source_table(
            sources,
            wcs=prepared.image.wcs,
            beam=beam,
            rms=rms * u.Jy / u.beam,
            primary_beam=prepared.primary_beam_working[place],
            kernel_fwhm=scale.kernel_fwhm * zoom,
            meta=meta,
        )

    def _meta(self, prepared, seed, n_samples):
        beam = prepared.image.meta["beam"]
        return {
            "beam": beam,
            "rms": float(np.median(prepared.rms[prepared.valid])),
            "kernel_fwhm": (self.preset_.scale.kernel_beams * np.sqrt(beam.major * beam.minor)),
            "weights": self.description_["name"],
            "weights_version": self.description_["version"],
            "seed": seed,
            "n_samples": n_samples,
            **self._sampling(),
        }
