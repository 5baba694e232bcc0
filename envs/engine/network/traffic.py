"""The network as the world sees it: senders enter and leave, and time moves from event to event.

After all that enters and leaves at one moment :func:`settle` finds the new rates once. What an
event is depends on ``FABRIC.fidelity``: with FLUID and UNCONTENDED a sender's end, with FLOW and
OCCUPANCY also the start and end of each of its phases. A sender that uses no link runs
straight to its end. One-shot senders (:mod:`.once`) begin and end by events of their own.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..core.units import unit
from . import fluid
from .events import push, rekey, remove
from .flow import begin_iteration, next_phase, quit_iteration, unfinished_part
from .maxmin import repair
from .occupancy import share_evenly
from .once import go_on
from .progress import catch_up, iteration_s, run_straight
from .records import FLOW, FLUID, OCCUPANCY, UNCONTENDED
from .shares import affect
from .slowing import is_look, look
from .usage import build, is_once, release


@kernel
def has_phases(w, sender):
    """Tell whether a sender is followed phase by phase."""
    fidelity = w.fabric[0].fidelity
    return (fidelity == FLOW or fidelity == OCCUPANCY) and sender.step_count > 0


@unit
def enter(w, e, j, now_s):
    """Let a sender run on its GPUs; :func:`settle` has to follow at the same moment.

    Args:
        w: the bundle; what the sender is and its ``iterations_left`` are set, its GPUs linked from
            ``first_gpu``.
        e: environment.
        j: sender.
        now_s: time.
    """
    sender = w.senders[e, j]
    pattern = w.patterns[sender.pattern]
    sender.phase, sender.first_pair, sender.bottleneck, sender.shown_rate = -1, -1, -1, 0.0
    ideal_comm_s = build(w, e, j)
    if w.fabric[0].fidelity == UNCONTENDED:
        sender.comm_alone_s = ideal_comm_s
    sender.compute_s = pattern.compute_s * sender.scale / sender.speed
    sender.hidden_s = min(pattern.hidden_s * sender.scale / sender.speed, sender.compute_s)
    sender.comm_s = sender.comm_alone_s
    sender.ideal_s = iteration_s(sender, ideal_comm_s)
    sender.alone_s = iteration_s(sender, sender.comm_alone_s)
    sender.iteration_s = sender.alone_s
    sender.duty = min(sender.comm_s / sender.iteration_s, 1.0)
    sender.event_s = math.inf
    push(w, e, j)
    if has_phases(w, sender):
        begin_iteration(w, e, j, now_s)
    elif w.fabric[0].fidelity == FLUID and sender.step_count > 0:
        fluid.arrive(w, e, j, now_s)
    else:
        run_straight(w, e, j, now_s, sender.alone_s)
        fluid.show(w, e, sender, sender.rate)


@unit
def leave(w, e, j, now_s):
    """Take a sender off the network; :func:`settle` has to follow at the same moment.

    Its ``iterations_left`` are brought up to now.
    """
    sender = w.senders[e, j]
    if has_phases(w, sender):
        quit_iteration(w, e, j, now_s, w.fabric[0].fidelity == OCCUPANCY)
    else:
        catch_up(sender, now_s)
        sender.iterations_left = sender.left
        fluid.depart(w, e, j)
    end = sender.usage_begin + sender.usage_count
    release(w, e, j)
    remove(w, e, j)
    if w.fabric[0].fidelity == FLUID and w.network[e].once_running > 0:
        affect(w, e, j, end, now_s, False)


@unit
def settle(w, e, now_s):
    """Find the rates that this moment's changes lead to."""
    if w.network[e].touched == 0:
        return
    fidelity = w.fabric[0].fidelity
    if fidelity == FLOW:
        repair(w, e, now_s)
    elif fidelity == OCCUPANCY:
        share_evenly(w, e, now_s)
    else:
        fluid.balance(w, e, now_s)


@kernel
def next_event_s(w, e):
    """Return when the next event comes, inf if nothing runs."""
    return w.senders[e, w.heap[e, 0]].event_s if w.network[e].events > 0 else math.inf


@unit
def move_on(w, e, now_s) -> int:
    """Let the first event happen; ``now_s`` is its time.

    Returns:
        The sender if it has finished (:func:`leave` and :func:`settle` have to follow), else -1.
    """
    j = int(w.heap[e, 0])
    sender, finished = w.senders[e, j], True
    if is_once(w, j):
        go_on(w, e, j, now_s)
        finished = False
    elif has_phases(w, sender):
        finished = next_phase(w, e, j, now_s, w.fabric[0].fidelity == OCCUPANCY)
    elif is_look(sender):
        look(w, e, j, now_s)
        finished = False
    if not finished:
        if next_event_s(w, e) > now_s:
            settle(w, e, now_s)
        return -1
    sender.left, sender.iterations_left, sender.since_s = 0.0, 0.0, now_s
    sender.event_s = math.inf
    rekey(w, e, j)
    return j


@kernel
def progress(w, e, j, now_s):
    """Return the iterations that a running sender still has to do at ``now_s``."""
    sender = w.senders[e, j]
    done = sender.rate * (now_s - sender.since_s)
    if not has_phases(w, sender):
        return max(sender.left - done, 0.0)
    left, since_s = sender.left, sender.since_s
    catch_up(sender, now_s)
    rest = sender.iterations_left - sender.part + unfinished_part(w, e, sender, now_s)
    sender.left, sender.since_s = left, since_s
    return rest
