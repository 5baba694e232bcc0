"""Which links a running sender uses: its flows in each phase, added up per link.

Entries are taken one behind the other from an array; those of one sender and phase lie side by
side, and the entries of a link form a list. When the array is full the entries of senders that have
left are squeezed out.
"""

from __future__ import annotations

import math

from ...perf.training.modes import CYCLIC, XOR
from ..core.compile import kernel
from .links import node_down, node_up, uplink_of
from .routes import find_way

_GONE = -1


@kernel
def add(w, e, net, j, s, link, weight):
    """Add flows of phase ``s`` to the entry of a link, the phase being the one being built."""
    step = w.steps[e, w.senders[e, j].step_begin + s]
    first = w.senders[e, j].usage_begin + step.begin
    slot = w.links[e, link].slot
    if first <= slot < net.usages and w.usages[e, slot].link == link:
        w.usages[e, slot].weight += weight
        return
    slot = net.usages
    net.usages += 1
    w.links[e, link].slot = slot
    usage = w.usages[e, slot]
    usage.sender, usage.link, usage.phase, usage.weight = j, link, s, weight
    head = w.link_head[e, link]
    usage.before, usage.next = -1, head
    if head >= 0:
        w.usages[e, head].before = slot
    w.link_head[e, link] = slot
    count_uplink(w, e, link, 1)


@kernel
def count_uplink(w, e, link, change):
    """Count an entry on its uplink, if it is one of a leaf switch."""
    switch, uplink, _ = uplink_of(w, link)
    if switch >= 0:
        w.uplink_users[e, switch, uplink] += change


