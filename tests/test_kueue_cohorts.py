"""Quota, borrowing, lending and shares, by the numbers of Kueue's documentation and tests."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kueue_worlds import Quotas

from gpuyard.baselines.kueue.cohorts import Cohorts

PAIR = {"team-ab": (None, 0), "team-a": ("team-ab", 9), "team-b": ("team-ab", 12)}


def available(rows: dict[str, tuple], queue: str) -> float:
    quotas = Quotas(rows)
    return quotas.cohorts.available(quotas.node(queue))


def test_a_queue_alone_has_its_nominal_quota():
    """concepts/cluster_queue, first sample: up to 9 CPUs."""
    assert available({"cluster-queue": (None, 9)}, "cluster-queue") == 9


def test_an_idle_queue_lends_all():
    """concepts/cluster_queue, borrowing example: team a may use 12 + 9 = 21."""
    assert available(PAIR, "team-a") == 21


def test_a_borrowing_limit_holds():
    """concepts/cluster_queue, BorrowingLimit: 9 + 1 = 10 for team a, 12 + 9 for team b."""
    rows = PAIR | {"team-a": ("team-ab", 9, {"borrowing": 1})}
    assert available(rows, "team-a") == 10
    assert available(rows, "team-b") == 21


def test_a_lending_limit_holds():
    """concepts/cluster_queue, LendingLimit: 9 + 1 = 10 for team a, 9 + 12 for team b."""
    rows = PAIR | {"team-b": ("team-ab", 12, {"lending": 1})}
    assert available(rows, "team-a") == 10
    assert available(rows, "team-b") == 21


@pytest.mark.parametrize(
    ("limit", "b", "c", "borrows"),
    [  # of a's 4, b's 5 and c's 7 GPUs; what a may borrow
        (inf, {"lending": 2}, None, 2),
        (1, {"lending": 2}, None, 1),
        (inf, {"lending": 2}, {}, 2 + 7),
        (3, {"lending": 2}, {}, 3),
        (inf, {"lending": 2}, {"lending": 3}, 2 + 3),
        (4, {"lending": 2}, {"lending": 3}, 4),
    ],
)
def test_lending_and_borrowing_limits_together(limit, b, c, borrows):
    """KEP 1224, integration tests: the least of the borrowing limit and all that is lent."""
    rows = {"all": (None, 0), "a": ("all", 4, {"borrowing": limit}), "b": ("all", 5, b)}
    rows |= {} if c is None else {"c": ("all", 7, c)}
    assert available(rows, "a") == 4 + borrows


def test_a_cohort_has_quota_of_its_own():
    """concepts/cohort: a queue with nominal quota 0 has the cohort's 12."""
    assert available({"hello": (None, 12), "my": ("hello", 0)}, "my") == 12


def test_research_does_not_borrow_from_production():
    """KEP 79, story 1: production borrows research quota, not the other way round.

    Either with borrowingLimit 0 of research, or with lendingLimit 0 of production.
    """
    for limits in (({"borrowing": 0}, {}), ({}, {"lending": 0})):
        rows = {
            "company": (None, 0),
            "research": ("company", 0, limits[0]),
            "production": ("company", 0, limits[1]),
            "r": ("research", 10),
            "p": ("production", 20),
        }
        assert available(rows, "r") == 10
        assert available(rows, "p") == 30


def test_a_special_queue_borrows_from_organisations_that_do_not():
    """KEP 79, story 2."""
    rows = {
        "top": (None, 0),
        "one": ("top", 0, {"borrowing": 0}),
        "two": ("top", 0, {"borrowing": 0}),
        "special": ("top", 0),
        "a": ("one", 4),
        "b": ("two", 6),
    }
    assert [available(rows, queue) for queue in ("a", "b", "special")] == [4, 6, 10]


