"""What a policy sees: the columns of every observation key, with units and scales.

Each feature is one :class:`Column`. A column holds either a share in [0, 1] (``scale`` is
``None``) or a quantity ``x >= 0`` in the stated unit, stored as ``x / (x + scale)``: bounded in
[0, 1), monotone, and undone by :func:`read`. Lagged columns are what the replica last reported
(see ``router.signal_interval_s`` of the scenario), and so are ``device_memory``, ``device_load``
and ``link_load``; the others are the router's own, live knowledge. Nothing here depends on true
output lengths, only on estimates; but the mask leaves out replicas that could never hold a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Column:
    """One feature: its name, unit, squashing scale (``None`` for a share) and meaning."""

    name: str
    unit: str
    scale: float | None
    meaning: str
    lagged: bool = False


CLUSTER = (
    Column("kind_route", "flag", None, "a request waits for a replica"),
    Column("kind_place", "flag", None, "a gang waits for devices"),
    Column("kind_scale", "flag", None, "a replica may be added or removed"),
    Column("progress", "share", None, "decided share of the episode's requests"),
    Column("arrival_rate", "request/s", 20.0, "moving average over about 32 arrivals"),
    Column("prompt_rate", "token/s", 20_000.0, "prompt tokens arriving, same average"),
    Column("in_flight", "request", 256.0, "requests sent to any replica and not finished"),
    Column("held", "request", 8.0, "requests held back at the router"),
    Column("slo_attainment", "share", None, "finished requests that met both objectives"),
    Column("prefix_hit_rate", "share", None, "prompt tokens served from a prefix cache so far"),
)

QUEUE = (
    Column("is_request", "flag", None, "the row holds a request"),
    Column("is_gang", "flag", None, "the row holds a gang"),
    Column("size", "token or device", 2048.0, "prompt tokens of a request, devices of a gang"),
    Column("estimate", "token or s", 512.0, "estimated output tokens or duration"),
    Column("age_s", "s", 1.0, "time since arrival"),
    Column("priority", "share", None, "0 lowest, 1 highest"),
    Column("ttft_slo_s", "s", 1.0, "objective for the time to first token"),
    Column("tpot_slo_s", "s", 0.05, "objective for the time per output token"),
)

CANDIDATES = (
    Column("running", "request", 32.0, "sequences in the batch", lagged=True),
    Column("waiting", "request", 8.0, "requests queued at the replica", lagged=True),
    Column("in_flight", "request", 32.0, "sent by this router and not finished"),
    Column("in_flight_tokens", "token", 32_768.0, "their prompt plus estimated output tokens"),
    Column("queued_tokens", "token", 8192.0, "prompt tokens not yet computed", lagged=True),
    Column("kv_usage", "share", None, "KV blocks held by running requests", lagged=True),
    Column("kv_blocks", "block", 4096.0, "KV blocks held by running requests", lagged=True),
    Column("kv_demand", "share", None, "blocks this request needs at its estimated length"),
    Column("request_blocks", "block", 64.0, "KV blocks of this request's prompt"),
    Column("prefix_match", "share", None, "share of the prompt cached there", lagged=True),
    Column("prefix_sent", "share", None, "share of the prompt this router ever sent there"),
    Column("session_last", "flag", None, "this session's last request went there"),
    Column("session_home", "flag", None, "consistent hashing maps this session there"),
    Column("prefill_s", "s", 0.5, "predicted time to prefill this prompt alone, hits deducted"),
    Column("wait_s", "s", 0.5, "predicted wait before its prefill starts", lagged=True),
    Column("step_s", "s", 0.05, "predicted decode step with this request added", lagged=True),
    Column("work_s", "s", 5.0, "estimated compute time of everything in flight there"),
    Column("capacity", "share", None, "expected output throughput, the fastest replica = 1"),
    Column("load", "share", None, "in flight over the sequence cap"),
    Column("price", "$/h", 10.0, "price of the replica's devices"),
)

PLACEMENT_CLUSTER = (
    Column("kind_route", "flag", None, "a request waits for a replica"),
    Column("kind_place", "flag", None, "a gang waits for devices"),
    Column("kind_scale", "flag", None, "a replica may be added or removed"),
    Column("progress", "share", None, "finished share of the episode's gangs"),
    Column("arrival_rate", "gang/h", 30.0, "moving average over about 32 arrivals"),
    Column("pending", "gang", 16.0, "gangs that wait for devices"),
    Column("pending_gpus", "GPU", 256.0, "GPUs that they ask for"),
    Column("running", "gang", 32.0, "gangs that run"),
    Column("free", "share", None, "free GPUs"),
    Column("down", "share", None, "GPUs of failed nodes"),
    Column("empty_nodes", "share", None, "nodes all of whose GPUs are free"),
    Column("fragmentation", "share", None, "free GPUs on partly used nodes, of all free ones"),
    Column("link_mean", "share", None, "mean load of the leaf switches' links"),
    Column("link_max", "share", None, "highest load of them"),
    Column("contention", "share", None, "speed that running gangs lose to contention, mean"),
)

PLACEMENT_QUEUE = (
    Column("is_request", "flag", None, "the row holds a request"),
    Column("is_gang", "flag", None, "the row holds a gang"),
    Column("gpus", "GPU", 64.0, "size of the gang"),
    Column("estimate_s", "s", 3600.0, "estimated run time without contention at speed 1"),
    Column("age_s", "s", 3600.0, "time since arrival"),
    Column("priority", "share", None, "0 lowest, 1 highest"),
    Column("executed_s", "s", 3600.0, "run time so far (it was preempted, or its node failed)"),
    Column("comm_share", "share", None, "share of an iteration that it communicates, alone"),
    Column("required", "share", None, "widest domain allowed: 0 node, 1/3 leaf, 2/3 pod, 1 all"),
    Column("preferred", "share", None, "domain preferred, same scale"),
    Column("tenant_share", "share", None, "its tenant's quota in use"),
    Column("preemptions", "preemption", 4.0, "how often it was preempted"),
)

PLACEMENT_CANDIDATES = (
    Column("is_place", "flag", None, "starts a gang"),
    Column("is_preempt", "flag", None, "stops a running gang, which goes back to the queue"),
    Column("is_wait", "flag", None, "waits for the next event"),
    Column("is_own", "flag", None, "stands for a plan of the policy's own"),
    Column("position", "gang", 8.0, "gangs before it in the queue"),
    Column("gpus", "GPU", 64.0, "size of the gang"),
    Column("estimate_s", "s", 3600.0, "estimated run time without contention at speed 1"),
    Column("age_s", "s", 3600.0, "time since arrival"),
    Column("executed_s", "s", 3600.0, "run time so far"),
    Column("priority", "share", None, "0 lowest, 1 highest"),
    Column("plan_pack", "flag", None, "tightest node, else tightest leaf, else fullest leafs"),
    Column("plan_fewest_leafs", "flag", None, "leafs with the most room first"),
    Column("plan_pod", "flag", None, "tightest pod, in it the leafs with the least room first"),
    Column("plan_spread", "flag", None, "emptiest node, or nodes dealt over all leafs"),
    Column("plan_least_loaded", "flag", None, "leafs whose links are least loaded first"),
    Column("plan_isolated", "flag", None, "leafs joined by links that become its own"),
    Column("plan_optical", "flag", None, "the same with optical circuits set for it"),
    Column("speed", "share", None, "compute rate on that pool, its fastest pool = 1"),
    Column("nodes", "node", 8.0, "nodes that it takes"),
    Column("price", "$/h", 100.0, "price of its GPUs"),
    Column("leafs", "leaf", 4.0, "leafs that it spans"),
    Column("leftover", "share", None, "GPUs left free on the leafs that it touches"),
    Column("fragmentation", "share", None, "free GPUs on partly used nodes, afterwards"),
    Column("link_load", "share", None, "highest mean load of the links of a leaf that it spans"),
    Column("sharing", "gang", 4.0, "most gangs with traffic on the links of one of those leafs"),
    Column("comm_share", "share", None, "share of an iteration that it communicates, alone"),
    Column("free_after", "share", None, "free GPUs afterwards"),
    Column("tenant_share", "share", None, "its tenant's quota in use afterwards"),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "cluster": CLUSTER,
    "queue": QUEUE,
    "candidates": CANDIDATES,
}

PLACEMENT_TABLES: dict[str, tuple[Column, ...]] = {
    "cluster": PLACEMENT_CLUSTER,
    "queue": PLACEMENT_QUEUE,
    "candidates": PLACEMENT_CANDIDATES,
}


@cache
def index(key: str, name: str) -> int:
    """Return the position of column ``name`` in observation ``key``.

    Raises:
        KeyError: if the key has no such column; the message lists those it has.
    """
    for tables in (TABLES, PLACEMENT_TABLES):
        names = [column.name for column in tables[key]]
        if name in names:
            return names.index(name)
    known = dict.fromkeys(c.name for c in TABLES[key] + PLACEMENT_TABLES[key])
    raise KeyError(f"observation {key!r} has no column {name!r}; it has {', '.join(known)}")


def read(observation: dict[str, NDArray], key: str, name: str) -> NDArray[np.float64]:
    """Return column ``name`` of ``observation[key]`` in its own unit, float64.

    Shape: that of ``observation[key]`` without its last axis, for example ``(n, C)`` for
    ``"candidates"`` of a batch of n environments.

    Raises:
        KeyError: if this world has no such column.
    """
    at = index(key, name)
    values = observation[key][..., at].astype(np.float64)
    is_routing = observation[key].shape[-1] == len(TABLES[key])
    table = TABLES[key] if is_routing else PLACEMENT_TABLES[key]
    if at >= len(table) or table[at].name != name:
        known = ", ".join(column.name for column in table)
        raise KeyError(f"observation {key!r} has no column {name!r} in this world; it has {known}")
    scale = table[at].scale
    return values if scale is None else scale * values / (1.0 - values)
