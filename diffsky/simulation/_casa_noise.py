"""What a CASA process does to get the noise of visibilities; see `_casa_worker`."""

import shutil
from pathlib import Path

import numpy as np
from _casa_pairs import MEASUREMENT_SET, add_noise
from _casa_tasks import NOISE_FREE, ROWS_AT_ONCE, image, simulate, write_empty_sky

SKY_SIZE = 32  # pixels of a sky that is empty


def observe_noise(job):
    """Observe nothing: the noise of every row and group of channels, and its image if asked for."""
    write_empty_sky("sky.im", {**job, "image_size": SKY_SIZE})
    simulate({**job, "seed": None}, skymodel="sky.im")
    shutil.move(NOISE_FREE, MEASUREMENT_SET)
    add_noise(job)
    arrays = read_noise(MEASUREMENT_SET, job["n_groups"])
    if not job["imaged"]:
        return arrays, {}
    images, beam = image(MEASUREMENT_SET, job)
    return {**arrays, "dirty": images["dirty"]}, {"beam": beam}


def read_noise(path, n_groups):
    """Visibilities of all cross-correlations, both polarisations and channels of a group merged.

    Rows are in the order of the measurement set, those that are flagged among them.
    """
    import casatools

    table, spectral = casatools.table(), casatools.table()
    table.open(str(path))
    spectral.open(str(Path(path) / "SPECTRAL_WINDOW"))
    try:
        frequencies = spectral.getcell("CHAN_FREQ", 0)
        rows = table.query("ANTENNA1!=ANTENNA2", sortlist="TIME,ANTENNA1,ANTENNA2")
        parts = []
        for start in range(0, rows.nrows(), ROWS_AT_ONCE):
            data = rows.getcol("DATA", start, ROWS_AT_ONCE).mean(axis=0)
            grouped = data.reshape(n_groups, -1, data.shape[-1]).mean(axis=1)
            parts.append(grouped.astype(np.complex64))
        rows.close()
    finally:
        table.close()
        spectral.close()
    return {
        "values": np.concatenate(parts, axis=1),
        "frequencies": frequencies.reshape(n_groups, -1).mean(axis=1),
    }
