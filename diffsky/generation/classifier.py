"""MorphologyClassifier: the class of a radio galaxy from its image (V24 section 5.3)."""

from itertools import islice
from numbers import Real

import numpy as np
import torch

from diffsky.backend import select_backend
from diffsky.diffusion._training_checks import check_integers, check_plan, find_checkpoint
from diffsky.diffusion.weights import load_into, load_weights, save_weights
from diffsky.exceptions import NotFittedError, WeightsError
from diffsky.generation._classifier_training import ClassifierTraining
from diffsky.generation.augmentation import N_VIEWS, all_views
from diffsky.generation.conditioning import ClassCondition, plain_labels
from diffsky.generation.resnet import ResNetClassifier, compute_logits
from diffsky.generation.scaling import scale_images

__all__ = ["MorphologyClassifier", "accuracy", "confusion", "recall"]

_KIND = "morphology classifier"


class MorphologyClassifier:
    """The class of a radio galaxy from its image: ResNet-18, after V24 section 5.3.

    Parameters
    ----------
    device : str or None, optional
        ``"cuda"``, ``"mps"`` or ``"cpu"``; None takes the first that is there.
    precision : {"auto", "float32", "bfloat16"}, optional
        float32 is the reference; ``"auto"`` takes bfloat16 where the hardware computes in it.

    Attributes
    ----------
    classes_ : list of str
        Names of the classes, sorted, after ``fit`` or ``load``.
    network_ : `torch.nn.Module`
        The trained network.
    description_ : dict
        Name, version, recipe and training of the weights, with the learning curve.

    Examples
    --------
    >>> from diffsky.generation import MorphologyClassifier, read_first
    >>> train = read_first("galaxy_data_h5.zip", "train").with_sources()  # doctest: +SKIP
    >>> classifier = MorphologyClassifier().fit(train.images, train.labels)  # doctest: +SKIP
    >>> classifier.predict(images)  # doctest: +SKIP
    """

    def __init__(self, *, device=None, precision="auto"):
        self.device = device
        self.precision = precision

    def fit(
        self,
        images,
        labels,
        *,
        validation=None,
        epochs=200,
        batch_size=128,
        learning_rate=1e-3,
        factor=0.135,
        patience=50,
        min_learning_rate=1e-5,
        dropout=0.5,
        checkpoint_dir=None,
        checkpoint_every=5,
        resume=False,
        seed=0,
        progress=None,
    ):
        """Train on images and their classes, with the numbers of V24 table 6.

        Images are changed at random (`augment_images`), and the loss of an image is weighted with
        the reciprocal share of its class.

        Parameters
        ----------
        images : `numpy.ndarray`
            Shape (n, ny, ny), finite; `scale_images` scales them.
        labels : sequence of str
            Class of each image, two or more in all.
        validation : tuple or None, optional
            Images and labels that are not trained on. The weights are then those of the epoch with
            the least loss on them, and this loss decides on the learning rate; without them the
            weights are the last ones, and the loss of the training decides.
        epochs, batch_size : int, optional
            An epoch has as many batches as it takes to show each image once.
        learning_rate, factor, patience, min_learning_rate : float, optional
            The rate of Adam is multiplied by ``factor`` after more than ``patience`` epochs (an
            int) without a smaller loss, down to ``min_learning_rate``.
        dropout : float, optional
            Share of the values that are dropped in the head, 0 or more and less than 1.
        checkpoint_dir : path-like or None, optional
            Folder for checkpoints (``last.ckpt``). Without it nothing can be resumed.
        checkpoint_every : int, optional
            Epochs between checkpoints; one more is written on Ctrl-C and SIGTERM.
        resume : bool, optional
            Continue the run in ``checkpoint_dir``, if there is one; also a finished one, with more
            epochs.
        seed : int, optional
            Of the first weights, the order of the images, their changes and the dropout.
        progress : bool or None, optional
            Show a progress bar; None shows one on a terminal.

        Returns
        -------
        self : `MorphologyClassifier`
            This classifier, with ``classes_``, ``network_`` and ``description_``.

        Raises
        ------
        ValueError
            If the images cannot be scaled or are not as many as the labels, there are fewer than
            two classes, the validation has others, a number is out of range, or the run in
            ``checkpoint_dir`` is another one or has more epochs.
        FileExistsError
            If ``checkpoint_dir`` holds a run and ``resume`` is False.
        KeyboardInterrupt
            On Ctrl-C or SIGTERM, after a checkpoint was written.
        """
        plan = {"batch_size": batch_size, "learning_rate": learning_rate, "factor": factor}
        plan |= {"patience": patience, "min_learning_rate": min_learning_rate, "dropout": dropout}
        plan["seed"] = seed
        check_integers(epochs=epochs, checkpoint_every=checkpoint_every)
        check_plan(learning_rate, resume, checkpoint_dir)
        _check_numbers(plan)
        checkpoint = find_checkpoint(checkpoint_dir, resume)
        labels = plain_labels(labels)
        condition = ClassCondition(sorted(set(labels)))
        data = [_prepare(images, labels, condition)]
        if validation is not None:
            data.append(_prepare(*_pair(validation), condition, size=data[0][0].shape[-1]))
        backend = select_backend(self.device, self.precision)
        cuda = [backend.device] if backend.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            run = ClassifierTraining(data, condition.classes, plan, backend)
            if checkpoint is not None:
                run.resume(checkpoint)
            run.train(epochs, checkpoint_dir, checkpoint_every, progress)
        about = {"name": "unnamed", "version": 1, "preset": "resnet18"}
        recipe = {"kind": _KIND, "classes": list(condition.classes), "size": data[0][0].shape[-1]}
        self._adopt(run.finish(), {**about, "recipe": recipe, "training": run.describe()})
        return self

    def predict_proba(self, images, *, n_views=N_VIEWS):
        """Probability of each class, the mean over several views of an image.

        These are the four turns of it and of its mirror image: the class of a galaxy does not
        depend on how it lies. V24 classify one view.

        Parameters
        ----------
        images : `numpy.ndarray`
            Shape (n, ny, ny), finite, of the size of the training.
        n_views : int, optional
            How many of them, 1 to 8; the first is the image as it is. Default 8.

        Returns
        -------
        probability : `numpy.ndarray`
            Shape (n, number of classes), in the order of ``classes_``.

        Raises
        ------
        NotFittedError
            Before ``fit`` or ``load``.
        ValueError
            If the images cannot be scaled, or have another size, or ``n_views`` is out of range.
        """
        check_integers(1, n_views=n_views)
        if n_views > N_VIEWS:
            raise ValueError(f"n_views is {n_views}; expected 1 to {N_VIEWS}")
        scaled = _scale(images, self._fitted().description_["recipe"]["size"])
        backend = select_backend(self.device, self.precision)
        self.network_ = backend.prepare(self.network_)
        views = islice(all_views(scaled), n_views)
        logits = [compute_logits(self.network_, view, backend) for view in views]
        return torch.stack([one.softmax(dim=1) for one in logits]).mean(dim=0).numpy()

    def predict(self, images, *, n_views=N_VIEWS):
        """Most probable class of each image.

        Parameters
        ----------
        images, n_views : optional
            As for `predict_proba`.

        Returns
        -------
        labels : list of str
            One for each image.

        Raises
        ------
        NotFittedError, ValueError
            As for `predict_proba`.
        """
        probability = self.predict_proba(images, n_views=n_views)
        return [self.classes_[k] for k in probability.argmax(axis=1)]

    def save(self, folder, *, name=None, overwrite=False):
        """Write the weights and what they are.

        Parameters
        ----------
        folder : path-like
            Gets ``description.json`` and the tensors it names.
        name : str or None, optional
            Name in the description; None keeps the present one.
        overwrite : bool, optional
            Replace weights that are there.

        Raises
        ------
        NotFittedError
            Before ``fit`` or ``load``.
        FileExistsError
            If the folder holds weights and ``overwrite`` is False.
        """
        self._fitted()
        if name is not None:
            self.description_["name"] = name
        save_weights(folder, self.network_, self.description_, overwrite=overwrite)

    @classmethod
    def load(cls, folder, **options):
        """Read weights from a folder.

        Parameters
        ----------
        folder : path-like
            What `save` wrote.
        **options
            Keywords of the class.

        Returns
        -------
        classifier : `MorphologyClassifier`
            Ready to predict.

        Raises
        ------
        FileNotFoundError
            If the folder has no weights.
        WeightsError
            If they are damaged, altered, or no classifier's.
        """
        tensors, description = load_weights(folder)
        classes = _check_recipe(description["recipe"], folder)
        with torch.random.fork_rng(devices=[]):
            network = ResNetClassifier(len(classes))
        load_into(network, tensors, str(folder))
        classifier = cls(**options)
        classifier._adopt(network, description)
        return classifier

    def _adopt(self, network, description):
        self.network_, self.description_ = network.eval(), description
        self.classes_ = list(description["recipe"]["classes"])

    def _fitted(self):
        if not hasattr(self, "network_"):
            raise NotFittedError(
                "this MorphologyClassifier has no weights; call fit(), or make it with "
                "MorphologyClassifier.load(folder)"
            )
        return self


