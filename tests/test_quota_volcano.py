"""Volcano's queues: deserved shares, reclaim, preemption and DRF, by its documents and tests."""

from __future__ import annotations

import numpy as np
import pytest
from queue_cases import settle
from test_gang_kai import ask, queue, run

from gpuyard.baselines.quota import volcano
from gpuyard.baselines.quota.tree import below

ROOT = -1
MANY = 10**9


@pytest.mark.parametrize(
    ("total", "weight", "requested", "limit", "guarantee", "expected"),
    [
        # website, Queue: (weight / total weight) x total
        (9, (1, 2), (9, 9), (MANY, MANY), (0, 0), (3, 6)),
        # reclaim-action.md: a third queue lowers the share of two that held everything
        (6, (1, 1), (6, 6), (MANY,) * 2, (0, 0), (3, 3)),
        (6, (1, 1, 1), (6, 6, 6), (MANY,) * 3, (0, 0, 0), (2, 2, 2)),
        # a queue that is met leaves the rest to the others, by their weights
        (12, (1, 1, 2), (1, 20, 20), (MANY,) * 3, (0, 0, 0), (1, 11 / 3, 22 / 3)),
        # capability bounds it, guarantee holds it up
        (10, (1, 1), (10, 10), (2, MANY), (0, 0), (2, 8)),
        (8, (1, 3), (0, 8), (MANY, MANY), (4, 0), (4, 6)),
        # nobody deserves more than is asked for
        (8, (1, 1), (2, 3), (MANY, MANY), (0, 0), (2, 3)),
    ],
)
def test_proportion(total, weight, requested, limit, guarantee, expected):
    found = volcano.proportion(total, weight, requested, limit, guarantee)
    np.testing.assert_allclose(found, expected)


def test_reclaim_leaves_the_guarantee():
    """capacity-scheduling.md, story 4: of 60 GPUs lent to queue1, 40 come back; 20 are its own."""
    running = [(0, 1.0)] * 60
    parent, held = np.array([ROOT, ROOT]), np.array([60.0, 0.0])
    deserved, guarantee = np.array([20.0, 40.0]), np.array([20.0, 0.0])
    taken = volcano.victims_of(parent, held, deserved, guarantee, 1, running)
    assert len(taken) == 40
    all_but_guarantee = np.array([0.0, 60.0])
    taken = volcano.victims_of(parent, held, all_but_guarantee, guarantee, 1, running)
    assert len(taken) == 40


def test_reclaim_gives_back_what_is_deserved():
    """Story 3: of 100 A100 queue1 deserves 20 and queue2 80; queue1 used all, 80 come back."""
    running = [(0, 1.0)] * 100
    held, deserved = np.array([100.0, 0.0]), np.array([20.0, 80.0])
    taken = volcano.victims_of(
        np.array([ROOT, ROOT]), held, deserved, np.array([10.0, 10.0]), 1, running
    )
    assert len(taken) == 80


def test_reclaim_looks_at_siblings_first():
    """hierarchical-queue-on-capacity-plugin.md: job A first takes from B, of its parent, then C."""
    parent = np.array([3, 3, ROOT, ROOT])  # A and B in queue a, C beside a
    held = below(parent, np.array([0.0, 4.0, 4.0, 0.0]))
    deserved = np.array([2.0, 2.0, 2.0, 2.0])
    order = volcano.victims_of(
        parent, held, deserved, np.zeros(4), 0, [(2, 1.0), (1, 1.0), (2, 1.0), (1, 1.0)]
    )
    assert order == [1, 3, 0, 2]


