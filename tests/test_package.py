"""The package as a whole: what importing it costs, and what its metadata say."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import diffsky

IMPORT_BUDGET = 0.3  # seconds
HEAVY = {"torch", "pytorch_lightning", "casatools", "casatasks", "photutils", "matplotlib"}
PROBE = """
import json, sys, time
start = time.perf_counter()
import diffsky
seconds = time.perf_counter() - start
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"seconds": seconds, "loaded": loaded}))
"""


def probe_import():
    """Import diffsky in a new interpreter: the seconds it took, and what it loaded."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def imports():
    """Several imports, each in an interpreter of its own."""
    return [probe_import() for _ in range(5)]


@pytest.fixture(scope="module")
def distribution():
    """Metadata of the installed distribution."""
    try:
        return importlib.metadata.distribution("diffsky-radio")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("diffsky-radio is not installed, only importable")


def test_import_is_quick(imports):
    # The best of several, because the others measure what else the machine is doing.
    assert min(one["seconds"] for one in imports) < IMPORT_BUDGET


def test_import_loads_nothing_heavy(imports):
    assert "diffsky" in imports[0]["loaded"]
    assert HEAVY.isdisjoint(imports[0]["loaded"])


def test_version_is_a_development_or_release_number():
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?(\.dev\d+|rc\d+)?", diffsky.__version__)


def test_version_is_cited():
    citation = (Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {diffsky.__version__}\n" in citation


def test_public_names_resolve():
    assert diffsky.__all__
    for name in diffsky.__all__:
        assert getattr(diffsky, name) is not None
    assert set(diffsky.__all__) <= set(dir(diffsky))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = diffsky.no_such_name


def test_version_is_that_of_the_distribution(distribution):
    assert distribution.version == diffsky.__version__


def test_metadata(distribution):
    assert distribution.metadata["Requires-Python"] == ">=3.11"
    assert distribution.metadata["License-Expression"] == "BSD-3-Clause"
    assert {"casa", "docs", "test", "all"} <= set(distribution.metadata.get_all("Provides-Extra"))


def test_command_is_an_entry_point(distribution):
    (command,) = distribution.entry_points.select(group="console_scripts", name="diffsky")
    assert command.value == "diffsky.cli:main"
    assert callable(command.load())


def test_bundled_data_are_installed(distribution):
    installed = {file.suffix for file in distribution.files if file.match("diffsky/data/*/*")}
    assert {".safetensors", ".json"} <= installed
