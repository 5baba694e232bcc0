"""Collectives across nodes: rings over several rails at once, one NIC (rail) per GPU.

With g ranks in each of N nodes NCCL runs rings that leave a node through different NICs. Data moves
through NVLink and NICs at the same time, so the slower of both sets the pace. Between NCCL's
low-latency protocols, which a few bytes take, and its rings at full rate lie two ramps, fitted to
published sweeps (``docs/accuracy_training.md``, "Collectives").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...hardware.catalogue import GPU
from . import nccl
from .nccl_tuning import low_latency_s

INFINIBAND = 0.96
"""Share of the line rate that reaches the payload: 46 to 48 GB/s of a 400G NIC, and a measured bus
of 96 of 100 GB/s with 4 x HDR per host. Source: NVIDIA/nccl-tests issues 290 and 119."""
ROCE = 0.94
"""The same for Ethernet with good balancing: a bus of 376 of 400 GB/s on two nodes of 8 x 400G,
all-gather. Source: GKE A4 training README."""
START_S, START_BYTES = 50e-6, 1e6
"""What leaving the low-latency protocols costs, and the size around which that happens."""
FILL_S, FILL_BYTES = 50e-6, 12e6
"""Per pass and doubling of the nodes: filling the rings' pipeline; size that fills 63 % of it."""
RAILS = 8
"""NICs of a node that rings use at most: 1,440 GPUs in racks of 72 reach the rate of 8."""
SWITCH_S, SWITCH_BYTES = 40e-6, 80e6
"""Two nodes whose switches reduce (NVLSTree): start, and the size that fills 63 % of the pipeline,
which takes ``FILL_S`` per doubling of the GPUs in a node."""
SEND_S = 14e-6
"""Start of a send/recv. Source: NCCL's assumption, ``nccl_tuning.NET_US``; measured 17 to 20."""
EXCHANGE_S, PEER_S = 35e-6, 2.4e-6
"""Start of an all-to-all, and of a message to one more GPU in another node."""


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

    The slower of the same inside a node and the rings (:func:`ring_s`); an all-reduce on two nodes
    with NVSwitch takes the faster of rings and switches (:func:`switch_s`). In an all-to-all NVLink
    first moves data to the right rail (PXN) and ``(N-1)/N`` of the payload crosses the NIC.
    """
    g, n = where.local, where.nodes
    inside = float(nccl.collective_s(op, size_bytes, g, device))
    if n == 1:
        return inside
    if op == "all_to_all":
        wire = (n - 1) / n * size_bytes / network.rate
        return EXCHANGE_S + PEER_S * (where.ranks - g) + max(inside, wire)
    ring = max(inside, ring_s(op, size_bytes, where, network))
    if op == "all_reduce" and n == 2 and g > 1 and switch_reduces(device):
        return min(ring, switch_s(size_bytes, where, network, inside))
    return ring


def ring_s(op: str, size_bytes: float, where: Group, network: Network) -> float:
    """Return seconds that a collective needs between nodes, whatever happens inside them.

    ``low + 50 us (1 - exp(-S / 1 MB)) + p log2(N) 50 us (1 - exp(-S / 12 MB)) + f S / (r rate)``:
    NCCL's low-latency start, the way to rings at full rate, and the bytes on
    ``r = min(g, 8)`` rails. ``p`` passes around the ring: 2 of an all-reduce, 1 of the others.
    """
    passes = 2 if op == "all_reduce" else 1
    low = low_latency_s(where.ranks, where.nodes, passes)
    start = START_S * -math.expm1(-size_bytes / START_BYTES)
    fill = passes * math.log2(where.nodes) * FILL_S * -math.expm1(-size_bytes / FILL_BYTES)
    wire = nccl.bus_factor(op, where.ranks) * size_bytes / (_rails(where) * network.rate)
    return low + start + fill + wire


def switch_reduces(device: GPU) -> bool:
    """Return whether the GPU's NVSwitch adds up (NVLink SHARP): Hopper and Blackwell."""
    return device.scale_up == "nvlink" and device.architecture in ("Hopper", "Blackwell")


def switch_s(size_bytes: float, where: Group, network: Network, inside_s: float) -> float:
    """Return seconds of an all-reduce on two nodes in which the switches add up (NVLSTree).

    ``40 us + log2(g) 50 us (1 - exp(-S / 80 MB)) + max(inside, S / (r rate))``: a node sends its
    sum once, half of what a ring puts on the wire.
    """
    fill = math.log2(where.local) * FILL_S * -math.expm1(-size_bytes / SWITCH_BYTES)
    return SWITCH_S + fill + max(inside_s, size_bytes / (_rails(where) * network.rate))


def send_recv_s(size_bytes: float, network: Network) -> float:
    """Return seconds of a send/recv between two nodes."""
    return SEND_S + size_bytes / network.rate


def _rails(where: Group) -> int:
    """Return how many NICs of a node the rings use."""
    return min(where.local, RAILS)
