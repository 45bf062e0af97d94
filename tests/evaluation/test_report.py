"""From results to tables, figures and a page, and results on disk."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.table import Table
from evaluated_fields import make_field, same_results
from numpy.testing import assert_array_equal

from diffsky.evaluation import (
    Detections,
    EvaluationReport,
    FieldResult,
    Recalibration,
    StoredResults,
    TrueSources,
    fit_interval_width,
    fit_recalibration,
    make_report,
    recalibrate,
    write_report,
)

N_FIELDS, SETTINGS = 60, {"weights": "none <b>& such</b>", "seed": 3}
FAST = {"n_bootstrap": 20}
NAMES = {
    "summary",
    "scores",
    "completeness",
    "purity",
    "flux",
    "position",
    "pairs",
    "coverage",
    "reliability",
    "sweep",
    "ranks",
    "tarp",
    "posterior",
    "reconstruction",
}
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What a page refers to, whether its tags close, and its text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.words, self.rows = [], [], [], 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.rows += tag == "tr"
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def empty_field(number):
    none = np.zeros(0)
    found = Detections(none, none, none, none, none, none, np.zeros((0, 20)))
    filtered = Detections(none, none, none, none, none, none)
    truth = TrueSources(none, none, none, none, none)
    return FieldResult(number, 0.85, 5e-5, truth, {"median": found, "matched filter": filtered})


@pytest.fixture(scope="module")
def results():
    return [make_field(k, group=f"pwv={k % 2}mm") for k in range(N_FIELDS)]


@pytest.fixture(scope="module")
def report(results):
    return make_report(results, settings=SETTINGS, **FAST)


@pytest.fixture(scope="module")
def written(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(report, folder)
    return folder


def row_of(table, **values):
    chosen = [r for r in table if all(r[name] == value for name, value in values.items())]
    assert len(chosen) == 1
    return chosen[0]


def test_summary_is_right(report, results):
    row = row_of(report.tables["summary"], group="all", method="median", radius="0.5 beam")
    scores = np.concatenate([one.catalogs["median"].score for one in results])
    near = np.concatenate([one.catalogs["median"].x < 50 for one in results])
    kept = scores >= 0.5
    assert (row["n_true"], row["n_found"], row["n_truth"]) == (
        (kept & near).sum(), kept.sum(), 4 * N_FIELDS,
    )  # fmt: skip
    assert row["purity"] == (kept & near).sum() / kept.sum()
    assert row["mean_reliability"] == pytest.approx(scores[kept].mean())
    assert row["coverage_68"] == pytest.approx(0.68, abs=0.12)
    assert row["ece"] < row["ece_chance"] + 3 * row["ece_err"]
    assert abs(row["flux_bias"]) < 5 * row["flux_bias_err"]


def test_summary_has_groups_radii_and_the_reference(report):
    table = report.tables["summary"]
    assert set(table["group"]) == {"all", "pwv=0mm", "pwv=1mm"}
    assert set(table["radius"]) == {"0.5 beam", "0.18 arcsec"}
    filtered = table[table["method"] == "matched filter"]
    assert_array_equal(filtered["f1_ratio"], 1)
    assert_array_equal(filtered["f1_ratio_err"], 0)
    median = table[table["method"] == "median"]
    assert_array_equal(median["f1_ratio"], median["f1"] / filtered["f1"])
    assert (median["f1_ratio_err"] > 0).all()
    assert np.isnan(filtered["ece"]).all()


def test_one_group_is_not_listed_twice(results):
    same = [one for one in results if one.group == "pwv=0mm"]
    assert set(make_report(same, **FAST).tables["summary"]["group"]) == {"all"}


def test_narrow_posteriors_show_in_every_table():
    tables = make_report([make_field(k, spread=0.4) for k in range(N_FIELDS)], **FAST).tables
    assert row_of(tables["coverage"], method="median", level=0.68)["coverage"] < 0.5
    tests = tables["posterior"]
    assert "sweep" not in tables
    assert row_of(tests, quantity="total flux")["rank_p_value"] < 1e-3
    assert row_of(tests, quantity="pixel values")["tarp_distance"] > 0.1
    assert row_of(tests, quantity="number of sources")["rank_p_value"] > 1e-3


def test_calibrated_posteriors_pass(report):
    assert (report.tables["posterior"]["rank_p_value"] > 1e-3).all()
    assert (report.tables["posterior"]["tarp_p_value"] > 1e-2).all()


def test_validation_gives_thresholds_and_recalibration():
    results = [make_field(k, sharpness=3.0) for k in range(N_FIELDS)]
    others = [make_field(k, sharpness=3.0) for k in range(1000, 1000 + N_FIELDS)]
    report = make_report(results, validation=others, **FAST)
    diagram = report.tables["reliability"]
    assert set(diagram["group"]) == {"all"}
    raw = diagram[~diagram["recalibrated"]]
    recalibrated = diagram[diagram["recalibrated"]]
    assert raw["ece"][0] > 0.15 > recalibrated["ece"][0] + 0.05
    assert 0.1 < report.settings["thresholds"]["median"] < 0.95


def test_thresholds_of_a_single_run_go_down_to_its_faintest():
    results = [with_single_run(make_field(k)) for k in range(6)]
    report = make_report(results, **FAST)
    row = row_of(report.tables["summary"], method="single run", radius="0.5 beam")
    assert (row["threshold"], row["n_found"], row["f1"]) == (0.0, 24, 1.0)
    best = make_report(results, validation=results, **FAST).settings["thresholds"]
    assert best["single run"] <= 1.5
    rows = report.tables["scores"]
    assert rows[rows["method"] == "single run"]["threshold"].min() == 1.5
    signals = np.concatenate([one.catalogs["matched filter"].score for one in results])
    lowest = rows[rows["method"] == "matched filter"]["threshold"].min()
    assert lowest <= signals.min() < lowest + 0.25


def with_single_run(one):
    """The field with all of its true sources at an S/N of 1.5."""
    truth, snr = one.truth, np.full(len(one.truth), 1.5)
    found = Detections(truth.x, truth.y, truth.flux, truth.flux / 10, snr, snr)
    return replace(one, catalogs={**one.catalogs, "single run": found})


def test_recalibration_of_the_weights_is_what_all_tables_have():
    results = [make_field(k, sharpness=3.0) for k in range(N_FIELDS)]
    others = [make_field(k, sharpness=3.0) for k in range(1000, 1300)]
    known = fit_recalibration(others, prior="fields of the tests")
    report = make_report(results, recalibration=known, **FAST)
    raw = make_report(results, **FAST)
    row, raw_row = (
        row_of(one.tables["summary"], method="median", radius="0.5 beam") for one in (report, raw)
    )
    assert row["ece"] < 0.08 < 0.15 < raw_row["ece"]
    assert row["mean_reliability"] == pytest.approx(row["purity"], abs=0.1)
    assert raw_row["mean_reliability"] > raw_row["purity"] + 0.1
    diagram = report.tables["reliability"]
    assert set(diagram["ece"][diagram["recalibrated"]]) == {row["ece"]}
    assert set(diagram["ece"][~diagram["recalibrated"]]) == {raw_row["ece"]}
    # A report is fitted to shares of samples, whatever recalibration it shows.
    assert report.recalibration.to_dict() == raw.recalibration.to_dict()
    assert "fields of the tests" in report.settings["recalibration"]["median"]


def test_sweep_has_all_figures_of_each_group(report):
    sweep = report.tables["sweep"]
    assert sweep["value"].tolist() == [0, 0, 1, 1]
    median = row_of(sweep, group="pwv=1mm", method="median")
    row = row_of(report.tables["summary"], group="pwv=1mm", method="median", radius="0.5 beam")
    assert median["f1"] == row["f1"]
    assert median["purity_excess"] == row["purity"] - row["mean_reliability"]
    test = row_of(report.tables["posterior"], group="pwv=1mm", quantity="total flux")
    assert median["total_flux_rank_p_value"] == test["rank_p_value"]
    filtered = row_of(sweep, group="pwv=1mm", method="matched filter")
    assert np.isnan(filtered["total_flux_rank_p_value"])
    for name in NAMES - {"summary", "sweep"}:
        table = report.tables[name]
        assert set(table["group"]) == {"all", "pwv=0mm", "pwv=1mm"}
    counts = report.tables["completeness"]
    n = {g: counts["n"][(counts["group"] == g) & (counts["method"] == "median")].sum()
         for g in set(counts["group"])}  # fmt: skip
    assert n == {"all": 4 * N_FIELDS, "pwv=0mm": 2 * N_FIELDS, "pwv=1mm": 2 * N_FIELDS}


def test_thresholds_of_the_user_win(results):
    given = {"median": 0.9}
    report = make_report(results, validation=results[:20], thresholds=given, **FAST)
    assert report.settings["thresholds"]["median"] == 0.9
    with pytest.raises(ValueError, match="thresholds are given for"):
        make_report(results, thresholds={"mode": 0.5}, **FAST)


def test_same_seed_same_report(results, report):
    again = make_report(results, settings=SETTINGS, **FAST)
    for name, table in report.tables.items():
        assert repr(table.as_array().tolist()) == repr(again.tables[name].as_array().tolist())


def test_report_without_any_source(tmp_path):
    report = make_report([empty_field(0), empty_field(1)], **FAST)
    row = report.tables["summary"][0]
    assert (row["n_found"], row["n_truth"]) == (0, 0)
    assert np.isnan(row["purity"])
    assert report.recalibration is None
    write_report(report, tmp_path)
    assert Page((tmp_path / "report.html").read_text()).open == []


def test_report_of_one_field_has_no_posterior_tests(tmp_path):
    report = make_report([make_field(0)], **FAST)
    assert {"ranks", "tarp", "posterior"}.isdisjoint(report.tables)
    write_report(report, tmp_path)


def test_reconstruction_is_that_of_the_fields(report, results):
    table = report.tables["reconstruction"]
    for aggregation in ("single run", "mean", "median"):
        row = row_of(table, group="pwv=1mm", aggregation=aggregation)
        scores = [one.reconstruction[aggregation] for one in results if one.group == "pwv=1mm"]
        means = np.concatenate(scores).mean(axis=0)
        assert [row[name] for name in ("mse", "psnr", "ssim")] == pytest.approx(means.tolist())


def test_fields_without_reconstruction_have_no_table_of_it(results):
    assert "reconstruction" not in make_report([empty_field(0)], **FAST).tables
    mixed = [results[0], replace(results[1], reconstruction={})]
    table = make_report(mixed, **FAST).tables["reconstruction"]
    assert table.meta["n_images"] == 1


@pytest.mark.parametrize("spread", [0.7, 1.6])
def test_intervals_of_other_fields_cover_after_recalibration(spread):
    """Samples are 0.7 or 1.6 times as wide as they should be; other fields give the factor."""
    known = fit_recalibration([make_field(k, spread=spread) for k in range(300, 800)])
    # Middles of 20 samples scatter too, which the factor makes up for.
    assert known.width("median") == pytest.approx(1 / spread, rel=0.15)
    results = [make_field(k, spread=spread) for k in range(200)]
    raw, fitted = (make_report(results, recalibration=one, **FAST) for one in (None, known))
    rows = [row_of(r.tables["summary"], method="median", radius="0.5 beam") for r in (raw, fitted)]
    assert abs(rows[0]["coverage_68"] - 0.68) > 0.12
    # 2.3 standard deviations: of the coverage of 300 true sources, and of the fit to 750.
    assert rows[1]["coverage_68"] == pytest.approx(0.68, abs=0.07)


def test_outlier_among_the_samples_stays_in_the_interval():
    """One sample of 20 is far off: intervals are about the middle of the others."""
    one = make_field(0)
    found = one.catalogs["median"]
    samples = np.tile(np.append(np.linspace(0.9, 1.1, 19), 30.0), (len(found), 1))
    field = replace(one, catalogs={"median": replace(found, flux_samples=samples)})
    known = fit_recalibration([make_field(k) for k in range(5)])
    fitted = recalibrate([field], replace(known, widths={"median": 0.8}))[0]
    lower, upper = np.quantile(
        fitted.catalogs["median"].flux_samples, [0.16, 0.84], axis=1, method="weibull"
    )
    assert ((lower > 0.9) & (lower < 1) & (upper > 1) & (upper < 1.1)).all()


def test_field_without_detections_is_recalibrated():
    known = fit_recalibration([make_field(k) for k in range(5)])
    (fitted,) = recalibrate([empty_field(0)], replace(known, widths={"median": 0.8}))
    assert fitted.catalogs["median"].flux_samples.shape == (0, 20)


@pytest.mark.parametrize(("truth", "samples"), [((5,), (7, 20)), ((5,), (5,)), ((5, 1), (5, 20))])
def test_arrays_that_do_not_fit_are_refused(truth, samples):
    with pytest.raises(ValueError, match="expected truth .* and samples"):
        fit_interval_width(np.ones(truth), np.ones(samples))


def test_few_intervals_give_no_width():
    few = fit_recalibration([make_field(k, spread=0.5) for k in range(20)])
    assert few.width("median") == 1
    assert few.width("unknown") == 1


def test_report_refuses_nothing():
    with pytest.raises(ValueError, match="at least one"):
        make_report([])


def test_tables_survive_ecsv(report, written):
    assert set(report.tables) == NAMES
    for name, table in report.tables.items():
        back = Table.read(written / f"{name}.ecsv")
        assert back.colnames == table.colnames
        assert back.meta["settings"] == report.settings
        for column in table.colnames:
            if back[column].dtype.kind == "f":
                assert_array_equal(np.ma.filled(back[column], np.nan), table[column])
            else:
                assert back[column].tolist() == table[column].tolist()


def test_recalibration_is_written(report, written):
    stored = json.loads((written / "recalibration.json").read_text())
    assert set(stored["strategies"]) == {"median"}
    back = Recalibration.from_dict(stored)
    assert (back.n_detections, back.n_fields) == ({"median": 4 * N_FIELDS}, N_FIELDS)
    assert (back.n_samples, back.radius) == (20, 0.5)
    grid = np.linspace(0, 1, 11)
    assert_array_equal(back.curves["median"](grid), report.recalibration.curves["median"](grid))


def test_page_needs_no_network(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert "@import" not in text
    assert "url(" not in text
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)


def test_page_has_every_table_and_figure(report, written):
    page = Page((written / "report.html").read_text(encoding="utf-8"))
    pictures = [base64.b64decode(link.split(",", 1)[1]) for link in page.links]
    files = {path.read_bytes() for path in written.glob("*.png")}
    assert set(pictures) == files
    assert len(files) == len(NAMES) - len({"summary", "posterior", "reconstruction"})
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    words = " ".join(page.words)
    assert all(f"{name}.ecsv" in words for name in NAMES)
    assert page.rows > sum(len(table) for table in report.tables.values())
    assert "none <b>& such</b>" in words  # as text, not as a tag


def test_report_of_other_tables_still_makes_a_page(tmp_path):
    write_report(EvaluationReport({"own": Table({"a": [1]})}, None), tmp_path)
    assert "own.ecsv" in (tmp_path / "report.html").read_text()


def test_results_survive_the_disk(tmp_path):
    stored = StoredResults(tmp_path / "fields", {"seed": 1})
    written = [make_field(2, group="pwv=1mm"), make_field(10), make_field(3), empty_field(4)]
    for one in written:
        stored.write(one)
    back = StoredResults.load(tmp_path / "fields").read()
    assert [(one.group, one.number) for one in back] == [
        ("", 3), ("", 4), ("", 10), ("pwv=1mm", 2),
    ]  # fmt: skip
    for one in written:
        (same,) = [b for b in back if (b.group, b.number) == (one.group, one.number)]
        assert same_results(one, same)
    assert ("", 3) in stored
    assert ("pwv=1mm", 3) not in stored
    assert len(stored) == 4


def test_other_settings_are_refused_or_replaced(tmp_path):
    StoredResults(tmp_path / "a", {"seed": 1}).write(make_field(0))
    assert len(StoredResults(tmp_path / "a", {"seed": 1}, overwrite=True)) == 1
    with pytest.raises(ValueError, match="seed 1, now 2"):
        StoredResults(tmp_path / "a", {"seed": 2})
    assert len(StoredResults(tmp_path / "a", {"seed": 2}, overwrite=True)) == 0
    assert len(StoredResults(tmp_path / "a", {"seed": 2})) == 0


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="no folder of results"):
            StoredResults(tmp_path, {}, overwrite=overwrite)
    with pytest.raises(ValueError, match="has no settings"):
        StoredResults.load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_what_is_stored(tmp_path, monkeypatch):
    stored = StoredResults(tmp_path / "fields", {})
    stored.write(make_field(0))

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    for number in (0, 1):
        with pytest.raises(OSError, match="No space"):
            stored.write(make_field(number))
    assert sorted(path.name for path in stored.path.iterdir()) == [
        "field-00000000.npz",
        "settings.json",
    ]
    assert same_results(stored.read()[0], make_field(0))


def test_a_damaged_result_is_named(tmp_path):
    stored = StoredResults(tmp_path / "fields", {})
    stored.write(make_field(7))
    (path,) = stored.path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"field-00000007\.npz is damaged"):
        stored.read()
