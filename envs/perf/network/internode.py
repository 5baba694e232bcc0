"""Collectives across nodes: rings over every rail at once, one NIC (rail) per GPU.

With g ranks in each of N nodes NCCL runs g rings, each leaving a node through another NIC. Data
moves through NVLink and NICs at the same time, so the slower of both sets the pace. Adding the
parts up, as a hierarchy in three steps would, gives half of the bus bandwidth that 1,984 H200
reach. Latencies are NCCL's own assumptions (:mod:`.nccl_tuning`); no public size
sweep of a 400G fabric exists to fit them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...hardware.catalogue import GPU
from . import nccl

INFINIBAND = 0.96
"""Share of the line rate that reaches the payload: 46 to 48 GB/s of a 400G NIC, and a measured bus
of 96 of 100 GB/s with 4 x HDR per host. Source: NVIDIA/nccl-tests issues 290 and 119."""
ROCE = 0.90
"""The same for Ethernet with good balancing (assumption)."""
TREE_LL_S, TREE_SIMPLE_S, RING_SIMPLE_S = 5e-6, 14e-6, 14e-6
LL_BANDWIDTH, TREE_BANDWIDTH, RING_LATENCY = 0.5, 0.92 * 0.85, 1.4


@dataclass(frozen=True)
class Network:
    """What a job gets from the fabric.

    Attributes:
        nic_bytes_per_s: line rate of one GPU's NIC per direction.
        gpus_per_node: GPUs that share a node (its scale-up domain).
        efficiency: payload share of the line rate.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """

    nic_bytes_per_s: float
    gpus_per_node: int = 8
    efficiency: float = INFINIBAND

    def __post_init__(self) -> None:
        if not self.nic_bytes_per_s > 0:
            raise ValueError(f"network: nic_bytes_per_s = {self.nic_bytes_per_s!r}: give a rate")
        if self.gpus_per_node < 1:
            raise ValueError(f"network: gpus_per_node = {self.gpus_per_node!r}: give at least 1")
        if not 0 < self.efficiency <= 1:
            raise ValueError(f"network: efficiency = {self.efficiency!r}: give a share up to 1")

    @property
    def rate(self) -> float:
        """Payload bytes/s of one NIC."""
        return self.nic_bytes_per_s * self.efficiency


def network_of(device: GPU) -> Network:
    """Return the usual network of a GPU type: one NIC per GPU over InfiniBand."""
    return Network(device.nic_bytes_per_s, max(8, device.scale_up_domain))


@dataclass(frozen=True)
class Group:
    """Where the ranks of a collective sit: ``local`` in each of ``nodes`` nodes."""

    local: int
    nodes: int

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return self.local * self.nodes


def group(ranks: int, stride: int, network: Network) -> Group:
    """Return the placement of ``ranks`` GPUs that are ``stride`` apart in a compact job.

    Every node holds as many as fit and divide ``ranks``.
    """
    fit = max(1, network.gpus_per_node // stride)
    local = max(d for d in range(1, min(fit, ranks) + 1) if ranks % d == 0)
    return Group(local, ranks // local)


def collective_s(op: str, size_bytes: float, where: Group, device: GPU, network: Network) -> float:
    """Return seconds of a collective; payload as :func:`.nccl.bus_factor` has it.

    ``latency + max(inside a node, f S / (g rate))`` with f the bus factor of all ranks. In an
    all-to-all NVLink first moves data to the right rail (PXN) and ``(N-1)/N`` of the payload
    crosses the NIC.
    """
    g, n = where.local, where.nodes
    inside = float(nccl.collective_s(op, size_bytes, g, device))
    if n == 1:
        return inside
    if op == "all_to_all":
        return RING_SIMPLE_S + max(inside, (n - 1) / n * size_bytes / network.rate)
    if op == "all_reduce":
        return all_reduce_s(size_bytes, where, network, inside)
    wire = nccl.bus_factor(op, where.ranks) * size_bytes / (g * network.rate)
    return RING_SIMPLE_S * (n - 1) + max(inside, wire)


def all_reduce_s(size_bytes: float, where: Group, network: Network, inside_s: float = 0.0) -> float:
    """Return seconds of an all-reduce on several nodes: the fastest of ring and tree.

    Ring: latency ``1.4 2 (N-1) 14 us``, wire ``2 (n-1)/n S / (g rate)``. Tree: ``2 log2(N) 14 us``
    and ``2 S / (0.92 0.85 g rate)``; in the low-latency protocol 5 us at half of that bandwidth.

    Args:
        size_bytes: payload.
        where: the ranks.
        network: their NICs.
        inside_s: what the same takes inside a node, beside which the wire runs.
    """
    steps, depth = 2 * (where.nodes - 1), 2 * math.log2(where.nodes)
    wire = 2 * size_bytes / (where.local * network.rate)
    ring = max(inside_s, wire * (where.ranks - 1) / where.ranks)
    tree = max(inside_s, wire / TREE_BANDWIDTH)
    low = max(inside_s, wire / (TREE_BANDWIDTH * LL_BANDWIDTH))
    return min(
        RING_LATENCY * steps * RING_SIMPLE_S + ring,
        depth * TREE_SIMPLE_S + tree,
        depth * TREE_LL_S + low,
    )


def send_recv_s(size_bytes: float, network: Network) -> float:
    """Return seconds of a send/recv between two nodes."""
    return RING_SIMPLE_S + size_bytes / network.rate
