"""Prompts under way: what they compute in a step, and the blocks for it."""

from __future__ import annotations

from ..core.compile import kernel
from .growth import floor_div
from .kvcache import allocate, register
from .reservation import held_blocks


@kernel
def is_partial(request):
    """Tell whether some of a request's known tokens are not computed yet."""
    return request.computed < request.prompt_tokens + request.generated


@kernel
def plan_chunk(request, budget, spec):
    """Note what a prompt under way computes in a step; returns the blocks that this takes."""
    remaining = request.prompt_tokens + request.generated - request.computed
    request.chunk = min(remaining, budget, spec.most_chunk)
    need = held_blocks(request, request.computed + request.chunk, spec) - request.blocks
    return max(need, 0)  # one that has fetched has them all


@kernel
def plan_chunks(w, e, r, budget, replica, spec):
    """Do that for all prompts under way, the oldest first; returns the blocks that they take."""
    need = 0
    for at in range(replica.running - replica.prefilling, replica.running):
        request = w.requests[e, w.slots[e, r, at].request]
        need += plan_chunk(request, budget, spec)
        budget -= request.chunk
    return need


@kernel
def left_budget(w, e, r, count, replica, spec):
    """Return the tokens that the first ``count`` sequences of a batch leave of a step's budget."""
    decoding = replica.running - replica.prefilling
    budget = spec.max_num_batched_tokens - min(count, decoding) * (1 + replica.drafted)
    for at in range(decoding, count):
        budget -= w.requests[e, w.slots[e, r, at].request].chunk
    return budget


@kernel
def compute_prompt(w, e, r, now_s, chunk, request, replica, spec):
    """Give ``request`` the blocks for ``chunk`` more prompt tokens and cache whole units."""
    request.computed += chunk
    replica.queued_tokens -= chunk
    blocks = held_blocks(request, request.computed, spec)
    if blocks > request.blocks:  # one that has fetched has them all
        allocate(w, e, r, blocks - request.blocks, replica, spec)
        request.blocks = blocks
    if request.prefix_count > 0 and spec.unit_tokens > 0:
        units = floor_div(min(request.computed, request.prompt_tokens), spec.unit_tokens)
        register(w, e, r, request, units, now_s)
