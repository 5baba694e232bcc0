"""Requests that end unserved: refused by the router, or past their deadline before they began.

A request expires if no step has begun it by its deadline: its own, that of its class of clients or
the router's. That is noticed where somebody looks at it: at the router when it is decided about
again, in a replica's queue by a step that could admit it and sees that moment. Who has a token, or
began and was preempted, stays. Sources: the flow control of the Gateway API
inference extension (llm-d), whose requests have a time to live and can be shed; S-LoRA's early
abort (Sheng et al., MLSys 2024).
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .clients import count_unserved, has_clients
from .failing import fail_session
from .records import WHOLE
from .runs import stop_for

SERVED, REJECTED, EXPIRED = range(3)
"""What became of a request; SERVED also while it may be. Of a turn it may be that it was never
asked, see :mod:`.failing`."""


@kernel
def has_gate(w):
    """Tell whether requests may end unserved."""
    return w.serving_rules[0].gated == 1


@kernel
def ended(router):
    """Return how many requests have ended, served or not."""
    return router.finished + router.rejected + router.expired


@kernel
def left(router):
    """Return how many requests have not ended and will still be asked, or may be."""
    return router.num_requests - ended(router) - router.never_asked


@kernel
def may_refuse(w, request):
    """Tell whether the router may refuse a request: nothing of it has been computed."""
    return w.serving_rules[0].may_reject == 1 and is_unbegun(request)


@kernel
def is_unbegun(request):
    """Tell whether no step has begun a request, on any replica."""
    return (
        request.stage == WHOLE
        and request.blocks == 0
        and request.preemptions == 0
        and request.generated == 0
    )


@kernel
def is_late(request, moment_s):
    """Tell whether a request has passed its deadline by a moment without having begun."""
    return request.deadline_s <= moment_s and is_unbegun(request)


@kernel
def end_unserved(w, e, index, now_s, outcome):
    """Close the books of a request that is served by nobody; if it is a turn its session fails."""
    router, request = w.router[e], w.requests[e, index]
    request.outcome = outcome
    if outcome == REJECTED:
        router.rejected += 1
    else:
        router.expired += 1
    router.unserved_s += now_s - request.arrival_s
    if has_clients(w):
        state, client = w.client_states[e, request.client], w.clients[request.client]
        count_unserved(state, client, request, int(outcome == REJECTED))
    router.awaiting_arrival_s -= request.arrival_s
    router.unfinished_arrival_s -= request.arrival_s
    if router.answers == 1:
        fail_session(w, e, index, now_s)


@kernel(inline=False)
def expire_queued(w, e, index, before, now_s, replica):
    """End a request in a replica's queue, behind ``before`` (-1: the first one)."""
    request = w.requests[e, index]
    if before >= 0:
        w.requests[e, before].next = request.next
    else:
        replica.head = request.next
    if request.next < 0:
        replica.tail = before
    replica.waiting -= 1
    replica.queued_tokens -= request.prompt_tokens
    replica.in_flight -= 1
    replica.in_flight_tokens -= request.prompt_tokens + request.estimate_tokens
    replica.work_s -= request.work_s
    w.router[e].in_flight -= 1
    end_unserved(w, e, index, now_s, EXPIRED)


@kernel(inline=False)
def stop_for_deadline(w, e, replica, spec):
    """Cut a new run where the first request of the queue that could be admitted expires."""
    at = int(replica.head) if replica.running < spec.max_num_seqs else -1
    while at >= 0 and w.requests[e, at].blocks > 0:
        at = int(w.requests[e, at].next)
    if at >= 0 and is_unbegun(w.requests[e, at]) and w.requests[e, at].deadline_s < math.inf:
        stop_for(w.requests[e, at].deadline_s, replica, spec)
