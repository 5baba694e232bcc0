"""A gang as equal pods, and how many of them each node and each domain has room for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.hardware.cluster import LEVELS

from ..room import LEAF, NODE, POD, ZONE, GPUs, Room

Ints = NDArray[np.int64]

__all__ = ["LEAF", "NODE", "POD", "ZONE"]


@dataclass(frozen=True)
class Request:
    """A gang that asks for nodes of one pool.

    A pod is what must fit on one node: a whole node of the pool, or the whole gang where that is
    smaller, unless the planner cuts gangs into smaller ones. Room is counted in pods of the first
    one's size; the last may be smaller (as KAI counts, which takes the largest pod of a gang).

    Attributes:
        gang: entry of ``ClusterView.pending``.
        sizes: int64 (m,), GPUs of each pod.
        free: int64 (N,), free GPUs of each node, 0 on other pools.
        in_pool: bool (N,), nodes of the pool.
        node_gpus: GPUs of each of them.
        tree: int64 (4, N), domain of each node at each level, from node to zone.
        required: widest level whose domains may hold the gang.
    """

    gang: np.void
    sizes: Ints
    free: Ints
    in_pool: NDArray[np.bool_]
    node_gpus: int
    tree: Ints
    required: int

    @property
    def pods(self) -> int:
        """How many pods, m."""
        return len(self.sizes)

    @property
    def slots(self) -> Ints:
        """Pods that each node has room for, int64 (N,)."""
        return self.free // self.sizes[0]

    def preferred(self, default: int) -> int:
        """Return the level that the gang would like to stay inside, ``default`` if it names none.

        It names none if that is the zone, which is everything. Never wider than the required one.
        """
        level = int(self.gang["preferred"])
        return min(default if level == ZONE else level, self.required)

    def allowed(self) -> NDArray[np.bool_]:
        """Return the nodes of required domains that hold the whole gang, bool (N,)."""
        domain = self.tree[self.required]
        return (totals(domain, self.slots) >= self.pods)[domain]

    def within(self, inside: NDArray[np.bool_]) -> Request:
        """Return the same request for some of the nodes only."""
        return replace(self, free=np.where(inside, self.free, 0))

    def tightest(self) -> Request | None:
        """Return the request for the required domain with the least room that holds the gang."""
        domain = self.tree[self.required]
        room = totals(domain, self.slots)
        fits = np.flatnonzero(room >= self.pods)
        return self.within(domain == fits[room[fits].argmin()]) if len(fits) else None


def make_request(room: Room, gang: np.void, pool: int, pod_gpus: int | None = None) -> Request:
    """Return the request of a gang for nodes of one pool, in pods of ``pod_gpus`` GPUs at most."""
    gpus, node_gpus = int(gang["gpus"]), room.cluster.pools[pool].gpus_per_node
    size = min(gpus, node_gpus, pod_gpus or node_gpus)
    sizes = np.full(-(-gpus // size), size)
    sizes[-1] = gpus - size * (len(sizes) - 1)
    in_pool = room.cluster.node_pool == pool
    free = np.where(in_pool, room.node_free, 0)
    tree = room.tree
    return Request(gang, sizes, free, in_pool, node_gpus, tree, int(gang["required"]))


def level_index(option: str, name: str) -> int:
    """Return the number of a level by its name.

    Raises:
        ValueError: unknown level; the message names the option.
    """
    if name not in LEVELS:
        raise ValueError(f"{option} = {name!r} must be one of {', '.join(LEVELS)}")
    return LEVELS.index(name)


def totals(domain: Ints, amount: Ints) -> Ints:
    """Return the sum of ``amount`` (N,) over each domain, int64 (domains,)."""
    return np.bincount(domain, weights=amount).astype(np.int64)


def fill(order: Ints, slots: Ints, pods: int) -> Ints | None:
    """Return the node of each pod, int64 (m,): each node in turn takes all that it has room for.

    None if there is no room for all of them.
    """
    nodes = np.repeat(order, slots[order])[:pods]
    return nodes if len(nodes) == pods else None


def lowest_gpus(room: Room, nodes: Ints, sizes: Ints) -> GPUs:
    """Return the lowest free GPUs of each pod's node, pod by pod; several may share a node."""
    used, at = np.unique(nodes, return_inverse=True)
    on_node = np.argsort(at, kind="stable")  # pods, node by node
    gpus = room.gpus_on(used, np.bincount(at, weights=sizes).astype(np.int64))
    return gpus[np.argsort(np.repeat(on_node, sizes[on_node]), kind="stable")]