CASES = {
    # capacity_test.go, one GPU for one CPU
    "case0: within capability": (
        (2, 2, [{"limit": 2}], [run(0, 0, {0: 1})], [ask(1, 0, 1)]),
        ([1], []),
    ),
    "case1: beyond capability": (
        (2, 2, [{"limit": 1}], [run(0, 0, {0: 1})], [ask(1, 0, 1)]),
        ([], []),
    ),
    "case2: reclaims when allocated < deserved": (
        (
            *(2, 2, [queue(2), queue(2)]),
            [run(5, 0, {0: 2}, protected=1, blocked=1), run(6, 0, {1: 2})],
            [ask(7, 1, 2)],
        ),
        ([7], [6]),
    ),
    "case4: by the priority of queues": (
        (
            *(2, 2),
            [queue(2, priority=5.0), queue(2, priority=1.0), queue(2, priority=10.0)],
            [run(13, 0, {0: 2})],
            [ask(14, 1, 2), ask(15, 2, 2)],
        ),
        ([15], []),
    ),
    "case5: reclaims when allocated + request <= deserved": (
        (1, 2, [queue(2), queue(0)], [run(16, 0, {0: 1}), run(18, 1, {0: 1})], [ask(17, 0, 1)]),
        ([17], [18]),
    ),
    "case6: not when allocated + request > deserved": (
        (1, 2, [queue(1), queue(0)], [run(19, 0, {0: 1}), run(21, 1, {0: 1})], [ask(20, 0, 1)]),
        ([], []),
    ),
    # preempt_test.go
    "no preemption if there is room": (
        (1, 10, [queue(1)], [run(0, 0, {0: 2}, priority=0.0)], [ask(1, 0, 1, priority=1.0)]),
        ([1], []),
    ),
    "#3161: preempts in its queue at its capability": (
        (
            *(1, 12, [{"limit": 4}]),
            [run(0, 0, {0: 3}, priority=0.0)],
            [ask(1, 0, 3, priority=1.0)],
        ),
        ([1], [0]),
    ),
    "#3161: allocatable, nobody is preempted": (
        (
            *(1, 12, [{"limit": 6}]),
            [run(0, 0, {0: 3}, priority=0.0)],
            [ask(1, 0, 3, priority=1.0)],
        ),
        ([1], []),
    ),
    "#2232: of three the one that may be preempted and is lower": (
        (
            *(1, 12, [{"limit": 3}]),
            [
                run(0, 0, {0: 1}, priority=0.0, protected=1, blocked=1),
                run(1, 0, {0: 1}, priority=0.0),
                run(2, 0, {0: 1}, priority=1.0),
            ],
            [ask(3, 0, 1, priority=1.0)],
        ),
        ([3], [1]),
    ),
    "enough small ones for a large one": (
        (
            *(1, 6, [queue(1)]),
            [
                run(0, 0, {0: 1}, priority=0.0),
                run(1, 0, {0: 1}, priority=0.0),
                run(2, 0, {0: 1}, priority=0.0, protected=1, blocked=1),
            ],
            [ask(3, 0, 5, priority=1.0)],
        ),
        ([3], [0, 1]),
    ),
    "#3291: a gang of two nodes, one of them free": (
        (2, 2, [queue(1)], [run(0, 0, {0: 2}, priority=0.0)], [ask(1, 0, 4, priority=1.0)]),
        ([1], [0]),
    ),
    "preempts only inside its queue": (
        (
            *(1, 2, [queue(1), queue(1)]),
            [run(0, 0, {0: 1}, priority=0.0), run(1, 1, {0: 1}, priority=0.0)],
            [ask(2, 0, 1, priority=1.0)],
        ),
        ([2], [0]),
    ),
}


@pytest.mark.parametrize("name", ["gang/volcano", "topology/volcano-hard"])
@pytest.mark.parametrize("case", CASES)
def test_cases_of_the_source(case, name):
    arguments, expected = CASES[case]
    started, stopped = settle(name, *arguments)
    assert (started, sorted(stopped)) == expected


def test_queues_by_share_then_jobs_by_priority():
    """The queue that holds the smaller part of what it deserves goes first, all of its jobs."""
    queues = [queue(4), queue(4)]
    pending = [ask(1, 0, 1, priority=1.0), ask(2, 1, 1), ask(3, 1, 1, priority=0.9)]
    started, _ = settle("gang/volcano", 1, 4, queues, [run(0, 0, {0: 2})], pending)
    assert started[0] == 3


def test_by_weight_where_the_scenario_says_so():
    """reclaim-action.md: a new queue takes its part of a cluster that another one filled."""
    old = [run(at, 0, {0: 1}) for at in range(6)]
    new = [ask(10 + at, 1, 1) for at in range(6)]
    equal = [queue(0, 1.0), queue(0, 1.0)]
    assert len(settle("gang/volcano", 1, 6, equal, old, new)[1]) == 3
    options = {"queues": "capacity"}
    assert settle("gang/volcano", 1, 6, equal, old, new, options=options) == ([], [])


def test_drf_by_the_paper():
    """Ghodsi et al., section 4.1: of 9 CPUs, 18 GB tasks <1, 4> and <3, 1> run 3 and 2 times.

    Algorithm 1: who has the lowest dominant share runs a further task, until it does not fit.
    """
    total, demand = np.array([9.0, 18.0]), np.array([[1.0, 4.0], [3.0, 1.0]])
    tasks = np.zeros(2)
    while True:
        user = int(
            np.argmin(
                [volcano.dominant_share(n * d, total) for n, d in zip(tasks, demand, strict=True)]
            )
        )
        if (tasks @ demand + demand[user] > total).any():
            break
        tasks[user] += 1
    assert tasks.tolist() == [3, 2]
    assert volcano.dominant_share([3, 12], total) == pytest.approx(2 / 3)
    assert volcano.dominant_share([6, 2], total) == pytest.approx(2 / 3)


def test_drf_evens_out_dominant_shares():
    """drf.md: a tenant takes while its share afterwards is not above the victim's; by weight."""
    old = [run(at, 0, {0: 1}) for at in range(6)]
    new = [ask(10 + at, 1, 1) for at in range(6)]
    options = {"queues": "drf"}
    for weight, taken in ((1.0, 3), (2.0, 4)):
        queues = [queue(0, 1.0), queue(0, weight)]
        found = settle("gang/volcano", 1, 6, queues, old, new, options=options)
        assert len(found[1]) == taken


def test_drf_preempts_only_from_larger_shares():
    """drf.md, task preemption: the share of the preemptor afterwards is below the victim's."""
    assert volcano.drf_may_preempt(0.2, 0.3) and not volcano.drf_may_preempt(0.3, 0.2)
