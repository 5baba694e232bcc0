"""An episode as plain lists and words: what the page of a replay reads, ready for JSON.

Times are seconds, rounded to 0.1 ms. Samples hold what has changed since the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.observation import DECISIONS
from gpuyard.envs.scene import REPLICA_PHASES, REQUEST_PHASES

from .decisions import PLANS
from .episode import ENDS, VERBS, Episode

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

DIGITS = 4
"""Decimals of a second."""

Json = dict[str, Any]


def document(episode: Episode) -> Json:
    """Return an episode as nested dicts and lists of plain numbers and strings."""
    scenario = episode.scenario
    return {
        "scenario": scenario.name,
        "description": scenario.description,
        "policy": episode.policy,
        "seed": episode.seed,
        "end": round(episode.end_s, DIGITS),
        "truncated": episode.truncated,
        "words": {
            "ends": ENDS,
            "verbs": VERBS,
            "decisions": DECISIONS,
            "replica": REPLICA_PHASES,
            "request": REQUEST_PHASES,
            "plans": [plan.removeprefix("plan_").replace("_", " ") for plan in PLANS],
        },
        "groups": groups(scenario),
        "core": _core(scenario),
        "roles": role_names(scenario),
        "replicas": replicas(scenario),
        "gangs": _gangs(episode),
        "runs": [
            [run.gang, *_times(run.start_s, run.end_s), run.ended, *_spans(run.devices)]
            for run in episode.runs
        ],
        "phases": _rows(episode.phases),
        "outages": _rows(episode.outages),
        "requests": _requests(episode),
        "slo": [scenario.slo.ttft_s, scenario.slo.tpot_s],
        "decisions": {
            name: _times(*episode.decisions[name]) if name == "time_s" else _list(column)
            for name, column in _columns(episode.decisions).items()
        },
        "samples": {
            "times": _times(*episode.samples.times_s),
            "links": _changes(episode.samples.link_load),
            "kv": _changes(episode.samples.kv),
        },
    }


def groups(scenario: Scenario) -> list[Json]:
    """Return where devices stand: the leafs of nodes with their links, or each replica alone."""
    if scenario.cluster is None:
        return _alone(scenario)
    cluster = scenario.cluster
    nic, uplink, _ = cluster.fabric.by_group(np.arange(len(cluster.fabric.capacity)))
    found: list[Json] = []
    for leaf, pod in enumerate(cluster.leaf_pod.tolist()):
        places = []
        for node in np.flatnonzero(cluster.node_leaf == leaf).tolist():
            pool = cluster.pools[cluster.node_pool[node]]
            places.append(
                {
                    "name": f"node {node}",
                    "gpu": pool.gpu.name,
                    "gpus": pool.gpus_per_node,
                    "memory": round(pool.gpu.memory_bytes / 1e9, 1),
                    "node": node,
                    "first": node * cluster.gpus_per_node,
                    "links": _list(nic[:, node]),
                }
            )
        links = uplink[:, cluster.switch_leaf == leaf].reshape(2, -1).T
        name = f"leaf {leaf}, pod {pod}" if cluster.fabric.core_uplinks else f"leaf {leaf}"
        found.append({"name": name, "nodes": places, "uplinks": _list(links)})
    return found


def _alone(scenario: Scenario) -> list[Json]:
    """Return a group for each replica, where they stand outside any cluster."""
    found, first = [], 0
    for number, replica in enumerate(scenario.replicas):
        gpus, gpu = replica.deployment.gpus, replica.deployment.gpu.name
        place = {"name": f"replica {number}", "gpu": gpu, "first": first, "gpus": gpus}
        lines = [f"replica {number}", f"{gpus} {gpu}"]
        found.append({"name": f"replica {number}", "lines": lines, "nodes": [place], "uplinks": []})
        first += gpus
    return found


def _core(scenario: Scenario) -> list[list[list[int]]]:
    """Return the pairs of links, up and down, between each pod's spines and the core."""
    if scenario.cluster is None:
        return []
    fabric = scenario.cluster.fabric
    core = fabric.by_group(np.arange(len(fabric.capacity)))[2]
    return [_list(core[:, pod].reshape(2, -1).T) for pod in range(core.shape[1])]


def role_names(scenario: Scenario) -> list[str]:
    """Return the name of every role of the scenario's services."""
    return [
        service.name if role.kind == "aggregated" else f"{service.name} {role.kind}"
        for service in scenario.services
        for role in service.roles
    ]


def replica_names(scenario: Scenario) -> list[str]:
    """Return the name of every replica: its role's and its number there, or its own number."""
    if not scenario.services:
        return [f"replica {number}" for number in range(len(scenario.replicas))]
    names, count, found = role_names(scenario), [0] * len(role_names(scenario)), []
    for slot in scenario.slots:
        found.append(f"{names[slot.role]} {count[slot.role]}")
        count[slot.role] += 1
    return found


