"""Images to train a generator on, with what each of them is (V24 sections 3 and 4.2)."""

import hashlib
import json

import numpy as np
import torch

from diffsky._units import plain_values
from diffsky.backend import sample_generator
from diffsky.diffusion.networks import build_network
from diffsky.generation.conditioning import ClassCondition, PeakFluxCondition, plain_labels
from diffsky.generation.scaling import scale_images

__all__ = ["TrainingImages"]

CONTEXT_DROPOUT = 0.1
_ORDER, _CHANGE = 0, 1  # random streams


class TrainingImages:
    """Scaled images with their class or peak flux, as `diffsky.diffusion.train_denoiser` wants.

    Every pass through the images turns and flips them anew, and drops one context in ten, which is
    what guidance needs. Classes are balanced: a pass has as many images of each as the least
    populated one, drawn anew for every pass.

    Parameters
    ----------
    images : `numpy.ndarray`, `~astropy.units.Quantity` or `~astropy.nddata.CCDData`
        Shape (n, ny, ny), finite; in Jy/beam where ``peak_flux`` is asked for.
    labels : sequence of str or None, optional
        Class of each image.
    peak_flux : bool, optional
        Whether the condition is the peak flux density, which is that of the images.
    condition : `ClassCondition`, `PeakFluxCondition` or None, optional
        That of weights which are trained further, ``generator.condition_``; None takes the classes
        or peaks of these images.
    scale : dict or None, optional
        That of the preset of the weights, ``generator.preset_.scale``; None is V24's.
    context_dropout : float, optional
        Share of the images whose context is dropped, 0 to 1. Default 0.1.
    augment : bool, optional
        Flips and turns by right angles. Default True.
    seed : int, optional
        Of the order, the turns and the dropped contexts.

    Raises
    ------
    ValueError
        If there are no images, neither labels nor ``peak_flux`` or both, their number is not that
        of the images, the images are not square, or a number is out of range.
    """

    def __init__(
        self,
        images,
        *,
        labels=None,
        peak_flux=False,
        condition=None,
        scale=None,
        context_dropout=CONTEXT_DROPOUT,
        augment=True,
        seed=0,
    ):
        import astropy.units as u

        images = plain_values(images, name="images")
        if not len(images):
            raise ValueError("there are no images to train on; expected one or more")
        self.scale = dict(scale or {})
        scaled, peaks = scale_images(images, **self.scale)
        if scaled.shape[1] != scaled.shape[2]:
            raise ValueError(f"images have the shape {scaled.shape}; expected square ones")
        if (labels is None) == (not peak_flux):
            raise ValueError("expected either labels or peak_flux=True")
        kind = "peak_flux" if peak_flux else "class"
        if condition is not None and condition.kind != kind:
            raise ValueError(f"the condition is of the kind {condition.kind!r}; expected {kind!r}")
        if not 0 <= context_dropout <= 1:
            raise ValueError(f"context_dropout is {context_dropout!r}; expected 0 to 1")
        self.images = torch.from_numpy(scaled)
        if peak_flux:
            peaks = peaks * u.Jy / u.beam
            self.condition = condition or PeakFluxCondition.fit(peaks)
            self.context = self.condition.encode(peaks)
            self._groups = [np.arange(len(scaled))]
        else:
            labels = plain_labels(labels)
            if len(labels) != len(scaled):
                raise ValueError(f"{len(labels)} labels for {len(scaled)} images; expected as many")
            self.condition = condition or ClassCondition(sorted(set(labels)))
            self.context = self.condition.encode(labels)
            numbers = self.context.argmax(dim=1).numpy()
            members = [np.flatnonzero(numbers == k) for k in range(self.condition.length)]
            self._groups = [one for one in members if len(one)]
        self.context_dropout, self.augment, self.seed = context_dropout, augment, seed
        self._per_group = min(map(len, self._groups))
        self._orders = {}

    @property
    def fingerprint(self):
        """str : what tells these images, their conditions and their scale from others."""
        about = [self.condition.to_dict(), self.scale, self.context_dropout, self.augment]
        digest = hashlib.sha256(json.dumps([*about, self.seed], sort_keys=True).encode())
        for tensor in (self.images, self.context):
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    @property
    def rms(self):
        """float : root mean square of the scaled images."""
        return float(self.images.square().mean().sqrt())

    def __len__(self):
        """Images of a pass."""
        return self._per_group * len(self._groups)

    def batch(self, numbers, device="cpu"):
        """Images of a training step.

        Parameters
        ----------
        numbers : sequence of int
            Number k is image ``k % len(self)`` of pass ``k // len(self)``.
        device : str or `torch.device`, optional
            Where the tensors go.

        Returns
        -------
        target : `torch.Tensor`
            Shape (n, 1, ny, ny), scaled.
        context : `torch.Tensor`
            Shape (n, length of the context); NaN where it is dropped.
        """
        members = [self._member(number) for number in numbers]
        images, context = self.images[members], self.context[members].clone()
        changed = []
        for k, number in enumerate(numbers):
            stream = sample_generator(self.seed, _CHANGE, number)
            turn = torch.randint(8, (), generator=stream).item()
            if torch.rand((), generator=stream) < self.context_dropout:
                context[k] = torch.nan
            changed.append(_turn(images[k], turn) if self.augment else images[k])
        return torch.stack(changed)[:, None].to(device), context.to(device)

    def describe(self):
        """Describe for the weights.

        Returns
        -------
        description : dict
            Numbers of images, the condition and what is done to the images.
        """
        return {
            "n_images": len(self.images),
            "per_class": [len(group) for group in self._groups],
            "used_per_pass": len(self),
            "context_dropout": self.context_dropout,
            "augment": self.augment,
            "seed": self.seed,
        }

    def check_size(self, network):
        """Refuse images of a size that a network cannot take.

        Parameters
        ----------
        network : dict
            Configuration for `diffsky.diffusion.build_network`.

        Raises
        ------
        ValueError
            If a side is no multiple of its stride.
        """
        with torch.device("meta"):
            stride = build_network(network).stride
        size = self.images.shape[-1]
        if size % stride:
            raise ValueError(f"images have {size} pixels a side; expected a multiple of {stride}")

    def check_for(self, condition, scale):
        """Refuse images that weights of another condition or scale cannot be trained on.

        Parameters
        ----------
        condition : `ClassCondition` or `PeakFluxCondition`
            That of the weights.
        scale : dict
            That of their preset.

        Raises
        ------
        ValueError
            If one is another than that of the images.
        """
        own, other = self.condition.to_dict(), condition.to_dict()
        if own != other:
            raise ValueError(
                f"the images have the condition {_shown(own)}, the weights {_shown(other)}; "
                "expected TrainingImages(..., condition=generator.condition_)"
            )
        if self.scale != scale:
            raise ValueError(
                f"the images have the scale {self.scale}, the weights {scale}; expected "
                "TrainingImages(..., scale=generator.preset_.scale)"
            )

    def _member(self, number):
        """Which image a number is."""
        epoch, place = divmod(int(number), len(self))
        group, place = divmod(place, self._per_group)
        return int(self._groups[group][self._order(epoch, group)[place]])

    def _order(self, epoch, group):
        """Images of a group in a pass, drawn without replacement."""
        if (epoch, group) not in self._orders:
            self._orders = {
                key: order for key, order in self._orders.items() if key[0] >= epoch - 1
            }
            stream = sample_generator(self.seed, _ORDER, epoch, group)
            order = torch.randperm(len(self._groups[group]), generator=stream)
            self._orders[epoch, group] = order[: self._per_group]
        return self._orders[epoch, group]


def _turn(image, turn):
    """One of the eight ways that a square falls on itself."""
    if turn >= 4:
        image = image.flip(-1)
    return torch.rot90(image, turn % 4)


def _shown(condition):
    """What tells conditions apart, in a few words."""
    keys = ("classes", "exponent", "mean", "std")
    return ", ".join(f"{key} {condition[key]}" for key in keys if key in condition)
