"""Llumnix's freeness, its dispatch and its pairs, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from routing_observations import observe, router

from gpuyard import baselines
from gpuyard.envs.observation import Layout

LAYOUT = Layout({"route", "migrate"})


def test_dispatch_goes_where_blocks_last_longest() -> None:
    """100 blocks for 10 requests; 600 less 100 that wait, for 30; an idle replica."""
    load = {"kv_blocks": [900, 400, 0], "queued_tokens": [0, 1600, 0]}
    load |= {"running": [10, 20, 0], "waiting": [0, 10, 0]}
    assert router("llumnix", 3).act(observe(**load)).tolist() == [2]
    assert router("llumnix", 3).act(observe(mask=[1, 1, 0], **load)).tolist() == [1]


def choice(source: int, options: dict, **columns) -> int:
    """What is chosen of three replicas once ``source`` is, -1: a source is asked for."""
    seen = {
        "cluster": np.zeros((1, len(LAYOUT.columns("cluster"))), np.float32),
        "candidates": np.zeros((1, 4, len(LAYOUT.columns("candidates"))), np.float32),
        "queue": np.zeros((1, 1, len(LAYOUT.columns("queue"))), np.float32),
        "action_mask": np.ones((1, 4), np.int8),
    }
    seen["cluster"][0, LAYOUT.index("cluster", "kind_migrate")] = 1
    for name, values in columns.items():
        at = LAYOUT.index("candidates", f"migrate.{name}")
        scale = LAYOUT.columns("candidates")[at].scale
        values = np.array(values, float)
        seen["candidates"][0, :3, at] = values / (values + scale)
    if source >= 0:
        seen["candidates"][0, source, LAYOUT.index("candidates", "is_source")] = 1
        seen["action_mask"][0, source] = 0
    rule = baselines.make("migration/llumnix", **options)
    world = SimpleNamespace(
        name="three",
        decisions=frozenset({"migrate"}),
        layout=LAYOUT,
        replicas=[None] * 3,
    )
    rule.reset(world, 1)
    return int(rule.act(seen)[0])


# blocks for each request: 20 / 10 = 2, 100 / 10 = 10, (80 - 70) / 10 = 1
LOADS = {"free_blocks": [20, 100, 80], "queued_blocks": [0, 0, 70], "requests": [10, 10, 10]}


@pytest.mark.parametrize(
    ("source", "options", "blocks", "chosen"),
    [
        (-1, {}, 5, 2),  # the least, 1, is below 3
        (-1, {"threshold": 0.5}, 5, 3),  # nobody is
        (2, {}, 5, 1),  # the most, 10, is above 3
        (2, {"threshold": 20.0}, 5, 3),
        # balanced: 9 apart; afterwards (100 - 5) / 11 = 8.6 and 15 / 9 = 1.7, 7 apart
        (2, {"policy": "balanced"}, 5, 1),
        # (100 - 75) / 11 = 2.3 is below 3
        (2, {"policy": "balanced"}, 75, 3),
        # (100 - 60) / 11 = 3.6 is not, but (10 + 60) / 9 = 7.8 is more
        (2, {"policy": "balanced"}, 60, 3),
    ],
)
def test_pairs_by_hand(source: int, options: dict, blocks: int, chosen: int) -> None:
    found = choice(source, options, request_blocks=[blocks] * 3, **LOADS)
    assert found == chosen
