"""The published pairs of D24 made again with CASA: what their dirty images are.

    DIFFSKY_DATA=... python benchmarks/published.py --figure docs/_static/published.png

DIFFSKY_DATA names the folder that holds ``d24`` in the authors' layout. Each pair is simulated by
simalma with its 240 channels and its only seed. The visibilities are imaged twice: by tclean, and
by the inverse transform of the nearest uv cells, channels averaged (image_visibilities). Every
pair takes some minutes and 6 GB of disk, and gives them back.
"""

import os
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from diffsky.instrument import image_visibilities
from diffsky.simulation import (
    ObservationSetup,
    read_drozdova2024,
    read_visibilities,
    simulate_pair,
)

TIMEOUT = 7200  # s
INNER, OUTER = 8.0, 14.0  # arcsec: the middle of the field and its edge
WAYS = ("tclean", "nearest cells")


def remake(pair, channels):
    """Dirty images of a published pair by name of the way, and the seconds that CASA took."""
    direction = pair.dirty.wcs.pixel_to_world(256, 256)
    setup = ObservationSetup.drozdova2024(direction)
    if channels != setup.n_channels:
        setup = ObservationSetup(
            direction=direction, n_channels=channels, bandwidth=setup.bandwidth
        )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="diffsky-published-") as folder:
        made = simulate_pair(
            pair.sources,
            setup,
            seed="casa-default",
            simulator="simalma",
            timeout=TIMEOUT,
            work_dir=folder,
            keep_measurement_set=True,
        )
        seconds = time.perf_counter() - start
        read = read_visibilities(made.measurement_set, timeout=TIMEOUT)
    own = image_visibilities(read.uv, read.values, pixel_scale=0.1, image_size=len(made.dirty.data))
    return dict(zip(WAYS, (made.dirty.data, own), strict=True)), seconds


def compare(published, image):
    """Correlations (all, middle, edge), ratio of the rms, and rms of the difference."""
    y, x = (np.indices(published.shape) - len(published) // 2) * 0.1
    radius, known = np.hypot(x, y), np.isfinite(published) & np.isfinite(image)
    parts = [known, known & (radius < INNER), known & (radius > OUTER)]
    alike = [np.corrcoef(published[part], image[part])[0, 1] for part in parts]
    ratio = published[known].std() / image[known].std()
    return alike, ratio, (published - image)[known].std()


def draw(published, images, path):
    """The published image of one pair, the one made again, and what each way leaves of it."""
    import matplotlib.pyplot as plt

    again = np.where(np.isfinite(published), images[WAYS[1]], np.nan)
    panels = {"published": published, f"made again, {WAYS[1]}": again}
    panels |= {f"published - {way}": published - image for way, image in images.items()}
    figure, axes = plt.subplots(1, len(panels), figsize=(13.5, 3.3), layout="constrained")
    half = 0.05 * len(published)
    for axis, (title, image) in zip(axes, panels.items(), strict=True):
        shown = axis.imshow(
            1e6 * image,
            origin="lower",
            cmap="RdBu_r",
            vmin=-200,
            vmax=200,
            extent=(half, -half, -half, half),
        )
        axis.set(title=title, xlabel="offset (arcsec)")
    figure.colorbar(shown, ax=axes, shrink=0.8, label="µJy/beam")
    figure.savefig(path, dpi=120)


@click.command()
@click.option("--pairs", default=4, show_default=True, help="How many of them.")
@click.option("--channels", default=240, show_default=True, help="Fewer make other noise.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the first pair to this file.")
def main(pairs, channels, figure):
    """Print how well each way agrees with the published image."""
    folder = Path(os.environ["DIFFSKY_DATA"], "d24")
    known = {}
    for number, pair in zip(range(pairs), read_drozdova2024(folder), strict=False):
        images, seconds = remake(pair, channels)
        published = pair.dirty.data
        print(f"{pair.key}: {len(pair.sources)} sources, CASA {seconds:.0f} s", flush=True)
        for way, image in images.items():
            (all_, inner, outer), ratio, left = compare(published, image)
            print(
                f"  {way:13s} correlation {all_:.4f} (within {INNER:g} arcsec {inner:.4f}, beyond "
                f"{OUTER:g} {outer:.4f}), published rms {np.nanstd(published) * 1e6:.1f} µJy/beam, "
                f"over its own {ratio:.4f}, rms of the difference {left * 1e6:.1f}",
                flush=True,
            )
        if figure and not number:
            import matplotlib as mpl

            mpl.use("Agg")
            figure.parent.mkdir(parents=True, exist_ok=True)
            draw(published, images, figure)
        known[pair.key] = published
    keys = list(known)
    for first, second in zip(keys, keys[1:], strict=False):
        alike, _, _ = compare(known[first], known[second])
        print(f"published {first} and {second}, noise beyond {OUTER:g} arcsec: {alike[2]:.3f}")


if __name__ == "__main__":
    main()
