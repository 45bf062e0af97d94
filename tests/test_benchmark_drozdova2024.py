"""The script that prints the tables of D24: all of it on a field or two, with white noise."""

import json
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from click.testing import CliRunner

from diffsky import DiffusionDeconvolver
from diffsky.instrument import read_array, uv_tracks
from diffsky.simulation import ObservationSetup, SharedNoise

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:the image peaks at:diffsky.exceptions.DiffskyWarning"),
    pytest.mark.skipif(not BENCHMARKS.exists(), reason="the benchmarks are not beside the tests"),
]
FIELDS = ("--fields", "2", "--fresh", "1", "--default-fields", "1", "--water", "1")


def write_noise(path):
    """Noise of every visibility of D24, white, in place of CASA's."""
    setup = ObservationSetup.drozdova2024(SkyCoord(150.119 * u.deg, 2.2 * u.deg))
    times = {name: getattr(setup, name) for name in ("total_time", "integration", "hour_angle")}
    array = read_array(setup.array)
    tracks = uv_tracks(array, direction=setup.direction, frequency=setup.frequency, **times)
    values = np.random.default_rng(1).normal(size=(1, len(tracks.rows), 2)) @ [1, 1j]
    units = {"total_time": u.s, "integration": u.s, "hour_angle": u.hourangle}
    about = {name: float(u.Quantity(times[name], unit).value) for name, unit in units.items()}
    SharedNoise(values, np.ones(1), {"array": setup.array, **about}).write(path)
    return path


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import drozdova2024

        patch.setattr(drozdova2024, "PWV_OCTILES", drozdova2024.PWV_OCTILES[[0, -1]])
        yield drozdova2024.main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Bundled weights that say they are of shared noise."""
    deconvolver = DiffusionDeconvolver.from_pretrained("alma-band6", device="cpu")
    pairs = {"noise": "shared", "field_size": 240}
    deconvolver.description_["training"]["pairs"] = pairs
    folder = tmp_path_factory.mktemp("weights") / "shared"
    deconvolver.save(folder, name="shared")
    return folder


def test_everything_is_printed_drawn_and_recorded(script, trained, data_dir, tmp_path):
    noise = write_noise(tmp_path / "noise.npz")
    options = ["--trained", trained, "--data", data_dir, "--store", tmp_path / "store", *FIELDS]
    options += [
        "--samples",
        "2",
        "--record",
        tmp_path / "figures.json",
        "--figures",
        tmp_path / "f",
    ]
    result = CliRunner().invoke(script, [str(noise), *map(str, options)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for part in ("table 1", "table 2", "table 4", "false detections, median", "water vapour, 1"):
        assert part in result.stdout
    lines = result.stdout.splitlines()
    assert sum(line.startswith("  gamma 2 ") and "printed" in line for line in lines) == 3
    # The noise of the published pairs goes with that of the nearest: 48 to 7 uJy/beam.
    (start,) = (k for k, line in enumerate(lines) if line.startswith("nearest; correlation"))
    numbers = [list(map(float, line.split()[1:])) for line in lines[start + 1 : start + 5]]
    assert all(40 < whole < 60 and left < 15 for whole, left, *_ in numbers)
    assert all(abs(alike) < 0.2 for *_, first, second in numbers for alike in (first, second))
    known = json.loads((tmp_path / "figures.json").read_text())
    assert "published, less nearest noise: matched filter, S/N of the others: F1" in known
    assert known["change of the completeness, as D24"]["value"] is not None
    drawn = {path.name for path in (tmp_path / "f").iterdir()}
    assert "published-noise.png" in drawn
    assert "drozdova2024-fluxes.png" in drawn


def test_threshold_of_the_filter_is_that_of_the_other_fields(script):
    """Three fields whose false detections have scores up to 5, 5 and 9."""
    from drozdova2024_explained import FILTER, held_out

    from diffsky.evaluation import Detections, FieldResult, TrueSources

    results = []
    for number, highest in enumerate((5.0, 5.0, 9.0)):
        truth = TrueSources(np.zeros(1), np.zeros(1), np.full(1, 1e-4), *np.ones((2, 1)))
        place, score = np.array([0.0, 9.0]), np.array([20.0, highest])
        found = Detections(place, np.zeros(2), np.full(2, 1e-4), *np.ones((2, 2)), score)
        results.append(FieldResult(number, 0.85, 1e-5, truth, {FILTER: found}))
    scores = [one.catalogs[FILTER].score for one in held_out(results)]
    for own, least in zip(scores, (9.5, 9.5, 5.5), strict=True):
        np.testing.assert_allclose(own[0], 20 / least)
    assert scores[2][1] > 1  # a false one that the others did not warn of


def test_weights_of_other_noise_are_refused(script, tmp_path):
    noise = write_noise(tmp_path / "noise.npz")
    options = [str(noise), "--trained", "alma-band6", "--data", str(tmp_path)]
    result = CliRunner().invoke(script, options)
    assert result.exit_code == 2
    assert "expected weights of examples/train_shared_noise.py" in result.stderr
