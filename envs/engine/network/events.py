"""The running jobs in a binary heap: the one whose event comes first is on top.

``heap`` holds jobs, keyed by their ``event_s``; ``heap_at`` tells where a job stands. Jobs of the
same time come in the order of their numbers.
"""

from __future__ import annotations

from ..core.compile import kernel


@kernel
def earlier(w, e, i, j):
    """Tell whether job i's event comes before job j's."""
    first, second = w.jobs[e, i].event_s, w.jobs[e, j].event_s
    return first < second or (first == second and i < j)


@kernel
def place(w, e, j, at):
    """Put a job at a place of the heap."""
    w.heap[e, at] = j
    w.jobs[e, j].heap_at = at


@kernel
def rise(w, e, j, at):
    """Move a job from a place towards the top as far as it belongs; return where it ends."""
    while at > 0:
        parent = (at - 1) >> 1
        other = int(w.heap[e, parent])
        if not earlier(w, e, j, other):
            break
        place(w, e, other, at)
        at = parent
    place(w, e, j, at)
    return at


@kernel
def sink(w, e, j, at):
    """Move a job from a place towards the bottom as far as it belongs."""
    size = w.envs[e].events
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and earlier(w, e, w.heap[e, child + 1], w.heap[e, child]):
            child += 1
        other = int(w.heap[e, child])
        if not earlier(w, e, other, j):
            break
        place(w, e, other, at)
        at = child
    place(w, e, j, at)


@kernel(inline=False)
def rekey(w, e, j):
    """Move a job to where its changed ``event_s`` belongs."""
    at = int(w.jobs[e, j].heap_at)
    if rise(w, e, j, at) == at:
        sink(w, e, j, at)


@kernel
def push(w, e, j):
    """Add a job."""
    env = w.envs[e]
    env.events += 1
    rise(w, e, j, int(env.events - 1))


@kernel
def remove(w, e, j):
    """Take a job out."""
    env = w.envs[e]
    at = int(w.jobs[e, j].heap_at)
    env.events -= 1
    last = int(w.heap[e, env.events])
    w.jobs[e, j].heap_at = -1
    if last != j:
        place(w, e, last, at)
        rekey(w, e, last)
