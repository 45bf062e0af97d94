"""The processes that train one network together: how many, and who starts them."""

import os
import sys

import numpy as np
import torch
from pytorch_lightning.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

__all__ = ["STRATEGIES", "check_processes", "choose_environment", "trainer_options"]

STRATEGIES = ("auto", "ddp")


def check_processes(devices, num_nodes, strategy, *, device, batch_size):
    """Check that the processes asked for are there or can be started.

    Parameters
    ----------
    devices, num_nodes, strategy, batch_size
        As `diffsky.diffusion.train_denoiser` takes them.
    device : `torch.device`
        Kind of the devices.

    Returns
    -------
    world : int
        Number of processes, one for each device.

    Raises
    ------
    ValueError
        If a number is out of range or not there, if the processes that a launcher started are
        not as many, if none can be started from here, or if the batch has no equal shares.
    """
    for name, value in {"devices": devices, "num_nodes": num_nodes}.items():
        is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_int or value < 1:
            raise ValueError(f"{name} is {value!r}; expected an int of 1 or more")
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}")
    _check_devices(devices, num_nodes, device)
    world = devices * num_nodes
    if batch_size % world:
        raise ValueError(
            f"batch_size is {batch_size}, the total of {world} processes; expected a multiple of "
            f"{world}, since every process takes an equal share"
        )
    _check_launcher(world, devices, num_nodes)
    return world


def choose_environment(world):
    """What tells a process its rank.

    Parameters
    ----------
    world : int
        Number of processes.

    Returns
    -------
    environment : object
        A cluster environment of pytorch-lightning. That of SLURM does not queue a job again by
        itself: checkpoints are ours.
    """
    if world > 1 and TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if world > 1 and _slurm_tasks() > 1:
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


def trainer_options(devices, num_nodes, strategy, *, device):
    """Keywords of the Lightning trainer that say where it runs.

    Parameters
    ----------
    devices, num_nodes, strategy
        As `check_processes` has them.
    device : `torch.device`
        Kind of the devices, or a certain one.

    Returns
    -------
    options : dict
        ``accelerator``, ``devices``, ``num_nodes``, ``strategy`` and ``plugins``.
    """
    world = devices * num_nodes
    is_cuda = device.type == "cuda"
    return {
        "accelerator": "gpu" if is_cuda else device.type,
        "devices": [device.index] if is_cuda and device.index is not None else devices,
        "num_nodes": num_nodes,
        "strategy": "ddp" if world > 1 else strategy,
        "plugins": [choose_environment(world)],
    }


def _check_devices(devices, num_nodes, device):
    if device.type == "cuda":
        found = torch.cuda.device_count()
        if devices > found:
            raise ValueError(f"devices is {devices}; found {found} CUDA devices on this host")
        if device.index is not None and devices * num_nodes > 1:
            raise ValueError(
                f"device is {str(device)!r}, a single one, with devices={devices} and "
                f"num_nodes={num_nodes}; expected 'cuda'"
            )
    if device.type == "mps" and devices * num_nodes > 1:
        raise ValueError("several processes cannot train on mps; expected devices=1, num_nodes=1")


def _check_launcher(world, devices, num_nodes):
    asked = f"devices={devices} and num_nodes={num_nodes} make {world}"
    if TorchElasticEnvironment.detect():
        _check_started("torchrun", int(os.environ["WORLD_SIZE"]), world, asked)
    elif world == 1:
        if "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1:
            _check_started("an earlier fit", int(os.environ["WORLD_SIZE"]), world, asked)
    elif _slurm_tasks() > 1:
        _check_started("SLURM", _slurm_tasks(), world, asked)
    elif "LOCAL_RANK" not in os.environ:
        _check_script(num_nodes)


def _check_started(launcher, started, world, asked):
    if started != world:
        raise ValueError(f"{launcher} started {started} processes; {asked}")


def _check_script(num_nodes):
    """The other processes of a plain script run the same script again."""
    if num_nodes > 1:
        raise ValueError(
            f"num_nodes is {num_nodes}, and nothing started processes on other hosts; expected "
            "torchrun or srun"
        )
    main = sys.modules["__main__"]
    if hasattr(sys, "ps1") or not os.path.isfile(getattr(main, "__file__", None) or ""):
        raise ValueError(
            "several processes run the same script, and this is none; expected a script, or "
            "torchrun"
        )


def _slurm_tasks():
    """Tasks of the job step, 1 outside of SLURM or in an interactive shell of it."""
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return 1
    return int(os.environ.get("SLURM_NTASKS", 1))
