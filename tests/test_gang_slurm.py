"""Slurm as a planner: order by factors, usage, preemption by QOS, limits, backfill."""

from __future__ import annotations

import numpy as np
import pytest
from mini_world import Gang, check, counted, simulate
from views import PLACING, make_cluster, make_view

from gpuyard import baselines
from gpuyard.baselines.slurm.usage import Usage

ALONE = {"age": 0.0, "fairshare": 0.0, "job_size": 0.0, "partition": 0.0, "qos": 0.0}


def policy(**options):
    made = baselines.make("gang/slurm-multifactor", **options)
    made.reset(PLACING, 1, 0)
    return made


def single(gpus: int):
    """One GPU to a node."""
    return make_cluster(nodes=gpus, gpus_per_node=1, nodes_per_leaf=gpus)


PENDING = [
    {"id": 1, "gpus": 2, "arrival_s": 0.0, "tenant": 0},
    {"id": 2, "gpus": 6, "arrival_s": 50.0, "tenant": 1},
    {"id": 3, "gpus": 1, "arrival_s": 60.0, "tenant": 0, "priority": 1.0},
]


@pytest.mark.parametrize(
    ("weight", "more", "first"),
    [
        ("age", {}, 1),
        ("job_size", {}, 2),
        ("job_size", {"favor_small": True}, 3),
        ("qos", {}, 3),
        ("fairshare", {}, 2),
        ("fairshare", {"tree": "classic"}, 2),
    ],
)
def test_each_factor_orders_by_itself(weight, more, first):
    """Tenant 0 has used the machine, tenant 1 has not."""
    made = policy(**(ALONE | {weight: 1000.0, "max_age_s": 1000.0, "backfill": "none"} | more))
    made.memories[0].gpu_s = np.array([500.0, 0.0])
    view = make_view(PENDING, [], single(8), now_s=100.0, quotas=(10**9, 10**9))
    assert made.plan_for(0, view).gang == first


def test_a_partition_has_a_priority():
    """priority_multifactor, Partition Factor: the pool that a gang must use is its partition."""
    pending = [
        {"id": 1, "gpus": 1, "pool": 0},
        {"id": 2, "gpus": 1, "pool": 1},
    ]
    cluster = make_cluster(gpus_per_node=4, pools=(("H100-SXM", 2), ("A100-80", 2)))
    view = make_view(pending, [], cluster)
    assert policy().plan_for(0, view).gang == 1
    assert policy(partitions=(1.0, 10.0)).plan_for(0, view).gang == 2
    with pytest.raises(ValueError, match="must be one priority for each of the 2 pools"):
        policy(partitions=(1.0,)).plan_for(0, view)


def test_usage_is_gpu_time_of_each_tenant_and_fades():
    """8 GPUs for 100 s by tenant 0, half of it after the half-life; 2 GPUs for 50 s by tenant 1."""
    usage, quotas = Usage(), (10**9, 10**9)
    a = {"id": 0, "on": range(8), "tenant": 0, "end_s": 100.0}
    usage.update(make_view([], [a], single(16), now_s=0.0, quotas=quotas), 100.0)
    assert usage.gpu_s.tolist() == [0, 0]
    ran = a | {"executed_s": 100.0}
    usage.update(make_view([], [ran], single(16), now_s=100.0, quotas=quotas), 100.0)
    assert usage.gpu_s.tolist() == [800, 0]
    b = {"id": 1, "on": range(2), "tenant": 1, "executed_s": 50.0}
    usage.update(make_view([], [b], single(16), now_s=200.0, quotas=quotas), 100.0)
    assert usage.gpu_s.tolist() == [400, 100], "what is gone ended at its believed end, 100 s"


def test_one_qos_preempts_another_and_requeues_it():
    """preempt, a simple example: five jobs of a node each; one of three nodes stops three of them.

    Two go on. Which of equal ones is not documented; by number, as there.
    """
    running = [{"id": i, "on": [i], "priority": 0.0, "start_s": float(i)} for i in range(5)]
    gang = {"id": 9, "gpus": 3, "priority": 1.0}
    view = make_view([gang], running, single(5), now_s=27.0, preemption=True)
    plan = policy().plan_for(0, view)
    check(view, plan)
    assert plan.preempt == (0, 1, 2)
    plan = policy(youngest_first=True).plan_for(0, view)
    assert plan.preempt == (2, 3, 4)


def test_free_nodes_come_before_preemption():
    """preempt, design: first whether the job starts without preempting any."""
    running = [{"id": i, "on": [i], "priority": 0.0} for i in range(3)]
    view = make_view(
        [{"id": 9, "gpus": 2, "priority": 1.0}], running, single(5), now_s=27.0, preemption=True
    )
    assert policy().plan_for(0, view).preempt == ()
    view = make_view(
        [{"id": 9, "gpus": 3, "priority": 1.0}], running, single(5), now_s=27.0, preemption=True
    )
    plan = policy().plan_for(0, view)
    check(view, plan)
    assert len(plan.preempt) == 1, "preempt, future ideas: the other two continue to run"


