"""What a CASA process does for `diffsky.evaluation.clean` and `clean_image`.

Both tasks work in the folder of their job and return arrays and plain values. The file is loaded
by `diffsky.simulation._casa_worker`, whose folder is on the path.
"""

import numpy as np
from _casa_tasks import read_image

MOST_CYCLES = 10
NAMES = ("image", "residual", "model", "mask")


def clean(job):
    """Major and minor cycles on a measurement set (tclean)."""
    from casatasks import tclean

    record = tclean(
        imagename="clean",
        specmode="mfs",
        gridder="standard",
        interactive=False,
        **job["parameters"],
    )
    arrays = {name: read_image(f"clean.{name}") for name in (*NAMES, "pb")}
    return arrays, {
        "beam": read_beam("clean.image"),
        "iterations": int(record["iterdone"]),
        "cycles": int(record["nmajordone"]),
        "stop_code": int(record["stopcode"]),
    }


def clean_image(job):
    """Minor cycles on a dirty image and its PSF (deconvolve), a new mask for each."""
    from casatasks import deconvolve

    with np.load("inputs.npz", allow_pickle=False) as inputs:
        valid = inputs["valid"]
        write_plane("clean.psf", inputs["psf"], valid=np.ones_like(valid), cell=job["cell"])
        write_plane("clean.pb", inputs["primary_beam"], valid=valid, cell=job["cell"])
        write_plane("clean.residual", inputs["dirty"], valid=valid, cell=job["cell"])
    parameters = dict(job["parameters"])
    left = parameters.pop("niter")
    cycles, done = 0, 1
    while done and left > 0 and cycles < MOST_CYCLES:
        record = deconvolve(imagename="clean", interactive=False, niter=left, **parameters)
        done = int(record["iterdone"])
        left, cycles = left - done, cycles + 1
    arrays = {name: read_image(f"clean.{name}") for name in NAMES}
    return arrays, {
        "iterations": job["parameters"]["niter"] - left,
        "cycles": cycles,
        "stop_code": int(record["stopcode"]),
    }


def read_beam(name):
    """Beam of a CASA image: major, minor (arcsec), position angle (deg)."""
    import casatools

    tool = casatools.image()
    tool.open(name)
    beam = tool.restoringbeam()
    tool.close()
    convert = casatools.quanta().convert
    units = {"major": "arcsec", "minor": "arcsec", "positionangle": "deg"}
    return [float(convert(beam[key], unit)["value"]) for key, unit in units.items()]


def write_plane(name, pixels, *, valid, cell):
    """Write a ``[y, x]`` array as a CASA image of one plane with a pixel mask; cell in arcsec."""
    import casatools

    tool = casatools.image()
    height, width = pixels.shape
    tool.fromshape(name, [width, height, 1, 1])
    system = tool.coordsys()
    system.setunits(["rad", "rad", "", "Hz"])
    step = np.deg2rad(cell / 3600)
    system.setreferencevalue([0.0, 0.0], type="direction")
    system.setreferencepixel([width // 2, height // 2], "direction")
    system.setincrement([-step, step], "direction")
    tool.setcoordsys(system.torecord())
    tool.setbrightnessunit("Jy/beam")
    tool.putchunk(np.ascontiguousarray(pixels.T, dtype=float)[:, :, None, None])
    # CASA refuses images without a mask here, even where every pixel is valid.
    tool.putregion(pixelmask=np.ascontiguousarray(valid.T)[:, :, None, None])
    tool.close()
