"""The figure of the guide to sky priors: one sky of each, and their counts.

python benchmarks/priors.py docs/_static/priors.png
"""

import click
import numpy as np

from diffsky.simulation import PRIORS, SourceList, render_sources

RMS, BEAM = 48e-6, 0.854  # Jy/beam and arcsec, for the prior in Jy and arcsec
FIELD, PIXELS_PER_BEAM, KERNEL = 128, 4.25, 0.4
SKIES = 2000
# FWHM over axis of the Gaussian with the second moments of a point, Gaussian, disk, ring.
WIDTHS = np.array([0, 1, 0.5887, 0.8326])


def draw(name, n, seed):
    """Skies of a prior in rms and beams, whole in the field."""
    prior = PRIORS[name].in_units_of(RMS, BEAM)
    within = (FIELD - 1) // 2 / PIXELS_PER_BEAM
    streams = (np.random.default_rng([seed, k]) for k in range(n))
    return [prior.draw(rng, within=within, kernel_fwhm=KERNEL) for rng in streams]


def show_sky(ax, name, seed):
    """Show the square root of one sky, between 0 and 20 rms per beam."""
    sources = draw(name, 1, seed)[0]
    sky = render_sources(
        sources,
        np.zeros(len(sources), dtype=int),
        1,
        (FIELD, FIELD),
        pixel=1 / PIXELS_PER_BEAM,
        kernel_fwhm=KERNEL * PIXELS_PER_BEAM,
    )[0]
    half = FIELD / 2 / PIXELS_PER_BEAM
    extent = (half, -half, -half, half)
    ax.imshow(sky.sqrt(), origin="lower", extent=extent, cmap="inferno", vmin=0, vmax=1)
    ax.set(title=f"{name}, {len(sources)} sources", xlabel="beams")


def show_counts(ax, names, seed):
    """Show the mean number of sources in a field brighter than a peak, in rms."""
    for name in names:
        sources = SourceList.join(draw(name, SKIES, seed))
        width = WIDTHS[sources.shape]
        area = np.sqrt((1 + (width * sources.major) ** 2) * (1 + (width * sources.minor) ** 2))
        peaks = np.sort(sources.flux / area)[::-1]
        ax.loglog(peaks, np.arange(1, len(peaks) + 1) / SKIES, label=name)
        for limit in (2, 5, 50):
            print(f"{name}: {np.mean(peaks > limit) * len(peaks) / SKIES:.2f} above {limit} rms")
    ax.set(xlabel="peak / rms", title="sources brighter, in a field", ylim=(1e-3, None))
    ax.legend(frameon=False, loc="upper right")


@click.command()
@click.argument("path", type=click.Path())
@click.option("--seed", default=41, show_default=True)
def main(path, seed):
    """Write the figure to PATH."""
    import matplotlib.pyplot as plt

    names = ("independent", "wide", "general")
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
    for ax, name in zip(axes, names, strict=False):
        show_sky(ax, name, seed)
    show_counts(axes[3], names, seed)
    figure.savefig(path, dpi=90)
    print(f"seed {seed}, {SKIES} skies for the counts: {path}")


if __name__ == "__main__":
    main()
