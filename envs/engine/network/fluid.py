"""Long-run rates: each sender communicates part of its time, so it meets others part of the time.

Seen from far a sender alternates between computing and a shared link that serves all who are there
at once. For such closed networks mean value analysis is exact: a sender that arrives at the link
finds the others as they would be if it did not exist. So its communication takes

    ``comm = alone + sum over others of effect * duty of the other without it``

where ``effect`` is what the other costs while it communicates (:mod:`.pairs`) and the duty follows
from the other's own communication less the part that this sender causes. Two senders with drifting
phases obey the same formula without any randomness. Others whose worst links differ hardly add up,
the worst one counts: an effect counts in as far as stronger ones elsewhere leave it time. Hardly,
because the second worst links may well be common: the share 0.8 in which they exclude each other is
fitted to the flow-level model over the loads of ``benchmarks/fluid_vs_flow.py``. What one-shot
senders cost (:mod:`.slowing`) is one more term.

Source: Reiser and Lavenberg, "Mean-value analysis of closed multichain queueing networks", J. ACM
27 (1980).
"""

from __future__ import annotations

import numpy as np

from ..core.compile import kernel
from .pairs import meet, part
from .presence import bring_up
from .progress import catch_up, iteration_s, reschedule, run_straight, touch
from .slowing import begin_watch, plan_look

_NONE = np.uint64(0)
_TOLERANCE = 1e-4  # change of communication, as share of an iteration, that others notice
_ROUNDS = 8  # evaluations per touched sender, on average at most
_APART = 0.8  # how far effects with different worst links do not add up
_SHOWN = 0.01  # change of a rate that the load of links follows


@kernel
def arrive(w, e, j, now_s):
    """Let sender ``j`` meet those on its links."""
    sender = w.senders[e, j]
    sender.comm_s, sender.shown_rate = sender.comm_alone_s, 0.0
    sender.among_s, sender.once_s = sender.comm_alone_s, 0.0
    run_straight(w, e, j, now_s, sender.alone_s)
    if w.once.shape[1] > 0:
        begin_watch(w, e, sender, now_s)
    touch(w, e, j)
    k = meet(w, e, j)
    while k >= 0:
        touch(w, e, k)
        k = int(w.senders[e, k].chain)


@kernel
def depart(w, e, j):
    """Let sender ``j`` go; those whom it slowed are noted."""
    at = int(w.senders[e, j].first_pair)
    while at >= 0:
        pair = w.pairs[e, at]
        touch(w, e, int(pair.other))
        at = int(pair.next)
    part(w, e, j)
    show(w, e, w.senders[e, j], 0.0)


@kernel
def communication_s(w, e, sender):
    """Return seconds of communication in an iteration beside the other periodic senders as is."""
    comm_s = sender.comm_alone_s
    at = int(sender.first_pair)
    while at >= 0:
        pair = w.pairs[e, at]
        other = w.senders[e, pair.other]
        without_s = other.comm_s - w.pairs[e, pair.twin].delay_s
        pair.duty = min(without_s / iteration_s(other, without_s), 1.0)
        cover = 1.0
        stronger = int(sender.first_pair)
        while stronger != at:
            rival = w.pairs[e, stronger]
            if rival.links & pair.links == _NONE:
                cover *= 1.0 - _APART * rival.duty
            stronger = int(rival.next)
        pair.delay_s = pair.effect_s * pair.duty * cover
        comm_s += pair.delay_s
        at = int(pair.next)
    return comm_s


@kernel(inline=False)
def balance(w, e, now_s):
    """Find the rates of the touched senders, and of those whom that affects."""
    net = w.network[e]
    net.mark += 1
    senders, found, at, waiting = w.senders.shape[1], 0, 0, net.touched
    most = _ROUNDS * net.touched
    while waiting > 0:
        j = int(w.work[e, at])
        at = at + 1 if at + 1 < senders else 0
        waiting -= 1
        sender = w.senders[e, j]
        sender.mark = 0
        if sender.heap_at < 0:
            continue  # it has left in the meantime
        if sender.seen != net.mark:
            sender.seen = net.mark
            w.solved[e, found] = j
            found += 1
        if w.once.shape[1] > 0:
            bring_up(w, e, j, now_s)
        sender.among_s = communication_s(w, e, sender)
        comm_s = sender.among_s + sender.once_s
        change_s = abs(comm_s - sender.comm_s)
        sender.comm_s = comm_s
        most -= 1
        if most <= 0 or change_s <= _TOLERANCE * iteration_s(sender, comm_s):
            continue
        pair_at = int(sender.first_pair)
        while pair_at >= 0:
            k = int(w.pairs[e, pair_at].other)
            if w.senders[e, k].mark == 0:
                w.senders[e, k].mark = 1
                end = at + waiting
                w.work[e, end if end < senders else end - senders] = k
                waiting += 1
            pair_at = int(w.pairs[e, pair_at].next)
    net.touched = 0
    for index in range(found):
        follow(w, e, int(w.solved[e, index]), now_s)


@kernel
def follow(w, e, j, now_s):
    """Run on at the rate that was found."""
    sender = w.senders[e, j]
    catch_up(sender, now_s)
    sender.iteration_s = iteration_s(sender, sender.comm_s)
    sender.duty = min(sender.comm_s / sender.iteration_s, 1.0)
    sender.rate = 1.0 / sender.iteration_s
    reschedule(w, e, j)
    plan_look(w, e, j, now_s)
    if abs(sender.rate - sender.shown_rate) > _SHOWN * sender.shown_rate:
        show(w, e, sender, sender.rate)


@kernel(inline=False)
def show(w, e, sender, rate):
    """Let the load of the links count a sender at ``rate`` iterations a second."""
    change = rate - sender.shown_rate
    sender.shown_rate = rate
    for s in range(sender.step_count):
        step = w.steps[e, sender.step_begin + s]
        first = sender.usage_begin + step.begin
        for slot in range(first, first + step.count):
            usage = w.usages[e, slot]
            link = w.links[e, usage.link]
            link.demand = max(link.demand + usage.weight * step.bytes * change, 0.0)
            w.link_rate[e, usage.link] = min(link.demand + link.used, w.capacity[usage.link])
