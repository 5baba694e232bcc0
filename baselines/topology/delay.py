"""Delay scheduling: hold out for a near placement, for so long as such gangs lately waited.

Source: Dally (its simulator ``cluster-sim``); delay scheduling as such: Zaharia et al., EuroSys
2010. A gang accepts a placement on one node until it has waited d1, under one leaf until d2, in one
pod until d3, and then any. Each d is the mean plus two standard deviations of the recent waits of
gangs of the same size for a placement at that level.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import ClusterView, Plan
from gpuyard.envs.hardware.cluster import LEVELS

from ..room import GPUs, Room
from .kai import node_order, tightest_domain
from .planner import TopologyPlanner
from .request import LEAF, NODE, POD, ZONE, Ints, Request, fill, totals

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


Key = tuple[int, int, int]
"""World, GPUs of the gang, level."""


def timer(waits_s: Iterable[float]) -> float:
    """Return mean + 2 standard deviations of recent waits."""
    waits = np.fromiter(waits_s, float)
    return float(waits.mean() + 2 * waits.std())


class Delay(TopologyPlanner):
    """Packs gangs tightly, and lets them wait for a narrow domain before taking a wider one.

    Levels at which a gang could never stand, even on an empty cluster, cost it no time.

    Args:
        node_s: time to hold out for one node, as long as no gang of that size was ever placed so.
        leaf_s: the same for one leaf.
        pod_s: the same for one pod.
        memory: waits remembered for each size and level.
        order: see :class:`.planner.TopologyPlanner`.
        pod_gpus: see there.

    Raises:
        ValueError: a negative time, or no memory.
    """

    def __init__(
        self,
        *,
        node_s: float = 600.0,
        leaf_s: float = 600.0,
        pod_s: float = 600.0,
        memory: int = 32,
        order: str = "fifo-first-fit",
        pod_gpus: int | None = None,
    ) -> None:
        super().__init__(order=order, pod_gpus=pod_gpus)
        self.default_s = {NODE: node_s, LEAF: leaf_s, POD: pod_s}
        for level, value in self.default_s.items():
            if not value >= 0:
                raise ValueError(f"{LEVELS[level]}_s = {value!r} must be 0 or more")
        if not (isinstance(memory, int) and memory >= 1):
            raise ValueError(f"memory = {memory!r} must be a whole number, 1 or more")
        self.memory, self.world = memory, 0
        self.waits: dict[Key, deque[float]] = {}
        self.timers_s: dict[Key, float] = {}

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Forget all waits."""
        super().reset(scenario, num_envs, seed)
        self.waits, self.timers_s = {}, {}

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Forget the waits of worlds that begin anew."""
        super().restart(done)
        for key in [key for key in self.waits if done[key[0]]]:
            del self.waits[key], self.timers_s[key]

    def plan_for(self, index: int, view: ClusterView) -> Plan | None:
        """Return the plan of world ``index``, whose waits are remembered apart."""
        self.world = index
        return super().plan_for(index, view)

    def begin(self, view: ClusterView) -> None:
        """Note the time, and where nodes stand."""
        self.now_s = view.now_s
        room, self.node_gpus = Room(view), view.cluster.gpus_per_node
        self.tree = room.tree

    def shape(self, gang: np.void) -> tuple:
        """Return what of a gang the rule looks at: also which levels it accepts by now."""
        accepted = (self._accepted(gang, lowest) for lowest in range(ZONE))
        return *super().shape(gang), *accepted

    def choose(self, request: Request) -> Ints | None:
        """Return the nodes of the tightest domain of a level that the gang accepts by now."""
        lowest = self._lowest(request)
        widest = min(self._accepted(request.gang, lowest), request.required)
        tree = request.tree[lowest : widest + 1]
        found = tightest_domain(tree, request.slots, request.free, request.pods)
        if found is None:
            return None
        level, domain = found
        inside = np.flatnonzero(tree[level] == domain)
        order = node_order(inside, request.free, request.tree[max(lowest + level - 1, NODE)])
        return fill(order, request.slots, request.pods)

    def started(self, gang: np.void, gpus: GPUs) -> None:
        """Remember how long the gang waited for a placement at its level."""
        domains = self.tree[:, gpus // self.node_gpus]
        level = int((domains == domains[:, :1]).all(axis=1).argmax())
        key = self.world, int(gang["gpus"]), level
        waits = self.waits.setdefault(key, deque(maxlen=self.memory))
        waits.append(self.now_s - float(gang["arrival_s"]))
        self.timers_s[key] = timer(waits)

    def _lowest(self, request: Request) -> int:
        """Return the narrowest level at which the gang fits on an empty cluster."""
        empty = request.in_pool * (request.node_gpus // request.sizes[0])
        for level in range(NODE, request.required):
            if (totals(request.tree[level], empty) >= request.pods).any():
                return level
        return request.required

    def _accepted(self, gang: np.void, lowest: int) -> int:
        """Return the widest level that a gang accepts after its wait so far."""
        waited_s, due_s = self.now_s - float(gang["arrival_s"]), 0.0
        for level in range(lowest, int(gang["required"])):
            key = self.world, int(gang["gpus"]), level
            due_s += self.timers_s.get(key, self.default_s[level])
            if waited_s < due_s:
                return level
        return int(gang["required"])
