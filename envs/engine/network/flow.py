"""Senders phase by phase: compute, then the flows of each phase, then the next iteration.

An iteration computes alone, then communicates beside the last ``hidden_s`` of its compute, one
phase after the other, and ends when both have ended. If the iterations to do are no whole number
(a gang goes on after it was stopped), the first one does the fraction of everything.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .progress import catch_up, reschedule, touch

COMPUTING, WAITING = -1, -2  # SENDER.phase where it is no phase of communication
_DONE = 1e-9  # iterations, below which nothing is left to do


@kernel
def is_sending(w, e, sender):
    """Tell whether a sender is in a phase that uses links."""
    return (
        sender.heap_at >= 0
        and sender.phase >= 0
        and sender.step_count > 0
        and w.steps[e, sender.step_begin + sender.phase].count > 0
    )


@kernel
def begin_iteration(w, e, j, now_s):
    """Start to compute."""
    sender = w.senders[e, j]
    fraction = sender.iterations_left - math.floor(sender.iterations_left)
    sender.part = fraction if _DONE < fraction < 1.0 - _DONE else min(sender.iterations_left, 1.0)
    sender.begun_s = now_s
    sender.phase, sender.rate, sender.since_s = COMPUTING, 1.0, now_s
    sender.left = (sender.compute_s - sender.hidden_s) * sender.part
    reschedule(w, e, j)


@kernel(inline=False)
def stop_sending(w, e, j, everybody):
    """Take the flows of the present phase off their links.

    Others that these links held back are noted for new rates; ``everybody``: all on these links.
    """
    sender = w.senders[e, j]
    step = w.steps[e, sender.step_begin + sender.phase]
    first = sender.usage_begin + step.begin
    for slot in range(first, first + step.count):
        usage = w.usages[e, slot]
        link, others = int(usage.link), 0
        at = int(w.link_head[e, link])
        while at >= 0:
            k = int(w.usages[e, at].sender)
            if k != j and w.senders[e, k].phase == w.usages[e, at].phase:
                others += 1
                if everybody or w.senders[e, k].bottleneck == link:
                    touch(w, e, k)
            at = int(w.usages[e, at].next)
        freed = usage.weight * sender.rate
        w.link_rate[e, link] = max(w.link_rate[e, link] - freed, 0.0) if others > 0 else 0.0


@kernel
def start_sending(w, e, j, s, now_s):
    """Begin phase ``s``; the rate of its flows is found when this moment's changes are settled."""
    sender = w.senders[e, j]
    step = w.steps[e, sender.step_begin + s]
    sender.phase, sender.since_s = s, now_s
    sender.left = step.bytes * sender.part
    sender.bottleneck = -1
    if step.count == 0:  # all inside nodes
        sender.rate = step.limit
    else:
        sender.rate = 0.0
        touch(w, e, j)
    reschedule(w, e, j)


@kernel
def next_phase(w, e, j, now_s, everybody):
    """End the present part of an iteration and begin the next one.

    Returns:
        Whether the sender has done all its iterations.
    """
    sender = w.senders[e, j]
    s = 0
    if sender.phase == COMPUTING:
        sender.computed_s = now_s + sender.hidden_s * sender.part
    elif sender.phase == WAITING:
        s = sender.step_count
    else:
        s = sender.phase + 1
        if is_sending(w, e, sender):
            stop_sending(w, e, j, everybody)
    while s < sender.step_count and w.steps[e, sender.step_begin + s].limit == math.inf:
        s += 1  # nobody sends in this one
    if s < sender.step_count:
        start_sending(w, e, j, s, now_s)
        return False
    if sender.phase != WAITING and now_s < sender.computed_s:
        sender.phase, sender.rate, sender.since_s = WAITING, 1.0, now_s
        sender.left = sender.computed_s - now_s
        reschedule(w, e, j)
        return False
    sender.phase = COMPUTING
    sender.iteration_s = (now_s - sender.begun_s) / sender.part
    sender.iterations_left -= sender.part
    if sender.iterations_left > _DONE:
        begin_iteration(w, e, j, now_s)
        return False
    sender.iterations_left, sender.left, sender.since_s = 0.0, 0.0, now_s
    return True


@kernel
def unfinished_part(w, e, sender, now_s):
    """Return the share of an iteration that the one under way still has to do.

    Measured by the time that it would take alone.
    """
    if sender.phase == WAITING:
        rest_s = sender.left
    elif sender.phase == COMPUTING:
        rest_s = sender.left + max(sender.hidden_s, sender.comm_alone_s) * sender.part
    else:
        rest_s = sender.left / w.steps[e, sender.step_begin + sender.phase].rate
        for s in range(sender.phase + 1, sender.step_count):
            step = w.steps[e, sender.step_begin + s]
            rest_s += step.bytes / step.rate * sender.part
        rest_s = max(rest_s, sender.computed_s - now_s)
    return min(rest_s / sender.alone_s, sender.part)


@kernel
def quit_iteration(w, e, j, now_s, everybody):
    """Stop a sender in the middle of an iteration and note how far it is."""
    sender = w.senders[e, j]
    catch_up(sender, now_s)
    if is_sending(w, e, sender):
        stop_sending(w, e, j, everybody)
    if sender.iterations_left > 0.0:
        sender.iterations_left += unfinished_part(w, e, sender, now_s) - sender.part
    sender.phase = COMPUTING