def replicas(scenario: Scenario) -> list[Json]:
    """Return what each replica is, and where in its gang or among all devices it begins."""
    found, first = [], 0
    for number, (replica, name) in enumerate(
        zip(scenario.replicas, replica_names(scenario), strict=True)
    ):
        deployment, place = replica.deployment, {"role": -1, "gang": -1, "first": first}
        if scenario.services:
            slot = scenario.slots[number]
            place = {"role": slot.role, "gang": slot.gang, "first": slot.rank}
        found.append(
            {
                "name": name,
                "model": deployment.model.name,
                "gpu": deployment.gpu.name,
                "gpus": deployment.gpus,
                "sequences": deployment.max_num_seqs,
                "weights": round(replica.weight_share, 3),
                "kv": round(replica.kv_share, 3),
                **place,
            }
        )
        first += deployment.gpus
    return found


def gang_names(episode: Episode) -> list[str]:
    """Return the name of every gang: that of the replicas in it, or the job's number."""
    scenario, services = episode.scenario, num_services(episode)
    names: list[list[str]] = [[] for _ in range(services)]
    if services:
        for slot, name in zip(scenario.slots, replica_names(scenario), strict=True):
            names[slot.gang].append(name)
    jobs = range(len(episode.gangs) - services)
    return [" + ".join(parts) for parts in names] + [f"job {number}" for number in jobs]


def num_services(episode: Episode) -> int:
    """Return how many gangs are of services; they stand in front of all jobs."""
    return int((episode.gangs["service"] >= 0).sum())


def _gangs(episode: Episode) -> Json:
    """Return what is known of each gang, column by column."""
    gangs, services = episode.gangs, num_services(episode)
    if not len(gangs):
        return {"name": [], "services": 0}
    table, jobs = episode.tables["jobs"], episode.scenario.jobs
    assert jobs is not None
    here = len(gangs) - services  # jobs that have arrived
    profiles = [jobs.profiles[p] if p >= 0 else "" for p in table["profile"][:here].tolist()]
    tenants = [jobs.queues[t].name for t in table["tenant"][:here].tolist()]
    return {
        "name": gang_names(episode),
        "services": services,
        "gpus": _list(gangs["gpus"]),
        "memory": _times(*(gangs["memory_bytes"] / 1e9)),
        "arrival": _times(*gangs["arrival_s"]),
        "profile": [""] * services + profiles,
        "tenant": [""] * services + (tenants if len(jobs.queues) > 1 else [""] * here),
    }


def _requests(episode: Episode) -> Json:
    """Return each request's life as a flat list: begin, phase, replica, begin, ..., end.

    A request that has not arrived has an empty one.
    """
    if "route" not in episode.scenario.decisions:
        return {"life": []}
    table = episode.tables["requests"]
    life: list[list[float]] = [[] for _ in table["arrival_s"]]
    for request, phase, replica, begin_s, end_s in episode.stays.tolist():
        life[request][-1:] = [round(begin_s, DIGITS), phase, replica, round(end_s, DIGITS)]
    return {
        "life": life,
        "first": _times(*table["first_token_s"]),
        "finish": _times(*table["finish_s"]),
        "prompt": _list(table["prompt_tokens"]),
        "output": _list(table["output_tokens"]),
    }


def _columns(rows: NDArray[np.void]) -> dict[str, NDArray]:
    return {name: rows[name] for name in rows.dtype.names or ()}


def _rows(rows: NDArray[np.void]) -> list[list[float]]:
    return [[round(x, DIGITS) if isinstance(x, float) else x for x in row] for row in rows.tolist()]


def _list(array: NDArray) -> list[Any]:
    return array.tolist()


def _times(*seconds: float) -> list[float | None]:
    """Return times rounded, None where there is none."""
    return [round(float(s), DIGITS) if np.isfinite(s) else None for s in seconds]


def _spans(devices: NDArray[np.int32]) -> list[int]:
    """Return devices in rank order as first, count, first, count of neighbours."""
    if not len(devices):
        return []
    edges = np.flatnonzero(np.diff(devices) != 1) + 1
    begins = np.concatenate([[0], edges])
    counts = np.diff(np.concatenate([begins, [len(devices)]]))
    return np.column_stack([devices[begins], counts]).ravel().tolist()


def _changes(table: NDArray[np.uint8]) -> list[list[int]]:
    """Return for each row the places where it differs from the last, each with its new number."""
    before, found = np.zeros(table.shape[1], np.uint8), []
    for row in table:
        at = np.flatnonzero(row != before)
        found.append(np.column_stack([at, row[at]]).ravel().tolist())
        before = row
    return found
