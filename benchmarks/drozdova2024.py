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
from pathlib import Path

import click
import numpy as np
import printed
from counted import Counted, neighbours
from estimates import D24_RADIUS, HALF_A_BEAM, Bootstrap, Scores, best_threshold
from evaluated import Weights, evaluate, shared_options
from shared_fields import PWV, PublishedFields, SharedFields, n_published
from targets import Targets

from diffsky.evaluation import pool_reconstructions
from diffsky.simulation import PWV_OCTILES

FILTER, MEDIAN, AS_D24 = "matched filter", "median", "as D24"
TRAINED, DEFAULT = "weights of this noise", "default weights"
SHARED, FRESH, PUBLISHED, IMAGED, LESS = (
    "shared noise", "independent noise", "published", "shared noise, imaged as published",
    "published, less nearest noise",
)  # fmt: skip
RELIABILITY = {TRAINED: 0.3 - 1e-3, DEFAULT: 0.5 - 1e-3}
SIGNALS = np.arange(3.0, 60.1, 0.5)  # of the filter; high ones are for images with little noise
FAINT = (1.5, 2.5)  # normalised S/N of 2
D24_FIELD = 512  # pixels
N_OUTLIERS, FEW = 5, 10


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


def size_of(weights):
    """Pixels of the fields that the weights were trained on."""
    return weights.load().description_["training"]["pairs"]["field_size"]


def rows_of(runs, network):
    """Roots of D24's tables, and the results of a kind of network for each, or none."""
    return ((gamma, runs.get((network, gamma))) for gamma in printed.GAMMAS)


def print_reconstruction(runs, network, size):
    """Table 1, ours beside the printed one; errors are its standard deviations."""
    print("\nD24 table 1: mean squared error (1e-5), peak S/N (dB), structural similarity")
    share = (size / D24_FIELD) ** 2
    print(
        f"  on the inner {size} pixels; were the rest of {D24_FIELD} without error, mean squared"
        f" errors would be {share:.2f} of these, peak S/N {-10 * np.log10(share):.1f} dB more"
    )
    for gamma, results in rows_of(runs, network):
        if results is None:
            print(f"  gamma {gamma:<3} not run")
            continue
        table = pool_reconstructions([one.reconstruction for one in results])
        for name, mse, mse_err, *others in table.iterrows():
            cells = (1e5 * mse, 1e5 * mse_err, *others)
            shown = "".join(f"{a:>9.3f} ±{b:.3f}" for a, b in zip(*[iter(cells)] * 2, strict=True))
            theirs = printed.RECONSTRUCTION[gamma][name]
            print(f"  gamma {gamma:<3} {name:<18}{shown}   printed {theirs}")


def print_localization(runs, network):
    """Tables 2 and 3."""
    print("\nD24 table 2 (purity, completeness, F1) and table 3 (fluxes within 50 uJy), per cent")
    print(f"  {'':<29}{'purity':>14}{'completeness':>14}{'F1':>14}{'flux, found':>14}"
          f"{'flux, all':>14}   printed")  # fmt: skip
    for gamma, results in rows_of(runs, network):
        if results is None:
            print(f"  gamma {gamma:<3} not run")
            continue
        for name in printed.AGGREGATIONS:
            theirs = (*printed.LOCALIZATION[gamma][name], 100 * printed.FLUXES[gamma][name])
            print_row(f"gamma {gamma:<3} {name}", results, name, theirs)
    known = next(iter(runs.values()))
    print_row("photutils on the true sky", known, "true sky", printed.OTHERS["true sky"])
    for title in ("PyBDSF, clean image", "Taran et al. (2023)"):
        print(f"  {title:<99}   " + ", ".join(f"{value:g}" for value in printed.OTHERS[title]))


def print_row(title, results, name, theirs):
    """Our figures in per cent beside printed ones."""
    one = Counted(results, name, Bootstrap(len(results)))
    figures = (one.purity, one.completeness, one.f1, one.fluxes_of_found, one.fluxes_of_all)
    cells = (f"{100 * value.value:.2f} ±{100 * value.error:.2f}" for value in figures)
    print(f"  {title:<29}" + "".join(f"{cell:>14}" for cell in cells)
          + "   " + ", ".join(f"{value:g}" for value in theirs))  # fmt: skip


def print_outliers(results):
    """The kind of table 4: fluxes that are furthest from the truth."""
    counted = Counted(results, MEDIAN, Bootstrap(len(results)))
    columns = ("flux", "true_flux", "number")
    flux, true, number = (counted.column(name) for name in columns)
    fields = {one.number: one for one in results}
    print(f"\nD24 table 4: largest relative errors of the flux, {MEDIAN}, uJy")
    for k in np.argsort(-np.abs(flux / true - 1))[:N_OUTLIERS]:
        near = ", ".join(f"{1e6 * x:.0f}" for x in neighbours(fields[number[k]], true[k]))
        print(f"  field {number[k]}: {1e6 * flux[k]:.0f} for {1e6 * true[k]:.0f}; "
              f"true sources within a beam: {near}")  # fmt: skip
    for real, predicted in printed.OUTLIERS:
        print(f"  printed: {predicted} for {real}")


