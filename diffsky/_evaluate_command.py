"""The command ``diffsky evaluate``: a store of pairs and weights to a report."""

import warnings
from pathlib import Path

import click

__all__ = [
    "RESULTS",
    "check_output",
    "check_validation",
    "evaluate_stores",
    "find_stores",
    "format_summary",
    "read_validation",
    "save_calibrated",
    "write_evaluation",
]

RESULTS = "fields"  # folder of stored results in that of the report


def find_stores(path):
    """Find the stores of pairs in a folder.

    Parameters
    ----------
    path : path-like
        A store, or a folder of stores as `diffsky.simulation.sweep` leaves it.

    Returns
    -------
    stores : dict of str to `~diffsky.simulation.PairStore`
        By the names of their folders; a single one has the name "".

    Raises
    ------
    click.ClickException
        If there is none, or a store is empty.
    """
    from diffsky.simulation import PairStore

    path = Path(path)
    parts = sorted(part for part in path.iterdir() if _is_store(part))
    if _is_store(path):
        stores = {"": PairStore(path, mode="r")}
    elif parts:
        stores = {part.name: PairStore(part, mode="r") for part in parts}
    else:
        stores = {"": PairStore(path, mode="r")}  # which says what is there instead
    empty = [str(store.path) for store in stores.values() if not len(store)]
    if empty:
        raise click.ClickException(f"there is no pair in {', '.join(empty)}")
    return stores


def _describe_run(deconvolver, stores, *, n_samples, seed, use_psf):
    """What decides the results of an evaluation, in what JSON can hold."""
    return {
        "stores": {name: str(store.path) for name, store in stores.items()},
        "weights": deconvolver.description_["name"],
        "weights_version": deconvolver.description_["version"],
        "sha256": deconvolver.description_.get("sha256", ""),
        "n_samples": n_samples,
        "seed": seed,
        **({"use_psf": True} if use_psf else {}),
        **deconvolver.sampling_plan(),
    }


def evaluate_stores(
    deconvolver, stores, output, *, n, n_samples, seed, overwrite, step, use_psf=False
):
    """Evaluate the pairs of stores whose results are not stored yet.

    Each result is stored when it is there, so nothing but the pair at work is lost when the
    command is interrupted.

    Parameters
    ----------
    deconvolver : `~diffsky.DiffusionDeconvolver`
        With weights.
    stores : dict of str to `~diffsky.simulation.PairStore`
        As from `find_stores`.
    output : path-like
        Folder of the report; results are in its folder ``fields``.
    n : int or None
        At most so many pairs of each store, the first ones; None takes all.
    n_samples, seed : int
        As `diffsky.evaluation.evaluate_pair` takes them.
    overwrite : bool
        Whether results of other settings are removed.
    step : callable
        Says what comes next.
    use_psf : bool, optional
        As for `diffsky.evaluation.evaluate_pair`.

    Returns
    -------
    results : list of `~diffsky.evaluation.FieldResult`
        Those of all pairs, stored before or now.
    settings : dict
        How they were made.

    Raises
    ------
    ValueError
        If results of other settings are stored.
    """
    from tqdm import tqdm

    from diffsky._warning import collect_warnings
    from diffsky.evaluation import StoredResults, evaluate_pair
    from diffsky.exceptions import DiffskyWarning

    how = {"n_samples": n_samples, "seed": seed, "use_psf": use_psf}
    settings = _describe_run(deconvolver, stores, **how)
    stored = StoredResults(Path(output) / RESULTS, settings, overwrite=overwrite)
    orders = [(g, number) for g, store in stores.items() for number in store.numbers()[:n]]
    missing = [order for order in orders if order not in stored]
    step(f"evaluating {len(missing)} pairs, {len(orders) - len(missing)} are stored")
    unusable, noted = [], []
    for group, number in tqdm(missing, desc="evaluating", disable=None):
        pair = stores[group].read(number)
        try:
            with collect_warnings() as said:
                result = evaluate_pair(
                    deconvolver, pair, number=number, group=group, progress=False, **how
                )
        except ValueError as error:
            unusable.append(f"{group} {number}: {error}".strip())
            continue
        noted += [f"{group} {number}: {said[0][0]}".strip()] if said else []
        stored.write(result)
    for kind, lines in {"are left out": unusable, "gave a warning": noted}.items():
        if lines:
            warnings.warn(
                f"{len(lines)} pairs {kind} ({'; '.join(lines[:3])})", DiffskyWarning, stacklevel=2
            )
    wanted = set(orders)
    return [one for one in stored.read() if (one.group, one.number) in wanted], stored.settings


