"""Random small worlds of one service, for the compiled engine and for the naive reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from cluster_watch import LATE_S, Watch
from cluster_worlds import service, small
from engine_worlds import (
    cost_table,
    drafting_spec,
    drafting_words,
    random_spec,
    random_stream,
    reference_requests,
)
from reference_cluster import Cluster
from reference_fleet import Change, Scaling
from reference_network import Gang, Wires
from reference_replica import Role
from reference_steps import ReplicaSpec, Result

from gpuyard.envs.batch import Batch
from gpuyard.envs.engine.core.records import PLACE, ROUTE, START, STEP
from gpuyard.envs.engine.gangs.records import PENDING
from gpuyard.envs.engine.serving.arrays import load
from gpuyard.envs.hardware.cluster import LEVELS
from gpuyard.envs.perf.serving.cost_table import CostTable
from gpuyard.envs.workload.requests.stream import RequestStream
from gpuyard.envs.world import World

REQUESTS = 40
Rows = tuple[tuple[str, int, int, int], ...]
"""Of a service's roles: kind, replicas at least, at the start, at most."""

CLUSTERS: dict[str, dict[str, Any]] = {
    "one node": {"pools": [{"nodes": 1, "gpus_per_node": 8}]},
    "failing nodes": {"pools": [{"nodes": 4, "gpus_per_node": 2}]},
    "busy links": {
        "pools": [{"nodes": 12, "gpus_per_node": 1}],
        "fabric": {"nodes_per_leaf": 4, "uplinks": 2, "spines": 2, "uplink_gbit": 200.0},
    },
}
CLUSTERS["large replicas"] = {
    **CLUSTERS["busy links"],
    "fabric": {**CLUSTERS["busy links"]["fabric"], "uplink_gbit": 60.0},
    "tp": 2,  # of a replica: on two nodes
}
CLUSTERS["too few GPUs"] = {**CLUSTERS["busy links"], "pools": [{"nodes": 8, "gpus_per_node": 1}]}
CLUSTERS["failing gangs"] = {**CLUSTERS["busy links"], "pools": [{"nodes": 8, "gpus_per_node": 2}]}
CLUSTERS["all at once"] = CLUSTERS["failing gangs"]
"""Where the worlds are. Links are busy with gangs, which are there from the second on; where GPUs
are too few gangs wait, and replicas are preempted for them. Nodes fail under gangs and replicas on
the last two, on the last one all are preempted for each other as well."""
WITH_GANGS = ("busy links", "large replicas", "too few GPUs", "failing gangs", "all at once")
FAILING = ("failing nodes", "failing gangs", "all at once")
PREEMPTING = ("too few GPUs", "all at once")
MOST_PREEMPTED = 12  # so that an episode ends


@dataclass(frozen=True)
class Case:
    """What both are given."""

    roles: tuple[Role, ...]
    stream: RequestStream
    scaling: Scaling | None
    asked_at_s: float = 0.0
    checkpoint_s: float = 0.0  # of gangs, 0: they save nothing while they run


@cache
def batch(rows: Rows, where: str = "one node", nearest: str = "zone") -> Batch:
    """Return a world whose service has roles (kind, least, initial, most), on one of `CLUSTERS`."""
    names = ("min", "initial", "max")
    roles: list[dict[str, Any]] = [
        {"kind": kind, "max_num_seqs": 96 + place, **dict(zip(names, counts, strict=True))}
        for place, (kind, *counts) in enumerate(rows)
    ]
    workload = {
        "preset": "chat",
        "num_requests": 5 * REQUESTS,
        "rate_per_s": 1.0,
        "max_tokens": 600,
    }
    required = "zone" if where in WITH_GANGS else "node"
    preempts = where in PREEMPTING
    table = service("both", required=required, workload=workload)
    table["transfer_preferred"] = nearest
    table["tp"] = CLUSTERS[where].get("tp", 1)
    table["preemptibility"] = "preemptible" if preempts else "non-preemptible"
    for name in names:
        table.pop(name, None)
    if rows[0][0] == "aggregated":
        table |= {key: value for key, value in roles[0].items() if key != "kind"}
    else:
        table["roles"] = roles
    (pool,) = CLUSTERS[where]["pools"]
    usual = {"nodes_per_leaf": pool["nodes"], "oversubscription": 1.0}
    fabric = CLUSTERS[where].get("fabric", usual)
    faults, jobs = {}, {"num_jobs": 1, "rate_per_h": 0.5, "max_gpus": 1}
    if where in FAILING:  # one every second, or every three
        gap_s = 1.0 if where == "failing nodes" else 3.0
        faults = {"node_mtbf_h": gap_s * pool["nodes"] / 3600, "repair_h": 1e-3}
    if where in WITH_GANGS:
        longest_s = 5.0 if where == "large replicas" else 20.0  # on narrow links rounding grows
        jobs = {"num_jobs": 8, "rate_per_h": 14_400.0, "max_gpus": 4, "max_duration_s": longest_s}
    scenario = small(
        table,
        name="exact",
        cluster={"pools": [{"gpu": "A100-80", **pool}], "fabric": fabric},
        faults=faults,
        jobs=jobs,
        network={"fidelity": "flow", "routing": "source"},
        scaler={"interval_s": 1.0},
        scheduler={
            "preemption": preempts,
            "preempt_s": 2.0,
            "protected_priority": 0.0 if where == "too few GPUs" else math.inf,  # of jobs: none
        },
    )
    return Batch(scenario, 1)


