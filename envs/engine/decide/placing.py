"""From one of the engine's own plans to GPUs and uplinks."""

from __future__ import annotations

from ..core.compile import kernel
from ..core.owners import FREE
from ..core.units import unit
from ..devices.nodes import node_in_leaf
from ..gangs.lifecycle import release_uplink, start_gang
from ..gangs.plans import (
    ISOLATED,
    OPTICAL,
    SPREAD,
    choose,
    has_port,
    is_shared_free,
    is_unused,
    pool_nodes,
)
from ..gangs.records import PENDING, RUNNING


@kernel
def may_start(w, e, job):
    """Tell whether a pending gang may start now, quota and its own last stop permitting."""
    if job.status != PENDING or job.stopped_s == w.clock[e].now_s:
        return False
    return keeps_limits(w, e, job, 0)


@kernel
def keeps_limits(w, e, job, stops):
    """Tell whether its queue and those around it have room, once proposed gangs have stopped."""
    queue = job.tenant
    while queue >= 0:
        held = w.queue_gpus[e, queue] + job.gpus
        for i in range(stops):
            stopped = w.jobs[e, w.proposed_stops[e, i]]
            if is_in_queue(w, stopped, queue):
                held -= stopped.gpus
        if held > w.queue_limit[queue]:
            return False
        queue = w.queue_parent[queue]
    return True


@kernel
def is_in_queue(w, job, queue):
    """Tell whether a gang belongs to a queue or to one inside it."""
    own = job.tenant
    while own >= 0 and own != queue:
        own = w.queue_parent[own]
    return own == queue


@kernel
def may_stop(w, e, job):
    """Tell whether a running gang may be preempted now: not at the moment of its start."""
    allowed = w.gang_rules[0].preemption == 1 and job.protected == 0
    return allowed and job.status == RUNNING and job.start_s < w.clock[e].now_s


@kernel
def may_run_on(w, job, pool):
    """Tell whether a gang can and may use a pool."""
    return (job.pool < 0 or job.pool == pool) and w.speeds[job.kind, pool] > 0.0


@kernel
def list_nodes(w, e, job, spans, plan, gpus):
    """Write the GPUs of a chosen plan to ``order``, leaf by leaf and node by node."""
    slots = w.fabric[0].gpus_per_node
    rank = 0
    if job.gpus <= gpus:
        node = node_in_leaf(w, e, w.chosen[e, 0], job.gpus, plan == SPREAD)
        list_free(w, e, node, job.gpus, rank)
        return
    for i in range(spans):
        leaf = w.chosen[e, i]
        rest = w.counts[e, leaf]
        for node in range(w.leaf_begin[leaf], w.leaf_begin[leaf + 1]):
            if rest > 0 and w.node_free[e, node] == gpus:
                take = min(gpus, job.gpus - rank)
                for slot in range(take):
                    w.order[e, rank + slot] = node * slots + slot
                rank += take
                rest -= 1


@kernel
def list_free(w, e, node, count, rank):
    """Write ``count`` free GPUs of a node to ``order``, from ``rank`` on."""
    first = node * w.fabric[0].gpus_per_node
    for gpu in range(first, first + w.node_specs[node].gpus):
        if count > 0 and w.gpu_owner[e, gpu] == FREE:
            w.order[e, rank] = gpu
            rank += 1
            count -= 1


@kernel
def reserve(w, e, j, gpu, uplink, spine):
    """Make an unused uplink the gang's own; optical: set its circuit to ``spine``."""
    switch = w.gpu_switch[gpu]
    w.gpu_uplink[e, gpu] = uplink
    w.uplink_owner[e, switch, uplink] = j
    if w.fabric[0].optical == 1:
        w.circuits[e, switch, uplink] = spine
        w.ports[e, spine, uplink] += 1


@kernel
def gpu_of(w, e, begin, switch, index):
    """Return the ``index``-th GPU under a switch among the ranks from ``begin`` on."""
    rank = begin
    while True:
        gpu = w.order[e, rank]
        if w.gpu_switch[gpu] == switch:
            if index == 0:
                return gpu
            index -= 1
        rank += 1


@kernel
def reserve_common(w, e, j, spans, share):
    """Reserve the same uplinks at every chosen leaf, ``share`` GPUs each, one per GPU."""
    first = w.chosen[e, 0]
    rails = w.switch_begin[first + 1] - w.switch_begin[first]
    for rail in range(rails):
        index = 0
        for uplink in range(w.uplink_owner.shape[2]):
            if index == share // rails:
                break
            if not is_shared_free(w, e, spans, rail, uplink):
                continue
            for i in range(spans):
                switch = w.switch_begin[w.chosen[e, i]] + rail
                reserve(w, e, j, gpu_of(w, e, i * share, switch, index), uplink, -1)
            index += 1


@kernel
def find_circuit(w, e, switch, spine):
    """Return an unused uplink of a switch whose optical switch has a free port to a spine; -1."""
    for uplink in range(w.uplink_owner.shape[2]):
        if is_unused(w, e, switch, uplink) and has_port(w, e, spine, uplink):
            return uplink
    return -1


@kernel
def reserve_circuits(w, e, j, spans, share):
    """Give every leaf's n-th GPU a circuit to one spine; False if ports run out midway."""
    first = w.chosen[e, 0]
    rails = w.switch_begin[first + 1] - w.switch_begin[first]
    for rail in range(rails):
        spine = 0
        for index in range(share // rails):
            while not join(w, e, j, spans, share, rail, index, spine):
                spine += 1
                if spine == w.fabric[0].spines:
                    return False
    return True


@kernel(inline=False)
def join(w, e, j, spans, share, rail, index, spine):
    """Give the ``index``-th GPU of a rail on every chosen leaf a circuit to ``spine``, or none."""
    for i in range(spans):
        switch = w.switch_begin[w.chosen[e, i]] + rail
        uplink = find_circuit(w, e, switch, spine)
        if uplink < 0:
            for before in range(i):
                other = w.switch_begin[w.chosen[e, before]] + rail
                release_uplink(w, e, gpu_of(w, e, before * share, other, index))
            return False
        reserve(w, e, j, gpu_of(w, e, i * share, switch, index), uplink, spine)
    return True


@kernel
def undo_reservation(w, e, j):
    """Give back what a failed reservation took."""
    for rank in range(w.jobs[e, j].gpus):
        release_uplink(w, e, w.order[e, rank])
    w.senders[e, j].reserved = 0


@unit
def place(w, e, j, plan, pool) -> bool:
    """Start a pending gang by one of the engine's plans; False if that is not possible."""
    job = w.jobs[e, j]
    if plan >= w.gang_rules[0].plans or not (may_start(w, e, job) and may_run_on(w, job, pool)):
        return False
    spans = choose(w, e, j, plan, pool)
    if spans == 0:
        return False
    gpus = pool_nodes(w, pool)
    list_nodes(w, e, job, spans, plan, gpus)
    if plan == ISOLATED:
        reserve_common(w, e, j, spans, job.gpus // spans)
        w.senders[e, j].reserved = 1
    elif plan == OPTICAL:
        if not reserve_circuits(w, e, j, spans, job.gpus // spans):
            undo_reservation(w, e, j)
            return False
        w.senders[e, j].reserved = 1
    start_gang(w, e, j, plan)
    return True
