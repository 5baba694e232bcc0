"""EASY backfill against schedules worked out by hand, and its promise to every head."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_world import Gang, check, counted, planner, simulate, starts
from views import make_view

from gpuyard.baselines.gang.easy import EasyBackfill, Shadow
from gpuyard.baselines.room import Room

# 8 GPUs: A holds 4 until 100 s, B holds 2 until 200 s, 2 are free.
A_AND_B = [{"id": 0, "on": range(4), "end_s": 100.0}, {"id": 1, "on": [4, 5], "end_s": 200.0}]


def easy(head: int, *others: tuple[int, float]) -> int | None:
    """Return which of the others starts while the head of ``head`` GPUs waits."""
    pending = [{"id": 10, "gpus": head, "estimate_s": 50.0}]
    pending += [
        {"id": 11 + k, "gpus": gpus, "estimate_s": run} for k, (gpus, run) in enumerate(others)
    ]
    view = make_view(pending, A_AND_B, cluster=counted(8))
    plan = planner("easy-backfill").plan(view)
    if plan is None:
        return None
    check(view, plan)
    return plan.gang - 11


def test_easy_lets_pass_what_ends_by_the_shadow_time():
    """A head of 6 fits when A ends (2 + 4 GPUs, none extra): the shadow time is 100 s."""
    assert easy(6, (2, 100.0)) == 0
    assert easy(6, (2, 101.0)) is None
    assert easy(6, (2, 101.0), (1, 150.0), (1, 90.0)) == 2


def test_easy_lets_pass_what_needs_the_extra_gpus_only():
    """A head of 5 leaves one extra GPU at 100 s, whatever node it stands on."""
    assert easy(5, (2, 500.0), (1, 500.0)) == 1
    # the extra GPU is gone once a long gang runs on it
    view = make_view(
        [{"id": 10, "gpus": 5}, {"id": 12, "gpus": 1, "estimate_s": 500.0}],
        [*A_AND_B, {"id": 11, "on": [6], "end_s": 500.0}],
        cluster=counted(8),
    )
    assert planner("easy-backfill").plan(view) is None


def test_easy_counts_all_that_end_at_the_shadow_time():
    """At 100 s three gangs of 2 end and a head of 4 leaves 4 of 8 GPUs: a long gang of 2 passes."""
    running = [{"id": k, "on": [2 * k, 2 * k + 1], "end_s": 100.0} for k in range(3)]
    pending = [{"id": 10, "gpus": 4}, {"id": 11, "gpus": 2, "estimate_s": 500.0}]
    view = make_view(pending, running, cluster=counted(8))
    assert planner("easy-backfill").plan(view).gang == 11


def test_easy_starts_the_head_first():
    assert (
        planner("easy-backfill")
        .plan(make_view([{"id": 5, "gpus": 2}, {"id": 6, "gpus": 1}], A_AND_B, cluster=counted(8)))
        .gang
        == 5
    )


def test_easy_asks_the_placement_for_the_shadow_time_not_a_count_of_gpus():
    """8 GPUs are free at 100 s, but no node is whole until 200 s."""
    running = [
        {"id": 0, "on": range(4), "end_s": 300.0},
        {"id": 1, "on": range(8, 12), "end_s": 100.0},
        {"id": 2, "on": range(12, 16), "end_s": 200.0},
    ]
    head = {"id": 3, "gpus": 8, "required": 0}
    until_150 = {"id": 4, "gpus": 4, "estimate_s": 150.0}
    until_900 = {"id": 5, "gpus": 4, "estimate_s": 900.0}
    for other in (until_150, until_900):  # the long one stays on node 0, beside the head's node 1
        view = make_view([head, other], running, nodes=2)
        assert planner("easy-backfill").plan(view).gang == other["id"]
    # where node 0 is the one that becomes whole first, the long one would delay the head
    running[0]["end_s"] = 50.0
    assert planner("easy-backfill").plan(make_view([head, until_900], running, nodes=2)) is None


def test_easy_delays_the_second_in_the_queue_and_conservative_does_not():
    """4 GPUs, R holds 2 until 10 s; H wants 3 for 10 s, J 4 for 10 s, K 1 for 25 s.

    H can start at 10 and J at 20. EASY lets K use the GPU that H leaves over, until 25, and J must
    wait for it. Conservative backfill keeps J's reservation: K fits after J only, at 30.
    """

    def jobs():
        return [Gang(0, 2, 10), Gang(0, 3, 10), Gang(0, 4, 10), Gang(0, 1, 25)]

    easy_jobs = simulate(planner("easy-backfill"), jobs(), counted(4))
    assert starts(easy_jobs) == [0, 10, 25, 0]
    conservative = simulate(planner("conservative-backfill"), jobs(), counted(4))
    assert starts(conservative) == [0, 10, 20, 30]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_with_exact_estimates_every_head_starts_by_its_shadow_time(seed):
    rng = np.random.default_rng(seed)
    jobs = [
        (int(rng.integers(1, 13)), float(rng.integers(1, 200)), int(rng.integers(1, 4)))
        for _ in range(20)
    ]
    jobs = [(gpus if required > 1 else min(gpus, 8), run, required) for gpus, run, required in jobs]
    promises: dict[int, float] = {}

    class Recorded(EasyBackfill):
        def plan(self, view):
            plan = super().plan(view)
            head = view.pending[0]
            if plan is None or plan.gang != head["id"]:
                shadow = Shadow(view, Room(view), 0)
                promises[int(head["id"])] = min(
                    shadow.time_s, promises.get(int(head["id"]), np.inf)
                )
            return plan

    done = simulate(
        Recorded(),
        [Gang(0, gpus, run, required=required) for gpus, run, required in jobs],
        nodes=4,
        gpus_per_node=4,
    )
    assert promises
    for head, shadow_s in promises.items():
        assert done[head].runs[0][0] <= shadow_s + 1e-3
