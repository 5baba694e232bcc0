"""Fetching prefix units from KV tiers before the rest of a prompt is computed.

A waiting request whose turn it is, and whose prefix goes on in a tier where the GPU's cache ends,
takes the blocks of all its known tokens and lets those units come; others are admitted meanwhile.
It keeps its place in the queue, in front of all that hold no blocks, and is seen again when its
units are there: ``queued_s``. Then it computes the rest. Source: vLLM's requests that wait for
remote KV (``vllm/v1/core/sched/scheduler.py``, WAITING_FOR_REMOTE_KVS). There only the blocks of
the fetched units are taken; here the others are, too, so that no two wait for each other.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .growth import blocks_of, floor_div
from .kvcache import allocate, cached_units, hold, idle_units, release
from .runs import stop_for
from .tiers import read_by_s, tier_of, touch

BLOCKED, NOTHING_THERE, FETCHING = -1, 0, 1


@kernel
def reachable_units(w, e, r, request, units, most, by_s):
    """Return how many leading units are cached or in a tier, ``units`` of them on the GPU.

    And how many of those in a tier are in the replica's own host memory.
    """
    near = 0
    while units < most:
        node = w.prefix_units[e, request.prefix_begin + units].node
        tier = tier_of(w, e, r, node, by_s)
        if tier < 0:
            break
        if tier == w.replica_tiers[r].host:
            near += 1
        units += 1
    return units, near


@kernel(inline=False)
def reachable_tokens(w, e, r, request, hit, report_s, spec):
    """Return the prompt tokens that were cached or in a tier behind the replica by ``report_s``.

    And how many units of them are in the replica's own host memory.
    """
    if request.prefix_count == 0 or spec.unit_tokens == 0:
        return hit, 0
    most = min(floor_div(request.prompt_tokens - 1, spec.unit_tokens), request.prefix_count)
    units = floor_div(hit, spec.unit_tokens)
    units, near = reachable_units(w, e, r, request, units, most, report_s)
    return spec.unit_tokens * units, near


@kernel(inline=False)
def fetch(w, e, r, index, now_s, replica, spec):
    """Let the units of a waiting request come from the tiers, as many as there are.

    Returns:
        FETCHING, NOTHING_THERE, or BLOCKED: the request would fetch but blocks are lacking.
    """
    request = w.requests[e, index]
    if request.blocks > 0 or request.prefix_count == 0 or spec.unit_tokens == 0:
        return NOTHING_THERE
    known = request.prompt_tokens + request.generated
    most = min(floor_div(known - 1, spec.unit_tokens), request.prefix_count)
    units = cached_units(w, e, r, request, most, math.inf)
    end, near = reachable_units(w, e, r, request, units, most, now_s)
    if end == units:
        return NOTHING_THERE
    idle = idle_units(w, e, r, request, units)
    need = blocks_of(known, spec) - units * spec.unit_blocks
    if need > replica.free_blocks - idle * spec.unit_blocks:
        return BLOCKED
    request.queued_s = read_units(w, e, r, request, end, near, end - units - near, now_s)
    hold(w, e, r, request, units, idle, replica, spec)
    allocate(w, e, r, need, replica, spec)
    request.blocks = blocks_of(known, spec)
    request.computed = end * spec.unit_tokens
    request.fetched_tokens += (end - units) * spec.unit_tokens
    if request.cached_tokens < 0:
        request.cached_tokens = min(request.computed, request.prompt_tokens)
    replica.queued_tokens -= request.computed
    return FETCHING


@kernel
def read_units(w, e, r, request, end, near, far, now_s):
    """Let units of a request come, up to ``end``; returns when all are there.

    ``near`` ones come from the replica's host memory, ``far`` ones from the store.
    """
    own = w.replica_tiers[r]
    there_s = now_s
    if near > 0:
        there_s = read_by_s(w, e, r, own.host, near, now_s)
    if far > 0:
        there_s = max(there_s, read_by_s(w, e, r, own.store, far, now_s))
    if own.host >= 0:
        touch(w, e, request, end, own.host)
    if own.store >= 0:
        touch(w, e, request, end, own.store)
    return there_s


@kernel(inline=False)
def give_up_fetches(w, e, r, replica, spec):
    """Let those that fetch begin anew, as seen long ago, with what new weights compute.

    They stay in front of the queue, in their order.
    """
    at = int(replica.head)
    while at >= 0 and w.requests[e, at].blocks > 0:
        request = w.requests[e, at]
        release(w, e, r, request, replica, spec)
        replica.queued_tokens += request.computed
        request.computed, request.queued_s = 0, request.arrival_s
        replica.start_s = min(replica.start_s, replica.resume_s)
        at = int(request.next)


@kernel
def expected_fetch_s(w, e, r, near, far, now_s):
    """Return how long it would take to read so many units now, changing nothing."""
    own = w.replica_tiers[r]
    seconds = 0.0
    if near > 0:
        behind_s = max(w.tiers[e, own.host].read_free_s - now_s, 0.0)
        seconds = behind_s + near * w.tier_specs[own.host].unit_s
    if far > 0:
        behind_s = max(w.tiers[e, own.store].read_free_s - now_s, 0.0)
        seconds = max(seconds, behind_s + far * w.tier_specs[own.store].unit_s)
        behind_s = max(w.nics[e, r].read_free_s - now_s, 0.0)
        seconds = max(seconds, behind_s + far * own.nic_unit_s)
    return seconds


@kernel(inline=False)
def look_s(w, e, seen_s, replica):
    """Return when a replica that runs nothing looks at its queue, inf: not by itself.

    When a fetch ends, or the first of those that hold no blocks reaches the engine, after what it
    has seen.
    """
    moment_s, at = math.inf, int(replica.head)
    while at >= 0:
        if w.requests[e, at].queued_s > seen_s:
            moment_s = min(moment_s, w.requests[e, at].queued_s)
        at = int(w.requests[e, at].next) if w.requests[e, at].blocks > 0 else -1
    return moment_s


@kernel(inline=False)
def stop_for_queue(w, e, seen_s, replica, spec):
    """Cut a new run for each that fetches and for the first that does not, unless it was seen."""
    at = int(replica.head) if replica.running < spec.max_num_seqs else -1
    while at >= 0:
        if w.requests[e, at].queued_s > seen_s:
            stop_for(w.requests[e, at].queued_s, replica, spec)
        at = int(w.requests[e, at].next) if w.requests[e, at].blocks > 0 else -1
