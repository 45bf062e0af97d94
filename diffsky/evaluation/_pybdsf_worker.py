"""The script that runs PyBDSF in a process of its own.

`diffsky.evaluation.pybdsf` starts it with a folder as its only argument and as its current
folder. It reads ``job.json`` and ``image.fits`` there and leaves ``result.json``. When its standard
input ends, it ends too, with its folder: it does not outlive the process that started it.
"""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path


def main(folder):
    """Find the sources of ``image.fits``."""
    threading.Thread(target=watch, args=(folder,), daemon=True).start()
    job = json.loads((folder / "job.json").read_text())
    signal.setitimer(signal.ITIMER_REAL, job["limit"] + 10)  # should the watching process die
    import bdsf

    options = {name: as_tuple(value) for name, value in job["options"].items()}
    image = bdsf.process_image("image.fits", quiet=True, **options)
    result = {
        "version": bdsf.__version__,
        "sources": [measured(source) for source in image.sources],
    }
    (folder / "result.json").write_text(json.dumps(result))


def watch(folder):
    """Wait until no one is left to read the result, and leave nothing behind."""
    io.FileIO(0, closefd=False).readall()
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
