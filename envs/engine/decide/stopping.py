"""Preempting a gang for another one, and what is seen of that where replicas may be stopped.

A gang of replicas that is preempted loses its devices as in a failure: its requests go back to the
router with the tokens that they have, and it queues again. A base gang runs as a whole or not at
all: where its replicas stand in gangs of their own, one takes the others along. Source: KAI, which
evicts a gang that falls below its required members (kai-scheduler/KAI-Scheduler, docs/elastic).
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..gangs.lifecycle import preempt
from ..gangs.moments import RESTART_S
from ..gangs.records import RUNNING
from ..serving.refusal import ended
from .columns import places, scaling, squash

CANDIDATE = places("candidates", "preempt")
OFFSET, SLOPE = scaling("candidates", "preempt")


@kernel(inline=False)
def stop(w, e, j):
    """Preempt a running gang, and with a replica of a base gang the others of that."""
    preempt(w, e, j)
    service = w.jobs[e, j].service
    if service < 0:
        return
    takes_base = is_of_base(w, j)
    if takes_base:
        w.jobs[e, w.services[service].base_gang].stopped_s = w.clock[e].now_s
    for r in range(len(w.replica_specs)):
        gang = int(w.replica_specs[r].gang)
        if not goes_along(w.replica_specs[r], j, service, takes_base):
            continue
        if w.jobs[e, gang].status == RUNNING:
            preempt(w, e, gang)
            w.fleet[e].preempted += 1
        elif gang == j:
            w.fleet[e].preempted += 1


@kernel
def look_again_s(w, e):
    """Return when gangs are decided about again while nothing happens to them, inf: never.

    Who may preempt replicas must not have to: while requests are there that these go on with, that
    is at the next round of decisions about replicas, or a second later where there are none.
    """
    if w.layout[0].info_preempt == 0:
        return math.inf
    router, tick_s = w.router[e], w.fleet[e].tick_s
    if tick_s < math.inf:
        return tick_s if ended(router) < router.num_requests else math.inf
    return w.clock[e].now_s + RESTART_S if router.arrived < router.num_requests else math.inf


@kernel
def is_of_base(w, j):
    """Tell whether a gang is a service's base gang or one of its replicas."""
    for r in range(len(w.replica_specs)):
        if w.replica_specs[r].gang == j:
            return w.replica_specs[r].is_base == 1
    return False


@kernel
def goes_along(spec, j, service, takes_base):
    """Tell whether a replica loses its devices with gang ``j``, if it has some."""
    return spec.gang == j or (takes_base and spec.service == service and spec.is_base == 1)


@kernel(inline=False)
def show_stop(w, e, row, j):
    """Fill the columns of preempting a gang of replicas."""
    service, takes_base = w.jobs[e, j].service, is_of_base(w, j)
    out = row[w.layout[0].candidates_preempt :]
    out[CANDIDATE.is_base] = takes_base
    for r in range(len(w.replica_specs)):
        spec = w.replica_specs[r]
        if goes_along(spec, j, service, takes_base) and w.jobs[e, spec.gang].status == RUNNING:
            out[CANDIDATE.replicas] += 1
            out[CANDIDATE.in_flight] += w.replicas[e, r].in_flight + w.replicas[e, r].holding
    squash(out, OFFSET, SLOPE)
