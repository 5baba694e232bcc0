"""What a periodic sender does just now, in FLUID, where no event follows its phases.

One-shot senders meet it with all its flows or with none, which a share of time could not say: a
transfer over several links waits for the worst. And who meets many of them communicates longer, so
that it is there when there are many. So a sender is followed when somebody asks, and brought up to
now: it computes, sends phase by phase, each at the pace that its links have given it since the last
look (:mod:`.slowing`), the last ``hidden_s`` of the compute beside that, and computes again. As
that pace has not changed, whole iterations are passed over at once. How long its phases took is
what one-shot senders cost. Its progress runs at the mean of that, and is set right at the end of
each iteration that was followed.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .events import rekey
from .flow import COMPUTING, WAITING
from .progress import iteration_s

_MEMORY = 8.0  # phases seen, beyond which half of them are forgotten
_PRIOR = 0.25  # of a phase, seen without one-shot senders before it begins
_ADDS = 0.5  # how far what two kinds of others cost adds up: their worst links may differ


@kernel
def begin_presence(w, e, sender, now_s):
    """Begin to follow a periodic sender that has just entered."""
    sender.due = sender.left
    compute_from(sender, now_s)
    for s in range(sender.step_begin, sender.step_begin + sender.step_count):
        w.steps[e, s].rounds, w.steps[e, s].longer_s = _PRIOR, 0.0


@kernel
def presence(w, e, j, s, now_s, span_s):
    """Return 1 where phase ``s`` is under way now, else 0; and the seconds until that may change.

    For who stays longer than an iteration, the share of time in which it is, which does not change.
    """
    sender = w.senders[e, j]
    if span_s > sender.iteration_s:
        step = w.steps[e, sender.step_begin + s]
        stretch = sender.comm_s / sender.comm_alone_s
        return step.bytes / step.rate * stretch / sender.iteration_s, math.inf
    if sender.told_s < now_s:
        bring_up(w, e, j, now_s)
    return 1.0 if sender.phase == s else 0.0, sender.rest_s * pace(w, e, sender)


@kernel
def slowness(level):
    """Return by how many times its time a phase is longer at a level: eight to a factor of two."""
    return 2.0 ** (level / 8.0)


@kernel
def pace(w, e, sender):
    """Return how many seconds pass in what a sender does for one of its own."""
    return pace_of(w, e, sender, sender.phase) if sender.phase >= 0 else 1.0


@kernel
def pace_of(w, e, sender, s):
    """Return by how many times its time alone phase ``s`` is longer.

    What two kinds of others cost adds up on one link; of two links the worst counts. Between them
    by measurement, on seed 0 of the loads of ``benchmarks/kv_transfer_load.py``.
    """
    beside = sender.among_s / sender.comm_alone_s
    slower = slowness(w.steps[e, sender.step_begin + s].level)
    return max(beside, slower) + _ADDS * (min(beside, slower) - 1.0)


@kernel(inline=False)
def bring_up(w, e, j, now_s):
    """Follow a sender up to now; nothing has changed for it since the last time."""
    sender = w.senders[e, j]
    left = sender.left
    while sender.told_s < now_s:
        slower = pace(w, e, sender)
        end_s = sender.told_s + sender.rest_s * slower
        if end_s > now_s:
            sender.rest_s -= (now_s - sender.told_s) / slower
            sender.told_s = now_s
        elif end_part(w, e, sender, end_s):
            pass_over(w, e, sender, now_s)
    if sender.left != left:
        end_s = max(sender.since_s + sender.left / sender.rate, now_s)
        is_look = sender.event_s < sender.since_s + left / sender.rate
        sender.event_s = min(sender.event_s, end_s) if is_look else end_s
        rekey(w, e, j)


@kernel
def end_part(w, e, sender, now_s):
    """Let a sender begin what comes next, and note how long the phase took that ends.

    Returns:
        Whether an iteration has ended.
    """
    sender.told_s, s = now_s, int(sender.phase)
    if s == COMPUTING:
        sender.computed_s = now_s + sender.hidden_s
    elif s != WAITING:
        note_rounds(w, e, sender, s, now_s - sender.begun_s, 1.0)
    s = sender.step_count if s == WAITING else s + 1
    if s < sender.step_count:
        step = w.steps[e, sender.step_begin + s]
        sender.phase, sender.begun_s, sender.rest_s = s, now_s, step.bytes / step.rate
        return False
    if now_s < sender.computed_s:
        sender.phase, sender.rest_s = WAITING, sender.computed_s - now_s
        return False
    count_iterations(sender, 1.0)
    compute_from(sender, now_s)
    return True


@kernel
def compute_from(sender, now_s):
    """Let a sender begin an iteration."""
    sender.phase, sender.told_s = COMPUTING, now_s
    sender.rest_s = sender.compute_s - sender.hidden_s


@kernel
def count_iterations(sender, done):
    """Count iterations that were followed up to the last look, whatever the mean has made of it."""
    sender.due -= done
    sender.left = max(sender.due + sender.rate * (sender.told_s - sender.since_s), 0.0)


@kernel
def note_rounds(w, e, sender, s, took_s, rounds):
    """Note that phase ``s`` took so long, so many times; old times are forgotten."""
    step = w.steps[e, sender.step_begin + s]
    among_s = step.bytes / step.rate * (sender.among_s / sender.comm_alone_s)
    step.longer_s += rounds * (took_s - among_s)
    step.rounds += rounds
    if step.rounds > _MEMORY:
        kept = 0.5 * _MEMORY / step.rounds
        step.rounds, step.longer_s = kept * step.rounds, kept * step.longer_s


@kernel
def pass_over(w, e, sender, now_s):
    """Let a sender that begins an iteration do all whole ones that end by now at once."""
    comm_s = 0.0
    for s in range(sender.step_count):
        step = w.steps[e, sender.step_begin + s]
        comm_s += step.bytes / step.rate * pace_of(w, e, sender, s)
    whole_s = iteration_s(sender, comm_s)
    whole = math.floor((now_s - sender.told_s) / whole_s)
    if whole > 0.0:
        for s in range(sender.step_count):
            step = w.steps[e, sender.step_begin + s]
            took_s = step.bytes / step.rate * pace_of(w, e, sender, s)
            note_rounds(w, e, sender, s, took_s, whole)
        sender.told_s += whole * whole_s
        count_iterations(sender, whole)
