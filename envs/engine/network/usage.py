"""Which links a running job uses: its flows in each phase, added up per link.

Entries are taken one behind the other from an array; those of one job and phase lie side by side,
and the entries of a link form a list. When the array is full the entries of jobs that have left are
squeezed out.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..gangs.records import CYCLIC, XOR
from .routes import choose_way

_GONE = -1


@kernel
def add(w, e, env, j, s, link, weight):
    """Add flows of phase ``s`` to the entry of a link, the phase being the one being built."""
    step = w.steps[e, w.jobs[e, j].step_begin + s]
    first = w.jobs[e, j].usage_begin + step.begin
    slot = w.links[e, link].slot
    if first <= slot < env.usages and w.usages[e, slot].link == link:
        w.usages[e, slot].weight += weight
        return
    slot = env.usages
    env.usages += 1
    w.links[e, link].slot = slot
    usage = w.usages[e, slot]
    usage.job, usage.link, usage.phase, usage.weight = j, link, s, weight
    head = w.link_head[e, link]
    usage.before, usage.next = -1, head
    if head >= 0:
        w.usages[e, head].before = slot
    w.link_head[e, link] = slot
    count_uplink(w, e, link, 1)


@kernel
def count_uplink(w, e, link, change):
    """Count an entry on its uplink, if it is one of a leaf switch."""
    fabric = w.fabric[0]
    at = link - 2 * fabric.nodes
    links = fabric.switches * fabric.uplinks
    if 0 <= at < 2 * links:
        if at >= links:
            at -= links
        w.uplink_users[e, at // fabric.uplinks, at % fabric.uplinks] += change


@kernel
def add_flow(w, e, env, j, s, source, target):
    """Add one flow between nodes to the links on its way."""
    fabric = w.fabric[0]
    slots, nodes, uplinks = fabric.gpus_per_node, fabric.nodes, fabric.uplinks
    add(w, e, env, j, s, source // slots, 1.0)
    add(w, e, env, j, s, nodes + target // slots, 1.0)
    above, below = w.gpu_switch[source], w.gpu_switch[target]
    if above == below:
        return
    pod_above, pod_below = w.switch_pods[above], w.switch_pods[below]
    leaf_up = 2 * nodes
    leaf_down = leaf_up + fabric.switches * uplinks
    core_up = leaf_down + fabric.switches * uplinks
    core_down = core_up + fabric.pods * fabric.spines * fabric.core_uplinks
    share = 1.0 / fabric.queue_pairs
    for part in range(fabric.queue_pairs):
        up, core, down = choose_way(w, e, j, source, target, part)
        add(w, e, env, j, s, leaf_up + above * uplinks + up, share)
        w.uplink_flows[e, above, up] += 1
        if pod_above != pod_below:
            spine = max(w.circuits[e, above, up], 0)
            at = (pod_above * fabric.spines + spine) * fabric.core_uplinks + core
            add(w, e, env, j, s, core_up + at, share)
            at = (pod_below * fabric.spines + spine) * fabric.core_uplinks + core
            add(w, e, env, j, s, core_down + at, share)
        add(w, e, env, j, s, leaf_down + below * uplinks + down, share)


@kernel
def receiver(phase, rank):
    """Return the rank to which ``rank`` sends, or -1."""
    place = (rank // phase.stride) % phase.ranks
    if phase.mode == CYCLIC:
        other = (place + phase.shift) % phase.ranks
    elif phase.mode == XOR:
        other = place ^ phase.shift
    else:
        other = place + phase.shift
    if other < 0 or other >= phase.ranks:
        return -1
    return rank + (other - place) * phase.stride


@kernel(inline=False)
def build(w, e, j):
    """Find the links that job ``j`` uses and how fast each of its phases is.

    A job whose flows all stay in their nodes gets neither entries nor steps.

    Returns:
        Seconds of communication per iteration if no two flows ever met.
    """
    env, job = w.envs[e], w.jobs[e, j]
    kind = w.kinds[job.kind]
    job.usage_begin, job.usage_count, job.step_count = env.usages, 0, 0
    if kind.num_phases == 0:
        return 0.0
    make_room(w, e, env, kind)
    job.usage_begin, job.step_begin = env.usages, env.steps
    env.steps += kind.num_phases
    slots = w.fabric[0].gpus_per_node
    gpu = int(job.first_gpu)
    for rank in range(job.gpus):
        w.order[e, rank] = gpu
        gpu = int(w.gpu_next[e, gpu])
    ideal_s = 0.0
    for s in range(kind.num_phases):
        phase, step = w.phases[kind.first_phase + s], w.steps[e, job.step_begin + s]
        step.job, step.mark = j, 0
        step.begin = env.usages - job.usage_begin
        step.bytes = phase.bytes * job.comm_scale
        limit = math.inf
        for rank in range(job.gpus):
            other = receiver(phase, rank)
            if other < 0 or other == rank or other >= job.gpus:
                continue
            source, target = int(w.order[e, rank]), int(w.order[e, other])
            here, there = w.specs[source // slots], w.specs[target // slots]
            if source // slots == target // slots:
                limit = min(limit, here.scale_up_bytes_per_s)
            else:
                limit = min(limit, here.nic_bytes_per_s, there.nic_bytes_per_s)
                add_flow(w, e, env, j, s, source, target)
        step.count = env.usages - job.usage_begin - step.begin
        step.limit = limit
        step.rate = alone_rate(w, e, job, step)
        ideal_s += step.bytes / limit
    job.usage_count = env.usages - job.usage_begin
    job.comm_alone_s = 0.0
    for s in range(kind.num_phases):
        step = w.steps[e, job.step_begin + s]
        job.comm_alone_s += step.bytes / step.rate
    if job.usage_count == 0:
        env.steps = job.step_begin
    else:
        job.step_count = kind.num_phases
    return ideal_s


@kernel
def alone_rate(w, e, job, step):
    """Return bytes/s of a flow of this phase if no other job used its links."""
    rate = step.limit
    first = job.usage_begin + step.begin
    for slot in range(first, first + step.count):
        usage = w.usages[e, slot]
        rate = min(rate, w.capacity[usage.link] / usage.weight)
    return rate


@kernel(inline=False)
def release(w, e, j):
    """Take the entries of job ``j`` off their links."""
    env, job = w.envs[e], w.jobs[e, j]
    fabric = w.fabric[0]
    leaf_up = 2 * fabric.nodes
    leaf_down = leaf_up + fabric.switches * fabric.uplinks
    for slot in range(job.usage_begin, job.usage_begin + job.usage_count):
        usage = w.usages[e, slot]
        if usage.before >= 0:
            w.usages[e, usage.before].next = usage.next
        else:
            w.link_head[e, usage.link] = usage.next
        if usage.next >= 0:
            w.usages[e, usage.next].before = usage.before
        elif usage.before < 0:  # nobody is left; no rounding error stays either
            w.load[e, usage.link] = 0.0
            w.links[e, usage.link].demand = 0.0
        count_uplink(w, e, int(usage.link), -1)
        if leaf_up <= usage.link < leaf_down:
            at = usage.link - leaf_up
            parts = round(usage.weight * fabric.queue_pairs)
            w.uplink_flows[e, at // fabric.uplinks, at % fabric.uplinks] -= parts
        usage.job = _GONE
    for s in range(job.step_begin, job.step_begin + job.step_count):
        w.steps[e, s].job = _GONE
    if job.usage_begin + job.usage_count == env.usages:  # the last one in goes out at once
        env.usages = job.usage_begin
    if job.step_count > 0 and job.step_begin + job.step_count == env.steps:
        env.steps = job.step_begin
    job.usage_count, job.step_count = 0, 0


@kernel
def make_room(w, e, env, kind):
    """Squeeze out dead entries if a job of this kind might not fit behind the last one."""
    fabric = w.fabric[0]
    per_flow = 2 + fabric.queue_pairs * (4 if fabric.core_uplinks > 0 else 2)
    if env.usages + per_flow * kind.gpus * kind.num_phases > w.usages.shape[1]:
        squeeze_usages(w, e, env)
    if env.steps + kind.num_phases > w.steps.shape[1]:
        squeeze_steps(w, e, env)


@kernel(inline=False)
def squeeze_usages(w, e, env):
    """Move all live entries to the front of the array, in their order."""
    to = 0
    last = _GONE
    for slot in range(env.usages):
        usage = w.usages[e, slot]
        if usage.job == _GONE:
            continue
        if usage.job != last:
            last = usage.job
            w.jobs[e, last].usage_begin = to
        if to < slot:
            if usage.before >= 0:
                w.usages[e, usage.before].next = to
            else:
                w.link_head[e, usage.link] = to
            if usage.next >= 0:
                w.usages[e, usage.next].before = to
            moved = w.usages[e, to]
            moved.job, moved.link, moved.phase = usage.job, usage.link, usage.phase
            moved.weight, moved.next, moved.before = usage.weight, usage.next, usage.before
        to += 1
    env.usages = to


@kernel(inline=False)
def squeeze_steps(w, e, env):
    """Move all live steps to the front of the array, in their order."""
    to = 0
    last = _GONE
    for at in range(env.steps):
        step = w.steps[e, at]
        if step.job == _GONE:
            continue
        if step.job != last:
            last = step.job
            w.jobs[e, last].step_begin = to
        if to < at:
            moved = w.steps[e, to]
            moved.job, moved.begin, moved.count = step.job, step.begin, step.count
            moved.bytes, moved.limit, moved.rate = step.bytes, step.limit, step.rate
            moved.mark = 0
        to += 1
    env.steps = to
