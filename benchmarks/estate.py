"""An estate of dependent batch jobs on two clusters: who runs when, and who is late.

Every day each job runs once, as soon as all jobs it depends on have run and a slot of its cluster
is free; the most urgent job goes first (EDF: Liu and Layland, J. ACM 20(1), 1973, list scheduled,
with deadlines handed on to what a job waits for). What a job writes must be copied over one link,
first come first served, before a job of the other cluster can read it. A service takes part of both
clusters by the hour of the day; no job is stopped for it. At midnight what has not run is given up
and counts as late.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400.0
OLD, NEW = 0, 1

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estate:
    """Jobs in an order in which each comes after all that it depends on; N jobs, E dependencies.

    Attributes:
        flow: the flow each belongs to, shape (N,).
        release_s: earliest start after midnight, shape (N,).
        duration_s: run time, shape (N,).
        due_s: deadline after midnight, inf: none, shape (N,).
        urgent_s: latest end with which those that wait for it can still keep theirs, shape (N,).
        output_bytes: what a later job reads of it, shape (N,).
        before: dependencies of job i are ``depends[before[i]:before[i + 1]]``, shape (N + 1,).
        depends: jobs, shape (E,).
        found_day: day on which the owner is known, without whom it cannot move, shape (N,).
    """

    flow: Ints
    release_s: Floats
    duration_s: Floats
    due_s: Floats
    urgent_s: Floats
    output_bytes: Floats
    before: Ints
    depends: Ints
    found_day: Floats

    @property
    def after(self) -> tuple[Ints, Ints]:
        """The dependencies the other way round: begins, shape (N + 1,), and jobs, shape (E,)."""
        count = len(self.duration_s)
        later = np.repeat(np.arange(count), np.diff(self.before))
        order = np.argsort(self.depends, kind="stable")
        begins = np.searchsorted(self.depends[order], np.arange(count + 1))
        return begins.astype(np.int64), later[order].astype(np.int64)


@dataclass(frozen=True)
class Clusters:
    """Where the jobs run.

    Attributes:
        slots: that jobs may hold on each cluster by the hour of the day, shape (2, 24).
        link_bytes_per_s: between both.
    """

    slots: Ints
    link_bytes_per_s: float


def day(estate: Estate, clusters: Clusters, where: Ints, duration_s: Floats) -> Floats:
    """Return when each job of one day has run, shape (N,); inf: not before midnight.

    Args:
        estate: the jobs.
        clusters: where they run.
        where: cluster of each job, OLD or NEW; -1: it does not run, shape (N,).
        duration_s: run times of this day, shape (N,).
    """
    begins, later = estate.after
    finish_s = np.full(len(where), math.inf)
    _run_day(
        (estate.release_s, duration_s, estate.urgent_s, estate.output_bytes),
        (begins, later, np.diff(estate.before)),
        where,
        clusters.slots,
        clusters.link_bytes_per_s,
        finish_s,
    )
    return finish_s


@nb.njit(cache=True)
def _run_day(jobs, graph, where, slots, link_bytes_per_s, finish_s):
    """Play one day by events: (when, -1: an hour begins; job: may start; job + N: has run)."""
    release_s, duration_s, urgent_s, output_bytes = jobs
    begins, later, waits = graph
    count, link_free_s = len(where), 0.0
    open_, can_s = waits.copy(), release_s.copy()
    events = [(hour * 3600.0, -1) for hour in range(24)]
    for job in range(count):
        if open_[job] == 0 and where[job] >= 0:
            events.append((release_s[job], job))
    heapq.heapify(events)
    ready = [[(math.inf, count)], [(math.inf, count)]]  # the last one each is no job
    free, held = np.zeros(2, np.int64), np.zeros(2, np.int64)
    while len(events) > 0 and events[0][0] < DAY_S:
        now_s, event = heapq.heappop(events)
        if event < 0:
            free[:] = slots[:, int(now_s // 3600)] - held
        elif event < count:
            heapq.heappush(ready[where[event]], (urgent_s[event], event))
        else:
            job = event - count
            finish_s[job] = now_s
            held[where[job]] -= 1
            free[where[job]] += 1
            copied_s = 0.0
            for other in later[begins[job] : begins[job + 1]]:
                if where[other] >= 0 and where[other] != where[job]:
                    if copied_s == 0.0:
                        link_free_s = max(link_free_s, now_s) + output_bytes[job] / link_bytes_per_s
                        copied_s = link_free_s
                    can_s[other] = max(can_s[other], copied_s)
                open_[other] -= 1
                if open_[other] == 0 and where[other] >= 0:
                    heapq.heappush(events, (max(can_s[other], now_s), other))
        for cluster in range(2):
            while free[cluster] > 0 and len(ready[cluster]) > 1:
                _, job = heapq.heappop(ready[cluster])
                free[cluster] -= 1
                held[cluster] += 1
                heapq.heappush(events, (now_s + duration_s[job], job + count))


def generate(count: int, rng: np.random.Generator) -> Estate:
    """Return an estate of ``count`` jobs; all numbers are assumptions, see docs/studies.md."""
    flow, first = _flows(count, rng)
    at_night = rng.random(flow[-1] + 1) < 0.7
    begin_s = np.where(
        at_night, rng.uniform(0, 5, len(at_night)), rng.uniform(0, 18, len(at_night))
    )
    release_s = begin_s[flow] * 3600.0
    duration_s = rng.lognormal(math.log(180.0), 1.2, count).clip(5.0, 7200.0)
    before, depends = _dependencies(flow, first, release_s, rng)
    earliest_s, is_last = _earliest(release_s, duration_s, before, depends)
    slack = rng.uniform(1.5, 6.0, count)
    due_s = release_s + slack * (earliest_s - release_s) + 1800.0
    due_s = np.where(is_last & (due_s < DAY_S), due_s, math.inf)
    return Estate(
        flow=flow,
        release_s=release_s,
        duration_s=duration_s,
        due_s=due_s,
        urgent_s=_urgent(due_s, duration_s, before, depends),
        output_bytes=rng.lognormal(math.log(2e8), 1.5, count),
        before=before,
        depends=depends,
        found_day=np.where(rng.random(count) < 0.85, 0.0, rng.exponential(20.0, count)),
    )


def _flows(count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return the flow of each job and the first job of its flow."""
    sizes = np.ceil(rng.lognormal(math.log(12.0), 1.3, count)).astype(np.int64)
    ends = np.cumsum(sizes)
    flow = np.searchsorted(ends, np.arange(count), side="right").astype(np.int64)
    return flow, (ends - sizes)[flow]