def confusion(true, predicted, classes):
    """Count what images of each class are taken for (V24 fig. 19).

    Parameters
    ----------
    true, predicted : sequence of str
        Classes of the same images.
    classes : sequence of str
        Names of the classes, in the order of rows and columns.

    Returns
    -------
    counts : `numpy.ndarray` of int
        Shape (k, k): images of the class of a row that are taken for that of a column.

    Raises
    ------
    ValueError
        If the numbers of labels differ, or a label is none of the classes.
    """
    condition = ClassCondition(classes)
    rows, columns = (condition.encode(labels) for labels in (true, predicted))
    if len(rows) != len(columns):
        raise ValueError(f"{len(columns)} predicted labels for {len(rows)} true ones")
    return (rows.T @ columns).round().numpy().astype(int)


def accuracy(counts):
    """Share of the images that are taken for what they are.

    Parameters
    ----------
    counts : `numpy.ndarray`
        As from `confusion`.

    Returns
    -------
    accuracy : float
        NaN where there are no images.
    """
    total = np.sum(counts)
    return float(np.trace(counts) / total) if total else float("nan")


def recall(counts):
    """Share of the images of each class that are taken for what they are.

    Parameters
    ----------
    counts : `numpy.ndarray`
        As from `confusion`.

    Returns
    -------
    recall : `numpy.ndarray`
        Shape (k,); NaN for a class without images.
    """
    totals = np.sum(counts, axis=1)
    return np.where(totals, np.diagonal(counts) / np.maximum(totals, 1), np.nan)


