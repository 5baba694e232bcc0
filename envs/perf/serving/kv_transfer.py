"""Handing the KV cache of a prompt from a prefill replica to a decode replica.

Every rank of the decode replica takes what it will hold: its KV heads, copies of them where there
are more ranks than heads, and all of a latent cache (MLA), in whole blocks. Its worker posts one
descriptor per block, layer and of K and V each, and the pieces posted move meanwhile:

    t = start + max(descriptors x descriptor_us, bytes / rate)

with ``rate`` that of the side whose NICs are fewer or slower. Each rank uses the NIC of its GPU.
Inside a scale-up domain the GPUs' own links take the place of the NICs, and no link of the fabric
is touched. Constants with their sources: ``kv_transfer.toml``.

Left out: sending layer by layer or chunk by chunk during prefill, TCP (4 to 39 % of the line),
first-time connections (26 ms and more), fallbacks of same-node pulls to TCP, rails shared by ranks.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .collectives import link_bytes_per_s
from .deployment import Deployment
from .kv_groups import block_bytes, kv_groups

CONNECTORS = ("nixl", "mooncake")
HANDOVERS = ("stock", "seeded")


@dataclass(frozen=True)
class KVTransfer:
    """One handover of a prompt's cache.

    Attributes:
        size_bytes: all that moves, copies for further ranks included.
        senders: GPUs of the prefill replica that send, each over its own link.
        receivers: GPUs of the decode replica that take it, each over its own link.
        inside_domain: over the GPUs' scale-up links instead of NICs and fabric.
        start_s: before the first byte moves and after the last one.
        post_s: host time of posting all descriptors, beside the bytes' way.
        link_bytes_per_s: rate of all links together with no other traffic.
    """

    size_bytes: float
    senders: int
    receivers: int
    inside_domain: bool
    start_s: float
    post_s: float
    link_bytes_per_s: float

    @property
    def most_bytes_per_s(self) -> float:
        """Rate of the whole transfer that neither links nor posting let it exceed."""
        if self.post_s == 0:
            return self.link_bytes_per_s
        return min(self.link_bytes_per_s, self.size_bytes / self.post_s)

    @property
    def alone_s(self) -> float:
        """Seconds of the transfer with no other traffic."""
        return self.start_s + self.size_bytes / self.most_bytes_per_s


def kv_transfer(
    prefill: Deployment,
    decode: Deployment,
    tokens: int,
    connector: str = "nixl",
    inside_domain: bool = False,
) -> KVTransfer:
    """Return what handing over ``tokens`` of a prompt takes.

    Args:
        prefill: the replica that computed them.
        decode: the replica that goes on.
        tokens: of the prompt that the decode replica lacks, at least 1.
        connector: one of :data:`CONNECTORS`.
        inside_domain: whether both stand in one scale-up domain and use it.

    Raises:
        ValueError: the replicas' caches differ, or an argument is out of range; the message names
            it, its value and what is allowed.
    """
    _check(prefill, decode, connector)
    path = "domain" if inside_domain else "nic"
    row = _tables()["connector"][connector][path]
    link_rate = min(
        port_bytes_per_s(replica, connector, inside_domain) for replica in (prefill, decode)
    )
    return KVTransfer(
        kv_transfer_bytes(decode, tokens),
        prefill.tp * prefill.pp,
        decode.tp * decode.pp,
        inside_domain,
        row["start_ms"] * 1e-3,
        descriptors(decode, tokens) * row["descriptor_us"] * 1e-6,
        link_rate,
    )


def port_bytes_per_s(replica: Deployment, connector: str, inside_domain: bool) -> float:
    """Return bytes/s that the GPUs of a replica send or take together with no other traffic."""
    share = _tables()["connector"][connector]["domain" if inside_domain else "nic"]["share"]
    return float(share * replica.tp * replica.pp * _gpu_bytes_per_s(replica, inside_domain))


def nic_constants(connector: str) -> tuple[float, float]:
    """Return the seconds besides the bytes' way, and the share of a NIC's rate, of a connector."""
    row = _tables()["connector"][connector]["nic"]
    return row["start_ms"] * 1e-3, float(row["share"])


def kv_transfer_bytes(decode: Deployment, tokens: int) -> float:
    """Return bytes of ``tokens`` >= 1 in whole blocks on all ranks that hold a sequence."""
    if not tokens >= 1:
        raise ValueError(f"tokens = {tokens!r}: give at least 1")
    return kv_groups(decode).blocks_of(tokens) * block_bytes(decode) * decode.tp * decode.pp


def descriptors(decode: Deployment, tokens: int) -> int:
    """Return the pieces that one rank's worker posts: per block, layer, and of K and V each."""
    groups, model = kv_groups(decode), decode.model
    spanned = model.full_layers if groups.window_groups else model.layers - model.linear_layers
    return groups.blocks_of(tokens) * spanned // decode.pp * (1 if model.mla else 2)


def handover_s(kind: str = "stock") -> float:
    """Return seconds of software between prefill and decode besides the transfer.

    Args:
        kind: ``stock``: the response of the prefill replica goes through the router, which then
            calls the decode replica; ``seeded``: both are called at once and the first token goes
            along.
    """
    if kind not in HANDOVERS:
        raise ValueError(f"kind = {kind!r}: use one of {', '.join(HANDOVERS)}")
    return float(_tables()["handover"][f"{kind}_ms"]) * 1e-3


def _gpu_bytes_per_s(replica: Deployment, inside_domain: bool) -> float:
    """Return the nominal rate of what one GPU sends and takes over."""
    if not inside_domain:
        return replica.gpu.nic_bytes_per_s
    return link_bytes_per_s(2 * replica.gpus, replica.gpu, replica.links)


def _check(prefill: Deployment, decode: Deployment, connector: str) -> None:
    for name in ("model", "kv_dtype"):
        ours, theirs = getattr(prefill, name), getattr(decode, name)
        if ours != theirs:
            shown = [getattr(side, "name", side) for side in (ours, theirs)]
            raise ValueError(
                f"{name} = {shown[0]!r} of the prefill replica and {shown[1]!r} of the decode "
                "replica: a cache goes to a replica of the same model and cache format"
            )
    stacks = [side.rules.stack for side in (prefill, decode)]
    if stacks[0] != stacks[1]:
        raise ValueError(
            f"engine = {prefill.engine!r} of the prefill replica and {decode.engine!r} of the "
            "decode replica: a cache goes to a replica of the same engine, of any version"
        )
    small, large = sorted((prefill.block_size, decode.block_size))
    if large % small:
        raise ValueError(
            f"block_size = {prefill.block_size} of the prefill replica and {decode.block_size} of "
            "the decode replica: one must divide the other"
        )
    if connector not in CONNECTORS:
        raise ValueError(f"connector = {connector!r}: use one of {', '.join(CONNECTORS)}")


@cache
def _tables() -> dict[str, dict[str, Any]]:
    with (Path(__file__).parent / "kv_transfer.toml").open("rb") as file:
        return tomllib.load(file)
