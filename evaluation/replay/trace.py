"""A recorded episode in the Trace Event Format, which Perfetto and chrome://tracing open.

================  ===============================================================================
process           threads and events
================  ===============================================================================
node              a thread per GPU: a complete event per run of a gang on it; outages of the node
service           a thread per replica: a complete event per phase; requests as nestable
                  asynchronous slices, one per request, in it one per phase
decisions         a thread per kind: an instant event per decision
cluster           counters: who waits for GPUs and for how many, requests at the router and queued
                  at replicas, link load
================  ===============================================================================

Source: Trace Event Format (Google, "Trace Event Format", the document behind chrome://tracing):
``ph`` X, b, e, i, C, M; ``ts`` and ``dur`` in microseconds. Asynchronous slices of one ``id`` and
``cat`` nest; each ``b`` has its ``e``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.observation import DECISIONS
from gpuyard.envs.scene import REPLICA_PHASES, REQUEST_PHASES

from ..plots import over_time
from .document import gang_names, num_services
from .episode import ENDS, VERBS, Episode
from .site import groups, replica_names, role_names
from .waits import waits

ROUTER, QUEUE = REQUEST_PHASES.index("router"), REQUEST_PHASES.index("queue")
CLUSTER, DECIDING, SERVING, NODES = 1, 2, 100, 10_000
"""Process ids: counters, decisions, the first service, the first node."""

Event = dict[str, Any]


def trace(episode: Episode) -> str:
    """Return the trace as JSON text; the same episode gives the same text."""
    parts = (_devices, _outages, _replicas, _requests, _decisions, _counters)
    events = [event for part in parts for event in part(episode)]
    about = {"scenario": episode.scenario.name, "policy": episode.policy, "seed": episode.seed}
    named = [*_names(episode), *events]
    whole = {"traceEvents": named, "displayTimeUnit": "ms", "otherData": about}
    return json.dumps(whole, separators=(",", ":"))


def _us(seconds: float) -> int:
    return round(1e6 * float(seconds))


def _complete(name: str, pid: int, tid: int, begin_s: float, end_s: float, **args: Any) -> Event:
    times = {"ts": _us(begin_s), "dur": _us(end_s) - _us(begin_s)}
    return {"name": name, "ph": "X", **times, "pid": pid, "tid": tid, "args": args}


def _names(episode: Episode) -> Iterator[Event]:
    """Yield what processes and threads are called, and in which order they stand."""
    yield from _process(CLUSTER, "cluster", ["counters"])
    yield from _process(DECIDING, "decisions", DECISIONS)
    scenario = episode.scenario
    for service, name in enumerate(_services(episode)):
        own = {
            number: replica
            for number, replica in enumerate(replica_names(scenario))
            if _service_of(episode, number) == service
        }
        yield from _process(SERVING + service, name, own.values(), own)
    if scenario.cluster is not None:
        for group in groups(scenario):
            for node in group["nodes"]:
                gpus = [f"GPU {k}" for k in range(node["gpus"])]
                yield from _process(NODES + node["node"], f"{node['name']} ({group['name']})", gpus)


def _process(
    pid: int, name: str, threads: Iterable[str], numbers: Iterable[int] | None = None
) -> Iterator[Event]:
    common = {"ph": "M", "ts": 0, "pid": pid}
    yield {**common, "name": "process_name", "tid": 0, "args": {"name": name}}
    yield {**common, "name": "process_sort_index", "tid": 0, "args": {"sort_index": pid}}
    for tid, thread in zip(numbers or range(10**9), threads, strict=False):
        yield {**common, "name": "thread_name", "tid": tid, "args": {"name": thread}}


def _services(episode: Episode) -> list[str]:
    """Return the services by name; replicas outside any cluster are one."""
    if not episode.scenario.replicas:
        return []
    return [service.name for service in episode.scenario.services] or ["replicas"]


def _service_of(episode: Episode, replica: int) -> int:
    scenario = episode.scenario
    return scenario.slots[replica].service if scenario.services and replica >= 0 else 0


def _devices(episode: Episode) -> Iterator[Event]:
    """Yield a complete event for every device of every run."""
    if episode.scenario.cluster is None:
        return
    slots, names = episode.scenario.cluster.gpus_per_node, gang_names(episode)
    services = num_services(episode)
    for run in episode.runs:
        args: Event = {"gang": run.gang, "gpus": len(run.devices), "ended": ENDS[run.ended]}
        if run.gang >= services:
            args["job"] = run.gang - services
        for rank, device in enumerate(run.devices.tolist()):
            place = NODES + device // slots, device % slots
            yield _complete(names[run.gang], *place, run.start_s, run.end_s, **args, rank=rank)


def _outages(episode: Episode) -> Iterator[Event]:
    """Yield a complete event on every device of a node that has failed."""
    if episode.scenario.cluster is None:
        return
    cluster = episode.scenario.cluster
    for node, begin_s, end_s in episode.outages.tolist():
        for slot in range(cluster.pools[cluster.node_pool[node]].gpus_per_node):
            yield _complete("failed", NODES + node, slot, begin_s, end_s)


def _replicas(episode: Episode) -> Iterator[Event]:
    """Yield a complete event for every phase of every replica."""
    for replica, phase, begin_s, end_s in episode.phases.tolist():
        pid = SERVING + _service_of(episode, replica)
        yield _complete(REPLICA_PHASES[phase].upper(), pid, replica, begin_s, end_s)


def _requests(episode: Episode) -> Iterator[Event]:
    """Yield a slice for every request and, nested in it, one for every phase."""
    if not len(episode.stays):
        return
    stays, table = episode.stays, episode.tables["requests"]
    names = replica_names(episode.scenario)
    edges = np.flatnonzero(np.diff(stays["request"])) + 1
    for own in np.split(stays, edges):
        number = int(own["request"][0])
        pid = SERVING + int(table["service"][number])
        common = {"cat": "request", "id": number, "pid": pid, "tid": 0}
        args = {name: int(table[name][number]) for name in ("prompt_tokens", "output_tokens")}
        begin, end = _us(own["begin_s"][0]), _us(own["end_s"][-1])
        yield {"name": "request", "ph": "b", "ts": begin, **common, "args": args}
        for _, phase, replica, begin_s, end_s in own.tolist():
            name = "wait at router" if phase == ROUTER else REQUEST_PHASES[phase]
            where = {"replica": names[replica]} if replica >= 0 else {}
            yield {"name": name, "ph": "b", "ts": _us(begin_s), **common, "args": where}
            yield {"name": name, "ph": "e", "ts": _us(end_s), **common}
        yield {"name": "request", "ph": "e", "ts": end, **common}


def _decisions(episode: Episode) -> Iterator[Event]:
    """Yield an instant event for every decision."""
    scenario = episode.scenario
    names = {
        "route": [],
        "place": gang_names(episode) if len(episode.gangs) else [],
        "scale": role_names(scenario),
        "migrate": replica_names(scenario),
    }
    for row in episode.decisions:
        kind = DECISIONS[row["kind"]]
        args: Event = {"options": int(row["options"]), "refused": bool(row["refused"])}
        subject = int(row["subject"])
        if subject >= 0:
            args["subject"] = names[kind][subject] if names[kind] else f"request {subject}"
        if kind in ("route", "migrate") and row["choice"] >= 0:
            args["replica"] = replica_names(scenario)[row["choice"]]
        when = {"ph": "i", "ts": _us(row["time_s"]), "s": "t"}
        place = {"pid": DECIDING, "tid": int(row["kind"])}
        yield {"name": VERBS[row["verb"]], **when, **place, "args": args}


def _counters(episode: Episode) -> Iterator[Event]:
    """Yield what is counted, whenever it changes."""
    if "place" in episode.scenario.decisions:
        _, _, gpus, begins, ends = np.array(waits(episode), float).reshape(-1, 5).T
        yield from _steps("waiting for GPUs", np.ones(len(gpus)), begins, ends)
        yield from _steps("GPUs waited for", gpus, begins, ends)
    if "route" in episode.scenario.decisions:
        for name, phase in (("requests at the router", ROUTER), ("requests queued", QUEUE)):
            own = episode.stays[episode.stays["phase"] == phase]
            yield from _steps(name, np.ones(len(own)), own["begin_s"], own["end_s"])
    samples = episode.samples
    if samples.link_load.shape[1]:
        for time_s, loads in zip(samples.times_s.tolist(), samples.link_load, strict=True):
            load = {"mean": round(float(loads.mean()), 2), "max": int(loads.max())}
            yield _counter("link load, %", time_s, load)


def _steps(name: str, amounts: NDArray, begins: NDArray, ends: NDArray) -> Iterator[Event]:
    """Yield the sum of amounts under way, from 0 on, whenever it changes."""
    yield _counter(name, 0.0, {"number": 0})
    for time_s, amount in zip(*over_time(amounts, begins, ends), strict=True):
        yield _counter(name, time_s, {"number": round(amount)})


def _counter(name: str, time_s: float, args: dict[str, float]) -> Event:
    return {"name": name, "ph": "C", "ts": _us(time_s), "pid": CLUSTER, "tid": 0, "args": args}