LENDER = {"all": (None, 0), "lender": ("all", 5)}
SHARES = [  # rows, GPUs that "cq" uses, node, share in thousandths
    ({"cq": (None, 5)}, 2, "cq", 0),
    (LENDER | {"cq": ("all", 5)}, 2, "cq", 0),
    (LENDER | {"cq": ("all", 5)}, 7, "cq", 200),
    (LENDER | {"cq": ("all", 5)}, 7, "all", 0),
    ({"all": (None, 0), "lender": ("all", 1000), "cq": ("all", 500)}, 501, "cq", 2 / 3),
    (
        {"all": (None, 0), "lender": ("all", 1000), "cq": ("all", 500, {"weight": 300})},
        800,
        "cq",
        2 / 3,
    ),
    (LENDER | {"cq": ("all", 5, {"weight": 2})}, 7, "cq", 100),
    (LENDER | {"cq": ("all", 5, {"weight": 0.5})}, 7, "cq", 400),
]
DEEP = {"root": (None, 45), "child": ("root", 0, {"weight": 2}), "cq": ("child", 5)}
SHARES += [(DEEP, 10, "cq", 100), (DEEP, 10, "child", 50)]
AT_ROOT = {"root": (None, 50), "child": ("root", 0, {"weight": 2}), "cq": ("child", 0)}
SHARES += [(AT_ROOT, 10, "cq", 200), (AT_ROOT, 10, "child", 100)]
LIMITED = {"root": (None, 50), "child": ("root", 0, {"borrowing": 10}), "cq": ("child", 0)}
SHARES += [(LIMITED, 10, "cq", 1000), (LIMITED, 10, "child", 200)]


@pytest.mark.parametrize(("rows", "used", "node", "thousandths"), SHARES)
def test_dominant_resource_share(rows, used, node, thousandths):
    """``TestDominantResourceShare``; Kueue rounds up, so its 1 and 1 are 2/3 here."""
    quotas = Quotas(rows)
    quotas.cohorts.add(quotas.node("cq"), used)
    assert quotas.cohorts.share(quotas.node(node)) == (False, pytest.approx(thousandths / 1000))


def test_without_weight_a_borrower_comes_after_all_others():
    """``TestDominantResourceShare``, zero weight: 7 of 5 GPUs, 10 of a lender."""
    rows = {"all": (None, 0), "lender": ("all", 10), "cq": ("all", 5, {"weight": 0})}
    quotas = Quotas(rows)
    assert quotas.cohorts.share(2) == (False, 0.0)
    quotas.cohorts.add(2, 7)
    assert quotas.cohorts.share(2) > (False, 1e9)


@st.composite
def forests(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = int(rng.integers(2, 9))
    parent = [-1, *(int(rng.integers(0, node)) for node in range(1, size))]
    limit = lambda: [float(rng.choice([0, 2, 5, inf])) for _ in parent]  # noqa: E731
    cohorts = Cohorts(parent, rng.integers(0, 9, size).tolist(), limit(), limit())
    leafs = [node for node in range(size) if not cohorts.children[node]]
    return rng, cohorts, leafs


@settings(max_examples=60, deadline=None)
@given(forests())
def test_balances_hold_at_every_level(forest):
    """KEP 79: T = quota - use, children adding at most what they lend; T >= -borrowingLimit."""
    rng, cohorts, leafs = forest
    held: list[tuple[int, float]] = []
    for _ in range(20):
        queue, gpus = int(rng.choice(leafs)), float(rng.integers(1, 6))
        if held and rng.random() < 0.3:
            cohorts.remove(*held.pop(int(rng.integers(len(held)))))
            continue
        if gpus <= cohorts.available(queue):
            cohorts.add(queue, gpus)
            held.append((queue, gpus))
            assert balanced(cohorts, held)
        else:
            assert not balanced(cohorts, [*held, (queue, gpus)])


def balance(cohorts: Cohorts, held: list[tuple[int, float]]) -> list[float]:
    """T of every node, by the formula of the KEP."""
    left = list(cohorts.nominal)
    for queue, gpus in held:
        left[queue] -= gpus
    for node in range(len(left) - 1, 0, -1):  # parents come before their children
        left[cohorts.parent[node]] += min(cohorts.lending[node], left[node])
    return left


def balanced(cohorts: Cohorts, held: list[tuple[int, float]]) -> bool:
    left = balance(cohorts, held)
    return left[0] >= 0 and all(
        left[node] >= -cohorts.borrowing[node] for node in range(1, len(left))
    )
