"""Two sources closer than two beams: which are told apart, and the flux of each (D24 appendix A).

    python benchmarks/close_pairs.py

Fields of the fast instrument with four pairs of points of S/N 10 each, far from one another. The
thresholds are those that ``results.py`` prints for the default weights, from validation fields
whose skies are of another kind: these pairs are in no training in such numbers. Errors are those of
`diffsky.evaluation`, binomial ones for shares and those of a median for fluxes.
"""

from dataclasses import dataclass

import click
from evaluated import Weights, evaluate, shared_options
from fields import N_POINTINGS, fast_telescope
from results import FILTER, MAIN

from diffsky.evaluation import close_pairs, pool_fields
from diffsky.simulation import SourceList, close_pair_skies

SEED, SNR = 9010, 10.0
THRESHOLDS = (0.30, 0.45, 4.25)
COLUMNS = (
    f"{'beams':>12}{'pairs':>7}{'told apart':>22}{'brighter':>16}{'fainter':>16}{'as one':>14}"
)


@dataclass(frozen=True)
class GivenSky:
    """What `Telescope.pair` asks for its sources, in noise rms and beams."""

    sources: SourceList
    relative: bool = True

    def draw(self, rng):
        """The sky, whatever the stream."""
        return self.sources


@dataclass(frozen=True)
class PairFields:
    """Fields of close pairs."""

    seed: int
    snr: float
    group: str = ""

    def pair(self, number):
        """One field."""
        sky = close_pair_skies(number + 1, seed=self.seed, snr=(self.snr, self.snr))[number]
        telescope = fast_telescope(self.seed, number % N_POINTINGS)
        return telescope.pair(self.seed, number, prior=GivenSky(sky))


def print_pairs(results, method, threshold):
    """One table."""
    print(f"\n{method}, from {threshold:.2f} on\n{COLUMNS}")
    for row in close_pairs(pool_fields(results, method, radius=0.5, threshold=threshold)):
        beams = f"{row['separation_low']:.2f} to {row['separation_high']:.2f}"
        apart = f"{row['told_apart']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})"
        fluxes = [f"{row[name]:.2f} ±{row[f'{name}_err']:.2f}" for name in ("brighter", "fainter")]
        merged = f"{row['merged']:.2f} ({row['n_merged']})"
        print(f"{beams:>12}{row['n']:>7}{apart:>22}{fluxes[0]:>16}{fluxes[1]:>16}{merged:>14}")


@click.command()
@shared_options
@click.option("--fields", default=60, show_default=True, help="Fields of four pairs.")
@click.option("--thresholds", nargs=3, default=THRESHOLDS, show_default=True,
              help="Of the median, detect-aggregate and the matched filter.")  # fmt: skip
def main(weights, samples, sampler, steps, processes, store, fields, thresholds):
    """Print the table of each method."""
    weights = Weights(weights, samples, sampler, steps)
    folder = weights.folder(store)
    print(weights.title())
    results = evaluate(
        weights, [PairFields(SEED, SNR)], range(fields), folder / "close-pairs",
        processes=processes,
    )  # fmt: skip
    n_pairs = 4 * len(results)
    print(f"\n{len(results)} fields of seed {SEED}, {n_pairs} pairs of points of S/N {SNR:g}")
    for method, threshold in zip((*MAIN, FILTER), thresholds, strict=True):
        print_pairs(results, method, threshold)


if __name__ == "__main__":
    main()
