"""An episode as plain lists and words: what the page of a replay reads, ready for JSON.

Times are seconds, rounded to 0.1 ms. Samples hold what has changed since the one before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.observation import DECISIONS
from gpuyard.envs.scene import REPLICA_PHASES, REQUEST_PHASES

from ..requests import attained
from .decisions import PLANS
from .episode import ENDS, VERBS, Episode
from .site import Json, core, groups, replica_names, replicas, role_names
from .waits import waits

DIGITS = 4
"""Decimals of a second."""


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
        "core": core(scenario),
        "roles": role_names(scenario),
        "replicas": replicas(scenario),
        "gangs": _gangs(episode),
        "runs": [
            [run.gang, *_times(run.start_s, run.end_s), run.ended, *_spans(run.devices)]
            for run in episode.runs
        ],
        "waits": [[*wait[:3], *_times(*wait[3:])] for wait in waits(episode)],
        "phases": _rows(episode.phases),
        "outages": _rows(episode.outages),
        "requests": _requests(episode),
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


def gang_names(episode: Episode) -> list[str]:
    """Return the name of every gang: that of the replicas in it, or the job's number."""
    scenario, services = episode.scenario, num_services(episode)
    names: list[list[str]] = [[] for _ in range(services)]
    if services:
        for slot, name in zip(scenario.slots, replica_names(scenario), strict=True):
            for gang in {slot.gang, slot.base} if slot.is_base else {slot.gang}:
                names[gang].append(name)
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
        "met": _list(attained(table, *episode.scenario.objectives).astype(int)),
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
