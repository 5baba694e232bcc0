"""Rates of one-shot senders in FLUID: max-min among themselves, where something changed.

When one begins or ends, it and those whom that affects are solved in turn, twice, against what the
others have. On a link of capacity ``c`` the flows that the link holds back share what the others
leave, ``other`` bytes/s of flows held back elsewhere, with the periodic senders there that
communicate now (:mod:`.presence`); those are greedy or want less than that, whichever leaves more,
and nobody gets less than an equal part:

    share = max((c - other) / (held + present), (c - other - wanted) / held, c / (flows + present))

When a periodic sender begins or ends a phase on its way, a one-shot sender looks again. Two sweeps
leave rates a little off; no link is used beyond its capacity (:mod:`.books`). Accuracy against
FLOW: docs/contention.md. Source: own derivation; max-min fairness is Bertsekas and Gallager, "Data
Networks", 1992, 6.5.2.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .books import count_flows, keep_within, plan, take
from .presence import pace_of, presence
from .progress import catch_up
from .slowing import watch

_SWEEPS = 2
_AFTER_S = 1e-6  # that a sender looks after a phase has begun or ended, so that it surely has


@kernel
def present(w, e, link, now_s, span_s):
    """Return the flows of periodic senders on a link now, and the bytes/s that they want there.

    And the seconds until one of them begins or ends a phase there.
    """
    flows, wanted, change_s = 0.0, 0.0, math.inf
    at = int(w.link_head[e, link])
    while at >= 0:
        usage = w.usages[e, at]
        sender = w.senders[e, usage.sender]
        step = w.steps[e, sender.step_begin + usage.phase]
        share, until_s = presence(w, e, int(usage.sender), int(usage.phase), now_s, span_s)
        change_s = min(change_s, until_s)
        weight = usage.weight * share
        if weight > 0.0:
            flows += weight
            slower = sender.among_s / sender.comm_alone_s
            if usage.level < step.level:  # another link holds it back
                slower = pace_of(w, e, sender, int(usage.phase))
            wanted += weight * step.rate / slower
        at = int(usage.next)
    return flows, wanted, change_s


@kernel(inline=False)
def solve(w, e, j, now_s):
    """Give a one-shot sender the share that the others leave it."""
    sender = w.senders[e, j]
    catch_up(sender, now_s)
    step = w.steps[e, sender.step_begin]
    rate, bottleneck = step.limit, -1
    span_s = sender.left / sender.rate if sender.rate > 0.0 else 0.0
    change_s = math.inf
    for slot in range(sender.usage_begin, sender.usage_begin + sender.usage_count):
        usage = w.usages[e, slot]
        link, capacity = w.links[e, usage.link], w.capacity[usage.link]
        weight = float(usage.weight)
        held, other, flows = link.held + weight, link.other, link.flows
        if sender.bottleneck == usage.link:
            held -= weight
        else:
            other = max(other - weight * sender.rate, 0.0)
        here, wanted, until_s = present(w, e, int(usage.link), now_s, span_s)
        change_s = min(change_s, until_s)
        share = max(
            (capacity - other) / (held + here),
            (capacity - other - wanted) / held,
            capacity / (flows + here),
        )
        if share < rate:
            rate, bottleneck = share, int(usage.link)
    if rate != sender.rate or bottleneck != sender.bottleneck:
        take(w, e, sender, rate, bottleneck)
    sender.look_s = now_s + change_s + _AFTER_S
    plan(w, e, j)


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


@kernel(inline=False)
def affect(w, e, j, end, now_s, begins):
    """Solve whom it affects that sender ``j`` begins, or has gone from its links.

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
            here, _, _ = present(w, e, link, now_s, 0.0)
            fair = w.capacity[link] / (w.links[e, link].flows + here)
        while at >= 0:
            k = int(w.usages[e, at].sender)
            other = w.senders[e, k]
            if other.seen != net.mark and (other.bottleneck == link or other.rate > fair):
                other.seen, w.solved[e, found] = net.mark, k
                found += 1
            at = int(w.usages[e, at].next)
    for _ in range(min(found, _SWEEPS)):  # one alone finds its rate at once
        for index in range(found):
            solve(w, e, int(w.solved[e, index]), now_s)
    for index in range(found):
        keep_within(w, e, int(w.solved[e, index]), now_s)
    for slot in range(sender.usage_begin, end):
        watch(w, e, w.usages[e, slot].link, now_s)


@kernel
def see(w, e, j, now_s):
    """Solve a one-shot sender again: a phase of a periodic one has begun or ended on its way."""
    sender = w.senders[e, j]
    before = sender.rate
    solve(w, e, j, now_s)
    if sender.rate != before:
        affect(w, e, j, sender.usage_begin + sender.usage_count, now_s, True)
