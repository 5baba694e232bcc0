"""Themis: finish-time fairness, leases and bids, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from mini_world import planner
from views import make_view

from gpuyard.baselines.gang.themis import finish_time_fairness


def test_themis_orders_by_finish_time_fairness():
    """8 GPUs, 3 gangs contend, 50 s have passed.

    a (8 GPUs, 100 s) alone takes 100 x 8 x 3 / 8 = 300 s and now ends at 150: 0.5. b (2 GPUs,
    100 s) fits its share and ends at 150: 1.5. c runs since 0 with half its speed lost: it ends at
    50 + 50 x 2 = 150 and alone would take 100 x 4 x 3 / 8 = 150: 1.
    """
    view = make_view(
        [{"id": 0, "gpus": 8}, {"id": 1, "gpus": 2}],
        [{"id": 2, "on": range(4), "executed_s": 50.0, "slowdown": 2.0}],
        nodes=1,
        now_s=50.0,
    )
    waiting, running = finish_time_fairness(view)
    np.testing.assert_allclose(waiting, [0.5, 1.5])
    np.testing.assert_allclose(running, [1.0])
    assert planner("themis").plan(view).gang == 1


def test_themis_stops_a_better_off_gang_when_its_lease_ends():
    def plan(now_s, **options):
        view = make_view(
            [{"id": 1, "gpus": 4, "arrival_s": 0.0}],
            [{"id": 0, "on": range(8), "executed_s": now_s, "estimate_s": 9000.0}],
            nodes=1,
            now_s=now_s,
            preemption=True,
        )
        return planner("themis", **options).plan(view)

    assert plan(1199.0) is None
    assert plan(1200.0).preempt == (0,)
    assert plan(600.0, lease_s=600.0).preempt == (0,)


def test_themis_lets_only_the_worst_off_stop_others():
    """Five gangs, f = 0.8: one bidder, the running gang that is worst off itself."""
    view = make_view(
        [{"id": k, "gpus": 4, "arrival_s": 1900.0} for k in (1, 2, 3)],
        [
            {"id": 0, "on": range(4), "estimate_s": 10.0, "executed_s": 2000.0},
            {"id": 4, "on": range(4, 8), "estimate_s": 9000.0, "executed_s": 2000.0},
        ],
        nodes=1,
        now_s=2000.0,
        preemption=True,
    )
    waiting, running = finish_time_fairness(view)
    assert running[0] > waiting.max() and running[1] < waiting.min()
    assert planner("themis").plan(view) is None
    assert planner("themis", fairness=0.0).plan(view).preempt == (4,)
    with pytest.raises(ValueError, match="fairness"):
        planner("themis", fairness=1.5)
