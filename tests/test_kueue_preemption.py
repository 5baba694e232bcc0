"""Classic preemption, by the examples of Kueue: ``preemption_test.go`` (TestPreemption) and
``preemption_hierarchical_test.go`` (TestHierarchicalPreemptions). CPUs there are GPUs here.
"""

from __future__ import annotations

import pytest
from kueue_worlds import Quotas

from gpuyard.baselines.kueue.preemption import Policies, classic

LOWER = Policies("lower-priority", "lower-priority")
STANDALONE = {"standalone": (None, 6)}
LIMITED = {"borrowing": 6}
PAIR = {"all": (None, 0), "c1": ("all", 6, LIMITED), "c2": ("all", 6, LIMITED)}
UNLIMITED = {"all": (None, 0), "d1": ("all", 6), "d2": ("all", 6)}
ALONE = {"all": (None, 0), "l1": ("all", 6, {"borrowing": 12})}
SHARED = {
    "all": (None, 0),
    "a_standard": ("all", 1, {"borrowing": 12}),
    "b_standard": ("all", 1, {"borrowing": 12}),
    "a_best_effort": ("all", 1, {"borrowing": 12}),
    "b_best_effort": ("all", 0, {"borrowing": 13}),
    "shared": ("all", 10),
}
LEND = {"all": (None, 0), "lend1": ("all", 6, {"lending": 4}), "lend2": ("all", 6, {"lending": 2})}
THREE = {"all": (None, 0), "a": ("all", 2), "b": ("all", 2), "c": ("all", 2)}
WHILE_BORROWING = {
    "a_standard": Policies("never", "lower-priority", "lower-priority", 0),
    "b_standard": Policies("lower-priority", "any", "lower-priority", 0),
}
ANY = Policies("never", "any")
LOWER_ANY = Policies("lower-priority", "any")
NEWER = Policies("lower-or-newer-equal-priority")

