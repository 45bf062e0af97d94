"""Training of the morphological classifier (V24 section 5.3)."""

import contextlib
import hashlib
import io
import json
import logging
import operator
import signal
import threading
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from diffsky.backend import sample_generator
from diffsky.diffusion._training_module import StepStream
from diffsky.diffusion.weights import replace_file
from diffsky.generation.augmentation import augment_images
from diffsky.generation.resnet import ResNetClassifier, compute_logits

__all__ = ["ClassifierTraining"]

logger = logging.getLogger(__name__)

_AUGMENTATION, _DROPOUT = 0, 1  # random streams; StepStream has 2
_PLAIN = ("origin", "step", "loss", "curve", "best")  # what a checkpoint holds
_STATES = ("network", "optimizer", "scheduler")


class ClassifierTraining:
    """A classifier in training, and what a checkpoint holds of it.

    Parameters
    ----------
    data : sequence of tuple
        Scaled images (`torch.Tensor` of shape (n, 1, ny, ny)) and numbers of their classes (shape
        (n,)): those to train on, and, where there are any, those to validate on.
    classes : sequence of str
        Names of the classes.
    plan : dict
        ``batch_size``, ``learning_rate``, ``factor``, ``patience``, ``min_learning_rate``,
        ``dropout`` and ``seed``, as `diffsky.generation.MorphologyClassifier.fit` has them.
    backend : `diffsky.backend.Backend`
        Device and precision.
    """

    def __init__(self, data, classes, plan, backend):
        (self.images, self.labels), *self.held = data
        self.plan, self.backend = plan, backend
        self.origin = _fingerprint(data, classes, plan)
        torch.manual_seed(plan["seed"])
        network = ResNetClassifier(len(classes), plan["dropout"])
        self.network = network.to(backend.device, memory_format=torch.channels_last)
        # The reciprocal share of each class.
        self.weights = len(self.labels) / torch.bincount(self.labels, minlength=len(classes))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=plan["learning_rate"])
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer,
            factor=plan["factor"],
            patience=plan["patience"],
            min_lr=plan["min_learning_rate"],
        )
        self.step, self.loss, self.curve, self.best = 0, 0.0, [], None

    def resume(self, path):
        """Take the place where a checkpoint left off.

        Parameters
        ----------
        path : path-like
            The checkpoint.

        Raises
        ------
        ValueError
            If it is of another run.
        """
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state.get("origin") != self.origin:
            raise ValueError(
                f"{path} is of a run on other images, labels or settings; expected those that it "
                "started with, or another checkpoint_dir"
            )
        for name in _STATES:
            getattr(self, name).load_state_dict(state[name])
        for name in _PLAIN:
            setattr(self, name, state[name])

    def train(self, epochs, folder, checkpoint_every, progress):
        """Go on to the end of an epoch.

        Parameters
        ----------
        epochs : int
            Epochs in all.
        folder : path-like or None
            Where checkpoints go.
        checkpoint_every : int
            Epochs between them.
        progress : bool or None
            Show a progress bar; None shows one on a terminal.

        Raises
        ------
        ValueError
            If the run that was resumed is longer.
        KeyboardInterrupt
            On Ctrl-C or SIGTERM, after a checkpoint was written.
        """
        n, size = len(self.labels), self.plan["batch_size"]
        per_epoch = -(-n // size)
        last = epochs * per_epoch
        if self.step > last:
            raise ValueError(
                f"epochs is {epochs}; expected {-(-self.step // per_epoch)} or more, which the run "
                "that is resumed has"
            )
        hidden = None if progress is None else not progress
        bar = tqdm(total=last, initial=self.step, desc="training", unit="step", disable=hidden)
        with _waiting_signals() as asked, bar:
            for _, numbers in StepStream(n, size, self.step, last, self.plan["seed"]):
                self._advance(numbers)
                if self.step % per_epoch == 0:
                    self._end_epoch(per_epoch)
                    bar.set_postfix(self.curve[-1])
                bar.update()
                if asked or self.step % (per_epoch * checkpoint_every) == 0 or self.step == last:
                    self._save(folder)
                if asked:
                    raise KeyboardInterrupt(
                        f"training stopped at step {self.step} of {last}; "
                        "call fit again with resume=True to go on"
                    )

    def finish(self):
        """Put the weights of the best epoch in place, where there was a validation.

        Returns
        -------
        network : `ResNetClassifier`
            The trained network.
        """
        if self.best is not None:
            self.network.load_state_dict(self.best)
        return self.network

    def describe(self):
        """Describe for the weights.

        Returns
        -------
        description : dict
            Settings, images of each class, and the learning curve.
        """
        numbers = torch.bincount(self.labels).tolist()
        return {**self.plan, "epochs": len(self.curve), "per_class": numbers, "curve": self.curve}

    def _advance(self, numbers):
        """One batch; order, changes and dropout depend on its numbers and the seed alone."""
        seed, device = self.plan["seed"], self.backend.device
        members = numbers % len(self.labels)
        streams = [sample_generator(seed, _AUGMENTATION, k) for k in numbers.tolist()]
        images = augment_images(self.images[members].to(device), streams)
        labels = self.labels[members].to(device)
        torch.manual_seed(sample_generator(seed, _DROPOUT, self.step).initial_seed())
        self.network.train()
        with self.backend.autocast():
            logits = self.network(images)
        loss = cross_entropy(logits.float(), labels, self.weights.to(device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step, self.loss = self.step + 1, self.loss + loss.item()

    def _end_epoch(self, per_epoch):
        """Validate, keep the best weights, and decide on the learning rate."""
        row = {"learning_rate": self.scheduler.get_last_lr()[0], "loss": self.loss / per_epoch}
        self.loss, watched = 0.0, row["loss"]
        for images, labels in self.held:
            logits = compute_logits(self.network.eval(), images, self.backend)
            watched = cross_entropy(logits, labels, self.weights).item()
            row["validation_loss"] = watched
            row["validation_accuracy"] = (logits.argmax(dim=1) == labels).double().mean().item()
            if self.best is None or watched < min(old["validation_loss"] for old in self.curve):
                state = self.network.state_dict()
                self.best = {name: value.cpu().clone() for name, value in state.items()}
        self.curve.append(row)
        self.scheduler.step(watched)

    def _save(self, folder):
        if folder is None:
            return
        state = {name: getattr(self, name) for name in _PLAIN}
        state |= {name: getattr(self, name).state_dict() for name in _STATES}
        content = io.BytesIO()
        torch.save(state, content)
        Path(folder).mkdir(parents=True, exist_ok=True)
        replace_file(Path(folder) / "last.ckpt", content.getbuffer())


@contextlib.contextmanager
def _waiting_signals():
    """Ctrl-C and SIGTERM fill the list that this gives; a second one does not wait."""
    asked, previous = [], {}

    def ask(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        logger.warning("stopping after this step")

    if threading.current_thread() is threading.main_thread():
        previous = {one: signal.signal(one, ask) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)


def _fingerprint(data, classes, plan):
    """What tells a run from others; the number of epochs and the device do not."""
    about = [list(classes), plan, [tuple(images.shape) for images, _ in data]]
    digest = hashlib.sha256(json.dumps(about, default=operator.methodcaller("item")).encode())
    for images, labels in data:
        digest.update(images.numpy().tobytes())
        digest.update(labels.numpy().tobytes())
    return digest.hexdigest()
