"""The tables of D24 under its protocol, and what the same weights do with noise of its own.

    python examples/train_shared_noise.py run-small noise.npz --warm-start alma-band6
    python benchmarks/drozdova2024.py noise.npz --trained run-small/shared-noise --figures FOLDER

NOISE is what `diffsky.simulation.SharedNoise.write` wrote. ``--trained`` names weights that were
trained under the protocol, one for each root; the explanation is about the first of them.
``--weights`` are those that they are compared with, trained on independent noise. Where tables of
D24 are repeated, sources are looked for and counted as there (photutils with its parameters,
reliability 0.3 or more, any detection within 0.18 arcsec of any source), elsewhere one to one.
Published pairs are those of DIFFSKY_DATA. Errors are bootstrap standard deviations over fields.
Fields that are evaluated are kept (``--store``), so the same command goes on where it was
interrupted.
"""

import json
import os
from pathlib import Path

import click
import numpy as np
import printed
from counted import Counted, neighbours
from estimates import D24_RADIUS, HALF_A_BEAM, Bootstrap, Scores
from evaluated import Weights, evaluate, shared_options
from shared_fields import PWV, PublishedFields, SharedFields
from targets import Targets

from diffsky.evaluation import pool_reconstructions
from diffsky.simulation import PWV_OCTILES

FILTER, MEDIAN = "matched filter", "median"
TRAINED, DEFAULT = "weights of this noise", "default weights"
SHARED, FRESH, PUBLISHED, LESS = (
    "shared noise", "independent noise", "published", "published, less nearest noise"
)  # fmt: skip
SIGNALS = np.arange(3.0, 60.1, 0.5)
USUAL_PWV = 1.796  # mm
OWN_RELIABILITY = 0.3 - 1e-3
FAINT = (1.5, 2.5)  # normalised S/N of 2
N_OUTLIERS = 5
N_PUBLISHED = 4


def root_of(weights):
    """Gamma of the weights."""
    return weights.load().preset_.scale.gamma


def print_reconstruction(runs):
    """Table 1: ours over the printed ones."""
    print("\nD24 table 1: mean squared error (1e-5), peak S/N (dB), structural similarity")
    for gamma in printed.GAMMAS:
        if gamma not in runs:
            print(f"  gamma {gamma:<3} not run")
            continue
        table = pool_reconstructions([one.reconstruction for one in runs[gamma]])
        for name, mse, mse_err, *others in table.iterrows():
            cells = (1e5 * mse, 1e5 * mse_err, *others)
            shown = "".join(f"{a:>9.3f} ±{b:.3f}" for a, b in zip(*[iter(cells)] * 2, strict=True))
            theirs = printed.RECONSTRUCTION[gamma][name]
            print(f"  gamma {gamma:<3} {name:<18}{shown}   printed {theirs}")


def print_localization(runs, boots):
    """Tables 2 and 3."""
    print("\nD24 table 2 (purity, completeness, F1) and table 3 (fluxes within 50 uJy), per cent")
    print(f"  {'':<29}{'purity':>14}{'completeness':>14}{'F1':>14}{'flux, found':>14}"
          f"{'flux, all':>14}   printed")  # fmt: skip
    for gamma in printed.GAMMAS:
        if gamma not in runs:
            print(f"  gamma {gamma:<3} not run")
            continue
        for name in printed.AGGREGATIONS:
            theirs = (*printed.LOCALIZATION[gamma][name], 100 * printed.FLUXES[gamma][name])
            print_row(f"gamma {gamma:<3} {name}", Counted(runs[gamma], name, boots[gamma]), theirs)
    gamma = next(iter(runs))
    known = Counted(runs[gamma], "true sky", boots[gamma])
    print_row("photutils on the true sky", known, printed.OTHERS["true sky"])


def print_row(title, counted, theirs):
    """Our figures in per cent beside printed ones."""
    figures = (counted.purity, counted.completeness, counted.f1, counted.fluxes_of_found,
               counted.fluxes_of_all)  # fmt: skip
    cells = (f"{100 * one.value:.2f} ±{100 * one.error:.2f}" for one in figures)
    print(f"  {title:<29}" + "".join(f"{cell:>14}" for cell in cells)
          + "   " + ", ".join(f"{value:g}" for value in theirs))  # fmt: skip


def print_outliers(results, boot):
    """The kind of table 4: fluxes that are furthest from the truth."""
    counted = Counted(results, MEDIAN, boot)
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


def check_targets(results, boot, targets):
    """What is asked of the weights under their own protocol."""
    counted = Counted(results, MEDIAN, boot)
    targets.check("F1, median (D24: 0.9816)", counted.f1, low=0.97)
    targets.check("fluxes within 50 uJy, median (D24: 0.97)", counted.fluxes_of_found, low=0.95)
    faint = counted.completeness_between(*FAINT)
    targets.check("completeness at a normalised S/N of 2 (D24: above 0.9)", faint, low=0.9)


def print_water(trained, default, noise, n, folder):
    """Completeness and purity by water vapour, D24 figures 16 to 18."""
    print(f"\nwater vapour, {n} fields each: purity, completeness, fluxes within 50 uJy, median")
    rows, known = {}, {}
    for title, weights in (("own protocol", trained), ("default weights", default)):
        fields = [water_fields(noise, pwv, fresh=weights is default) for pwv in PWV_OCTILES]
        results = evaluate(weights, fields, range(n), folder(weights) / f"water-{title}")
        for pwv, source in zip(PWV_OCTILES, fields, strict=True):
            members = [one for one in results if one.group == source.group]
            boot = Bootstrap(len(members))
            if weights is default:
                one = Scores(members, MEDIAN, 0.5, boot)
                figures = (one.purity, one.completeness, one.fluxes_within)
            else:
                one = Counted(members, MEDIAN, boot)
                figures = (one.purity, one.completeness, one.fluxes_of_found)
            rows[title, pwv.value], known[title, pwv.value] = figures, members
            print(f"  {title:<16}{pwv.value:>6.3f} mm  " + "  ".join(map(str, figures)))
    return rows, known


