"""Training of a denoiser through pytorch-lightning (V24 eq. 22)."""

import contextlib
import functools
import logging
import math
import signal
import sys
import threading
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, IterableDataset

from diffsky.backend import sample_generator
from diffsky.diffusion.ddpm import draw_ddpm_sigmas

__all__ = ["denoising_loss", "draw_sigmas", "train_denoiser"]

logger = logging.getLogger(__name__)

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
    column = sigma[:, None, None, None]
    denoised = denoiser(target + column * noise, sigma, condition)
    c_out = denoiser.coefficients(column)[1]
    return (((denoised - target) / c_out) ** 2).mean()


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
    ema_decay=None,
    seed=0,
    backend,
    checkpoint_dir=None,
    checkpoint_every=250,
    resume=False,
    progress=None,
):
    """Train a denoiser in place.

    The learning rate warms up over 2 % of the steps, stays, and falls linearly to zero over the
    last 30 %. Every step draws its pairs, noise levels and noise from streams of its own number,
    so that a run that was interrupted and resumed ends where an uninterrupted one ends.

    Parameters
    ----------
    denoiser : `diffsky.diffusion.Denoiser`
        Ends with the exponential moving average of its weights.
    pairs : object
        ``pairs.batch(indices, device)`` returns (target, condition) for a list of pair numbers;
        ``len(pairs)`` is their number, or 0 if they are made on the fly without end. Number k is
        pair ``k % len(pairs)`` in its epoch ``k // len(pairs)``.
    steps : int
        Optimizer steps in all.
    batch_size : int, optional
        Pairs a step.
    learning_rate : float, optional
        Largest learning rate of AdamW.
    sigma_mean, sigma_std : float, optional
        Mean and standard deviation of ln sigma.
    noise_levels : {"log-normal", "ddpm"}, optional
        Draw noise levels by `draw_sigmas`, or by `diffsky.diffusion.draw_ddpm_sigmas`, for which
        mean and deviation do not matter.
    ema_decay : float or None, optional
        Decay of the moving average per step. None averages over the last 5 % of the steps: a
        longer window would still hold weights from before the learning rate fell.
    seed : int, optional
        Decides the order of the pairs, the noise levels and the noise, 0 or larger. Default 0.
    backend : `diffsky.backend.Backend`
        Device and precision of the training.
    checkpoint_dir : path-like or None, optional
        Folder for checkpoints (``last.ckpt``) and the log (``log/version_*/metrics.csv``). None
        keeps neither.
    checkpoint_every : int, optional
        Steps between checkpoints; one more is written on Ctrl-C or an error.
    resume : bool, optional
        Continue from the checkpoint in ``checkpoint_dir`` if there is one; also that of a finished
        run, with more steps.
    progress : bool or None, optional
        Show a progress bar; None shows one on a terminal.

    Returns
    -------
    history : dict
        ``steps`` and the smoothed final ``loss``.

    Raises
    ------
    ValueError
        If a number is out of range, or ``resume`` is asked for without ``checkpoint_dir``.
    FileExistsError
        If ``checkpoint_dir`` holds a checkpoint and ``resume`` is False.
    KeyboardInterrupt
        On Ctrl-C, after a checkpoint was written.
    """
    _check_plan(steps, batch_size, learning_rate, resume, checkpoint_dir)
    levels = _choose_levels(noise_levels, sigma_mean, sigma_std)
    checkpoint = _find_checkpoint(checkpoint_dir, resume)
    module = _TrainingModule(
        denoiser,
        pairs,
        plan={"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate},
        levels=levels,
        seed=seed,
    )
    stop = _StopBetweenSteps()
    decay = math.exp(-1 / (0.05 * steps)) if ema_decay is None else ema_decay
    average = _Average(decay=decay)
    show = _wants_progress(progress)
    with _quiet_lightning():
        trainer = _make_trainer(
            backend, steps, checkpoint_dir, checkpoint_every, [average, stop], show
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
    notes = logging.getLogger("pytorch_lightning")
    level = notes.level
    notes.setLevel(logging.WARNING)
    try:
        yield
    finally:
        notes.setLevel(level)


def _wants_progress(progress):
    return sys.stderr.isatty() if progress is None else bool(progress)


def _make_trainer(backend, steps, checkpoint_dir, checkpoint_every, callbacks, show):
    keeps = checkpoint_dir is not None
    if keeps:
        checkpoints = ModelCheckpoint(
            dirpath=checkpoint_dir,
            filename="last",
            every_n_train_steps=checkpoint_every,
            save_on_exception=True,
            enable_version_counter=False,
        )
        callbacks = [*callbacks, checkpoints]
    if show:
        callbacks = [*callbacks, TQDMProgressBar(refresh_rate=1)]
    return pl.Trainer(
        accelerator="gpu" if backend.device.type == "cuda" else backend.device.type,
        devices=1,
        precision=backend.lightning_precision,
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
    if name == "log-normal":
        return functools.partial(draw_sigmas, mean=mean, std=std)
    if name != "ddpm":
        raise ValueError(f"noise_levels is {name!r}; expected log-normal or ddpm")
    return draw_ddpm_sigmas


def _check_plan(steps, batch_size, learning_rate, resume, checkpoint_dir):
    for name, value in {"steps": steps, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; expected 1 or more")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate is {learning_rate}; expected a number above 0")
    if resume and checkpoint_dir is None:
        raise ValueError("resume=True needs checkpoint_dir=, the folder of the run to continue")


def _find_checkpoint(checkpoint_dir, resume):
    if checkpoint_dir is None:
        return None
    path = Path(checkpoint_dir) / "last.ckpt"
    if path.exists() and not resume:
        raise FileExistsError(
            f"{path} exists; pass resume=True to continue that run, or another checkpoint_dir"
        )
    return str(path) if path.exists() else None


class _Average(EMAWeightAveraging):
    """Leaves the weights themselves in place at the end of a run.

    The last checkpoint is written with them, so that a finished run can be continued with more
    steps; only then the average takes their place.
    """

    def on_train_end(self, trainer, pl_module):
        pass

    def finish(self, module):
        self._copy_average_to_current(module)


class _StopBetweenSteps(pl.Callback):
    """Ctrl-C waits for the end of a step, where weights, optimizer and average agree.

    A second Ctrl-C does not wait.
    """

    def __enter__(self):
        self._asked, self._previous = False, None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number, frame):
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        logger.warning("stopping after this step")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self._asked:
            raise KeyboardInterrupt

    def __exit__(self, *error):
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)


class _StepStream(IterableDataset):
    """The pair numbers of every step, from a given step on."""

    def __init__(self, n_pairs, batch_size, first, last, seed):
        self.n_pairs, self.batch_size, self.seed = n_pairs, batch_size, seed
        self.steps = range(first, last)

    def __iter__(self):
        for step in self.steps:
            numbers = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
            yield step, self._shuffle(numbers) if self.n_pairs else numbers

    def _shuffle(self, numbers):
        """Every pair once an epoch, in a new order; epoch e has the numbers from e * n on."""
        epochs = (numbers // self.n_pairs).tolist()
        orders = {
            epoch: torch.randperm(self.n_pairs, generator=sample_generator(self.seed, 2, epoch))
            for epoch in set(epochs)
        }
        places = (numbers % self.n_pairs).tolist()
        numbers = [e * self.n_pairs + orders[e][p] for e, p in zip(epochs, places, strict=True)]
        return torch.stack(numbers)


class _TrainingModule(pl.LightningModule):
    def __init__(self, denoiser, pairs, *, plan, levels, seed):
        super().__init__()
        self.denoiser = denoiser
        self._pairs, self._plan, self._levels, self._seed = pairs, plan, levels, seed
        self.mean_loss = math.nan

    def train_dataloader(self):
        """Start at the step that the trainer stands at: 0, or where a checkpoint left off."""
        stream = _StepStream(
            len(self._pairs),
            self._plan["batch_size"],
            self.trainer.global_step,
            self._plan["steps"],
            self._seed,
        )
        return DataLoader(stream, batch_size=None)

    def training_step(self, batch, batch_idx):
        """One batch: pairs, noise levels and noise from the streams of this step."""
        step, numbers = batch
        target, condition = self._pairs.batch(numbers.tolist(), self.device)
        stream = sample_generator(self._seed, 1, step)
        sigma = self._levels(len(target), generator=stream).to(self.device)
        noise = torch.randn(target.shape, generator=stream).to(self.device)
        loss = denoising_loss(self.denoiser, target, condition, sigma, noise)
        value = loss.item()
        smoothed = value if math.isnan(self.mean_loss) else 0.98 * self.mean_loss + 0.02 * value
        self.mean_loss = smoothed
        self.log("loss", smoothed, prog_bar=True)
        return loss

    def on_save_checkpoint(self, checkpoint):
        """Keep the smoothed loss, for the history of a resumed run."""
        checkpoint["mean_loss"] = self.mean_loss

    def on_load_checkpoint(self, checkpoint):
        """Go on smoothing where the checkpoint left off."""
        self.mean_loss = checkpoint["mean_loss"]

    def configure_optimizers(self):
        """AdamW with warm-up, plateau and linear cool-down."""
        optimizer = torch.optim.AdamW(
            self.denoiser.parameters(), lr=self._plan["learning_rate"], weight_decay=0.01
        )
        steps = self._plan["steps"]

        def factor(step):
            return min(1.0, (step + 1) / max(1, 0.02 * steps), (steps - step) / (0.3 * steps))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
