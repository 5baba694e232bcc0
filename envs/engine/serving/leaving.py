"""How a request that moves leaves the batch of its replica: between two steps."""

from __future__ import annotations

from ..core.compile import kernel
from ..core.units import unit
from .growth import NEVER, blocks_of, computed_at, count_growth
from .move_records import LEAVING, LEFT


@kernel
def place_in_batch(w, e, r, index, replica):
    """Return the place of a request in the batch of a replica, -1 if it does not decode there."""
    for at in range(replica.running):
        slot = w.slots[e, r, at]
        if slot.request == index and slot.finish_step != NEVER:
            return at
    return -1


@unit
def let_leave(w, e, r, start_s):
    """Take the request that is to leave out of a replica whose next step starts at ``start_s``.

    Its last blocks set off at that moment. If it has just finished nothing happens.
    """
    move, replica, spec = w.moves[e, r], w.replicas[e, r], w.replica_specs[r]
    if move.phase != LEAVING:
        return
    place = place_in_batch(w, e, r, move.request, replica)
    if place < 0:
        return
    request = w.requests[e, move.request]
    finish_step = w.slots[e, r, place].finish_step
    replica.running -= 1
    for at in range(place, replica.running):
        w.slots[e, r, at].request = w.slots[e, r, at + 1].request
        w.slots[e, r, at].finish_step = w.slots[e, r, at + 1].finish_step
    request.computed = computed_at(request, finish_step, replica.step_count)
    request.generated = request.computed + 1 - request.prompt_tokens
    request.blocks = blocks_of(request.computed, spec)
    count_growth(w, e, r, request.computed, -1, replica, spec)
    replica.context_tokens -= request.computed
    move.phase, move.stopped_s, move.due_s = LEFT, start_s, start_s
