"""Small observations by CASA, and the processes that make them."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import astropy.units as u
import numpy as np
import psutil
import pytest

from diffsky.simulation.setup import ObservationSetup

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("casatools", "casatasks", "casadata", "six")
needs_casa = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES),
    reason="CASA is not installed",
)
# One integration; the image holds the primary beam down to the limit.
SMALL = ObservationSetup(
    image_size=64,
    cell=0.2 * u.arcsec,
    total_time=1 * u.min,
    integration=60 * u.s,
    pblimit=0.9,
)


def point_sky(setup, x=None, y=None, flux=1.0):
    """An image of one point."""
    sky = np.zeros((setup.image_size, setup.image_size))
    middle = setup.image_size // 2
    sky[middle if y is None else y, middle if x is None else x] = flux
    return sky


def run_python(code, **options):
    """Run code in a Python process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], env=environment(options), capture_output=True, text=True
    )


def start_python(code, **options):
    """Start code in a Python process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(options):
    """That of this process and the package under test."""
    paths = [str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **options}


def processes_in(folder):
    """Processes at work in a folder or below."""
    found = []
    for process in psutil.process_iter():
        try:
            place = process.cwd().removesuffix(" (deleted)")
        except psutil.Error:
            continue
        if Path(place).is_relative_to(folder):
            found.append(process)
    return found


def wait_for(condition, *, limit=300):
    """Wait until a condition holds; whether it did."""
    until = time.monotonic() + limit
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(condition())
