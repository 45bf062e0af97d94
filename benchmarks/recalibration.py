"""How many detections a recalibration of reliabilities needs, and with how many samples it holds.

    python benchmarks/recalibration.py

Detections are drawn whose true probability is known: the chance of being in a sample has a mixture
of two beta distributions, and the chance of being true is a power of it. No network takes part.
What is left is the calibration error of many other detections, averaged over fits.
"""

import click
import numpy as np

from diffsky.evaluation import IsotonicRecalibration, reliability_diagram

SAMPLES, LEAST_SHARE, N_TEST = 20, 0.1, 50_000
POWERS = (0.6, 1.0, 1.5)  # shares that promise too little, are right, promise too much
DETECTIONS = (50, 100, 200, 400, 800, 1600)
OTHER_SAMPLES = (5, 10, 15, 30, 40, 100)


def draw(n, n_samples, power, rng):
    """Shares of samples and whether they are true, of n detections."""
    size = 3 * n
    chance = np.where(rng.random(size) < 0.6, rng.beta(0.5, 2, size), rng.beta(3, 1, size))
    true = rng.random(size) < chance**power
    share = rng.binomial(n_samples, chance) / n_samples
    listed = share >= LEAST_SHARE
    return share[listed][:n], true[listed][:n]


def error_left(recalibration, share, true):
    """Calibration error of recalibrated shares."""
    return reliability_diagram(recalibration(share), true, n_bootstrap=2).ece


@click.command()
@click.option("--fits", default=40, show_default=True, help="Fits for each number of detections.")
@click.option("--seed", default=0, show_default=True)
def main(fits, seed):
    """Print the calibration error that stays."""
    rng = np.random.default_rng(seed)
    print(f"{SAMPLES} samples, mean over {fits} fits, seed {seed}")
    print(f"{'true chance':<16}{'raw':>7}" + "".join(f"{n:>7}" for n in DETECTIONS))
    for power in POWERS:
        share, true = draw(N_TEST, SAMPLES, power, rng)
        raw = reliability_diagram(share, true, n_bootstrap=2).ece
        left = []
        for n in DETECTIONS:
            tables = [IsotonicRecalibration.fit(*draw(n, SAMPLES, power, rng)) for _ in range(fits)]
            left.append(np.mean([error_left(table, share, true) for table in tables]))
        print(f"{f'chance**{power}':<16}{raw:>7.3f}" + "".join(f"{e:>7.3f}" for e in left))
    print(f"\na table for {SAMPLES} samples, used with another number of them")
    print(f"{'true chance':<16}" + "".join(f"{n:>7}" for n in OTHER_SAMPLES))
    for power in POWERS:
        table = IsotonicRecalibration.fit(*draw(N_TEST, SAMPLES, power, rng))
        left = [error_left(table, *draw(N_TEST, n, power, rng)) for n in OTHER_SAMPLES]
        print(f"{f'chance**{power}':<16}" + "".join(f"{e:>7.3f}" for e in left))


if __name__ == "__main__":
    main()
