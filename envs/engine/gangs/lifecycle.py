"""The life of a gang: it arrives, starts, is preempted or loses a node, and finishes."""

from __future__ import annotations

import math

from ...reward import SHORTEST_RUN_S
from ..core.compile import kernel
from ..core.owners import FREE
from ..core.units import unit
from ..devices.nodes import give_gpu, take_gpu, take_node_down
from ..network.traffic import enter, leave
from .records import FINISHED, PENDING, RUNNING, UNSEEN
from .saving import begin_saving


@kernel
def enqueue(w, e, gangs, j):
    """Put a gang into the queue, at the place of its arrival."""
    behind = gangs.queue_tail
    while behind > j:
        behind = w.jobs[e, behind].before
    job = w.jobs[e, j]
    job.before = behind
    if behind >= 0:
        job.next = w.jobs[e, behind].next
        w.jobs[e, behind].next = j
    else:
        job.next = gangs.queue_head
        gangs.queue_head = j
    if job.next >= 0:
        w.jobs[e, job.next].before = j
    else:
        gangs.queue_tail = j
    job.status = PENDING
    count_pending(w, e, gangs, job, 1)


@kernel
def dequeue(w, e, gangs, j):
    """Take a gang out of the queue."""
    job = w.jobs[e, j]
    if job.before >= 0:
        w.jobs[e, job.before].next = job.next
    else:
        gangs.queue_head = job.next
    if job.next >= 0:
        w.jobs[e, job.next].before = job.before
    else:
        gangs.queue_tail = job.before
    count_pending(w, e, gangs, job, -1)


@kernel
def count_pending(w, e, gangs, job, sign):
    """Add a gang to what waits, in all and of its queue and those around it, or take it off."""
    gangs.pending += sign
    gangs.pending_gpus += sign * job.gpus
    if job.service < 0:
        gangs.pending_jobs += sign
        gangs.pending_weight += sign * (1.0 + job.priority)
    queue = job.tenant
    while queue >= 0:
        w.queue_asked[e, queue] += sign * job.gpus
        queue = w.queue_parent[queue]


@kernel
def is_listed(job):
    """Tell whether a gang is listed while it runs: a job, or replicas that may be preempted."""
    return job.service < 0 or job.protected == 0


@kernel
def list_running(w, e, gangs, j):
    """Put a gang in front of those that may be stopped: the latest start comes first."""
    job = w.jobs[e, j]
    job.before = -1
    job.next = gangs.running_head
    if job.next >= 0:
        w.jobs[e, job.next].before = j
    gangs.running_head = j
    gangs.running += job.service < 0


@kernel
def unlist_running(w, e, gangs, j):
    """Take a gang from those that may be stopped."""
    job = w.jobs[e, j]
    if job.before >= 0:
        w.jobs[e, job.before].next = job.next
    else:
        gangs.running_head = job.next
    if job.next >= 0:
        w.jobs[e, job.next].before = job.before
    gangs.running -= job.service < 0


@kernel
def occupy(w, e, j):
    """Give the gang the GPUs in ``order``, note how far it spreads and how fast it computes."""
    job = w.jobs[e, j]
    w.senders[e, j].first_gpu = w.order[e, 0]
    for rank in range(job.gpus):
        gpu = w.order[e, rank]
        take_gpu(w, e, gpu, j)
        w.gpu_next[e, gpu] = w.order[e, rank + 1] if rank + 1 < job.gpus else -1
        use_gpu(w, e, job, gpu, 1)
    spread(w, e, j)
    count_in_queues(w, e, job, 1)


@kernel
def spread(w, e, j):
    """Note over how many nodes and leafs the GPUs of a gang spread, and how fast it computes."""
    job, sender, slots = w.jobs[e, j], w.senders[e, j], w.fabric[0].gpus_per_node
    devices = w.devices[e]
    job.nodes, sender.speed = 0, math.inf
    devices.mark += 1
    gpu = sender.first_gpu
    while gpu >= 0:
        node = gpu // slots
        if w.gpu_mark[e, node * slots] != devices.mark:
            w.gpu_mark[e, node * slots] = devices.mark
            job.nodes += 1
            speed = w.node_speed[e, node] * w.speeds[job.kind, w.node_specs[node].pool]
            sender.speed = min(sender.speed, speed)
        gpu = w.gpu_next[e, gpu]
    job.leafs = mark_leafs(w, e, j)
    count_on_leafs(w, e, job, 1)


@kernel
def count_in_queues(w, e, job, sign):
    """Add the gang's GPUs to what its queue and those around it hold, or take them off."""
    queue = job.tenant
    while queue >= 0:
        w.queue_gpus[e, queue] += sign * job.gpus
        queue = w.queue_parent[queue]