def write_evaluation(results, settings, output, *, validation, recalibration=None):
    """Write the report of results.

    Parameters
    ----------
    results : sequence of `~diffsky.evaluation.FieldResult`
        At least one.
    settings : dict
        How they were made.
    output : path-like
        Folder of the report, which may have one of an earlier run.
    validation : path-like or None
        Folder of an earlier report, which gives thresholds and, for weights that have none, a
        recalibration.
    recalibration : `~diffsky.catalog.Recalibration` or None, optional
        That of the weights.

    Returns
    -------
    report : `~diffsky.evaluation.EvaluationReport`
        What was written.
    """
    from diffsky.evaluation import make_report, write_report
    from diffsky.products import product_folder

    others = None if validation is None else read_validation(validation)
    if validation is not None:
        settings = {**settings, "validation": str(validation)}
    report = make_report(results, validation=others, recalibration=recalibration, settings=settings)
    with product_folder(output, overwrite=True) as stage:
        write_report(report, stage)
    return report


def read_validation(path):
    """Read the results in the folder of an earlier report.

    Parameters
    ----------
    path : path-like
        Folder of the report.

    Returns
    -------
    results : list of `~diffsky.evaluation.FieldResult`
        At least one.

    Raises
    ------
    click.ClickException
        If there is none.
    """
    from diffsky.evaluation import StoredResults

    folder = Path(path) / RESULTS
    if not folder.is_dir() or not (results := StoredResults.load(folder).read()):
        raise click.ClickException(f"{path} has no results of diffsky evaluate ({RESULTS}/)")
    return results


def check_validation(path, deconvolver, stores, *, n_samples, seed, use_psf=False):
    """Refuse thresholds of other weights, and warn about those of the same pairs.

    Parameters
    ----------
    path : path-like or None
        Folder of the report that gives them; None checks nothing.
    deconvolver : `~diffsky.DiffusionDeconvolver`
        With weights.
    stores : dict of str to `~diffsky.simulation.PairStore`
        As from `find_stores`.
    n_samples, seed, use_psf : optional
        As for `evaluate_stores`.

    Raises
    ------
    click.ClickException
        If it is of other weights, or they were sampled in another way.
    """
    from diffsky.evaluation import StoredResults
    from diffsky.exceptions import DiffskyWarning

    if path is None:
        return
    settings = _describe_run(deconvolver, stores, n_samples=n_samples, seed=seed, use_psf=use_psf)
    stored = StoredResults.load(Path(path) / RESULTS).settings
    names = {**settings, "use_psf": None}.keys() - {"stores", "seed"}
    different = [
        f"{name} {stored.get(name)!r}, here {settings.get(name)!r}"
        for name in sorted(names)
        if stored.get(name) != settings.get(name)
    ]
    if different:
        raise click.ClickException(
            f"the validation in {path} has {'; '.join(different)}; expected the same weights, "
            "sampled alike"
        )
    same = sorted(set(stored["stores"].values()) & set(settings["stores"].values()))
    if same:
        warnings.warn(
            f"the validation is of the pairs that are scored ({', '.join(same)}): thresholds and "
            "recalibration flatter the result",
            DiffskyWarning,
            stacklevel=2,
        )


def check_output(output, *, overwrite, weights=None):
    """Refuse folders that have something else than an evaluation, or weights already."""
    if weights is not None and (Path(weights) / "description.json").exists() and not overwrite:
        raise click.ClickException(f"{weights} holds weights; pass --overwrite to replace them")
    folder = Path(output).expanduser()
    if folder.exists() and not folder.is_dir():
        raise click.ClickException(f"{folder} is a file; expected a folder, or nothing")
    is_new = not folder.is_dir() or not any(folder.iterdir())
    if not is_new and not overwrite and not (folder / RESULTS).is_dir():
        raise click.ClickException(
            f"{folder} is not empty and has no results of diffsky evaluate; expected an empty "
            "folder or none, or --overwrite"
        )


def save_calibrated(deconvolver, report, store, folder, *, overwrite):
    """Save weights with the recalibration of a report.

    Parameters
    ----------
    deconvolver : `~diffsky.DiffusionDeconvolver`
        Those that were evaluated; gets the recalibration.
    report : `~diffsky.evaluation.EvaluationReport`
        What was found.
    store : path-like
        The pairs it is about, to be named as the prior.
    folder : path-like
        For the weights.
    overwrite : bool
        Whether weights there are replaced.

    Raises
    ------
    click.ClickException
        If nothing was detected.
    """
    from dataclasses import replace

    if report.recalibration is None:
        raise click.ClickException("nothing was detected: there is nothing to recalibrate with")
    found = replace(report.recalibration, prior=Path(store).name)
    deconvolver.calibrate(found).save(folder, overwrite=overwrite)


def format_summary(report):
    """Summary of a report as lines of text."""
    table = report.tables["summary"]
    names = ("group", "radius", "method", "threshold", "purity", "completeness", "f1", "f1_err")
    shown = table[[*names, "f1_ratio", "coverage_68", "ece"]]
    for name in shown.colnames[3:]:
        shown[name].format = ".3f"
    if len(set(shown["group"])) == 1:
        shown.remove_column("group")
    return "\n".join(shown.pformat(max_lines=-1, max_width=-1))


def _is_store(path):
    """Whether a folder is marked as a store, or damaged beyond its marker."""
    return (Path(path) / "zarr.json").is_file() and (Path(path) / "pairs").is_dir()
