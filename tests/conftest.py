"""What every test shares."""

import os
from pathlib import Path

import hypothesis
import pytest

# A first call may import torch or compile, so a deadline for one example would measure that.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def data_dir():
    """Folder of the real data that some tests need."""
    folder = os.environ.get("DIFFSKY_DATA")
    if not folder:
        pytest.skip("needs real data: the environment variable DIFFSKY_DATA is not set")
    return Path(folder)