CASES = {
    # quotas; who runs: name, queue, GPUs, priority, queued, admitted; newcomer; rules; stopped
    "preempt lowest priority": (
        STANDALONE,
        [("low", "standalone", 2, -1), ("mid", "standalone", 2, 0), ("high", "standalone", 2, 1)],
        ("standalone", 2, 1),
        Policies("lower-priority"),
        {"low"},
    ),
    "preempt multiple": (
        STANDALONE,
        [("low", "standalone", 2, -1), ("mid", "standalone", 2, 0), ("high", "standalone", 2, 1)],
        ("standalone", 3, 1),
        Policies("lower-priority"),
        {"low", "mid"},
    ),
    "no preemption for low priority": (
        STANDALONE,
        [("low", "standalone", 3, -1), ("mid", "standalone", 3, 0)],
        ("standalone", 1, -1),
        Policies("lower-priority"),
        set(),
    ),
    "not enough low priority workloads": (
        STANDALONE,
        [("low", "standalone", 3, -1), ("mid", "standalone", 3, 0)],
        ("standalone", 4, 0),
        Policies("lower-priority"),
        set(),
    ),
    "some free quota, preempt low priority": (
        STANDALONE,
        [("low", "standalone", 1, -1), ("mid", "standalone", 1, 0), ("high", "standalone", 3, 1)],
        ("standalone", 2, 1),
        Policies("lower-priority"),
        {"low"},
    ),
    "minimal set excludes low priority": (
        STANDALONE,
        [("low", "standalone", 1, -1), ("mid", "standalone", 2, 0), ("high", "standalone", 3, 1)],
        ("standalone", 2, 1),
        Policies("lower-priority"),
        {"mid"},
    ),
    "reclaim quota from borrower": (
        PAIR,
        [("c1-low", "c1", 3, -1), ("c2-mid", "c2", 3, 0), ("c2-high", "c2", 6, 1)],
        ("c1", 3, 1),
        LOWER,
        {"c2-mid"},
    ),
    "no workloads borrowing": (
        PAIR,
        [("c1-high", "c1", 4, 1), ("c2-low-1", "c2", 4, -1)],
        ("c1", 4, 1),
        LOWER,
        set(),
    ),
    "not enough workloads borrowing": (
        PAIR,
        [("c1-high", "c1", 4, 1), ("c2-low-1", "c2", 4, -1), ("c2-low-2", "c2", 4, -1)],
        ("c1", 4, 1),
        LOWER,
        set(),
    ),
    "preempting locally and borrowing same resource in cohort": (
        PAIR,
        [("c1-med", "c1", 4, 0), ("c1-low", "c1", 4, -1), ("c2-low-1", "c2", 4, -1)],
        ("c1", 4, 1),
        LOWER,
        {"c1-low"},
    ),
    "preempting locally and borrowing same resource in cohort; no borrowing limit": (
        UNLIMITED,
        [("d1-med", "d1", 4, 0), ("d1-low", "d1", 4, -1), ("d2-low-1", "d2", 4, -1)],
        ("d1", 4, 1),
        LOWER,
        {"d1-low"},
    ),
    "preempting locally and not borrowing same resource in 1-queue cohort": (
        ALONE,
        [("l1-med", "l1", 4, 0), ("l1-low", "l1", 2, -1)],
        ("l1", 4, 1),
        LOWER,
        {"l1-med"},
    ),
    "do not reclaim borrowed quota from same priority for LowerPriority": (
        PAIR,
        [("c1", "c1", 2, 0), ("c2-1", "c2", 4, 0), ("c2-2", "c2", 4, 0)],
        ("c1", 4, 0),
        LOWER,
        set(),
    ),
    "reclaim borrowed quota from same priority for Any": (
        PAIR,
        [("c1-1", "c1", 4, 0), ("c1-2", "c1", 4, 1), ("c2", "c2", 2, 0)],
        ("c2", 4, 0),
        ANY,
        {"c1-1"},
    ),
    "preempt from all ClusterQueues in cohort": (
        PAIR,
        [
            ("c1-low", "c1", 3, -1),
            ("c1-mid", "c1", 2, 0),
            ("c2-low", "c2", 3, -1),
            ("c2-mid", "c2", 4),
        ],
        ("c1", 4, 0),
        LOWER,
        {"c1-low", "c2-low"},
    ),
    "can't preempt workloads in ClusterQueue for withinClusterQueue=Never": (
        PAIR,
        [("c2-low", "c2", 3, -1)],
        ("c2", 4, 1),
        ANY,
        set(),
    ),
    "preempt newer workloads with the same priority": (
        {"preventStarvation": (None, 6)},
        [
            ("wl1", "preventStarvation", 2, 2, 0, 0),
            ("wl2", "preventStarvation", 2, 1, 0, 1),
            ("wl3", "preventStarvation", 2, 1, 0, 0),
        ],
        ("preventStarvation", 2, 1, -15),
        NEWER,
        {"wl2"},
    ),
    "BorrowWithinCohort; a lower-priority workload of another queue, while borrowing": (
        SHARED,
        [
            ("a_best_effort_low", "a_best_effort", 10, -1),
            ("b_best_effort_low", "b_best_effort", 1, -1),
        ],
        ("a_standard", 10, 0),
        WHILE_BORROWING["a_standard"],
        {"a_best_effort_low"},
    ),
    "BorrowWithinCohort; not above MaxPriorityThreshold, if still borrowing": (
        SHARED,
        [("b_standard", "b_standard", 10, 1)],
        ("a_standard", 10, 2),
        WHILE_BORROWING["a_standard"],
        set(),
    ),
    "BorrowWithinCohort; above MaxPriorityThreshold, if not borrowing any more": (
        SHARED,
        [("b_standard", "b_standard", 13, 1)],
        ("a_standard", 1, 2),
        WHILE_BORROWING["a_standard"],
        {"b_standard"},
    ),
    "BorrowWithinCohort; not a lower-priority workload of the same queue": (
        SHARED,
        [("a_standard", "a_standard", 13, 1)],
        ("a_standard", 1, 2),
        WHILE_BORROWING["a_standard"],
        set(),
    ),
    "BorrowWithinCohort; only from its own queue if none is below the threshold": (
        SHARED,
        [
            *(("a_standard_1", "a_standard", 10, 1), ("a_standard_2", "a_standard", 1, 1)),
            *(("b_standard_1", "b_standard", 1, 1), ("b_standard_2", "b_standard", 1, 2)),
        ],
        ("b_standard", 1, 3),
        WHILE_BORROWING["b_standard"],
        {"b_standard_1"},
    ),
    "BorrowWithinCohort; from its own queue and from others below the threshold": (
        SHARED,
        [
            ("b_standard_high", "b_standard", 10, 2),
            ("b_standard_mid", "b_standard", 1, 1),
            ("a_best_effort_low", "a_best_effort", 1, -1),
            ("a_best_effort_lower", "a_best_effort", 1, -2),
        ],
        ("b_standard", 2, 2),
        WHILE_BORROWING["b_standard"],
        {"b_standard_mid", "a_best_effort_lower"},
    ),
    "reclaim quota from lender": (
        LEND,
        [
            ("lend1-low", "lend1", 3, -1),
            ("lend2-mid", "lend2", 3, 0),
            ("lend2-high", "lend2", 4, 1),
        ],
        ("lend1", 3, 1),
        LOWER,
        {"lend2-mid"},
    ),
    "preempt from all ClusterQueues in cohort-lend": (
        LEND,
        [
            *(("lend1-low", "lend1", 3, -1), ("lend1-mid", "lend1", 2, 0)),
            *(("lend2-low", "lend2", 3, -1), ("lend2-mid", "lend2", 4, 0)),
        ],
        ("lend1", 4, 0),
        LOWER,
        {"lend1-low", "lend2-low"},
    ),
    "not if it exceeds requestable quota including lending limit": (
        LEND,
        [("lend2-low", "lend2", 10, -1)],
        ("lend1", 9, 0),
        LOWER,
        set(),
    ),
    "from its own queue when that is exhausted": (
        THREE,
        [
            *(("a1", "a", 1, -2), ("a2", "a", 1, -2), ("a3", "a", 1, -1)),
            *(("b1", "b", 1, 0), ("b2", "b", 1, 0), ("b3", "b", 1, 0)),
        ],
        ("a", 2, 0),
        LOWER_ANY,
        {"a1", "a2"},
    ),
    "from other queues if its own is not exhausted": (
        THREE,
        [
            ("a1", "a", 1, -1),
            *(("b1", "b", 1, 0), ("b2", "b", 1, 0), ("b3", "b", 1, 0), ("b4", "b", 1, 0)),
            ("b5", "b", 1, -1),
        ],
        ("a", 2, 0),
        LOWER_ANY,
        {"a1", "b5"},
    ),
    "long range preemption": (
        {
            "root": (None, 0),
            **{"left": ("root", 0), "right": ("root", 0)},
            **{"cq-left": ("left", 10), "cq-right": ("right", 0)},
        },
        [("to-be-preempted", "cq-right", 5)],
        ("cq-left", 8, 0),
        ANY,
        {"to-be-preempted"},
    ),
}


