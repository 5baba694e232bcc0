"""Slurm's topology/tree: as few leaf switches as possible, tight ones first.

Source: Slurm's ``topology/tree`` plugin, ``_eval_nodes_topo``. Leaf switches are added one at a
time until the job has its nodes; inside a leaf, nodes come in order of their number. A leaf is
preferred to another if

- it holds what is still missing: of two that do, the one with fewer free nodes;
- or neither does, and its parent switch does: again the one with fewer free nodes;
- otherwise the one with more free nodes.

Nearness counts first: a leaf with a smaller sum of distances to the leafs already taken replaces
one that is not better; a farther one never does.
"""

from __future__ import annotations

import numpy as np

from gpuyard.envs.cluster_view import ClusterView

from .planner import TopologyPlanner
from .request import LEAF, POD, Ints, Request, fill, totals

SAME_POD, OTHER_POD = 2, 4  # switch hops between two leafs


def pick_leaf(
    missing: int, leaf_slots: Ints, leaf_pod: Ints, distance: Ints, pod_slots: Ints
) -> int:
    """Return the next leaf that a job takes, or -1 if none has room.

    Args:
        missing: pods still to be placed.
        leaf_slots: int64 (leafs,), pods that each has room for.
        leaf_pod: int (leafs,), parent switch of each.
        distance: int64 (leafs,), summed over the leafs already taken.
        pod_slots: int64 (parents,), pods that each parent has room for.
    """
    parent_slots = pod_slots[leaf_pod]
    grade = np.where(leaf_slots >= missing, 0, np.where(parent_slots >= missing, 1, 2))
    room = np.choose(grade, (leaf_slots, parent_slots, -parent_slots))
    best = -1
    for leaf in np.flatnonzero(leaf_slots):
        if best == -1:
            best = int(leaf)
            continue
        mine, other = (grade[leaf], room[leaf]), (grade[best], room[best])
        if mine == other and leaf_pod[leaf] == leaf_pod[best]:
            mine, other = -leaf_slots[leaf], -leaf_slots[best]  # siblings: the emptier one
        nearer = distance[leaf] < distance[best] and mine <= other
        if nearer or (distance[leaf] == distance[best] and mine < other):
            best = int(leaf)
    return best


def leafs_in_turn(pods: int, leaf_slots: Ints, leaf_pod: Ints) -> list[int] | None:
    """Return the leafs that a job of so many pods takes, in order, or None if it does not fit."""
    leaf_slots, taken = leaf_slots.copy(), []
    distance = np.zeros(len(leaf_slots), np.int64)
    while pods > 0:
        leaf = pick_leaf(pods, leaf_slots, leaf_pod, distance, totals(leaf_pod, leaf_slots))
        if leaf == -1:
            return None
        taken.append(leaf)
        pods -= leaf_slots[leaf]
        leaf_slots[leaf] = 0
        distance += np.where(leaf_pod == leaf_pod[leaf], SAME_POD, OTHER_POD)
    return taken


class SlurmTree(TopologyPlanner):
    """Adds leafs one at a time, those that finish the job and waste least first.

    Args:
        switches: a job waits for an allocation on at most so many leafs (``--switches=N@T``); 0:
            any number.
        switches_wait_s: the T: after it has waited so long it takes what is there.
        order: see :class:`.planner.TopologyPlanner`.
        pod_gpus: see there.

    Raises:
        ValueError: a negative count or time.
    """

    def __init__(
        self,
        *,
        switches: int = 0,
        switches_wait_s: float = 300.0,
        order: str = "fifo-first-fit",
        pod_gpus: int | None = None,
    ) -> None:
        super().__init__(order=order, pod_gpus=pod_gpus)
        if not switches >= 0:
            raise ValueError(f"switches = {switches!r} must be 0 or more")
        if not switches_wait_s >= 0:
            raise ValueError(f"switches_wait_s = {switches_wait_s!r} must be 0 or more")
        self.switches, self.switches_wait_s = switches, switches_wait_s

    def begin(self, view: ClusterView) -> None:
        """Note the time."""
        self.now_s = view.now_s

    def shape(self, gang: np.void) -> tuple:
        """Return what of a gang the rule looks at: also whether it waits for few switches."""
        return *super().shape(gang), self._waits(gang)

    def choose(self, request: Request) -> Ints | None:
        """Return the lowest nodes of each leaf taken, in order of their number."""
        tightest = request.tightest()
        if tightest is None:
            return None
        slots, leaf = tightest.slots, request.tree[LEAF]
        leaf_pod = np.zeros(leaf.max() + 1, np.int64)
        leaf_pod[leaf] = request.tree[POD]
        taken = leafs_in_turn(request.pods, totals(leaf, slots), leaf_pod)
        if taken is None or (self._waits(request.gang) and len(taken) > self.switches):
            return None
        order = np.concatenate([np.flatnonzero(leaf == number) for number in taken])
        nodes = fill(order, slots, request.pods)
        return None if nodes is None else np.sort(nodes)

    def _waits(self, gang: np.void) -> bool:
        waited_s = self.now_s - float(gang["arrival_s"])
        return self.switches > 0 and waited_s < self.switches_wait_s
