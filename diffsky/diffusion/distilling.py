"""Distillation of the weights of an estimator, until a sample takes one to four network calls."""

from dataclasses import replace

import torch

from diffsky.diffusion.consistency import DISTILLATION, ConsistencyLoss
from diffsky.diffusion.training import train_denoiser

__all__ = ["DistillableEstimator"]


class DistillableEstimator:
    """An estimator whose weights can teach others that take few calls.

    A subclass names in ``_described`` what its description has beside that of all weights.
    """

    _described = ()

    def distill(
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
        devices=1,
        num_nodes=1,
        strategy="auto",
    ):
        """Train the weights further until a sample takes one to four network calls.

        The present weights teach a copy of themselves to give the end of the flow that they are
        sampled along (consistency distillation, Song et al. 2023, arXiv:2303.01469). The copy then
        takes their place, and ``sampler="consistency"`` with ``n_steps`` 1 to 4 is how it is
        sampled, 1 by default. Until it does, this estimator stays as it is.

        Parameters
        ----------
        pairs : object
            As for ``fit``: of the kind that the weights were trained on.
        steps : int or None, optional
            Optimizer steps, each with about twice the work of one of ``fit``. None takes 2000.
        batch_size : int or None, optional
            Pairs a step on all devices together; None takes the preset's.
        learning_rate : float or None, optional
            None takes 2e-4.
        checkpoint_dir : path-like or None, optional
            Folder for checkpoints and the log. Without it nothing can be resumed.
        checkpoint_every : int, optional
            Steps between checkpoints.
        resume : bool, optional
            Continue the run in ``checkpoint_dir``, if there is one. The estimator has to have the
            weights that the run started from.
        seed : int, optional
            Of the order of pairs and the noise.
        progress : bool or None, optional
            Show a progress bar; None shows one on a terminal.
        devices, num_nodes : int, optional
            Devices on each host, and hosts: as for ``fit``. Each has a copy of the teacher.
        strategy : {"auto", "ddp"}, optional
            As for ``fit``.

        Returns
        -------
        self : `DiffusionEstimator`
            This estimator. ``description_["training"]["distillation"]`` says how and from what
            its weights were distilled.

        Raises
        ------
        NotFittedError
            Before ``fit`` or ``load``.
        ValueError
            If the weights are distilled ones, the pairs do not fit them, a number is out of range,
            the run in ``checkpoint_dir`` started from other weights, or the processes are not
            there and cannot be started.
        FileExistsError
            If ``checkpoint_dir`` holds a run and ``resume`` is False.
        KeyboardInterrupt
            On Ctrl-C or SIGTERM, after a checkpoint was written.
        """
        self._fitted()
        if self._distilled():
            raise ValueError(
                f"weights {self.description_['name']!r} are distilled already; expected those that "
                "they were distilled from"
            )
        self._check_pairs(pairs, self.preset_)
        loss = ConsistencyLoss(self._copy_denoiser(), self.preset_.sampling)
        given = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
        plan = {"batch_size": self.preset_.training.get("batch_size", 32), **DISTILLATION}
        plan |= {name: value for name, value in given.items() if value is not None}
        start = self._start()
        student = self._copy_denoiser()
        history = train_denoiser(
            student.to(memory_format=torch.channels_last),
            pairs,
            **plan,
            noise_levels=loss.draw,
            loss=loss,
            seed=seed,
            backend=self._backend(),
            start={"method": "distill", **start},
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
            resume=resume,
            progress=progress,
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy,
        )
        how = {**plan, **history, "seed": seed, "ratio": loss.ratio, "teacher": start}
        how["pairs"] = getattr(pairs, "describe", dict)()
        training = {**self.description_["training"], "distillation": how}
        name = f"{start['name']}-distilled"
        # Checksum, merits and recalibration are the teacher's own.
        kept = {key: self.description_[key] for key in ("version", "preset", *self._described)}
        description = {"name": name, **kept, "training": training, "merits": {}}
        preset = replace(self.preset_, sampling=loss.sampling())
        self._adopt(student, preset, description, n_processes=devices * num_nodes)
        return self

    def _distilled(self):
        return self.preset_.sampling.get("sampler") == "consistency"
