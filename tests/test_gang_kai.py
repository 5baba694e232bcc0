"""KAI's cycle on small clusters: the clusters, queues, jobs and outcomes of its own tests."""

from __future__ import annotations

import pytest
from queue_cases import settle

from gpuyard import baselines

KAI = ("gang/kai-fair-share", "topology/kai")


def queue(deserved: int, weight: float | None = None, **more) -> dict:
    return {"deserved": deserved, "weight": float(deserved if weight is None else weight), **more}


def run(name: int, tenant: int, on: dict[int, int], **more) -> dict:
    return {"id": name, "tenant": tenant, "on": on, **more}


def ask(name: int, tenant: int, gpus: int, **more) -> dict:
    return {"id": name, "tenant": tenant, "gpus": gpus, **more}


CASES = {
    # reclaim_test.go
    "one running, one pending - reclaim": (
        (1, 2, [queue(1), queue(1)], [run(0, 0, {0: 2})], [ask(1, 1, 1)]),
        ([1], [0]),
    ),
    "used by the demo - reclaim": (
        (
            *(2, 2, [queue(2), queue(2)]),
            [run(0, 0, {0: 1}), run(1, 1, {1: 2}), run(2, 1, {0: 1})],
            [ask(3, 0, 1)],
        ),
        ([3], [2]),
    ),
    "2 jobs of queue0 on 3 GPUs - reclaim": (
        (
            *(2, 2, [queue(2), queue(2)]),
            [run(0, 0, {1: 1}), run(1, 0, {0: 2}), run(2, 1, {1: 1})],
            [ask(3, 1, 1)],
        ),
        ([3], [1]),
    ),
    "deserved of queue1 is 1 - don't reclaim": (
        (
            *(2, 2, [queue(2), queue(1)]),
            [run(0, 0, {1: 1}), run(1, 0, {0: 2}), run(2, 1, {1: 1})],
            [ask(3, 1, 1)],
        ),
        ([], []),
    ),
    "the second of two pending jobs should reclaim": (
        (
            *(1, 2, [queue(0), queue(1)], [run(0, 0, {0: 2})]),
            [ask(1, 1, 2, protected=1), ask(2, 1, 1, protected=1)],
        ),
        ([2], [0]),
    ),
    "the bigger remainder gets the GPU": (
        (
            *(1, 8, [queue(4), queue(2)]),
            [run(0, 0, {0: 5}), run(1, 0, {0: 1}), run(2, 0, {0: 1})],
            [ask(3, 1, 3)],
        ),
        ([3], [1, 2]),
    ),
    "a queue with a big quota is satisfied with 1 GPU": (
        (
            *(1, 9, [queue(4), queue(4), queue(10)]),
            [run(0, 0, {0: 5}), run(1, 0, {0: 2}), run(2, 0, {0: 1})],
            [ask(3, 2, 1), ask(4, 1, 3)],
        ),
        ([3, 4], [1, 2]),
    ),
    "only 1 round of whole GPUs - don't reclaim": (
        (1, 4, [queue(2), queue(1)], [run(0, 0, {0: 3})], [ask(1, 1, 2)]),
        ([], []),
    ),
    # consolidation_test.go
    "2 jobs on different nodes - consolidate": (
        (2, 4, [queue(2)], [run(0, 0, {0: 2}), run(1, 0, {1: 2})], [ask(2, 0, 3)]),
        ([2], [1]),
    ),
    "2 & 1 GPUs running - consolidate": (
        (
            *(2, 4, [queue(2)]),
            [run(0, 0, {0: 2}), run(1, 0, {1: 1}), run(2, 0, {1: 2})],
            [ask(3, 0, 3)],
        ),
        ([3], [2]),
    ),
    "the larger of two pending cannot be helped": (
        (
            *(2, 4, [queue(2)]),
            [run(0, 0, {0: 2}), run(1, 0, {1: 1}), run(2, 0, {1: 2})],
            [ask(3, 0, 4), ask(4, 0, 3)],
        ),
        ([4], [2]),
    ),
    "two of 3 GPUs running, 2 pending - can't consolidate": (
        (2, 4, [queue(2)], [run(0, 0, {0: 3}), run(1, 0, {1: 3})], [ask(2, 0, 2)]),
        ([], []),
    ),
    "two of 3 GPUs running, 3 pending - can't consolidate": (
        (2, 4, [queue(2)], [run(0, 0, {0: 3}), run(1, 0, {1: 3})], [ask(2, 0, 3)]),
        ([], []),
    ),
    # issues
    "#1750: an over-quota sibling gives although a protected queue is there": (
        (
            *(1, 7),
            [
                queue(4, parent=3),
                queue(0, 1.0, parent=3),
                queue(4, priority=100.0),
                queue(6, priority=110.0),
            ],
            [run(at, 1, {0: 1}) for at in range(5)] + [run(5, 2, {0: 2})],
            [ask(6, 0, 2)],
        ),
        ([6], [3, 4]),
    ),
    "#2065, case 1: work within quota is not reclaimed, whatever the queue's priority": (
        (
            *(3, 4, [queue(8, priority=90.0), queue(8, priority=80.0)]),
            [run(0, 1, {0: 4, 1: 4})],
            [ask(1, 0, 8)],
        ),
        ([], []),
    ),
    "#2065, case 2: over-quota work is reclaimed regardless of priority": (
        (
            *(3, 4, [queue(8, priority=90.0), queue(8, priority=80.0)]),
            [run(0, 0, {0: 4}), run(1, 0, {1: 4}), run(2, 0, {2: 4})],
            [ask(3, 1, 4)],
        ),
        ([3], [2]),
    ),
    # docs/priority: inside a queue
    "a higher priority preempts in its queue": (
        (1, 2, [queue(2)], [run(0, 0, {0: 2}, priority=0.0)], [ask(1, 0, 2, priority=0.5)]),
        ([1], [0]),
    ),
    "an equal priority does not": (
        (1, 2, [queue(2)], [run(0, 0, {0: 2}, priority=0.5)], [ask(1, 0, 2, priority=0.5)]),
        ([], []),
    ),
    "a higher priority does not preempt in another queue within its quota": (
        (
            *(1, 2, [queue(2), queue(0)]),
            [run(0, 0, {0: 2}, priority=0.0)],
            [ask(1, 1, 2, priority=1.0)],
        ),
        ([], []),
    ),
    "a protected job is not preempted": (
        (
            *(1, 2, [queue(2)]),
            [run(0, 0, {0: 2}, priority=0.8, protected=1, blocked=1)],
            [ask(1, 0, 2, priority=0.9)],
        ),
        ([], []),
    ),
    "a protected job does not start over quota although GPUs are free": (
        (1, 4, [queue(2)], [run(0, 0, {0: 2}, protected=1)], [ask(1, 0, 1, protected=1)]),
        ([], []),
    ),
    "a preemptible one does": (
        (1, 4, [queue(2)], [run(0, 0, {0: 2}, protected=1)], [ask(1, 0, 1)]),
        ([1], []),
    ),
}


