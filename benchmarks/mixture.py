"""Whether reliabilities, intervals and samples hold for all skies of the training.

    python benchmarks/mixture.py

The priors of the weights' last training with the shares they have there, in units of the noise and
the beam of the fast instrument, without a PSF for the bright ones; beside them the fast fields of
``results.py``, whose sources are those of the protocol `independent`. Thresholds and recalibration
are those of its validation fields, of the protocol too. Errors are bootstrap standard deviations
over fields.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from estimates import Bootstrap, Scores
from evaluated import FastFields, Weights, evaluate, shared_options
from fields import FAST, N_POINTINGS, VALIDATION, fast_telescope
from reliability_figures import DITHER
from results import MAIN, check_intervals, check_reliability, choose_thresholds
from targets import Targets

from diffsky.evaluation import tarp_curve
from diffsky.exceptions import DiffskyWarning
from diffsky.simulation import Prior

SEED = 9008
_CHOICE = 4  # stream of a field beside those of its sky and noise


@dataclass(frozen=True)
class MixtureFields:
    """Fields whose priors are drawn with their shares; priors as JSON."""

    seed: int
    priors: str
    group: str = ""

    def pair(self, number):
        """One field."""
        priors = json.loads(self.priors)
        shares = np.array([one.pop("share") for one in priors])
        rng = np.random.default_rng([self.seed, _CHOICE, number])
        prior = Prior.from_dict(priors[rng.choice(len(priors), p=shares / shares.sum())])
        telescope = fast_telescope(self.seed, number % N_POINTINGS)
        return telescope.pair(self.seed, number, prior=prior)


def check_posterior(results, targets):
    """TARP, and what the samples hold over the truth."""
    for name, dither in DITHER.items():
        there = [one for one in results if name in one.posterior]
        truth, samples = (np.stack([one.posterior[name][i] for one in there]) for i in (0, 1))
        curve = tarp_curve(truth, samples, dither=dither)
        boot = Bootstrap(len(there))
        sums = (one.reshape(len(there), -1).mean(axis=1) for one in (samples, truth))
        targets.check(f"{name}: samples over truth", boot.ratio(*sums))
        print(f"    largest distance of the TARP curve {curve.distance:.3f}, p {curve.p_value:.3f}")


def report(results, known, thresholds, targets):
    """All of it for one set of fields."""
    boot = Bootstrap(len(results))
    for method in MAIN:
        one = Scores(results, method, thresholds[method], boot)
        print(f"  {method}: purity {one.purity}, completeness {one.completeness}, F1 {one.f1}")
    check_reliability(results, known, boot, targets)
    check_intervals(results, known, thresholds, boot, targets)
    check_posterior(results, targets)


@click.command()
@shared_options
@click.option("--fields", default=250, show_default=True, help="Fields of the mixture.")
@click.option("--fast", default=500, show_default=True, help="Fields of the protocol.")
@click.option("--validation", default=280, show_default=True, help="Fields for thresholds.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(weights, samples, sampler, steps, processes, store, fields, fast, validation, record):
    """Print the figures of both kinds of skies."""
    warnings.simplefilter("ignore", DiffskyWarning)  # bright skies without their PSF
    weights, targets = Weights(weights, samples, sampler, steps), Targets()
    folder = weights.folder(store)
    print(f"{weights.title()}\nthresholds, from {validation} fast fields of seed {VALIDATION}")
    protocol = [FastFields(VALIDATION)], range(validation), folder / "validation"
    known = evaluate(weights, *protocol, processes=processes)
    thresholds = choose_thresholds(known)
    priors = json.dumps(weights.load().description_["training"]["pairs"]["priors"])
    mixture = [MixtureFields(SEED, priors)], range(fields), folder / "mixture"
    tests = [FastFields(FAST)], range(fast), folder / "fast"
    for name, order in {"training mixture": mixture, "independent": tests}.items():
        results = evaluate(weights, *order, processes=processes)
        print(f"\n{name}: {len(results)} fields of seed {order[0][0].seed}")
        report(results, known, thresholds, targets.section(name))
    if record is not None:
        record.write_text(json.dumps(targets.rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
