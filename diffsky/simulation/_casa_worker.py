"""The script that runs inside the CASA process.

`diffsky.simulation.casa` starts it with a job folder as its only argument. It reads ``job.json``
and ``inputs.npz`` there, and leaves ``result.json`` and ``result.npz``. It imports nothing of
diffsky: CASA and its global state stay in this process.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

SPEED_OF_LIGHT = 299792458.0  # m / s
ROWS_AT_ONCE = 20000
NOISE_FREE = "run/run.array.ms"
NOISY = "run/run.array.noisy.ms"
PRIMARY_BEAM_FLOOR = 1e-3  # CASA leaves the primary beam at zero below this


def main(folder):
    """Run the job described in ``folder/job.json``."""
    job = json.loads((folder / "job.json").read_text())
    signal.setitimer(signal.ITIMER_REAL, job["limit"] + 10)  # should the watching process die
    configure_casa(job["log_file"])
    tasks = {"observe": observe, "observe_uv": observe_uv, "read_uv": read_uv}
    arrays, values = tasks[job["task"]](job)
    import casatools

    values["casa_version"] = casatools.version_string()
    np.savez(folder / "result.npz", **arrays)
    (folder / "result.json").write_text(json.dumps(values))


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


def observe(job):
    """Simulate one pointing and make its dirty image, PSF and primary beam."""
    with np.load("inputs.npz", allow_pickle=False) as inputs:
        if "sky" in inputs:
            write_sky_model("sky.im", inputs["sky"], job)
            measurement_set = simulate(job, skymodel="sky.im")
        else:
            write_components("sources.cl", inputs, job)
            write_sky_model("sky.im", np.zeros((job["image_size"],) * 2), job)
            measurement_set = simulate(job, skymodel="sky.im", complist="sources.cl")
    require_signal(NOISE_FREE)
    images, beam = image(measurement_set, job)
    uv, values = read_uv({"measurement_set": measurement_set})
    return {**uv, **images}, {**values, "beam": beam, "measurement_set": measurement_set}


def observe_uv(job):
    """Simulate one pointing of an empty sky for its uv points and its beam."""
    write_sky_model("sky.im", np.zeros((job["image_size"],) * 2), job)
    measurement_set = simulate(job, skymodel="sky.im")
    _, beam = image(measurement_set, job)
    uv, values = read_uv({"measurement_set": measurement_set})
    return uv, {**values, "beam": beam}


def simulate(job, **sky):
    """Run simobserve; without a seed there is no noise. Returns the measurement set to image."""
    from casatasks import simobserve

    seed = job["seed"]
    simobserve(
        project="run",
        setpointings=True,
        direction=job["direction"],
        mapsize="0.1arcsec",
        maptype="square",
        pointingspacing="10arcmin",
        obsmode="int",
        antennalist="array.cfg",
        integration=f"{job['integration']!r}s",
        totaltime=f"{job['total_time']!r}s",
        hourangle=f"{job['hour_angle']!r}h",
        thermalnoise="" if seed is None else "tsys-atm",
        user_pwv=job["pwv"],
        seed=0 if seed is None else seed,
        graphics="none",
        **sky,
    )
    return NOISE_FREE if seed is None else NOISY


def write_sky_model(name, sky, job):
    """Write a ``[y, x]`` array in Jy/pixel as a CASA image, the same in every channel."""
    import casatools

    tool = casatools.image()
    size = job["image_size"]
    tool.fromshape(name, [size, size, 1, job["n_channels"]])
    system = tool.coordsys()
    system.setunits(["rad", "rad", "", "Hz"])
    cell = np.deg2rad(job["cell"] / 3600)
    system.setreferencecode("J2000", "direction")
    system.setreferencevalue(np.deg2rad([job["ra"], job["dec"]]).tolist(), type="direction")
    system.setreferencepixel([size // 2, size // 2], "direction")
    system.setincrement([-cell, cell], "direction")
    system.setreferencevalue(f"{job['frequency']!r}Hz", "spectral")
    system.setreferencepixel([(job["n_channels"] - 1) / 2], "spectral")
    system.setincrement(f"{job['bandwidth'] / job['n_channels']!r}Hz", "spectral")
    system.setrestfrequency(f"{job['frequency']!r}Hz")
    tool.setcoordsys(system.torecord())
    tool.setbrightnessunit("Jy/pixel")
    plane = np.ascontiguousarray(sky.T, dtype=float)[:, :, None, None]
    for channel in range(job["n_channels"]):
        tool.putchunk(plane, blc=[0, 0, 0, channel])
    tool.close()


def write_components(name, sources, job):
    """Write point and Gaussian sources as a CASA component list."""
    import casatools

    components = casatools.componentlist()
    measures = casatools.measures()
    columns = ("flux", "ra", "dec", "major", "minor", "pa")
    rows = np.column_stack([sources[key] for key in columns]).tolist()
    for flux, ra, dec, major, minor, pa in rows:
        shape = {"shape": "point"}
        if major > 0:
            shape = {
                "shape": "Gaussian",
                "majoraxis": f"{major!r}arcsec",
                "minoraxis": f"{minor!r}arcsec",
                "positionangle": f"{pa!r}deg",
            }
        components.addcomponent(
            dir=measures.direction("J2000", f"{ra!r}deg", f"{dec!r}deg"),
            flux=flux,
            freq=f"{job['frequency']!r}Hz",
            **shape,
        )
    components.rename(name)
    components.close()


def require_signal(measurement_set):
    """Refuse visibilities that CASA predicted as zero, or flagged, without a word."""
    import casatools

    table = casatools.table()
    table.open(measurement_set)
    try:
        for start in range(0, table.nrows(), ROWS_AT_ONCE):
            data = table.getcol("DATA", start, ROWS_AT_ONCE)
            if np.any(data[~table.getcol("FLAG", start, ROWS_AT_ONCE)]):
                return
    finally:
        table.close()
    raise RuntimeError(
        "every visibility that CASA predicted is zero or flagged; "
        "expected a source within the primary beam"
    )


def image(measurement_set, job):
    """Dirty image, PSF and primary beam, ``[y, x]``, and the beam (arcsec, arcsec, deg)."""
    import casatools
    from casatasks import tclean

    tclean(
        vis=measurement_set,
        imagename="out",
        datacolumn="data",
        imsize=job["image_size"],
        cell=f"{job['cell']!r}arcsec",
        phasecenter=job["direction"],
        specmode="mfs",
        gridder="standard",
        weighting=job["weighting"],
        robust=job["robust"],
        niter=0,
        pblimit=PRIMARY_BEAM_FLOOR,
        interactive=False,
    )
    tool = casatools.image()

    images = {}
    for name, kind in {"dirty": "image", "psf": "psf", "primary_beam": "pb"}.items():
        tool.open(f"out.{kind}")
        images[name] = np.ascontiguousarray(tool.getchunk()[:, :, 0, 0].T)
        tool.close()
    tool.open("out.image")
    beam = tool.restoringbeam()
    tool.close()
    quanta = casatools.quanta()
    units = {"major": "arcsec", "minor": "arcsec", "positionangle": "deg"}
    return images, [quanta.convert(beam[key], unit)["value"] for key, unit in units.items()]


def read_uv(job):
    """Points in wavelengths and weights of every unflagged cross-correlation.

    Channels are merged: each row counts once, at the mean frequency of its spectral window.
    """
    import casatools

    path = job["measurement_set"]
    windows = column(path + "/DATA_DESCRIPTION", "SPECTRAL_WINDOW_ID")
    uv, weights = [], []
    table = casatools.table()
    spectral = casatools.table()
    table.open(path)
    spectral.open(path + "/SPECTRAL_WINDOW")
    try:
        for number, window in enumerate(windows):
            frequency = np.mean(spectral.getcell("CHAN_FREQ", int(window)))
            rows = table.query(f"DATA_DESC_ID=={number} AND ANTENNA1!=ANTENNA2 AND NOT FLAG_ROW")
            for start in range(0, rows.nrows(), ROWS_AT_ONCE):
                share = np.mean(~rows.getcol("FLAG", start, ROWS_AT_ONCE), axis=(0, 1))
                weight = share * rows.getcol("WEIGHT", start, ROWS_AT_ONCE).mean(axis=0)
                points = rows.getcol("UVW", start, ROWS_AT_ONCE)[:2].T * frequency / SPEED_OF_LIGHT
                uv.append(points[weight > 0])
                weights.append(weight[weight > 0])
            rows.close()
    finally:
        table.close()
        spectral.close()
    if not sum(map(len, weights)):
        raise RuntimeError("the measurement set has no unflagged cross-correlation")
    return {"uv": np.concatenate(uv), "weights": np.concatenate(weights)}, {}


def column(table_name, name):
    """One column of a CASA table."""
    import casatools

    table = casatools.table()
    table.open(table_name)
    try:
        return table.getcol(name)
    finally:
        table.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
