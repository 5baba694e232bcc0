"""Kueue as a planner: whose turn it is, whom a gang stops, and that its domain is freed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mini_world import check
from views import PLACING, make_cluster, make_view

from gpuyard import baselines


def policy(name: str = "gang/kueue", **options):
    made = baselines.make(name, **options)
    made.reset(PLACING, 1, 0)
    return made


def single(gpus: int):
    """One GPU to a node, so that only quota counts."""
    return make_cluster(nodes=gpus, gpus_per_node=1, nodes_per_leaf=gpus)


def ids_on(view, node: int, slots: int) -> set[int]:
    return set(view.gpu_job[node * slots : (node + 1) * slots].tolist())


def without_preemption(view):
    return replace(view, preemption=False)


PLACEMENTS = ["gang/kueue", "topology/kueue-tas", "topology/kai", "topology/slurm-tree"]


def made_with(placement: str, **options):
    """The planner, or its order on a placement of another family."""
    if placement == "gang/kueue":
        return policy(placement, **options)
    words = [f"{name.replace('_', '-')}={value}" for name, value in options.items()]
    return policy(placement, order="kueue" + ("?" + "&".join(words) if words else ""))


def full_nodes(layout: list[tuple[int, ...]], priorities: tuple[float, ...], queues: list[dict]):
    """Six nodes of 8 GPUs, all held by gangs of one GPU; how many of each tenant on each node."""
    running, gpu = [], 0
    for counts in layout:
        for tenant, count in enumerate(counts):
            for _ in range(count):
                row = {"id": gpu, "on": [gpu], "tenant": tenant, "priority": priorities[tenant]}
                running.append(row)
                gpu += 1
    trainer = {"id": 99, "gpus": 8, "priority": 1.0, "tenant": 2, "required": 0}
    return make_view([trainer], running, nodes=6, nodes_per_leaf=6, preemption=True, queues=queues)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_whole_node_is_cleared(placement):
    """Kueue issue 10497, ``TestFairPreemptionsForTASWholeNode``: of 6 full nodes two can be.

    playground borrows 16 over its 24, incyte holds 8 of its 16, the trainer's gilead has 8.
    """
    layout = [(6, 2), (7, 1), (8, 0), (4, 4), (8, 0), (7, 1)]
    deserved = [{"deserved": 24}, {"deserved": 16}, {"deserved": 8}]
    view = full_nodes(layout, (0.29, 0.5), deserved)
    options = {"sharing": "final-initial", "reclaim": "lower-priority"}
    plan = made_with(placement, **options).plan_for(0, view)
    check(view, plan)
    assert set(plan.preempt) == ids_on(view, 2, 8) and len(plan.preempt) == 8
    assert made_with(placement, **options).plan_for(0, without_preemption(view)) is None


def test_a_node_of_three_queues_is_cleared():
    """``TestFairPreemptionsForTASAcrossClusterQueues``: incyte borrows 1, alone on node b."""
    layout = [(4, 4, 0), (1, 6, 1), (3, 5, 0), (2, 6, 0), (2, 5, 1), (5, 3, 0)]
    queues = [{"deserved": 16}, {"deserved": 16, "weight": 4.0}, {"deserved": 16}]
    view = full_nodes(layout, (0.950, 0.929, 0.910), queues)
    made = policy("topology/kueue-tas", order="kueue?sharing=final-initial&reclaim=lower-priority")
    plan = made.plan_for(0, view)
    check(view, plan)
    assert set(plan.preempt) == ids_on(view, 1, 8) and len(plan.preempt) == 8


@pytest.mark.parametrize("name", ["kueue", "kueue-fair", "slurm-multifactor"])
@pytest.mark.parametrize("placement", ["topology/kueue-tas", "topology/kai", "isolation/best-fit"])
def test_a_leaf_full_of_lower_gangs_is_cleared(placement, name):
    """KAI issue 1591: a gang that needs a leaf stops the lower ones that fill it, and starts."""
    running = [
        {"id": i, "on": range(4 * i, 4 * i + 4), "priority": 0.0, "start_s": 10.0 * (i % 2)}
        for i in range(4)
    ]
    gang = {"id": 9, "gpus": 8, "priority": 1.0, "required": 1}
    view = make_view(
        [gang], running, nodes=4, gpus_per_node=4, nodes_per_leaf=2, now_s=50.0, preemption=True
    )
    plan = policy(placement, order=name).plan_for(0, view)
    check(view, plan)
    assert plan.preempt in ((0, 1), (2, 3))
    assert policy(placement, order=name).plan_for(0, without_preemption(view)) is None


@pytest.mark.parametrize("sharing", ["off", "final-initial"])
def test_a_clique_is_reclaimed_from_gangs_all_over(sharing):
    """Kueue issue 10815: 10 cliques of 18 nodes of 4 GPUs, 432 and 288 of them deserved.

    The first queue fills the cluster; a gang of 16 pods of 4 GPUs in one clique wants its own.
    Gangs of one clique were admitted far from each other.
    """
    cluster = make_cluster(nodes=180, gpus_per_node=4, nodes_per_leaf=18)
    running = [
        {"id": i, "on": range(8 * slot, 8 * slot + 8), "start_s": float(i)}
        for i, slot in enumerate(9 * (i % 10) + i // 10 for i in range(90))
    ]
    gang = {"id": 500, "gpus": 64, "tenant": 1, "required": 1}
    queues = [{"deserved": 432}, {"deserved": 288}]
    view = make_view([gang], running, cluster, now_s=100.0, preemption=True, queues=queues)
    plan = policy("topology/kueue-tas", order=f"kueue?sharing={sharing}").plan_for(0, view)
    check(view, plan)
    assert len(plan.preempt) == 8 and len(np.unique(plan.gpus // 4 // 18)) == 1


@pytest.mark.parametrize("sharing", ["off", "final-initial"])
def test_two_whole_nodes_are_cleared_of_gangs_that_lie_across(sharing):
    """The same for a gang of two nodes: the borrower gives 16 of 48 GPUs, a node at a time."""
    running = [{"id": i, "on": [8 * (i % 6) + i // 6], "tenant": 0} for i in range(48)]
    gang = {"id": 99, "gpus": 16, "tenant": 1}
    queues = [{"deserved": 32}, {"deserved": 16}]
    view = make_view([gang], running, nodes=6, nodes_per_leaf=6, preemption=True, queues=queues)
    plan = policy(sharing=sharing).plan(view)
    check(view, plan)
    assert len(plan.preempt) == 16 and len(np.unique(plan.gpus // 8)) == 2


def test_who_borrows_waits_for_who_does_not():
    """concepts/cluster_queue, borrowing example: team a holds its 9, team b's gang goes first."""
    queues = [{"deserved": 9}, {"deserved": 12}]
    running = [{"id": 0, "on": range(9), "tenant": 0}]
    pending = [
        {"id": 1, "gpus": 4, "tenant": 0, "priority": 1.0},
        {"id": 2, "gpus": 12, "tenant": 1, "arrival_s": 5.0},
    ]
    view = make_view(pending, running, single(21), now_s=9.0, queues=queues)
    assert policy().plan(view).gang == 2
    view = make_view(pending[:1], running, single(21), now_s=9.0, queues=queues)
    assert policy().plan(view).gang == 1, "alone it borrows"


