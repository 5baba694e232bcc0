"""Collectives across nodes: hierarchical, one NIC (rail) per GPU.

``AR(S) = RS_node(S, g) + AR_net(S/g, N) + AG_node(S, g)`` for g ranks in each of N nodes: every
GPU's share leaves through its own NIC, so the g rails work side by side. That is also what NCCL's
rings do when each GPU has a NIC of its own. Latencies are NCCL's own assumptions
(:mod:`gpuyard.envs.perf.nccl_tuning`); no public size sweep of a 400G fabric exists to fit them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpuyard.envs.hardware.catalogue import GPU

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
    return Network(
        device.nic_bytes_per_s, device.scale_up_domain if device.scale_up_domain > 8 else 8
    )


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
    """Return the placement of ``ranks`` GPUs that are ``stride`` apart in a compact job."""
    local = max(1, min(ranks, network.gpus_per_node // stride))
    return Group(local, math.ceil(ranks / local))


def collective_s(op: str, size_bytes: float, where: Group, device: GPU, network: Network) -> float:
    """Return seconds of a collective; payload as :func:`gpuyard.envs.perf.nccl.bus_factor` has it.

    An all-to-all moves data to the right rail over NVLink first (PXN): the slower of both parts
    sets the pace, and ``(N-1)/N`` of the payload crosses the NIC.
    """
    g, n = where.local, where.nodes
    if n == 1:
        return float(nccl.collective_s(op, size_bytes, g, device))
    if op == "all_to_all":
        wire = RING_SIMPLE_S + (n - 1) / n * size_bytes / network.rate
        return max(wire, float(nccl.collective_s(op, size_bytes, g, device)))
    if op == "all_reduce":
        inside = nccl.collective_s("reduce_scatter", size_bytes, g, device)
        inside = inside + nccl.collective_s("all_gather", size_bytes, g, device)
        return float(inside) + all_reduce_net_s(size_bytes / g, n, network)
    ring = RING_SIMPLE_S * (n - 1) + nccl.bus_factor(op, n) * size_bytes / g / network.rate
    return float(nccl.collective_s(op, size_bytes, g, device)) + ring


def all_reduce_net_s(size_bytes: float, nodes: int, network: Network) -> float:
    """Return seconds of the all-reduce of one rail: the fastest of ring and tree.

    Ring ``1.4 2 (N-1) 14 us + 2 (N-1)/N S/rate``; tree ``2 log2(N) 14 us + 2 S / (0.92 0.85
    rate)``, with 5 us at half of that bandwidth in the low-latency protocol.
    """
    if nodes == 1:
        return 0.0
    steps, depth, wire = 2 * (nodes - 1), 2 * math.log2(nodes), size_bytes / network.rate
    return min(
        RING_LATENCY * steps * RING_SIMPLE_S + steps / nodes * wire,
        depth * TREE_SIMPLE_S + 2 * wire / TREE_BANDWIDTH,
        depth * TREE_LL_S + 2 * wire / (TREE_BANDWIDTH * LL_BANDWIDTH),
    )


def send_recv_s(size_bytes: float, network: Network) -> float:
    """Return seconds of a send/recv between two nodes."""
    return RING_SIMPLE_S + size_bytes / network.rate
