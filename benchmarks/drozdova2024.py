"""The tables of D24 under its protocol, and what the same weights do with noise of its own.

    python examples/train_shared_noise.py run noise.npz --warm-start alma-band6 --field-size 240
    python benchmarks/drozdova2024.py noise.npz --trained run/shared-noise --figures FOLDER

NOISE is what `diffsky.simulation.SharedNoise.write` wrote. ``--trained`` names weights that were
trained under the protocol, one for each root and kind of network; the explanation is about the
first of them. ``--weights`` are those that they are compared with, trained on independent noise.
Where tables of D24 are repeated, sources are looked for and counted as there (photutils with its
parameters, reliability 0.3 or more, any detection within 0.18 arcsec of any source), elsewhere one
to one. Published pairs are those of ``--data``, in the layout of their authors.

Errors are bootstrap standard deviations over fields. All fields of shared noise have one noise, so
these errors are about other skies with the same noise. Fields that are evaluated are kept
(``--store``), so the same command goes on where it was interrupted.
"""

import json
from dataclasses import replace
from pathlib import Path

import click
import printed
from counted import Counted
from drozdova2024_explained import (
    AS_D24,
    DEFAULT,
    FRESH,
    IMAGED,
    LESS,
    PUBLISHED,
    RELIABILITY,
    SHARED,
    TRAINED,
    explain,
    print_published_noise,
    record_rows,
)
from drozdova2024_tables import (
    MEDIAN,
    print_false,
    print_localization,
    print_outliers,
    print_reconstruction,
)
from estimates import Bootstrap, Scores
from evaluated import Weights, evaluate, shared_options
from shared_fields import PWV, PublishedFields, SharedFields, n_published
from targets import Targets

from diffsky.simulation import PWV_OCTILES

FAINT = (1.5, 2.5)  # normalised S/N of 2
WATER_ROWS = ("purity", "completeness", "fluxes within 50 uJy")


def kind_of(weights):
    """Kind of the network and root of the weights, which have to be of shared noise."""
    deconvolver = weights.load()
    preset, pairs = deconvolver.preset_, deconvolver.description_["training"]["pairs"]
    if pairs.get("noise") != "shared":
        raise click.UsageError(
            f"{weights.name} was trained on noise {pairs.get('noise', 'of each pair')!r}; expected "
            "weights of examples/train_shared_noise.py"
        )
    if preset.scale.gamma not in printed.GAMMAS:
        raise click.UsageError(
            f"{weights.name} has the root {preset.scale.gamma}; expected one of {printed.GAMMAS}"
        )
    return preset.network["type"], preset.scale.gamma


def as_sampled(weights, costly_steps):
    """The weights as they are, or D24's network with fewer steps."""
    if costly_steps is None or kind_of(weights)[0] == "unet":
        return weights
    return replace(weights, sampler="ddim", steps=costly_steps)


def size_of(weights):
    """Pixels of the fields that the weights were trained on."""
    return weights.load().description_["training"]["pairs"]["field_size"]


def compared_size(weights):
    """Pixels of the images that are compared; none where they are D24's whole field."""
    is_whole = hasattr(weights.load().preset_.scale, "size")  # a fixed grid, filled up with nothing
    return None if is_whole else size_of(weights)


def check_targets(results, targets):
    """What is asked of the weights under their own protocol."""
    counted = Counted(results, MEDIAN, Bootstrap(len(results)))
    targets.check("F1, median (D24: 0.9816)", counted.f1, low=0.97)
    targets.check("F1, median, after a short training on a CPU", counted.f1, low=0.9)
    targets.check("fluxes within 50 uJy, median (D24: 0.97)", counted.fluxes_of_found, low=0.95)
    faint = counted.completeness_between(*FAINT)
    targets.check("completeness at a normalised S/N of 2 (D24: above 0.9)", faint, low=0.9)


def water_sets(trained, default, noise, size, n, run):
    """Results by who looked and how much water vapour; skies and pointings are the same in all."""
    known = {}
    for who, weights in ((TRAINED, trained), (DEFAULT, default)):
        for pwv in PWV_OCTILES:
            group = f"pwv={pwv.value:g}"
            source = SharedFields(noise, PWV, group, who == DEFAULT, pwv=pwv.value, size=size)
            known[who, pwv.value] = run(weights, source, n, f"water-{group}")
    return known


