"""Training of a denoiser through pytorch-lightning (V24 eq. 22)."""

import contextlib
import functools
import logging
import math
import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger

from diffsky.diffusion._training_callbacks import Average, Checkpoints, StopBetweenSteps
from diffsky.diffusion._training_checks import check_integers, check_plan, find_checkpoint
from diffsky.diffusion._training_module import TrainingModule
from diffsky.diffusion._training_processes import check_processes, trainer_options
from diffsky.diffusion.ddpm import draw_ddpm_sigmas
from diffsky.diffusion.starting import check_images, check_start

__all__ = ["denoising_loss", "draw_sigmas", "train_denoiser"]

_KNOWN_WARNINGS = [
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated"),  # Lightning's own
    (UserWarning, "Checkpoint directory .* exists and is not empty"),  # it holds our log
    (UserWarning, "Be aware that when using `ckpt_path`"),  # another checkpoint_every
]


def draw_sigmas(n, *, mean, std, generator):
    """Draw noise levels log-normally (V24 section 4.2).

    Parameters
    ----------
    n : int
        How many.
    mean, std : float
        Mean and standard deviation of ln sigma (P_mean and P_std).
    generator : `torch.Generator`
        Stream on the CPU, from `diffsky.backend.sample_generator`.

    Returns
    -------
    sigmas : `torch.Tensor`
        Shape (n,).
    """
    return torch.exp(mean + std * torch.randn(n, generator=generator))


def denoising_loss(denoiser, target, condition, sigma, noise):
    """Weighted denoising error, V24 eq. 22.

    Parameters
    ----------
    denoiser : `diffsky.diffusion.Denoiser`
        The denoiser D, whose ``coefficients`` give c_out.
    target : `torch.Tensor`
        Shape (n, channels, ny, nx).
    condition : `torch.Tensor` or None
        Shape (n, condition channels, ny, nx).
    sigma : `torch.Tensor`
        Shape (n,).
    noise : `torch.Tensor`
        Standard normal, the shape of ``target``.

    Returns
    -------
    loss : `torch.Tensor`
        Mean over pixels of (D(x + n) - x)**2 / c_out**2.
    """
    return denoising_errors(denoiser, target, condition, sigma, noise).mean()


def denoising_errors(denoiser, target, condition, sigma, noise):
    """Weighted denoising error of each image, whose mean is `denoising_loss`.

    Parameters
    ----------
    denoiser : `diffsky.diffusion.Denoiser`
        The denoiser.
    target, condition, sigma, noise : `torch.Tensor`
        As for `denoising_loss`.

    Returns
    -------
    errors : `torch.Tensor`
        Shape (n,).
    """
    column = sigma[:, None, None, None]
    denoised = denoiser(target + column * noise, sigma, condition)
    c_out = denoiser.coefficients(column)[1]
    return (((denoised - target) / c_out) ** 2).mean(dim=(1, 2, 3))


