"""Requests that no replica can take now: they wait, in order, until one starts to serve.

A replica that fails hands its requests back here, too. ``parked_due`` says how many of the first
ones are to be decided again at once: as many as there are when a replica comes up.
"""

from __future__ import annotations

from ..core.compile import kernel
from .records import HANDED, WHOLE


@kernel
def park(w, e, router, index):
    """Put a request behind those that wait for a replica."""
    w.requests[e, index].next = -1
    if router.parked_tail >= 0:
        w.requests[e, router.parked_tail].next = index
    else:
        router.parked_head = index
    router.parked_tail = index
    router.parked += 1


@kernel
def unpark(w, e, router):
    """Take the first one that is to be decided again, and return it."""
    index = int(router.parked_head)
    router.parked_head = w.requests[e, index].next
    if router.parked_head < 0:
        router.parked_tail = -1
    router.parked -= 1
    router.parked_due -= 1
    return index


@kernel(inline=False)
def hand_over(w, e, r, index, replica, router):
    """Let a prefill replica, whose clock is the world's, be done with a request but for its KV.

    One that was handed over before has its prompt computed now.
    """
    request = w.requests[e, index]
    if request.stage != WHOLE:
        router.parked_due = router.parked
        return
    request.stage, request.source, request.replica = HANDED, r, -1
    replica.in_flight -= 1
    replica.in_flight_tokens -= request.prompt_tokens + request.estimate_tokens
    replica.work_s -= request.work_s
    replica.holding += 1
    router.in_flight -= 1
    park(w, e, router, index)
    router.parked_due = router.parked