@kernel
def add_flow(w, e, net, j, s, source, target):
    """Add one flow between nodes to the links on its way."""
    fabric = w.fabric[0]
    add(w, e, net, j, s, node_up(w, source // fabric.gpus_per_node), 1.0)
    add(w, e, net, j, s, node_down(w, target // fabric.gpus_per_node), 1.0)
    if w.gpu_switch[source] == w.gpu_switch[target]:
        return
    share = 1.0 / fabric.queue_pairs
    for part in range(fabric.queue_pairs):
        for hop in range(find_way(w, e, j, source, target, part)):
            add(w, e, net, j, s, w.way[e, hop], share)


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
    """Find the links that sender ``j`` uses and how fast each of its phases is.

    A sender whose flows all stay in their nodes gets neither entries nor steps.

    Returns:
        Seconds of communication per iteration if no two flows ever met.
    """
    net, sender = w.network[e], w.senders[e, j]
    pattern = w.patterns[sender.pattern]
    sender.usage_begin, sender.usage_count, sender.step_count = net.usages, 0, 0
    if pattern.num_phases == 0:
        return 0.0
    make_room(w, e, net, pattern)
    sender.usage_begin, sender.step_begin = net.usages, net.steps
    net.steps += pattern.num_phases
    slots = w.fabric[0].gpus_per_node
    gpu = int(sender.first_gpu)
    for rank in range(sender.ranks):
        w.order[e, rank] = gpu
        gpu = int(w.gpu_next[e, gpu])
    ideal_s = 0.0
    for s in range(pattern.num_phases):
        phase, step = w.phases[pattern.first_phase + s], w.steps[e, sender.step_begin + s]
        step.sender, step.mark = j, 0
        step.begin = net.usages - sender.usage_begin
        step.bytes = phase.bytes * sender.comm_scale
        limit = math.inf
        for rank in range(sender.ranks):
            other = receiver(phase, rank)
            if other < 0 or other == rank or other >= sender.ranks:
                continue
            source, target = int(w.order[e, rank]), int(w.order[e, other])
            here, there = w.node_specs[source // slots], w.node_specs[target // slots]
            if source // slots == target // slots:
                limit = min(limit, here.scale_up_bytes_per_s)
            else:
                limit = min(limit, here.nic_bytes_per_s, there.nic_bytes_per_s)
                add_flow(w, e, net, j, s, source, target)
        step.count = net.usages - sender.usage_begin - step.begin
        step.limit = limit
        step.rate = alone_rate(w, e, sender, step)
        ideal_s += step.bytes / limit
    sender.usage_count = net.usages - sender.usage_begin
    sender.comm_alone_s = 0.0
    for s in range(pattern.num_phases):
        step = w.steps[e, sender.step_begin + s]
        sender.comm_alone_s += step.bytes / step.rate
    if sender.usage_count == 0:
        net.steps = sender.step_begin
    else:
        sender.step_count = pattern.num_phases
    return ideal_s


@kernel
def alone_rate(w, e, sender, step):
    """Return bytes/s of a flow of this phase if no other sender used its links."""
    rate = step.limit
    first = sender.usage_begin + step.begin
    for slot in range(first, first + step.count):
        usage = w.usages[e, slot]
        rate = min(rate, w.capacity[usage.link] / usage.weight)
    return rate


@kernel(inline=False)
def release(w, e, j):
    """Take the entries of sender ``j`` off their links."""
    net, sender = w.network[e], w.senders[e, j]
    for slot in range(sender.usage_begin, sender.usage_begin + sender.usage_count):
        usage = w.usages[e, slot]
        if usage.before >= 0:
            w.usages[e, usage.before].next = usage.next
        else:
            w.link_head[e, usage.link] = usage.next
        if usage.next >= 0:
            w.usages[e, usage.next].before = usage.before
        elif usage.before < 0:  # nobody is left; no rounding error stays either
            w.link_rate[e, usage.link] = 0.0
            w.links[e, usage.link].demand = 0.0
        count_uplink(w, e, int(usage.link), -1)
        switch, uplink, up = uplink_of(w, usage.link)
        if up == 1:
            parts = round(usage.weight * w.fabric[0].queue_pairs)
            w.uplink_flows[e, switch, uplink] -= parts
        usage.sender = _GONE
    for s in range(sender.step_begin, sender.step_begin + sender.step_count):
        w.steps[e, s].sender = _GONE
    if sender.usage_begin + sender.usage_count == net.usages:  # the last one in goes out at once
        net.usages = sender.usage_begin
    if sender.step_count > 0 and sender.step_begin + sender.step_count == net.steps:
        net.steps = sender.step_begin
    sender.usage_count, sender.step_count = 0, 0


@kernel
def make_room(w, e, net, pattern):
    """Squeeze out dead entries if a sender of this pattern might not fit behind the last one."""
    fabric = w.fabric[0]
    per_flow = 2 + fabric.queue_pairs * fabric.hops
    if net.usages + per_flow * pattern.ranks * pattern.num_phases > w.usages.shape[1]:
        squeeze_usages(w, e, net)
    if net.steps + pattern.num_phases > w.steps.shape[1]:
        squeeze_steps(w, e, net)


@kernel(inline=False)
def squeeze_usages(w, e, net):
    """Move all live entries to the front of the array, in their order."""
    to = 0
    last = _GONE
    for slot in range(net.usages):
        usage = w.usages[e, slot]
        if usage.sender == _GONE:
            continue
        if usage.sender != last:
            last = usage.sender
            w.senders[e, last].usage_begin = to
        if to < slot:
            if usage.before >= 0:
                w.usages[e, usage.before].next = to
            else:
                w.link_head[e, usage.link] = to
            if usage.next >= 0:
                w.usages[e, usage.next].before = to
            moved = w.usages[e, to]
            moved.sender, moved.link, moved.phase = usage.sender, usage.link, usage.phase
            moved.weight, moved.next, moved.before = usage.weight, usage.next, usage.before
        to += 1
    net.usages = to


@kernel(inline=False)
def squeeze_steps(w, e, net):
    """Move all live steps to the front of the array, in their order."""
    to = 0
    last = _GONE
    for at in range(net.steps):
        step = w.steps[e, at]
        if step.sender == _GONE:
            continue
        if step.sender != last:
            last = step.sender
            w.senders[e, last].step_begin = to
        if to < at:
            moved = w.steps[e, to]
            moved.sender, moved.begin, moved.count = step.sender, step.begin, step.count
            moved.bytes, moved.limit, moved.rate = step.bytes, step.limit, step.rate
            moved.mark = 0
        to += 1
    net.steps = to
