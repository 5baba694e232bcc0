"""KAI's fair shares, queue order and reclaim rules: the examples of its documents and tests."""

from __future__ import annotations

import numpy as np
import pytest

from gpuyard.baselines.quota import kai
from gpuyard.baselines.quota.tree import below, chain, siblings


def fair(total: float, rows: dict[str, tuple]) -> dict[str, float]:
    """Fair shares of queues given as name: (parent, deserved, requested, weight, priority)."""
    names = list(rows)
    full = [row if len(row) == 5 else (*row, 1.0, 0.0) for row in rows.values()]
    parents, deserved, requested, weight, priority = zip(*full, strict=True)
    parent = np.array([names.index(p) if p else -1 for p in parents])
    arrays = [np.array(values, float) for values in (deserved, requested, weight, priority)]
    shares = kai.fair_shares(total, parent, *arrays)
    return dict(zip(names, shares.tolist(), strict=True))


def test_fair_share_of_a_single_top_queue():
    """proportion_test.go, "simple scenario with single top queue"."""
    rows = {
        "top": ("", 3, 3),
        "mid": ("top", 3, 3),
        "leaf1": ("mid", 2, 2),
        "leaf2": ("mid", 1, 1),
    }
    assert fair(3, rows) == {"top": 3, "mid": 3, "leaf1": 2, "leaf2": 1}


def test_fair_share_of_two_top_queues():
    """proportion_test.go, "two top parent queues"."""
    rows = {
        "top1": ("", 2, 2, 0, 0),
        "child1": ("top1", 1, 1, 0, 0),
        "child2": ("top1", 1, 1, 0, 0),
        "top2": ("", 2, 2, 0, 0),
        "child3": ("top2", 0, 0, 0, 0),
        "child4": ("top2", 1, 2, 1, 0),
    }
    expected = {"top1": 2, "child1": 1, "child2": 1, "top2": 2, "child3": 0, "child4": 2}
    assert fair(4, rows) == expected


@pytest.mark.parametrize(
    ("total", "deserved", "weight", "priority", "expected"),
    [
        (4, (2, 2, 2, 2), (1, 1), (0, 0), (2, 2, 2, 2)),  # sanity
        (4, (3, 2, 1, 2), (1, 1), (0, 0), (3, 3, 1, 2)),  # deserved of departments
        (12, (3, 2, 1, 2), (1, 1), (0, 0), (7, 7, 5, 5)),  # over quota
        (12, (3, 2, 1, 2), (1, 7), (0, 0), (4, 4, 8, 8)),  # by weight
        (12, (3, 2, 1, 2), (7, 1), (0, 0), (10, 10, 2, 2)),  # by weight, reversed
        (12, (1, 1, 1, 1), (7, 1), (1, 2), (1, 1, 11, 11)),  # by priority
        (12, (1, 1, 1, 1), (1, 7), (2, 1), (11, 11, 1, 1)),  # by priority, reversed
    ],
)
def test_fair_shares_of_two_departments(total, deserved, weight, priority, expected):
    """proportion_test.go, "2 hierarchy queues": d1 with q1 and d2 with q2 ask for 100 GPUs each."""
    rows = {
        "d1": ("", deserved[0], 100, weight[0], priority[0]),
        "q1": ("d1", deserved[1], 100, 1, 0),
        "d2": ("", deserved[2], 100, weight[1], priority[1]),
        "q2": ("d2", deserved[3], 100, 1, 0),
    }
    assert tuple(fair(total, rows).values()) == expected


def test_a_satisfied_queue_of_high_priority_leaves_the_rest():
    """Issue 143: of 5 GPUs A (quota 1, asks for 1) gets 1, B and C share 3 by weights 2 and 1."""
    rows = {"A": ("", 1, 1, 1, 2), "B": ("", 1, 3, 2, 1), "C": ("", 0, 2, 1, 1)}
    assert fair(5, rows) == {"A": 1, "B": 3, "C": 1}


@pytest.mark.parametrize(
    ("total", "rows", "expected"),
    [
        (8, {"q0": ("", 4, 7, 4, 0), "q1": ("", 2, 3, 2, 0)}, {"q0": 5, "q1": 3}),
        (
            9,
            {"q0": ("", 4, 8, 4, 0), "q1": ("", 4, 3, 4, 0), "q2": ("", 10, 1, 10, 0)},
            {"q0": 5, "q1": 3, "q2": 1},
        ),
        (4, {"q0": ("", 2, 3, 2, 0), "q1": ("", 1, 2, 1, 0)}, {"q0": 3, "q1": 1}),
    ],
)
def test_fractions_go_to_the_largest_remainder(total, rows, expected):
    """reclaim_test.go, "only 1 round of GPU allocation" and "give to the bigger remaining"."""
    assert fair(total, rows) == expected


