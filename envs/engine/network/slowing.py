"""What one-shot senders cost periodic ones: one more term of ``communication_s`` in FLUID.

A periodic sender goes at the pace of its slowest flow, so it counts how slow the worst of its links
is: each entry has a level, a histogram says which is the highest, and whenever that changes the
time that has passed is counted, as far as the phase was under way by the sender's own clock. What
it did in ``busy_s`` would have taken ``among_s`` (alone, by the others' mean effect taken off) and
did take ``work_s`` at the pace that it had; their difference, per second of the phase alone, is the
term. Old times are forgotten. When all is quiet again a sender is looked at until the
term has faded.

Source: own measurements against exact max-min, docs/contention.md.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .events import rekey
from .presence import seconds_in
from .progress import reschedule, touch
from .records import LEVELS

_PRIOR = 0.25  # of a phase, seen without one-shot senders before it begins
_MEMORY = 8.0  # phases seen, beyond which half of them are forgotten
_NOTICED = 0.01  # change of an iteration that a sender's rate follows


@kernel
def slowness(level):
    """Return by how many times its time a phase is longer at a level: eight to a factor of two."""
    return 2.0 ** (level / 8.0)


@kernel
def level_of(record, capacity, weight, rate):
    """Return the level of flows of ``weight`` that go at ``rate`` alone, on a link as it is."""
    if record.flows <= 0.0:
        return 0
    share = max(
        (capacity - record.other) / (record.held + weight),
        (capacity - record.used) / weight,
        capacity / (record.flows + weight),
    )
    if rate <= share:
        return 0
    return min(int(8.0 * math.log2(rate / share) + 0.5), LEVELS - 1)


@kernel
def begin_watch(w, e, sender, now_s):
    """Begin to count for a periodic sender that has just entered."""
    sender.once_s = 0.0
    for s in range(sender.step_begin, sender.step_begin + sender.step_count):
        step = w.steps[e, s]
        step.level, step.since_s = 0, now_s
        step.busy_s = step.among_s = step.work_s = _PRIOR * step.bytes / step.rate
        w.levels[e, s, :] = 0
        w.levels[e, s, 0] = step.count
    for slot in range(sender.usage_begin, sender.usage_begin + sender.usage_count):
        link = w.usages[e, slot].link
        if w.links[e, link].flows > 0.0:
            watch(w, e, link, now_s)


@kernel
def watch(w, e, link, now_s):
    """Let the periodic senders on a link note how one-shot senders slow them there."""
    record, capacity = w.links[e, link], w.capacity[link]
    at = int(w.link_head[e, link])
    while at >= 0:
        usage = w.usages[e, at]
        sender = w.senders[e, usage.sender]
        s = int(sender.step_begin + usage.phase)
        step = w.steps[e, s]
        level = level_of(record, capacity, usage.weight, step.rate)
        if level != usage.level and step.bytes > 0.0:
            w.levels[e, s, usage.level] -= 1
            w.levels[e, s, level] += 1
            usage.level = level
            highest = max(int(step.level), level)
            while highest > 0 and w.levels[e, s, highest] == 0:
                highest -= 1
            if highest != step.level:
                count_time(sender, step, now_s)
                step.level = highest
                note(w, e, int(usage.sender), sender)
        at = int(usage.next)


@kernel(inline=False)
def count_time(sender, step, now_s):
    """Count the time since a phase's level changed."""
    on_s = seconds_in(sender, step, step.since_s, now_s)
    step.since_s = now_s
    beside = sender.among_s / sender.comm_alone_s
    step.busy_s += on_s
    step.among_s += on_s / beside
    step.work_s += on_s / (beside + slowness(step.level) - 1.0)
    most_s = _MEMORY * step.bytes / step.rate
    if step.work_s > most_s:
        kept = 0.5 * most_s / step.work_s
        step.busy_s, step.among_s, step.work_s = (
            kept * step.busy_s, kept * step.among_s, kept * step.work_s,
        )  # fmt: skip


@kernel
def cost_s(w, e, sender):
    """Return the seconds that one-shot senders add to an iteration's communication."""
    total_s = 0.0
    for s in range(sender.step_begin, sender.step_begin + sender.step_count):
        step = w.steps[e, s]
        if step.work_s > 0.0:
            slower = step.busy_s / step.work_s - step.busy_s / step.among_s
            total_s += step.bytes / step.rate * slower
    return total_s


@kernel
def note(w, e, j, sender):
    """Note a sender for a new rate if what one-shot senders cost it has changed enough."""
    once_s = cost_s(w, e, sender)
    if abs(once_s - sender.once_s) > _NOTICED * sender.iteration_s:
        sender.once_s = once_s
        touch(w, e, j)


@kernel
def plan_look(w, e, j, now_s):
    """Look at a periodic sender again after a while, whatever happens, if it is slowed now."""
    sender = w.senders[e, j]
    look_s = now_s + _MEMORY * sender.iteration_s
    if sender.once_s > 0.0 and look_s < sender.event_s:
        sender.event_s = look_s
        rekey(w, e, j)


@kernel
def is_look(sender):
    """Tell whether a periodic sender's next event is to look at it, and not its end."""
    return sender.event_s < sender.since_s + sender.left / sender.rate


@kernel(inline=False)
def look(w, e, j, now_s):
    """Let what one-shot senders cost fade where they have gone."""
    sender, is_quiet = w.senders[e, j], True
    for s in range(sender.step_begin, sender.step_begin + sender.step_count):
        step = w.steps[e, s]
        count_time(sender, step, now_s)
        is_quiet = is_quiet and step.level == 0
    sender.once_s = cost_s(w, e, sender)
    if is_quiet and sender.once_s < _NOTICED * sender.iteration_s:
        sender.once_s = 0.0
    reschedule(w, e, j)
    touch(w, e, j)
