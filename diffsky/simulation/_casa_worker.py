"""The script that runs inside a CASA process.

`diffsky.simulation._casa_process` starts it and names a job folder in each line of its standard
input. A job reads ``job.json`` and ``inputs.npz`` in its folder and leaves ``result.json`` and
``result.npz`` there; a line of JSON on standard output says how it ended. When standard input
ends, so does the process: it does not outlive the one that started it.

It imports nothing of diffsky: CASA and its global state stay in this process.
"""

import contextlib
import importlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TASKS = HERE / "_casa_tasks.py"
GRACE = 10  # s


def main():
    """Run the jobs that standard input names; `watch` ends the process."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed goes to the log of each job
    sys.path.append(str(HERE))  # at the end: no file here hides a module
    jobs = queue.SimpleQueue()
    threading.Thread(target=watch, args=(jobs,), daemon=True).start()
    while True:
        try:
            answer = run(Path(jobs.get()))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        with contextlib.suppress(BrokenPipeError):  # `watch` knows, too
            print(json.dumps(answer), file=answers, flush=True)


def watch(jobs):
    """Hand on the jobs; when no one is left to give any, leave nothing behind."""
    folders = []
    for line in io.FileIO(0, closefd=False):
        order = json.loads(line)
        folders = [order["folder"], order["scratch"]]
        jobs.put(order["folder"])
    if folders:
        # CASA may be writing there, and dies of it where they vanish: they go after this process,
        # the only writer of the pipe.
        subprocess.Popen(
            ["/bin/sh", "-c", 'cat; rm -rf -- "$@"', "sh", *folders],
            stdin=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
    os._exit(1)


def run(folder):
    """Run one job. What it refuses is answered; what fails is raised."""
    job = json.loads((folder / "job.json").read_text())
    os.chdir(folder)
    signal.setitimer(signal.ITIMER_REAL, job["limit"] + GRACE)  # should no one watch
    log_to(job["log_file"])
    from _casa_tasks import Refused

    try:
        arrays, values = getattr(load(job.get("script", TASKS)), job["task"])(job)
    except Refused as refusal:
        return {"refused": str(refusal)}
    finally:
        sys.stdout.flush()
        signal.setitimer(signal.ITIMER_REAL, 0)
    values["casa_version"] = sys.modules["casatools"].version_string()
    np.savez(folder / "result.npz", **arrays)
    (folder / "result.json").write_text(json.dumps(values))
    return {}


def load(script):
    """Import a script by its path, once."""
    script = Path(script)
    if script.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(script.stem, script)
        module = importlib.util.module_from_spec(spec)
        sys.modules[script.stem] = module
        spec.loader.exec_module(module)
    return sys.modules[script.stem]


def log_to(path):
    """Send what CASA and Python say to a file from now on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    if "casatasks" in sys.modules:
        sys.modules["casatasks"].casalog.setlogfile(path)
        return
    configure_casa(path)
    importlib.import_module("casatasks")


def configure_casa(log):
    """Make the settings that must precede the first import of casatools.

    Measures that the user has populated are used as they are, and a configuration file of the
    user decides about updates. Otherwise the data of the casadata package serve, without internet.
    """
    import casaconfig.config as config
    import casadata

    config.logfile = log
    config.nologfile = False
    config.log2term = False
    config.nologger = True
    config.nogui = True
    config.agg = True
    populated = config.measurespath and os.path.isdir(os.path.join(config.measurespath, "geodetic"))
    if not populated:
        config.measurespath = casadata.datapath
        config.datapath = [path for path in config.datapath if os.path.isdir(path)]
    if not populated or len(config.load_success()) == 1:  # it counts itself
        config.measures_auto_update = False
        config.data_auto_update = False
    if casadata.datapath not in config.datapath:
        config.datapath = [*config.datapath, casadata.datapath]


if __name__ == "__main__":
    main()
