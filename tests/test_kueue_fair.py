"""Fair sharing, by the examples of Kueue: ``preemption_fair_test.go`` (TestFairPreemptions).

CPUs there are GPUs here. Of equal candidates those go first that are named first.
"""

from __future__ import annotations

import pytest
from kueue_worlds import Quotas

from gpuyard.baselines.kueue.fair import LISTS, fair
from gpuyard.baselines.kueue.preemption import Policies

RULES = Policies("lower-priority", "any", "lower-priority", -3)
ANY = Policies("never", "any")
BASE = {
    "all": (None, 0),
    "a": ("all", 3),
    "b": ("all", 3),
    "c": ("all", 3),
    "preemptible": ("all", 0),
}


def units(queue: str, count: int, **priority: float) -> list[tuple]:
    """Gangs of one GPU: q1, q2, ..."""
    return [(f"{queue}{i}", queue, 1, priority.get("priority", 0)) for i in range(1, count + 1)]


def weighing(**weights: float) -> dict[str, tuple]:
    """The three queues with other weights."""
    return {
        name: (row[0], row[1], {"weight": weights.get(name, 1.0)}) for name, row in BASE.items()
    }


A_5_B_1 = [("a1", "a", 3), ("b_low", "b", 5, 0), ("b_high", "b", 1, 1)]
CASES = {
    # name: quotas, who runs, newcomer, stopped (and policies, strategies)
    "reclaim nominal from user using the most": (
        BASE,
        [*units("a", 3), *units("b", 5), *units("c", 1)],
        ("c", 1),
        {"b1"},
    ),
    "can reclaim from queue using less, if the latest of the one using the most isn't enough": (
        BASE,
        [("a1", "a", 3), ("a2", "a", 1), ("b1", "b", 2), ("b2", "b", 3)],
        ("c", 3),
        {"a1"},
    ),
    "reclaim borrowable quota from user using the most": (
        BASE,
        [*units("a", 3), *units("b", 5), *units("c", 1)],
        ("a", 1),
        {"b1"},
    ),
    "preempt one from each CQ borrowing": (
        BASE,
        [
            *(("a1", "a", 0.5), ("a2", "a", 0.5), ("a3", "a", 3)),
            *(("b1", "b", 0.5), ("b2", "b", 0.5), ("b3", "b", 3)),
        ],
        ("c", 2),
        {"a1", "b1"},
    ),
    "can't preempt when everyone under nominal": (
        BASE,
        [*units("a", 3), *units("b", 3), *units("c", 3)],
        ("c", 1),
        set(),
    ),
    "can't preempt when it would switch the imbalance": (
        BASE,
        [*units("a", 3), *units("b", 5)],
        ("a", 2),
        set(),
    ),
    "can preempt lower priority workloads from same CQ": (
        BASE,
        [
            *(("a1_low", "a", 1, -1), ("a2_low", "a", 1, -1), ("a3", "a", 1), ("a4", "a", 1)),
            *units("b", 5),
        ],
        ("a", 2),
        {"a1_low", "a2_low"},
    ),
    "can preempt a combination of same CQ and highest user": (
        BASE,
        [("a_low", "a", 1, -1), ("a2", "a", 1), ("a3", "a", 1), *units("b", 6)],
        ("a", 2),
        {"a_low", "b1"},
    ),
    "preempt huge workload if there is no other option, as long as its queue keeps less": (
        BASE,
        [("b1", "b", 9)],
        ("a", 2),
        {"b1"},
    ),
    "can't preempt huge workload if the incoming is also huge": (
        BASE,
        [("a1", "a", 2), ("b1", "b", 7)],
        ("a", 5),
        set(),
    ),
    "can't preempt 2 smaller workloads if the incoming is huge": (
        BASE,
        [("b1", "b", 2), ("b2", "b", 2), ("b3", "b", 3)],
        ("a", 6),
        set(),
    ),
    "preempt from target and others even if over nominal": (
        BASE,
        [("a1_low", "a", 2, -1), ("a2_low", "a", 1, -1), ("b1", "b", 3), ("b2", "b", 3)],
        ("a", 4),
        {"a1_low", "b1"},
    ),
    "prefer workloads that don't make the newcomer's queue have the biggest share": (
        BASE,
        [("b1", "b", 2), ("b2", "b", 1), ("b3", "b", 2), ("c1", "c", 1)],
        ("a", 3.5),
        {"b2"},
    ),
    "preempt from different cluster queues if the end result has a smaller max share": (
        BASE,
        [("b1", "b", 2), ("b2", "b", 2.5), ("c1", "c", 2), ("c2", "c", 2.5)],
        ("a", 3.5),
        {"b1", "c1"},
    ),
    "scenario above does not flap": (
        BASE,
        [("a1", "a", 3.5), ("b2", "b", 2.5), ("c2", "c", 2.5)],
        ("b", 2),
        set(),
    ),
    "cannot preempt if it would take the candidate's queue under nominal": (
        BASE,
        [("b1", "b", 3), ("b2", "b", 3), ("c1", "c", 3)],
        ("a", 4),
        set(),
    ),
    "workloads under priority threshold not capriciously preempted": (
        BASE,
        [*units("a", 3), *units("b", 3), *units("preemptible", 3, priority=-3)],
        ("a", 2),
        set(),
    ),
    "preempt lower priority first, even if big": (
        BASE,
        A_5_B_1,
        ("a", 1),
        {"b_low"},
        RULES,
        ("initial",),
    ),
    "preempt workload that doesn't transfer the imbalance, even if high priority": (
        BASE,
        A_5_B_1,
        ("a", 1),
        {"b_high"},
        RULES,
        ("final",),
    ),
    "CQ with higher weight can preempt more": (
        weighing(a=2),
        [*units("a", 3), *units("b", 6)],
        ("a", 2),
        {"b1", "b2"},
    ),
    "can preempt anything borrowing from CQ with 0 weight": (
        weighing(b=0),
        [*units("a", 3), *units("b", 6)],
        ("a", 3),
        {"b1", "b2", "b3"},
    ),
    "can't preempt nominal from CQ with 0 weight": (
        {"all": (None, 0), "a": ("all", 3), "b": ("all", 3, {"weight": 0})},
        [*units("a", 3), *units("b", 3)],
        ("a", 1),
        set(),
    ),
    "can't preempt nominal from Cohort with 0 weight": (
        {
            "root": (None, 0),
            "left-cq": ("root", 0),
            "right-cohort": ("root", 1, {"weight": 0}),
            "right-cq": ("right-cohort", 0, {"weight": 0}),
        },
        [("right-1", "right-cq", 1)],
        ("left-cq", 1),
        set(),
        ANY,
    ),
    "can preempt within cluster queue when no cohort": (
        {"a": (None, 1)},
        [("a1", "a", 1)],
        ("a", 1, 1000),
        {"a1"},
        Policies("lower-priority"),
    ),
    "hierarchical preemption": (
        {
            "ROOT": (None, 5),
            "LEFT": ("ROOT", 5, {"weight": 2}),
            "RIGHT": ("ROOT", 5),
            "a": ("LEFT", 1, {"weight": 2}),
            "b": ("LEFT", 1),
            "c": ("ROOT", 1),
            "d": ("RIGHT", 1),
            "e": ("RIGHT", 1, {"weight": 0.99}),
        },
        [(f"{queue}{i}", queue, 1, i) for queue in "bcde" for i in range(1, 6)],
        ("a", 5),
        {"b1", "b2", "c1", "c2", "e1"},
        ANY,
    ),
    "borrowing cq in non-borrowing cohort is protected": (
        {
            "ROOT": (None, 0),
            "a": ("ROOT", 5, {"weight": 10}),
            "RIGHT": ("ROOT", 1, {"weight": 0.1}),
            "b": ("RIGHT", 0, {"weight": 0.1}),
        },
        [*units("a", 3, priority=-1), *units("b", 1, priority=-1)],
        ("a", 5),
        {"a1", "a2", "a3"},
    ),
    "forced to preempt within clusterqueue because borrowing workload too important": (
        {
            "ROOT": (None, 0),
            "a": ("ROOT", 5, {"weight": 10}),
            "RIGHT": ("ROOT", 3, {"weight": 0.1}),
            "b": ("RIGHT", 0, {"weight": 0.1}),
        },
        [*units("a", 3, priority=-1), ("b1", "b", 4, 100)],
        ("a", 4),
        {"a1", "a2", "a3"},
        Policies("lower-priority", "lower-priority"),
    ),
    "deep preemption": (
        {
            "ROOT": (None, 0),
            **{"A": ("ROOT", 0, {"weight": 1.01}), "AA": ("A", 0), "AAA": ("AA", 0)},
            **{"B": ("ROOT", 0, {"weight": 0.99}), "BB": ("B", 0), "BBB": ("BB", 0)},
            **{"C": ("ROOT", 0), "CC": ("C", 0), "CCC": ("CC", 0), "CCCC": ("CCC", 1)},
            **{"a": ("AAA", 0), "b": ("BBB", 0)},
        },
        [("b1", "b", 1)],
        ("a", 1),
        {"b1"},
        ANY,
    ),
    "cq with zero weight can reclaim nominal quota": (
        {"ROOT": (None, 0), "a": ("ROOT", 1, {"weight": 0}), "b": ("ROOT", 0)},
        [("b1", "b", 1)],
        ("a", 1),
        {"b1"},
        ANY,
    ),
    "cohort with zero weight can reclaim nominal quota": (
        {
            "ROOT": (None, 0),
            "A": ("ROOT", 1, {"weight": 0}),
            "a": ("A", 0, {"weight": 0}),
            "b": ("ROOT", 0),
        },
        [("b1", "b", 1)],
        ("a", 1),
        {"b1"},
        ANY,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_whom_a_newcomer_stops(case):
    rows, running, newcomer, stopped, *more = case
    policies, strategies = (*more, *(RULES, LISTS[-1])[len(more) :])
    quotas = Quotas(rows)
    admitted = quotas.admitted(*running)
    used = list(quotas.cohorts.used)
    found = fair(
        quotas.cohorts, quotas.newcomer(*newcomer), admitted, policies, strategies=strategies
    )
    assert quotas.called(found) == stopped
    assert quotas.cohorts.used == used, "only a trial"


def test_within_nominal_quota_shares_do_not_count():
    """``FairSharingPreemptWithinNominal``: a has its own GPU, although its cohort borrows most."""
    rows = {
        **{"ROOT": (None, 0), "A": ("ROOT", 0), "B": ("ROOT", 4)},
        **{"a": ("A", 1), "greedy": ("A", 0), "b": ("ROOT", 0)},
    }
    quotas = Quotas(rows)
    admitted = quotas.admitted(("greedy1", "greedy", 4, 9), ("b1", "b", 1, -1))
    policies = Policies("never", "lower-priority")
    found = fair(quotas.cohorts, quotas.newcomer("a", 1), admitted, policies, strategies=("final",))
    assert quotas.called(found) == {"b1"}


def test_inside_a_cohort_that_does_not_borrow_a_sibling_may():
    """``onPathFromRootToPreemptorCQ``: imbalance within the newcomer's own cohort is looked at."""
    rows = {"ROOT": (None, 0), "LEFT": ("ROOT", 0), "RIGHT": ("ROOT", 4), "a": ("LEFT", 2)}
    quotas = Quotas(rows | {"b": ("LEFT", 2), "c": ("RIGHT", 0)})
    admitted = quotas.admitted(*units("b", 4), *units("c", 4))
    found = fair(quotas.cohorts, quotas.newcomer("a", 1), admitted, ANY)
    assert quotas.called(found) == {"b1"}


def test_two_workloads_do_not_preempt_each_other():
    """concepts/fair_sharing, proof: if A may preempt B, B may not preempt A in turn."""
    checked = 0
    for a in range(1, 10):
        for b in range(1, 10):
            if a + b <= 9:
                continue  # both fit
            for strategies in LISTS:
                flips = [
                    _preempts("a", a, "b", b, strategies),
                    _preempts("b", b, "a", a, strategies),
                ]
                assert not all(flips), (a, b, strategies)
                checked += any(flips)
    assert checked > 20


def _preempts(queue: str, gpus: int, other: str, held: int, strategies) -> bool:
    if held > 9 or gpus > 9 or min(held, gpus) <= 3:
        return False  # one of them borrows nothing: no loop is possible then
    quotas = Quotas(BASE)
    admitted = quotas.admitted((other, other, held))
    newcomer = quotas.newcomer(queue, gpus)
    return bool(fair(quotas.cohorts, newcomer, admitted, ANY, strategies=strategies))
