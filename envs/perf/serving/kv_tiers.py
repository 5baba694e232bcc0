"""KV tiers behind a replica: how many prefix units they hold, and how long one takes to pass.

Host memory: every GPU keeps the part of the cache that it holds itself, a latent (MLA) cache thus
once per rank, and all copy at the same time over a PCIe slot each, at 50 of the 64 GB/s of a PCIe 5
slot per direction: measured on an H100 with blocks of 2 MB by the DMA engines (vLLM blog, "KV
offloading connector", 8 January 2026). The same share of the slot holds for other generations.

Shared store: one copy of the cache whatever the layout (Mooncake store, PegaFlow); every GPU reads
its part over its own NIC, and all replicas share the store's port.

Left out: launching the copies, copies both ways at once (83 GB/s together where each alone has 50),
and what copies take from the GPU's own memory traffic (under 6 % by DMA, same source).
"""

from __future__ import annotations

from dataclasses import replace

from .deployment import Deployment
from .kv_groups import block_bytes

SLOT_SHARE = 50 / 64
"""Of a PCIe slot's rate, that copies of KV blocks reach."""


def host_units(deployment: Deployment, unit_tokens: int, capacity_bytes: float) -> int:
    """Return how many prefix units of ``unit_tokens`` tokens a replica's host memory holds."""
    ranks = deployment.tp * deployment.pp
    return int(capacity_bytes / (ranks * _rank_unit_bytes(deployment, unit_tokens)))


def host_unit_s(deployment: Deployment, unit_tokens: int) -> float:
    """Return the seconds in which one prefix unit passes PCIe, in one direction."""
    rate_bytes_per_s = SLOT_SHARE * deployment.gpu.pcie_bytes_per_s
    return _rank_unit_bytes(deployment, unit_tokens) / rate_bytes_per_s


def store_unit_bytes(deployment: Deployment, unit_tokens: int) -> float:
    """Return the bytes of one prefix unit in a store, where ranks do not count."""
    return _rank_unit_bytes(replace(deployment, tp=1, pp=1, ep=1), unit_tokens)


def nic_unit_s(deployment: Deployment, unit_tokens: int) -> float:
    """Return the seconds in which a replica's NICs, one per GPU, read one prefix unit."""
    return _rank_unit_bytes(deployment, unit_tokens) / deployment.gpu.nic_bytes_per_s


def _rank_unit_bytes(deployment: Deployment, unit_tokens: int) -> float:
    """Return the bytes of one prefix unit on one GPU."""
    return unit_tokens / deployment.block_size * block_bytes(deployment)
