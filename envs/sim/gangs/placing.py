"""From a plan to GPUs and uplinks: the engine's own plans, and those that a planner proposes."""

from __future__ import annotations

from ..compile import kernel
from .lifecycle import preempt, release_uplink, start_gang
from .nodes import node_in_leaf
from .plans import (
    IN_POD,
    ISOLATED,
    LEAF,
    NODE,
    OPTICAL,
    SPREAD,
    ZONE,
    choose,
    has_port,
    has_way_up,
    is_shared_free,
    is_unused,
    pool_nodes,
)
from .records import FREE, PENDING, RUNNING

OWN = -1  # plan number of a planner's proposal


@kernel
def may_start(w, e, env, job):
    """Tell whether a pending gang may start now, quota and its own last stop permitting."""
    if job.status != PENDING or job.stopped_s == env.now_s:
        return False
    return w.tenant_gpus[e, job.tenant] + job.gpus <= w.quotas[job.tenant]


@kernel
def may_stop(w, env, job):
    """Tell whether a running gang may be preempted now: not at the moment of its start."""
    return w.config[0].preemption == 1 and job.status == RUNNING and job.start_s < env.now_s


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
    for gpu in range(first, first + w.specs[node].gpus):
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
            while spine < w.fabric[0].spines and not reach(w, e, spans, rail, spine):
                spine += 1
            if spine == w.fabric[0].spines:
                return False
            for i in range(spans):
                switch = w.switch_begin[w.chosen[e, i]] + rail
                uplink = find_circuit(w, e, switch, spine)
                if uplink < 0:  # two of these leafs wanted the same port
                    return False
                reserve(w, e, j, gpu_of(w, e, i * share, switch, index), uplink, spine)
    return True


@kernel
def reach(w, e, spans, rail, spine):
    """Tell whether every chosen leaf has an unused uplink that a circuit can join to ``spine``."""
    for i in range(spans):
        if find_circuit(w, e, w.switch_begin[w.chosen[e, i]] + rail, spine) < 0:
            return False
    return True


@kernel
def undo_reservation(w, e, job):
    """Give back what a failed reservation took."""
    for rank in range(job.gpus):
        gpu = w.order[e, rank]
        uplink = w.gpu_uplink[e, gpu]
        if uplink >= 0:
            switch = w.gpu_switch[gpu]
            release_uplink(w, e, switch, uplink)
            w.gpu_uplink[e, gpu] = -1
    job.reserved = 0


