"""Any queue order on any placement: names, legal plans, the same order everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from mini_world import Gang, check, simulate
from views import PLACING, make_view

from gpuyard import baselines
from gpuyard.baselines.gang import ORDERS

PLACEMENTS = [
    name
    for name in (*baselines.names("topology"), *baselines.names("isolation"))
    if name != "isolation/ocs-vclos"  # for optical fabrics only
]


def test_every_gang_baseline_is_an_order_but_the_random_one():
    names = {name.removeprefix("gang/") for name in baselines.names("gang")}
    assert set(ORDERS) == names - {"random"}


@pytest.mark.parametrize("name", PLACEMENTS)
def test_an_unknown_order_is_named_and_so_are_the_known_ones(name):
    with pytest.raises(ValueError, match=r"order = 'lifo' must be one of fifo, .*srsf, tiresias"):
        baselines.make(name, order="lifo")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", PLACEMENTS)
def test_every_order_runs_on_every_placement(name, order):
    """Every gang ends, and every plan is legal (asserted by the world), with preemption."""
    rng = np.random.default_rng(len(name) * 100 + len(order))
    jobs = [
        Gang(
            arrival_s=float(at),
            gpus=int(rng.choice([1, 2, 4, 8, 12, 16])),
            run_s=float(rng.lognormal(5, 1)),
            estimate_s=float(rng.lognormal(5, 1)),
        )
        for at in np.sort(rng.uniform(0, 1000, 16))
    ]
    policy = baselines.make(name, order=order)
    done = simulate(policy, jobs, None, True, nodes=8, gpus_per_node=4, spines=4, uplinks=8)
    assert all(job.left_s == 0 for job in done)


QUEUE = [
    {"id": 0, "gpus": 16, "estimate_s": 3000.0, "arrival_s": 0.0},
    {"id": 1, "gpus": 4, "estimate_s": 500.0, "arrival_s": 400.0},
    {"id": 2, "gpus": 8, "estimate_s": 200.0, "arrival_s": 800.0, "priority": 1.0},
]


@pytest.mark.parametrize(
    ("order", "first"),
    [
        *(("fifo", 0), ("fifo-first-fit", 0), ("sjf", 2), ("smallest-first", 1)),
        *(("smallest-area", 2), ("srsf", 2), ("srtf", 2), ("dynamic", 0), ("wfp3", 1)),
        *(("unicep", 1), ("easy-backfill", 0), ("conservative-backfill", 0), ("volcano", 2)),
    ],
)
@pytest.mark.parametrize("name", ["topology/kueue-tas", "topology/fgd", "isolation/best-fit"])
def test_who_comes_first(name, order, first):
    """Area: 48,000, 2,000, 1,600 GPU s; (w/r)^3 n: 0.43, 4, 1; priority: the third."""
    view = make_view(QUEUE, nodes=4, now_s=900.0)
    policy = baselines.make(name, order=order)
    policy.reset(PLACING, 1, 0)
    plan = policy.plan_for(0, view)
    check(view, plan)
    assert plan.gang == first


def test_a_preemptive_order_stops_gangs_for_any_placement():
    running = [{"id": 9, "on": range(32), "estimate_s": 1e5, "end_s": 1e5}]
    view = make_view(QUEUE[1:2], running, nodes=4, now_s=900.0, preemption=True)
    for name in ("topology/kueue-tas", "isolation/best-fit"):
        policy = baselines.make(name, order="srsf")
        policy.reset(PLACING, 1, 0)
        plan = policy.plan_for(0, view)
        check(view, plan)
        assert plan.preempt == (9,)
