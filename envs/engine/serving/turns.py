"""Sessions that answer back: a turn arrives when the one before is answered and its tool has run.

A turn's arrival is known only when the request before it in its session finishes
(:mod:`.answered`); from then on it waits in a heap, by arrival and at one moment by number. Turns
stand behind all requests that arrive by the clock.

The step that begins at the very moment of an answer is planned before the turn that follows at
once: whoever reads an answer cannot have its question in the step that starts with it.
"""

from __future__ import annotations

import math

from ..core.compile import kernel


@kernel
def next_turn_s(w, e, router):
    """Return when the next turn arrives of those whose arrival is known, inf if there is none."""
    return w.due_s[e, 0] if router.due > 0 else math.inf


@kernel
def make_known(w, e, index, known_s, router):
    """Let a turn arrive its own time after ``known_s``; its deadline counts from there."""
    turn = w.requests[e, index]
    turn.arrival_s = known_s + turn.think_s
    turn.deadline_s += turn.arrival_s
    rise(w.due_s[e], w.due_requests[e], int(router.due), turn.arrival_s, index)
    router.due += 1
    router.unknown -= 1


@kernel
def take_turn(w, e, router):
    """Take the turn that arrives first out of the heap, and return it."""
    due_s, due = w.due_s[e], w.due_requests[e]
    taken = int(due[0])
    router.due -= 1
    sink(due_s, due, int(router.due), due_s[router.due], int(due[router.due]))
    return taken


@kernel
def is_before(one_s, one, other_s, other):
    """Tell whether one turn comes before another."""
    return one_s < other_s or (one_s == other_s and one < other)


@kernel
def rise(due_s, due, at, arrival_s, index):
    """Put a turn into the heap at a free place, from where it rises."""
    while at > 0:
        parent = (at - 1) >> 1
        if is_before(due_s[parent], due[parent], arrival_s, index):
            break
        due_s[at], due[at] = due_s[parent], due[parent]
        at = parent
    due_s[at], due[at] = arrival_s, index


@kernel
def sink(due_s, due, size, arrival_s, index):
    """Put a turn at the head of a heap of ``size``, from where it sinks."""
    at, child = 0, 1
    while child < size:
        if child + 1 < size and is_before(
            due_s[child + 1], due[child + 1], due_s[child], due[child]
        ):
            child += 1
        if not is_before(due_s[child], due[child], arrival_s, index):
            break
        due_s[at], due[at] = due_s[child], due[child]
        at, child = child, 2 * child + 1
    due_s[at], due[at] = arrival_s, index
