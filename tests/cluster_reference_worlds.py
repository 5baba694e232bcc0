"""Random small worlds of one service, for the compiled engine and for the naive reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from cluster_worlds import service, small
from engine_worlds import cost_table, random_spec, random_stream, reference_requests
from reference_cluster import Cluster, Scaling
from reference_replica import Role
from reference_serving import ReplicaSpec, Result

from gpuyard.envs.batch import Batch
from gpuyard.envs.engine.core.records import PLACE, ROUTE, START, STEP
from gpuyard.envs.engine.serving.arrays import load
from gpuyard.envs.perf.serving.cost_table import CostTable
from gpuyard.envs.workload.requests.stream import RequestStream
from gpuyard.envs.world import World

REQUESTS = 40
LATE_S = 1e6  # when the one job of these worlds arrives, which is after their end
FEATURES = ("whole_prompt", "lag", "frontend", "windows", "state")


@dataclass(frozen=True)
class Case:
    """What both are given."""

    roles: tuple[Role, ...]
    stream: RequestStream
    scaling: Scaling | None


@cache
def batch(rows: tuple[tuple[str, int, int, int], ...]) -> Batch:
    """Return a world of one node whose service has roles (kind, least, initial, most)."""
    names = ("min", "initial", "max")
    roles: list[dict[str, Any]] = [
        {"kind": kind, "max_num_seqs": 64 + place, **dict(zip(names, counts, strict=True))}
        for place, (kind, *counts) in enumerate(rows)
    ]
    workload = {
        "preset": "chat",
        "num_requests": 5 * REQUESTS,
        "rate_per_s": 1.0,
        "max_tokens": 600,
    }
    table = service("both", required="node", workload=workload)
    for name in names:
        table.pop(name, None)
    if rows[0][0] == "aggregated":
        table |= {key: value for key, value in roles[0].items() if key != "kind"}
    else:
        table["roles"] = roles
    pools = [{"gpu": "A100-80", "nodes": 1, "gpus_per_node": 8}]
    scenario = small(
        table,
        name="exact",
        cluster={"pools": pools, "fabric": {"nodes_per_leaf": 1, "oversubscription": 1.0}},
        jobs={"num_jobs": 1, "rate_per_h": 0.5, "max_gpus": 1},
        scaler={"interval_s": 1.0},
    )
    return Batch(scenario, 1)


def random_case(
    seed: int, rows: tuple[tuple[str, int, int, int], ...], scales: bool, *features: str
) -> Case:
    """Draw speeds, memory, handovers and requests for roles (kind, least, initial, most)."""
    rng = np.random.default_rng(seed)
    unit = int(rng.choice([0, 32, 64]))
    has = dict.fromkeys(features, True)
    roles = []
    for kind, least, initial, most in rows:
        spec = random_spec(rng, unit, **has)
        roles.append(
            Role(
                does=kind,
                least=least,
                most=most,
                initial=initial,
                startup_s=rng.uniform(0.0, 2.0),
                spec=spec,
                cost=cost_table(rng, True, spec),
                local_tokens=int(rng.choice([0, 64])) if kind == "decode" else 0,
                handover_s=rng.uniform(0.0, 0.1),
                block_bytes=1e6,
                block_post_s=rng.uniform(0.0, 1e-3),
                start_s=1e-3,
                bytes_per_s=rng.uniform(1e8, 1e10),
            )
        )
    stream = random_stream(rng, int(rng.integers(5, REQUESTS + 1)), unit)
    scaling = None
    if scales:
        script = rng.integers(0, 1 + 2 * len(rows), 4096)
        scaling = Scaling(
            rng.uniform(0.1, 1.0), int(rng.integers(1, 4)), lambda k: int(script[k % 4096])
        )
    return Case(tuple(roles), stream, scaling)


def by_reference(case: Case) -> tuple[Cluster, Result]:
    """Let the naive reference serve a case."""
    max_tokens = [int(most) for most in case.stream.max_tokens]
    cluster = Cluster(case.roles, reference_requests(case.stream), max_tokens, case.scaling)
    return cluster, cluster.run()


def by_engine(case: Case, rows: tuple[tuple[str, int, int, int], ...]) -> World:
    """Let the engine serve the same case, with the same rule for decisions."""
    built = batch(rows)
    world, static = built.world, built.contents["route"].static
    fill_roles(world.shared, static, case)
    for content in built.contents.values():
        content.load(0, np.random.default_rng(0))
    load(world.state, static, 0, case.stream, case.stream.output_tokens)
    world.state["jobs"]["arrival_s"][0, -1] = LATE_S
    world.begin(0)
    play(world, case)
    return world


def fill_roles(shared: dict[str, Any], static: Any, case: Case) -> None:
    """Write a case's numbers into the records that a scenario has made."""
    records, scaler = shared["roles"], shared["scaler_rules"]
    scaler["interval_s"] = case.scaling.interval_s if case.scaling else 0.0
    scaler["max_changes"] = case.scaling.max_changes if case.scaling else 1
    for g, role in enumerate(case.roles):
        record = records[g]
        record["startup_s"], record["handover_s"] = role.startup_s, role.handover_s
        record["kv_block_bytes"], record["kv_block_post_s"] = role.block_bytes, role.block_post_s
        record["domain_start_s"], record["domain_bytes_per_s"] = role.start_s, role.bytes_per_s
        for r in range(record["first"], record["first"] + record["most"]):
            fill_replica(static.replica_specs[r], role)
        kind = static.replica_specs[record["first"]]["kind"]
        fill_costs(static, int(kind), role.cost)


def fill_replica(record: Any, role: Role) -> None:
    """Write what a replica is into its record."""
    spec: ReplicaSpec = role.spec
    for name in (
        *("max_num_seqs", "max_num_batched_tokens", "block_size", "kv_blocks", "window_groups"),
        *("window_blocks", "state_blocks", "whole_prompt", "lag", "frontend_s"),
    ):
        record[name] = getattr(spec, name)
    record["unit_tokens"] = spec.prefix_block_tokens
    record["unit_blocks"] = spec.prefix_block_tokens // spec.block_size
    record["startup_s"], record["local_tokens"] = role.startup_s, role.local_tokens


def fill_costs(static: Any, kind: int, cost: CostTable) -> None:
    """Write a table of step costs into its row."""
    static.costs[kind] = cost.coefficients
    static.linear_s[kind, : len(cost.linear_s)] = cost.linear_s
    static.head_s[kind, : len(cost.head_s)] = cost.head_s


def play(world: World, case: Case) -> None:
    """Play an episode until all requests have finished."""
    outputs, action, scaled = world.outputs(), np.zeros(1, np.int64), 0
    router = world.state["router"][0]
    world.run(np.array([START]), action, outputs)
    while not world.done[0] and router["finished"] < router["num_requests"]:
        feasible = np.flatnonzero(outputs.mask[0])
        due = world.clock["due"][0]
        if due == ROUTE:
            action[0] = feasible[int(router["deciding"]) % len(feasible)]
        elif due == PLACE:
            action[0] = feasible[0]
        else:
            assert case.scaling is not None
            wanted = case.scaling.script(scaled)
            action[0] = wanted if wanted in feasible else 0
            scaled += 1
        world.run(np.array([STEP]), action, outputs)


def with_spec(case: Case, **changes: Any) -> Case:
    """Return a case whose replicas are all changed so."""
    roles = tuple(replace(role, spec=replace(role.spec, **changes)) for role in case.roles)
    return replace(case, roles=roles)
