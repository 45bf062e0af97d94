"""The shared torch backend: device, precision, memory and random streams.

Every part of diffsky that computes with torch asks this module where and how, so that one
argument (``device=``, ``precision=``) means the same everywhere and results depend on neither
batch size nor device beyond rounding.
"""

import contextlib
from dataclasses import dataclass

import numpy as np
import torch

__all__ = [
    "Backend",
    "draw_normal",
    "fit_batch_size",
    "sample_generator",
    "select_backend",
]

PRECISIONS = ("auto", "float32", "bfloat16")
_MEMORY_SHARE = 0.3
_CPU_BATCH_BYTES = 1.5e9


@dataclass(frozen=True)
class Backend:
    """Where and how networks run.

    Parameters
    ----------
    device : `torch.device`
        The device that holds networks and batches.
    autocast_dtype : `torch.dtype` or None
        The dtype of mixed precision; None runs everything in float32.
    compile : bool
        Whether networks go through `torch.compile`.
    """

    device: torch.device
    autocast_dtype: torch.dtype | None = None
    compile: bool = False

    @property
    def precision(self):
        """str : ``"float32"`` or ``"bfloat16"``."""
        return "float32" if self.autocast_dtype is None else "bfloat16"

    @property
    def lightning_precision(self):
        """str : the same choice as pytorch-lightning spells it."""
        return "32-true" if self.autocast_dtype is None else "bf16-mixed"

    def autocast(self):
        """Context manager in which networks run at the chosen precision."""
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)

    def prepare(self, network):
        """Move a network to the device in the memory layout that is fastest there.

        Parameters
        ----------
        network : `torch.nn.Module`
            Any network; its weights are moved in place.

        Returns
        -------
        network : `torch.nn.Module`
            The same network, channels_last, in evaluation mode, compiled if asked for.
        """
        network = network.to(self.device, memory_format=torch.channels_last).eval()
        return torch.compile(network, dynamic=True) if self.compile else network


def select_backend(device=None, precision="auto", *, compile=False):
    """Decide device and precision.

    Parameters
    ----------
    device : str, `torch.device` or None, optional
        ``"cuda"``, ``"mps"``, ``"cpu"`` or an indexed device. None takes the first of these
        that is there.
    precision : {"auto", "float32", "bfloat16"}, optional
        ``"auto"`` uses bfloat16 autocast where the hardware computes in it, and float32
        elsewhere. float32 is the reference.
    compile : bool, optional
        Whether to compile networks with `torch.compile`.

    Returns
    -------
    backend : `Backend`
        The device, with the dtype of autocast that the precision means on it.

    Raises
    ------
    ValueError
        If the device is not there, or the precision is unknown or not supported by it.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    device = _find_device(device)
    native = _has_bfloat16(device)
    if precision == "bfloat16" and device.type == "mps":
        raise ValueError("precision 'bfloat16' is not supported on mps; expected 'float32'")
    use_bfloat16 = precision == "bfloat16" or (precision == "auto" and native)
    return Backend(device, torch.bfloat16 if use_bfloat16 else None, compile)


def _find_device(device):
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device is None:
        return torch.device(next(name for name, there in available.items() if there))
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is not known; expected cuda, mps or cpu") from error
    there = [name for name, is_there in available.items() if is_there]
    if device.type not in there:
        raise ValueError(f"device {str(device)!r} is not available here; found {', '.join(there)}")
    return device


def _has_bfloat16(device):
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return False


def sample_generator(seed, *index):
    """Random stream of one sample.

    Parameters
    ----------
    seed : int
        The seed of the whole run, 0 or larger.
    *index : int
        The number of the sample (and of whatever it belongs to, outermost first).

    Returns
    -------
    generator : `torch.Generator`
        A stream on the CPU that depends on ``seed`` and ``index`` alone, so that sample k of
        seed s is the same whatever the batch size, the number of workers or the device.
    """
    # spawn_key, unlike a longer entropy, tells (3,) from (3, 0)
    sequence = np.random.SeedSequence(int(seed), spawn_key=tuple(map(int, index)))
    state = sequence.generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def draw_normal(generators, shape, device="cpu"):
    """Standard normal numbers, one stream per sample.

    Parameters
    ----------
    generators : sequence of `torch.Generator`
        One CPU stream per sample, from `sample_generator`.
    shape : tuple of int
        Shape of one sample.
    device : str or `torch.device`, optional
        Where the result goes.

    Returns
    -------
    noise : `torch.Tensor`
        Shape ``(len(generators), *shape)``, float32.
    """
    return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)


def fit_batch_size(backend, bytes_per_item, *, limit):
    """Number of items that are computed at once.

    Parameters
    ----------
    backend : `Backend`
        Where the items are computed; its device's free memory counts.
    bytes_per_item : float
        Memory that one item takes at its peak.
    limit : int
        Number of items there are.

    Returns
    -------
    size : int
        Between 1 and ``limit``: at most 30 % of the memory that is free, and on the CPU at most
        1.5 GB, beyond which larger batches are no faster.
    """
    if backend.device.type == "cuda":
        free = _MEMORY_SHARE * torch.cuda.mem_get_info(backend.device)[0]
    else:
        import psutil

        free = min(_MEMORY_SHARE * psutil.virtual_memory().available, _CPU_BATCH_BYTES)
    return int(np.clip(free // bytes_per_item, 1, limit))
