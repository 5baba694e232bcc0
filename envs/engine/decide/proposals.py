"""Plans that a planner proposes: checked like any candidate, then carried out."""

from __future__ import annotations

from ..core.compile import kernel
from ..core.owners import FREE
from ..core.units import unit
from ..gangs.domains import level_between
from ..gangs.lifecycle import start_gang
from ..gangs.plans import NODE, has_port, has_way_up, is_unused
from ..gangs.records import PENDING, RUNNING
from .placing import keeps_limits, may_run_on, may_stop, reserve, undo_reservation
from .stopping import stop

OWN = -1  # plan number of a planner's proposal


@unit
def carry_out(w, e) -> bool:
    """Carry out a planner's proposal: preempt, then start; False if any of it is not allowed.

    Nothing happens unless gangs and GPUs are in order; if only the uplinks are not, the gangs that
    it preempts stay preempted.
    """
    gangs, j, stops = w.gangs[e], int(w.proposal[e, 0]), int(w.proposal[e, 1])
    w.proposal[e, 0], w.proposal[e, 1] = -1, 0
    if (j < 0 and stops == 0) or j >= gangs.arrived:
        return False
    allowed = are_stoppable(w, e, stops) and (j < 0 or is_placeable(w, e, j, stops))
    for i in range(stops):
        victim = int(w.proposed_stops[e, i])
        if 0 <= victim < gangs.arrived:
            w.jobs[e, victim].stopping = 0
            if allowed and w.jobs[e, victim].status == RUNNING:  # not gone with one before it
                stop(w, e, victim)
    if not allowed or j < 0:
        return allowed
    for rank in range(w.jobs[e, j].gpus):
        w.order[e, rank] = w.proposed_gpus[e, rank]
    if not reserve_proposed(w, e, j):
        undo_reservation(w, e, j)
        return False
    start_gang(w, e, j, OWN)
    return True


@kernel
def are_stoppable(w, e, stops):
    """Mark the gangs to be preempted; False if one of them cannot be, or is named twice."""
    for i in range(stops):
        victim = w.proposed_stops[e, i]
        if not 0 <= victim < w.gangs[e].arrived:
            return False
        job = w.jobs[e, victim]
        if job.stopping == 1 or not may_stop(w, e, job):
            return False
        job.stopping = 1
    return True


@kernel
def is_placeable(w, e, j, stops):
    """Tell whether gang ``j`` may run on the proposed GPUs once others have been preempted."""
    job, slots = w.jobs[e, j], w.fabric[0].gpus_per_node
    if job.status != PENDING or job.stopped_s == w.clock[e].now_s:
        return False
    if not keeps_limits(w, e, job, stops):
        return False
    w.devices[e].mark += 1
    first_node = max(w.proposed_gpus[e, 0], 0) // slots
    widest = NODE
    for rank in range(job.gpus):
        gpu = w.proposed_gpus[e, rank]
        if gpu < 0 or gpu >= w.gpu_owner.shape[1] or w.gpu_mark[e, gpu] == w.devices[e].mark:
            return False
        w.gpu_mark[e, gpu] = w.devices[e].mark
        owner = w.gpu_owner[e, gpu]
        if owner != FREE and (owner < 0 or w.jobs[e, owner].stopping == 0):
            return False
        pool = w.node_specs[gpu // slots].pool
        if pool != w.node_specs[first_node].pool or not may_run_on(w, job, pool):
            return False
        widest = max(widest, level_between(w, first_node, gpu // slots))
    return widest <= job.required


@kernel
def reserve_proposed(w, e, j):
    """Reserve the uplinks proposed for the ranks in ``order``; False if one cannot be."""
    fabric, job, sender = w.fabric[0], w.jobs[e, j], w.senders[e, j]
    for rank in range(job.gpus):
        uplink, spine = w.proposed_uplinks[e, rank], w.proposed_circuits[e, rank]
        if uplink < 0:
            continue
        gpu = w.order[e, rank]
        if uplink >= fabric.uplinks or not is_unused(w, e, w.gpu_switch[gpu], uplink):
            return False
        if fabric.optical == 1:
            if not 0 <= spine < fabric.spines or not has_port(w, e, spine, uplink):
                return False
        reserve(w, e, j, gpu, uplink, spine)
        sender.reserved = 1
    return is_joined(w, e, job) if sender.reserved == 1 else may_share(w, e, job)


@kernel
def may_share(w, e, job):
    """Tell whether a gang without links of its own stays under a leaf or finds open uplinks."""
    slots = w.fabric[0].gpus_per_node
    first_leaf = w.node_specs[w.order[e, 0] // slots].leaf
    spreads = False
    for rank in range(job.gpus):
        spreads = spreads or w.node_specs[w.order[e, rank] // slots].leaf != first_leaf
    if spreads:
        for rank in range(job.gpus):
            if not has_way_up(w, e, w.node_specs[w.order[e, rank] // slots].leaf):
                return False
    return True


@kernel
def is_joined(w, e, job):
    """Tell whether every reserved uplink leads to each leaf that the gang spans.

    For that the gang must own, at the switch of the same rail of each leaf, an uplink to the same
    spine.
    """
    leafs = count_leafs(w, e, job, -1, -1)
    for rank in range(job.gpus):
        gpu = w.order[e, rank]
        uplink = w.gpu_uplink[e, gpu]
        if uplink >= 0:
            spine = int(w.circuits[e, w.gpu_switch[gpu], uplink])
            if count_leafs(w, e, job, int(rail_of(w, gpu)), spine) < leafs:
                return False
    return True


@kernel
def rail_of(w, gpu):
    """Return which of its leaf's switches a GPU hangs at."""
    leaf = w.node_specs[gpu // w.fabric[0].gpus_per_node].leaf
    return w.gpu_switch[gpu] - w.switch_begin[leaf]


@kernel
def count_leafs(w, e, job, rail, spine):
    """Return on how many leafs the gang has GPUs; given a spine, those with an uplink to it."""
    w.counts[e, :] = 0
    found = 0
    for rank in range(job.gpus):
        gpu = w.order[e, rank]
        leaf = w.node_specs[gpu // w.fabric[0].gpus_per_node].leaf
        if w.counts[e, leaf] > 0:
            continue
        if spine >= 0:
            uplink = w.gpu_uplink[e, gpu]
            if uplink < 0 or rail_of(w, gpu) != rail:
                continue
            if w.circuits[e, w.gpu_switch[gpu], uplink] != spine:
                continue
        w.counts[e, leaf] = 1
        found += 1
    return found
