"""A what-if copy of a cluster's GPUs, and the two plain ways to place a gang in it.

A gang of n GPUs takes whole nodes' worth: ``per_node = min(n, GPUs of a node)`` free GPUs on each
of its nodes, the remainder on the last. All of its nodes stand inside one domain of the level that
it requires, and in one pool. Where only circuits join leafs, it fits if they can be set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.cluster_view import FREE, ClusterView, Plan
from gpuyard.envs.hardware.cluster import LEVELS, Cluster

from .quota.tree import chain
from .uplinks import Uplinks

NODE, LEAF, POD, ZONE = range(len(LEVELS))
GPUs = NDArray[np.int64]


class Room:
    """Which GPUs are free, to be tried out without touching the world.

    Attributes:
        cluster: the static cluster.
        free: bool (N, slots per node).
        node_free: int64 (N,), free GPUs of every node.
        uplinks: which uplinks and circuits are unused.
        tree: int64 (4, N), domain of every node at each level, node, leaf, pod and zone.
    """

    def __init__(self, view: ClusterView) -> None:
        self.cluster: Cluster = view.cluster
        self.uplinks = Uplinks.of(view)
        leaf = self.cluster.node_leaf
        here = (np.arange(len(leaf)), leaf, self.cluster.leaf_pod[leaf], np.zeros(len(leaf)))
        self.tree = np.stack(here).astype(np.int64)
        self.free = (view.gpu_job == FREE).reshape(view.cluster.num_nodes, -1)
        self.node_free = self.free.sum(axis=1)

    def copy(self) -> Room:
        """Return an independent copy."""
        twin = object.__new__(Room)
        twin.cluster, twin.tree = self.cluster, self.tree
        twin.free, twin.node_free = self.free.copy(), self.node_free.copy()
        twin.uplinks = self.uplinks.copy()
        return twin

    def take(self, gpus: GPUs) -> None:
        """Occupy free GPUs."""
        self.free.reshape(-1)[gpus] = False
        np.subtract.at(self.node_free, gpus // self.free.shape[1], 1)

    def release(self, gpus: GPUs) -> None:
        """Free occupied GPUs."""
        self.free.reshape(-1)[gpus] = True
        np.add.at(self.node_free, gpus // self.free.shape[1], 1)

    def without(self, view: ClusterView, gangs: Iterable[int]) -> Room:
        """Return a copy without some gangs that run in ``view``."""
        twin = self.copy()
        for gang in gangs:
            twin.vacate(view, gang)
        return twin

    def vacate(self, view: ClusterView, gang: int) -> None:
        """Free the GPUs and uplinks of a gang that runs in ``view``."""
        self.release(gang_gpus(view, gang))
        self.uplinks.vacate(view, gang)

    def book(self, gpus: GPUs) -> None:
        """Occupy free GPUs and the circuits that join them."""
        self.take(gpus)
        links = self.uplinks.join(gpus)
        if links is not None:
            self.uplinks.take(gpus, links)

    def joins(self, gpus: GPUs) -> bool:
        """Return whether GPUs can reach each other."""
        return self.uplinks.join(gpus) is not None

    def start(self, gang: np.void, gpus: GPUs, preempt: tuple[int, ...] = ()) -> Plan:
        """Return the plan that starts a gang on GPUs that are free here and can be joined."""
        name = int(gang["id"])
        links = self.uplinks.join(gpus)
        if links is None or (links.uplink < 0).all():
            return Plan(name, gpus, preempt=preempt)
        return Plan(name, gpus, links.uplink, links.spine, preempt)

    def limit(self, other: Room) -> None:
        """Keep only what is free in ``other`` too."""
        self.free &= other.free
        self.node_free = self.free.sum(axis=1)

    def only(self, gpus: NDArray[np.bool_]) -> Room:
        """Return a copy in which no GPUs are free but some of these, bool (N, slots) or (N, 1)."""
        twin = self.copy()
        twin.free &= gpus
        twin.node_free = twin.free.sum(axis=1)
        return twin

    def gpus_on(self, nodes: NDArray[np.integer], counts: NDArray[np.integer]) -> GPUs:
        """Return the lowest ``counts`` free GPUs of each node, node by node in the order given."""
        free = self.free[nodes]
        row, slot = np.nonzero(free & (free.cumsum(axis=1) <= np.asarray(counts)[:, None]))
        return np.asarray(nodes)[row] * self.free.shape[1] + slot


Fit = Callable[[Room, np.void, int], GPUs | None]


def gang_gpus(view: ClusterView, gang: int) -> GPUs:
    """Return the GPUs that a running gang holds, lowest first (not in rank order)."""
    return np.flatnonzero(view.gpu_job == gang)


def startable(view: ClusterView, gang: np.void, stopped: tuple[int, ...] = ()) -> bool:
    """Return whether a pending gang may start at this moment, room apart.

    It may not while it is held back (it was stopped at this very moment), nor beyond the limit of
    its tenant's queue or of one around it, once the gangs of ``stopped`` have left them.
    """
    if gang["blocked"]:
        return False
    held = view.queues["held"].astype(np.int64)
    for name in stopped:
        row = view.running[view.running["id"] == name][0]
        held[around(view, row)] -= row["gpus"]
    mine = around(view, gang)
    return bool((held[mine] + gang["gpus"] <= view.queues["limit"][mine]).all())


def around(view: ClusterView, gang: np.void) -> list[int]:
    """Return the queue of a gang and those around it, the outermost last."""
    return chain(view.queues["parent"], int(gang["tenant"]))


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
    """Place a gang by levels: in the tightest domain that holds it, the fullest of that level.

    In it come the leafs with the most room, the last one as tight as possible, and the fullest
    nodes. So the engine's plan ``pack`` does it, and KAI and Slurm's topology/tree (best fit by
    levels). Arguments and result as of :func:`first_fit`; ties go to the fuller parent, then to the
    lowest number.
    """
    return _place(room, gang, pool, tight=True)


def _place(room: Room, gang: np.void, pool: int, tight: bool) -> GPUs | None:
    size, required = int(gang["gpus"]), int(gang["required"])
    per_node = min(size, room.cluster.pools[pool].gpus_per_node)
    whole, rest = divmod(size, per_node)
    free = np.where(room.cluster.node_pool == pool, room.node_free, 0)
    if free.sum() < size:
        return None
    if size == per_node and tight:
        return _on_one_node(room, free, size)
    for level in range(LEAF if tight else required, required + 1):
        domain = room.tree[level]
        fits = _count(domain, free, per_node) >= whole
        if rest:
            fits &= _count(domain, free, rest) > whole
        if fits.any():
            break
    else:
        return None
    if tight:
        inside = np.flatnonzero(domain == _fullest(room, free, level, fits))
        inside = _leaf_by_leaf(inside, free, room.tree[LEAF], per_node, whole)
    else:
        inside = np.flatnonzero(domain == fits.argmax())
    nodes = np.sort(inside[free[inside] >= per_node][:whole])
    counts = np.full(whole, per_node)
    if rest:
        last = _last(room, inside, free, nodes, rest, tight)
        nodes, counts = np.append(nodes, last), np.append(counts, rest)
    return room.gpus_on(nodes, counts)


def _count(domain: GPUs, free: GPUs, least: int) -> NDArray[np.int64]:
    """Return how many nodes with so many free GPUs each domain has."""
    return np.bincount(domain[free >= least], minlength=int(domain.max()) + 1)


def _on_one_node(room: Room, free: GPUs, size: int) -> GPUs | None:
    """Return GPUs of the fullest node that has enough, of equal ones that of the fullest leaf."""
    nodes = np.flatnonzero(free >= size)
    if not len(nodes):
        return None
    leaf = room.tree[LEAF]
    around = np.bincount(leaf, free)
    best = nodes[(free[nodes] * (around.max() + 1) + around[leaf[nodes]]).argmin()]
    return room.gpus_on(np.array([best]), np.array([size]))


def _fullest(room: Room, free: GPUs, level: int, fits: NDArray[np.bool_]) -> int:
    """Return the domain with the least room that fits; of equal ones that in the fullest parent."""
    domain, parent = room.tree[level], room.tree[min(level + 1, ZONE)]
    filled, around = np.bincount(domain, free), np.bincount(parent, free)
    within = np.zeros(len(filled))
    within[domain] = around[parent]
    found = np.flatnonzero(fits)
    return int(found[np.lexsort((within[found], filled[found]))[0]])


def _leaf_by_leaf(
    inside: GPUs, free: GPUs, node_leaf: NDArray[np.integer], per_node: int, whole: int
) -> GPUs:
    """Return nodes in the order in which a gang takes them.

    Leafs with the most room first, the last one as tight as possible; in a leaf fuller nodes first.
    """
    leaf = node_leaf[inside]
    room = np.bincount(leaf[free[inside] >= per_node], minlength=leaf.max() + 1)
    turn = np.full(len(room), len(room))
    for number in range(len(room)):
        left = np.where(turn == len(room), room, 0)
        enough = left >= whole
        best = int(
            np.where(enough, left, left.max() + 1).argmin() if enough.any() else left.argmax()
        )
        turn[best] = number
        whole -= int(left[best])
        if whole <= 0:
            break
    return inside[np.lexsort((inside, free[inside], turn[leaf]))]


def _last(room: Room, inside: GPUs, free: GPUs, nodes: GPUs, rest: int, tight: bool) -> GPUs:
    """Return the node of the remainder: if tight, under a leaf that the gang has, the fullest."""
    others = inside[(free[inside] >= rest) & ~np.isin(inside, nodes)]
    if not tight:
        return others[:1]
    leaf = room.tree[LEAF]
    elsewhere = ~np.isin(leaf[others], leaf[nodes])
    return others[np.lexsort((others, free[others], elsewhere))[:1]]


def pool_of(view: ClusterView, gpus: GPUs) -> int:
    """Return the pool that GPUs of one pool belong to."""
    slots = len(view.gpu_job) // view.cluster.num_nodes
    return int(view.cluster.node_pool[gpus[0] // slots])


def place(room: Room, gang: np.void, speeds: NDArray[np.float64], fit: Fit = pack) -> GPUs | None:
    """Place a gang on the fastest pool that has room for it.

    Where circuits for a placement on several leafs cannot be had, it is held to one.

    Args:
        room: free GPUs.
        gang: entry of ``ClusterView.pending`` or ``running``.
        speeds: its row of ``speeds`` or ``running_speeds``.
        fit: :func:`first_fit`, :func:`pack` or another with the same arguments.
    """
    for pool in np.argsort(-speeds, kind="stable"):
        if speeds[pool] > 0:
            gpus = fit(room, gang, int(pool))
            if gpus is not None and not room.joins(gpus):
                gpus = fit(room, under_a_leaf(gang), int(pool))
            if gpus is not None and room.joins(gpus):
                return gpus
    return None


def under_a_leaf(gang: np.void) -> np.void:
    """Return the same gang, held to one leaf at least."""
    narrow = gang.copy()
    narrow["required"] = min(int(gang["required"]), LEAF)
    return narrow
