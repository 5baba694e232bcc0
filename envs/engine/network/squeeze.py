"""Room for entries and steps of periodic senders: when it is full dead ones are squeezed out."""

from __future__ import annotations

from ..core.compile import kernel
from .records import LEVELS

GONE = -1  # sender of an entry or a step that has left


@kernel
def make_room(w, e, net, pattern):
    """Squeeze out dead entries if a sender of this pattern might not fit behind the last one."""
    fabric, once = w.fabric[0], w.once.shape[1]
    per_flow = 2 + fabric.queue_pairs * fabric.hops
    usages, steps = w.usages.shape[1] - once * net.most_links, w.steps.shape[1] - once
    if net.usages + per_flow * pattern.ranks * pattern.num_phases > usages:
        squeeze_usages(w, e, net)
    if net.steps + pattern.num_phases > steps:
        squeeze_steps(w, e, net)


@kernel(inline=False)
def squeeze_usages(w, e, net):
    """Move all live entries to the front of the array, in their order."""
    to = 0
    last = GONE
    for slot in range(net.usages):
        usage = w.usages[e, slot]
        if usage.sender == GONE:
            continue
        if usage.sender != last:
            last = usage.sender
            w.senders[e, last].usage_begin = to
        if to < slot:
            if usage.before >= 0:
                w.usages[e, usage.before].next = to
            else:
                w.link_head[e, usage.link] = to
            if usage.next >= 0:
                w.usages[e, usage.next].before = to
            moved = w.usages[e, to]
            moved.sender, moved.link, moved.phase = usage.sender, usage.link, usage.phase
            moved.weight, moved.next, moved.before = usage.weight, usage.next, usage.before
            moved.level = usage.level
        to += 1
    net.usages = to


@kernel
def move_levels(w, e, at, to):
    """Move what is known of how much one-shot senders slow a phase."""
    if w.once.shape[1] == 0:
        return
    step, moved = w.steps[e, at], w.steps[e, to]
    moved.level, moved.rounds, moved.longer_s = step.level, step.rounds, step.longer_s
    for level in range(LEVELS):
        w.levels[e, to, level] = w.levels[e, at, level]


@kernel(inline=False)
def squeeze_steps(w, e, net):
    """Move all live steps to the front of the array, in their order."""
    to = 0
    last = GONE
    for at in range(net.steps):
        step = w.steps[e, at]
        if step.sender == GONE:
            continue
        if step.sender != last:
            last = step.sender
            w.senders[e, last].step_begin = to
        if to < at:
            moved = w.steps[e, to]
            moved.sender, moved.begin, moved.count = step.sender, step.begin, step.count
            moved.bytes, moved.limit, moved.rate = step.bytes, step.limit, step.rate
            moved.mark = 0
            move_levels(w, e, at, to)
        to += 1
    net.steps = to