def under(root: float, cohort: float, **queues: tuple) -> dict[str, tuple]:
    """Cohort c under root r, queue q under c, and more queues."""
    return {"r": (None, root), "c": ("r", cohort), "q": ("c", 0), **queues}


BORROWING, SAME = ("r", 0), ("c", 0)
DOWN_TO_0 = Policies("lower-priority", "any", "lower-priority", 0)
LOWER_DOWN_TO_0 = Policies("lower-priority", "lower-priority", "lower-priority", 0)
CASES |= {
    "hierarchy: preempt with hierarchical advantage": (
        under(0, 2, q_borrowing=BORROWING),
        [("admitted2", "q_borrowing", 2, 0)],
        ("q", 2, 0),
        LOWER_ANY,
        {"admitted2"},
    ),
    "hierarchy: avoid queues within nominal quota": (
        under(0, 2, q_borrowing=BORROWING, q_nominal=("r", 2)),
        [("admitted1", "q_nominal", 2, -10), ("admitted2", "q_borrowing", 2, 0)],
        ("q", 2, 0),
        LOWER_ANY,
        {"admitted2"},
    ),
    "hierarchy: preempt multiple with hierarchical advantage": (
        under(0, 2, q_borrowing=BORROWING),
        [("admitted1", "q_borrowing", 1, 1), ("admitted2", "q_borrowing", 1, 2)],
        ("q", 2, 0),
        LOWER_ANY,
        {"admitted1", "admitted2"},
    ),
    "hierarchy: preempt in cohort and own CQ": (
        under(0, 3, q_same_cohort=SAME),
        [
            ("not_preemptible", "q_same_cohort", 1, 1),
            ("preemptible", "q_same_cohort", 1, 0),
            ("own_queue", "q", 1, -1),
        ],
        ("q", 2, 1),
        DOWN_TO_0,
        {"own_queue", "preemptible"},
    ),
    "hierarchy: prefer to preempt hierarchical candidate": (
        under(0, 2, q_borrowing=BORROWING),
        [("borrowing", "q_borrowing", 1, 1), ("same_queue", "q", 1, -2)],
        ("q", 1, 0),
        LOWER_ANY,
        {"borrowing"},
    ),
    "hierarchy: forced to preempt priority candidate": (
        under(0, 2, q_nominal=("r", 2), q_same_cohort=SAME),
        [("nominal", "q_nominal", 2, -10), ("same_cohort", "q_same_cohort", 2, -1)],
        ("q", 2, 0),
        DOWN_TO_0,
        {"same_cohort"},
    ),
    "hierarchy: incoming workload fits in CQ nominal quota": (
        under(0, 2, q_borrowing=BORROWING, q_same_cohort=SAME) | {"q": ("c", 4)},
        [("borrowing", "q_borrowing", 3, 10), ("same_cohort", "q_same_cohort", 3, 10)],
        ("q", 4, 0),
        LOWER_ANY,
        {"borrowing", "same_cohort"},
    ),
    "hierarchy: preempt hierarchical and priority candidates": (
        under(1, 4, q_borrowing=BORROWING, q_same_cohort=SAME),
        [
            ("borrowing", "q_borrowing", 2, -1),
            ("same_cohort_preemptible", "q_same_cohort", 1, -1),
            ("borrowing_not_preemptible", "q_borrowing", 2, 1),
        ],
        ("q", 3, 0),
        LOWER_DOWN_TO_0,
        {"borrowing", "same_cohort_preemptible"},
    ),
    "hierarchy: preempt hierarchical candidates and inside CQ": (
        under(1, 4, q_borrowing=BORROWING, q_same_cohort=SAME),
        [
            ("borrowing", "q_borrowing", 2, -1),
            ("same_queue_preemptible", "q", 1, -1),
            ("borrowing_not_preemptible", "q_borrowing", 2, 1),
        ],
        ("q", 3, 0),
        LOWER_DOWN_TO_0,
        {"borrowing", "same_queue_preemptible"},
    ),
    "hierarchy: reclaim nominal quota from lowest priority, excluding non-borrowing": (
        under(0, 3, q_borrowing=BORROWING, q_nominal=("r", 2)),
        [
            *(("prio_8", "q_borrowing", 1, 8), ("prio_9", "q_borrowing", 1, 9)),
            *(("prio_10", "q_borrowing", 1, 9), ("nominal", "q_nominal", 2, -2)),
        ],
        ("q", 1, 0),
        LOWER_ANY,
        {"prio_8"},
    ),
    "hierarchy: respect lending limits": (
        under(0, 2, q_borrowing=BORROWING) | {"q": ("c", 3, {"lending": 2})},
        [("borrowing", "q_borrowing", 4, 0)],
        ("q", 5, -2),
        LOWER_ANY,
        {"borrowing"},
    ),
    "hierarchy: reclaim in complex hierarchy": (
        {
            **{"r": (None, 0), "c11": ("r", 4), "c12": ("r", 4), "c21": ("c11", 4)},
            **{"c22": ("c11", 4), "c23": ("c11", 4), "c31": ("c21", 4), "c32": ("c21", 4)},
            **{"q1": ("c12", 0), "q2": ("c23", 0), "q3": ("c22", 0)},
            **{"q4": ("c32", 0), "q5": ("c31", 0)},
        },
        [
            *(("borrowing_1", "q1", 4, -6), ("borrowing_2", "q1", 4, -5)),
            *(("borrowing_3", "q2", 4, -9), ("borrowing_4", "q2", 4, -10)),
            *(("borrowing_5", "q3", 4, -4), ("borrowing_6", "q3", 3, -3)),
            *(("borrowing_7", "q4", 2, 4), ("borrowing_8", "q4", 3, 2)),
        ],
        ("q5", 7, -2),
        LOWER_ANY,
        {"borrowing_1", "borrowing_4"},
    ),
    "hierarchy: infeasible, all available workloads in pruned subtrees": (
        under(0, 2, c_other=("r", 2), q_other=("c_other", 0), q_same_cohort=SAME),
        [
            *(("other_1", "q_other", 1, -10), ("other_2", "q_other", 1, -10)),
            ("same_cohort", "q_same_cohort", 2, 0),
        ],
        ("q", 2, 0),
        LOWER_ANY,
        set(),
    ),
}


