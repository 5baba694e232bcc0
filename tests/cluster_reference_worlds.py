"""Random small worlds of one service, for the compiled engine and for the naive reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from cluster_worlds import service, small
from engine_worlds import cost_table, random_spec, random_stream, reference_requests
from reference_cluster import Cluster
from reference_fleet import Change, Scaling
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
Rows = tuple[tuple[str, int, int, int], ...]
"""Of a service's roles: kind, replicas at least, at the start, at most."""


@dataclass(frozen=True)
class Case:
    """What both are given."""

    roles: tuple[Role, ...]
    stream: RequestStream
    scaling: Scaling | None


@cache
def batch(rows: Rows, fails: bool = False) -> Batch:
    """Return a world whose service has roles (kind, least, initial, most).

    It has one node, or four of which one fails every second.
    """
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
    nodes = 4 if fails else 1
    pools = [{"gpu": "A100-80", "nodes": nodes, "gpus_per_node": 8 // nodes}]
    faults = {"node_mtbf_h": nodes * 1.0 / 3600, "repair_h": 1e-3} if fails else {}
    scenario = small(
        table,
        name="exact",
        cluster={"pools": pools, "fabric": {"nodes_per_leaf": nodes, "oversubscription": 1.0}},
        faults=faults,
        jobs={"num_jobs": 1, "rate_per_h": 0.5, "max_gpus": 1},
        scaler={"interval_s": 1.0},
    )
    return Batch(scenario, 1)


def random_case(seed: int, rows: Rows, scales: bool, *features: str, turns: bool = False) -> Case:
    """Draw speeds, memory, handovers and requests for roles (kind, least, initial, most).

    With ``turns`` replicas change between two roles, too.
    """
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
                change_s=rng.uniform(0.0, 0.5) * (seed % 3 > 0) if turns else 0.0,
                spec=spec,
                cost=cost_table(rng, True, spec),
                local_tokens=int(rng.choice([0, 64])) if kind == "decode" else 0,
                handover_s=rng.uniform(0.0, 0.1),
                block_bytes=1e6,
                block_post_s=rng.uniform(0.0, 1e-3),
                start_s=1e-3,
                bytes_per_s=rng.uniform(1e8, 1e10),
                nic_start_s=2e-3,
                nic_bytes_per_s=rng.uniform(1e8, 1e9),
            )
        )
    stream = random_stream(rng, int(rng.integers(5, REQUESTS + 1)), unit)
    scaling = None
    if scales:
        script = rng.integers(0, 1 + 2 * len(rows) + 2 * turns, 4096)
        scaling = Scaling(
            rng.uniform(0.1, 1.0), int(rng.integers(1, 4)), lambda k: int(script[k % 4096])
        )
    return Case(tuple(roles), stream, scaling)


def by_reference(case: Case, history: Sequence[Change] | None = None) -> tuple[Cluster, Result]:
    """Let the naive reference serve a case."""
    max_tokens = [int(most) for most in case.stream.max_tokens]
    requests = reference_requests(case.stream)
    cluster = Cluster(case.roles, requests, max_tokens, case.scaling, history)
    return cluster, cluster.run()


def by_engine(case: Case, rows: Rows, seed: int = -1) -> tuple[World, list[Change]]:
    """Let the engine serve the same case, with the same rule for decisions.

    Nodes fail if ``seed`` is not negative. Returns the world, and which replicas got and lost
    devices.
    """
    built = batch(rows, seed >= 0)
    world, static = built.world, built.contents["route"].static
    fill_roles(world.shared, static, case)
    for content in built.contents.values():
        content.load(0, np.random.default_rng(max(seed, 0)))
    load(world.state, static, 0, case.stream, case.stream.output_tokens)
    world.state["jobs"]["arrival_s"][0, -1] = LATE_S
    world.begin(0)
    return world, play(world, case)


def fill_roles(shared: dict[str, Any], static: Any, case: Case) -> None:
    """Write a case's numbers into the records that a scenario has made."""
    records, scaler = shared["roles"], shared["scaler_rules"]
    scaler["interval_s"] = case.scaling.interval_s if case.scaling else 0.0
    scaler["max_changes"] = case.scaling.max_changes if case.scaling else 1
    for g, role in enumerate(case.roles):
        record = records[g]
        record["startup_s"], record["handover_s"] = role.startup_s, role.handover_s
        record["change_s"] = role.change_s
        record["kv_block_bytes"], record["kv_block_post_s"] = role.block_bytes, role.block_post_s
        record["domain_start_s"], record["domain_bytes_per_s"] = role.start_s, role.bytes_per_s
        record["nic_start_s"], record["nic_bytes_per_s"] = role.nic_start_s, role.nic_bytes_per_s
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


class Watch:
    """Notes which gangs get and lose devices, decision by decision."""

    def __init__(self, world: World) -> None:
        self.world, self.changes = world, list[Change]()
        self.gang_of = world.shared["replica_specs"]["gang"]
        self.failures = np.zeros(int(self.gang_of.max()) + 1, int)
        self.starts = np.full(len(self.failures), -1.0)

    def look(self) -> None:
        """Note what has changed since the last look."""
        gpus = self.world.shared["fabric"][0]["gpus_per_node"]
        for gang in range(len(self.failures)):
            job = self.world.state["jobs"][0, gang]
            replicas = tuple(int(r) for r in np.flatnonzero(self.gang_of == gang))
            if job["failures"] > self.failures[gang]:
                self.changes.append(Change(float(job["stopped_s"]), replicas, -1))
                self.failures[gang] = job["failures"]
            if job["start_s"] > self.starts[gang]:
                node = int(self.world.state["senders"][0, gang]["first_gpu"]) // int(gpus)
                self.changes.append(Change(float(job["start_s"]), replicas, max(node, 0)))
                self.starts[gang] = job["start_s"]


def play(world: World, case: Case) -> list[Change]:
    """Play an episode until all requests have finished; returns what happened to devices."""
    outputs, action, scaled = world.outputs(), np.zeros(1, np.int64), 0
    watch = Watch(world)
    router = world.state["router"][0]
    world.run(np.array([START]), action, outputs)
    while not world.done[0] and router["finished"] < router["num_requests"]:
        watch.look()
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

    watch.look()
    return sorted(watch.changes, key=lambda change: change.time_s)
