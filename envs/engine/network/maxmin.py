"""Max-min fair rates of senders in lock-step, repaired where something changed.

All flows of a sender's phase have one rate; ``weight`` of them share a link. Rates are max-min
fair: every sender has its own limit or a saturated link on which no sender is faster. Progressive
filling raises all rates together and freezes senders as links fill up; a heap gives the next link
to fill.

After a change only a working set of senders is solved against what the others leave: the new ones
and those that a freed link held back. Then the condition is checked on every link they use; senders
that break it join, until none does. The condition is necessary and sufficient, so the result is the
exact one. A working set of more than a tenth of the senders is widened to all.

Sources: Bertsekas and Gallager, "Data Networks", 1992, 6.5.2 (max-min fairness);
the condition is theirs, and so is that it suffices.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..core.heap import push, replace_first
from .flow import is_sending
from .progress import catch_up, reschedule, touch

_EQUAL = 1e-12  # rates closer than this share of each other are the same
_SMALL = 16  # working sets up to this size are never widened


@kernel(inline=False)
def repair(w, e, now_s):
    """Give the touched senders, and whom that affects, their fair rates."""
    net = w.network[e]
    keep_senders(w, e, net)
    caught_up = 0
    while caught_up < net.touched:
        if net.touched > _SMALL and 10 * net.touched > net.events:
            touch_all(w, e, net)
        while caught_up < net.touched:
            catch_up(w.senders[e, w.work[e, caught_up]], now_s)
            caught_up += 1
        fill(w, e, net)
        extend(w, e, net)
    for at in range(net.touched):
        j = int(w.work[e, at])
        w.senders[e, j].mark = 0
        reschedule(w, e, j)
    net.touched = 0


@kernel
def keep_senders(w, e, net):
    """Forget touched senders that have stopped to send in the meantime."""
    kept = 0
    for at in range(net.touched):
        j = int(w.work[e, at])
        if is_sending(w, e, w.senders[e, j]):
            w.work[e, kept] = j
            kept += 1
        else:
            w.senders[e, j].mark = 0
    net.touched = kept


@kernel(inline=False)
def touch_all(w, e, net):
    """Widen the working set to all senders that send."""
    for at in range(net.events):
        if is_sending(w, e, w.senders[e, w.heap[e, at]]):
            touch(w, e, int(w.heap[e, at]))


@kernel
def entries(w, e, sender):
    """Return the range of a sender's entries in its present phase."""
    step = w.steps[e, sender.step_begin + sender.phase]
    first = sender.usage_begin + step.begin
    return first, first + step.count


@kernel
def look_at(w, e, link):
    """Find how much of a link the working set may share, and among how many flows."""
    record = w.links[e, link]
    record.room, record.weight, record.members = w.capacity[link], 0.0, 0
    at = int(w.link_head[e, link])
    while at >= 0:
        usage = w.usages[e, at]
        sender = w.senders[e, usage.sender]
        if sender.phase == usage.phase:
            if sender.mark == 1:
                record.weight += usage.weight
                record.members += 1
            else:
                record.room -= usage.weight * sender.rate
        at = int(usage.next)
    record.room = max(record.room, 0.0)


@kernel
def freeze(w, e, sender, rate):
    """Fix a sender's rate and take it out of what its links still share."""
    sender.rate = rate
    first, end = entries(w, e, sender)
    for slot in range(first, end):
        usage = w.usages[e, slot]
        link = w.links[e, usage.link]
        link.members -= 1
        link.weight -= usage.weight
        link.room = max(link.room - usage.weight * rate, 0.0)


@kernel(inline=False)
def fill(w, e, net):
    """Solve the working set by progressive filling."""
    keys, items = w.fill_keys[e], w.fill_items[e]
    net.mark += 1
    size = 0
    for at in range(net.touched):  # what each may have, and each link that several share
        j = int(w.work[e, at])
        sender = w.senders[e, j]
        limit, sender.bottleneck, sender.rate = (
            w.steps[e, sender.step_begin + sender.phase].limit,
            -1,
            -1.0,
        )
        first, end = entries(w, e, sender)
        for slot in range(first, end):
            link = int(w.usages[e, slot].link)
            record = w.links[e, link]
            fresh = record.mark != net.mark
            if fresh:
                record.mark = net.mark
                look_at(w, e, link)
            share = record.room / record.weight
            if record.members > 1:
                if fresh:
                    push(keys, items, size, share, link)
                    size += 1
            elif share < limit:
                limit, sender.bottleneck = share, link
        push(keys, items, size, limit, -1 - j)
        size += 1
    while size > 0:
        key, item = keys[0], items[0]
        if item < 0:
            sender = w.senders[e, -1 - item]
            if sender.rate < 0.0:
                freeze(w, e, sender, key)
        elif w.links[e, item].members > 0:
            share = w.links[e, item].room / w.links[e, item].weight
            if share > key:  # slower senders were frozen since
                replace_first(keys, items, size, share, item)
                continue
            freeze_link(w, e, item, share)
        size -= 1
        replace_first(keys, items, size, keys[size], items[size])


@kernel
def freeze_link(w, e, link, rate):
    """Freeze the senders of a link that is full."""
    at = int(w.link_head[e, link])
    while at >= 0:
        usage = w.usages[e, at]
        sender = w.senders[e, usage.sender]
        if sender.phase == usage.phase and sender.mark == 1 and sender.rate < 0.0:
            sender.bottleneck = link
            freeze(w, e, sender, rate)
        at = int(usage.next)


@kernel(inline=False)
def extend(w, e, net):
    """Add to the working set who breaks the condition; note the load of the links looked at."""
    net.mark += 1
    for at in range(net.touched):
        sender = w.senders[e, w.work[e, at]]
        first, end = entries(w, e, sender)
        for slot in range(first, end):
            link = int(w.usages[e, slot].link)
            if w.links[e, link].mark != net.mark:
                w.links[e, link].mark = net.mark
                check_link(w, e, link)


@kernel
def check_link(w, e, link):
    """Add senders held back here without cause, or faster than one that is held back."""
    load, fastest, held = 0.0, 0.0, math.inf
    at = int(w.link_head[e, link])
    while at >= 0:
        usage = w.usages[e, at]
        sender = w.senders[e, usage.sender]
        if sender.phase == usage.phase:
            load += usage.weight * sender.rate
            fastest = max(fastest, sender.rate)
            if sender.bottleneck == link and sender.mark == 1:
                held = min(held, sender.rate)
        at = int(usage.next)
    capacity = w.capacity[link]
    w.link_rate[e, link] = min(load, capacity)
    full = load >= capacity * (1.0 - _EQUAL)
    at = int(w.link_head[e, link])
    while at >= 0:
        usage = w.usages[e, at]
        sender = w.senders[e, usage.sender]
        if sender.phase == usage.phase and sender.mark == 0:
            without_cause = not full or sender.rate < fastest * (1.0 - _EQUAL)
            if (sender.bottleneck == link and without_cause) or sender.rate > held * (1.0 + _EQUAL):
                touch(w, e, int(usage.sender))
        at = int(usage.next)
