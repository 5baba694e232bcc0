"""The running senders in a binary heap: the one whose event comes first is on top.

``heap`` holds senders, keyed by their ``event_s``; ``heap_at`` tells where a sender stands. Senders
of the same time come in the order of their numbers.
"""

from __future__ import annotations

from ..core.compile import kernel


@kernel
def earlier(w, e, i, j):
    """Tell whether sender i's event comes before sender j's."""
    first, second = w.senders[e, i].event_s, w.senders[e, j].event_s
    return first < second or (first == second and i < j)


@kernel
def place(w, e, j, at):
    """Put a sender at a place of the heap."""
    w.heap[e, at] = j
    w.senders[e, j].heap_at = at


@kernel
def rise(w, e, j, at):
    """Move a sender from a place towards the top as far as it belongs; return where it ends."""
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
    """Move a sender from a place towards the bottom as far as it belongs."""
    size = w.network[e].events
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
    """Move a sender to where its changed ``event_s`` belongs."""
    at = int(w.senders[e, j].heap_at)
    if rise(w, e, j, at) == at:
        sink(w, e, j, at)


@kernel
def push(w, e, j):
    """Add a sender."""
    net = w.network[e]
    net.events += 1
    rise(w, e, j, int(net.events - 1))


@kernel
def remove(w, e, j):
    """Take a sender out."""
    net = w.network[e]
    at = int(w.senders[e, j].heap_at)
    net.events -= 1
    last = int(w.heap[e, net.events])
    w.senders[e, j].heap_at = -1
    if last != j:
        place(w, e, last, at)
        rekey(w, e, last)
