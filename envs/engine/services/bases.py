"""Base gangs: how they begin, and what becomes of one of which a part has failed.

With no termination delay a base gang is one gang for good: a node that fails takes all of it. With
one it splits when it has its devices, and a replica that fails queues alone. Then two clocks run:

- Grove's gang termination. If a role of a service that had its least replicas ready has had fewer
  for the delay, all gangs of the service end, and it begins anew; replicas beyond the least count,
  and one that loads is not ready. Source: ai-dynamo/grove, ``docs/designs/gang-termination.md``.
- KAI's eviction of stale gangs. If a part of a base gang has had devices and a part none for the
  grace period (60 s by default), that part loses them, and the base gang queues as a whole; so it
  does at once when no part has any. Source: NVIDIA/KAI-Scheduler,
  ``pkg/scheduler/actions/stalegangeviction``.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..gangs.lifecycle import end_run, pass_on
from ..gangs.records import RUNNING, UNSEEN
from ..serving.records import DRAINING, QUEUED, SERVING, STARTING
from .lifecycle import lose, open_gates, queue_up, withdraw


@kernel
def ask_for_services(w, e, now_s):
    """Let the base gangs queue of services that are asked for by now, and those up to initial."""
    for v in range(len(w.services)):
        rules, state = w.services[v], w.service_states[e, v]
        if state.asked == 1 or rules.asked_at_s > now_s:
            continue
        state.asked = 1
        for g in range(len(w.roles)):
            role = w.roles[g]
            if role.service == v:
                for r in range(role.first, role.first + role.initial):
                    w.replicas[e, r].phase = QUEUED
        if rules.base_gang >= 0:
            queue_up(w, e, rules.base_gang)
        open_gates(w, e)


@kernel
def split_bases(w, e):
    """Let each replica of a base gang that has got its devices stand in a gang of its own."""
    for v in range(len(w.services)):
        base = int(w.services[v].base_gang)
        if w.services[v].splits == 0 or w.jobs[e, base].status != RUNNING:
            continue
        rank = 0
        while w.senders[e, base].first_gpu >= 0:
            r = base_replica(w, v, rank)
            pass_on(w, e, base, w.replica_specs[r].gang)
            rank += w.replica_specs[r].gpus


@kernel
def base_replica(w, v, rank):
    """Return the replica whose first device has this rank in a service's base gang."""
    for r in range(len(w.replica_specs)):
        spec = w.replica_specs[r]
        if spec.service == v and spec.is_base == 1 and spec.base_rank == rank:
            return r
    return -1


@kernel
def is_ready(w, e, v):
    """Tell whether the least replicas of every role of a service serve."""
    for g in range(len(w.roles)):
        role, ready = w.roles[g], 0
        if role.service == v:
            for r in range(role.first, role.first + role.most):
                ready += w.replicas[e, r].phase == SERVING
            if ready < role.least:
                return False
    return True


@kernel
def count_held(w, e, v):
    """Return how many replicas of a service's base gang have their devices."""
    held = 0
    for r in range(len(w.replica_specs)):
        spec = w.replica_specs[r]
        is_held = spec.service == v and w.jobs[e, spec.gang].status == RUNNING
        held += is_held and spec.is_base == 1
    return held


@kernel
def watch_bases(w, e, now_s):
    """Let both clocks of each service run, begin or stop, and end what has been unwell too long."""
    for v in range(len(w.services)):
        rules, state = w.services[v], w.service_states[e, v]
        if rules.termination_delay_s == math.inf or state.asked == 0:
            continue
        if is_ready(w, e, v):
            state.was_ready, state.breached_s = 1, math.inf
        elif state.was_ready == 1:
            state.breached_s = min(state.breached_s, now_s)
        held = count_held(w, e, v)
        is_stale = 0 < held < rules.base_replicas
        state.stale_s = min(state.stale_s, now_s) if is_stale else math.inf
        if state.breached_s + rules.termination_delay_s <= now_s:
            end_gangs(w, e, v, now_s, False)
            state.was_ready, state.breached_s, state.stale_s = 0, math.inf, math.inf
            w.fleet[e].terminations += 1
        elif state.stale_s + rules.staleness_grace_s <= now_s:
            end_gangs(w, e, v, now_s, True)
            state.stale_s = math.inf
            w.fleet[e].evictions += 1
        elif held == 0 and w.jobs[e, rules.base_gang].status == UNSEEN:
            end_gangs(w, e, v, now_s, True)


@kernel
def next_base_s(w, e):
    """Return when a service is asked for, or has been unwell for too long, inf if none will."""
    moment_s = math.inf
    for v in range(len(w.services)):
        rules, state = w.services[v], w.service_states[e, v]
        moment_s = min(moment_s, state.breached_s + rules.termination_delay_s)
        moment_s = min(moment_s, state.stale_s + rules.staleness_grace_s)
        if state.asked == 0:
            moment_s = min(moment_s, rules.asked_at_s)
    return moment_s


@kernel
def end_gangs(w, e, v, now_s, base_alone):
    """Take the devices of all gangs of a service, or of its base gang alone, and let it queue."""
    for r in range(len(w.replica_specs)):
        spec = w.replica_specs[r]
        if spec.service == v and (spec.is_base == 1 or not base_alone):
            free(w, e, spec.gang)
    base = int(w.services[v].base_gang)
    free(w, e, base)
    for r in range(len(w.replica_specs)):
        replica, spec = w.replicas[e, r], w.replica_specs[r]
        if spec.service == v and (spec.is_base == 1 or not base_alone):
            if replica.phase in (STARTING, SERVING, DRAINING):
                lose(w, e, r, now_s, replica, spec)
    queue_up(w, e, base)


@kernel
def free(w, e, j):
    """Take a gang of replicas off its devices, or out of the queue."""
    if w.jobs[e, j].status == RUNNING:
        end_run(w, e, w.gangs[e], j)
        w.jobs[e, j].status = UNSEEN
    withdraw(w, e, j)
