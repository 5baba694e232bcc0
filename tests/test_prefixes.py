"""How much room cached prefixes get: as much as can be cached, not a place per unit and replica."""

from __future__ import annotations

import numpy as np
import pytest

from gpuyard.envs.engine.core.records import records
from gpuyard.envs.engine.serving.prefixes import room
from gpuyard.envs.engine.serving.records import AGGREGATED, DECODE, PREFILL, REPLICA_SPEC


def specs(count: int, kv_blocks: int = 101, unit_blocks: int = 2, **fields: object) -> np.ndarray:
    found = records(count, REPLICA_SPEC)
    found["kv_blocks"], found["unit_blocks"], found["does"] = kv_blocks, unit_blocks, AGGREGATED
    for name, value in fields.items():
        found[name] = value
    return found


@pytest.mark.parametrize(
    ("rows", "num_ids", "num_nodes", "entries"),
    [
        (specs(3), 1000, 400, 150),  # 50 units fit 101 blocks
        (specs(3), 1000, 30, 90),  # there are 30 units
        (specs(3), 20, 30, 20),  # 20 units of requests, each at one replica
        (specs(2, does=[PREFILL, DECODE]), 20, 30, 60),  # a request has its prefix at both
        (specs(3, unit_blocks=[0, 2, 4]), 1000, 400, 75),  # the first one caches nothing
        (specs(3, unit_blocks=0), 1000, 400, 1),
    ],
)
def test_room_is_what_can_be_cached(rows, num_ids, num_nodes, entries) -> None:
    assert room(rows, num_ids, num_nodes)[1] == entries


def test_replicas_cost_a_bit_per_unit() -> None:
    few, many = room(specs(10), 400, 400), room(specs(1000), 400, 400)
    assert few[1:] == many[1:] == (400, 128)
    assert (few[0], room(specs(64), 400, 400)[0], room(specs(65), 400, 400)[0]) == (1, 1, 2)
    assert many[0] == 16
