"""A what-if copy of a cluster's GPUs, and the two plain ways to place a gang in it.

A gang of n GPUs takes whole nodes' worth: ``per_node = min(n, GPUs of a node)`` free GPUs on each
of its nodes, the remainder on the last. All of its nodes stand inside one domain of the level that
it requires, and in one pool.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import FREE, ClusterView
from gpuyard.envs.hardware.cluster import Cluster

GPUs = NDArray[np.int64]


class Room:
    """Which GPUs are free, to be tried out without touching the world.

    Attributes:
        cluster: the static cluster.
        free: bool (N, slots per node).
        node_free: int64 (N,), free GPUs of every node.
    """

    def __init__(self, view: ClusterView) -> None:
        self.cluster: Cluster = view.cluster
        self.free = (view.gpu_job == FREE).reshape(view.cluster.num_nodes, -1)
        self.node_free = self.free.sum(axis=1)

    def copy(self) -> Room:
        """Return an independent copy."""
        twin = object.__new__(Room)
        twin.cluster = self.cluster
        twin.free, twin.node_free = self.free.copy(), self.node_free.copy()
        return twin

    def take(self, gpus: GPUs) -> None:
        """Occupy free GPUs."""
        self.free.reshape(-1)[gpus] = False
        np.subtract.at(self.node_free, gpus // self.free.shape[1], 1)

    def release(self, gpus: GPUs) -> None:
        """Free occupied GPUs."""
        self.free.reshape(-1)[gpus] = True
        np.add.at(self.node_free, gpus // self.free.shape[1], 1)

    def limit(self, other: Room) -> None:
        """Keep only what is free in ``other`` too."""
        self.free &= other.free
        self.node_free = self.free.sum(axis=1)

    def gpus_on(self, nodes: NDArray[np.integer], counts: NDArray[np.integer]) -> GPUs:
        """Return the lowest ``counts`` free GPUs of each node, node by node in the order given."""
        free = self.free[nodes]
        row, slot = np.nonzero(free & (free.cumsum(axis=1) <= np.asarray(counts)[:, None]))
        return np.asarray(nodes)[row] * self.free.shape[1] + slot

    def domains(self, level: int) -> NDArray[np.int64]:
        """Return the domain of every node at a level of the tree, int64 (N,)."""
        leaf = self.cluster.node_leaf
        per_level = (np.arange(len(leaf)), leaf, self.cluster.leaf_pod[leaf], np.zeros(len(leaf)))
        return per_level[level].astype(np.int64)


Fit = Callable[[Room, np.void, int], GPUs | None]


def gang_gpus(view: ClusterView, gang: int) -> GPUs:
    """Return the GPUs that a running gang holds, lowest first (not in rank order)."""
    return np.flatnonzero(view.gpu_job == gang)


def startable(view: ClusterView, gang: np.void) -> bool:
    """Return whether a pending gang may start at this moment, room apart.

    It may not while it is held back (it was stopped at this very moment), nor beyond its tenant's
    quota.
    """
    tenant = gang["tenant"]
    within = view.tenant_gpus[tenant] + gang["gpus"] <= view.quotas[tenant]
    return bool(within and not gang["blocked"])


def first_fit(room: Room, gang: np.void, pool: int) -> GPUs | None:
    """Place a gang on the nodes with the lowest numbers, in the first domain that holds it.

    Args:
        room: free GPUs.
        gang: entry of ``ClusterView.pending`` or ``running``.
        pool: index of the pool.

    Returns:
        Its GPUs in rank order, or None if it does not fit.
    """
    return _place(room, gang, pool, tight=False)


def pack(room: Room, gang: np.void, pool: int) -> GPUs | None:
    """Place a gang on the fullest nodes that hold it, in the fullest domain that does.

    Arguments and result as of :func:`first_fit`; ties go to the lowest number.
    """
    return _place(room, gang, pool, tight=True)


def _place(room: Room, gang: np.void, pool: int, tight: bool) -> GPUs | None:
    size = int(gang["gpus"])
    per_node = min(size, room.cluster.pools[pool].gpus_per_node)
    whole, rest = divmod(size, per_node)
    free = np.where(room.cluster.node_pool == pool, room.node_free, 0)
    domain = room.domains(int(gang["required"]))

    def count(least: int) -> NDArray[np.int64]:
        return np.bincount(domain[free >= least], minlength=domain.max() + 1)

    fits = count(per_node) >= whole
    if rest:
        fits &= count(rest) > whole
    if not fits.any():
        return None
    # argmin and a stable sort leave ties to the lowest number
    filled = np.bincount(domain, weights=free) if tight else np.zeros(len(fits))
    inside = np.flatnonzero(domain == np.where(fits, filled, np.inf).argmin())
    if tight:
        inside = inside[np.argsort(free[inside], kind="stable")]
    nodes = inside[free[inside] >= per_node][:whole]
    counts = np.full(whole, per_node)
    if rest:
        last = inside[(free[inside] >= rest) & ~np.isin(inside, nodes)][:1]
        nodes, counts = np.append(nodes, last), np.append(counts, rest)
    return room.gpus_on(nodes, counts)


def pool_of(view: ClusterView, gpus: GPUs) -> int:
    """Return the pool that GPUs of one pool belong to."""
    slots = len(view.gpu_job) // view.cluster.num_nodes
    return int(view.cluster.node_pool[gpus[0] // slots])


def place(room: Room, gang: np.void, speeds: NDArray[np.float64], fit: Fit = pack) -> GPUs | None:
    """Place a gang on the fastest pool that has room for it.

    Args:
        room: free GPUs.
        gang: entry of ``ClusterView.pending`` or ``running``.
        speeds: its row of ``speeds`` or ``running_speeds``.
        fit: :func:`first_fit`, :func:`pack` or another with the same arguments.
    """
    for pool in np.argsort(-speeds, kind="stable"):
        if speeds[pool] > 0:
            gpus = fit(room, gang, int(pool))
            if gpus is not None:
                return gpus
    return None
