"""RadioGalaxyGenerator: images of radio galaxies of a class, or of a peak flux density."""

from dataclasses import replace

from diffsky.diffusion.estimator import DiffusionEstimator
from diffsky.diffusion.guidance import guide
from diffsky.diffusion.starting import weights_checksum
from diffsky.generation.conditioning import condition_from_dict
from diffsky.generation.cubes import describe_images, join_cubes
from diffsky.generation.image_files import image_file
from diffsky.generation.presets import GeneratorPreset, get_preset
from diffsky.generation.runs import draw_run, plan_run
from diffsky.generation.training_images import TrainingImages

__all__ = ["RadioGalaxyGenerator"]

# V24 sections 6.1 and 6.3
_GUIDANCE = {"class": 0.75, "peak_flux": 0.1}


class RadioGalaxyGenerator(DiffusionEstimator):
    """Images of radio galaxies, by conditional diffusion.

    Parameters
    ----------
    preset : str or `diffsky.generation.GeneratorPreset`, optional
        Network, training and sampling: a key of `diffsky.generation.PRESETS`, or one of your own.
    device : str or None, optional
        ``"cuda"``, ``"mps"`` or ``"cpu"``; None takes the first that is there.
    precision : {"auto", "float32", "bfloat16"}, optional
        float32 is the reference; ``"auto"`` takes bfloat16 where the hardware computes in it.
    compile : bool, optional
        Compile the network with `torch.compile`: slower to start, faster in long runs.
    sampler : {"heun", "euler", "dpmpp-2m", "dpmpp-3m", "ddim", "ddpm", "sde-dpmpp-2m"}, optional
        None takes that of the preset.
    n_steps : int or None, optional
        Steps of the sampler; None takes those of the preset.

    Attributes
    ----------
    denoiser_ : `diffsky.diffusion.Denoiser`
        The trained denoiser, after ``fit`` or ``load``.
    preset_ : `diffsky.generation.GeneratorPreset`
        What it was trained with.
    description_ : dict
        Name, version, training and figures of merit of the weights, the size and pixels of the
        images, and the condition.

    Examples
    --------
    >>> generator = RadioGalaxyGenerator.from_pretrained("my-galaxies")  # doctest: +SKIP
    >>> images = generator.sample(100, label="FRII", seed=1)  # doctest: +SKIP
    """

    _preset_type = GeneratorPreset
    _default_weights = "first"
    _described = ("condition", "guidance", "image")

    def __init__(
        self,
        preset="compact",
        *,
        device=None,
        precision="auto",
        compile=False,
        sampler=None,
        n_steps=None,
    ):
        super().__init__(
            preset,
            device=device,
            precision=precision,
            compile=compile,
            sampler=sampler,
            n_steps=n_steps,
        )

    @property
    def condition_(self):
        """`ClassCondition` or `PeakFluxCondition` : what images can be asked to be."""
        return condition_from_dict(self._fitted().description_["condition"])

    def fit(
        self,
        images,
        *,
        labels=None,
        peak_flux=False,
        pixel_scale=None,
        beam=None,
        steps=None,
        batch_size=None,
        learning_rate=None,
        checkpoint_dir=None,
        checkpoint_every=250,
        resume=False,
        seed=0,
        progress=None,
        warm_start=False,
        devices=1,
        num_nodes=1,
        strategy="auto",
    ):
        """Train on images with their classes, or with their peak flux densities.

        Parameters
        ----------
        images : `numpy.ndarray`, `~astropy.units.Quantity` or `~astropy.nddata.CCDData`
            Shape (n, ny, ny), finite; in Jy/beam where ``peak_flux`` is True. ny is a multiple of
            the network's stride.
        labels : sequence of str or None, optional
            Class of each image.
        peak_flux : bool, optional
            Whether the images are conditioned on their peak flux density.
        pixel_scale : `~astropy.units.Quantity` or None, optional
            Side of a pixel, which the images then are noted to have.
        beam : `~radio_beam.Beam` or None, optional
            Likewise.
        steps, batch_size : int or None, optional
            Optimizer steps, and images a step on all devices together; None takes the preset's.
        learning_rate : float or None, optional
            None takes the preset's.
        checkpoint_dir : path-like or None, optional
            Folder for checkpoints and the log. Without it nothing can be resumed.
        checkpoint_every : int, optional
            Steps between checkpoints.
        resume : bool, optional
            Continue the run in ``checkpoint_dir``, if there is one.
        seed : int, optional
            Of the first weights, the order of the images, their turns, and the noise of training.
        progress : bool or None, optional
            Show a progress bar; None shows one on a terminal.
        warm_start : bool, optional
            Go on from the present weights, with their preset and condition, and the pixel scale
            and beam that they have.
        devices, num_nodes : int, optional
            Devices (on a CPU, processes) on each host, and hosts, started by torchrun or SLURM.
        strategy : {"auto", "ddp"}, optional
            ``"ddp"`` is what ``"auto"`` takes for more than one process.

        Returns
        -------
        self : `RadioGalaxyGenerator`
            This estimator, with ``denoiser_``, ``preset_`` and ``description_``.

        Raises
        ------
        NotFittedError
            If ``warm_start`` is True and there are no weights.
        ValueError
            If the images cannot be scaled or are not as many as the labels, there are neither
            labels nor ``peak_flux``, the weights know no such label or peak, a number is out of
            range, or the run in ``checkpoint_dir`` is of other weights or images.
        FileExistsError
            If ``checkpoint_dir`` holds a run and ``resume`` is False.
        KeyboardInterrupt
            On Ctrl-C or SIGTERM, after a checkpoint was written.
        """
        preset = self._fitted().preset_ if warm_start else get_preset(self.preset)
        pairs = TrainingImages(
            images,
            labels=labels,
            peak_flux=peak_flux,
            condition=self.condition_ if warm_start else None,
            scale=preset.scale,
            seed=seed,
        )
        if not warm_start:
            network = {**preset.network, "context": pairs.condition.length}
            sigma_data = preset.sigma_data or pairs.rms
            preset = replace(preset, network=network, sigma_data=sigma_data)
        pairs.check_size(preset.network)
        image = dict(self.description_["image"]) if warm_start else {}
        image |= describe_images(pairs.images.shape[-1], pixel_scale, beam)
        given = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
        self._train(
            preset,
            pairs,
            {name: value for name, value in given.items() if value is not None},
            warm_start=warm_start,
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
            resume=resume,
            seed=seed,
            progress=progress,
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy,
        )
        self.description_ |= {
            "condition": pairs.condition.to_dict(),
            "guidance": _GUIDANCE[pairs.condition.kind],
            "image": image,
        }
        return self

    def sample(
        self,
        n,
        *,
        label=None,
        peak_flux=None,
        guidance=None,
        seed=None,
        extrapolate=False,
        progress=None,
    ):
        """Draw images.

        Parameters
        ----------
        n : int
            Number of images, 1 or more.
        label : str, sequence of str or None, optional
            Class of all images, or of each; None draws them, all classes alike. For weights that
            were trained with labels.
        peak_flux : `~astropy.units.Quantity` or None, optional
            Peak flux density of all images, or of each; None draws them as in the training (V24
            section 6.1). For weights that were trained with peaks.
        guidance : float or None, optional
            Strength w of `diffsky.diffusion.guide`; None takes that of the weights. Above 0 an
            image costs twice the network calls.
        seed : int or None, optional
            Image k of a seed is always the same, whatever ``n``. None draws a seed and notes it in
            ``meta``.
        extrapolate : bool, optional
            Accept peaks beyond the range of the training. Default False.
        progress : bool or None, optional
            Show a progress bar; None shows one on a terminal.

        Returns
        -------
        cube : `~astropy.nddata.CCDData`
            Shape (n, ny, ny), in Jy/beam for weights that were trained with peaks, else relative
            to the peak. ``meta`` has ``label`` or ``peak_flux`` of each image, ``guidance``,
            ``seed``, ``pixel_scale`` and ``beam`` where they are known, sampler and weights.

        Raises
        ------
        NotFittedError
            Before ``fit`` or ``load``.
        ValueError
            If the label is unknown or the peak beyond the range of the training, the weights have
            another condition, or a number is out of range.
        """
        batches = list(
            self.stream(
                n,
                label=label,
                peak_flux=peak_flux,
                guidance=guidance,
                seed=seed,
                extrapolate=extrapolate,
                progress=progress,
            )
        )
        return join_cubes(batches)

    def stream(
        self,
        n,
        *,
        label=None,
        peak_flux=None,
        guidance=None,
        seed=None,
        extrapolate=False,
        progress=None,
    ):
        """Draw images in batches, each of them when it is asked for.

        Parameters
        ----------
        n : int
            Number of images, 1 or more.
        label, peak_flux, guidance, seed, extrapolate, progress : optional
            As for `sample`.

        Returns
        -------
        cubes : iterator of `~astropy.nddata.CCDData`
            As from `sample`, each for the next images, as many as the memory holds at once.

        Raises
        ------
        NotFittedError
            Before ``fit`` or ``load``.
        ValueError
            As for `sample`.
        """
        run = self._plan(n, label, peak_flux, guidance, seed, extrapolate)
        return self._batches(run, progress)

    def write(
        self,
        path,
        n,
        *,
        label=None,
        peak_flux=None,
        guidance=None,
        seed=None,
        extrapolate=False,
        resume=False,
        overwrite=False,
        progress=None,
    ):
        """Draw images into a FITS file or a zarr store, batch by batch.

        There has to be room for all images before the first is drawn. Those that were not drawn
        are NaN.

        Parameters
        ----------
        path : path-like
            A name in ``.fits`` or ``.zarr``.
        n : int
            Number of images, 1 or more.
        label, peak_flux, guidance, seed, extrapolate : optional
            As for `sample`.
        resume : bool, optional
            Go on with the file of a run that was interrupted: with the same arguments, ``seed``
            among them.
        overwrite : bool, optional
            Replace a file that is there.
        progress : bool or None, optional
            As for `sample`.

        Returns
        -------
        path : `pathlib.Path`
            The file, for `diffsky.generation.read_images`.

        Raises
        ------
        FileExistsError
            If there is a file, and neither ``resume`` nor ``overwrite`` is asked for.
        OSError
            If there is no room; what was drawn before stays readable.
        NotFittedError
            Before ``fit`` or ``load``.
        ValueError
            As for `sample`, or if the file is of another kind or another run.
        """
        file = image_file(path)
        run = self._plan(n, label, peak_flux, guidance, seed, extrapolate)
        by = {"sha256": weights_checksum(self._network()), "precision": self._ready().precision}
        about = {"run": {**run.meta, "n": int(n)}, "image": self.description_["image"]}
        about["drawn_by"] = {**by, "scale": self.preset_.scale}
        first = file.prepare(about, run.values, resume=resume, overwrite=overwrite)
        for cube in self._batches(run, progress, first=first):
            file.write(first, cube.data)
            first += len(cube.data)
        return file.path

    def distill(self, pairs, **options):
        """Train the weights further until a sample takes one to four network calls.

        Distilled weights are sampled without guidance, which the flow that they were distilled
        from does not have.

        Parameters
        ----------
        pairs : `diffsky.generation.TrainingImages`
            With ``condition=generator.condition_`` and ``scale=generator.preset_.scale``.
        **options : optional
            As for `diffsky.DiffusionDeconvolver.distill`.

        Returns
        -------
        self : `RadioGalaxyGenerator`
            This estimator.

        Raises
        ------
        ValueError
            If the pairs have another condition or size than the weights, or as there.
        NotFittedError, FileExistsError, KeyboardInterrupt
            As there.
        """
        super().distill(pairs, **options)
        self.description_["guidance"] = 0.0
        return self

    def _check_pairs(self, pairs, preset):
        """Refuse images for other weights than the present ones."""
        pairs.check_size(preset.network)
        pairs.check_for(self.condition_, preset.scale)

    def _plan(self, n, label, peak_flux, guidance, seed, extrapolate):
        seed = self._check_run(n, seed, name="n")
        asked = {"label": label, "peak_flux": peak_flux, "extrapolate": extrapolate}
        asked |= {"guidance": guidance, "seed": seed}
        run = plan_run(self.condition_, self.description_, self.sampling_plan(), n, **asked)
        guide(self.denoiser_, run.context, run.meta["guidance"])  # refuses a strength that is none
        if run.meta["guidance"] and self._distilled():
            raise ValueError(f"guidance is {guidance} for distilled weights; expected 0")
        return run

    def _batches(self, run, progress, first=0):
        image = {**self.description_["image"], "scale": self.preset_.scale}
        how = {"first": first, "progress": progress}
        return draw_run(self.denoiser_, run, self._ready(), image, **how)
