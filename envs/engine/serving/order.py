"""Who of a queue comes next, and who is preempted, where that is not first come first served.

* Priority: the highest first, then who came first; if blocks run out, the lowest that came last is
  preempted. Source: vLLM's ``--scheduling-policy priority`` (``vllm/v1/core/sched/scheduler.py``).
* Longest prefix: the most cached tokens first. Source: SGLang's ``lpm``.
* Response ratio: (wait + prefill) / prefill, the highest first; prefill is that of the uncached
  tokens at the pace of a full budget. Source: SGLang pull request 32911; Brinch Hansen, 1971.

* Virtual token counter: the earliest request of the client that was served least, :mod:`.fair`.

Both of SGLang's fall back to first come first served in queues above 128. The queue itself stays in
order of arrival; ties go to its earlier ones.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .fair import note_arrivals
from .growth import floor_div
from .kvcache import cached_units
from .records import FCFS, HRRN, LPM, PRIORITY, VTC

LONGEST_SORTED = 128  # of a queue, beyond which SGLang sorts no more


@kernel
def uncached_tokens(w, e, r, request, spec):
    """Return the known tokens of a waiting request that are not in the prefix cache."""
    known = request.prompt_tokens + request.generated
    if request.prefix_count == 0 or spec.unit_tokens == 0:
        return known
    most = floor_div(known - 1, spec.unit_tokens)
    return known - spec.unit_tokens * cached_units(w, e, r, request, most, math.inf)


@kernel
def urgency(w, e, r, index, now_s, replica, spec):
    """Return the key of a waiting request; the highest is admitted next."""
    request = w.requests[e, index]
    if spec.policy == PRIORITY:
        return float(request.priority)
    if spec.policy == VTC:
        return -w.fair_counters[e, r, request.client]
    left = uncached_tokens(w, e, r, request, spec)
    if spec.policy == LPM:
        return float(request.prompt_tokens + request.generated - left)
    budget = spec.max_num_batched_tokens
    prefill_s = left * w.linear_s[replica.kind, budget] / budget
    return (now_s - request.queued_s + prefill_s) / prefill_s


@kernel(inline=False)
def choose(w, e, r, now_s, seen_s, replica, spec):
    """Return who of the queue is admitted next of those seen, and who stands before it there.

    -1 for nobody.
    """
    best, before_best, best_key = -1, -1, -math.inf
    sorts = spec.policy == PRIORITY or spec.policy == VTC or replica.waiting <= LONGEST_SORTED
    if spec.policy == VTC and replica.running < spec.max_num_seqs:
        note_arrivals(w, e, r, seen_s, replica)
    before, at = -1, int(replica.head)
    while at >= 0:
        if w.requests[e, at].queued_s <= seen_s:
            key = urgency(w, e, r, at, now_s, replica, spec) if sorts else 0.0
            is_earlier = spec.policy == PRIORITY and key == best_key and at < best
            if key > best_key or is_earlier:
                best, before_best, best_key = at, before, key
            if not sorts:
                break
        before, at = at, int(w.requests[e, at].next)
    return best, before_best


@kernel
def changes_by_itself(replica, spec):
    """Tell whether a queue's order may change while a batch only decodes."""
    if spec.policy == VTC:  # a full batch takes nobody until one of it leaves
        return replica.waiting > 0 and replica.running < spec.max_num_seqs
    return (spec.policy == LPM or spec.policy == HRRN) and replica.waiting > 0


@kernel
def unseen_s(w, e, seen_s, replica, spec):
    """Return when the first request of the queue comes that was not seen; inf if there is none."""
    at = int(replica.head)
    while at >= 0:
        if w.requests[e, at].queued_s > seen_s:
            return w.requests[e, at].queued_s
        if spec.policy == FCFS:
            return math.inf  # its turn is before all that come
        at = int(w.requests[e, at].next)
    return math.inf


@kernel
def victim(w, e, r, replica, spec):
    """Return the place in the batch of the sequence to preempt: the last, or the least urgent."""
    worst = replica.running - 1
    if spec.policy != PRIORITY:
        return worst
    for at in range(replica.running - 2, -1, -1):
        index, last = w.slots[e, r, at].request, w.slots[e, r, worst].request
        one, other = w.requests[e, index].priority, w.requests[e, last].priority
        if one < other or (one == other and index > last):
            worst = at
    return worst
