"""How a CASA process observes many skies alike; see `_casa_worker`.

simobserve makes the measurement set of a set-up once, without a sky. Every sky is then predicted
into a copy of it, and noise is added, by the tool and with the parameters that simobserve uses:
visibilities and images are the same as those of simobserve, bit by bit.
"""

import hashlib
import json
import shutil
from collections import OrderedDict
from pathlib import Path

import numpy as np
from _casa_tasks import (
    NOISE_FREE,
    SKY_MODEL,
    column,
    image,
    imaging,
    read_image,
    read_uv,
    require_signal,
    simulate,
    write_empty_sky,
    write_sky,
)

OBSERVED = (
    "antennas",
    "direction",
    "frequency",
    "bandwidth",
    "n_channels",
    "total_time",
    "integration",
    "hour_angle",
    "cell",
    "image_size",
)
IMAGED = ("weighting", "robust")
REUSED = ("psf", "sumwt", "pb")  # images that tclean need not make again
MEASUREMENT_SET = "pair.ms"
GROUND, BACKGROUND = 270.0, 2.725  # K, simobserve's temperatures
SETS = OrderedDict()  # bytes of each empty measurement set, the one used last at the end


def observe_pair(job):
    """Observe one sky."""
    folder = empty_set(job)
    made = imaged_set(folder, job)
    shutil.copytree(folder / NOISE_FREE, MEASUREMENT_SET)
    if not job["empty_sky"]:
        predict(folder, job)
        require_signal(MEASUREMENT_SET)
    if job["seed"] is not None:
        add_noise(job)
    with np.load(made / "arrays.npz", allow_pickle=False) as kept:
        arrays = {**kept, "dirty": dirty_image(made, job)}
    values = json.loads((made / "values.json").read_text())
    return arrays, {**values, "measurement_set": MEASUREMENT_SET}


def empty_set(job):
    """Folder of the empty measurement set of a job, made where it is not there."""
    scratch = Path(job["scratch"])
    key = digest(job, OBSERVED)
    if key not in SETS:
        write_empty_sky("sky.im", job)
        simulate({**job, "seed": None}, skymodel="sky.im")
        Path(key).mkdir()
        shutil.move("run", f"{key}/run")
        shutil.move(key, scratch / key)
    SETS[key] = sum(path.stat().st_size for path in (scratch / key).rglob("*"))
    SETS.move_to_end(key)
    while sum(SETS.values()) > job["scratch_bytes"] and len(SETS) > 1:
        oldest, _ = SETS.popitem(last=False)
        shutil.rmtree(scratch / oldest)
    return scratch / key


def imaged_set(folder, job):
    """Folder of what all images made from an empty measurement set have in common."""
    made = folder / digest(job, IMAGED)
    if not made.exists():
        measurement_set = str(folder / NOISE_FREE)
        images, beam = image(measurement_set, job)
        uv, values = read_uv({"measurement_set": measurement_set})
        made.mkdir()
        for kind in REUSED:
            shutil.move(f"out.{kind}", made / f"out.{kind}")
        for path in Path().glob("out.*"):
            shutil.rmtree(path)
        del images["dirty"]
        np.savez(made / "arrays.npz", **uv, **images)
        (made / "values.json").write_text(json.dumps({**values, "beam": beam}))
    return made


def digest(job, names):
    """A name for what some values of a job decide."""
    values = json.dumps([job[name] for name in names])
    return hashlib.sha256(values.encode()).hexdigest()[:16]


def predict(folder, job):
    """Put the visibilities of the sky into the measurement set, as simobserve does."""
    import casatools

    # simobserve's own copy of the image rounds its direction.
    shutil.copytree(folder / SKY_MODEL, "sky.pair")
    sky = write_sky(job, image="sky.pair")
    tool = casatools.simulator()
    tool.openfromms(MEASUREMENT_SET)
    tool.setdata(fieldid=[0])
    tool.setvp(dovp=True, usedefaultvp=False)
    tool.predict(imagename=sky.get("skymodel", ""), complist=sky.get("complist", ""))
    tool.done()


def add_noise(job):
    """Add thermal noise, as simobserve does."""
    import casatools
    from casatasks.private.simutil import simutil

    telescope = column(f"{MEASUREMENT_SET}/OBSERVATION", "TELESCOPE_NAME")[0]
    phase, spill, blockage, taper, correlator, receiver = simutil(job["direction"]).noisetemp(
        telescope=telescope, freq=f"{job['frequency']!r}Hz"
    )
    tool = casatools.simulator()
    tool.openfromms(MEASUREMENT_SET)
    tool.setdata(fieldid=[])
    tool.setseed(job["seed"])
    tool.setnoise(
        mode="tsys-atm",
        pwv=f"{job['pwv']!r}mm",
        spillefficiency=spill,
        correfficiency=correlator,
        antefficiency=phase * spill * blockage * taper,
        trx=receiver,
        tground=GROUND,
        tcmb=BACKGROUND,
        senscoeff=-1,  # CASA's default
    )
    tool.corrupt()
    tool.done()


def dirty_image(made, job):
    """The dirty image; PSF and weights are those of the empty measurement set."""
    from casatasks import tclean

    for kind in REUSED:
        shutil.copytree(made / f"out.{kind}", f"out.{kind}")
    tclean(vis=MEASUREMENT_SET, **imaging(job), calcpsf=False, calcres=True, restoration=False)
    return read_image("out.residual")
