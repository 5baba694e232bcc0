"""The turn of a waiting request that reached the engine: what may happen before it is admitted.

Its deadline may have passed, its adapter or its image may find no place, or its prefix has to come
from a tier.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .adapters import has_place, leave_place, names_adapters, stop_for_unseen, take_place
from .fetching import BLOCKED as LACKS_BLOCKS
from .fetching import FETCHING, fetch, look_s, stop_for_queue
from .images import leave_image, may_encode, sees_images, take_image
from .refusal import expire_queued, has_gate, is_late, stop_for_deadline
from .runs import stop_for_head

ADMIT, STAYS, LEFT, BLOCKED = range(4)


@kernel
def turn_of(w, e, r, index, before, now_s, seen_s, replica, spec):
    """Let happen what comes before the admission of a request, behind ``before`` (-1: the first).

    Returns:
        ADMIT: it may be admitted; STAYS: it waits on, those behind it need not; LEFT: it has left
        the queue; BLOCKED: it waits for blocks or for the encoder, and so do those behind it.
    """
    request = w.requests[e, index]
    if is_late(request, seen_s):
        expire_queued(w, e, index, before, now_s, replica)
        return LEFT
    if not has_place(w, e, r, request.adapter):
        return STAYS
    if len(w.replica_tiers) > 0:
        outcome = fetch(w, e, r, index, now_s, replica, spec)
        if outcome == FETCHING:
            return STAYS
        if outcome == LACKS_BLOCKS:
            return BLOCKED
    if sees_images(w) and not may_encode(w, e, r, index):
        return BLOCKED
    return ADMIT


@kernel
def take_up(w, e, r, index, now_s):
    """Give an admitted request its adapter and its image; returns the seconds that both take."""
    load_s = 0.0
    if names_adapters(w):
        load_s += take_place(w, e, r, w.requests[e, index].adapter)
    if sees_images(w):
        load_s += take_image(w, e, r, index, now_s)
    return load_s


@kernel
def put_back(w, e, r, index):
    """Let a request that runs no more be done with its adapter and its image."""
    leave_place(w, e, r, w.requests[e, index].adapter)
    if sees_images(w):
        leave_image(w, e, r, index)


@kernel
def next_look_s(w, e, seen_s, replica):
    """Return when a replica that could begin nothing looks at its queue again, inf: if woken."""
    if len(w.replica_tiers) > 0 or has_gate(w):
        return look_s(w, e, seen_s, replica)
    return math.inf


@kernel
def stop_for_turns(w, e, seen_s, replica, spec):
    """Cut a new run for whose turn it may be, or what ends, before the run does."""
    if len(w.replica_tiers) > 0:
        stop_for_queue(w, e, seen_s, replica, spec)
    else:
        stop_for_head(w, e, seen_s, replica, spec)
    if names_adapters(w):
        stop_for_unseen(w, e, seen_s, replica, spec)
    if has_gate(w):
        stop_for_deadline(w, e, replica, spec)
