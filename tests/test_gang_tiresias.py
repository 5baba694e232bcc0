"""Tiresias: queues by attained service, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from mini_world import Gang, counted, planner, simulate
from views import gangs, make_view


def test_tiresias_demotes_by_gpu_time_and_upper_queues_stop_lower_ones():
    """2 GPUs, one threshold at 100 GPU s.

    At 40 A has attained 80 GPU s and is in the top queue like B: B waits. At 60 C arrives, A has
    attained 120 and sinks: B, the older of the two in the top queue, stops it and runs 60-90, C
    90-100, and A its last 140 s from 100 on.
    """
    jobs = [Gang(0, 2, 200), Gang(40, 2, 30), Gang(60, 2, 10)]
    a, b, c = simulate(planner("tiresias", thresholds_gpu_s=[100]), jobs, counted(2), True)
    assert (b.runs, c.runs) == ([[60, 90]], [[90, 100]])
    assert a.runs == [[0, 60], [100, 240]]


def test_tiresias_queues_lie_between_thresholds():
    policy = planner("tiresias")
    service = [0, 3249, 3250, 7199, 7200, 90_000]
    table = gangs(*({"id": k, "gpus": 2, "executed_s": s / 2} for k, s in enumerate(service)))
    assert policy.queues(table, {}).tolist() == [0, 0, 1, 1, 2, 2]


def test_tiresias_promotes_a_gang_that_starves():
    """It has run 60 s (120 GPU s) and returns to the top after 2 x 60 s of waiting."""

    def plan(now_s: float, policy):
        view = make_view(
            [{"id": 1, "gpus": 2, "executed_s": 60.0}],
            [{"id": 0, "on": [0, 1], "executed_s": 90.0}],
            cluster=counted(2),
            now_s=now_s,
            preemption=True,
        )
        return policy.plan_for(0, view)

    policy = planner("tiresias", thresholds_gpu_s=[100], starvation=2.0)
    assert plan(60 + 119.0, policy) is None  # both in the lower queue
    assert plan(60 + 120.0, policy).preempt == (0,)
    assert policy.memories[0] == {1: (60.0, 120.0)}
    policy.restart(np.array([True]))
    assert policy.memories[0] == {}
    assert plan(1e6, planner("tiresias", thresholds_gpu_s=[100], starvation=0)) is None


def test_tiresias_counts_from_the_last_promotion():
    """Promoted after 120 s of waiting, it sinks after 60 s more and starves after 120 s more."""
    policy = planner("tiresias", thresholds_gpu_s=[100], starvation=2.0)
    policy.memories[0][1] = (60.0, 120.0)

    def queue(now_s: float) -> float:
        view = make_view(
            [{"id": 1, "gpus": 2, "executed_s": 120.0}],
            [{"id": 0, "on": [0, 1], "executed_s": 900.0}],
            cluster=counted(2),
            now_s=now_s,
            preemption=True,
        )
        policy.plan_for(0, view)
        return policy.queues(view.pending, policy.memories[0])[0]

    assert queue(120 + 120 + 119.0) == 1
    assert queue(120 + 120 + 120.0) == 0
    assert policy.memories[0] == {1: (120.0, 240.0)}


def test_tiresias_refuses_thresholds_that_do_not_grow():
    with pytest.raises(ValueError, match="must grow"):
        planner("tiresias", thresholds_gpu_s=[100, 100])
