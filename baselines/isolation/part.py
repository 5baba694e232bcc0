"""The parts of a cluster in which a virtual Clos may stand, and what is free in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.hardware.cluster import Cluster

from ..room import Room


@dataclass(frozen=True)
class Part:
    """Nodes of one pool in one pod.

    Attributes:
        pool: index of the pool.
        g: GPUs of a server.
        nodes: int64 (n,), leaf by leaf.
        leaf: int64 (n,), leaf of each node, numbered from 0 inside the part.
        switch: int64 (leafs,), leaf switch of each leaf.
        above: int64 (m,), all leaf switches that share its spines.
    """

    pool: int
    g: int
    nodes: NDArray[np.int64]
    leaf: NDArray[np.int64]
    switch: NDArray[np.int64]
    above: NDArray[np.int64]

    @property
    def leaf_gpus(self) -> int:
        """GPUs under the largest leaf."""
        return int(np.bincount(self.leaf).max()) * self.g


@dataclass(frozen=True)
class Offer:
    """What is free in a part.

    Attributes:
        free: bool (n, g), GPUs.
        empty: int64 (leafs,), wholly free servers.
        uplinks: bool (leafs, U).
        ports: int64 (A, U), see :mod:`.links`.
        spine_free: int64 (A,), free ports of each spine.
    """

    free: NDArray[np.bool_]
    empty: NDArray[np.int64]
    uplinks: NDArray[np.bool_]
    ports: NDArray[np.int64]
    spine_free: NDArray[np.int64]


def parts(cluster: Cluster) -> list[Part]:
    """Divide a cluster by pool and pod.

    Raises:
        ValueError: if the GPUs of a node hang at several leaf switches (rail-optimised fabric).
    """
    fabric = cluster.fabric
    switches = fabric.gpu_switch.reshape(cluster.num_nodes, -1)
    first = switches[:, 0]
    if ((switches != first[:, None]) & (switches >= 0)).any():
        raise ValueError(
            f"cluster {cluster.name!r} has a {fabric.kind!r} fabric with several leaf switches per "
            "node: isolation needs all GPUs of a node under one, for example kind = 'leaf-spine'"
        )
    pods = cluster.leaf_pod[cluster.node_leaf]
    found = []
    for pool, pod in sorted(set(zip(cluster.node_pool.tolist(), pods.tolist(), strict=True))):
        nodes = np.flatnonzero((cluster.node_pool == pool) & (pods == pod))
        _, begin, leaf = np.unique(cluster.node_leaf[nodes], return_index=True, return_inverse=True)
        switch = first[nodes[begin]].astype(np.int64)
        above = np.flatnonzero(fabric.switch_pod == fabric.switch_pod[switch[0]])
        g = cluster.pools[pool].gpus_per_node
        found.append(Part(pool, g, nodes, leaf, switch, above))
    return found


def offer(room: Room, part: Part) -> Offer:
    """Return what is free in a part."""
    fabric, unused = room.cluster.fabric, room.uplinks.unused
    if fabric.optical:
        ports = room.uplinks.ports.copy()
        spine_free = ports.sum(axis=1)
    else:
        wired = _wired(fabric.spines, fabric.uplinks)
        ports = wired * len(part.switch)
        spine_free = wired @ unused[part.above].sum(axis=0)
    return _offer(part, room.free[part.nodes, : part.g], unused[part.switch], ports, spine_free)


def whole(cluster: Cluster, part: Part) -> Offer:
    """Return what a part offers when nothing runs."""
    fabric = cluster.fabric
    if fabric.optical:
        ports = np.full((fabric.spines, fabric.uplinks), fabric.spine_ports // fabric.uplinks)
    else:
        ports = _wired(fabric.spines, fabric.uplinks) * len(part.switch)
    free = np.ones((len(part.nodes), part.g), bool)
    uplinks = np.ones((len(part.switch), fabric.uplinks), bool)
    return _offer(part, free, uplinks, ports, ports.sum(axis=1))


def _wired(spines: int, uplinks: int) -> NDArray[np.int64]:
    """Return 1 where uplink k of a leaf ends at spine j, int64 (A, U)."""
    return (np.arange(uplinks) % max(spines, 1) == np.arange(spines)[:, None]).astype(np.int64)


def _offer(part: Part, free, uplinks, ports, spine_free) -> Offer:
    empty = np.bincount(part.leaf, weights=free.all(axis=1)).astype(np.int64)
    return Offer(free, empty, uplinks, ports, spine_free)