def test_what_is_divided_is_what_there_is():
    """Nobody gets more than asked for, and all is given while somebody asks."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(2, 6))
        deserved, asked = rng.integers(0, 10, n), rng.integers(0, 30, n)
        total = int(deserved.sum() + rng.integers(0, 30))
        weight, priority = rng.integers(1, 5, n), rng.integers(0, 3, n)
        share = kai.division(total, *(x.astype(float) for x in (deserved, asked, weight, priority)))
        assert (share <= asked).all() and (share >= np.minimum(deserved, asked)).all()
        assert share.sum() == min(total, asked.sum())
        assert (share == np.floor(share)).all()


# -- the order of queues -------------------------------------------------------------------------


def shares(**columns) -> kai.Shares:
    """Queues with these columns; parents by number, by default none."""
    n = len(columns["held"])
    given = {name: np.asarray(values, float) for name, values in columns.items()}
    zeros = dict.fromkeys(("deserved", "fair", "held", "held_protected", "priority"), np.zeros(n))
    parent = np.asarray(columns.get("parent", [-1] * n), int)
    return kai.Shares(**{**zeros, **given, "parent": parent})


@pytest.mark.parametrize(
    ("fair_share", "held", "priority", "first"),
    [
        ((99, 2), (20, 0), (0, 0), 1),  # starved against its fair share
        ((99, 2), (20, 0), (1, 0), 1),  # below its quota, whatever the priority
        ((99, 2), (20, 3), (1, 0), 0),  # priority, if quotas are satisfied
        ((99, 80), (20, 3), (1, 0), 0),  # the same between quota and fair share
    ],
)
def test_order_of_queues(fair_share, held, priority, first):
    """queue_order_test.go, both queues with quota 2; the next gang of each has no GPUs there."""
    two = shares(deserved=(2, 2), fair=fair_share, held=held, priority=priority)
    keys = [kai.queue_key(two, queue, 0.0) for queue in (0, 1)]
    assert keys.index(min(keys)) == first


def test_queues_take_turns_as_their_ratio_grows():
    """Issue 586: the lowest allocation / fair share comes first."""
    two = shares(deserved=(4, 4), fair=(4, 4), held=(3, 1))
    order = kai.gang_order(two, np.array([0, 0, 1, 1]), np.ones(4, int), np.arange(4.0))
    assert order.tolist() == [2, 3, 0, 1]  # nothing starts meanwhile: the order does not change


def test_the_order_goes_level_by_level():
    """Of two departments the one below its share is served first, then its best queue."""
    four = shares(
        parent=[2, 2, -1, -1, 3],
        deserved=[2, 2, 4, 4, 4],
        fair=[2, 2, 4, 4, 4],
        held=[2, 1, 3, 2, 2],
    )
    order = kai.gang_order(four, np.array([0, 1, 4]), np.ones(3, int), np.arange(3.0))
    assert order.tolist() == [2, 1, 0]


# -- who may reclaim -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deserved", "fair_share", "held", "held_protected", "gpus", "protected", "allowed"),
    [
        (0, 2, 0, 0, 1, False, True),  # nothing allocated, below fair share
        (0, 3, 1, 0, 1, False, True),  # some allocated, below fair share
        (0, 2, 1, 0, 1, False, True),  # exactly at fair share with the job
        (0, 1, 1, 0, 1, False, False),  # above fair share
        (0, 0, 1, 0, 1, False, False),  # above fair share without the job
        (2, 2, 0, 0, 1, True, True),  # not preemptible: below quota
        (1, 2, 0, 0, 1, True, True),  # exactly at quota
        (0, 2, 0, 0, 1, True, False),  # above quota
        (3, 3, 1, 1, 1, True, True),  # some allocated, below quota
        (0, 3, 1, 0, 1, True, False),  # preemptible work allocated, no quota
        (1, 3, 1, 1, 1, True, False),  # fully above quota
        (0, 3, 1, 1, 1, True, False),  # over quota without the job
    ],
)
def test_who_may_reclaim(deserved, fair_share, held, held_protected, gpus, protected, allowed):
    """reclaimable_test.go, "Can Reclaim Resources", its GPUs."""
    one = shares(
        deserved=[deserved], fair=[fair_share], held=[held], held_protected=[held_protected]
    )
    assert kai.may_reclaim(one, 0, gpus, protected) == allowed


BASE = {"deserved": [3, 2, 5], "fair": [3, 2, 5], "held": [2, 3, 5], "held_protected": [0, 0, 0]}
"""p1 and p2 in the department default (number 2)."""


@pytest.mark.parametrize(
    ("changes", "protected", "allowed"),
    [
        ({}, False, True),  # below fair share, the other above
        ({"held": [2, 2, 4]}, False, False),  # the other exactly at its fair share
        ({"held": [2, 1, 3]}, False, False),  # both below
        ({"fair": [3, 3, 5]}, False, True),  # below quota, the other above its quota only
        ({"held": [3, 3, 6], "deserved": [3, 2, 7], "fair": [3, 2, 10]}, False, False),
        ({"held": [3, 3, 6]}, False, False),  # at fair share, department above
        ({"deserved": [2, 2, 5]}, True, True),  # not preemptible, quota left for that kind
        ({"deserved": [2, 2, 3]}, True, True),  # department over quota with preemptible work only
        ({"deserved": [2, 2, 3], "held_protected": [0, 0, 3]}, True, False),
        ({"deserved": [2, 2, 1], "fair": [3, 2, 1], "held": [2, 3, 3]}, False, True),
    ],
)
def test_reclaim_in_one_department(changes, protected, allowed):
    """reclaimable_test.go, "Single department": p1 asks for a GPU of p2."""
    queues = shares(**{**BASE, **changes}, parent=[2, 2, -1])
    assert kai.reclaimable(queues, 0, 1.0, [(1, 1.0)], protected) == allowed


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, True),
        ({"held": [2, 2, 2, 2]}, False),  # the other department would go below its fair share
        ({"held": [1, 3, 1, 3], "fair": [3, 4, 3, 4]}, True),  # quota is guaranteed
    ],
)
def test_reclaim_between_departments(changes, allowed):
    """reclaimable_test.go, "Multiple departments": p1 of d1 asks for a GPU of p2 of d2."""
    base = {"deserved": [3, 2, 3, 2], "fair": [3, 2, 3, 2], "held": [2, 3, 2, 3]}
    queues = shares(**{**base, **changes}, parent=[2, 3, -1, -1])
    assert kai.reclaimable(queues, 0, 1.0, [(1, 1.0)]) == allowed


def nested(rows: dict[str, tuple]) -> tuple[kai.Shares, list[str]]:
    """Queues given as name: (parent, deserved, fair share, held)."""
    names = list(rows)
    parent = [names.index(row[0]) if row[0] else -1 for row in rows.values()]
    deserved, fair_share, held = zip(*(row[1:] for row in rows.values()), strict=True)
    return shares(parent=parent, deserved=deserved, fair=fair_share, held=held), names


RIGHT = {"rt": ("", 1, 1, 2), "rm": ("rt", 1, 1, 2), "rl": ("rm", 1, 1, 2)}
BRANCH = {
    "top": ("", 2, 2, 2),
    "mid1": ("top", 1, 1, 0.5),
    "mid2": ("top", 1, 1, 1.5),
    "ll1": ("mid1", 1, 1, 0),
    "ll2": ("mid1", 0, 0, 0.5),
    "rl": ("mid2", 1, 1, 1.5),
}


@pytest.mark.parametrize(
    ("rows", "reclaimer", "victims", "allowed"),
    [
        (
            {"lt": ("", 1, 1, 0), "lm": ("lt", 1, 1, 0), "ll": ("lm", 1, 1, 0), **RIGHT},
            "ll",
            [("rl", 2)],
            True,
        ),
        (  # the reclaimer's top queue would go over its quota
            {
                "lt": ("", 1, 1, 1),
                "lo": ("lt", 0, 0, 1),
                "lm": ("lt", 1, 1, 0),
                "ll": ("lm", 1, 1, 0),
                **RIGHT,
            },
            "ll",
            [("rl", 2)],
            False,
        ),
        (BRANCH, "ll1", [("rl", 1.5)], False),  # mid1 would go over its fair share
        (BRANCH, "ll1", [("rl", 1.5), ("ll2", 0.5)], True),
    ],
)
def test_reclaim_through_levels(rows, reclaimer, victims, allowed):
    """reclaimable_test.go, "Multiple hierarchy levels": a leaf asks for one GPU."""
    queues, names = nested(rows)
    taken = [(names.index(name), freed) for name, freed in victims]
    assert kai.reclaimable(queues, names.index(reclaimer), 1.0, taken) == allowed


def test_the_fullest_queue_gives_first_and_nobody_below_its_share():
    """Of three queues with share 2 the one that holds 5 gives until it is level with the next."""
    queues = shares(deserved=[2, 2, 2], fair=[2, 2, 2], held=[0, 5, 3])
    running = [(2, 1.0), (1, 1.0), (1, 1.0), (1, 1.0), (2, 1.0)]
    assert kai.reclaim_order(queues, 0, 2.0, running) == [1, 2, 0, 3]


def test_protected_work_counts_against_the_quota_of_every_queue_around():
    queues = shares(parent=[1, -1], deserved=[4, 3], held=[2, 2], held_protected=[2, 2])
    assert kai.within_quota(queues, 0, 1.0) and not kai.within_quota(queues, 0, 2.0)


def test_trees():
    parent = np.array([2, 2, -1, -1])
    assert chain(parent, 1) == [1, 2] and siblings(parent, 0, 3) == (2, 3)
    assert siblings(parent, 0, 1) == (0, 1) and siblings(parent, 0, 2) == (2, 2)
    assert below(parent, np.array([1.0, 2.0, 0.0, 5.0])).tolist() == [1, 2, 3, 5]
