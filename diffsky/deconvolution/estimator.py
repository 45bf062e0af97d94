"""DiffusionDeconvolver: from a dirty image to a sky and a catalogue."""

import astropy.units as u
import numpy as np

from diffsky.deconvolution.balancing import BalancedLoss
from diffsky.deconvolution.many_images import check_images, predict_images
from diffsky.deconvolution.posterior import PosteriorSampler
from diffsky.deconvolution.presets import Preset, get_preset
from diffsky.deconvolution.psf_checks import load_matching_psf
from diffsky.deconvolution.recalibrating import RecalibratedEstimator
from diffsky.deconvolution.reconstruction import (
    make_catalog,
    make_cube,
    make_sky,
    radius_in_beams,
)
from diffsky.deconvolution.residual import residual_image, residual_statistics
from diffsky.deconvolution.strategies import check_strategy
from diffsky.diffusion.estimator import DiffusionEstimator
from diffsky.simulation.noise_check import NoiseWatch

__all__ = ["DiffusionDeconvolver"]


class DiffusionDeconvolver(PosteriorSampler, RecalibratedEstimator, DiffusionEstimator):
    """Sky model and source catalogue from a dirty image, by conditional diffusion.

    Parameters
    ----------
    preset : str or `diffsky.deconvolution.Preset`, optional
        Network, scaling, training and sampling: ``"small"``, ``"drozdova2024"``, or one of your
        own, for example from `diffsky.deconvolution.drozdova2024`.
    device : str or None, optional
        ``"cuda"``, ``"mps"`` or ``"cpu"``; None takes the first that is there.
    precision : {"auto", "float32", "bfloat16"}, optional
        float32 is the reference; ``"auto"`` takes bfloat16 where the hardware computes in it.
    compile : bool, optional
        Compile the network with `torch.compile`: slower to start, faster in long runs.
    sampler : {"heun", "euler", "dpmpp-2m", "dpmpp-3m", "ddim", "ddpm", "sde-dpmpp-2m"}, optional
        None takes that of the preset; for distilled weights, that is ``"consistency"``.
    n_steps : int or None, optional
        Steps of the sampler; None takes those of the preset.

    Attributes
    ----------
    denoiser_ : `diffsky.diffusion.Denoiser`
        The trained denoiser, after ``fit`` or ``load``.
    preset_ : `diffsky.deconvolution.presets.Preset`
        What it was trained with.
    description_ : dict
        Name, version, training and figures of merit of the weights, and their recalibration.

    Examples
    --------
    >>> from diffsky import DiffusionDeconvolver
    >>> deconvolver = DiffusionDeconvolver.from_pretrained()
    >>> sky, catalog = deconvolver.predict("dirty.fits", seed=1)  # doctest: +SKIP
    """

    _preset_type = Preset
    _default_weights = "alma-band6"

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
        warm_start=False,
        balance=False,
        devices=1,
        num_nodes=1,
        strategy="auto",
    ):
        """Train on pairs of dirty image and sky.

        Parameters
        ----------
        pairs : `diffsky.simulation.SimulatedPairs` or alike
            ``pairs.batch(numbers, device)`` gives (target, condition), ``len(pairs)`` their
            number or 0 for endless ones, ``pairs.scale`` their working scale.
        steps, batch_size : int or None, optional
            Optimizer steps, and pairs a step on all devices together; None takes the preset's.
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
        warm_start : bool, optional
            Start from the present weights and keep their preset, instead of starting anew;
            ``description_["training"]["started_from"]`` says what they were.
        balance : bool, optional
            Let bright images count less, by the root mean square of the dirty image over the
            noise rms where that is above 1. For pairs of faint and bright skies together: without
            it the bright ones decide what is learned. The posterior that is aimed at stays the
            same.
        devices, num_nodes : int, optional
            Devices (on a CPU, processes) on each host, and hosts, started by torchrun or SLURM,
            or from a script on one host. All processes end with the same weights, within
            rounding of those of one, and the first of them saves.
        strategy : {"auto", "ddp"}, optional
            ``"ddp"`` is what ``"auto"`` takes for more than one process.

        Returns
        -------
        self : `DiffusionDeconvolver`
            This estimator, with ``denoiser_``, ``preset_`` and ``description_``.

        Raises
        ------
        NotFittedError
            If ``warm_start`` is True and there are no weights.
        ValueError
            If the pairs were made with another scale than the preset's or one that ``balance``
            does not know, a number is out of range, the run in ``checkpoint_dir`` started from
            other weights, or the processes are not there and cannot be started.
        FileExistsError
            If ``checkpoint_dir`` holds a run and ``resume`` is False.
        KeyboardInterrupt
            On Ctrl-C or SIGTERM, after a checkpoint was written.

        Warns
        -----
        DiffskyWarning
            If the noise of the first eight pairs is correlated, pixel by pixel: a network learns
            such noise by heart. Pairs that are turned or cut at random hide it, but those of a
            `diffsky.simulation.PairDataset`, which looks at whole fields.
        """
        preset = self._fitted().preset_ if warm_start else get_preset(self.preset)
        self._check_pairs(pairs, preset)
        if not hasattr(pairs, "noise_correlation"):  # a PairDataset has said so
            pairs = NoiseWatch(pairs)
        options = {"loss": BalancedLoss(preset.scale)} if balance else {}
        given = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
        return self._train(
            preset,
            pairs,
            {name: value for name, value in given.items() if value is not None},
            about={"balance": True} if balance else {},
            warm_start=warm_start,
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
            resume=resume,
            seed=seed,
            progress=progress,
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy,
            **options,
        )

    def sample(self, dirty, *, n_samples=20, seed=None, psf=None, progress=None, **observation):
        """Draw skies from the posterior.

        Parameters
        ----------
        dirty : `astropy.nddata.CCDData` or path
            Dirty image in Jy/beam, as for `predict`.
        n_samples : int, optional
            Number of samples, 1 or more.
        seed : int or None, optional
            Sample k of a seed is always the same. None draws a seed and notes it in ``meta``.
        psf : array, CCDData, path or None, optional
            PSF of the image: as for `predict`.
        progress : bool or None, optional
            Show a progress bar; None shows one on a terminal.
        **observation
            ``primary_beam``, ``rms``, ``mask``, ``beam``: as for `predict`.

        Returns
        -------
        cube : `astropy.nddata.CCDData`
            Shape (n_samples, ny, nx): true sky in Jy/pix on the pixels of the input. The third
            axis of its WCS is the number of the sample, from 0.
        """
        seed = self._check_run(n_samples, seed)
        prepared = self._prepare(dirty, **observation)
        self._warn_about(prepared, observation)
        response = None if psf is None else load_matching_psf(psf, like=prepared.image)
        run = {"n_samples": n_samples, "seed": seed, "progress": progress}
        measured = observation.get("rms") is None
        apparent, prepared = self.sample_observation(
            prepared, psf=response, measured=measured, **run
        )
        return make_cube(prepared, apparent, self._meta(prepared, seed, n_samples))

    def predict(
        self,
        dirty,
        *,
        n_samples=20,
        strategy="median",
        seed=None,
        radius=0.5,
        min_reliability=0.1,
        calibrated=True,
        regions=None,
        psf=None,
        client=None,
        progress=None,
        **observation,
    ):
        """Reconstruct the sky and list its sources.

        Parameters
        ----------
        dirty : `astropy.nddata.CCDData`, path, or list of these
            Dirty image in Jy/beam, not corrected for the primary beam: whatever
            `diffsky.images.load_image` takes. A list gives a list of results, in its order.
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
            Sources with a smaller reliability are not listed.
        calibrated : bool, optional
            Recalibrate reliabilities and flux intervals where the weights have a recalibration
            that fits (see `calibrate`). Otherwise, and with False, a reliability is the share of
            the samples, and the ends of an interval are quantiles of theirs.
        regions : `regions.Region`, `regions.Regions` or None, optional
            List sources inside these alone.
        psf : array, CCDData, path or None, optional
            PSF on the pixels of the image, better twice as wide. With it, sources far above the
            noise are subtracted in major cycles before faint ones are sampled, and ``sky.meta``
            gets the statistics of the residual. Without it, a warning says what is too bright.
        client : `distributed.Client` or None, optional
            Spread a list over the workers of a dask cluster; files are read here.
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
            rms, kernel, weights, seed and sampler, and which recalibration was used.
        catalog : `astropy.table.QTable`
            See `diffsky.catalog.source_table`.

        Raises
        ------
        NotFittedError
            Before ``fit`` or ``load``.
        ValueError
            If an option or an image is not as expected: of a list, before any is sampled.
        PredictionError
            After the whole list, if images failed. It has the results of the others.
        """
        check_strategy(strategy)
        seed = self._check_run(n_samples, seed)
        run = {"n_samples": n_samples, "strategy": strategy, "seed": seed, "psf": psf}
        run["calibrated"] = calibrated
        search = {"radius": radius, "min_reliability": min_reliability, "regions": regions}
        if isinstance(dirty, (list, tuple)):
            options = {**run, **search, **observation}
            check_images(dirty, lambda first: self._plan(first, run, search, observation), options)
            return predict_images(self, dirty, options, client=client, progress=progress)
        if client is not None:
            raise ValueError("client= spreads a list of images; expected a list")
        prepared, meta, options = self._plan(dirty, run, search, observation)
        self._warn_about(prepared, observation)
        response = None if psf is None else load_matching_psf(psf, like=prepared.image)
        sampling = {"n_samples": n_samples, "seed": seed, "progress": progress}
        measured = observation.get("rms") is None
        apparent, used = self.sample_observation(
            prepared, psf=response, measured=measured, **sampling
        )
        meta.update(self._meta(used, seed, n_samples))
        sky = make_sky(used, apparent, strategy, meta, scale=self.preset_.scale)
        catalog = make_catalog(used, apparent, strategy, **options)
        if response is not None:
            left = self._residual(prepared, sky, response)
            noise = used.rms if used.image is prepared.image else prepared.rms
            sky.meta.update(residual_statistics(left, noise))
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
        prepared = self._prepare(dirty, **observation)
        return self._residual(prepared, sky, load_matching_psf(psf, like=prepared.image))

    def _check_pairs(self, pairs, preset):
        if pairs.scale != preset.scale:
            raise ValueError(f"pairs have {pairs.scale}; preset {self.preset!r} has {preset.scale}")

    def _plan(self, dirty, run, search, observation):
        """The observation, what the sky's ``meta`` shall hold, and options of the catalogue."""
        prepared = self._prepare(dirty, **observation)
        seed, n_samples, strategy = (run[name] for name in ("seed", "n_samples", "strategy"))
        near = radius_in_beams(search["radius"], prepared.image.meta["beam"])
        known, about = self._choose_recalibration(strategy, n_samples, near, run["calibrated"])
        meta = self._meta(prepared, seed, n_samples)
        meta |= {"strategy": strategy, "recalibration": about}
        trained_snr = np.inf if self._subtracts_bright(run["psf"]) else self._trained_snr()
        options = {"scale": self.preset_.scale, "trained_snr": trained_snr, "meta": meta}
        options |= {**search, **known}
        # An empty sky first: what is wrong with the options shows before the network runs.
        make_catalog(prepared, np.zeros((1, *prepared.grid.working_shape)), strategy, **options)
        return prepared, meta, options

    def _residual(self, prepared, sky, psf):
        pixel = prepared.image.meta["pixel_scale"]
        kernel = self.preset_.scale.kernel_fwhm * prepared.grid.zoom
        if "kernel_fwhm" in sky.meta:
            kernel = (sky.meta["kernel_fwhm"] / pixel).to_value(u.one)
        return residual_image(prepared, sky, psf, kernel_fwhm=kernel)

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
            **self.sampling_plan(),
        }