def _dependencies(
    flow: Ints, first: Ints, release_s: Floats, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Return what each job waits for: earlier jobs of its flow, seldom one of another flow.

    The first of a flow waits for none; one of another flow is never released later.
    """
    found: list[list[int]] = []
    for job in range(len(flow)):
        mine: set[int] = set()
        if job > first[job]:
            mine |= {int(at) for at in rng.integers(first[job], job, 1 + (rng.random() < 0.3))}
        other = int(rng.integers(0, job)) if job and rng.random() < 0.03 else job
        if flow[other] != flow[job] and release_s[other] <= release_s[job]:
            mine.add(other)
        found.append(sorted(mine))
    before = np.concatenate(([0], np.cumsum([len(mine) for mine in found])))
    return before, np.array([at for mine in found for at in mine], np.int64)


def _earliest(
    release_s: Floats, duration_s: Floats, before: Ints, depends: Ints
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return when each job would have run with slots for all, and whether nothing waits for it."""
    earliest_s = np.zeros(len(duration_s))
    for job, own_s in enumerate(duration_s):
        waits = earliest_s[depends[before[job] : before[job + 1]]]
        earliest_s[job] = max(release_s[job], waits.max(initial=0.0)) + own_s
    is_last = np.ones(len(duration_s), bool)
    is_last[depends] = False
    return earliest_s, is_last


def _urgent(due_s: Floats, duration_s: Floats, before: Ints, depends: Ints) -> Floats:
    """Return the latest end of each job that lets all that wait for it keep their deadlines."""
    urgent_s = due_s.copy()
    for job in range(len(due_s) - 1, -1, -1):
        waits = depends[before[job] : before[job + 1]]
        np.minimum.at(urgent_s, waits, urgent_s[job] - duration_s[job])
    return urgent_s
