"""The command that compares engine and reference on drawn worlds, on worlds that it once found."""

from __future__ import annotations

import cluster_sweep
import pytest


@pytest.mark.parametrize(("seed", "where"), [(2047, "busy links"), (2129, "too few GPUs")])
def test_ties_between_steps_and_devices_that_change_hands(seed, where) -> None:
    """A step begins at the moment of a preemption; a replica drains on devices that others get."""
    assert cluster_sweep.compare(seed, where)["verdict"] == "equal"


def test_a_moment_that_the_engine_has_elsewhere_is_no_rounding(monkeypatch) -> None:
    true = cluster_sweep.of_engine

    def late(*given):
        found = true(*given)
        found["finish", 3, 0.0] += 1e-6
        return found

    monkeypatch.setattr(cluster_sweep, "of_engine", late)
    found = cluster_sweep.compare(2129, "too few GPUs")
    assert found["verdict"] == "different" and found["from_s"] is None
    assert [what for what, _ in found["first"]] == [("finish", 3, 0.0)]
