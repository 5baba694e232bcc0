"""What it takes to send KV caches from one replica of a service to another."""

from __future__ import annotations

from ..perf import Deployment
from ..perf.serving.kv_groups import kv_groups
from ..perf.serving.kv_transfer import kv_transfer, port_bytes_per_s
from .services import Handover

MANY = 1024
"""Blocks of a cache so large that their costs are alike."""


def handover_between(
    source: Deployment,
    target: Deployment,
    connector: str,
    software_s: float = 0.0,
    local_tokens: int = 0,
    lacking: bool = False,
) -> Handover:
    """Return what it takes to hand requests over from replicas of one kind to those of another.

    Args:
        source: has the KV cache.
        target: goes on.
        connector: moves the bytes.
        software_s: around the transfer.
        local_tokens: uncached prompt tokens up to which it is not done.
        lacking: whether only blocks move that the target's prefix cache lacks.
    """
    tokens = MANY * target.block_size
    nic, domain = (kv_transfer(source, target, tokens, connector, way) for way in (False, True))
    blocks = kv_groups(target).blocks_of(tokens)
    return Handover(
        local_tokens=local_tokens,
        lacking=lacking,
        handover_s=software_s,
        kv_block_bytes=nic.size_bytes / blocks,
        nic_block_post_s=nic.post_s / blocks,
        nic_start_s=nic.start_s,
        domain_block_post_s=domain.post_s / blocks,
        domain_start_s=domain.start_s,
    )


def ports_bytes_per_s(replica: Deployment, connector: str) -> tuple[float, float]:
    """Return bytes/s of a replica's GPUs over their NICs and inside a node."""
    nic, domain = (port_bytes_per_s(replica, connector, inside) for inside in (False, True))
    return nic, domain
