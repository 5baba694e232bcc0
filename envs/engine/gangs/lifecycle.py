"""The life of a gang: it arrives, starts, is preempted or loses a node, and finishes."""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..devices.nodes import bring_node_up, give_gpu, take_gpu, take_node_down
from ..network.traffic import enter, leave
from .records import FINISHED, FREE, PENDING, RUNNING

SHORTEST_S = 10.0
"""Shorter run times count as this much in the bounded slowdown. Source: Feitelson et al., "Theory
and practice in parallel job scheduling", 1997."""


@kernel
def enqueue(w, e, env, j):
    """Put a gang into the queue, at the place of its arrival."""
    behind = env.queue_tail
    while behind > j:
        behind = w.jobs[e, behind].before
    job = w.jobs[e, j]
    job.before = behind
    if behind >= 0:
        job.next = w.jobs[e, behind].next
        w.jobs[e, behind].next = j
    else:
        job.next = env.queue_head
        env.queue_head = j
    if job.next >= 0:
        w.jobs[e, job.next].before = j
    else:
        env.queue_tail = j
    job.status = PENDING
    env.pending += 1
    env.pending_gpus += job.gpus


@kernel
def dequeue(w, e, env, j):
    """Take a gang out of the queue."""
    job = w.jobs[e, j]
    if job.before >= 0:
        w.jobs[e, job.before].next = job.next
    else:
        env.queue_head = job.next
    if job.next >= 0:
        w.jobs[e, job.next].before = job.before
    else:
        env.queue_tail = job.before
    env.pending -= 1
    env.pending_gpus -= job.gpus


@kernel
def list_running(w, e, env, j):
    """Put a gang in front of the running ones: the latest start comes first."""
    job = w.jobs[e, j]
    job.before = -1
    job.next = env.running_head
    if job.next >= 0:
        w.jobs[e, job.next].before = j
    env.running_head = j
    env.running += 1


@kernel
def unlist_running(w, e, env, j):
    """Take a gang from the running ones."""
    job = w.jobs[e, j]
    if job.before >= 0:
        w.jobs[e, job.before].next = job.next
    else:
        env.running_head = job.next
    if job.next >= 0:
        w.jobs[e, job.next].before = job.before
    env.running -= 1


@kernel
def occupy(w, e, env, j):
    """Give the gang the GPUs in ``order``, note how far it spreads and how fast it computes."""
    job, slots = w.jobs[e, j], w.fabric[0].gpus_per_node
    job.nodes = 0
    job.speed = math.inf
    env.mark += 1
    job.first_gpu = w.order[e, 0]
    for rank in range(job.gpus):
        gpu = w.order[e, rank]
        take_gpu(w, e, env, gpu, j)
        w.gpu_next[e, gpu] = w.order[e, rank + 1] if rank + 1 < job.gpus else -1
        node = gpu // slots
        use_gpu(w, e, env, job, gpu, 1)
        if w.gpu_mark[e, node * slots] != env.mark:
            w.gpu_mark[e, node * slots] = env.mark
            job.nodes += 1
            speed = w.node_speed[e, node] * w.speeds[job.kind, w.specs[node].pool]
            job.speed = min(job.speed, speed)
    job.leafs = mark_leafs(w, e, job)
    count_on_leafs(w, e, job, 1)
    w.tenant_gpus[e, job.tenant] += job.gpus


