"""Rates of one-shot senders in FLUID: max-min among themselves, where something changed.

When one begins or ends, it and those whom that affects are solved once each, against what the
others have. On a link of capacity ``c`` the flows that the link holds back share what the others
leave, ``other`` bytes/s of flows held back elsewhere, with the periodic senders there that
communicate now (:mod:`.presence`); those are greedy or want less than that, whichever leaves more,
and nobody gets less than an equal part:

    share = max((c - other) / (held + present), (c - other - wanted) / held, c / (flows + present))

One sweep leaves rates a little off, and for a moment a link may be used beyond its capacity.
Accuracy against FLOW: docs/contention.md. Source: own derivation; max-min fairness is Bertsekas and
Gallager, "Data Networks", 1992, 6.5.2.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .presence import presence
from .progress import catch_up, reschedule
from .slowing import slowness, watch


@kernel
def present(w, e, link, now_s, span_s):
    """Return the flows of periodic senders on a link now, and the bytes/s that they want there."""
    flows, wanted = 0.0, 0.0
    at = int(w.link_head[e, link])
    while at >= 0:
        usage = w.usages[e, at]
        sender = w.senders[e, usage.sender]
        step = w.steps[e, sender.step_begin + usage.phase]
        weight = usage.weight * presence(sender, step, now_s, span_s)
        if weight > 0.0:
            flows += weight
            slower = sender.among_s / sender.comm_alone_s
            if usage.level < step.level:  # another link holds it back
                slower += slowness(step.level) - 1.0
            wanted += weight * step.rate / slower
        at = int(usage.next)
    return flows, wanted


@kernel(inline=False)
def solve(w, e, j, now_s):
    """Give a one-shot sender the share that the others leave it."""
    sender = w.senders[e, j]
    catch_up(sender, now_s)
    step = w.steps[e, sender.step_begin]
    rate, bottleneck = step.limit, -1
    span_s = sender.left / sender.rate if sender.rate > 0.0 else 0.0
    for slot in range(sender.usage_begin, sender.usage_begin + sender.usage_count):
        usage = w.usages[e, slot]
        link, capacity = w.links[e, usage.link], w.capacity[usage.link]
        weight = float(usage.weight)
        held, other, flows = link.held + weight, link.other, link.flows
        if sender.bottleneck == usage.link:
            held -= weight
        else:
            other = max(other - weight * sender.rate, 0.0)
        here, wanted = present(w, e, int(usage.link), now_s, span_s)
        share = max(
            (capacity - other) / (held + here),
            (capacity - other - wanted) / held,
            capacity / (flows + here),
        )
        if share < rate:
            rate, bottleneck = share, int(usage.link)
    if rate != sender.rate or bottleneck != sender.bottleneck:
        take(w, e, sender, rate, bottleneck)
    reschedule(w, e, j)


@kernel
def take(w, e, sender, rate, bottleneck):
    """Note the rate of a one-shot sender on its links; 0: it goes."""
    for slot in range(sender.usage_begin, sender.usage_begin + sender.usage_count):
        usage = w.usages[e, slot]
        link, weight = w.links[e, usage.link], float(usage.weight)
        if sender.bottleneck == usage.link:
            link.held -= weight
        else:
            link.other = max(link.other - weight * sender.rate, 0.0)
        if bottleneck == usage.link:
            link.held += weight
        else:
            link.other += weight * rate
        link.used = max(link.used + weight * (rate - sender.rate), 0.0)
        w.link_rate[e, usage.link] = min(link.demand + link.used, w.capacity[usage.link])
    sender.rate, sender.bottleneck = rate, bottleneck


@kernel
def join(w, e, j, now_s):
    """Let a one-shot sender, whose path is laid, share its links from now on."""
    sender = w.senders[e, j]
    sender.rate, sender.bottleneck, sender.since_s = 0.0, -1, now_s
    count_flows(w, e, sender, 1.0)
    affect(w, e, j, sender.usage_begin + sender.usage_count, now_s, True)


@kernel
def withdraw(w, e, j):
    """Take a one-shot sender out of what its links count; :func:`affect` has to follow."""
    sender = w.senders[e, j]
    take(w, e, sender, 0.0, -1)
    count_flows(w, e, sender, -1.0)


@kernel
def count_flows(w, e, sender, sign):
    """Add a sender's flows to its links, or take them off."""
    for slot in range(sender.usage_begin, sender.usage_begin + sender.usage_count):
        usage = w.usages[e, slot]
        w.links[e, usage.link].flows += sign * usage.weight


@kernel(inline=False)
def affect(w, e, j, end, now_s, begins):
    """Solve once whom it affects that sender ``j`` begins, or has gone from its links.

    If it begins, itself and who has more than an equal part of a link; who is held back by one of
    its links in both cases. Then let periodic senders on these links note it. Its entries are, or
    were, those up to ``end``.
    """
    net, sender = w.network[e], w.senders[e, j]
    net.mark += 1
    found = 0
    if begins:
        sender.seen, w.solved[e, 0], found = net.mark, j, 1
    for slot in range(sender.usage_begin, end):
        link = int(w.usages[e, slot].link)
        at, fair = int(w.once_head[e, link]), math.inf
        if begins:
            here, _ = present(w, e, link, now_s, 0.0)
            fair = w.capacity[link] / (w.links[e, link].flows + here)
        while at >= 0:
            k = int(w.usages[e, at].sender)
            other = w.senders[e, k]
            if other.seen != net.mark and (other.bottleneck == link or other.rate > fair):
                other.seen, w.solved[e, found] = net.mark, k
                found += 1
            at = int(w.usages[e, at].next)
    for index in range(found):
        solve(w, e, int(w.solved[e, index]), now_s)
    for slot in range(sender.usage_begin, end):
        watch(w, e, w.usages[e, slot].link, now_s)
