"""The rule of the vClos simulator: a link's bandwidth is split evenly among the flows on it.

A flow gets ``bandwidth / occupancy`` of its worst link and the slowest flow sets the pace of its
sender. What a sender cannot use of its share, because it is slower elsewhere, nobody else gets.

Source: RapidNetSim, the simulator of the vClos authors (github.com/nothepeople/RapidNetSim).
"""

from __future__ import annotations

from ..core.compile import kernel
from .maxmin import entries, keep_senders
from .progress import catch_up, reschedule, touch


@kernel
def touch_others(w, e, net):
    """Add the senders that a newly sending one meets."""
    for at in range(net.touched):
        sender = w.senders[e, w.work[e, at]]
        if sender.rate > 0.0:
            continue  # it has been sending
        first, end = entries(w, e, sender)
        for slot in range(first, end):
            other = w.link_head[e, w.usages[e, slot].link]
            while other >= 0:
                usage = w.usages[e, other]
                if w.senders[e, usage.sender].phase == usage.phase:
                    touch(w, e, int(usage.sender))
                other = usage.next


@kernel(inline=False)
def share_evenly(w, e, now_s):
    """Give the touched senders, and those that they meet, their rates."""
    net = w.network[e]
    keep_senders(w, e, net)
    touch_others(w, e, net)
    for at in range(net.touched):
        j = int(w.work[e, at])
        sender = w.senders[e, j]
        catch_up(sender, now_s)
        sender.rate = w.steps[e, sender.step_begin + sender.phase].limit
        first, end = entries(w, e, sender)
        for slot in range(first, end):
            link = int(w.usages[e, slot].link)
            sender.rate = min(sender.rate, w.capacity[link] / occupancy(w, e, link))
        reschedule(w, e, j)
    for at in range(net.touched):
        sender = w.senders[e, w.work[e, at]]
        sender.mark = 0
        first, end = entries(w, e, sender)
        for slot in range(first, end):
            note_load(w, e, w.usages[e, slot].link)
    net.touched = 0


@kernel
def occupancy(w, e, link):
    """Return how many flows are on a link now."""
    flows = 0.0
    at = int(w.link_head[e, link])
    while at >= 0:
        usage = w.usages[e, at]
        if w.senders[e, usage.sender].phase == usage.phase:
            flows += usage.weight
        at = int(usage.next)
    return flows


@kernel
def note_load(w, e, link):
    """Add up what is sent over a link now."""
    load = 0.0
    at = int(w.link_head[e, link])
    while at >= 0:
        usage = w.usages[e, at]
        sender = w.senders[e, usage.sender]
        if sender.phase == usage.phase:
            load += usage.weight * sender.rate
        at = int(usage.next)
    w.link_rate[e, link] = min(load, w.capacity[link])
