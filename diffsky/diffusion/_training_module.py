"""The steps of a training, as pytorch-lightning wants them, in one process or several."""

import math

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset

from diffsky.backend import sample_generator

__all__ = ["StepStream", "TrainingModule"]


class StepStream(IterableDataset):
    """The pair numbers of every step, from a given step on.

    Parameters
    ----------
    n_pairs : int
        Number of pairs, 0 for endless ones.
    batch_size : int
        Pairs a step, of all processes together.
    first, last : int
        Steps, the last one excluded.
    seed : int
        Decides the order.
    """

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


class TrainingModule(pl.LightningModule):
    """A denoiser, its pairs, its loss and its optimizer.

    Each of several processes takes its share of the pairs of a step, with the noise that these
    pairs have in a single process.

    Parameters
    ----------
    denoiser : `diffsky.diffusion.Denoiser`
        What is trained.
    pairs : object
        As `diffsky.diffusion.train_denoiser` takes them.
    plan : dict
        ``steps``, ``batch_size`` and ``learning_rate``.
    loss : callable
        As `diffsky.diffusion.denoising_loss`.
    levels : callable
        ``levels(n, generator=stream)`` draws noise levels.
    seed : int
        Of the order of the pairs, the noise levels and the noise.
    """

    def __init__(self, denoiser, pairs, *, plan, loss, levels, seed):
        super().__init__()
        self.denoiser = denoiser
        self._pairs, self._plan, self._seed = pairs, plan, seed
        self._loss, self._levels = loss, levels
        self._first_step = 0
        self.mean_loss = math.nan
        self.stops_together = False

    def stop_together(self, here):
        """Whether any process stops; then all do, at the same place.

        Parameters
        ----------
        here : bool
            Whether this one does.

        Returns
        -------
        stops : bool
            The same in all processes.
        """
        self.stops_together = self.trainer.strategy.reduce_boolean_decision(here, all=False)
        return self.stops_together

    def on_fit_start(self):
        """Refuse a checkpoint that not all processes see."""
        first = self.trainer.strategy.broadcast(self._first_step)
        if self.stop_together(first != self._first_step):
            raise RuntimeError(
                f"this process starts at step {self._first_step}, the first one at step {first}; "
                "expected a checkpoint_dir that all hosts see"
            )

    def train_dataloader(self):
        """Start at the step that the trainer stands at: 0, or where a checkpoint left off."""
        stream = StepStream(
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
        n = len(numbers)
        size = n // self.trainer.world_size
        share = slice(size * self.trainer.global_rank, size * (self.trainer.global_rank + 1))
        target, condition = self._make_pairs(numbers[share].tolist())
        stream = sample_generator(self._seed, 1, step)
        sigma = self._levels(n, generator=stream)[share].to(self.device)
        noise = torch.randn(n, *target.shape[1:], generator=stream)[share].to(self.device)
        loss = self._loss(self.denoiser, target, condition, sigma, noise)
        self._follow(loss.detach().clone())
        return loss

    def _make_pairs(self, numbers):
        """No process waits for one whose pairs fail: all stop here, after a checkpoint."""
        made = fault = None
        try:
            made = self._pairs.batch(numbers, self.device)
        except BaseException as error:
            fault = error
        if self.stop_together(fault is not None):
            raise fault or RuntimeError("another process could not make its pairs: see its error")
        return made

    def _follow(self, loss):
        value = self.trainer.strategy.reduce(loss, reduce_op="mean").item()
        smoothed = value if math.isnan(self.mean_loss) else 0.98 * self.mean_loss + 0.02 * value
        self.mean_loss = smoothed
        self.log("loss", smoothed, prog_bar=True)

    def on_save_checkpoint(self, checkpoint):
        """Keep the smoothed loss, for the history of a resumed run."""
        checkpoint["mean_loss"] = self.mean_loss

    def on_load_checkpoint(self, checkpoint):
        """Go on smoothing where the checkpoint left off."""
        self.mean_loss = checkpoint["mean_loss"]
        self._first_step = checkpoint["global_step"]

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
