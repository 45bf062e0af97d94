"""Weights on disk: safetensors beside a JSON description that says what they are."""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import torch

from diffsky.exceptions import WeightsError

__all__ = ["bundled_weights", "load_weights", "resolve_weights", "save_weights"]

FORMAT = 1
DESCRIPTION = "description.json"
_REQUIRED = ("format", "name", "version", "preset", "recipe", "training", "sha256")


def save_weights(folder, network, description, *, half=False, overwrite=False):
    """Write a network and what it is.

    Parameters
    ----------
    folder : path-like
        Made with its parents. Both files are written beside their final names and moved there,
        so that a run that is killed leaves no half-written file.
    network : `torch.nn.Module`
        Every entry of its ``state_dict`` is stored.
    description : dict
        Plain JSON: at least ``name``, ``version``, ``preset``, ``recipe`` (what makes the
        network and its denoiser) and ``training``; figures of merit belong here too.
    half : bool, optional
        Store float16, half the size; float32 otherwise.
    overwrite : bool, optional
        Replace weights that are there.

    Raises
    ------
    FileExistsError
        If the folder holds weights and ``overwrite`` is False.
    OSError
        If the folder cannot be written.
    """
    from safetensors.torch import save

    folder = Path(folder)
    if (folder / DESCRIPTION).exists() and not overwrite:
        raise FileExistsError(f"{folder} holds weights; pass overwrite=True to replace them")
    dtype = torch.float16 if half else torch.float32
    tensors = {
        name: value.detach().to("cpu", dtype).contiguous()
        for name, value in network.state_dict().items()
    }
    content = save(tensors)
    checksum = hashlib.sha256(content).hexdigest()
    about = {"format": FORMAT, **description, "sha256": checksum}
    text = json.dumps(about, indent=2, default=_plain) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    # The description names the tensors by their checksum: replacing it is the one step that counts.
    replace_file(folder / _tensors_name(checksum), content)
    replace_file(folder / DESCRIPTION, text.encode())
    for path in folder.glob(_tensors_name("*")):
        if path.name != _tensors_name(checksum):
            path.unlink()


def load_weights(folder):
    """Read weights and check that they are whole.

    Parameters
    ----------
    folder : path-like
        A folder that `save_weights` made.

    Returns
    -------
    tensors : dict of str to `torch.Tensor`
        float32.
    description : dict
        The content of the JSON file.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    WeightsError
        If a file is not of this format, or the checksum does not agree: it was truncated or
        altered.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(folder)
    _require_file(folder / DESCRIPTION)
    description = _read_description(folder / DESCRIPTION)
    path = folder / _tensors_name(description["sha256"])
    _require_file(path)
    content = path.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != description["sha256"]:
        raise WeightsError(
            f"{path} has sha256 {checksum[:12]}..., expected "
            f"{description['sha256'][:12]}...: it is truncated or was altered"
        )
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    return {name: value.float() for name, value in tensors.items()}, description


def load_into(network, tensors, where):
    """Put tensors into a network of the same architecture.

    Parameters
    ----------
    network : `torch.nn.Module`
        The network, changed in place.
    tensors : dict of str to `torch.Tensor`
        One for every name of its ``state_dict``, of the same shape, as from `load_weights`.
    where : str
        What to call the weights in an error.

    Raises
    ------
    WeightsError
        If names or shapes do not agree.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise WeightsError(
            f"{where} was made for another network than its description says: {reason}"
        ) from error


def is_writer():
    """Whether this process writes what several have computed together.

    Returns
    -------
    writes : bool
        True in the first of them, and where there is one alone.
    """
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not there or torch.distributed.get_rank() == 0


def bundled_weights():
    """List the weights that come with the package.

    Returns
    -------
    names : list of str
        Names that `resolve_weights` knows, sorted; empty where there are none.
    """
    return sorted(path.parent.name for path in _data_folder().glob(f"*/{DESCRIPTION}"))


def resolve_weights(name):
    """Find weights by name or path.

    Parameters
    ----------
    name : path-like
        A folder, or the name of bundled weights.

    Returns
    -------
    folder : `pathlib.Path`
        A folder with a description. A path goes before a bundled name.

    Raises
    ------
    FileNotFoundError
        If there is no such folder; the message lists the bundled names.
    """
    for folder in (Path(name), _data_folder() / str(name)):
        if (folder / DESCRIPTION).is_file():
            return folder
    raise FileNotFoundError(
        f"no weights {str(name)!r}; expected a folder with {DESCRIPTION}, or one of "
        f"{', '.join(bundled_weights()) or 'no bundled weights'}"
    )


def _data_folder():
    return Path(__file__).parent.parent / "data"


def _read_description(path):
    try:
        description = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(description, dict):
        raise WeightsError(f"{path} holds no JSON object; expected a weights description")
    missing = [key for key in _REQUIRED if key not in description]
    if missing:
        raise WeightsError(f"{path} lacks {', '.join(missing)}; expected a weights description")
    if description["format"] != FORMAT:
        raise WeightsError(f"{path} has format {description['format']}; expected {FORMAT}")
    if not re.fullmatch("[0-9a-f]{64}", str(description["sha256"])):
        raise WeightsError(f"{path} has sha256 {description['sha256']!r}; expected 64 digits")
    return description


def _require_file(path):
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.parent} has no file {path.name}; expected a folder of weights"
        )


def _tensors_name(checksum):
    return f"weights-{checksum[:12]}.safetensors"


def _plain(value):
    """A number of NumPy as JSON has it: no training is lost for its type."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"the description of the weights holds {value!r}; expected plain JSON")


def replace_file(path, content):
    """Write a file beside its place and move it there, so that it is never there in half.

    Parameters
    ----------
    path : `pathlib.Path`
        Its place, in a folder that is there.
    content : bytes-like
        What it holds.

    Raises
    ------
    OSError
        If it cannot be written; what was there stays.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
