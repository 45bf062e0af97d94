"""The fast instrument against CASA: signal, noise, primary beam and sensitivity.

    python benchmarks/instrument.py --figures docs/_static

Everything of the instrument comes from antenna positions and weather (instrument_from_setup);
CASA simulates and images the same skies. Needs the extra casa, and some minutes of it.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import click
import numpy as np
import torch
from astropy.coordinates import SkyCoord

from diffsky.instrument import image_visibilities, instrument_from_setup
from diffsky.simulation import (
    PRIORS,
    ObservationSetup,
    observe_uv,
    read_visibilities,
    render_sources,
    simulate_observation,
)

RIGHT_ASCENSION = 150.119  # deg
PIXEL = 0.1  # arcsec
PWV = (0.472, 0.658, 0.913, 1.262, 1.796, 2.748, 5.186)  # mm
ANNULI = 10
APODIZED = (14.0, 18.5)  # arcsec: where the noise spectra's window falls
FAINTEST = 1e-12  # Jy; CASA refuses a sky without any flux
TWO_PANELS = {"figsize": (5.5, 4.8), "sharex": True, "layout": "constrained"}


def setup_at(declination, **options):
    """The default observation, at another declination."""
    direction = SkyCoord(RIGHT_ASCENSION * u.deg, declination * u.deg)
    return ObservationSetup(direction=direction, **options)


def draw_sky(seed, size):
    """A sky of the prior ``independent`` in Jy/pix."""
    sources = PRIORS["independent"].draw(np.random.default_rng(seed))
    return render_sources(sources, [0] * len(sources), 1, (size, size), pixel=PIXEL)[0]


def noise_visibilities(setup, seed):
    """CASA's noise: its image, and its visibilities."""
    sky = np.zeros((setup.image_size,) * 2)
    sky[setup.image_size // 2, setup.image_size // 2] = FAINTEST
    with tempfile.TemporaryDirectory() as folder:
        observed = simulate_observation(
            sky, setup, seed=seed, work_dir=folder, keep_measurement_set=True
        )
        return observed.dirty.data, read_visibilities(observed.measurement_set)


def measure_residual(declination, seeds):
    """Noise-free residual of each sky in per cent of the noise rms: rms and largest."""
    setup = setup_at(declination)
    instrument = instrument_from_setup(setup)
    rows, shown = [], None
    for seed in seeds:
        sky = draw_sky(seed, setup.image_size)
        casa = simulate_observation(sky.numpy(), setup, seed=0, noise=False).dirty.data
        ours = instrument.forward(sky).numpy()
        difference = 100 * (ours - casa) / instrument.rms
        rows.append((np.nanstd(difference), np.nanmax(np.abs(difference))))
        shown = shown or (casa / instrument.rms, ours / instrument.rms, difference)
    rms, largest = np.transpose(rows)
    print(
        f"declination {declination:+6.1f} deg, {len(rms)} skies, noise-free residual: "
        f"{rms.mean():.3f} % of the noise rms (worst sky {rms.max():.3f} %, "
        f"worst pixel {largest.max():.2f} %)",
        flush=True,
    )
    return shown


def measure_uv(declination):
    """How far our uv points are from CASA's."""
    from diffsky.instrument import read_array, uv_tracks

    setup = setup_at(declination)
    names = ("direction", "frequency", "total_time", "integration", "hour_angle")
    own = uv_tracks(read_array(setup.array), **{name: getattr(setup, name) for name in names})
    casa = observe_uv(setup).uv
    far = "other rows flagged"
    if len(casa) == len(own.uv):
        far = f"largest distance {np.abs(own.uv - casa).max():.2f} wavelengths"
    longest = np.hypot(*casa.T).max()
    print(
        f"declination {declination:+6.1f} deg, uv points: {len(own.uv)}, CASA {len(casa)}, longest "
        f"{longest:.0f} wavelengths, {far}"
    )


def windowed_power(image, n):
    """Power of the middle of an image, on the half plane of a grid of n x n cells."""
    y, x = (np.indices(image.shape) - len(image) // 2) * PIXEL
    low, high = APODIZED
    fall = np.clip((np.hypot(x, y) - low) / (high - low), 0, 1)
    window = 0.5 * (1 + np.cos(np.pi * fall))
    return np.abs(np.fft.rfft2(np.nan_to_num(image) * window, s=(n, n))) ** 2


def equal_annuli(radius, measured):
    """Number of the annulus of each cell, the measured cells shared out evenly."""
    inside = np.sort(radius[measured])
    edges = inside[np.linspace(0, len(inside) - 1, ANNULI + 1).astype(int)]
    edges[0], edges[-1] = 0, np.nextafter(edges[-1], np.inf)
    return np.digitize(radius, edges) - 1


def measure_noise(declination, seeds):
    """CASA's noise on our grid: images that correlate, and the power in ten annuli."""
    setup = setup_at(declination)
    instrument = instrument_from_setup(setup)
    n, size = instrument.grid_size, setup.image_size
    middle = slice(n // 2 - size // 2, n // 2 + size // 2)
    expected = instrument.noise_weights.double().numpy()
    whole = 2 * expected.sum() - expected[:, [0, -1]].sum()  # of the full plane
    expected = expected * instrument.rms**2 / whole
    frequencies = np.fft.fftfreq(n, PIXEL)[:, None], np.fft.rfftfreq(n, PIXEL)[None]
    annulus = equal_annuli(np.hypot(*frequencies), expected > 0)
    rows, power, theirs, ours = [], 0, 0, 0
    for seed in seeds:
        image, noise = noise_visibilities(setup, seed)
        whole_grid = image_visibilities(noise.uv, noise.values, pixel_scale=PIXEL, image_size=n)
        gridded = whole_grid[middle, middle]
        known = np.isfinite(image)
        alike = np.corrcoef(gridded[known], image[known])[0, 1]
        rows.append((alike, gridded[known].std() / image[known].std()))
        power = power + np.abs(np.fft.rfft2(whole_grid) / n**2) ** 2 / len(seeds)
        theirs, ours = theirs + windowed_power(image, n), ours + windowed_power(gridded, n)
    sums = [
        np.array([p[annulus == k].sum() for k in range(ANNULI)])
        for p in (power, expected, theirs, ours, np.hypot(*frequencies) * (expected > 0))
    ]
    counts = np.array([(expected[annulus == k] > 0).sum() for k in range(ANNULI)])
    alike, ratio = np.transpose(rows)
    title = f"declination {declination:+6.1f} deg, CASA's noise"
    print(
        f"{title}, {len(rows)} images, on our grid: correlation {alike.min():.4f} or more, rms "
        f"{ratio.min():.4f} to {ratio.max():.4f} of CASA's"
    )
    visibilities, images = sums[0] / sums[1], sums[2] / sums[3]
    ratios = " ".join(f"{r:.3f}" for r in visibilities)
    print(f"{title}, power over ours in {ANNULI} annuli: {ratios}")
    print(f"{title}, images over our grid: {' '.join(f'{r:.3f}' for r in images)}", flush=True)
    return sums[4] / counts, sums[0] / counts, sums[1] / counts, visibilities, images


def measure_primary_beam(name, array, cell):
    """Largest difference of the primary beams where CASA's is above 0.01."""
    setup = setup_at(2.2, array=array, cell=cell * u.arcsec, total_time=60 * u.s)
    sky = np.zeros((setup.image_size,) * 2)
    sky[setup.image_size // 2, setup.image_size // 2] = 1
    theirs = simulate_observation(sky, setup, seed=0, noise=False).primary_beam.data
    ours = instrument_from_setup(setup).primary_beam.numpy()
    far = np.abs(ours - theirs)
    print(
        f"primary beam of {name}: largest difference {far[theirs > 0.2].max():.5f} where it is "
        f"above 0.2, {far.max():.4f} anywhere",
        flush=True,
    )


def measure_rms(declination, seed):
    """Image rms of ours and CASA's, by precipitable water vapour."""
    rows = []
    for pwv in PWV:
        setup = replace(setup_at(declination), pwv=pwv * u.mm)
        image, noise = noise_visibilities(setup, seed)
        data = noise.values
        expected = data.view(float).std() / np.sqrt(len(data))  # what images average to
        rows.append((instrument_from_setup(setup).rms, expected, np.nanstd(image)))
        ours, theirs, one = np.multiply(rows[-1], 1e6)
        print(
            f"declination {declination:+6.1f} deg, PWV {pwv:.3f} mm: rms {ours:.2f} uJy/beam, of "
            f"CASA's visibilities {theirs:.2f} ({100 * (ours / theirs - 1):+.2f} %), of one image "
            f"{one:.2f}",
            flush=True,
        )
    return np.array(rows)


def draw_residual(shown, path):
    """The first sky: CASA, ours, and the difference."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    titles = ("CASA (noise rms)", "diffsky (noise rms)", "difference (% of the noise rms)")
    for axis, image, title in zip(axes, shown, titles, strict=True):
        limit = np.nanmax(np.abs(image))
        half = 0.5 * PIXEL * len(image)
        extent = (half, -half, -half, half)
        shown_image = axis.imshow(
            image, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit, extent=extent
        )
        figure.colorbar(shown_image, ax=axis, shrink=0.8)
        axis.set(title=title, xlabel="offset (arcsec)")
    figure.savefig(path, dpi=120)


def draw_spectrum(spectrum, path):
    """Noise power by spatial frequency."""
    import matplotlib.pyplot as plt

    radius, theirs, ours, noise, images = spectrum
    figure, (top, bottom) = plt.subplots(2, 1, **TWO_PANELS)
    scale = np.max(ours)
    top.semilogy(radius, ours / scale, "-", label="diffsky")
    top.semilogy(radius, theirs / scale, "o", label="CASA")
    top.set(ylabel="noise power")
    top.legend()
    bottom.axhspan(0.95, 1.05, color="0.9")
    bottom.plot(radius, noise, "o", color="C1", label="visibilities")
    bottom.plot(radius, images, "x", color="C2", label="images of the same noise")
    bottom.set(xlabel="cycles per arcsec", ylabel="CASA / diffsky", ylim=(0.9, 1.1))
    bottom.legend()
    figure.savefig(path, dpi=120)


def draw_rms(rms, path):
    """Noise rms by precipitable water vapour."""
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, **TWO_PANELS)
    bottom.axhspan(-3, 3, color="0.9")
    for number, (declination, rows) in enumerate(rms.items()):
        ours, theirs, _ = rows.T
        label = f"{declination:+g} deg"
        top.plot(PWV, 1e6 * ours, "-", color=f"C{number}", label=f"diffsky, {label}")
        top.plot(PWV, 1e6 * theirs, "o", color=f"C{number}", label=f"CASA, {label}")
        bottom.plot(PWV, 100 * (ours / theirs - 1), "o-", color=f"C{number}")
    top.set(ylabel="rms (µJy/beam)")
    top.legend()
    bottom.set(xlabel="precipitable water vapour (mm)", ylabel="difference (%)", ylim=(-5, 5))
    figure.savefig(path, dpi=120)


@click.command()
@click.option("--skies", default=10, show_default=True, help="Skies for each declination.")
@click.option("--declinations", default="-40,2.2,20", show_default=True, help="deg.")
@click.option("--noise-images", default=20, show_default=True, help="At the first declination.")
@click.option("--figures", type=click.Path(path_type=Path), help="Folder to draw figures into.")
def main(skies, declinations, noise_images, figures):
    """Print how far the instrument is from CASA."""
    declinations = [float(word) for word in declinations.split(",")]
    torch.set_grad_enabled(False)
    for declination in declinations:
        measure_uv(declination)
    shown = [measure_residual(d, range(skies)) for d in declinations]
    spectrum, *_ = [
        measure_noise(d, range(1, (noise_images if d == declinations[0] else 2) + 1))
        for d in declinations
    ]
    measure_primary_beam("ALMA", "alma.cycle5.3", 0.1)
    measure_primary_beam("ACA", "aca.cycle5", 0.25)
    rms = {d: measure_rms(d, seed=2) for d in declinations[:2]}
    if figures:
        import matplotlib as mpl

        mpl.use("Agg")
        figures.mkdir(parents=True, exist_ok=True)
        draw_residual(shown[0], figures / "instrument_residual.png")
        draw_spectrum(spectrum, figures / "instrument_spectrum.png")
        draw_rms(rms, figures / "instrument_rms.png")


if __name__ == "__main__":
    main()