@kernel
def use_gpu(w, e, job, gpu, sign):
    """Add what a GPU of the gang uses to what is observed and paid, or take it off."""
    spec, kind = w.node_specs[gpu // w.fabric[0].gpus_per_node], w.kinds[job.kind]
    w.devices[e].power_w += sign * (spec.busy_w - spec.idle_w)
    w.devices[e].price_per_s += sign * spec.price_per_h / 3600.0
    at, share = gpu, 1.0
    if w.gang_rules[0].aggregate == 1:
        at = spec.leaf
        nodes = w.leaf_begin[at + 1] - w.leaf_begin[at]
        share = 1.0 / (nodes * spec.gpus)
    w.used_memory[e, at] += sign * share * min(kind.memory_bytes / spec.memory_bytes, 1.0)
    w.used_load[e, at] += sign * share * min(kind.load, 1.0)


@kernel
def mark_leafs(w, e, j):
    """Set ``counts`` to 1 for the leafs that the gang spans, 0 for others; returns how many."""
    w.counts[e, :] = 0
    spans = 0
    gpu = w.senders[e, j].first_gpu
    while gpu >= 0:
        leaf = w.node_specs[gpu // w.fabric[0].gpus_per_node].leaf
        spans += 1 - w.counts[e, leaf]
        w.counts[e, leaf] = 1
        gpu = w.gpu_next[e, gpu]
    return spans


@kernel
def count_on_leafs(w, e, job, sign):
    """Count a gang of several leafs, which ``mark_leafs`` has marked, on each of them."""
    if job.leafs > 1:
        for leaf in range(len(w.leaf_pods)):
            w.leaf_gangs[e, leaf] += sign * w.counts[e, leaf]


@kernel
def vacate(w, e, j):
    """Give the gang's GPUs and uplinks back."""
    job, sender = w.jobs[e, j], w.senders[e, j]
    mark_leafs(w, e, j)
    count_on_leafs(w, e, job, -1)
    gpu = sender.first_gpu
    while gpu >= 0:
        use_gpu(w, e, job, gpu, -1)
        release_uplink(w, e, gpu)
        give_gpu(w, e, gpu)
        gpu = w.gpu_next[e, gpu]
    count_in_queues(w, e, job, -1)
    sender.first_gpu = -1
    sender.reserved = 0


@kernel
def pass_on(w, e, j, heir):
    """Give the first GPUs of a running gang to another gang, which runs from now on.

    That gets as many as it has ranks, with the uplinks that are theirs; a gang without GPUs ends.
    """
    job, other, now_s = w.jobs[e, j], w.jobs[e, heir], w.clock[e].now_s
    sender, follower = w.senders[e, j], w.senders[e, heir]
    mark_leafs(w, e, j)
    count_on_leafs(w, e, job, -1)
    follower.first_gpu, follower.reserved = sender.first_gpu, sender.reserved
    gpu, last = sender.first_gpu, -1
    for _ in range(other.gpus):
        use_gpu(w, e, job, gpu, -1)
        use_gpu(w, e, other, gpu, 1)
        w.gpu_owner[e, gpu] = heir
        if w.gpu_uplink[e, gpu] >= 0:
            w.uplink_owner[e, w.gpu_switch[gpu], w.gpu_uplink[e, gpu]] = heir
        gpu, last = w.gpu_next[e, gpu], gpu
    w.gpu_next[e, last] = -1
    sender.first_gpu = gpu
    spread(w, e, heir)
    other.plan, other.status, other.start_s = job.plan, RUNNING, now_s
    if math.isnan(other.first_start_s):
        other.first_start_s = now_s
    if is_listed(other):
        list_running(w, e, w.gangs[e], heir)
    if gpu >= 0:
        spread(w, e, j)
    else:
        if is_listed(job):
            unlist_running(w, e, w.gangs[e], j)
        job.ran_s += now_s - job.start_s
        job.status, sender.reserved = UNSEEN, 0


@kernel
def release_uplink(w, e, gpu):
    """Give back the uplink of its own that a GPU sends through, if any; a circuit goes dark."""
    switch, uplink = w.gpu_switch[gpu], w.gpu_uplink[e, gpu]
    if uplink < 0:
        return
    w.gpu_uplink[e, gpu] = -1
    w.uplink_owner[e, switch, uplink] = FREE
    if w.fabric[0].optical == 1:
        w.ports[e, w.circuits[e, switch, uplink], uplink] -= 1
        w.circuits[e, switch, uplink] = -1


@unit
def start_gang(w, e, j, plan):
    """Start a pending gang on the GPUs in ``order``; its uplinks stand in ``gpu_uplink``.

    A service's gang holds its devices until it is told to end, or preempted.
    """
    gangs, job, sender = w.gangs[e], w.jobs[e, j], w.senders[e, j]
    now_s = w.clock[e].now_s
    dequeue(w, e, gangs, j)
    occupy(w, e, j)
    job.plan = plan
    job.status = RUNNING
    job.start_s = now_s
    if math.isnan(job.first_start_s):
        job.first_start_s = now_s
    if is_listed(job):
        list_running(w, e, gangs, j)
    if job.service >= 0:
        return
    begin_saving(w, e, j)
    if sender.reserved == 1 and w.fabric[0].optical == 1:
        add_delay(w, e, j, w.fabric[0].reconfigure_s)
    sender.pattern, sender.ranks = job.kind, job.gpus
    sender.scale, sender.comm_scale = job.scale, job.comm_scale
    enter(w, e, j, now_s)
    job.ideal_run_s += sender.iterations_left * sender.ideal_s


@kernel
def add_delay(w, e, j, seconds):
    """Make a gang's run longer by so many seconds of undisturbed work."""
    job = w.jobs[e, j]
    w.senders[e, j].iterations_left += seconds * job.iterations / job.duration_s


@kernel(inline=False)
def end_run(w, e, gangs, j):
    """Take a gang off its GPUs and count its run time; the network brings its progress up to now.

    Call before anything else changes at this moment.
    """
    job, sender, now_s = w.jobs[e, j], w.senders[e, j], w.clock[e].now_s
    if job.service < 0:
        leave(w, e, j, now_s)
        job.ideal_run_s -= sender.iterations_left * sender.ideal_s
    if is_listed(job):
        unlist_running(w, e, gangs, j)
    job.ran_s += now_s - job.start_s
    vacate(w, e, j)


@unit
def finish(w, e, j):
    """End a gang that has done its work, and add it to the metrics."""
    gangs, job = w.gangs[e], w.jobs[e, j]
    end_run(w, e, gangs, j)
    job.status = FINISHED
    job.finish_s = w.clock[e].now_s
    job.waited_s = job.finish_s - job.arrival_s - job.ran_s
    gangs.finished += 1
    gangs.contention += job.ran_s / job.ideal_run_s
    count(w, gangs, job, job.ran_s, job.finish_s)


@kernel
def count(w, gangs, job, ran_s, until_s):
    """Add a gang that ran for ``ran_s`` to the metrics, with its life up to ``until_s``."""
    jct_s = until_s - job.arrival_s
    gangs.counted += 1
    gangs.jct_s += jct_s
    gangs.jrt_s += ran_s
    gangs.jwt_s += jct_s - ran_s
    gangs.slowdown += max(jct_s / max(job.duration_s, SHORTEST_RUN_S), 1.0)


@kernel
def count_unfinished(w, e, gangs):
    """Count the gangs that a truncated episode leaves, as far as they came."""
    now_s = w.clock[e].now_s
    for j in range(gangs.services, gangs.arrived):
        job = w.jobs[e, j]
        if job.status == RUNNING:
            count(w, gangs, job, job.ran_s + now_s - job.start_s, now_s)
        elif job.status == PENDING:
            count(w, gangs, job, job.ran_s, now_s)


@kernel
def stop_gang(w, e, gangs, j):
    """Send a running gang back to its place in the queue."""
    end_run(w, e, gangs, j)
    w.jobs[e, j].stopped_s = w.clock[e].now_s
    enqueue(w, e, gangs, j)


@unit
def preempt(w, e, j):
    """Preempt a running gang: it keeps its work but pays for checkpoint and restart.

    Replicas have nothing to checkpoint: they pay by what they hand back, and load anew.
    """
    gangs = w.gangs[e]
    stop_gang(w, e, gangs, j)
    if w.jobs[e, j].service < 0:
        add_delay(w, e, j, w.gang_rules[0].preempt_s)
    w.jobs[e, j].preemptions += 1
    gangs.preemptions += 1
    gangs.stopped_s = w.clock[e].now_s


@kernel(inline=False)
def fail_node(w, e, node, repair_s):
    """Let a node fail: its gangs lose their work since the last checkpoint and queue again."""
    gangs, slots, now_s = w.gangs[e], w.fabric[0].gpus_per_node, w.clock[e].now_s
    w.repairs[e, node] = now_s + repair_s  # from here on its GPUs come back as failed ones
    for gpu in range(node * slots, node * slots + w.node_specs[node].gpus):
        j = w.gpu_owner[e, gpu]
        if j < 0:
            continue
        job = w.jobs[e, j]
        stop_gang(w, e, gangs, int(j))
        if job.service < 0:
            w.senders[e, j].iterations_left = job.saved
        job.failures += 1
        gangs.failures += 1
    take_node_down(w, e, node, now_s + repair_s)
    w.devices[e].next_repair_s = min(w.devices[e].next_repair_s, now_s + repair_s)
