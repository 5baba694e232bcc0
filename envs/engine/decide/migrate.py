"""The decision which running request moves to which replica: when it is due, what it does.

A round of decisions begins at every interval if anything can move. It asks in turn which replica
gives a request (the engine says which one, :func:`..services.moving.next_to_leave`) and which one
gets it, until nothing more can move; the last candidate, to move nothing, ends the round. So there
are no more candidates than to route, and one more decision per move. Source of the rounds: Llumnix
(OSDI 2024), whose global scheduler pairs instances that report at every interval.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..core.units import unit
from ..services.moving import (
    begin_move,
    computed_now,
    copy_last,
    give_up,
    land,
    next_stage,
    next_to_leave,
)
from ..serving.growth import blocks_of
from ..serving.move_records import LEAVING, LEFT, REST, STOPPED
from ..serving.records import DRAINING, SERVING
from ..serving.replica import advance_replica
from .answers import report_by
from .route_seen import fits, report


@kernel
def next_move_s(w, e):
    """Return when a stage ends or a round begins next, inf if none does.

    There are no rounds while no replica has a request.
    """
    moment_s = math.inf
    if w.router[e].in_flight > 0:
        moment_s = max(w.mover[e].tick_s, w.clock[e].now_s)
    for r in range(len(w.replica_specs)):
        moment_s = min(moment_s, w.moves[e, r].due_s)
    return moment_s


@unit
def moves_happen(w, e, moment_s) -> bool:
    """End the stages that end at ``moment_s``, and begin a round if one is due.

    Time moves only where somebody may have to decide, so an episode ends with its last request.

    Returns:
        Whether a replica that drains has nothing left.
    """
    for r in range(len(w.replica_specs)):
        if w.moves[e, r].due_s <= moment_s:
            end_stage(w, e, r, moment_s, w.moves[e, r])
    if w.mover[e].tick_s <= moment_s and w.router[e].in_flight > 0:
        begin_round(w, e, moment_s, w.mover[e], w.router[e])
    for r in range(len(w.replica_specs)):
        replica = w.replicas[e, r]
        if replica.phase == DRAINING and replica.in_flight + replica.holding == 0:
            return True
    return False


@kernel
def begin_round(w, e, now_s, mover, router):
    """Begin a round of decisions; there is none if all requests have ended meanwhile."""
    for r in range(len(w.replica_specs)):
        report_by(w, e, r, now_s)
        advance_replica(w, e, r, now_s)
        if router.signal_interval_s == 0.0:
            replica = w.replicas[e, r]
            report(w, e, r, now_s, replica, w.replica_specs[r], w.costs[replica.kind])
    interval_s = w.migration_rules[0].interval_s
    mover.tick_s += interval_s
    if mover.tick_s <= now_s:  # there was nothing to decide about for a while
        mover.tick_s = now_s + interval_s
    if router.in_flight == 0:
        return
    w.clock[e].now_s = max(w.clock[e].now_s, now_s)
    mover.source, mover.deciding = -1, can_move(w, e)


@kernel
def end_stage(w, e, r, now_s, move):
    """Let happen what follows a stage of the request that replica ``r`` gives."""
    advance_replica(w, e, r, now_s)
    advance_replica(w, e, move.to, now_s)
    if move.phase == LEFT:
        copy_last(w, e, r, now_s, move)
    elif move.phase == STOPPED:
        land(w, e, r, now_s, move)
    elif move.phase == LEAVING:  # it has finished in that step
        give_up(w, e, now_s, move)
    else:
        next_stage(w, e, r, now_s, move)


@kernel
def is_free(w, e, r):
    """Tell whether a replica that serves neither gives nor gets a request."""
    phase = w.replicas[e, r].phase
    if phase != SERVING and phase != DRAINING:
        return False
    return w.moves[e, r].phase == REST and w.moves[e, r].source < 0


@kernel
def can_get(w, e, r, to):
    """Tell whether replica ``to`` could get the request that replica ``r`` would give.

    Nobody may wait there, and it must have the blocks for it, now and at its longest.
    """
    taker, spec = w.replicas[e, to], w.replica_specs[to]
    place = next_to_leave(w, e, r)
    if r == to or place < 0 or taker.waiting > 0 or not is_free(w, e, to):
        return False
    if taker.phase != SERVING or spec.service != w.replica_specs[r].service:
        return False
    computed = computed_now(w, e, r, place, w.clock[e].now_s, w.replicas[e, r])
    need = blocks_of(computed + 2, spec)
    return need <= taker.free_blocks and fits(w.requests[e, w.slots[e, r, place].request], spec)


@kernel
def can_give(w, e, r):
    """Tell whether a replica has a request that another one could get."""
    if not is_free(w, e, r):
        return False
    for to in range(len(w.replica_specs)):
        if can_get(w, e, r, to):
            return True
    return False


@kernel
def can_move(w, e):
    """Tell whether any request could move."""
    for r in range(len(w.replica_specs)):
        if can_give(w, e, r):
            return True
    return False


@kernel
def is_movable(w, e, r):
    """Tell whether a replica can be chosen now, to give a request or to get it."""
    source = w.mover[e].source
    return can_give(w, e, r) if source < 0 else can_get(w, e, int(source), r)


@unit
def take_migrate(w, e, action):
    """Carry out a decision about a move; one that is not feasible is counted, and moves nothing."""
    mover, none = w.mover[e], len(w.replica_specs)
    if action != none and (action < 0 or action > none or not is_movable(w, e, action)):
        w.clock[e].invalid_actions += 1
        w.router[e].invalid += 1
        action = none
    if action == none:
        mover.deciding = 0
    elif mover.source < 0:
        mover.source = action
    else:
        begin_move(w, e, int(mover.source), action, w.clock[e].now_s)
        mover.source, mover.deciding = -1, can_move(w, e)
