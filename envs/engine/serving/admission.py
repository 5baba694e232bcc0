"""Admission: whether a waiting request fits the next step, and how it takes its place."""

from __future__ import annotations

import math

from ..core.compile import kernel
from .fair import charge_prompt
from .growth import blocks_of, floor_div
from .kvcache import allocate, cached_units, hold, idle_units
from .order import choose
from .queue import leave_queue
from .records import DECODE, FCFS, VTC
from .reservation import chunk_blocks, reserved_tokens


@kernel
def fitting(w, e, r, request, budget, replica, spec):
    """Tell whether a waiting request fits a step, and how.

    Returns the prompt tokens it computes in the step, how many units of its prefix are cached, and
    how many of those nobody holds. The tokens are 0 if it does not fit, -1 if an eviction among its
    cached nodes might still change the answer: a shorter hit makes the chunk end sooner. All its
    tokens need the same whatever is evicted.
    """
    known = request.prompt_tokens + request.generated
    units = 0
    if request.prefix_count > 0 and spec.unit_tokens > 0:
        most = floor_div(known - 1, spec.unit_tokens)
        units = cached_units(w, e, r, request, most, math.inf)
    hit = units * spec.unit_tokens
    chunk = min(known - hit, budget, spec.most_chunk)
    if spec.chunked == 0 and chunk < known - hit:
        return 0, units, 0
    must_fit = known if spec.whole_prompt == 1 else hit + chunk
    if spec.reserves > 0:
        need = chunk_blocks(reserved_tokens(request, spec), spec)
    else:
        need = blocks_of(must_fit, spec) - units * spec.unit_blocks
    idle = idle_units(w, e, r, request, units)
    if need > replica.free_blocks - idle * spec.unit_blocks:
        chunk = -1 if units > 0 and spec.whole_prompt == 0 else 0
    return chunk, units, idle


@kernel
def admit(w, e, r, index, before, budget, replica, spec):
    """Admit a request of the queue, behind ``before`` (-1: the first one), if its blocks fit.

    Returns the prompt tokens it computes in this step, else what :func:`fitting` does.
    """
    request = w.requests[e, index]
    if request.blocks > 0:  # its KV came from a tier or, all but the last token's, a replica
        known = request.prompt_tokens + request.generated
        if spec.does == DECODE:
            request.computed = known - 1
        leave_queue(w, e, r, index, before, replica)
        return min(known - request.computed, budget, spec.most_chunk)
    chunk, units, idle = fitting(w, e, r, request, budget, replica, spec)
    if chunk <= 0:
        return chunk
    hit = units * spec.unit_tokens
    hold(w, e, r, request, units, idle, replica, spec)
    request.blocks = units * spec.unit_blocks
    if spec.reserves > 0:
        request.blocks = chunk_blocks(reserved_tokens(request, spec), spec)
        allocate(w, e, r, request.blocks, replica, spec)
    request.computed = hit
    if request.cached_tokens < 0:
        request.cached_tokens = min(hit, request.prompt_tokens)
    replica.queued_tokens -= hit
    leave_queue(w, e, r, index, before, replica)
    if spec.policy == VTC:
        charge_prompt(w, e, r, request, replica)
    return chunk


@kernel
def next_waiting(w, e, r, now_s, seen_s, replica, spec):
    """Return who of the queue is asked first, and who stands before it there; -1 for nobody."""
    if spec.policy == FCFS:
        return int(replica.head), -1
    return choose(w, e, r, now_s, seen_s, replica, spec)


@kernel
def prompts_come(w, e, r, now_s, seen_s, replica, spec):
    """Tell whether a prompt is under way, or one would begin in a step without decodes.

    Source: vLLM's scheduler of version 0 has a step of prompts, or of decodes if none fits.
    """
    if replica.prefilling > 0:
        return True
    if replica.running >= spec.max_num_seqs:
        return False
    at, _ = next_waiting(w, e, r, now_s, seen_s, replica, spec)
    if at < 0 or w.requests[e, at].queued_s > seen_s:
        return False
    request = w.requests[e, at]
    chunk, _, _ = fitting(w, e, r, request, spec.max_num_batched_tokens, replica, spec)
    return chunk > 0
