"""Room for requests and replicas, and their state at the start of an episode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.pages import zeros
from ..core.records import fill, record_of, records
from .adapters import LORA_RULES, allocate_adapters, empty_adapters
from .clients import CLIENT, allocate_clients, forget_clients
from .encode_pool import ENCODE_POOL, allocate_pool, empty_pool
from .growth import NEVER
from .images import ENCODER_SPEC, IMAGE_COST, allocate_images, load_images
from .move_records import MIGRATION_RULES, allocate_moves, empty_moves
from .prefixes import room
from .records import (
    OFF,
    PREFIX_ENTRY,
    PREFIX_MARK,
    PREFIX_UNIT,
    REPLICA,
    REQUEST,
    ROUTER,
    SERVING,
    SLOT,
)
from .tier_records import REPLICA_TIERS, TIER_SPEC
from .tiers import allocate_tiers, empty_tiers


@dataclass(frozen=True)
class ServingStatic:
    """What all environments of a batch share.

    Attributes:
        replica_specs: REPLICA_SPEC (R,), one per replica.
        costs: COST (K,), one per kind of replica.
        linear_s: float64 (K, T + 1), seconds by tokens in a step.
        head_s: float64 (K, S + 1), seconds by sequences sampling.
        serving_rules: SERVING_RULES (1,).
        objectives: OBJECTIVE (V,), of each service's requests, or each class of clients'; of all
            where there is neither.
        tier_specs: TIER_SPEC (T,), the KV tiers behind the replicas; none by default.
        replica_tiers: REPLICA_TIERS (R,) where there are tiers, else (0,).
        lora_rules: LORA_RULES (1,) where requests name adapters, else (0,).
        clients: CLIENT (C,), who sends requests; none by default.
        encoder_specs: ENCODER_SPEC (R,) where replicas encode images of requests, else (0,).
        image_costs: IMAGE_COST (R, sizes of images) there, (1, sizes) on encode replicas, else
            (0, 0).
        migration_rules: MIGRATION_RULES (1,) where running requests may move, else (0,).
        encode_pool: ENCODE_POOL (1,) where encode replicas encode images, else (0,).
    """

    replica_specs: NDArray[np.void]
    costs: NDArray[np.void]
    linear_s: NDArray[np.float64]
    head_s: NDArray[np.float64]
    serving_rules: NDArray[np.void]
    objectives: NDArray[np.void]
    tier_specs: NDArray[np.void] = field(default_factory=lambda: records(0, TIER_SPEC))
    replica_tiers: NDArray[np.void] = field(default_factory=lambda: records(0, REPLICA_TIERS))
    lora_rules: NDArray[np.void] = field(default_factory=lambda: records(0, LORA_RULES))
    clients: NDArray[np.void] = field(default_factory=lambda: records(0, CLIENT))
    encoder_specs: NDArray[np.void] = field(default_factory=lambda: records(0, ENCODER_SPEC))
    image_costs: NDArray[np.void] = field(default_factory=lambda: records((0, 0), IMAGE_COST))
    migration_rules: NDArray[np.void] = field(default_factory=lambda: records(0, MIGRATION_RULES))
    encode_pool: NDArray[np.void] = field(default_factory=lambda: records(0, ENCODE_POOL))


def allocate(
    static: ServingStatic,
    num_envs: int,
    num_requests: int,
    num_ids: int,
    num_nodes: int,
    max_loras: int = 0,
    num_sessions: int = 0,
) -> dict[str, NDArray[Any]]:
    """Return the arrays of requests and replicas by name; call :func:`load` for each environment.

    Args:
        static: what all environments share.
        num_envs: E.
        num_requests: N, room for requests per episode.
        num_ids: M, room for the prefix ids of an episode's requests.
        num_nodes: H, room for distinct prefix ids.
        max_loras: places for adapters on each replica.
        num_sessions: room for sessions that answer back.
    """
    specs = static.replica_specs
    shape = (num_envs, len(specs))
    may_move = len(static.migration_rules) > 0
    # turns of a session have their ids in one place, and may be cached at several, as what moves
    ids_apart = None if num_sessions > 0 or may_move else num_ids
    words, entries, heads = room(specs, ids_apart, num_nodes)
    return {
        "router": records(num_envs, ROUTER),
        "replicas": records(shape, REPLICA),
        "requests": records((num_envs, num_requests), REQUEST),
        "slots": records((*shape, int(specs["max_num_seqs"].max())), SLOT),
        "decode_phases": np.zeros((*shape, int(specs["block_size"].max())), np.int32),
        "prefix_marks": records((num_envs, max(num_nodes, 1), words), PREFIX_MARK),
        "prefix_entries": records((num_envs, entries), PREFIX_ENTRY),
        "prefix_heads": zeros((num_envs, heads), np.int32),
        "prefix_units": records((num_envs, max(num_ids, 1)), PREFIX_UNIT),
        **allocate_adapters(num_envs, len(specs), max_loras),
        **allocate_clients(static.clients, num_envs, len(specs)),
        **allocate_moves(num_envs, len(specs), may_move),
        **allocate_tiers(static.tier_specs, num_envs, len(specs), num_nodes),
        **allocate_images(static.encoder_specs, static.image_costs, num_envs, num_requests),
        **allocate_pool(static.encode_pool, static.image_costs, num_envs, num_requests),
        "due_s": np.zeros((num_envs, num_sessions)),
        "due_requests": np.zeros((num_envs, num_sessions), np.int32),
    }


def load(
    arrays: dict[str, NDArray[Any]],
    static: ServingStatic,
    e: int,
    stream: Any,
    estimate_tokens: NDArray[np.int32],
    draft_seed: int = 0,
) -> None:
    """Empty the replicas of environment ``e`` and give it the requests of its next episode.

    Args:
        arrays: from :func:`allocate`.
        static: what all environments share.
        e: the environment.
        stream: the requests, columns as a ``RequestStream`` of the workload has them.
        estimate_tokens: int32 (N,), what is believed of their outputs.
        draft_seed: of what they accept of drafted tokens, 64 bits.
    """
    arrays["router"][e] = _NEW_ROUTER
    arrays["router"]["num_requests"][e] = len(stream)
    arrays["router"]["draft_seed"][e] = draft_seed
    arrays["router"]["signal_interval_s"][e] = static.serving_rules["signal_interval_s"][0]
    replicas = arrays["replicas"]
    fill(replicas[e], _IDLE_REPLICA)
    replicas["phase"][e] = np.where(static.replica_specs["role"] < 0, SERVING, OFF)
    replicas["kind"][e] = static.replica_specs["kind"]
    for name in ("free_blocks", "tail_blocks"):
        replicas[name][e] = static.replica_specs["kv_blocks"]
    arrays["decode_phases"][e] = 0
    distinct = int(stream.prefix_ids.max(initial=-1)) + 1
    arrays["prefix_marks"][e, :distinct] = 0
    arrays["prefix_heads"][e] = -1
    empty_adapters(arrays, e)
    forget_clients(arrays, static.clients, e)
    if len(static.migration_rules):
        empty_moves(arrays, e, static.migration_rules["interval_s"][0])
    empty_tiers(arrays, static.tier_specs, e, arrays["prefix_marks"].shape[1])
    load_images(arrays, e, stream)
    empty_pool(arrays, e)
    arrays["prefix_units"]["node"][e, : len(stream.prefix_ids)] = stream.prefix_ids
    rows = arrays["requests"][e, : len(stream)]
    fill(rows, _NEW_REQUEST)
    for name in (
        "arrival_s",
        "prompt_tokens",
        "output_tokens",
        "max_tokens",
        "session",
        "priority",
        "service",
        "client",
    ):
        rows[name] = getattr(stream, name)
    rows["estimate_tokens"] = estimate_tokens
    classes = static.clients["group"]
    rows["objective"] = classes[stream.client] if len(classes) else stream.service
    rows["deadline_s"] = stream.expires_s(float(static.serving_rules["deadline_s"][0]))
    rows["previous"] = _previous(stream.session)
    rows["prefix_begin"] = stream.prefix_begin
    rows["prefix_count"] = np.diff(stream.prefix_offsets)
    router = arrays["router"][e : e + 1]
    router["openers"] = len(stream)
    if stream.think_s is not None:
        _answer_back(rows, router, stream)


def _answer_back(rows: NDArray[np.void], router: NDArray[np.void], stream: Any) -> None:
    """Let the turns of sessions wait for the answer to the one before, or for their step."""
    rows["think_s"] = stream.think_s
    waits = ~np.isnan(stream.think_s)
    follows = waits & (rows["previous"] >= 0)
    rows["following"][rows["previous"][follows]] = np.flatnonzero(follows)
    rows["joins"][follows] = 1
    router["openers"], router["unknown"] = np.count_nonzero(~waits), np.count_nonzero(waits)
    router["sessions"], router["answers"] = np.count_nonzero(~follows), 1
    if stream.forks is not None:
        _fork(rows, stream.forks)
        router["sessions"] -= stream.forks["count"].sum()
    steps = stream.steps
    if steps is not None and steps.count > 1:
        router["step_sessions"] = router["sessions"] // steps.count
        router["step_most"] = steps.most(router["step_sessions"][0])
        router["update_s"], router["keeps_cache"] = steps.update_s, steps.keep_cache


def _fork(rows: NDArray[np.void], forks: NDArray[np.void]) -> None:
    """Let turns start sub-sessions, whose last answers the turn behind each of them waits for."""
    last = np.zeros(int(rows["session"].max()) + 1, np.int64)
    np.maximum.at(last, rows["session"], np.arange(len(rows)))
    rows["forks"][forks["parent"]] = forks["first"]
    rows["num_forks"][forks["parent"]] = forks["count"]
    joining = rows["following"][forks["parent"]]
    rows["joins"][joining] += forks["count"]
    for fork, turn in zip(forks, joining, strict=True):
        begun = rows["session"][fork["first"] : fork["first"] + fork["count"]]
        rows["following"][last[begun]] = turn


def _previous(session: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return for every request the one before it in its session, -1 where there is none."""
    order = np.argsort(session, kind="stable")
    ranked = session[order]
    follows = (ranked[1:] == ranked[:-1]) & (ranked[1:] >= 0)
    previous = np.full(len(session), -1)
    previous[order[1:][follows]] = order[:-1][follows]
    return previous


_NEW_ROUTER = record_of(
    ROUTER,
    deciding=-1,
    held_head=-1,
    held_tail=-1,
    parked_head=-1,
    parked_tail=-1,
    last_client=-1,
    free_entry=-1,
)
_IDLE_REPLICA = record_of(
    REPLICA,
    head=-1,
    tail=-1,
    lru_head=-1,
    lru_tail=-1,
    come_head=-1,
    come_tail=-1,
    heir=-1,
    last_client=-1,
    next_finish=NEVER,
    next_window=NEVER,
)
_NEW_REQUEST = record_of(
    REQUEST,
    replica=-1,
    adapter=-1,
    next=-1,
    cached_tokens=-1,
    source=-1,
    following=-1,
    think_s=np.nan,
    retry_s=np.nan,
    sent_s=np.nan,
    arrive_s=np.nan,
    first_token_s=np.nan,
    finish_s=np.nan,
)