def test_eight_nodes_are_freed_by_one_job():
    """preempt, design: candidates of 2, 4 and 8 nodes, in that order; one is enough for 8."""
    running = [
        {"id": 0, "on": range(0, 2), "priority": 0.0},
        {"id": 1, "on": range(2, 6), "priority": 0.0},
        {"id": 2, "on": range(6, 14), "priority": 0.0},
    ]
    gang = {"id": 9, "gpus": 8, "priority": 1.0}
    view = make_view([gang], running, single(14), now_s=9.0, preemption=True)
    plan = policy().plan_for(0, view)
    check(view, plan)
    assert plan.preempt == (2,)


def test_a_list_says_who_may_preempt_whom():
    """qos: a QOS has a list of others that it can preempt. 1 preempts 0.2, and not 0.5."""
    running = [
        {"id": 0, "on": [0], "priority": 0.5},
        {"id": 1, "on": [1], "priority": 0.2},
    ]
    view = make_view([{"id": 9, "gpus": 1, "priority": 1.0}], running, single(2), preemption=True)
    assert policy().plan_for(0, view).preempt == (1,), "the lowest QOS first"
    assert policy(preempt=("1:0.5",)).plan_for(0, view).preempt == (0,)
    assert policy(preempt=("0.5:0.2",)).plan_for(0, view) is None


def test_the_lowest_qos_gives_way_first_and_then_the_smallest_job():
    """preempt, design: the list of preemptable jobs is sorted by QOS priority, favouring small."""
    running = [
        {"id": 0, "on": [0], "priority": 0.5},
        {"id": 1, "on": [1, 2, 3], "priority": 0.2},
        {"id": 2, "on": [4, 5], "priority": 0.2},
    ]
    view = make_view([{"id": 9, "gpus": 1, "priority": 1.0}], running, single(6), preemption=True)
    assert policy().plan_for(0, view).preempt == (2,)


def test_a_job_is_exempt_for_its_first_while():
    """preempt, PreemptExemptTime."""
    running = [{"id": 0, "on": [0], "priority": 0.0, "start_s": 100.0}]
    for now_s, stopped in ((159.0, None), (160.0, (0,))):
        view = make_view(
            [{"id": 9, "gpus": 1, "priority": 1.0}],
            running,
            single(1),
            now_s=now_s,
            preemption=True,
        )
        plan = policy(exempt_s=60.0).plan_for(0, view)
        assert (plan and plan.preempt) == stopped


def test_limits_hold_nobody_else_up():
    """resource_limits: GrpTRES of a QOS, MaxTRESPerUser; jobs beyond it wait, others do not."""
    running = [{"id": 0, "on": range(4), "tenant": 0, "priority": 1.0}]
    pending = [
        {"id": 1, "gpus": 2, "tenant": 0, "priority": 1.0},
        {"id": 2, "gpus": 2, "tenant": 1, "priority": 1.0, "arrival_s": 1.0},
        {"id": 3, "gpus": 2, "tenant": 0, "priority": 0.0, "arrival_s": 2.0},
    ]
    quotas = (10**9, 10**9)
    view = make_view(pending, running, single(8), now_s=9.0, quotas=quotas)
    options = ALONE | {"age": 1.0}
    assert policy(**options).plan_for(0, view).gang == 1
    assert policy(**options, user_gpus={"1": 5}).plan_for(0, view).gang == 2
    assert policy(**options, group_gpus={"1": 5}).plan_for(0, view).gang == 3


def test_backfill_delays_nobody_of_higher_priority():
    """8 GPUs, 4 busy until 100 s. 8 waits; one of 4 passes with 100 s, not with 101."""
    running = [{"id": 0, "on": range(4), "end_s": 100.0}]
    for estimate_s, strict, filled in ((100.0, None, 2), (101.0, None, None)):
        pending = [
            {"id": 2, "gpus": 4, "priority": 0.0, "estimate_s": estimate_s},
            {"id": 1, "gpus": 8, "priority": 1.0, "arrival_s": 1.0},
        ]
        view = make_view(pending, running, single(8), now_s=0.0)
        plan = policy().plan_for(0, view)
        assert (plan and plan.gang) == filled
        assert policy(backfill="none").plan_for(0, view) is strict
        assert policy(backfill="first-fit").plan_for(0, view).gang == 2


def test_a_higher_qos_runs_through():
    """A (QOS 0) from 0 s, B (QOS 1) at 10 s: B runs 10-30, A 0-10 and 30-120."""
    a, b = Gang(0, 1, 100, priority=0.0), Gang(10, 1, 20, priority=1.0)
    a, b = simulate(policy(), [a, b], counted(1), True)
    assert b.runs == [[10, 30]]
    assert a.runs == [[0, 10], [30, 120]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preempt": ("high:low",)}, "preempt = 'high:low' must be two priorities"),
        ({"user_gpus": {"x": 3.0}}, "user_gpus = x:3.0 must be a priority and GPUs"),
        ({"qos": -1.0}, "qos = -1.0 must be a finite number, 0 or more"),
        ({"max_age_s": 0.0}, "max_age_s = 0.0 must be a finite number, 1 or more"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        policy(**options)
