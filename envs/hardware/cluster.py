"""A cluster as plain arrays: pools of nodes, the tree of domains they stand in, and the fabric.

Built by :mod:`.fabric`; named clusters stand in :mod:`.clusters`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .catalogue import GPU

LEVELS = ("node", "leaf", "pod", "zone")
"""Levels of the domain tree, from narrow to broad; a job's required level is an index into it."""


@dataclass(frozen=True)
class Pool:
    """Nodes of one kind.

    Attributes:
        gpu: GPU type.
        gpus_per_node: GPUs in each node.
        nodes: how many nodes.
        nics_per_node: NICs in each node; a flow gets at most one NIC, a node all of them. With
            fewer than GPUs the flows of a node share them.
        nic_bytes_per_s: of one NIC, per direction.
        scale_up_bytes_per_s: of one GPU inside its node, per direction.
        nodes_per_leaf: nodes under one leaf switch or rail group; 0: as the fabric has it.
        leafs: nodes of every leaf, pod by pod, where they are not all alike; ``nodes_per_leaf`` is
            then the largest, a full one.
    """

    gpu: GPU
    gpus_per_node: int
    nodes: int
    nics_per_node: int
    nic_bytes_per_s: float
    scale_up_bytes_per_s: float
    nodes_per_leaf: int = 0
    leafs: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Fabric:
    """Leaf switches, the spines above them and, in three tiers, the core above those.

    GPU ``node * gpus_per_node + slot`` hangs at leaf switch ``gpu_switch``. Uplink k of a leaf
    switch ends at spine (aggregation switch) ``k % spines`` of its pod; with optical switches it
    ends at optical switch k, which joins it to any spine. Every link is directed; up and down have
    the same capacity.

    Attributes:
        kind: "leaf-spine", "rail", "fat-tree" or "optical".
        gpu_switch: int32 (D,), -1 for slots without a GPU.
        switch_pod: int32 (S,), pod of every leaf switch.
        uplinks: U, of every leaf switch.
        spines: A, per pod.
        core_uplinks: V, of every spine; 0 with two tiers.
        planes: disjoint planes of spines (dual-plane: 2); spine s lies in plane ``s % planes``.
        optical: whether optical switches join leafs and spines.
        spine_ports: ports of one spine towards the leafs.
        reconfigure_s: time to set optical circuits.
        node_bytes_per_s: float64 (N,), all NICs of a node.
        uplink_bytes_per_s: float64 (S, U).
        core_bytes_per_s: float64 (pods, A, V).
    """

    kind: str
    gpu_switch: NDArray[np.int32]
    switch_pod: NDArray[np.int32]
    uplinks: int
    spines: int
    core_uplinks: int
    planes: int
    optical: bool
    spine_ports: int
    reconfigure_s: float
    node_bytes_per_s: NDArray[np.float64]
    uplink_bytes_per_s: NDArray[np.float64]
    core_bytes_per_s: NDArray[np.float64]

    @property
    def num_switches(self) -> int:
        """Leaf switches, S."""
        return len(self.switch_pod)

    @property
    def hops(self) -> int:
        """Links between leaf switches that one part of a flow crosses, at most."""
        return 4 if self.core_uplinks else 2

    @property
    def capacity(self) -> NDArray[np.float64]:
        """Bytes/s of every directed link, float64 (L,).

        Order: node up, node down (N each), leaf switch up, down (S x U each), core up, core down
        (pods x A x V each).
        """
        node, up, core = (
            array.ravel()
            for array in (self.node_bytes_per_s, self.uplink_bytes_per_s, self.core_bytes_per_s)
        )
        return np.concatenate([node, node, up, up, core, core])

    def by_group(
        self, links: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return numbers per link (L,) by group, up and down on the first axis.

        Shapes: nodes (2, N), leaf switches (2, S, U), core (2, pods, A, V).
        """
        shapes = [
            (2, *array.shape)
            for array in (self.node_bytes_per_s, self.uplink_bytes_per_s, self.core_bytes_per_s)
        ]
        ends = np.cumsum([np.prod(shape) for shape in shapes])
        node, leaf, core = (
            part.reshape(shape)
            for part, shape in zip(np.split(links, ends[:-1]), shapes, strict=True)
        )
        return node, leaf, core


@dataclass(frozen=True)
class Cluster:
    """Nodes with their place in the domain tree, and the fabric that joins them.

    Nodes of a leaf are numbered one after the other and belong to one pool, leafs of a pod too.

    Attributes:
        name: what it is called.
        pools: kinds of nodes.
        node_pool: int32 (N,).
        node_leaf: int32 (N,), placement domain: the nodes under one leaf switch or rail group.
        leaf_pod: int32 (leafs,).
        fabric: the network.
        source: where the figures come from, and what of them is an assumption.
    """

    name: str
    pools: tuple[Pool, ...]
    node_pool: NDArray[np.int32]
    node_leaf: NDArray[np.int32]
    leaf_pod: NDArray[np.int32]
    fabric: Fabric
    source: str = ""

    @property
    def num_nodes(self) -> int:
        """Nodes, N."""
        return len(self.node_pool)

    @property
    def gpus_per_node(self) -> int:
        """GPU slots per node: of the largest one."""
        return max(pool.gpus_per_node for pool in self.pools)

    @property
    def num_gpus(self) -> int:
        """GPUs there are."""
        return sum(pool.gpus_per_node * pool.nodes for pool in self.pools)

    @property
    def switch_leaf(self) -> NDArray[np.int32]:
        """Leaf (placement domain) of every leaf switch, int32 (S,); -1: it has no GPUs."""
        leaf = np.full(self.fabric.num_switches, -1, np.int32)
        there = np.flatnonzero(self.fabric.gpu_switch >= 0)
        leaf[self.fabric.gpu_switch[there]] = self.node_leaf[there // self.gpus_per_node]
        return leaf
