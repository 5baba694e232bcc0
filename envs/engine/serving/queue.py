"""The queue of a replica: requests come, wait in order, and are taken into the batch."""

from __future__ import annotations

from ..core.compile import kernel
from .adapters import names_adapters
from .encode_pool import embeddings_s, encodes_apart
from .growth import NEVER
from .images import prepared_s
from .prefixes import mark_sent
from .records import DYNAMIC, FCFS
from .runs import run_s, stop_for, takes_more


@kernel
def submit(w, e, r, index, now_s, replica, spec, router):
    """Queue request ``index`` at a replica that has been advanced to ``now_s``."""
    request = w.requests[e, index]
    send_to(w, e, r, request, replica, router)
    if encodes_apart(w):
        queued_s = embeddings_s(w, e, index, now_s) + spec.frontend_s
        enqueue_in_time(w, e, index, queued_s, replica, spec)
    else:
        enqueue(w, e, index, prepared_s(w, e, r, index, now_s) + spec.frontend_s, replica, spec)
    replica.queued_tokens += request.prompt_tokens + request.generated


@kernel
def send_to(w, e, r, request, replica, router):
    """Note in the router's books that a replica has a request."""
    request.replica = r
    replica.in_flight += 1
    replica.in_flight_tokens += request.prompt_tokens + request.estimate_tokens
    replica.work_s += request.work_s
    router.in_flight += 1
    for place in range(request.prefix_count):
        mark_sent(w, e, w.prefix_units[e, request.prefix_begin + place].node, r)


@kernel
def enqueue(w, e, index, queued_s, replica, spec):
    """Put a request behind a replica's queue, to be seen from ``queued_s`` on."""
    request = w.requests[e, index]
    request.queued_s = queued_s
    request.next = -1
    behind_fetches = False
    if replica.tail >= 0:
        behind_fetches = w.requests[e, replica.tail].blocks > 0 and len(w.replica_tiers) > 0
        w.requests[e, replica.tail].next = index
    else:
        replica.head = index
    replica.tail = index
    replica.waiting += 1
    if spec.batching == DYNAMIC and replica.busy == 0:
        replica.start_s = batch_start_s(w, e, replica, spec)
    elif replica.waiting == 1 or (spec.policy != FCFS and replica.busy == 1):
        wake(queued_s, replica, spec)  # otherwise those before it come first
    elif behind_fetches or names_adapters(w):  # those before it may be passed over
        wake(min(queued_s, replica.start_s) if replica.busy == 0 else queued_s, replica, spec)


@kernel(inline=False)
def enqueue_in_time(w, e, index, queued_s, replica, spec):
    """Put a request in front of those that a replica sees later than ``queued_s``.

    But behind all whose KV cache is here, as :func:`put_behind_loaded` says.
    """
    before, at = -1, int(replica.head)
    while at >= 0 and (w.requests[e, at].queued_s <= queued_s or w.requests[e, at].blocks > 0):
        before, at = at, int(w.requests[e, at].next)
    request = w.requests[e, index]
    request.queued_s = queued_s
    put_between(w, e, before, index, at, replica)
    if before < 0 or (spec.policy != FCFS and replica.busy == 1):
        wake(queued_s, replica, spec)  # otherwise those before it come first


@kernel
def put_between(w, e, before, index, after, replica):
    """Put a request into a replica's queue, behind ``before`` (-1: first), before ``after``."""
    w.requests[e, index].next = after
    if before >= 0:
        w.requests[e, before].next = index
    else:
        replica.head = index
    if after < 0:
        replica.tail = index
    replica.waiting += 1


@kernel
def enqueue_loaded(w, e, index, queued_s, replica, spec):
    """Put a request whose KV cache is here in front of those that need blocks."""
    request = w.requests[e, index]
    request.queued_s = queued_s
    put_behind_loaded(w, e, index, replica)
    replica.queued_tokens += 1
    wake(queued_s, replica, spec)


@kernel
def put_behind_loaded(w, e, index, replica):
    """Put a request in front of those that need blocks, but behind those whose KV cache is here.

    Nobody who needs blocks stands before somebody who holds some, so that none waits for blocks
    that only come free behind it. Source: vLLM's invariant of its queue of waiting requests
    (github.com/vllm-project/vllm/pull/57841).
    """
    before, at = -1, int(replica.head)
    while at >= 0 and w.requests[e, at].blocks > 0:
        before, at = at, int(w.requests[e, at].next)
    put_between(w, e, before, index, at, replica)


@kernel
def wake(queued_s, replica, spec):
    """Let the replica look at its queue at ``queued_s``."""
    if replica.busy == 0:
        replica.start_s = queued_s
    elif replica.steps > 1 and takes_more(replica, spec):
        stop_for(queued_s, replica, spec)
        replica.end_s = replica.start_s + run_s(replica, replica.steps)


@kernel
def batch_start_s(w, e, replica, spec):
    """Return when a replica that runs nothing takes what waits: when the first of it has come.

    A dynamic batch starts when the last that it has a place for has come, or the first has waited.
    """
    start_s = w.requests[e, replica.head].queued_s
    if spec.batching != DYNAMIC:
        return start_s
    start_s += spec.batch_wait_s
    if replica.waiting >= spec.max_num_seqs:
        at = int(replica.head)
        for _ in range(spec.max_num_seqs - 1):
            at = int(w.requests[e, at].next)
        start_s = min(start_s, w.requests[e, at].queued_s)
    return start_s


@kernel
def leave_queue(w, e, r, index, before, replica):
    """Take a request of the queue, behind ``before`` (-1: the first one), into the batch."""
    following = w.requests[e, index].next
    if before >= 0:
        w.requests[e, before].next = following
    else:
        replica.head = following
    if following < 0:
        replica.tail = before
    replica.waiting -= 1
    w.slots[e, r, replica.running].request = index
    w.slots[e, r, replica.running].finish_step = NEVER
    replica.running += 1
    replica.prefilling += 1
