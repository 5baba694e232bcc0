"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of measured data and traces; tests that need it skip where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("GPUYARD_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no measured data at {folder}: set GPUYARD_DATA to its folder")
    return folder