@kernel(inline=False)
def place(w, e, env, j, plan, pool):
    """Start a pending gang by one of the engine's plans; False if that is not possible."""
    job = w.jobs[e, j]
    if plan >= w.config[0].plans or not (may_start(w, e, env, job) and may_run_on(w, job, pool)):
        return False
    spans = choose(w, e, job, plan, pool)
    if spans == 0:
        return False
    gpus = pool_nodes(w, pool)
    list_nodes(w, e, job, spans, plan, gpus)
    if plan == ISOLATED:
        reserve_common(w, e, j, spans, job.gpus // spans)
        job.reserved = 1
    elif plan == OPTICAL:
        if not reserve_circuits(w, e, j, spans, job.gpus // spans):
            undo_reservation(w, e, job)
            return False
        job.reserved = 1
    start_gang(w, e, env, j, plan)
    return True


@kernel(inline=False)
def carry_out(w, e, env):
    """Carry out a planner's proposal: preempt, then start; False if any of it is not allowed.

    Nothing happens unless gangs and GPUs are in order; if only the uplinks are not, the gangs that
    it preempts stay preempted.
    """
    j, stops = int(w.proposal[e, 0]), int(w.proposal[e, 1])
    w.proposal[e, 0], w.proposal[e, 1] = -1, 0
    if (j < 0 and stops == 0) or j >= env.arrived:
        return False
    allowed = are_stoppable(w, e, env, stops) and (j < 0 or is_placeable(w, e, env, j, stops))
    for i in range(stops):
        stop = int(w.proposed_stops[e, i])
        if 0 <= stop < env.arrived:
            w.jobs[e, stop].stopping = 0
            if allowed:
                preempt(w, e, env, stop)
    if not allowed or j < 0:
        return allowed
    for rank in range(w.jobs[e, j].gpus):
        w.order[e, rank] = w.proposed_gpus[e, rank]
    if not reserve_proposed(w, e, j):
        undo_reservation(w, e, w.jobs[e, j])
        return False
    start_gang(w, e, env, j, OWN)
    return True


@kernel
def are_stoppable(w, e, env, stops):
    """Mark the gangs to be preempted; False if one of them cannot be, or is named twice."""
    for i in range(stops):
        stop = w.proposed_stops[e, i]
        if not 0 <= stop < env.arrived:
            return False
        job = w.jobs[e, stop]
        if job.stopping == 1 or not may_stop(w, env, job):
            return False
        job.stopping = 1
    return True


@kernel
def is_placeable(w, e, env, j, stops):
    """Tell whether gang ``j`` may run on the proposed GPUs once others have been preempted."""
    job, slots = w.jobs[e, j], w.fabric[0].gpus_per_node
    if job.status != PENDING or job.stopped_s == env.now_s:
        return False
    held = w.tenant_gpus[e, job.tenant] + job.gpus
    for i in range(stops):
        stopped = w.jobs[e, w.proposed_stops[e, i]]
        if stopped.tenant == job.tenant:
            held -= stopped.gpus
    if held > w.quotas[job.tenant]:
        return False
    env.mark += 1
    first_node = max(w.proposed_gpus[e, 0], 0) // slots
    widest = NODE
    for rank in range(job.gpus):
        gpu = w.proposed_gpus[e, rank]
        if gpu < 0 or gpu >= w.gpu_owner.shape[1] or w.gpu_mark[e, gpu] == env.mark:
            return False
        w.gpu_mark[e, gpu] = env.mark
        owner = w.gpu_owner[e, gpu]
        if owner != FREE and (owner < 0 or w.jobs[e, owner].stopping == 0):
            return False
        pool = w.specs[gpu // slots].pool
        if pool != w.specs[first_node].pool or not may_run_on(w, job, pool):
            return False
        widest = max(widest, level_between(w, first_node, gpu // slots))
    return widest <= job.required


@kernel
def level_between(w, a, b):
    """Return the level of the narrowest domain that holds two nodes."""
    if a == b:
        return NODE
    if w.specs[a].leaf == w.specs[b].leaf:
        return LEAF
    return IN_POD if w.specs[a].pod == w.specs[b].pod else ZONE


@kernel
def reserve_proposed(w, e, j):
    """Reserve the uplinks proposed for the ranks in ``order``; False if one cannot be."""
    fabric, job = w.fabric[0], w.jobs[e, j]
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
        job.reserved = 1
    return is_joined(w, e, job) if job.reserved == 1 else may_share(w, e, job)


@kernel
def may_share(w, e, job):
    """Tell whether a gang without links of its own stays under a leaf or finds open uplinks."""
    slots = w.fabric[0].gpus_per_node
    first_leaf = w.specs[w.order[e, 0] // slots].leaf
    spreads = False
    for rank in range(job.gpus):
        spreads = spreads or w.specs[w.order[e, rank] // slots].leaf != first_leaf
    if spreads:
        for rank in range(job.gpus):
            if not has_way_up(w, e, w.specs[w.order[e, rank] // slots].leaf):
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
    leaf = w.specs[gpu // w.fabric[0].gpus_per_node].leaf
    return w.gpu_switch[gpu] - w.switch_begin[leaf]


@kernel
def count_leafs(w, e, job, rail, spine):
    """Return on how many leafs the gang has GPUs; given a spine, those with an uplink to it."""
    w.counts[e, :] = 0
    found = 0
    for rank in range(job.gpus):
        gpu = w.order[e, rank]
        leaf = w.specs[gpu // w.fabric[0].gpus_per_node].leaf
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
