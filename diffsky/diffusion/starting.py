"""What the run in a folder of checkpoints started from, so that no other weights go on with it."""

import hashlib
import json
import os
from pathlib import Path

import torch

__all__ = ["check_images", "check_start", "weights_checksum"]

_START = "training-start.json"
_IMAGES = "training-images.json"


def weights_checksum(network):
    """Fingerprint of the weights of a network.

    Parameters
    ----------
    network : `torch.nn.Module`
        Its state counts, as float32.

    Returns
    -------
    checksum : str
        SHA-256 in 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_start(folder, start):
    """Note in a folder of checkpoints what its run starts from, or check that it is this.

    Parameters
    ----------
    folder : path-like or None
        None keeps no checkpoints.
    start : dict or None
        What the run starts from: ``method`` (``"fit"`` or ``"distill"``), ``name`` and
        ``sha256``. None starts from random weights.

    Raises
    ------
    ValueError
        If the run in the folder started from something else.
    """
    if folder is None:
        return
    path = Path(folder) / _START
    if (Path(folder) / "last.ckpt").exists():
        noted = _read(path) if path.exists() else None
        if _identity(noted) != _identity(start):
            before = _words(noted) if path.exists() else f"what no {_START} tells"
            raise ValueError(
                f"the run in {folder} started from {before}; this one would start from "
                f"{_words(start)}: load those weights, or take another checkpoint_dir"
            )
    else:
        _write(path, start)


def check_images(folder, fingerprint):
    """Note in a folder of checkpoints what its run is trained on, or check that it is this.

    Parameters
    ----------
    folder : path-like or None
        None keeps no checkpoints.
    fingerprint : str or None
        What tells the images of a training from others. None is for those that are made on the
        fly, of which nothing is noted.

    Raises
    ------
    ValueError
        If the run in the folder is trained on others.
    """
    if folder is None or fingerprint is None:
        return
    path = Path(folder) / _IMAGES
    if (Path(folder) / "last.ckpt").exists():
        noted = _read(path) if path.exists() else None
        if noted != fingerprint:
            raise ValueError(
                f"the run in {folder} is trained on other images, labels or scales; expected those "
                "that it began with, or another checkpoint_dir"
            )
    else:
        _write(path, fingerprint)


def _write(path, content):
    # Every process of a training writes the same.
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(content) + "\n")
    fresh.replace(path)


def _read(path):
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); expected what a run started from"
        ) from error


def _identity(start):
    return None if start is None else (start.get("method"), start.get("sha256"))


def _words(start):
    if start is None:
        return "random weights"
    return f"{start['name']!r}, sha256 {start['sha256'][:12]}, with {start['method']}()"
