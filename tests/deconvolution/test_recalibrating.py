"""Reliabilities with a recalibration that is stored with the weights."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from diffsky import DiffskyWarning, DiffusionDeconvolver
from diffsky.catalog import IsotonicRecalibration, Recalibration, read_catalog, write_catalog
from diffsky.deconvolution import STRATEGIES
from diffsky.images import write_image

SOURCES = [(40.3, 50.7, 0.1), (70.2, 30.1, 0.05)]
N = 12
OPTIONS = {"n_samples": N, "seed": 4, "primary_beam": 1.0}
CURVE = IsotonicRecalibration([0, 0.25, 1], [0, 0.05, 0.8])


def make_recalibration(**options):
    given = {
        "curves": dict.fromkeys(STRATEGIES, CURVE),
        "n_detections": dict.fromkeys(STRATEGIES, 1000),
        "n_fields": 250,
        "n_samples": N,
        "prior": "independent",
    }
    return Recalibration(**{**given, **options})


@pytest.fixture
def calibrated(local_estimator):
    """An estimator whose samples have the sources in about half of them."""
    return local_estimator(doubt=True).calibrate(make_recalibration())


@pytest.mark.parametrize("strategy", ["mean", "detect-aggregate"])
def test_reliability_is_recalibrated_and_the_share_stays(calibrated, dirty, strategy):
    image = dirty(SOURCES)
    sky, catalog = calibrated.predict(image, strategy=strategy, **OPTIONS)
    _, raw = calibrated.predict(image, strategy=strategy, calibrated=False, **OPTIONS)
    assert len(catalog) == len(raw) == 2
    assert ((raw["share"] > 0.25) & (raw["share"] < 1)).all()
    assert_array_equal(raw["reliability"], raw["share"])
    assert_array_equal(catalog["share"], raw["share"])
    assert_allclose(catalog["share"], catalog["n_detections"] / N)
    assert_allclose(catalog["reliability"], CURVE(raw["share"]))
    assert (catalog["reliability"] < catalog["share"]).all()
    about = "isotonic, 1000 detections in 250 fields, 12 samples, prior independent; "
    about += "flux intervals x 1.00"
    assert sky.meta["recalibration"] == catalog.meta["recalibration"] == about
    assert raw.meta["recalibration"] == "none"


@pytest.mark.parametrize("width", [0.5, 5.0])
def test_intervals_are_widened_about_their_middles(local_estimator, dirty, width):
    known = make_recalibration(widths={"mean": width})
    estimator = local_estimator(doubt=True).calibrate(known)
    image, options = dirty(SOURCES), {"strategy": "mean", **OPTIONS}
    sky, catalog = estimator.predict(image, **options)
    raw_sky, raw = estimator.predict(image, calibrated=False, **options)
    assert_allclose(catalog["flux_err"], width * raw["flux_err"])
    middle = (raw["flux_lower"] + raw["flux_upper"]) / 2
    for name in ("flux_lower", "flux_upper"):
        end = middle + width * (raw[name] - middle)
        assert_allclose(catalog[name].value, np.maximum(end.value, 0))
    assert_array_equal(catalog["flux"], raw["flux"])
    assert_array_equal(sky.data, raw_sky.data)
    assert sky.meta["recalibration"].endswith(f"flux intervals x {width:.2f}")
    _, other = estimator.predict(image, **OPTIONS)  # median, which has no width
    _, plain = estimator.predict(image, calibrated=False, **OPTIONS)
    assert_array_equal(other["flux_err"], plain["flux_err"])


def test_least_reliability_is_that_of_the_user(calibrated, dirty):
    options = {"strategy": "mean", **OPTIONS}
    _, catalog = calibrated.predict(dirty(SOURCES), **options)
    shown, share = catalog["reliability"][0], catalog["share"][0]
    for least, n in ((shown - 1e-6, 2), (shown + 1e-6, 0), (share, 0)):
        assert len(calibrated.predict(dirty(SOURCES), min_reliability=least, **options)[1]) == n
    given = {"min_reliability": share, "calibrated": False}
    assert len(calibrated.predict(dirty(SOURCES), **given, **options)[1]) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"n_samples": 5}, "none: it is for 12 samples, here are 5"),
        ({"radius": 0.7}, "none: it is for a radius of 0.5 beam, here 0.7"),
        ({"n_samples": 6}, "isotonic"),
        ({"n_samples": 15}, "isotonic"),
    ],
)
def test_it_is_used_for_what_it_was_fitted_to(calibrated, dirty, options, reason):
    _, catalog = calibrated.predict(dirty(SOURCES), **{**OPTIONS, "strategy": "mean", **options})
    assert catalog.meta["recalibration"].startswith(reason)
    same = catalog["reliability"] == catalog["share"]
    assert same.all() if reason.startswith("none") else not same.any()


def test_another_sampler_or_strategy_has_none(calibrated, dirty):
    calibrated.n_steps = 3
    _, catalog = calibrated.predict(dirty(SOURCES), **OPTIONS)
    assert catalog.meta["recalibration"] == "none: it is for another sampler"
    assert calibrated.recalibration(n_samples=N) is None
    calibrated.n_steps = None
    assert calibrated.recalibration(n_samples=N).n_fields == 250
    part = make_recalibration(curves={"mean": CURVE}, n_detections={"mean": 500})
    _, catalog = calibrated.calibrate(part).predict(dirty(SOURCES), **OPTIONS)
    assert catalog.meta["recalibration"] == "none: it is for mean"


def test_it_is_saved_with_the_weights(untrained, dirty, tmp_path):
    plain = untrained.recalibration()
    assert plain is None
    untrained.calibrate(make_recalibration()).save(tmp_path / "with")
    stored = json.loads((tmp_path / "with" / "description.json").read_text())["recalibration"]
    table = stored["strategies"]["median"]
    assert (table["share"], table["reliability"]) == ([0, 0.25, 1], [0, 0.05, 0.8])
    assert stored["sampling"] == untrained.sampling_plan()
    again = DiffusionDeconvolver.load(tmp_path / "with", device="cpu", precision="float32")
    back = again.recalibration(n_samples=N)
    assert back.to_dict() == stored
    again.calibrate(None).save(tmp_path / "without")
    assert "recalibration" not in (tmp_path / "without" / "description.json").read_text()


def test_first_version_has_no_widths():
    stored = make_recalibration(widths={"mean": 0.8}).to_dict()
    assert Recalibration.from_dict(stored).width("mean") == 0.8
    tables = {k: {**t} for k, t in stored["strategies"].items()}
    for table in tables.values():
        del table["width"]
    assert (
        Recalibration.from_dict({**stored, "version": 1, "strategies": tables}).width("mean") == 1
    )


def test_products_keep_it(calibrated, dirty, tmp_path):
    sky, catalog = calibrated.predict(dirty(SOURCES), strategy="mean", **OPTIONS)
    write_image(sky, tmp_path / "sky.fits")
    for name in ("a.ecsv", "a.fits", "a.vot"):
        write_catalog(catalog, tmp_path / name)
        back = read_catalog(tmp_path / name)
        assert_allclose(back["share"], catalog["share"])
        assert back.meta["recalibration"] == catalog.meta["recalibration"]


def test_few_detections_are_said(untrained):
    few = make_recalibration(n_detections=dict.fromkeys(STRATEGIES, 399))
    with pytest.warns(DiffskyWarning, match="fitted to 399 detections; with fewer than 400"):
        untrained.calibrate(few)


def test_what_is_none_is_refused_before_the_network_runs(calibrated, dirty):
    calibrated.description_["recalibration"] = {"version": 2, "strategies": {}}
    with pytest.raises(ValueError, match="expected a recalibration"):
        calibrated.predict(dirty(SOURCES), **OPTIONS)
    assert calibrated.denoiser_.calls == 0
    with pytest.raises(ValueError, match="of version 1 or 2, got 3"):
        Recalibration.from_dict({"version": 3})
    with pytest.raises(ValueError, match=r"widths for some of \['median'.*got \['other'\]"):
        make_recalibration(widths={"other": 2.0})
    with pytest.raises(ValueError, match="expected widths above 0"):
        make_recalibration(widths={"mean": 0.0})
    for wrong in ({"curves": {}}, {"n_detections": {"mean": 3}}):
        with pytest.raises(ValueError, match="for one or more strategies"):
            make_recalibration(**wrong)
    with pytest.raises(ValueError, match="numbers above 0"):
        make_recalibration(n_samples=0)


def test_ties_and_order_stay_sane(calibrated, dirty):
    """Shares that were right equally often get one reliability; the order of rows stays."""
    flat = IsotonicRecalibration([0, 0.25, 1], [0, 0.5, 0.5])
    same = make_recalibration(curves=dict.fromkeys(STRATEGIES, flat))
    options = {"strategy": "detect-aggregate", **OPTIONS}
    _, raw = calibrated.predict(dirty(SOURCES), calibrated=False, **options)
    _, catalog = calibrated.calibrate(same).predict(dirty(SOURCES), **options)
    assert_allclose(catalog["reliability"], 0.5)
    assert_array_equal(catalog["flux"], raw["flux"])
    assert np.all(catalog["id"] == raw["id"])