def test_strict_fifo_blocks_and_best_effort_does_not():
    """concepts/cluster_queue, queueing strategy: order by priority and time; a head that waits."""
    pending = [
        {"id": 1, "gpus": 1, "arrival_s": 0.0},
        {"id": 2, "gpus": 1, "arrival_s": 1.0, "priority": 0.9},
        {"id": 3, "gpus": 5, "arrival_s": 2.0, "priority": 1.0},
    ]
    view = make_view(pending, [{"id": 0, "on": [0, 1]}], single(6), now_s=9.0)
    planner = policy()
    planner.strict = True  # about plans that the engine refuses: another matter
    assert planner.plan(view).gang == 2
    assert policy(queueing="strict-fifo").plan(view) is None
    other = [*pending, {"id": 4, "gpus": 1, "tenant": 1, "arrival_s": 3.0}]
    queues = [{"deserved": 3}, {"deserved": 3}]
    view = make_view(other, [{"id": 0, "on": [0, 1]}], single(6), now_s=9.0, queues=queues)
    assert policy(queueing="strict-fifo").plan(view).gang == 4, "another queue is not blocked"


@pytest.mark.parametrize(("reclaim", "starts"), [("never", None), ("any", 1)])
def test_quota_is_kept_for_who_cannot_reclaim_it(reclaim, starts):
    """``reserveCapacityForUnreclaimablePreempt``: a's gang of 4 waits for b's; c may not borrow on.

    6 GPUs, 4 of a and 2 of b; b holds 5. With "any" a would take them back, if it could preempt.
    """
    queues = [{"deserved": 4}, {"deserved": 2}, {"deserved": 0}]
    running = [{"id": 0, "on": range(5), "tenant": 1}]
    pending = [{"id": 1, "gpus": 4, "tenant": 0}, {"id": 2, "gpus": 1, "tenant": 2}]
    view = make_view(pending, running, single(6), now_s=9.0, queues=queues, preemption=True)
    plan = policy(reclaim=reclaim).plan(view)
    assert (plan and plan.gang) == starts
    view = make_view(pending, running, single(6), now_s=9.0, queues=queues)
    plan = policy(reclaim=reclaim).plan(view)
    assert (plan and plan.gang) == (None if reclaim == "never" else 2)


