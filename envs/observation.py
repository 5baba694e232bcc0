"""What a policy sees: the columns of every observation key, with units and scales.

Columns come in blocks: ``common`` ones that every world has, and those of each kind of decision,
``route`` (which replica takes a request), ``place`` (which gang starts where) and ``scale``. A
scenario has the blocks of its decisions, one behind the other; its :class:`Layout` knows where each
column stands, and everybody asks it: environment, engine, policies, documentation, saved models.

A :class:`Column` holds either a share in [0, 1] (``scale`` is ``None``) or a quantity ``x >= 0`` in
the stated unit, stored as ``x / (x + scale)``: bounded in [0, 1), monotone, and undone by
:meth:`Layout.read`. Lagged columns are what the replica last reported (see
``router.signal_interval_s`` of the scenario), and so are ``device_memory``, ``device_load`` and
``link_load`` of replicas; the others are the router's own, live knowledge. Nothing here depends on
true output lengths or durations, only on estimates, and the mask on the bound that a request states
(``max_tokens``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

DECISIONS = ("route", "place", "scale", "migrate")
"""Kinds of decisions. :mod:`.engine.clock` says in which order they come at one moment: one request
is routed, requests move, gangs are placed, replicas are decided about, then others are routed."""


def kind_column(kind: str) -> str:
    """Return the full name of the flag of ``"cluster"`` that says such a decision is due.

    It stands among the common columns, but for that of an option (``migrate``), which stands in
    its own block.
    """
    block = "migrate" if kind == "migrate" else "common"
    return f"{block}.kind_{kind}"


OPTIONS = ("gate", "lora", "clients", "vision", "preempt", "encoders", "transfer")
"""Blocks of columns that a scenario has only with an option: ``gate`` where requests may be refused
or expire, ``lora`` where they name adapters, ``clients`` where they have clients, ``vision`` where
they may bring images, ``preempt`` where replicas may be preempted, ``encoders`` where encode
replicas encode images, ``transfer`` where KV caches should stay in a domain."""


@dataclass(frozen=True)
class Column:
    """One feature: its name, unit, squashing scale (``None`` for a share) and meaning."""

    name: str
    unit: str
    scale: float | None
    meaning: str
    lagged: bool = False


Columns = tuple[Column, ...]

CLUSTER: dict[str, Columns] = {
    "common": (
        Column("kind_route", "flag", None, "a request waits for a replica"),
        Column("kind_place", "flag", None, "a gang waits for devices"),
        Column("kind_scale", "flag", None, "a replica may be added or removed"),
        Column("progress", "share", None, "requests decided and gangs finished, of all"),
    ),
    "route": (
        Column("arrival_rate", "request/s", 20.0, "moving average over about 32 arrivals"),
        Column("prompt_rate", "token/s", 20_000.0, "prompt tokens arriving, same average"),
        Column("in_flight", "request", 256.0, "requests sent to any replica and not finished"),
        Column("held", "request", 8.0, "requests held back at the router"),
        Column("slo_attainment", "share", None, "finished requests that met both objectives"),
        Column("prefix_hit_rate", "share", None, "prompt tokens served from a prefix cache so far"),
        Column("report_age_s", "s", 0.2, "time since the replicas' last report"),
    ),
    "place": (
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
    ),
    "scale": (
        Column("serving", "replica", 8.0, "replicas that take requests"),
        Column("starting", "replica", 8.0, "replicas that wait for devices or load"),
        Column("draining", "replica", 8.0, "replicas that take no more requests"),
        Column("parked", "request", 8.0, "requests that no replica can take now"),
        Column("changes", "replica", 4.0, "replicas added, taken away and turned in this round"),
        Column("since_s", "s", 60.0, "since the round before in which there was a choice"),
    ),
    "migrate": (
        Column("kind_migrate", "flag", None, "a running request may move to another replica"),
        Column("has_source", "flag", None, "the replica that it leaves has been chosen"),
        Column("moving", "request", 4.0, "requests that are moving"),
    ),
    "gate": (
        Column("since_s", "s", 0.1, "since the routing decision before"),
        Column("unserved", "share", None, "requests refused or expired, of those that arrived"),
    ),
    "encoders": (
        Column("encoding", "image", 8.0, "images at encode replicas that are not encoded yet"),
        Column("encode_wait_s", "s", 0.5, "until the first encode replica has nothing to encode"),
    ),
}

QUEUE: dict[str, Columns] = {
    "common": (
        Column("is_request", "flag", None, "the row holds a request"),
        Column("is_gang", "flag", None, "the row holds a gang"),
    ),
    "route": (
        Column("size", "token or device", 2048.0, "prompt tokens of a request, devices of a gang"),
        Column("estimate", "token or s", 512.0, "estimated output tokens or duration"),
        Column("age_s", "s", 1.0, "time since arrival"),
        Column("priority", "share", None, "0 lowest, 1 highest"),
        Column("ttft_slo_s", "s", 1.0, "objective for the time to first token"),
        Column("tpot_slo_s", "s", 0.05, "objective for the time per output token"),
    ),
    "place": (
        Column("gpus", "GPU", 64.0, "size of the gang"),
        Column("estimate_s", "s", 3600.0, "estimated run time without contention at speed 1"),
        Column("age_s", "s", 3600.0, "time since arrival"),
        Column("priority", "share", None, "0 lowest, 1 highest"),
        Column("executed_s", "s", 3600.0, "run time so far (it was preempted, or its node failed)"),
        Column("comm_share", "share", None, "share of an iteration that it communicates, alone"),
        Column(
            "required", "share", None, "widest domain allowed: 0 node, 1/3 leaf, 2/3 pod, 1 all"
        ),
        Column("preferred", "share", None, "domain preferred, same scale"),
        Column("tenant_share", "share", None, "its tenant's quota in use"),
        Column("preemptions", "preemption", 4.0, "how often it was preempted"),
    ),
    "gate": (
        Column("has_deadline", "flag", None, "it expires if it has not begun in time"),
        Column("left_s", "s", 1.0, "until then"),
    ),
    "clients": (
        Column("lead", "token", 8192.0, "its client was served more than the least of who waits"),
        Column("client_waiting", "request", 8.0, "of its client, under decision or held back"),
        Column("client_in_flight", "request", 32.0, "of its client, sent and not finished"),
    ),
}

CANDIDATES: dict[str, Columns] = {
    "route": (
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
        Column("is_hold", "flag", None, "holds the request back; the row is what it costs"),
    ),
    "place": (
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
        Column(
            "link_load", "share", None, "highest mean load of the links of a leaf that it spans"
        ),
        Column(
            "sharing", "gang", 4.0, "most gangs with traffic on the links of one of those leafs"
        ),
        Column("comm_share", "share", None, "share of an iteration that it communicates, alone"),
        Column("free_after", "share", None, "free GPUs afterwards"),
        Column("tenant_share", "share", None, "its tenant's quota in use afterwards"),
    ),
    "scale": (
        Column("is_keep", "flag", None, "keeps things as they are and ends the round"),
        Column("is_add", "flag", None, "adds a replica to a role"),
        Column("is_take", "flag", None, "takes a replica from a role"),
        Column("is_turn", "flag", None, "lets a replica of another role change to this one"),
        Column("serving", "replica", 4.0, "replicas of the role that take requests"),
        Column("queued", "replica", 4.0, "its replicas that wait for devices"),
        Column("starting", "replica", 4.0, "its replicas that load"),
        Column("draining", "replica", 4.0, "its replicas that take no more requests"),
        Column("least", "replica", 4.0, "replicas that it must have"),
        Column("most", "replica", 4.0, "replicas that it may have"),
        Column("gpus", "GPU", 8.0, "devices of one replica"),
        Column("price", "$/h", 10.0, "price of one replica"),
        Column("startup_s", "s", 60.0, "from its devices to its first request"),
        Column("free", "share", None, "free GPUs of the cluster, of a replica's at most"),
        Column("in_flight", "request", 32.0, "sent to a replica of the role, mean"),
        Column("waiting", "request", 8.0, "queued at a replica, mean"),
        Column("running", "request", 32.0, "sequences in the batch of a replica, mean"),
        Column("queued_tokens", "token", 8192.0, "prompt tokens not yet computed, mean"),
        Column("kv_usage", "share", None, "KV blocks held by running requests, mean"),
        Column("busy", "share", None, "part of the last interval spent in steps, mean"),
        Column("rate_per_s", "request/s", 4.0, "the service's arrivals in the last interval"),
        Column("prompt_tokens", "token", 2048.0, "their prompts, mean"),
        Column("output_tokens", "token", 512.0, "outputs of requests that finished in it, mean"),
        Column("ttft_s", "s", 0.5, "time to first token of those that had it in it, mean"),
        Column("tpot_s", "s", 0.05, "time per output token of those that finished in it, mean"),
        Column("slo", "share", None, "of those, the ones that met both objectives"),
        Column("to_finish", "request", 8.0, "in flight or held where the role would be changed"),
        Column("left", "replica", 4.0, "replicas that would go on serving in the role it leaves"),
    ),
    "migrate": (
        Column("is_none", "flag", None, "moves nothing and ends the round"),
        Column("is_source", "flag", None, "the replica that the request is to leave"),
        Column("is_moving", "flag", None, "a request comes to this replica or leaves it"),
        Column("requests", "request", 32.0, "running and queued there", lagged=True),
        Column("free_blocks", "block", 1024.0, "free KV blocks", lagged=True),
        Column("queued_blocks", "block", 256.0, "blocks of tokens not yet computed", lagged=True),
        Column("request_blocks", "block", 64.0, "KV blocks of the request that would leave"),
    ),
    "gate": (Column("is_reject", "flag", None, "refuses the request; its wait is a day"),),
    "lora": (
        Column("adapter_here", "flag", None, "the replica has the request's LoRA adapter"),
        Column("adapter_room", "flag", None, "it has it, or a place that no running request uses"),
    ),
    "vision": (
        Column("image_here", "flag", None, "its encoder cache has the request's image, if any"),
    ),
    "preempt": (
        Column("is_base", "flag", None, "preempts a base gang, all of whose replicas go"),
        Column("replicas", "replica", 4.0, "replicas that lose their devices"),
        Column("in_flight", "request", 32.0, "requests that they hand back"),
    ),
    "transfer": (
        Column("near", "flag", None, "its KV cache stays in the domain that is preferred for it"),
    ),
}

TABLES: dict[str, dict[str, Columns]] = {
    "cluster": CLUSTER,
    "queue": QUEUE,
    "candidates": CANDIDATES,
}
"""The columns of each observation key, by block."""


class Layout:
    """Where each column of a scenario's observations stands.

    Args:
        decisions: kinds of decisions that the scenario asks for.
        options: those of :data:`OPTIONS` that it has.

    Attributes:
        decisions: the same, in the order of :data:`DECISIONS`.
        blocks: of columns, in their order.
    """

    def __init__(self, decisions: Iterable[str], options: Iterable[str] = ()) -> None:
        asked, chosen = set(decisions), set(options)
        self.decisions = tuple(kind for kind in DECISIONS if kind in asked)
        self.blocks = ("common", *self.decisions, *(name for name in OPTIONS if name in chosen))
        self._columns: dict[str, Columns] = {}
        self._begin: dict[tuple[str, str], int] = {}
        self._places: dict[tuple[str, str], list[int]] = {}
        for key, blocks in TABLES.items():
            columns: list[Column] = []
            for block in self.blocks:
                self._begin[key, block] = len(columns)
                for column in blocks.get(block, ()):
                    for name in (column.name, f"{block}.{column.name}"):
                        self._places.setdefault((key, name), []).append(len(columns))
                    columns.append(column)
            self._columns[key] = tuple(columns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and other.blocks == self.blocks

    def __hash__(self) -> int:
        return hash(self.blocks)

    def columns(self, key: str) -> Columns:
        """Return the columns of an observation key, in order."""
        return self._columns[key]

    def begin(self, key: str, block: str) -> int:
        """Return the position of the first column of a block."""
        return self._begin[key, block]

    def names(self, key: str) -> tuple[str, ...]:
        """Return the full names of a key's columns in order, such as ``"route.waiting"``."""
        return tuple(
            f"{block}.{column.name}"
            for block in self.blocks
            for column in TABLES[key].get(block, ())
        )

    def index(self, key: str, name: str) -> int:
        """Return the position of a column in the last axis of an observation key.

        Args:
            key: ``"cluster"``, ``"queue"`` or ``"candidates"``.
            name: of the column; with its block (``"place.age_s"``) where several blocks have it.

        Raises:
            KeyError: there is no such column, or there are several; the message lists them.
        """
        places = self._places.get((key, name), [])
        if len(places) == 1:
            return places[0]
        if not places:
            known = ", ".join(column.name for column in self._columns[key])
            raise KeyError(f"observation {key!r} has no column {name!r}; it has {known}")
        full = self.names(key)
        several = " or ".join(full[place] for place in places)
        raise KeyError(f"observation {key!r} has several columns {name!r}: say {several}")

    def read(self, observation: dict[str, NDArray], key: str, name: str) -> NDArray[np.float64]:
        """Return a column in its own unit, float64.

        Args:
            observation: of this layout, with or without leading axes.
            key: ``"cluster"``, ``"queue"`` or ``"candidates"``.
            name: as in :meth:`index`.

        Returns:
            Shape: that of ``observation[key]`` without its last axis, for example ``(n, C)`` for
            ``"candidates"`` of a batch of n environments.

        Raises:
            KeyError: as in :meth:`index`.
        """
        at = self.index(key, name)
        values = observation[key][..., at].astype(np.float64)
        scale = self._columns[key][at].scale
        return values if scale is None else scale * values / (1.0 - values)


