"""NCCL's own cost model: the closed form by which it picks algorithm and protocol.

Facts from NVIDIA/nccl, ``src/graph/tuning.cc`` (2.30, Apache-2.0). It underestimates: A100 and B200
all-reduces of a few bytes take 35 to 75 % longer than it says, H100 within 20 %. Use
:mod:`.nccl` and :mod:`.internode` for times; this for the choice and for a few bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .nccl import bus_factor

PROTOCOLS = ("LL", "LL128", "Simple")
BASE_US = {"tree": (6.8, 14.0, 8.4), "ring": (6.6, 14.0, 8.4)}
NVLINK_US = {"tree": (0.6, 1.25, 4.0), "ring": (0.6, 1.9, 3.4)}
PCIE_US = {"tree": (1.0, 1.9, 4.0), "ring": (1.0, 2.5, 5.7)}
NET_US = {"tree": (5.0, 8.5, 14.0), "ring": (2.7, 4.0, 14.0)}
BANDWIDTH = (0.5, 0.92, 1.0)
"""Share of the bus bandwidth that a protocol can use."""
TREE_BANDWIDTH = 0.92 * 0.85
RING_SIMPLE = 1.4
"""Latency factor of the Simple ring all-reduce over several nodes (Ampere and later)."""
SIMPLE_OVERHEAD = 3.0


@dataclass(frozen=True)
class Choice:
    """One way to run a collective, and its predicted time."""

    algorithm: str
    protocol: str
    seconds: float


def choices(
    op: str, size_bytes: float, ranks: int, nodes: int, bus_bytes_per_s: float, pcie: bool = False
) -> list[Choice]:
    """Return every choice NCCL weighs for ``ranks`` GPUs on ``nodes`` nodes, fastest first.

    Args:
        op: one of :data:`.nccl.OPS`; trees only for ``all_reduce``.
        size_bytes: payload.
        ranks: number of GPUs, all nodes together.
        nodes: number of nodes.
        bus_bytes_per_s: bus bandwidth of a ring in the Simple protocol.
        pcie: GPUs of a node talk over PCIe, not NVLink.
    """
    algorithms = ("ring", "tree") if op == "all_reduce" else ("ring",)
    found = []
    for algorithm in algorithms:
        for at, protocol in enumerate(PROTOCOLS):
            latency = _latency_s(op, algorithm, at, ranks, nodes, pcie)
            if algorithm == "ring":
                bus = bus_bytes_per_s * BANDWIDTH[at]
                seconds = latency + bus_factor(op, ranks) * size_bytes / bus
            else:
                bus = bus_bytes_per_s * min(BANDWIDTH[at], TREE_BANDWIDTH)
                seconds = latency + 2 * size_bytes / bus
            found.append(Choice(algorithm, protocol, seconds))
    return sorted(found, key=lambda choice: choice.seconds)


def low_latency_s(ranks: int, nodes: int, passes: int = 2) -> float:
    """Return the time of a few bytes on several nodes, in the low-latency (LL) tree.

    ``6.8 us + p ((n/N - 1) 1 us + log2(N) 5 us)`` with p = 2 passes, up and down.
    """
    hops = (ranks / nodes - 1) * max(NVLINK_US["tree"][0], 1.0)
    return 1e-6 * (BASE_US["tree"][0] + passes * (hops + math.log2(nodes) * NET_US["tree"][0]))


def _latency_s(op: str, algorithm: str, at: int, ranks: int, nodes: int, pcie: bool) -> float:
    """Return the latency of protocol number ``at``.

    Ring: ``base + (steps - inter) intra + inter net`` with ``2 (n-1)`` steps of which ``2 (N-1)``
    leave the node (half of both but for all-reduce). Tree: ``base + 2 ((n/N - 1) intra + log2(N)
    net)``. With several nodes a hop inside costs at least the host's 1 us (Simple: three times).
    """
    intra = (PCIE_US if pcie else NVLINK_US)[algorithm][at]
    net = NET_US[algorithm][at]
    if nodes > 1:
        intra = max(intra, SIMPLE_OVERHEAD if PROTOCOLS[at] == "Simple" else 1.0)
    base = BASE_US[algorithm][at]
    if algorithm == "tree":
        return 1e-6 * (base + 2 * ((ranks / nodes - 1) * intra + math.log2(nodes) * net))
    passes = 2 if op == "all_reduce" else 1
    steps, inter = passes * (ranks - 1), passes * (nodes - 1)
    latency = base + (steps - inter) * intra + inter * net
    if nodes > 1 and op == "all_reduce" and PROTOCOLS[at] == "Simple":
        latency *= RING_SIMPLE
    return latency * 1e-6