@pytest.mark.parametrize("name", KAI)
@pytest.mark.parametrize("case", CASES)
def test_cases_of_the_source(case, name):
    """What starts and who is stopped, as the source's own tests and documents say."""
    arguments, expected = CASES[case]
    started, stopped = settle(name, *arguments)
    assert (started, sorted(stopped)) == expected


@pytest.mark.parametrize("name", KAI)
def test_without_preemption_nobody_is_stopped(name):
    for arguments, _ in CASES.values():
        assert settle(name, *arguments, preemption=False)[1] == []


@pytest.mark.parametrize(("now_s", "expected"), [(20.0, ([], [])), (30.0, ([1], [0]))])
def test_a_run_is_safe_for_its_minimum(now_s, expected):
    """docs/plugins/minruntime.md, "Example Workflow": reclaimMinRuntime 30 s, asked at 20 s."""
    running = [run(0, 0, {0: 2}, start_s=0.0)]
    case = (1, 2, [queue(1), queue(1)], running, [ask(1, 1, 1)])
    options = {"min_runtime_s": 30.0}
    assert settle("gang/kai-fair-share", *case, options=options, now_s=now_s) == expected


FULL = [run(0, 0, {0: 2}, priority=0.0), run(1, 0, {1: 2}, priority=0.0)]
OTHER = [run(2, 0, {2: 2}, priority=0.0, protected=1, blocked=1), run(3, 0, {3: 1}, priority=0.0)]