def check_targets(results, targets):
    """What is asked of the weights under their own protocol."""
    counted = Counted(results, MEDIAN, Bootstrap(len(results)))
    targets.check("F1, median (D24: 0.9816)", counted.f1, low=0.97)
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


def print_water(known):
    """Purity, completeness and fluxes by water vapour, D24 figures 17 and 18."""
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
    return rows


def explain(sets):
    """F1 and fluxes of every method on every kind of fields, and print them.

    `sets` has results by fields and who looked.
    """
    print(f"\n{'fields':<36}{'who looks':<39}{'n':>4}{'F1 at 0.18':>15}{'F1 at beam/2':>15}"
          f"{'<50 uJy':>15}")  # fmt: skip
    rows = {}
    for (fields, who), results in sets.items():
        rows[fields, f"{who}, {MEDIAN}"] = figures_of(results, MEDIAN, RELIABILITY[who])
        if who == TRAINED:
            one = Counted(results, MEDIAN, Bootstrap(len(results)))
            rows[fields, f"{who}, {AS_D24}"] = (len(results), one.f1, None, one.fluxes_of_found)
        else:
            # Four published fields say too little about a threshold of their own.
            known = sets[FRESH, who] if fields == PUBLISHED else results
            least = best_threshold(known, FILTER, SIGNALS)
            rows[fields, f"{FILTER}, S/N {least:g}"] = figures_of(results, FILTER, least)
    for (fields, title), (n, *figures) in rows.items():
        print(f"{fields:<36}{title:<39}{n:>4}" + "".join(f"{cell(v, n):>15}" for v in figures))
    print(
        "the filter's threshold is the best on the fields of its line, that of published ones"
        " the best on independent noise"
    )
    return rows


def figures_of(results, method, threshold):
    """Number of fields, F1 within 0.18 arcsec and half a beam, and right fluxes."""
    boot = Bootstrap(len(results))
    near, wide = (
        Scores(results, method, threshold, boot, radius=radius)
        for radius in (D24_RADIUS, HALF_A_BEAM)
    )
    return len(results), near.f1, wide.f1, wide.fluxes_within


def cell(value, n):
    """A figure; of a few fields, two and two of one noise, without an error."""
    return "" if value is None else f"{value.value:.3f}" if n < FEW else str(value)


def record_rows(rows, targets):
    """Keep the explanation with the other figures."""
    for (fields, title), (_, *figures) in rows.items():
        for name, value in zip(("F1 at 0.18 arcsec", "F1", "<50 uJy"), figures, strict=True):
            if value is not None:
                targets.rows[f"{fields}: {title}: {name}"] = {
                    "value": round(value.value, 4), "error": round(value.error, 4)
                }  # fmt: skip


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
@click.option("--fresh", default=100, show_default=True, help="Fields with their own noise.")
@click.option("--default-fields", default=50, show_default=True, help="For the default weights.")
@click.option("--water", default=12, show_default=True, help="Fields for each amount.")
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), help="Draw them here.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(noise, weights, samples, sampler, steps, processes, store, trained, for_published, data,
         fields, costly_fields, fresh, default_fields, water, figures, record):  # fmt: skip
    """Print the tables, and the explanation."""
    default, data = Weights(weights, samples, sampler, steps), str(Path(data, "d24"))
    trained = [Weights(name, samples) for name in trained]
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
        n, size = len(next(iter(own.values()))), size_of(kinds[next(iter(own))])
        print(f"\n{network}: {n} simulated fields with the noise of D24")
        print_reconstruction(own, network, size)
        print_localization(own, network)
    print_outliers(runs[kind_of(first)])
    print()
    check_targets(runs[kind_of(first)], targets)
    sets, size = {}, size_of(first)
    for who, one, n in ((TRAINED, first, fresh), (DEFAULT, default, default_fields)):
        sets[FRESH, who] = run(one, SharedFields(noise, fresh=True, size=size), n, "fresh")
        sets[SHARED, who] = run(one, SharedFields(noise, size=size), n, "shared")
    if for_published is not None:
        source = SharedFields(noise, padding=1, size=size)
        sets[IMAGED, TRAINED] = run(theirs, source, default_fields, "imaged")
    for who, one in ((TRAINED, theirs), (DEFAULT, default)):
        sets[PUBLISHED, who] = run(one, PublishedFields(data, noise, size=size), n_pairs, PUBLISHED)
    less = PublishedFields(data, noise, "less", subtract=True, size=size)
    sets[LESS, DEFAULT] = run(default, less, n_pairs, "less")
    record_rows(explain(sets), targets)
    vapour = water_sets(first, default, noise, size, water, run) if water else {}
    rows = print_water(vapour) if water else {}
    if record is not None:
        record.write_text(json.dumps(targets.rows, indent=2) + "\n")
    if figures is not None:
        from drozdova2024_figures import draw_all

        own = {gamma: results for (network, gamma), results in runs.items()
               if network == kind_of(first)[0]}  # fmt: skip
        draw_all(figures, own, kind_of(first)[1], sets, (vapour, rows), data=data)


if __name__ == "__main__":
    main()
