"""What a CASA process does with one job by tasks of CASA; see `_casa_worker`.

Every task works in the folder of its job and returns arrays and plain values.
"""

from pathlib import Path

import numpy as np

SPEED_OF_LIGHT = 299792458.0  # m / s
ROWS_AT_ONCE = 20000
NOISE_FREE = "run/run.array.ms"
NOISY = "run/run.array.noisy.ms"
SKY_MODEL = "run/run.array.skymodel"
PRIMARY_BEAM_FLOOR = 1e-3  # CASA leaves the primary beam at zero below this
IMAGES = {"dirty": "image", "psf": "psf", "primary_beam": "pb"}


class Refused(RuntimeError):
    """A job that fails however often it is tried."""


def observe(job):
    """Simulate one pointing and make its dirty image, PSF and primary beam."""
    write_empty_sky("sky.im", job)
    sky = write_sky(job, image="sky.im")
    measurement_set = simulate(job, **{"skymodel": "sky.im", **sky})
    if sky:
        require_signal(measurement_set.replace(".noisy", ""))
    images, beam = image(measurement_set, job)
    uv, values = read_uv({"measurement_set": measurement_set})
    return {**uv, **images}, {**values, "beam": beam, "measurement_set": measurement_set}


def observe_uv(job):
    """Simulate one pointing of an empty sky for its uv points and its beam."""
    write_empty_sky("sky.im", job)
    measurement_set = simulate(job, skymodel="sky.im")
    _, beam = image(measurement_set, job)
    uv, values = read_uv({"measurement_set": measurement_set})
    return uv, {**values, "beam": beam}


def simulate(job, **sky):
    """Run simobserve or simalma; without a seed there is no noise.

    Returns the measurement set to image.
    """
    if job.get("simulator") == "simalma":
        return simulate_alma(job, **sky)
    from casatasks import simobserve

    seed = job["seed"]
    Path("array.cfg").write_text(job["antennas"])
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


def simulate_alma(job, **sky):
    """Run simalma as D24 did. It has no seed, and knows an array by the name of its file."""
    from casatasks import simalma

    noisy = job["seed"] is not None
    name = f"{job['telescope'].lower()}.cycle0"
    Path(f"{name}.cfg").write_text(job["antennas"])
    simalma(
        project="run",
        dryrun=False,
        setpointings=True,
        direction=job["direction"],
        mapsize="0.1arcsec",
        antennalist=[f"{name}.cfg"],
        integration=f"{job['integration']!r}s",
        totaltime=f"{job['total_time']!r}s",
        hourangle=f"{job['hour_angle']!r}h",
        tpnant=0,
        tptime="0s",
        pwv=job["pwv"] if noisy else 0.0,
        image=False,
        graphics="none",
        **sky,
    )
    return f"run/run.{name}{'.noisy' if noisy else ''}.ms"


def write_sky(job, *, image):
    """Write the sky of a job into an image of zeros or as a component list.

    Returns what simobserve or the simulator's predict has to be told beside the image.
    """
    if job["empty_sky"]:
        return {}
    with np.load("inputs.npz", allow_pickle=False) as inputs:
        if "sky" in inputs:
            fill_image(image, inputs["sky"], job)
            return {"skymodel": image}
        write_components("sources.cl", inputs, job)
        return {"complist": "sources.cl"}


def write_empty_sky(name, job):
    """Write a CASA image of zeros in Jy/pixel on the grid of a job."""
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
    tool.close()


def fill_image(name, sky, job):
    """Put a ``[y, x]`` array in Jy/pixel into every channel of an image."""
    import casatools

    tool = casatools.image()
    tool.open(name)
    plane = np.ascontiguousarray(sky.T, dtype=float)[:, :, None, None]
    for channel in range(job["n_channels"]):
        tool.putchunk(plane, blc=[0, 0, 0, channel])
    tool.close()