def _scale(images, size=None):
    """Scaled images of a certain size, as the network wants them."""
    scaled = torch.from_numpy(scale_images(images)[0])[:, None]
    size = scaled.shape[-1] if size is None else size
    if scaled.shape[2:] != (size, size):
        raise ValueError(
            f"images have the shape {tuple(scaled.shape[2:])}; expected {size} x {size} pixels"
        )
    return scaled


def _prepare(images, labels, condition, size=None):
    """Scaled images and numbers of their classes."""
    scaled, labels = _scale(images, size), plain_labels(labels)
    if len(labels) != len(scaled):
        raise ValueError(f"{len(labels)} labels for {len(scaled)} images; expected as many")
    if not labels:
        raise ValueError("there are no images; expected one or more")
    return scaled, condition.encode(labels).argmax(dim=1)


def _pair(validation):
    try:
        images, labels = validation
    except (TypeError, ValueError) as error:
        raise ValueError("validation is no pair; expected (images, labels)") from error
    return images, labels


def _check_numbers(plan):
    check_integers(2, batch_size=plan["batch_size"])  # batch normalisation takes two
    check_integers(0, patience=plan["patience"], seed=plan["seed"])
    for name, low in {"factor": 0, "min_learning_rate": 0, "dropout": 0}.items():
        if not (isinstance(plan[name], Real) and low <= plan[name] < 1):
            raise ValueError(f"{name} is {plan[name]!r}; expected 0 or more and less than 1")


def _check_recipe(recipe, folder):
    """Classes of a recipe."""
    try:
        kind, size = recipe["kind"], recipe["size"]
        classes = ClassCondition(recipe["classes"]).classes
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder} has a recipe that is none: {error!r}") from error
    if kind != _KIND or not isinstance(size, int) or not isinstance(recipe["classes"], list):
        raise WeightsError(f"{folder} has the recipe {recipe}; expected that of a {_KIND}")
    return classes