@pytest.mark.parametrize("name", [*KAI, "gang/volcano", "topology/volcano-hard"])
def test_a_gang_preempts_a_clique_full_of_lower_priority_work(name):
    """KAI issue 1591: the first leaf is full of preemptible work, the second cannot be emptied.

    Two leafs of two nodes of two GPUs; the gang needs a whole leaf. What stands in the second leaf
    started later and would be stopped first by a search over the cluster (Volcano issues 4374 and
    4533).
    """
    gang = ask(9, 0, 4, priority=1.0, required=1)
    started, stopped = settle(name, 4, 2, [queue(8)], FULL + OTHER, [gang], nodes_per_leaf=2)
    assert (started[0], sorted(stopped)) == (9, [0, 1])


@pytest.mark.parametrize("name", [*KAI, "gang/volcano", "topology/volcano-soft"])
def test_a_queue_below_its_share_takes_back_what_others_hold_beyond(name):
    """KAI issues 1934 and 586: alice holds all 8 GPUs, each deserves 4; bob gets 4, not more."""
    alice = [run(at, 0, {at // 2: 1}) for at in range(8)]
    bob = [ask(10 + at, 1, 1) for at in range(6)]
    started, stopped = settle(name, 4, 2, [queue(4), queue(4)], alice, bob)
    assert len(started) == 4 and sorted(stopped) == [4, 5, 6, 7]


def test_fair_shares_are_reclaimed_where_nobody_deserves_anything():
    """Issue 1934's question: of two queues without quota and equal weight each gets one half."""
    alice = [run(at, 0, {at // 2: 1}) for at in range(8)]
    bob = [ask(10 + at, 1, 1) for at in range(8)]
    queues = [queue(0, 1.0), queue(0, 1.0)]
    assert len(settle(KAI[0], 4, 2, queues, alice, bob)[1]) == 4


def test_a_moved_gang_finds_its_gpus_reserved():
    """It goes on where consolidation said, although an older gang would fit there."""
    policy_case = (2, 4, [queue(2)], [run(0, 0, {0: 2}), run(1, 0, {1: 2})])
    older = [ask(2, 0, 3), ask(3, 0, 2)]
    started, stopped = settle(KAI[0], *policy_case, older)
    assert (started, stopped) == ([3], [])  # two GPUs fit without moving anybody
    started, stopped = settle(KAI[0], *policy_case, [ask(2, 0, 3), ask(4, 0, 4)])
    assert (started, stopped) == ([2], [1])


def test_a_replaced_gang_keeps_its_place():
    """A gang that lost its node waits by priority and age, before younger ones of its queue."""
    lost = ask(0, 0, 2, arrival_s=5.0, executed_s=60.0)
    started, _ = settle(KAI[0], 1, 2, [queue(2)], [], [ask(1, 0, 2), lost])
    assert started == [0]


def test_bad_options():
    with pytest.raises(ValueError, match="min_runtime_s"):
        baselines.make("gang/kai-fair-share", min_runtime_s=-1.0)
    with pytest.raises(ValueError, match="queues = 'x'"):
        baselines.make("gang/volcano", queues="x")
