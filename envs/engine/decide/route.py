"""The decision which replica takes a request: when it is due, and how a candidate is taken.

Replicas are advanced only when they are observed: at each decision, and at the end; where sessions
answer back, at every step that could be an answer (:mod:`.answers`).
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..core.records import AVERAGED_ARRIVALS
from ..core.units import unit
from ..services.handover import begin_handover, compute_anew
from ..services.reach import has_decoder
from ..serving.advance import advance_in_order, shares_store
from ..serving.buckets import REFUSED_S, passes_s
from ..serving.clients import count_arrived, count_sent, has_clients
from ..serving.images import encoding_s
from ..serving.parking import park, unpark
from ..serving.queue import submit
from ..serving.ranks import is_due
from ..serving.records import HANDED, PREFILL
from ..serving.refusal import EXPIRED, REJECTED, end_unserved, is_late, may_refuse
from ..serving.replica import advance_replica
from ..serving.rollout import rollout_value
from ..serving.turns import next_turn_s, take_turn
from .answers import report_by
from .gate_seen import reject_row
from .route_seen import (
    fits,
    in_system_s,
    may_hold,
    predict_prefill_s,
    serves,
    waiting_s,
)

STRETCH_S = 600.0  # milliseconds to simulate


@kernel
def requests_value(w, e):
    """Return the weighted sum of the reward terms up to now.

    Its change between two decisions is the reward, so that the rewards of an episode add up to
    the metrics behind the terms.
    """
    router, rules, now_s = w.router[e], w.serving_rules[0], w.clock[e].now_s
    return (
        rules.w_slo * router.slo_met
        + rules.w_tokens * router.output_tokens
        - rules.w_waiting * waiting_s(router, now_s)
        - rules.w_in_system * in_system_s(router, now_s)
        - rules.w_preemptions * router.preemptions
        - rules.w_invalid * router.invalid
        - rules.w_unserved * (router.rejected + router.expired)
        + rollout_value(w, e, router, rules, now_s)
    )


@kernel
def takes(w, e, r, request):
    """Tell whether a replica can take the request now."""
    spec = w.replica_specs[r]
    return serves(w, e, r, request, w.replicas[e, r], spec) and fits(request, spec)


@kernel
def has_no_taker(w, e, request):
    """Tell whether no replica can take the request now.

    One that is cut off where its prompt was computed has to be computed anew.
    """
    now_s = w.clock[e].now_s
    if request.stage == HANDED and not has_decoder(w, e, int(request.source)):
        if request.computed_s <= now_s:
            compute_anew(w, e, request, now_s)
    for r in range(len(w.replica_specs)):
        if takes(w, e, r, request):
            return False
    return True


@kernel
def least_in_flight(w, e, request):
    """Return the replica with the fewest requests in flight of those that can take the request.

    -1 if there is none, which is so only where replicas start and end.
    """
    best = -1
    for r in range(len(w.replica_specs)):
        if takes(w, e, r, request):
            if best < 0 or w.replicas[e, r].in_flight < w.replicas[e, best].in_flight:
                best = r
    return best


@kernel
def hold_back(w, e, index, retry_s, router):
    """Queue the request at the router, to be decided again at ``retry_s``.

    The queue is in order of these moments; where nobody waits for a token bucket it grows at its
    end only.
    """
    before, after = int(router.held_tail), -1
    if before >= 0 and w.requests[e, before].retry_s > retry_s:
        before, after = -1, int(router.held_head)
        while w.requests[e, after].retry_s <= retry_s:
            before, after = after, int(w.requests[e, after].next)
    w.requests[e, index].retry_s = retry_s
    w.requests[e, index].next = after
    if before >= 0:
        w.requests[e, before].next = index
    else:
        router.held_head = index
    if after < 0:
        router.held_tail = index
    router.held += 1


@kernel
def pass_bucket(w, e, index, router):
    """Hold back or refuse a request that has just come, if its client exceeds its rate."""
    request, now_s = w.requests[e, index], w.clock[e].now_s
    state, client = w.client_states[e, request.client], w.clients[request.client]
    moment_s = passes_s(state, client, request, now_s)
    if moment_s == REFUSED_S:
        end_unserved(w, e, index, now_s, REJECTED)
        router.deciding = -1
    elif moment_s > now_s:
        hold_back(w, e, index, moment_s, router)
        router.deciding = -1


@unit
def take_route(w, e, action):
    """Send the request under decision to replica ``action``, hold it back, or refuse it.

    An infeasible action is counted and replaced by the feasible replica with the fewest requests
    in flight.
    """
    router, clock = w.router[e], w.clock[e]
    index = int(router.deciding)
    request = w.requests[e, index]
    router.deciding, router.decided_s = -1, clock.now_s
    if action == len(w.replica_specs) and may_hold(w, request, clock.now_s):
        hold_back(w, e, index, clock.now_s + w.serving_rules[0].hold_s, router)
        return
    if action == reject_row(w) and may_refuse(w, request):
        end_unserved(w, e, index, clock.now_s, REJECTED)
        return
    if action < 0 or action >= len(w.replica_specs) or not takes(w, e, action, request):
        clock.invalid_actions += 1
        router.invalid += 1
        action = least_in_flight(w, e, request)
    spec = w.replica_specs[action]
    kind = w.replicas[e, action].kind
    prefill_s = predict_prefill_s(w, request.prompt_tokens, 0, kind, spec, w.costs[kind])
    prefill_s += encoding_s(w, e, action, index, math.inf)
    request.work_s = prefill_s + request.estimate_tokens * spec.token_s
    if request.stage == HANDED:
        request.work_s -= prefill_s
        begin_handover(w, e, action, index)
        return
    if spec.does == PREFILL:
        request.work_s = prefill_s
    if has_clients(w):
        count_sent(w.client_states[e, request.client], w.clients[request.client], request, router)
    submit(w, e, action, index, clock.now_s, w.replicas[e, action], spec, router)


@kernel
def next_opener_s(w, e, router):
    """Return when the next request arrives of those that do by the clock, inf if none is left."""
    return w.requests[e, router.begun].arrival_s if router.begun < router.openers else math.inf


@kernel
def next_request_s(w, e):
    """Return when the next request needs a replica, inf if none is left."""
    router = w.router[e]
    if router.parked_due > 0:
        return w.clock[e].now_s
    moment_s = min(next_opener_s(w, e, router), next_turn_s(w, e, router))
    if router.held > 0:
        moment_s = min(moment_s, w.requests[e, router.held_head].retry_s)
    return moment_s


@kernel
def bring_up(w, e, router):
    """Take the next request under decision, and move time to it.

    A held request whose time has come goes before a request that arrives at the same moment, and
    parked ones before both; a turn of a session that answers back goes last.
    """
    clock = w.clock[e]
    if router.parked_due > 0:
        router.deciding = unpark(w, e, router)
        return
    opener_s = next_opener_s(w, e, router)
    arrival_s = min(opener_s, next_turn_s(w, e, router))
    if router.held > 0 and w.requests[e, router.held_head].retry_s <= arrival_s:
        router.deciding = router.held_head
        request = w.requests[e, router.deciding]
        clock.now_s = request.retry_s
        router.held_head = request.next
        if router.held_head < 0:
            router.held_tail = -1
        router.held -= 1
        return
    if opener_s <= arrival_s:
        router.deciding = router.begun
        router.begun += 1
    else:
        router.deciding = take_turn(w, e, router)
    request = w.requests[e, router.deciding]
    weight = 1.0 / min(router.arrived + 1.0, AVERAGED_ARRIVALS)
    router.mean_prompt += weight * (request.prompt_tokens - router.mean_prompt)
    if router.arrived > 0:
        gap_s = arrival_s - router.last_arrival_s
        weight = 1.0 / min(float(router.arrived), AVERAGED_ARRIVALS)
        router.gap_s += weight * (gap_s - router.gap_s)
    clock.now_s = router.last_arrival_s = arrival_s
    router.arrived += 1
    router.awaiting_arrival_s += arrival_s
    router.unfinished_arrival_s += arrival_s
    if has_clients(w):
        count_arrived(w, e, request.client, router)
        pass_bucket(w, e, int(router.deciding), router)
    if w.service_states.shape[1] > 0:
        service = w.service_states[e, request.service]
        service.arrived += 1
        service.prompt_tokens += request.prompt_tokens


@unit
def next_route(w, e):
    """Bring up the next request, and the replicas to its moment."""
    bring_up(w, e, w.router[e])
    until_s = w.clock[e].now_s
    interval_s = w.router[e].signal_interval_s
    in_order = shares_store(w)
    if in_order and interval_s > 0.0:
        advance_in_order(w, e, math.floor(until_s / interval_s) * interval_s)
    for r in range(len(w.replica_specs)):
        if interval_s > 0.0:
            report_by(w, e, r, until_s)
        if is_due(w.replicas[e, r], until_s) and not in_order:
            advance_replica(w, e, r, until_s)
    if in_order:
        advance_in_order(w, e, until_s)
    index = int(w.router[e].deciding)
    if index < 0:  # its client exceeds its rate
        return
    if is_late(w.requests[e, index], until_s):
        end_unserved(w, e, index, until_s, EXPIRED)
        w.router[e].deciding = -1
    elif len(w.roles) > 0 and has_no_taker(w, e, w.requests[e, index]):
        park(w, e, w.router[e], index)
        w.router[e].deciding = -1


@unit
def drain(w, e, until_s) -> bool:
    """Let one replica serve on for a stretch, at most to ``until_s``; False if none had to."""
    for r in range(len(w.replica_specs)):
        replica = w.replicas[e, r]
        if is_due(replica, until_s):
            due_s = replica.end_s if replica.busy == 1 else replica.start_s
            stretch_s = min(due_s + STRETCH_S, until_s)
            if shares_store(w):
                advance_in_order(w, e, stretch_s)
            else:
                advance_replica(w, e, r, stretch_s)
            return True
    return False


@kernel
def last_finish_s(w, e):
    """Return when the last request of those that have finished did, or a turn ended unserved."""
    return max(w.clock[e].now_s, w.router[e].last_finish_s)


@kernel
def choose_replica(w, e):
    """Return the replica for the request under decision that an infeasible action stands for."""
    return least_in_flight(w, e, w.requests[e, w.router[e].deciding])
