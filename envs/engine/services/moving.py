"""Moving a running request to another replica, stage by stage, while it decodes on.

A stage copies the KV blocks that are full and not there yet, and others fill meanwhile. Once few
enough are left the request leaves its batch when the step under way ends, the rest is copied, and
it goes on at the other replica, whose next step computes its next token: only that last stage is a
pause. The blocks of a stage are reserved there before it begins, and all are held at both ends
until the request is there. It is given up, and nothing is lost, if the other replica lacks blocks,
or if the request has finished or was preempted meanwhile, which is noticed when a stage ends.
Sources: Llumnix (Sun et al., OSDI 2024), and ``llumnix/llumlet/migration_coordinator.py`` of
github.com/AlibabaPAI/llumnix. A replica gives or gets one request at a time.

On a cluster a stage is a one-shot sender of the network, which shares links with others and gangs
(:mod:`.handover`); elsewhere each move has a rate of its own. Left out: moves of requests that
wait, and what copies take from the GPUs' own memory traffic.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..network.once import recall
from ..serving.growth import blocks_of, computed_at
from ..serving.kvcache import allocate, release
from ..serving.leaving import place_in_batch
from ..serving.move_records import COPYING, LEAVING, LEFT, REST, STOPPED
from ..serving.queue import enqueue_loaded, put_behind_loaded, send_to
from ..serving.replica import advance_replica
from ..serving.runs import cut_run, steps_done
from .handover import ship


@kernel
def computed_now(w, e, r, place, now_s, replica):
    """Return the computed tokens of a decoding request of a replica, advanced to now."""
    slot = w.slots[e, r, place]
    steps = replica.step_count + steps_done(replica, now_s)
    return computed_at(w.requests[e, slot.request], slot.finish_step, steps)


@kernel
def next_to_leave(w, e, r):
    """Return the place in a replica's batch of the request that would leave, -1 for none.

    Of those that decode the one of the lowest priority, then the shortest. Source: Llumnix, 4.4.3,
    and the default of its ``--request-migration-policy``.
    """
    replica, best, tokens = w.replicas[e, r], -1, 0
    for at in range(replica.running - replica.prefilling):
        slot = w.slots[e, r, at]
        request = w.requests[e, slot.request]
        length = computed_at(request, slot.finish_step, replica.step_count)
        if best >= 0:
            least = w.requests[e, w.slots[e, r, best].request].priority
            if request.priority > least or (request.priority == least and length >= tokens):
                continue
        best, tokens = at, length
    return best


@kernel
def free_some(w, e, r, now_s, replica, spec):
    """Let a replica that has some more free blocks look at those who wait there."""
    if replica.waiting == 0:
        return
    if replica.busy == 0:
        replica.start_s = now_s
    else:
        cut_run(w, e, r, now_s, replica, spec)


@kernel
def reserve_there(w, e, move, count, now_s):
    """Reserve blocks where a request goes; False if there are too few."""
    replica, spec = w.replicas[e, move.to], w.replica_specs[move.to]
    cut_run(w, e, move.to, now_s, replica, spec)
    if count > replica.free_blocks:
        return False
    allocate(w, e, move.to, count, replica, spec)
    move.there += count
    return True


@kernel
def begin_move(w, e, r, to, now_s):
    """Let the next request that would leave replica ``r`` set off; both are advanced to now."""
    move, mover = w.moves[e, r], w.mover[e]
    index = w.slots[e, r, next_to_leave(w, e, r)].request
    move.request, move.to, w.moves[e, to].source = index, to, r
    move.preemptions = w.requests[e, index].preemptions
    move.stages = move.copied = move.there = 0
    w.replicas[e, to].holding += 1  # it does not end before it is there
    mover.moving += 1
    next_stage(w, e, r, now_s, move)


@kernel(inline=False)
def next_stage(w, e, r, now_s, move):
    """Begin the next stage, or let the request leave when the step under way has ended."""
    replica, spec, rules = w.replicas[e, r], w.replica_specs[r], w.migration_rules[0]
    move.sender = -1
    place = place_in_batch(w, e, r, move.request, replica)
    if place < 0 or w.requests[e, move.request].preemptions != move.preemptions:
        give_up(w, e, now_s, move)
        return
    computed = computed_now(w, e, r, place, now_s, replica)
    move.stages += 1
    left = blocks_of(computed + 1, spec) - move.copied  # the step under way stores one more
    if left <= rules.last_blocks:
        # and whoever goes on computes the token that it gives
        if not reserve_there(w, e, move, blocks_of(computed + 2, spec) - move.there, now_s):
            give_up(w, e, now_s, move)
            return
        cut_run(w, e, r, now_s, replica, spec)
        move.phase, move.due_s = LEAVING, replica.end_s
    elif move.stages >= rules.max_stages or not reserve_there(w, e, move, left - 1, now_s):
        give_up(w, e, now_s, move)
    else:
        copy(w, e, r, left - 1, now_s, move)
        move.phase = COPYING


@kernel(inline=False)
def copy(w, e, r, blocks, now_s, move):
    """Let blocks set off to where a request goes."""
    rules, ready_s = w.migration_rules[0], now_s + 1e-3 * w.migration_rules[0].stage_ms
    move.copied += blocks
    if w.replica_specs[r].role < 0:
        move.due_s = ready_s + blocks * rules.block_s
    else:
        client = w.router[e].num_requests + r
        move.sender = ship(w, e, client, r, int(move.to), blocks, ready_s)
        move.due_s = math.inf


@kernel
def copy_last(w, e, r, now_s, move):
    """Let the last blocks of a request that has just left its batch set off."""
    move.phase = STOPPED
    copy(w, e, r, w.requests[e, move.request].blocks - move.copied, now_s, move)


@kernel(inline=False)
def give_up(w, e, now_s, move):
    """Free what was reserved for a request that does not come."""
    replica, spec = w.replicas[e, move.to], w.replica_specs[move.to]
    replica.tail_blocks += move.there
    replica.free_blocks += move.there
    free_some(w, e, move.to, now_s, replica, spec)
    w.mover[e].given_up += 1
    forget(w, e, move)


@kernel(inline=False)
def land(w, e, r, now_s, move):
    """Let a request that has left replica ``r`` go on where its KV cache is now."""
    index, router, mover = move.request, w.router[e], w.mover[e]
    request, replica, spec = w.requests[e, index], w.replicas[e, r], w.replica_specs[r]
    mover.arrived += 1
    mover.blocks += move.copied
    mover.pause_s += now_s - move.stopped_s
    release(w, e, r, request, replica, spec)
    free_some(w, e, r, now_s, replica, spec)
    replica.in_flight -= 1
    replica.in_flight_tokens -= request.prompt_tokens + request.estimate_tokens
    replica.work_s -= request.work_s
    router.in_flight -= 1
    request.blocks = move.there
    taker = w.replicas[e, move.to]
    send_to(w, e, move.to, request, taker, router)
    enqueue_loaded(w, e, index, now_s, taker, w.replica_specs[move.to])
    forget(w, e, move)


@kernel
def forget(w, e, move):
    """Close the books of a move."""
    w.mover[e].moving -= 1
    w.replicas[e, move.to].holding -= 1
    w.moves[e, move.to].source = -1
    move.phase, move.request, move.to, move.sender, move.due_s = REST, -1, -1, -1, math.inf


@kernel(inline=False)
def break_moves(w, e, r, now_s):
    """Give up what replica ``r``, which is lost and advanced to now, gives or gets.

    What it gives goes back to the router with all that it serves; what it gets goes on where it is.
    """
    move, source = w.moves[e, r], int(w.moves[e, r].source)
    if move.phase != REST:
        index, has_left = move.request, move.phase == LEFT or move.phase == STOPPED
        advance_replica(w, e, int(move.to), now_s)
        call_off(w, e, now_s, move)
        if has_left:
            put_behind_loaded(w, e, index, w.replicas[e, r])
    if source >= 0:
        move = w.moves[e, source]
        advance_replica(w, e, source, now_s)
        index, has_left = move.request, move.phase == LEFT or move.phase == STOPPED
        call_off(w, e, now_s, move)
        if has_left:
            go_back(w, e, source, index, now_s, w.replicas[e, source], w.replica_specs[source])


@kernel
def call_off(w, e, now_s, move):
    """Give up a move whatever stage it is in; ``settle`` has to follow."""
    if move.sender >= 0 and move.due_s == math.inf:  # on its way
        recall(w, e, int(move.sender), now_s)
    give_up(w, e, now_s, move)


@kernel(inline=False)
def go_back(w, e, r, index, now_s, replica, spec):
    """Queue a request again that has left the batch of replica ``r``, which still has its cache.

    It needs a block for its next token; if there is none it is preempted.
    """
    request = w.requests[e, index]
    need = blocks_of(request.computed + 1, spec) - request.blocks
    cut_run(w, e, r, now_s, replica, spec)
    if need <= replica.free_blocks:
        allocate(w, e, r, need, replica, spec)
        request.blocks += need
        enqueue_loaded(w, e, index, now_s, replica, spec)
        return
    release(w, e, r, request, replica, spec)
    request.computed = 0
    request.preemptions += 1
    w.router[e].preemptions += 1
    replica.queued_tokens += request.prompt_tokens + request.generated
    put_behind_loaded(w, e, index, replica)
    free_some(w, e, r, now_s, replica, spec)
