"""What every estimator on a diffusion model shares: training, weights on disk, sampling plan."""

import copy
import secrets

import numpy as np
import torch

from diffsky.backend import select_backend
from diffsky.diffusion.distilling import DistillableEstimator
from diffsky.diffusion.networks import build_network
from diffsky.diffusion.preconditioning import build_denoiser
from diffsky.diffusion.samplers import get_sampler
from diffsky.diffusion.schedules import make_sigmas
from diffsky.diffusion.starting import weights_checksum
from diffsky.diffusion.training import train_denoiser
from diffsky.diffusion.weights import (
    is_writer,
    load_into,
    load_weights,
    resolve_weights,
    save_weights,
)
from diffsky.exceptions import NotFittedError, WeightsError

__all__ = ["DiffusionEstimator"]

_CUSTOM = "custom"  # name of a preset that was given as such


class DiffusionEstimator(DistillableEstimator):
    """Base of the estimators.

    A subclass names its ``_preset_type`` (with ``network``, ``preconditioning``, ``sigma_data``,
    ``training``, ``sampling``, ``to_dict`` and ``from_dict``) and its ``_default_weights``.

    Parameters
    ----------
    preset : str or preset, optional
        Name of the preset, or one of the subclass's type.
    device : str or None, optional
        ``"cuda"``, ``"mps"`` or ``"cpu"``; None takes the first that is there.
    precision : {"auto", "float32", "bfloat16"}, optional
        float32 is the reference; ``"auto"`` takes bfloat16 where the hardware computes in it.
    compile : bool, optional
        Compile the network with `torch.compile`.
    sampler : {"heun", "euler", "dpmpp-2m", "dpmpp-3m", "ddim", "ddpm", "sde-dpmpp-2m"}, optional
        None takes that of the preset; for distilled weights, that is ``"consistency"``.
    n_steps : int or None, optional
        Steps of the sampler; None takes those of the preset.
    """

    _preset_type = None
    _default_weights = None

    def __init__(
        self,
        preset="small",
        *,
        device=None,
        precision="auto",
        compile=False,
        sampler=None,
        n_steps=None,
    ):
        self.preset = preset
        self.device = device
        self.precision = precision
        self.compile = compile
        self.sampler = sampler
        self.n_steps = n_steps

    def save(self, folder, *, name=None, half=False, overwrite=False):
        """Write the weights and what they are.

        Weights that several processes have trained together are written by the first of them;
        in the others this does nothing, so that all may call it.

        Parameters
        ----------
        folder : path-like
            Gets ``description.json`` and the tensors it names.
        name : str or None, optional
            Name in the description; None keeps the present one.
        half : bool, optional
            Store float16 instead of float32.
        overwrite : bool, optional
            Replace weights that are there.

        Raises
        ------
        FileExistsError
            If the folder holds weights and ``overwrite`` is False.
        """
        fitted = self._fitted()
        if name is not None:
            fitted.description_["name"] = name
        if not fitted._writes:
            return
        recipe = fitted.preset_.to_dict()
        description = {**fitted.description_, "recipe": recipe}
        save_weights(folder, self._network(), description, half=half, overwrite=overwrite)

    @classmethod
    def load(cls, folder, **options):
        """Read weights from a folder.

        Parameters
        ----------
        folder : path-like
            What `save` wrote.
        **options
            Keywords of the class (``device``, ``precision``, ``sampler``, ``n_steps``...).

        Returns
        -------
        estimator : `DiffusionEstimator`
            Of the class that this is called on.

        Raises
        ------
        FileNotFoundError
            If the folder has no weights.
        WeightsError
            If they are damaged, altered or of another architecture.
        """
        tensors, description = load_weights(folder)
        missing = [key for key in cls._described if key not in description]
        if missing:
            raise WeightsError(
                f"{folder} holds weights {description['name']!r} without {', '.join(missing)}, "
                f"which are none of a {cls.__name__}"
            )
        try:
            preset = cls._preset_type.from_dict(description.pop("recipe"))
            denoiser = _new_denoiser(preset)
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{folder} has a recipe that is none of a {cls.__name__}: {error}"
            ) from error
        load_into(denoiser.network, tensors, str(folder))
        name = description["preset"]
        estimator = cls(preset if name == _CUSTOM else name, **options)
        estimator._adopt(denoiser, preset, description)
        return estimator

    @classmethod
    def from_pretrained(cls, name=None, **options):
        """Read weights by their name.

        Parameters
        ----------
        name : path-like or None, optional
            The name of bundled weights, or a folder; None takes the class's default.
        **options
            Keywords of the class.

        Returns
        -------
        estimator : `DiffusionEstimator`
            Of the class that this is called on.

        Raises
        ------
        FileNotFoundError
            If there are none of that name; the message lists the bundled ones.
        """
        return cls.load(resolve_weights(cls._default_weights if name is None else name), **options)

    def sampling_plan(self):
        """Sampler and noise levels that `sample` and `predict` use.

        Returns
        -------
        plan : dict
            ``sampler``, ``n_steps``, and the keywords of `diffsky.diffusion.make_sigmas`.

        Raises
        ------
        ValueError
            If there is no such sampler or number of steps; or if distilled weights are to be
            sampled with another sampler than ``"consistency"``, or others with this one.
        """
        given = {"sampler": self.sampler, "n_steps": self.n_steps}
        plan = {**self.preset_.sampling, **{k: v for k, v in given.items() if v is not None}}
        _check_plan(plan)
        if self._distilled() != (plan["sampler"] == "consistency"):
            expected = (
                "'consistency'" if self._distilled() else "another, or weights from distill()"
            )
            raise ValueError(
                f"sampler is {plan['sampler']!r} for weights {self.description_['name']!r}; "
                f"expected {expected}"
            )
        return plan

    def _train(self, preset, pairs, given, *, seed, warm_start=False, about=None, **run):
        """Fit a denoiser to pairs and adopt it, with `about` noted of the training.

        It is a new one, or starts as a copy of the present one.
        """
        plan = {**preset.training, **given}
        name = self.preset if isinstance(self.preset, str) else _CUSTOM
        started_from = {}
        if warm_start:
            if self._distilled():
                raise ValueError(
                    f"weights {self.description_['name']!r} are distilled; expected those that "
                    "they were distilled from"
                )
            denoiser = self._copy_denoiser()
            name, started_from = self.description_["preset"], {"started_from": self._origin()}
        else:
            if preset.sampling.get("sampler") == "consistency":
                raise ValueError(
                    "the preset has the sampler 'consistency', which weights from distill() alone "
                    "can be sampled with; expected another"
                )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                denoiser = _new_denoiser(preset)
        start = {"method": "fit", **self._start()} if warm_start else None
        history = train_denoiser(
            denoiser.to(memory_format=torch.channels_last),
            pairs,
            **plan,
            seed=seed,
            backend=self._backend(),
            start=start,
            **run,
        )
        describe = getattr(pairs, "describe", dict)
        training = {**plan, **(about or {}), **history, "seed": seed, "pairs": describe()}
        training |= started_from
        description = {"name": "unnamed", "version": 1, "preset": name}
        n_processes = run.get("devices", 1) * run.get("num_nodes", 1)
        description |= {"training": training, "merits": {}}
        self._adopt(denoiser, preset, description, n_processes=n_processes)
        return self

    def _start(self):
        """Name, version and checksum of the present weights."""
        named = {key: self.description_[key] for key in ("name", "version")}
        return {**named, "sha256": weights_checksum(self._network())}

    def _origin(self):
        """Name, version and training of the present weights, in turn with what they came from."""
        about = {key: self.description_[key] for key in ("name", "version")}
        return {**about, **copy.deepcopy(self.description_["training"])}

    def _check_pairs(self, pairs, preset):
        """Refuse pairs that weights of the preset cannot be trained on."""

    def _network(self):
        """The network itself, not what torch.compile wraps it in."""
        return _bare(self.denoiser_.network)

    def _copy_denoiser(self):
        """A denoiser of its own with the present weights, on the CPU."""
        with torch.random.fork_rng(devices=[]):
            denoiser = _new_denoiser(self.preset_)
        denoiser.network.load_state_dict(self._network().state_dict())
        return denoiser

    def _ready(self):
        """Backend with the network on it."""
        if self._run is None:
            self._run = self._backend()
            self.denoiser_.network = self._run.prepare(self.denoiser_.network)
        return self._run

    def _backend(self):
        return select_backend(self.device, self.precision, compile=self.compile)

    def _adopt(self, denoiser, preset, description, *, n_processes=1):
        self.denoiser_, self.preset_, self.description_ = denoiser.eval(), preset, description
        self._run = None
        self._writes = n_processes == 1 or is_writer()

    def __getstate__(self):
        """Everything but the place where it runs, so that a copy finds one for itself."""
        state = dict(self.__dict__)
        if "denoiser_" in state:
            state["denoiser_"] = copy.deepcopy(self.denoiser_).cpu()
            state["denoiser_"].network = _bare(state["denoiser_"].network)
            state["_run"] = None
        return state

    def _fitted(self):
        if not hasattr(self, "denoiser_"):
            raise NotFittedError(
                f"this {type(self).__name__} has no weights; call fit(), or make it with "
                f"{type(self).__name__}.from_pretrained() or .load(folder)"
            )
        return self

    def _check_run(self, n_samples, seed, *, name="n_samples"):
        self._fitted()
        if not isinstance(n_samples, (int, np.integer)) or n_samples < 1:
            raise ValueError(f"{name} is {n_samples!r}; expected an integer of 1 or more")
        if seed is None:
            return secrets.randbits(32)
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed is {seed!r}; expected an integer of 0 or more, or None")
        return int(seed)


def _bare(network):
    """What torch.compile wraps."""
    return getattr(network, "_orig_mod", network)


def _check_plan(plan):
    """Refuse a sampler or levels that are none."""
    get_sampler(plan.get("sampler"))
    n_steps = plan.get("n_steps")
    if not isinstance(n_steps, int | np.integer):
        raise ValueError(f"n_steps is {n_steps!r}; expected an integer of 1 or more")
    plan["n_steps"] = int(n_steps)
    make_sigmas(**{name: value for name, value in plan.items() if name != "sampler"})


def _new_denoiser(preset):
    return build_denoiser(
        build_network(preset.network),
        preconditioning=preset.preconditioning,
        sigma_data=preset.sigma_data,
    )