def read(observation: dict[str, NDArray], key: str, name: str) -> NDArray[np.float64]:
    """Return a column in its own unit, for worlds in which only one kind of decision is taken.

    Short for :meth:`Layout.read` where the name alone says which decision that is; otherwise, and
    in worlds of several kinds of decisions, ask the environment's ``layout``.

    Raises:
        KeyError: no block has such a column, several have, or the observation is of another layout.
    """
    layout = _layout_with(key, name)
    if layout.decisions and observation[key].shape[-1] != len(layout.columns(key)):
        raise KeyError(
            f"this observation has no column {name!r} in {key!r}; ask the environment's layout: "
            "env.unwrapped.layout.read(observation, key, name)"
        )
    return layout.read(observation, key, name)


ALONE = ("route", "place")
"""Kinds of decisions that may be the only one of a world."""


@cache
def _layout_with(key: str, name: str) -> Layout:
    """Return the layout of the one kind of decision that has the column."""
    found = [kind for kind in ALONE if name in {c.name for c in TABLES[key].get(kind, ())}]
    if name in {column.name for column in TABLES[key].get("common", ())}:
        return Layout(())  # common columns come first in every layout
    if len(found) == 1:
        return Layout(found)
    what = f"columns {name!r} in several blocks" if found else f"no column {name!r}"
    known = ", ".join(dict.fromkeys(c.name for kind in ALONE for c in TABLES[key][kind]))
    raise KeyError(
        f"observation {key!r} has {what}; ask the environment's layout for one of {known}"
    )


def column_table(key: str, block: str) -> str:
    """Return the columns of a key as a Markdown table, for worlds of one kind of decision.

    Args:
        key: ``"cluster"``, ``"queue"`` or ``"candidates"``.
        block: the kind of decision; the common columns stand before its own.
    """
    rows = [
        "| # | Column | Unit | Stored as | Meaning |",
        "|---|--------|------|-----------|---------|",
    ]
    for at, column in enumerate(Layout((block,)).columns(key)):
        stored = "x" if column.scale is None else f"x / (x + {column.scale:g})"
        meaning = f"{column.meaning} (reported)" if column.lagged else column.meaning
        rows.append(f"| {at} | `{column.name}` | {column.unit} | {stored} | {meaning} |")
    return "\n".join(rows)
