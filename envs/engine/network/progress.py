"""How far a sender is, and when its next event comes."""

from __future__ import annotations

import math

from ..core.compile import kernel
from .events import rekey


@kernel
def catch_up(sender, now_s):
    """Bring ``left`` up to now."""
    if now_s > sender.since_s:
        sender.left = max(sender.left - sender.rate * (now_s - sender.since_s), 0.0)
    sender.since_s = now_s


@kernel
def iteration_s(sender, comm_s):
    """Return seconds of an iteration of a periodic sender with so much communication."""
    return sender.compute_s + max(comm_s - sender.hidden_s, 0.0)


@kernel
def reschedule(w, e, j):
    """Set when ``left`` is used up at the present rate, counted from ``since_s``."""
    sender = w.senders[e, j]
    sender.event_s = sender.since_s + sender.left / sender.rate if sender.rate > 0.0 else math.inf
    rekey(w, e, j)


@kernel
def run_straight(w, e, j, now_s, iteration_s):
    """Let a sender run all its iterations at one rate."""
    sender = w.senders[e, j]
    sender.phase = -1
    sender.iteration_s = iteration_s
    sender.left, sender.rate, sender.since_s = sender.iterations_left, 1.0 / iteration_s, now_s
    reschedule(w, e, j)


@kernel
def touch(w, e, j):
    """Note that the rate of a sender must be found anew."""
    net, sender = w.network[e], w.senders[e, j]
    if sender.mark == 0:
        sender.mark = 1
        w.work[e, net.touched] = j
        net.touched += 1