def test_a_guarantee_is_not_lent():
    """concepts/cluster_queue, LendingLimit: 12 deserved, 11 guaranteed: team a has 9 + 1."""
    queues = [{"deserved": 9}, {"deserved": 12, "guarantee": 11}]
    for gpus, starts in ((10, True), (11, False)):
        view = make_view([{"id": 1, "gpus": gpus}], [], single(21), queues=queues)
        assert (policy().plan(view) is not None) == starts


def test_a_limit_is_quota_and_borrowing_limit():
    """concepts/cluster_queue, BorrowingLimit: 9 deserved, at most 10.

    A queue at its limit stops lower gangs of its own.
    """
    queues = [{"deserved": 9, "limit": 10}, {"deserved": 12}]
    for gpus, starts in ((10, True), (11, False)):
        view = make_view([{"id": 1, "gpus": gpus}], [], single(21), queues=queues)
        assert (policy().plan(view) is not None) == starts
    running = [{"id": 2, "on": range(6), "priority": 0.1}, {"id": 3, "on": range(6, 10)}]
    gang = {"id": 1, "gpus": 2, "priority": 0.4}
    view = make_view([gang], running, single(21), preemption=True, queues=queues)
    plan = policy().plan(view)
    assert plan.gang == 1 and plan.preempt == (2,)


def shares(made, queues: list[dict], gpus: int, size: int, tenants: list[int]) -> list[int]:
    """GPUs of each queue once a long backlog of equal gangs has filled the cluster."""
    cluster, running, name = single(gpus), [], 0
    waiting = [
        {"id": len(tenants) * at + tenant, "gpus": size, "tenant": tenant, "arrival_s": float(at)}
        for at in range(gpus // size)
        for tenant in tenants
    ]
    for _ in range(gpus // size):
        view = make_view(waiting, running, cluster, now_s=1e4, queues=queues)
        plan = made.plan(view)
        (gang,) = (row for row in waiting if row["id"] == plan.gang)
        waiting.remove(gang)
        running.append({**gang, "on": plan.gpus})
        name += 1
    return make_view([], running, cluster, queues=queues).queues["held"].tolist()


def test_shares_are_compared_with_the_gang_admitted():
    """``fair_sharing_iterator.go``: nothing runs; 2 GPUs make a lower share than 10, if newer."""
    pending = [
        {"id": 1, "gpus": 10, "tenant": 0},
        {"id": 2, "gpus": 2, "tenant": 1, "arrival_s": 1},
    ]
    view = make_view(pending, [], single(20), now_s=9.0, queues=[{}, {}])
    assert policy("gang/kueue-fair").plan(view).gang == 2
    assert policy("gang/kueue").plan(view).gang == 1


def test_a_cohort_is_shared_by_weight_from_the_root_down():
    """KEP 1714, story 3: 300 GPUs; 150 for each of two cohorts, 30, 30 and 90 in the first."""
    queues = [
        {"parent": 4},
        {"parent": 4},
        {"parent": 4, "weight": 3.0},
        {"parent": 5},
        {"deserved": 0},
        {"deserved": 0},
    ]
    held = shares(policy("gang/kueue-fair"), queues, 300, 10, [0, 1, 2, 3])
    assert held == [30, 30, 90, 150, 150, 150]
    first_come = shares(policy("gang/kueue"), queues, 300, 10, [0, 1, 2, 3])
    assert first_come[:4] == [80, 80, 70, 70]


def test_an_important_organisation_has_three_quarters():
    """concepts/cohort: weights 0.75 and 0.25 trend towards 75 % and 25 % of common resources."""
    queues = [{"parent": 2}, {"parent": 3}, {"weight": 0.75}, {"weight": 0.25}]
    assert shares(policy("gang/kueue-fair"), queues, 40, 1, [0, 1])[:2] == [30, 10]


def test_what_kueue_refuses_is_refused():
    """KEP 1337: borrowWithinCohort only where reclaimWithinCohort is not Never."""
    with pytest.raises(ValueError, match="borrow = 'lower-priority' needs a reclaim"):
        baselines.make("gang/kueue?reclaim=never&borrow=lower-priority")
    with pytest.raises(ValueError, match="within = 'always' must be 'never' or 'lower-priority'"):
        baselines.make("gang/kueue?within=always")