def water_fields(noise, pwv, *, fresh):
    """Fields of one amount of water vapour; skies and pointings are the same in all."""
    return SharedFields(noise, PWV, f"pwv={pwv.value:g}", fresh=fresh, pwv=pwv.value)


def print_explanation(sets):
    """F1 and fluxes of every method on every kind of fields.

    `sets` has results by fields and who looked. The threshold of the matched filter is the best one
    on these fields, on the published ones that of independent noise; both flatter it.
    """
    print(f"\n{'fields':<36}{'who looks':<38}{'F1 at 0.18':>15}{'F1 at beam/2':>15}{'<50 uJy':>15}")
    rows = {}
    for (fields, who), results in sets.items():
        boot = Bootstrap(len(results))
        reliability = OWN_RELIABILITY if who == TRAINED else 0.5
        rows[fields, f"{who}, {MEDIAN}"] = figures_of(results, MEDIAN, reliability, boot)
        if who == TRAINED:
            one = Counted(results, MEDIAN, boot)
            rows[fields, f"{who}, as D24"] = (one.f1, None, one.fluxes_of_found)
        else:
            known = sets[FRESH, who] if fields == PUBLISHED else results
            least = best_signal(known)
            rows[fields, f"{FILTER}, S/N {least:g}"] = figures_of(results, FILTER, least, boot)
    for (fields, title), figures in rows.items():
        print(f"{fields:<36}{title:<38}"
              + "".join(f"{'' if one is None else str(one):>15}" for one in figures))  # fmt: skip
    return rows


def figures_of(results, method, threshold, boot):
    """F1 within 0.18 arcsec and half a beam, and right fluxes."""
    near, wide = (
        Scores(results, method, threshold, boot, radius=radius)
        for radius in (D24_RADIUS, HALF_A_BEAM)
    )
    return near.f1, wide.f1, wide.fluxes_within


def best_signal(results):
    """S/N of the best F1 of the matched filter, high ones too, where little noise is left."""
    boot = Bootstrap(len(results), n_draws=1)
    values = [Scores(results, FILTER, least, boot).f1.value for least in SIGNALS]
    return float(SIGNALS[np.nanargmax(np.nan_to_num(values))])


@click.command()
@click.argument("noise", type=click.Path(exists=True, dir_okay=False))
@shared_options
@click.option("--trained", multiple=True, required=True, help="Trained under the protocol.")
@click.option("--for-published", help="Trained on the noise as the authors imaged it.")
@click.option("--fields", default=500, show_default=True, help="Of shared noise.")
@click.option("--fresh", default=100, show_default=True, help="Fields with their own noise.")
@click.option("--default-fields", default=50, show_default=True, help="For the default weights.")
@click.option("--water", default=12, show_default=True, help="Fields for each amount.")
@click.option("--figures", type=click.Path(file_okay=False, path_type=Path), help="Draw them here.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures to this JSON.")
def main(noise, weights, samples, sampler, steps, processes, store, trained, for_published, fields,
         fresh, default_fields, water, figures, record):  # fmt: skip
    """Print the tables, and the explanation."""
    default = Weights(weights, samples, sampler, steps)
    trained = [Weights(name, samples) for name in trained]
    roots = {root_of(one): one for one in trained}
    data = str(Path(os.environ["DIFFSKY_DATA"], "d24"))

    def run(one, source, n, name):
        return evaluate(one, [source], range(n), one.folder(store) / name, processes=processes)

    theirs = trained[0] if for_published is None else Weights(for_published, samples)
    for one in dict.fromkeys((*trained, theirs)):
        print(f"{one.title()}\n{one.cost()}")
    runs = {gamma: run(one, SharedFields(noise), fields, "shared") for gamma, one in roots.items()}
    boots = {gamma: Bootstrap(len(results)) for gamma, results in runs.items()}
    targets, first = Targets(), trained[0]
    print(f"\n{fields} simulated fields with the noise of D24")
    print_reconstruction(runs)
    print_localization(runs, boots)
    main_root = root_of(first)
    print_outliers(runs[main_root], boots[main_root])
    print()
    check_targets(runs[main_root], boots[main_root], targets)
    sets = {}
    for who, one, n in ((TRAINED, first, fresh), (DEFAULT, default, default_fields)):
        sets |= {
            (FRESH, who): run(one, SharedFields(noise, fresh=True), n, "fresh"),
            (SHARED, who): run(one, SharedFields(noise), n, "shared"),
        }
        one, source = theirs if who == TRAINED else one, PublishedFields(data, noise)
        sets[PUBLISHED, who] = run(one, source, N_PUBLISHED, "published")
    source = PublishedFields(data, noise, "less", subtract=True)
    sets[LESS, DEFAULT] = run(default, source, N_PUBLISHED, "less")
    rows = print_explanation(sets)
    vapour = print_water(first, default, noise, water, lambda one: one.folder(store))
    if figures is not None:
        from drozdova2024_figures import draw_all

        draw_all(figures, runs, boots, sets, vapour, data=data)
    if record is not None:
        for (where, who), values in rows.items():
            for name, value in zip(("F1 at 0.18 arcsec", "F1", "<50 uJy"), values, strict=True):
                if value is not None:
                    targets.section(where).check(f"{who}: {name}", value)
        record.write_text(json.dumps(targets.rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
