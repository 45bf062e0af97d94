"""What the scores of D24 measure: the same weights and a matched filter on other noise."""

from dataclasses import replace

import numpy as np
from astropy.stats import mad_std
from counted import Counted
from drozdova2024_tables import D24_FIELD, MEDIAN
from estimates import D24_RADIUS, HALF_A_BEAM, Bootstrap, Scores, best_threshold
from shared_fields import n_published, next_in_declination, noise_of, observed, published_pair

from diffsky.simulation import SharedNoise

FILTER, AS_D24 = "matched filter", "as D24"
TRAINED, DEFAULT = "weights of this noise", "default weights"
SHARED, FRESH, PUBLISHED, IMAGED, LESS = (
    "shared noise", "independent noise", "published", "shared noise, imaged as published",
    "published, less nearest noise",
)  # fmt: skip
RELIABILITY = {TRAINED: 0.3 - 1e-3, DEFAULT: 0.5 - 1e-3}
SIGNALS = np.arange(3.0, 60.1, 0.5)  # of the filter; high ones are for images with little noise
FEW = 10


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
    for fields in dict.fromkeys(fields for fields, _ in sets):
        results = most_of(sets, fields)
        if fields == LESS:
            rows[fields, f"{FILTER}, S/N of the others"] = figures_of(held_out(results), FILTER, 1)
        # Four published fields say too little about a threshold of their own.
        known = most_of(sets, FRESH) if fields == PUBLISHED else results
        least = best_threshold(known, FILTER, SIGNALS)
        rows[fields, f"{FILTER}, S/N {least:g}"] = figures_of(results, FILTER, least)
    for (fields, title), (n, *figures) in rows.items():
        print(f"{fields:<36}{title:<39}{n:>4}" + "".join(f"{cell(v, n):>15}" for v in figures))
    print(
        "the filter's threshold is the best on the fields of its line, that of published ones"
        " the best on independent noise; with 'of the others' each field has that of all others"
    )
    return rows


def most_of(sets, fields):
    """Results of these fields, of whoever has looked at most."""
    return max((results for (own, _), results in sets.items() if own == fields), key=len)


def held_out(results):
    """The same with scores of the filter over the threshold that is best on all other fields."""
    changed = []
    for k, one in enumerate(results):
        least = best_threshold([*results[:k], *results[k + 1 :]], FILTER, SIGNALS)
        found = one.catalogs[FILTER]
        scaled = replace(found, score=found.score / least)
        changed.append(replace(one, catalogs={**one.catalogs, FILTER: scaled}))
    return changed


def print_published_noise(data, noise, size):
    """What of the published images the noise is, and how ours resembles it."""
    print(
        "\npublished pairs: rms (MAD, uJy/beam) of the dirty image, and less the noise of the"
        f"\nnearest; correlation of its noise with ours, inner {size} pixels, padding 4 and 1"
    )
    shared, edge = SharedNoise.read(noise), (D24_FIELD - size) // 2
    inner = (slice(edge, edge + size),) * 2
    for number in range(n_published(data)):
        pair = published_pair(data, number)
        theirs = noise_of(pair)
        left = pair.dirty.data - noise_of(next_in_declination(data, number))
        seen = np.isfinite(theirs[inner])
        alike = [
            np.corrcoef(theirs[inner][seen], shared.image(observed(pair), padding=n)[inner][seen])[
                0, 1
            ]
            for n in (4, 1)
        ]
        spread = (1e6 * mad_std(image, ignore_nan=True) for image in (pair.dirty.data, left))
        print(f"  {pair.key}  " + "".join(f"{value:6.1f}" for value in spread)
              + "".join(f"{value:8.3f}" for value in alike))  # fmt: skip


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
