"""Make the bundled table of the atmosphere above ALMA with CASA's ATM library.

The profile is the one that CASA's simulator takes for ``tsys-atm``. The table holds, by frequency,
the opacities of dry air and of 1 mm of water at the zenith, and the temperature of air that emits
as the whole atmosphere does, for a few amounts of water and air masses.

    python examples/make_atmosphere.py diffsky/data/atmosphere/chajnantor.npz
"""

from pathlib import Path

import click
import numpy as np

LOWEST, HIGHEST, STEP = 35.0, 950.0, 0.25  # GHz
PWV = (0.3, 1.0, 3.0, 6.0)  # mm
AIRMASS = (1.0, 2.0, 6.0)
BACKGROUND = 2.73  # K
KELVIN_PER_GHZ = 0.04799274551


def quantity(value, unit):
    return {"value": value, "unit": unit}


def atmosphere_tool():
    """CASA's tool with the simulator's profile and all frequencies."""
    import casaconfig.config as config
    import casadata

    config.datapath = [casadata.datapath]
    config.measurespath = casadata.datapath
    config.measures_auto_update = config.data_auto_update = False
    config.nologfile = config.nologger = True
    import casatools

    tool = casatools.atmosphere()
    tool.initAtmProfile(
        altitude=quantity(5000.0, "m"),
        temperature=quantity(270.0, "K"),
        pressure=quantity(560.0, "mbar"),
        maxAltitude=quantity(48.0, "km"),
        humidity=20.0,
        dTem_dh=quantity(-5.6, "K/km"),
        dP=quantity(10.0, "mbar"),
        dPm=1.2,
        h0=quantity(2.0, "km"),
        atmType=1,
    )
    count = round((HIGHEST - LOWEST) / STEP) + 1
    centre = (LOWEST + HIGHEST) / 2
    tool.initSpectralWindow(
        1, quantity(centre, "GHz"), quantity(count * STEP, "GHz"), quantity(STEP, "GHz")
    )
    return tool, LOWEST + STEP * np.arange(count)


def air_temperature(tool, frequency, dry, wet, pwv, airmass):
    """Temperature of air that emits what the sky does, background apart."""
    tool.setUserWH2O(quantity(pwv, "mm"))
    tool.setAirMass(airmass)
    sky = np.array(tool.getTebbSkySpec(0, quantity(pwv, "mm"))[1]["value"])
    tau = airmass * (dry + pwv * wet)
    x = KELVIN_PER_GHZ * frequency
    emitted = 1 / np.expm1(x / sky) - np.exp(-tau) / np.expm1(x / BACKGROUND)
    return x / np.log1p(-np.expm1(-tau) / emitted)


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
def main(output):
    """Write the table to OUTPUT (.npz)."""
    tool, frequency = atmosphere_tool()
    tool.setUserWH2O(quantity(1.0, "mm"))
    dry = np.array(tool.getDryOpacitySpec(0)[1])
    wet = np.array(tool.getWetOpacitySpec(0)[1]["value"])
    air = [
        [air_temperature(tool, frequency, dry, wet, pwv, airmass) for airmass in AIRMASS]
        for pwv in PWV
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        output,
        frequency=frequency,
        pwv=np.array(PWV),
        airmass=np.array(AIRMASS),
        dry=dry.astype(np.float32),
        wet=wet.astype(np.float32),
        air=np.array(air, dtype=np.float16),
    )
    click.echo(f"{len(frequency)} frequencies, {output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
