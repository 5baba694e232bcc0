"""Volcano's gang scheduling: its score, its statements, its order."""

from __future__ import annotations

import numpy as np
from mini_world import planner
from views import gangs, make_view

from gpuyard.baselines.gang.volcano import allocate, binpack
from gpuyard.baselines.room import Room


def test_volcano_binpack_score():
    """(used + request) / allocatable x 100: 2 GPUs on nodes with 8, 5, 2 and 1 free."""
    np.testing.assert_allclose(binpack(np.array([8, 5, 2, 1]), 2, 8), [25, 62.5, 100, -1])


def test_volcano_discards_a_statement_that_cannot_be_completed():
    view = make_view(running=[{"id": 0, "on": [8]}], nodes=2)
    room, gang = Room(view), gangs({"id": 1, "gpus": 16})[0]
    assert allocate(room, gang, 0) is None
    assert room.node_free.tolist() == [8, 7]  # the first task's node was given back
    fits = gangs({"id": 1, "gpus": 15})[0]
    assert allocate(room, fits, 0).tolist() == [*range(8), *range(9, 16)]


def test_volcano_orders_by_priority_then_age_and_passes_by_what_does_not_fit():
    pending = [
        {"id": 0, "gpus": 2, "arrival_s": 0.0, "priority": 0.5},
        {"id": 1, "gpus": 16, "arrival_s": 1.0, "priority": 1.0},
        {"id": 2, "gpus": 2, "arrival_s": 2.0, "priority": 1.0},
    ]
    assert planner("volcano").plan(make_view(pending, nodes=2)).gang == 1
    busy = [{"id": 9, "on": [0]}]
    assert planner("volcano").plan(make_view(pending, busy, nodes=2)).gang == 2
