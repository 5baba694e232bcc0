"""Which running senders slow which, and by how much: what the fluid model needs to know of routes.

Two senders on one link get equal rates per flow there, unless one is slower elsewhere; the other
then has the rest. So a sender's flows that could go at ``rate`` and put weight ``a`` on a link of
capacity ``c`` go, beside weight ``b`` of another sender at most at ``other_rate``, at ``max(c / (a
+ b), (c - b * other_rate) / a)``. The worst link of the two phases counts. Summed over the phases
of the one, weighted by their length, and averaged over those of the other this gives ``effect_s``:
by how much longer the one communicates per iteration if the other always does.

Each sender has a list of the senders that slow it, the strongest effect first.
"""

from __future__ import annotations

import numpy as np

from ..core.compile import kernel
from ..core.random import hash64

_NONE, _ONE, _LAST = np.uint64(0), np.uint64(1), np.uint64(63)


@kernel
def bit(number):
    """Return a word of one bit."""
    return _ONE << (np.uint64(number) & _LAST)


@kernel
def slower_by(capacity, weight, rate, other_weight, other_rate):
    """Return by how many times its time a phase is longer beside another on this link."""
    share = max(
        capacity / (weight + other_weight),
        (capacity - other_weight * other_rate) / weight,
    )
    return max(rate / share - 1.0, 0.0)


@kernel(inline=False)
def meet(w, e, j):
    """Find whom sender ``j`` meets on its links, and join the pairs.

    Returns:
        First sender of the chain of those met, -1: none.
    """
    net, sender = w.network[e], w.senders[e, j]
    net.mark += 1
    seen, chain = net.mark, -1
    for s in range(sender.step_count):
        step = w.steps[e, sender.step_begin + s]
        if step.count == 0:
            continue
        phase_s = step.bytes / step.rate
        at = compare_phase(w, e, net, j, sender, step)
        while at >= 0:
            theirs = w.steps[e, at]
            other = w.senders[e, theirs.sender]
            if other.seen != seen:
                other.seen = seen
                other.mine, other.theirs, other.chain = 0.0, 0.0, chain
                other.my_most, other.their_most = 0.0, 0.0
                chain = int(theirs.sender)
            their_s = theirs.bytes / theirs.rate
            mine = phase_s * theirs.mine * (their_s / other.comm_alone_s)
            other.mine += mine
            if mine > other.my_most:
                other.my_most, other.my_links = mine, theirs.my_links
            them = their_s * theirs.theirs * (phase_s / sender.comm_alone_s)
            other.theirs += them
            if them > other.their_most:
                other.their_most, other.their_links = them, theirs.their_links
            at = int(theirs.next)
    k = chain
    while k >= 0:
        other = w.senders[e, k]
        if other.mine > 0.0 or other.theirs > 0.0:
            join(w, e, net, int(j), int(k), other)
        k = int(other.chain)
    return chain


@kernel
def compare_phase(w, e, net, j, sender, step):
    """Find the worst effect between a phase of sender ``j`` and each phase of others that it meets.

    Returns:
        First step of the chain of those met, -1: none.
    """
    net.mark += 1
    chain = -1
    first = sender.usage_begin + step.begin
    for slot in range(first, first + step.count):
        usage = w.usages[e, slot]
        capacity = w.capacity[usage.link]
        here = bit(hash64(np.uint64(usage.link)) & _LAST)
        sent = usage.weight * step.rate
        at = w.link_head[e, usage.link]
        while at >= 0:
            entry = w.usages[e, at]
            at = entry.next
            if entry.sender == j:
                continue
            index = w.senders[e, entry.sender].step_begin + entry.phase
            other = w.steps[e, index]
            if sent + entry.weight * other.rate <= capacity:
                continue  # there is room for both
            if other.mark != net.mark:
                other.mark = net.mark
                other.mine, other.theirs, other.next = 0.0, 0.0, chain
                other.my_links, other.their_links = _NONE, _NONE
                chain = index
            mine = slower_by(capacity, usage.weight, step.rate, entry.weight, other.rate)
            theirs = slower_by(capacity, entry.weight, other.rate, usage.weight, step.rate)
            if mine >= other.mine:
                other.my_links = here | (other.my_links if mine == other.mine else _NONE)
                other.mine = mine
            if theirs >= other.theirs:
                other.their_links = here | (other.their_links if theirs == other.theirs else _NONE)
                other.theirs = theirs
    return chain


@kernel
def take_pair(w, e, net):
    """Return a free pair, or -1."""
    at = int(net.free_pair)
    if at >= 0:
        net.free_pair = w.pairs[e, at].next
    elif net.pairs < w.pairs.shape[1]:
        at = int(net.pairs)
        net.pairs += 1
    return at


@kernel
def give_pair(w, e, net, at):
    """Put a pair back."""
    w.pairs[e, at].next = net.free_pair
    net.free_pair = at


@kernel
def join(w, e, net, j, k, met):
    """Note how senders ``j`` and ``k`` slow each other; without room for it they do not."""
    first = take_pair(w, e, net)
    second = take_pair(w, e, net)
    if second < 0:
        if first >= 0:
            give_pair(w, e, net, first)
        return
    insert(w, e, j, k, first, second, met.mine, met.my_links)
    insert(w, e, k, j, second, first, met.theirs, met.their_links)


@kernel
def insert(w, e, j, other, at, twin, effect_s, links):
    """Put a pair into the list of sender ``j``."""
    pair = w.pairs[e, at]
    pair.other, pair.twin, pair.effect_s, pair.delay_s = other, twin, effect_s, 0.0
    pair.links = links
    before, behind = -1, int(w.senders[e, j].first_pair)
    while behind >= 0 and w.pairs[e, behind].effect_s > effect_s:
        before, behind = behind, int(w.pairs[e, behind].next)
    pair.before, pair.next = before, behind
    if behind >= 0:
        w.pairs[e, behind].before = at
    if before >= 0:
        w.pairs[e, before].next = at
    else:
        w.senders[e, j].first_pair = at


@kernel
def part(w, e, j):
    """Drop all pairs of sender ``j``; the others' lists lose theirs."""
    net = w.network[e]
    at = int(w.senders[e, j].first_pair)
    while at >= 0:
        pair = w.pairs[e, at]
        following = int(pair.next)
        twin = w.pairs[e, pair.twin]
        if twin.before >= 0:
            w.pairs[e, twin.before].next = twin.next
        else:
            w.senders[e, pair.other].first_pair = twin.next
        if twin.next >= 0:
            w.pairs[e, twin.next].before = twin.before
        give_pair(w, e, net, int(pair.twin))
        give_pair(w, e, net, at)
        at = following
    w.senders[e, j].first_pair = -1