@pytest.mark.parametrize(
    ("rows", "running", "newcomer", "policies", "stopped"), CASES.values(), ids=CASES
)
def test_whom_a_newcomer_stops(rows, running, newcomer, policies, stopped):
    quotas = Quotas(rows)
    admitted = quotas.admitted(*running)
    used = list(quotas.cohorts.used)
    found = classic(quotas.cohorts, quotas.newcomer(*newcomer), admitted, policies)
    assert quotas.called(found) == stopped
    assert quotas.cohorts.used == used, "only a trial"


def test_a_policy_of_never_stops_nobody():
    """concepts/cluster_queue: ``Never`` is the default of all three."""
    quotas = Quotas(PAIR)
    admitted = quotas.admitted(("c1", "c1", 3, -1), ("c2", "c2", 9, -1))
    assert classic(quotas.cohorts, quotas.newcomer("c1", 3, 5), admitted, Policies()) == []


def test_a_cohort_that_borrows_no_more_is_left_alone():
    """``candidateIsValid``: c_other gives back the 2 it borrows, and not the third GPU too."""
    rows = under(0, 2, c_other=("r", 2), q_other=("c_other", 0))
    for gpus, stopped in ((2, {"other_1", "other_2"}), (3, set())):
        quotas = Quotas(rows)
        admitted = quotas.admitted(*((f"other_{i}", "q_other", 1, -1) for i in range(1, 5)))
        newcomer = quotas.newcomer("q", gpus, 5)
        found = classic(
            quotas.cohorts, newcomer, admitted, Policies("never", "any", "lower-priority")
        )
        assert quotas.called(found) == stopped


def test_placement_counts_too():
    """Quota would have the lowest alone, placement needs the other one: it alone is stopped."""
    quotas = Quotas({"q": (None, 4)})
    low, high = quotas.admitted(("low", "q", 2, -2), ("high", "q", 2, -1))
    placed = lambda removed: high in removed  # noqa: E731
    found = classic(
        quotas.cohorts, quotas.newcomer("q", 2), [low, high], Policies("lower-priority"), placed
    )
    assert found == [high]
