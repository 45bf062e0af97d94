"""The script that runs PyBDSF in a process of its own.

`diffsky.evaluation._pybdsf_process` starts it with a folder as its only argument and as its current
folder. It reads ``job.json`` and ``image.fits`` there and leaves ``result.json``. Where the job is
"models", it does so for one image after the other: for each line of its standard input it reads
``image.fits``, leaves ``model.npy`` and answers with a line of JSON; a first line says that it is
ready. When its standard input ends, it ends too, with its folder: it does not outlive the process
that started it.
"""

import gc
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

GRACE = 10  # s, should the watching process die


def main(folder):
    """Do the job of the folder."""
    orders = queue.SimpleQueue()
    threading.Thread(target=watch, args=(folder, orders), daemon=True).start()
    job = json.loads((folder / "job.json").read_text())
    options = {name: as_tuple(value) for name, value in job["options"].items()}
    if job.get("models"):
        make_models(options, job["limit"], orders)
    else:
        signal.setitimer(signal.ITIMER_REAL, job["limit"] + GRACE)
        (folder / "result.json").write_text(json.dumps(find_sources(options)))


def start():
    """Import PyBDSF, which collects garbage after each of its steps."""
    import bdsf

    spare()
    return bdsf


def spare():
    """Leave what there is now out of the search for garbage, which would take most of the time."""
    gc.collect()
    gc.freeze()


def find_sources(options):
    """Find the sources of ``image.fits``."""
    bdsf = start()
    image = bdsf.process_image("image.fits", quiet=True, **options)
    return {
        "version": bdsf.__version__,
        "sources": [measured(source) for source in image.sources],
    }


def make_models(options, limit, orders):
    """Answer each order with a model of the image that is there by then."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed is no answer
    bdsf = start()
    print(json.dumps({"version": bdsf.__version__}), file=answers, flush=True)
    while orders.get():
        signal.setitimer(signal.ITIMER_REAL, limit + GRACE)
        answer = make_model(bdsf, options)
        signal.setitimer(signal.ITIMER_REAL, 0)
        spare()  # what the image imported; itself it is gone
        print(json.dumps(answer), file=answers, flush=True)


def make_model(bdsf, options):
    """Leave the sum of the Gaussians that fit ``image.fits``; what fails is answered."""
    import numpy as np

    Path("image.fits.pybdsf.log").unlink(missing_ok=True)  # it appends
    try:
        image = bdsf.process_image("image.fits", quiet=True, **options)
    except Exception as error:
        lacking = isinstance(error, MemoryError | OSError)  # which says nothing about the image
        return {"error": f"{type(error).__name__}: {error}", "lacking": lacking}
    np.save("model.npy", image.model_gaus_arr.T)  # its first axis is x
    return {}


def watch(folder, orders):
    """Hand on orders until no one is left to read the result, and leave nothing behind."""
    for line in io.FileIO(0, closefd=False):
        orders.put(line)
    # PyBDSF may be writing there: the folder goes after these processes, the writers of the pipe.
    subprocess.Popen(
        ["/bin/sh", "-c", 'cat; rm -rf -- "$1"', "sh", folder],
        stdin=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    os.killpg(0, signal.SIGKILL)


def as_tuple(value):
    """PyBDSF wants tuples, JSON has lists."""
    return tuple(value) if isinstance(value, list) else value


def measured(source):
    """Plain numbers of a source: Jy, Jy/beam and deg; pa is north through east."""
    ra, dec = source.posn_sky_centroid
    ra_err, dec_err = source.posn_sky_centroidE
    major, minor, pa = source.deconv_size_sky
    row = {
        "flux": source.total_flux,
        "flux_err": source.total_fluxE,
        "ra": ra,
        "dec": dec,
        "ra_err": ra_err,
        "dec_err": dec_err,
        "major": major,
        "minor": minor,
        "pa": pa,
        "rms": source.rms_isl,
        "island": source.island_id,
    }
    return {name: float(value) for name, value in row.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