def print_water(known, targets):
    """Purity, completeness and fluxes by water vapour, D24 figures 17 and 18, and their change."""
    n = len(next(iter(known.values())))
    print(f"\nwater vapour, {n} fields each, {MEDIAN}: purity, completeness, fluxes within 50 uJy")
    print(
        f"  {TRAINED} see their own noise, {DEFAULT} a new one; one to one within half a beam,"
        f" but for {AS_D24!r}"
    )
    rows = {}
    for (who, pwv), results in known.items():
        boot = Bootstrap(len(results))
        own = Scores(results, MEDIAN, RELIABILITY[who], boot)
        rows[who, pwv] = (own.purity, own.completeness, own.fluxes_within)
        if who == TRAINED:
            one = Counted(results, MEDIAN, boot)
            rows[AS_D24, pwv] = (one.purity, one.completeness, one.fluxes_of_found)
    for who in (AS_D24, TRAINED, DEFAULT):
        for pwv in sorted({pwv for _, pwv in rows}):
            print(f"  {who:<22}{pwv:>6.3f} mm  " + "  ".join(map(str, rows[who, pwv])))
    least, most = (limit(pwv for _, pwv in rows) for limit in (min, max))
    print(f"  from {least:g} to {most:g} mm (D24: purity about -0.01, completeness -0.04)")
    for who in (AS_D24, TRAINED, DEFAULT):
        for name, few, much in zip(WATER_ROWS, rows[who, least], rows[who, most], strict=True):
            targets.check(f"  change of the {name}, {who}", much - few)
    return rows


@click.command()
@click.argument("noise", type=click.Path(exists=True, dir_okay=False))
@shared_options
@click.option("--trained", multiple=True, required=True, help="Trained under the protocol.")
@click.option("--for-published", help="Trained on the noise as the authors imaged it.")
@click.option(
    "--data", envvar="DIFFSKY_DATA", required=True, type=click.Path(exists=True, file_okay=False),
    help="Folder with d24, the published pairs. By default $DIFFSKY_DATA.",
)  # fmt: skip
@click.option("--fields", default=500, show_default=True, help="Of shared noise.")
@click.option("--costly-fields", default=50, show_default=True, help="The same, D24's network.")
@click.option(
    "--costly-steps", type=int, help="Steps of DDIM for D24's network.  [default: its own, DDPM]"
)
@click.option("--fresh", default=100, show_default=True, help="Fields with their own noise.")
@click.option("--default-fields", default=50, show_default=True, help="For the default weights.")
@click.option("--water", default=12, show_default=True, help="Fields for each amount.")
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), help="Draw them here.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(noise, weights, samples, sampler, steps, processes, store, trained, for_published, data,
         fields, costly_fields, costly_steps, fresh, default_fields, water, figures,
         record):  # fmt: skip
    """Print the tables, and the explanation."""
    default, data = Weights(weights, samples, sampler, steps), str(Path(data, "d24"))
    trained = [as_sampled(Weights(name, samples), costly_steps) for name in trained]
    kinds = {kind_of(one): one for one in trained}
    if len(kinds) < len(trained):
        raise click.UsageError("two of --trained have one root and network; expected one of each")
    first = trained[0]
    theirs = first if for_published is None else Weights(for_published, samples)
    kind_of(theirs)
    n_pairs = n_published(data)

    def run(one, source, n, name):
        return evaluate(one, [source], range(n), one.folder(store) / name, processes=processes)

    runs = {}
    for one in dict.fromkeys((*trained, theirs)):
        print(f"{one.title()}\n{one.cost()}")
    for (network, gamma), one in kinds.items():
        n = fields if network == "unet" else costly_fields
        runs[network, gamma] = run(one, SharedFields(noise, size=size_of(one)), n, "shared")
    targets = Targets()
    for network in dict.fromkeys(network for network, _ in runs):
        own = {kind: results for kind, results in runs.items() if kind[0] == network}
        n, one = len(next(iter(own.values()))), kinds[next(iter(own))]
        print(f"\n{network}: {n} simulated fields with the noise of D24")
        print_reconstruction(own, network, compared_size(one))
        print_localization(own, network)
    print_outliers(runs[kind_of(first)])
    print_false(runs[kind_of(first)])
    print()
    check_targets(runs[kind_of(first)], targets)
    sets, size = {}, size_of(first)
    for who, one, n in ((TRAINED, first, fresh), (DEFAULT, default, default_fields)):
        sets[FRESH, who] = run(one, SharedFields(noise, fresh=True, size=size), n, "fresh")
    sets[SHARED, TRAINED] = runs[kind_of(first)]
    sets[SHARED, DEFAULT] = run(default, SharedFields(noise, size=size), default_fields, "shared")
    if for_published is not None:
        source = SharedFields(noise, padding=1, size=size)
        sets[IMAGED, TRAINED] = run(theirs, source, default_fields, "imaged")
    for who, one in ((TRAINED, theirs), (DEFAULT, default)):
        sets[PUBLISHED, who] = run(one, PublishedFields(data, noise, size=size), n_pairs, PUBLISHED)
    less = PublishedFields(data, noise, "less", subtract=True, size=size)
    sets[LESS, DEFAULT] = run(default, less, n_pairs, "less")
    print_published_noise(data, noise, size)
    record_rows(explain(sets), targets)
    vapour = water_sets(first, default, noise, size, water, run) if water else {}
    rows = print_water(vapour, targets) if water else {}
    if record is not None:
        record.write_text(json.dumps(targets.rows, indent=2) + "\n")
    if figures is not None:
        from drozdova2024_figures import draw_all

        own = {gamma: results for (network, gamma), results in runs.items()
               if network == kind_of(first)[0]}  # fmt: skip
        draw_all(figures, own, kind_of(first)[1], sets, (vapour, rows), data=data)


if __name__ == "__main__":
    main()
