"""What happens around the steps of a training: averages, checkpoints, interruptions."""

import logging
import signal
import threading
import time

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint

__all__ = ["Average", "Checkpoints", "StopBetweenSteps"]

logger = logging.getLogger(__name__)

_ECHO = 2.0  # s; a launcher passes on the signal that its processes have got already


class Average(EMAWeightAveraging):
    """Leaves the weights themselves in place at the end of a run.

    The last checkpoint is written with them, so that a finished run can be continued with more
    steps; only then the average takes their place.
    """

    def on_train_end(self, trainer, pl_module):
        """Leave the weights in place."""

    def finish(self, module):
        """Put the average into a module.

        Parameters
        ----------
        module : `diffsky.diffusion._training_module.TrainingModule`
            What was trained.
        """
        self._copy_average_to_current(module)


class Checkpoints(ModelCheckpoint):
    """Writes ``last.ckpt``, at regular steps and where a run ends early.

    Parameters
    ----------
    folder : path-like
        Where.
    every : int
        Steps between checkpoints.
    """

    def __init__(self, folder, every):
        super().__init__(
            dirpath=folder,
            filename="last",
            every_n_train_steps=every,
            save_on_exception=True,
            enable_version_counter=False,
        )

    def on_exception(self, trainer, pl_module, exception):
        """Write one, unless this process fails alone: the others would never come to it."""
        if trainer.world_size == 1 or pl_module.stops_together:
            super().on_exception(trainer, pl_module, exception)


class StopBetweenSteps(pl.Callback):
    """Ctrl-C and SIGTERM wait for the end of a step, where weights, optimizer and average agree.

    All processes of a run stop after the same step. A second signal does not wait.
    """

    def __enter__(self):
        self._asked, self._since, self._alone, self._previous = False, 0.0, True, None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number, frame):
        now = time.monotonic()
        if self._asked and (self._alone or now > self._since + _ECHO):
            raise KeyboardInterrupt
        if not self._asked:
            self._asked, self._since = True, now
            logger.warning("stopping after this step")

    def on_train_start(self, trainer, pl_module):
        """Take SIGTERM over: Lightning would not wait for the other processes."""
        self._alone = trainer.world_size == 1
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._ask)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Stop, if any process was asked to."""
        if pl_module.stop_together(self._asked):
            raise KeyboardInterrupt

    def __exit__(self, *error):
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
