"""What one-shot senders cost periodic ones: one more term of ``communication_s`` in FLUID.

A periodic sender goes at the pace of its slowest flow, so it counts how slow the worst of its links
is: each entry has a level, a histogram says which is the highest, and before that changes the
sender is followed up to now at the pace that it had (:mod:`.presence`). How long its phases took,
less what other periodic senders cost, is the term, as a mean over iterations, of which old ones
are forgotten. When all is quiet again a sender is looked at until the term has faded.

Source: own measurements against exact max-min, docs/contention.md.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .events import rekey
from .presence import begin_presence, bring_up
from .progress import catch_up, reschedule, touch
from .records import LEVELS

_LOOK = 8.0  # iterations after which a sender that is slowed is looked at, whatever happens
_NOTICED = 0.01  # change of an iteration that a sender's rate follows


@kernel
def level_of(record, capacity, weight, rate):
    """Return the level of flows of ``weight`` that go at ``rate`` alone, on a link as it is."""
    if record.flows <= 0.0:
        return 0
    share = max(
        (capacity - record.other) / (record.held + weight), capacity / (record.flows + weight)
    )
    if rate <= share:
        return 0
    return min(int(8.0 * math.log2(rate / share) + 0.5), LEVELS - 1)


@kernel
def begin_watch(w, e, sender, now_s):
    """Begin to count for a periodic sender that has just entered."""
    sender.once_s = 0.0
    begin_presence(w, e, sender, now_s)
    for s in range(sender.step_begin, sender.step_begin + sender.step_count):
        w.steps[e, s].level, w.levels[e, s, :] = 0, 0
        w.levels[e, s, 0] = w.steps[e, s].count
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
                bring_up(w, e, int(usage.sender), now_s)
                step.level = highest
                note(w, e, int(usage.sender), sender)
        at = int(usage.next)


@kernel
def cost_s(w, e, sender):
    """Return the seconds that one-shot senders add to an iteration's communication."""
    total_s = 0.0
    for s in range(sender.step_begin, sender.step_begin + sender.step_count):
        total_s += w.steps[e, s].longer_s / w.steps[e, s].rounds
    return max(total_s, 0.0)


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
    look_s = now_s + _LOOK * sender.iteration_s
    if sender.once_s > 0.0 and look_s < sender.event_s:
        sender.event_s = look_s
        rekey(w, e, j)


@kernel
def is_look(sender):
    """Tell whether a sender's next event is to look at it, and not its end."""
    return sender.event_s < sender.since_s + sender.left / sender.rate


@kernel(inline=False)
def look(w, e, j, now_s):
    """Let what one-shot senders cost fade where they have gone."""
    sender, is_quiet = w.senders[e, j], True
    bring_up(w, e, j, now_s)
    for s in range(sender.step_begin, sender.step_begin + sender.step_count):
        is_quiet = is_quiet and w.steps[e, s].level == 0
    sender.once_s = cost_s(w, e, sender)
    if is_quiet and sender.once_s < _NOTICED * sender.iteration_s:
        sender.once_s = 0.0
    catch_up(sender, now_s)
    reschedule(w, e, j)
    touch(w, e, j)
