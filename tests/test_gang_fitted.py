"""The fitted orders F1 to F4 by hand."""

from __future__ import annotations

import pytest
from mini_world import planner
from views import make_view

from gpuyard.baselines.gang.fitted import FUNCTIONS


def test_fitted_functions_by_hand():
    """r = 100 s, n = 4, s = 1000 s: log10 r = 2, sqrt r = 10, log10 s = 3."""
    values = {name: float(f(100.0, 4.0, 1000.0)) for name, f in FUNCTIONS.items()}
    assert values == {
        "f1": pytest.approx(2 * 4 + 2610),
        "f2": pytest.approx(10 * 4 + 76_800),
        "f3": pytest.approx(400 + 20.58e6),
        "f4": pytest.approx(200 + 1.59e6),
    }


def test_fitted_orders_start_the_lowest_value():
    """Early arrivals weigh most: the older gang starts although it is bigger and longer."""
    pending = [
        {"id": 0, "gpus": 8, "estimate_s": 900.0, "arrival_s": 10.0},
        {"id": 1, "gpus": 1, "estimate_s": 100.0, "arrival_s": 1000.0},
    ]
    for name in FUNCTIONS:
        assert planner(name).plan(make_view(pending, nodes=1, now_s=1000.0)).gang == 0
    # of the same age the smaller one
    pending[1]["arrival_s"] = 10.0
    assert planner("f1").plan(make_view(pending, nodes=1, now_s=1000.0)).gang == 1
    with pytest.raises(ValueError, match="use one of f1, f2, f3, f4"):
        planner("f1", function="f5")