@kernel
def use_gpu(w, e, env, job, gpu, sign):
    """Add what a GPU of the gang uses to what is observed and paid, or take it off."""
    spec, kind = w.specs[gpu // w.fabric[0].gpus_per_node], w.kinds[job.kind]
    env.power_w += sign * (spec.busy_w - spec.idle_w)
    env.price_per_s += sign * spec.price_per_h / 3600.0
    at, share = gpu, 1.0
    if w.config[0].aggregate == 1:
        at = spec.leaf
        nodes = w.leaf_begin[at + 1] - w.leaf_begin[at]
        share = 1.0 / (nodes * spec.gpus)
    w.used_memory[e, at] += sign * share * min(kind.memory_bytes / spec.memory_bytes, 1.0)
    w.used_load[e, at] += sign * share * min(kind.load, 1.0)


@kernel
def mark_leafs(w, e, job):
    """Set ``counts`` to 1 for the leafs that the gang spans, 0 for others; returns how many."""
    w.counts[e, :] = 0
    spans = 0
    gpu = job.first_gpu
    while gpu >= 0:
        leaf = w.specs[gpu // w.fabric[0].gpus_per_node].leaf
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
def vacate(w, e, env, j):
    """Give the gang's GPUs and uplinks back."""
    job = w.jobs[e, j]
    mark_leafs(w, e, job)
    count_on_leafs(w, e, job, -1)
    gpu = job.first_gpu
    while gpu >= 0:
        use_gpu(w, e, env, job, gpu, -1)
        if w.gpu_uplink[e, gpu] >= 0:
            release_uplink(w, e, w.gpu_switch[gpu], w.gpu_uplink[e, gpu])
            w.gpu_uplink[e, gpu] = -1
        give_gpu(w, e, env, gpu)
        gpu = w.gpu_next[e, gpu]
    w.tenant_gpus[e, job.tenant] -= job.gpus
    job.first_gpu = -1
    job.reserved = 0


@kernel
def release_uplink(w, e, switch, uplink):
    """Give an uplink back; an optical circuit goes dark."""
    w.uplink_owner[e, switch, uplink] = FREE
    if w.fabric[0].optical == 1:
        w.ports[e, w.circuits[e, switch, uplink], uplink] -= 1
        w.circuits[e, switch, uplink] = -1


@kernel(inline=False)
def start_gang(w, e, env, j, plan):
    """Start a pending gang on the GPUs in ``order``; its uplinks stand in ``gpu_uplink``."""
    job = w.jobs[e, j]
    dequeue(w, e, env, j)
    occupy(w, e, env, j)
    job.plan = plan
    job.status = RUNNING
    job.start_s = env.now_s
    if math.isnan(job.first_start_s):
        job.first_start_s = env.now_s
    if job.reserved == 1 and w.fabric[0].optical == 1:
        add_delay(w, job, w.fabric[0].reconfigure_s)
    list_running(w, e, env, j)
    enter(w, e, j, env.now_s)
    job.ideal_run_s += job.iterations_left * job.ideal_s


@kernel
def add_delay(w, job, seconds):
    """Make a gang's run longer by so many seconds of undisturbed work."""
    job.iterations_left += seconds / (w.kinds[job.kind].nominal_s * job.scale)


@kernel(inline=False)
def end_run(w, e, env, j):
    """Take a gang off its GPUs and count its run time; the network brings its progress up to now.

    Call before anything else changes at this moment.
    """
    job = w.jobs[e, j]
    leave(w, e, j, env.now_s)
    job.ideal_run_s -= job.iterations_left * job.ideal_s
    job.ran_s += env.now_s - job.start_s
    unlist_running(w, e, env, j)
    vacate(w, e, env, j)


@kernel
def finish(w, e, env, j):
    """End a gang that has done its work, and add it to the metrics."""
    job = w.jobs[e, j]
    end_run(w, e, env, j)
    job.status = FINISHED
    job.finish_s = env.now_s
    job.waited_s = job.finish_s - job.arrival_s - job.ran_s
    env.finished += 1
    jct_s = job.finish_s - job.arrival_s
    env.jct_s += jct_s
    env.jrt_s += job.ran_s
    env.jwt_s += job.waited_s
    env.slowdown += max(jct_s / max(nominal_run_s(w, job), SHORTEST_S), 1.0)
    env.contention += job.ran_s / job.ideal_run_s


@kernel
def nominal_run_s(w, job):
    """Return the run time at speed 1 with nothing else on the network."""
    return job.iterations * w.kinds[job.kind].nominal_s * job.scale


@kernel
def stop_gang(w, e, env, j):
    """Send a running gang back to its place in the queue."""
    end_run(w, e, env, j)
    w.jobs[e, j].stopped_s = env.now_s
    enqueue(w, e, env, j)


@kernel
def preempt(w, e, env, j):
    """Preempt a running gang: it keeps its work but pays for checkpoint and restart."""
    job = w.jobs[e, j]
    stop_gang(w, e, env, j)
    add_delay(w, job, w.config[0].preempt_s)
    job.preemptions += 1
    env.preemptions += 1


@kernel(inline=False)
def fail_node(w, e, env, node, repair_s):
    """Let a node fail: its gangs lose their work since the last checkpoint and queue again."""
    slots, now_s = w.fabric[0].gpus_per_node, env.now_s
    w.repairs[e, node] = now_s + repair_s  # from here on its GPUs come back as failed ones
    for gpu in range(node * slots, node * slots + w.specs[node].gpus):
        j = w.gpu_owner[e, gpu]
        if j < 0:
            continue
        job = w.jobs[e, j]
        ran_s = now_s - job.start_s
        since_s = ran_s % w.config[0].checkpoint_s if w.config[0].checkpoint_s > 0.0 else ran_s
        iteration_s = job.iteration_s
        stop_gang(w, e, env, j)
        job.iterations_left = min(job.iterations_left + since_s / iteration_s, job.iterations)
        job.failures += 1
        env.failures += 1
    take_node_down(w, e, env, node, now_s + repair_s)


@kernel
def repair_node(w, e, env, node):
    """Bring a node back."""
    bring_node_up(w, e, env, node)