def train_denoiser(
    denoiser,
    pairs,
    *,
    steps,
    batch_size=32,
    learning_rate=5e-4,
    sigma_mean=-1.2,
    sigma_std=1.2,
    noise_levels="log-normal",
    loss=denoising_loss,
    ema_decay=None,
    seed=0,
    backend,
    start=None,
    checkpoint_dir=None,
    checkpoint_every=250,
    resume=False,
    progress=None,
    devices=1,
    num_nodes=1,
    strategy="auto",
):
    """Train a denoiser in place.

    The learning rate warms up over 2 % of the steps, stays, and falls linearly to zero over the
    last 30 %. Every step draws its pairs, noise levels and noise from streams of its own number,
    so that a run that was interrupted and resumed ends where an uninterrupted one ends.

    Several processes, one for each device, share the pairs of a step and average their gradients.
    Pair, noise level and noise of a number are those of a single process, so that the weights end
    within rounding of it. Every process calls this function with the same arguments and ends with
    the same weights; the first one writes the checkpoints, in a folder that all hosts have to see.

    Parameters
    ----------
    denoiser : `diffsky.diffusion.Denoiser`
        Ends with the exponential moving average of its weights.
    pairs : object
        ``pairs.batch(indices, device)`` returns (target, condition) for a list of pair numbers;
        ``len(pairs)`` is their number, or 0 if they are made on the fly without end. Number k is
        pair ``k % len(pairs)`` in its epoch ``k // len(pairs)``. ``pairs.fingerprint``, a str, is
        noted where there is one, and a run on others is not continued.
    steps : int
        Optimizer steps in all.
    batch_size : int, optional
        Pairs a step, of all processes together: a multiple of their number.
    learning_rate : float, optional
        Largest learning rate of AdamW.
    sigma_mean, sigma_std : float, optional
        Mean and standard deviation of ln sigma.
    noise_levels : {"log-normal", "ddpm"} or callable, optional
        Draw noise levels by `draw_sigmas`, by `diffsky.diffusion.draw_ddpm_sigmas`, for which
        mean and deviation do not matter, or by ``noise_levels(n, generator=stream)``.
    loss : callable, optional
        What is minimised, with the arguments of `denoising_loss`, which is the default.
    ema_decay : float or None, optional
        Decay of the moving average per step. None averages over the last 5 % of the steps: a
        longer window would still hold weights from before the learning rate fell.
    seed : int, optional
        Decides the order of the pairs, the noise levels and the noise, 0 or larger. Default 0.
    backend : `diffsky.backend.Backend`
        Device and precision of the training.
    start : dict or None, optional
        The weights that a new run starts from, as for `diffsky.diffusion.starting.check_start`; a
        run of other ones is not continued. None is for random weights.
    checkpoint_dir : path-like or None, optional
        Folder for checkpoints (``last.ckpt``), the log (``log/version_*/metrics.csv``) and what
        the run started from and is trained on (``training-*.json``). None keeps none of them.
    checkpoint_every : int, optional
        Steps between checkpoints; one more is written on Ctrl-C, SIGTERM or an error of ``pairs``
        (in a single process, on any error).
    resume : bool, optional
        Continue from the checkpoint in ``checkpoint_dir`` if there is one; also that of a finished
        run, with more steps.
    progress : bool or None, optional
        Show a progress bar; None shows one on a terminal.
    devices : int, optional
        Devices on each host, of the kind of ``backend``; on a CPU, processes. Default 1.
    num_nodes : int, optional
        Hosts. Default 1. For more, torchrun or SLURM starts the processes.
    strategy : {"auto", "ddp"}, optional
        ``"ddp"`` is what ``"auto"`` takes for more than one process.

    Returns
    -------
    history : dict
        ``steps`` and the smoothed final ``loss``, the same in every process.

    Raises
    ------
    ValueError
        If a number is out of range, ``resume`` is asked for without ``checkpoint_dir``, the run
        in it started from other weights or is trained on other images, or the processes are not
        there and cannot be started.
    FileExistsError
        If ``checkpoint_dir`` holds a checkpoint and ``resume`` is False.
    RuntimeError
        If another process could not make its pairs, or does not see the checkpoint.
    KeyboardInterrupt
        On Ctrl-C or SIGTERM in any process, after a checkpoint was written.
    """
    check_integers(steps=steps, batch_size=batch_size, checkpoint_every=checkpoint_every)
    check_integers(0, seed=seed)
    check_plan(learning_rate, resume, checkpoint_dir)
    check_processes(devices, num_nodes, strategy, device=backend.device, batch_size=batch_size)
    levels = _choose_levels(noise_levels, sigma_mean, sigma_std)
    checkpoint = find_checkpoint(checkpoint_dir, resume)
    check_start(checkpoint_dir, start)
    check_images(checkpoint_dir, getattr(pairs, "fingerprint", None))
    module = TrainingModule(
        denoiser,
        pairs,
        plan={"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate},
        loss=loss,
        levels=levels,
        seed=seed,
    )
    stop = StopBetweenSteps()
    decay = math.exp(-1 / (0.05 * steps)) if ema_decay is None else ema_decay
    average = Average(decay=decay)
    show = _wants_progress(progress)
    where = trainer_options(devices, num_nodes, strategy, device=backend.device)
    with _quiet_lightning():
        trainer = _make_trainer(
            {"precision": backend.lightning_precision, **where},
            steps,
            checkpoint_dir,
            checkpoint_every,
            [average, stop],
            show,
        )
    denoiser.train()
    try:
        with stop, _quiet_lightning(), warnings.catch_warnings():
            for category, message in _KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message, category)
            # Our own checkpoint: tensors and plain containers, which weights_only admits.
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
        if checkpoint_dir is not None:
            trainer.save_checkpoint(Path(checkpoint_dir) / "last.ckpt")
        average.finish(module)
    except SystemExit as error:
        raise KeyboardInterrupt(
            f"training stopped at step {trainer.global_step} of {steps}; "
            "call fit again with resume=True to go on"
        ) from error
    finally:
        denoiser.eval()
    return {"steps": trainer.global_step, "loss": module.mean_loss}


@contextlib.contextmanager
def _quiet_lightning():
    """Keep Lightning's notes about hardware and its tips to itself; its warnings are shown."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [notes.level for notes in loggers]
    for notes in loggers:
        notes.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for notes, level in zip(loggers, levels, strict=True):
            notes.setLevel(level)


def _wants_progress(progress):
    return sys.stderr.isatty() if progress is None else bool(progress)


def _make_trainer(where, steps, checkpoint_dir, checkpoint_every, callbacks, show):
    keeps = checkpoint_dir is not None
    if keeps:
        callbacks = [*callbacks, Checkpoints(checkpoint_dir, checkpoint_every)]
    if show:
        callbacks = [*callbacks, TQDMProgressBar(refresh_rate=1)]
    return pl.Trainer(
        **where,
        max_steps=steps,
        max_epochs=-1,
        gradient_clip_val=1.0,
        callbacks=callbacks,
        enable_progress_bar=show,
        enable_model_summary=False,
        enable_checkpointing=keeps,
        # A resumed run adds a log, version_1, beside that of the first part.
        logger=CSVLogger(checkpoint_dir, name="log") if keeps else False,
        log_every_n_steps=50,
    )


def _choose_levels(name, mean, std):
    if callable(name):
        return name
    if name == "log-normal":
        return functools.partial(draw_sigmas, mean=mean, std=std)
    if name != "ddpm":
        raise ValueError(f"noise_levels is {name!r}; expected log-normal or ddpm")
    return draw_ddpm_sigmas
