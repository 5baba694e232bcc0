"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile what several processes would each compile for themselves."""
    is_worker = hasattr(session.config, "workerinput")
    if not is_worker and session.config.getoption("numprocesses", None):
        from gpuyard.envs.warmup import warm_up

        for _ in warm_up():
            pass


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of measured data and traces; tests that need it skip where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("GPUYARD_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no measured data at {folder}: set GPUYARD_DATA to its folder")
    return folder


@pytest.fixture(autouse=True)
def refused_plans_are_errors(monkeypatch):
    """A planner that sends a plan which the engine refuses fails its test."""
    from gpuyard.baselines.planner import Planner

    monkeypatch.setattr(Planner, "strict", True)