def write_components(name, sources, job):
    """Write points, Gaussians and disks as a CASA component list."""
    import casatools

    components = casatools.componentlist()
    measures = casatools.measures()
    columns = ("flux", "ra", "dec", "major", "minor", "pa", "disk")
    rows = np.column_stack([sources[key] for key in columns]).tolist()
    for flux, ra, dec, major, minor, pa, disk in rows:
        shape = {"shape": "point"}
        if major > 0:
            shape = {
                "shape": "disk" if disk else "Gaussian",
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
    raise Refused(
        "every visibility that CASA predicted is zero or flagged; "
        "expected a source within the primary beam and above the horizon, and antennas whose "
        "primary beam CASA knows"
    )


def image(measurement_set, job):
    """Dirty image, PSF and primary beam, ``[y, x]``, and the beam (arcsec, arcsec, deg)."""
    import casatools
    from casatasks import tclean

    tclean(vis=measurement_set, **imaging(job))
    images = {name: read_image(f"out.{kind}") for name, kind in IMAGES.items()}
    tool = casatools.image()
    tool.open("out.image")
    beam = tool.restoringbeam()
    tool.close()
    quanta = casatools.quanta()
    units = {"major": "arcsec", "minor": "arcsec", "positionangle": "deg"}
    return images, [quanta.convert(beam[key], unit)["value"] for key, unit in units.items()]


def imaging(job):
    """Parameters of tclean for the dirty image of a job."""
    return {
        "imagename": "out",
        "datacolumn": "data",
        "imsize": job["image_size"],
        "cell": f"{job['cell']!r}arcsec",
        "phasecenter": job["direction"],
        "specmode": "mfs",
        "gridder": "standard",
        "weighting": job["weighting"],
        "robust": job["robust"],
        "niter": 0,
        "pblimit": PRIMARY_BEAM_FLOOR,
        "interactive": False,
    }


def read_image(name):
    """The only plane of a CASA image, ``[y, x]``."""
    import casatools

    tool = casatools.image()
    tool.open(name)
    try:
        return np.ascontiguousarray(tool.getchunk()[:, :, 0, 0].T)
    finally:
        tool.close()


def read_uv(job):
    """Points in wavelengths and weights of every unflagged cross-correlation.

    Channels are merged: each row counts once, at the mean frequency of its spectral window. With
    "values" in the job come its visibilities, the mean of what is not flagged.
    """
    import casatools

    path = job["measurement_set"]
    windows = column(path + "/DATA_DESCRIPTION", "SPECTRAL_WINDOW_ID")
    parts = []
    table = casatools.table()
    spectral = casatools.table()
    table.open(path)
    spectral.open(path + "/SPECTRAL_WINDOW")
    try:
        for number, window in enumerate(windows):
            frequency = np.mean(spectral.getcell("CHAN_FREQ", int(window)))
            rows = table.query(f"DATA_DESC_ID=={number} AND ANTENNA1!=ANTENNA2 AND NOT FLAG_ROW")
            for start in range(0, rows.nrows(), ROWS_AT_ONCE):
                part = read_rows(rows, start, with_values=job.get("values", False))
                part["uv"] = part["uv"] * frequency / SPEED_OF_LIGHT
                parts.append(part)
            rows.close()
    finally:
        table.close()
        spectral.close()
    if not sum(len(part["weights"]) for part in parts):
        raise Refused("the measurement set has no unflagged cross-correlation")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, {}


def read_rows(rows, start, *, with_values):
    """Points in metres, weights and perhaps visibilities of some rows that are not flagged."""
    used = ~rows.getcol("FLAG", start, ROWS_AT_ONCE)
    weights = used.mean(axis=(0, 1)) * rows.getcol("WEIGHT", start, ROWS_AT_ONCE).mean(axis=0)
    part = {"uv": rows.getcol("UVW", start, ROWS_AT_ONCE)[:2].T, "weights": weights}
    if with_values:
        data = np.where(used, rows.getcol("DATA", start, ROWS_AT_ONCE), 0)
        part["values"] = data.sum(axis=(0, 1)) / np.maximum(used.sum(axis=(0, 1)), 1)
    return {name: values[weights > 0] for name, values in part.items()}


def column(table_name, name):
    """One column of a CASA table."""
    import casatools

    table = casatools.table()
    table.open(table_name)
    try:
        return table.getcol(name)
    finally:
        table.close()
