"""Replicas on several nodes beside gangs under `flow`: the same events as a naive reference."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from cluster_reference_worlds import Case, by_engine, random_case, reference_requests, wires
from cluster_watch import Watch
from reference_large_replicas import SendingCluster, Stand

from gpuyard.envs.world import World

ROWS = (("aggregated", 0, 1, 3),)


class WatchStands(Watch):
    """Notes all GPUs of the replicas that get devices, too, and which uplinks are taken then."""

    def __init__(self, world: World) -> None:
        self.stands: dict[int, list[Stand]] = defaultdict(list)
        super().__init__(world)

    def look(self, decisions: int) -> None:
        """Note what has changed since the last look."""
        before, known = self.reserved, len(self.changes)
        super().look(decisions)
        for change in self.changes[known:]:
            gang = int(self.specs[change.replicas[0]]["gang"])
            gpus, own = self.gpus(gang), self.network_uplinks(change.uplinks)
            for r in change.replicas if change.gpus else ():
                self.stands[r].append(Stand(gpus, before | own))

    def network_uplinks(self, mine: dict[int, int]) -> frozenset[tuple[int, int]]:
        """Return uplinks of GPUs as leaf switch and number."""
        return frozenset(wires(self.world).of_gpus(mine))


def by_reference(case: Case, world: World, watch: Any) -> SendingCluster:
    """Let the naive reference serve a case that a world has served."""
    shared, most = world.shared, [int(most) for most in case.stream.max_tokens]
    pattern = shared["patterns"][shared["traffic"]["pattern"][0]]
    first = int(pattern["first_phase"])
    phases = tuple(
        (
            *(int(phase[name]) for name in ("ranks", "stride", "shift", "mode")),
            float(phase["bytes"]),
        )
        for phase in shared["phases"][first : first + pattern["num_phases"]]
    )
    how = (case.scaling, watch.changes, wires(world), watch.gangs)
    requests = reference_requests(case.stream)
    cluster = SendingCluster(
        *(case.roles, requests, most, *how), stands=watch.stands, phases=phases
    )
    cluster.run()
    return cluster


@pytest.mark.parametrize("features", [(), ("lag",), ("frontend", "whole_prompt")], ids="+".join)
def test_steps_over_shared_links(features) -> None:
    """Each step waits for what it meets itself, other replicas and gangs, and holds these up."""
    waited_s = 0.0
    for seed in range(800, 808):
        case = random_case(seed, ROWS, True, *features, speculation=seed % 2 == 1)
        world, watch = by_engine(case, ROWS, "large replicas", seed, WatchStands)
        cluster = by_reference(case, world, watch)
        got, expected = world.state["requests"][0, : len(case.stream)], cluster.result
        np.testing.assert_allclose(got["first_token_s"], expected.first_token_s, rtol=1e-9)
        np.testing.assert_allclose(got["finish_s"], expected.finish_s, rtol=1e-9)
        np.testing.assert_array_equal(got["preemptions"], expected.preemptions)
        for gang in watch.gangs:
            finish_s = world.state["jobs"][0, gang.number]["finish_s"]
            assert finish_s == pytest.approx(gang.finish_s, rel=1e-9)
        waited_s += cluster.waited_s
    assert waited_s > 1.0
