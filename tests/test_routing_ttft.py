"""Routers that predict the time to first token, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from routing_observations import choice, observe, router

COLUMNS = {"prefill_s": [0.1, 0.3, 0.2], "wait_s": [0.3, 0.0, 0.15], "work_s": [1.0, 0.9, 2.0]}


@pytest.mark.parametrize(
    ("name", "costs"),
    [
        ("predicted-ttft", [0.4, 0.3, 0.35]),
        ("predicted-ttft-product", [0.4 * 1.1, 0.3 * 1.2, 0.35 * 2.2]),
        ("prefill-and-work", [1.4, 2.1, 2.8]),
        ("prefill-and-work?prefill_weight=0.5", [1.05, 1.05, 2.1]),
    ],
)
def test_costs_by_hand(name, costs):
    score = router(name, 3).score(observe(**COLUMNS))
    np.testing.assert_allclose(score, [-np.array(costs)], rtol=1e-4)


def test_lowest_cost_wins_among_the_feasible():
    assert choice("predicted-ttft", observe(**COLUMNS), 3) == 1
    assert choice("predicted-ttft", observe(**COLUMNS, mask=[1, 0, 1]), 3) == 2
    assert choice("prefill-and-work", observe(**COLUMNS), 3) == 0


def test_holding_back_is_taken_only_where_nobody_can():
    """Its row is all zeros: the lowest cost of all, and no time to first token."""
    for name in ("predicted-ttft", "predicted-ttft-product", "prefill-and-work"):
        assert choice(name, observe(**COLUMNS, hold=True), 3) < 3
