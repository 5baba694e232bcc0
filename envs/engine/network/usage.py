"""Which links a running sender uses: its flows in each phase, added up per link.

Entries are taken one behind the other from an array; those of one sender and phase lie side by
side, and the entries of a link form a list. One-shot senders have room of their own behind, and in
FLUID lists of their own.
"""

from __future__ import annotations

import math

from ...perf.training.modes import CYCLIC, XOR
from ..core.compile import kernel
from .links import node_down, node_up, uplink_of
from .records import FLUID
from .routes import find_way
from .squeeze import GONE, make_room


@kernel
def first_once(w):
    """Return the first one-shot sender; they are the last senders."""
    return w.senders.shape[1] - w.once.shape[1]


@kernel
def is_once(w, j):
    """Tell whether a sender sends once."""
    return j >= first_once(w)


@kernel
def heads_for(w, j):
    """Return the first entry of each link, of those among which a sender's are."""
    apart = is_once(w, j) and w.fabric[0].fidelity == FLUID
    return w.once_head if apart else w.link_head


@kernel
def add(w, e, j, s, link, weight):
    """Add flows of phase ``s`` to the entry of a link, the phase being the one being built."""
    step = w.steps[e, w.senders[e, j].step_begin + s]
    first = w.senders[e, j].usage_begin + step.begin
    slot = w.links[e, link].slot
    if first <= slot < first + step.count and w.usages[e, slot].link == link:
        w.usages[e, slot].weight += weight
        return
    slot = first + step.count
    step.count += 1
    w.links[e, link].slot = slot
    usage = w.usages[e, slot]
    usage.sender, usage.link, usage.phase, usage.weight = j, link, s, weight
    usage.level = 0
    heads = heads_for(w, j)
    head = heads[e, link]
    usage.before, usage.next = -1, head
    if head >= 0:
        w.usages[e, head].before = slot
    heads[e, link] = slot
    count_uplink(w, e, link, 1)


@kernel
def count_uplink(w, e, link, change):
    """Count an entry on its uplink, if it is one of a leaf switch."""
    switch, uplink, _ = uplink_of(w, link)
    if switch >= 0:
        w.uplink_users[e, switch, uplink] += change


@kernel
def add_flow(w, e, j, s, source, target):
    """Add one flow between nodes to the links on its way.

    One-shot senders hash as one: the connection between two GPUs lasts from transfer to transfer.
    """
    fabric = w.fabric[0]
    add(w, e, j, s, node_up(w, source // fabric.gpus_per_node), 1.0)
    add(w, e, j, s, node_down(w, target // fabric.gpus_per_node), 1.0)
    if w.gpu_switch[source] == w.gpu_switch[target]:
        return
    share, known_as = 1.0 / fabric.queue_pairs, min(j, first_once(w))
    for part in range(fabric.queue_pairs):
        for hop in range(find_way(w, e, known_as, source, target, part)):
            add(w, e, j, s, w.way[e, hop], share)


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
        step.begin, step.count = net.usages - sender.usage_begin, 0
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
                add_flow(w, e, j, s, source, target)
        net.usages += step.count
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


@kernel
def forget_rates(w, e, j, link):
    """Let no rounding error stay on a link that nobody of sender ``j``'s list uses any more."""
    record = w.links[e, link]
    if is_once(w, j):
        record.flows, record.held, record.other, record.used = 0.0, 0.0, 0.0, 0.0
    else:
        record.demand = 0.0
    w.link_rate[e, link] = min(record.demand + record.used, w.capacity[link])


@kernel(inline=False)
def take_off(w, e, j):
    """Take the entries of sender ``j`` off their links."""
    sender, heads = w.senders[e, j], heads_for(w, j)
    for slot in range(sender.usage_begin, sender.usage_begin + sender.usage_count):
        usage = w.usages[e, slot]
        if usage.before >= 0:
            w.usages[e, usage.before].next = usage.next
        else:
            heads[e, usage.link] = usage.next
        if usage.next >= 0:
            w.usages[e, usage.next].before = usage.before
        elif usage.before < 0:
            forget_rates(w, e, j, usage.link)
        count_uplink(w, e, int(usage.link), -1)
        switch, uplink, up = uplink_of(w, usage.link)
        if up == 1:
            parts = round(usage.weight * w.fabric[0].queue_pairs)
            w.uplink_flows[e, switch, uplink] -= parts
        usage.sender = GONE


@kernel(inline=False)
def release(w, e, j):
    """Take a periodic sender off its links, and give back the room of its entries."""
    net, sender = w.network[e], w.senders[e, j]
    take_off(w, e, j)
    for s in range(sender.step_begin, sender.step_begin + sender.step_count):
        w.steps[e, s].sender = GONE
    if sender.usage_begin + sender.usage_count == net.usages:  # the last one in goes out at once
        net.usages = sender.usage_begin
    if sender.step_count > 0 and sender.step_begin + sender.step_count == net.steps:
        net.steps = sender.step_begin
    sender.usage_count, sender.step_count = 0, 0