def wires(world: World) -> Wires:
    """Return the fabric of a world in the words of the reference."""
    fabric, node = world.shared["fabric"][0], world.shared["node_specs"][0]
    return Wires(
        nodes=int(fabric["nodes"]),
        slots=int(fabric["gpus_per_node"]),
        nodes_per_leaf=int(fabric["nodes"] // fabric["leafs"]),
        uplinks=int(fabric["uplinks"]),
        nic_bytes_per_s=float(node["nic_bytes_per_s"]),
        scale_up_bytes_per_s=float(node["scale_up_bytes_per_s"]),
        capacity=world.shared["capacity"].tolist(),
    )


def random_case(
    seed: int,
    rows: Rows,
    scales: bool,
    *features: str,
    turns: bool = False,
    speculation: bool = False,
    block_bytes: float = 1e6,
    farthest: str = "zone",
    lacking: bool = False,
    layers: int = 0,
    nearest: str = "zone",
) -> Case:
    """Draw speeds, memory, handovers and requests for roles (kind, least, initial, most).

    With ``turns`` replicas change between two roles, too.
    """
    rng = np.random.default_rng(seed)
    unit = int(rng.choice([0, 32, 64]))
    has = dict.fromkeys(features, True)
    roles = []
    for kind, least, initial, most in rows:
        spec = random_spec(rng, unit, **has)
        if speculation:
            spec = drafting_spec(rng, spec, by_model=0.0)
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
                handover_s=rng.uniform(0.0, 0.1) * (0.01 if layers else 1.0),
                block_bytes=block_bytes,
                block_post_s=(post_s := rng.uniform(0.0, 1e-3) * (0.1 if layers else 1.0)),
                inside_post_s=1.1 * post_s,
                start_s=1e-3,
                bytes_per_s=rng.uniform(1e2, 1e4) * block_bytes,
                nic_start_s=2e-3,
                nic_bytes_per_s=rng.uniform(1e2, 1e3) * block_bytes,
                farthest=farthest,
                nearest=nearest,
                lacking=lacking,
                layers=layers,
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


def by_reference(
    case: Case,
    world: World,
    history: Sequence[Change] | None = None,
    gangs: Sequence[Gang] = (),
    moment: Callable[[float], float] = float,
    until_s: float = math.inf,
) -> tuple[Cluster, Result]:
    """Let the naive reference serve a case on the fabric of a world that has served it.

    Gangs are copied: the reference notes in each how far it is.
    """
    max_tokens = [int(most) for most in case.stream.max_tokens]
    requests = reference_requests(case.stream)
    fresh = [replace(gang, begun_s={}) for gang in gangs]
    how = (case.scaling, history, wires(world), fresh, case.asked_at_s, moment)
    cluster = Cluster(case.roles, requests, max_tokens, *how)
    return cluster, cluster.run(until_s)


def by_engine(
    case: Case, rows: Rows, where: str = "one node", seed: int = 0, watch: type[Watch] | None = None
) -> tuple[World, Watch]:
    """Let the engine serve the same case, with the same rule for decisions.

    Returns the world, and which replicas and gangs got and lost devices.
    """
    built = batch(rows, where, case.roles[0].nearest)
    world, static = built.world, built.contents["route"].static
    fill_roles(world.shared, static, case)
    for content in built.contents.values():
        content.load(0, np.random.default_rng(seed))
    load(world.state, static, 0, case.stream, case.stream.output_tokens)
    if where not in WITH_GANGS:
        world.state["jobs"]["arrival_s"][0, -1] = LATE_S
    world.shared["gang_rules"]["checkpoint_s"] = case.checkpoint_s
    world.begin(0)
    seen = (watch or Watch)(world)
    return world, play(world, case, seed if where in WITH_GANGS else None, seen)


def fill_roles(shared: dict[str, Any], static: Any, case: Case) -> None:
    """Write a case's numbers into the records that a scenario has made."""
    records, scaler = shared["roles"], shared["scaler_rules"]
    scaler["interval_s"] = case.scaling.interval_s if case.scaling else 0.0
    scaler["max_changes"] = case.scaling.max_changes if case.scaling else 1
    shared["services"]["asked_at_s"] = case.asked_at_s
    for g, role in enumerate(case.roles):
        record = records[g]
        record["lacking"], record["layers"] = role.lacking, role.layers
        record["startup_s"], record["handover_s"] = role.startup_s, role.handover_s
        record["change_s"], record["farthest"] = role.change_s, LEVELS.index(role.farthest)
        record["nearest"], record["kv_block_bytes"] = LEVELS.index(role.nearest), role.block_bytes
        record["nic_block_post_s"] = role.block_post_s
        record["domain_block_post_s"] = role.inside_post_s
        record["domain_start_s"], record["nic_start_s"] = role.start_s, role.nic_start_s
        ports = shared["capacity"][-2 * len(static.replica_specs) :].reshape(-1, 2)
        for r in range(record["first"], record["first"] + record["most"]):
            fill_replica(static.replica_specs[r], role)
            if role.does != "aggregated":
                ports[r] = role.nic_bytes_per_s, role.bytes_per_s
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
    for name, value in drafting_words([spec], 0).items():
        record[name] = value
    record["most_chunk"] = spec.threshold or spec.max_num_batched_tokens
    record["unit_tokens"] = spec.prefix_block_tokens
    record["unit_blocks"] = spec.prefix_block_tokens // spec.block_size
    record["startup_s"], record["local_tokens"] = role.startup_s, role.local_tokens


def fill_costs(static: Any, kind: int, cost: CostTable) -> None:
    """Write a table of step costs into its row."""
    static.costs[kind] = cost.coefficients
    static.linear_s[kind, : len(cost.linear_s)] = cost.linear_s
    static.head_s[kind, : len(cost.head_s)] = cost.head_s


def allowed(world: World, feasible: Any, rng: np.random.Generator) -> Any:
    """Return what may be drawn of the feasible decisions about gangs.

    Preemption is rare, and left out at the moment of a decision about replicas, which the reference
    takes in one piece.
    """
    rules, preemptions = world.shared["gang_rules"][0], world.state["gangs"]["preemptions"][0]
    starts = int(rules["window"] * rules["plans"] * rules["pools"])
    preempts = (feasible >= starts) & (feasible < starts + rules["running_rows"])
    is_tick = world.state["fleet"]["began_s"][0] == world.clock["now_s"][0]
    if preempts.all() or not (is_tick or preemptions >= MOST_PREEMPTED or rng.random() < 0.7):
        return feasible
    return feasible[~preempts]


def near_ones(case: Case, world: World, outputs: Any, feasible: Any) -> Any:
    """Return the feasible replicas whose row says that KV stays in a domain, all if none does."""
    if case.roles[0].nearest == "zone":
        return feasible
    rows = world.first_observation(outputs)["candidates"][feasible]
    near = feasible[rows[:, -1] > 0]  # the last column is that of transfers
    return near if len(near) else feasible


def take(world: World, action: Any, outputs: Any, watch: Watch) -> None:
    """Take a decision; twice if it starts a gang that is gone before the next one.

    The first time that gang has more to do, and no node fails, so that it can be seen where it is.
    """
    before = world.get_state(0)
    world.run(np.array([STEP]), action, outputs)
    if watch.has_missed():
        world.set_state(0, before)
        world.state["devices"]["next_failure_s"] = math.inf
        waiting = np.flatnonzero(world.state["jobs"]["status"][0] == PENDING)
        world.state["senders"]["iterations_left"][0, waiting] += 1e9
        world.run(np.array([STEP]), action, outputs)
        watch.see_places()
        world.set_state(0, before)
        world.run(np.array([STEP]), action, outputs)


def play(world: World, case: Case, seed: int | None, watch: Watch) -> Watch:
    """Play an episode until all has finished that comes in time.

    With a seed gangs are placed at random, which also moves requests to links that they share.
    """
    outputs, action, scaled = world.outputs(), np.zeros(1, np.int64), 0
    rng = np.random.default_rng(seed)
    router, gangs = world.state["router"][0], world.state["gangs"][0]
    waited = gangs["num_jobs"] - gangs["services"] if seed is not None else 0
    world.run(np.array([START]), action, outputs)
    while not world.done[0] and (
        router["finished"] < router["num_requests"] or gangs["finished"] < waited
    ):
        watch.look(scaled)
        feasible = np.flatnonzero(outputs.mask[0])
        due = world.clock["due"][0]
        if due == ROUTE:
            near = near_ones(case, world, outputs, feasible)
            action[0] = near[int(router["deciding"]) % len(near)]
        elif due == PLACE:
            action[0] = feasible[0] if seed is None else rng.choice(allowed(world, feasible, rng))
        else:
            assert case.scaling is not None
            wanted = case.scaling.script(scaled)
            action[0] = wanted if wanted in feasible else 0
            scaled += 1
        take(world, action, outputs, watch)
    watch.look(scaled)
    watch.changes.sort(key=lambda change: change.time_s)
    return watch
