"""Options that stand alone but are refused together, before anything runs."""

from __future__ import annotations

import pytest
from scenario_tables import REPLICA, world

from gpuyard.envs.scenario import ScenarioError, from_dict

TIERS = {"host_kv_gb": 4}
STORE = {"kv_store": {"capacity_gb": 8}}
LORA = {"lora": {"adapters": 3}}
DEADLINE = {"router": {"deadline_s": 2}}
MOVES = {"migration": {"interval_s": 0.1}}
SESSIONS = {"workload": {"closed_loop": True, "sessions": 4, "max_tokens": 16384}}

WHOLE = {"chunked_prefill": False, "max_num_batched_tokens": 8192}
WAYS = {
    "batching": {
        **{"batching": "static", **WHOLE, "prefix_caching": False},
        "kv_reservation": "contiguous",
    },
    "chunked_prefill": WHOLE,
    "prefill_first": {"prefill_first": True},
    "long_prefill_token_threshold": {"long_prefill_token_threshold": 64},
    "scheduling_policy": {"scheduling_policy": "priority"},
    "kv_reservation": {"kv_reservation": "contiguous", "prefix_caching": False},
    "speculation": {"speculation": {"kind": "ngram", "draft_length": 3, "acceptance": [0.3, 0.3]}},
    "dp_ranks": {"dp": 2, "dp_ranks": "own"},
}
OPTIONS = {
    "replicas[0].host_kv_gb = 4": (TIERS, {}),
    "kv_store.capacity_gb = 8": ({}, STORE),
    "lora.adapters = 3": ({}, LORA),
    "router.deadline_s = 2": ({}, DEADLINE),
    "migration.interval_s = 0.1": ({}, MOVES),
}


def refused(table, *parts: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        from_dict(table)
    for part in parts:
        assert part in str(caught.value)


def serving(way: str) -> dict:
    """A replica that serves in this way."""
    plain = {**REPLICA, "model": "Mixtral-8x7B", "tp": 4} if way == "dp_ranks" else REPLICA
    return {**plain, **WAYS[way]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("option", OPTIONS)
def test_another_way_to_serve_is_refused(option: str, way: str) -> None:
    fields, tables = OPTIONS[option]
    table = world(replicas=[{**serving(way), **fields}], **tables)
    refused(table, option, way, f"or {option.split(' = ')[0]}")


@pytest.mark.parametrize("way", WAYS)
def test_each_way_stands_alone(way: str) -> None:
    """And beside a router that refuses, which no replica notices."""
    from_dict(world(replicas=[serving(way)], router={"may_reject": True}))


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_stands_alone(option: str) -> None:
    fields, tables = OPTIONS[option]
    from_dict(world(replicas=[{**REPLICA, **fields}] * 2, **tables))


@pytest.mark.parametrize("option", list(OPTIONS)[:-1])
def test_moves_stand_beside_no_other_option(option: str) -> None:
    fields, tables = OPTIONS[option]
    table = world(replicas=[{**REPLICA, **fields}] * 2, **tables, **MOVES)
    refused(table, "migration.interval_s = 0.1", "is not modelled beside", option)


@pytest.mark.parametrize(
    ("replicas", "parts"),
    [
        ([REPLICA], ("one replica", "two or more")),
        ([REPLICA, {**REPLICA, "kv_dtype": "fp8"}], ("replicas[1].kv_dtype", "the same")),
        ([REPLICA, {**REPLICA, "block_size": 32}], ("replicas[1].block_size", "the same")),
        (
            [{**REPLICA, "model": "Gemma-3-12B"}] * 2,
            ("Gemma-3-12B", "replicas[0]", "interval_s = 0"),
        ),
    ],
)
def test_a_cache_that_does_not_fit_elsewhere_is_refused(replicas, parts) -> None:
    refused(world(replicas=replicas, **MOVES), "migration.interval_s = 0.1", *parts)


def test_moves_hardly_without_time_are_refused() -> None:
    table = world(replicas=[REPLICA] * 2, migration={"interval_s": 1e-5})
    refused(table, "migration.interval_s = 1e-05 must be 0.001 seconds or more")


def test_no_prefix_cache_is_refused_with_tiers_only() -> None:
    row = {**REPLICA, "prefix_caching": False}
    refused(world(replicas=[{**row, **TIERS}]), "host_kv_gb = 4", "prefix_caching = False")
    refused(world(replicas=[row], **STORE), "kv_store.capacity_gb = 8", "prefix_caching = False")
    from_dict(world(replicas=[row], **LORA, **DEADLINE))


ENDS = {
    "router.deadline_s = 2": DEADLINE,
    "router.may_reject = true": {"router": {"may_reject": True}},
    "clients.deadline_s = 3 of 'chat'": {"clients": [{"name": "chat", "deadline_s": 3.0}]},
    "clients.over_rate = 'reject' of 'chat'": {
        "clients": [
            {"name": "chat", "tokens_per_s": 1e3, "burst_tokens": 1e5, "over_rate": "reject"}
        ]
    },
}


def test_moves_beside_sessions_that_answer_back_are_refused() -> None:
    table = world(replicas=[REPLICA] * 2, **MOVES, **SESSIONS)
    refused(table, "migration.interval_s = 0.1", "workload.closed_loop")


@pytest.mark.parametrize("end", ENDS)
def test_ends_unserved_are_refused_beside_steps_only(end: str) -> None:
    workload = {**SESSIONS["workload"], "steps": {"count": 2}}
    refused(world(**ENDS[end], workload=workload), end, "workload.steps.count = 2")
    from_dict(world(**ENDS[end], **SESSIONS))


def test_tiers_and_adapters_stand_beside_steps() -> None:
    workload = {**SESSIONS["workload"], "steps": {"count": 2}}
    from_dict(world(replicas=[{**REPLICA, **TIERS}], **STORE, **LORA, workload=workload))
