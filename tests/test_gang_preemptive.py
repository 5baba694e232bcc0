"""Gangs stopped for others: SRTF, SRSF, and what holds for all preemptive orders."""

from __future__ import annotations

import pytest
from mini_world import Gang, counted, planner, simulate
from views import make_view


def test_srtf_stops_the_longer_gang():
    """A (100 s) from 0, B (20 s) at 10: B runs 10-30, A 0-10 and 30-120."""
    a, b = simulate(planner("srtf"), [Gang(0, 1, 100), Gang(10, 1, 20)], counted(1), True)
    assert b.runs == [[10, 30]]
    assert a.runs == [[0, 10], [30, 120]]


def test_srsf_weighs_the_gpus_and_srtf_does_not():
    """At 10 s A has 2 GPUs x 90 s = 180 left; B wants 8 x 30 = 240, C wants 8 x 20 = 160."""
    for name, run_s, start_s in (("srtf", 30, 10), ("srsf", 30, 100), ("srsf", 20, 10)):
        jobs = simulate(planner(name), [Gang(0, 2, 100), Gang(10, 8, run_s)], None, True, nodes=1)
        assert jobs[1].runs[0][0] == start_s


@pytest.mark.parametrize("name", ["srtf", "srsf", "tiresias", "themis", "gavel"])
def test_preemptive_planners_keep_the_order_where_preemption_is_forbidden(name):
    """Everybody runs once, without a break."""
    jobs = [Gang(0, 8, 9000), Gang(10, 4, 20), Gang(20, 4, 30), Gang(30, 8, 10)]
    for job in simulate(planner(name), jobs, None, False, nodes=1):
        assert len(job.runs) == 1


def test_only_gangs_whose_gpus_are_taken_are_stopped():
    """Of two long gangs the longest gives way; it alone is enough."""
    running = [
        {"id": 0, "on": range(4), "estimate_s": 500.0},
        {"id": 1, "on": range(4, 8), "estimate_s": 900.0},
    ]
    pending = [{"id": 2, "gpus": 4, "estimate_s": 10.0}]
    plan = planner("srtf").plan(make_view(pending, running, nodes=1, preemption=True))
    assert plan.preempt == (1,) and plan.gpus.tolist() == [4, 5, 6, 7]
    running[1]["blocked"] = 1  # it started at this very moment
    plan = planner("srtf").plan(make_view(pending, running, nodes=1, preemption=True))
    assert plan.preempt == (0,)
