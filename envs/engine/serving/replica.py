"""One replica: continuous batching with vLLM v1's semantics, advanced event by event.

A step starts when the previous one ends (or a request reaches an idle replica). It first gives
every running sequence its next token and a prompt under way the rest of the token budget; if KV
blocks run out the request admitted last is preempted: its blocks are freed and it returns to the
front of the queue, behind those only whose KV cache came from a prefill replica, to recompute its
prompt and the tokens it has. Then waiting requests are admitted in order while budget, sequence cap
and blocks allow: blocks for the next chunk, or with ``whole_prompt`` for all known tokens. At the
step's end every request whose known tokens are all computed gets one more. Source:
``vllm/v1/core/sched/scheduler.py``; admission by whole prompt, ``scheduler_reserve_full_isl``.

A request is seen by the step that starts when it has reached the engine, ``frontend_s`` after it
was sent. With ``lag`` a step is planned when the one before it starts, so it has to be there by
then; a replica that runs nothing takes it at once. Only the queue is seen late: blocks and places
in the batch that a step frees are free in the next one.

A step that prefills is simulated by itself. Between such steps the batch is constant: a *run* of
decode steps is planned up to the next event (a sequence finishes, blocks run out) and takes
``start + k * first + growth * k (k - 1) / 2`` for its first k steps, exact where the step cost is
affine in the context and host or GPU is the slower one throughout. A request cuts the run where a
step may admit it. Between events a decoding sequence stores nothing: it finishes when the replica's
step count reaches its slot's ``finish_step``.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..core.units import unit
from .adapters import leave_place, take_place
from .costs import alone_s, host_step_s, mixed_attention_s, prefill_attention_s, shared_s
from .fetching import look_s
from .growth import (
    NEVER,
    blocks_needed,
    blocks_of,
    computed_at,
    count_growth,
    fill_windows,
    floor_div,
    next_blocks,
)
from .kvcache import allocate, cached_units, hold, idle_units, register, release
from .parking import hand_over
from .queue import leave_queue, put_behind_loaded
from .records import DECODE, PREFILL
from .runs import plan_run, run_blocks, run_s
from .turn import ADMIT, BLOCKED, STAYS, next_look_s, stop_for_turns, turn_of


@kernel
def store_progress(request, finish_step, step_count, spec):
    """Write down where a decoding request stands between steps."""
    request.computed = computed_at(request, finish_step, step_count)
    request.generated = request.computed + 1 - request.prompt_tokens
    request.blocks = blocks_of(request.computed, spec)


@kernel
def preempt_last(w, e, r, replica, spec, router):
    """Take the request admitted last out of the batch and put it back into the queue."""
    at = replica.running - 1
    replica.running = at
    index = w.slots[e, r, at].request
    request = w.requests[e, index]
    finish_step = w.slots[e, r, at].finish_step
    if finish_step == NEVER:  # its prompt was under way
        replica.prefilling -= 1
        replica.queued_tokens += request.computed
    else:
        store_progress(request, finish_step, replica.step_count, spec)
        count_growth(w, e, r, request.computed, -1, replica, spec)
        replica.context_tokens -= request.computed
        replica.queued_tokens += request.prompt_tokens + request.generated
    release(w, e, r, request, replica, spec)
    leave_place(w, e, r, request.adapter)
    request.computed = 0
    request.preemptions += 1
    router.preemptions += 1
    put_behind_loaded(w, e, index, replica)


@kernel
def give_blocks(w, e, r, request, tokens, replica, spec):
    """Let ``request`` hold blocks for ``tokens`` computed tokens."""
    blocks = blocks_of(tokens, spec)
    if blocks > request.blocks:  # one that has fetched has them all
        allocate(w, e, r, blocks - request.blocks, replica, spec)
        request.blocks = blocks


@kernel(inline=False)
def grow_or_preempt(w, e, r, replica, spec, router):
    """Allocate this step's blocks one sequence at a time, preempting from the tail as needed.

    Returns the decoding sequences that go on. Only called when blocks do not suffice for all.
    """
    at = 0
    while at < replica.running:
        request = w.requests[e, w.slots[e, r, at].request]
        finish_step = w.slots[e, r, at].finish_step
        if finish_step == NEVER:
            budget = spec.max_num_batched_tokens - at
            known = request.prompt_tokens + request.generated
            tokens = request.computed + min(known - request.computed, budget)
            need = blocks_of(tokens, spec) - request.blocks
        else:
            tokens = 0
            computed = computed_at(request, finish_step, replica.step_count)
            need = next_blocks(computed, spec) if computed % spec.block_size == 0 else 0
        while need > replica.free_blocks and at < replica.running:
            preempt_last(w, e, r, replica, spec, router)
        if at == replica.running:
            break
        if tokens > 0:
            break  # the prompt under way is last; the caller serves it
        allocate(w, e, r, need, replica, spec)
        at += 1
    return replica.running - replica.prefilling


@kernel
def admit(w, e, r, index, before, budget, replica, spec):
    """Admit a request of the queue, behind ``before`` (-1: the first one), if its blocks fit.

    Returns the prompt tokens it computes in this step; 0 if it was not admitted, -1 if an eviction
    among its cached nodes might still change the answer: a shorter hit makes the chunk end sooner.
    All its tokens need the same whatever is evicted.
    """
    request = w.requests[e, index]
    known = request.prompt_tokens + request.generated
    if request.blocks > 0:  # its KV came from a tier or, all but the last token's, a replica
        if spec.does == DECODE:
            request.computed = known - 1
        leave_queue(w, e, r, index, before, replica)
        return min(known - request.computed, budget)
    units = 0
    if request.prefix_count > 0 and spec.unit_tokens > 0:
        most = floor_div(known - 1, spec.unit_tokens)
        units = cached_units(w, e, r, request, most, math.inf)
    hit = units * spec.unit_tokens
    chunk = min(known - hit, budget)
    must_fit = known if spec.whole_prompt == 1 else hit + chunk
    need = blocks_of(must_fit, spec) - units * spec.unit_blocks
    idle = idle_units(w, e, r, request, units)
    if need > replica.free_blocks - idle * spec.unit_blocks:
        return -1 if units > 0 and spec.whole_prompt == 0 else 0
    hold(w, e, r, request, units, idle, replica, spec)
    request.blocks = units * spec.unit_blocks
    request.computed = hit
    if request.cached_tokens < 0:
        request.cached_tokens = min(hit, request.prompt_tokens)
    replica.queued_tokens -= hit
    leave_queue(w, e, r, index, before, replica)
    return chunk


@kernel
def compute_prompt(w, e, r, now_s, chunk, request, replica, spec):
    """Give ``request`` the blocks for ``chunk`` more prompt tokens and cache whole units."""
    request.computed += chunk
    replica.queued_tokens -= chunk
    give_blocks(w, e, r, request, request.computed, replica, spec)
    if request.prefix_count > 0 and spec.unit_tokens > 0:
        units = floor_div(min(request.computed, request.prompt_tokens), spec.unit_tokens)
        register(w, e, r, request, units, now_s)


@kernel
def begin_step(w, e, r, now_s, seen_s, replica, spec, router, cost):
    """Schedule the step that starts at ``now_s``, or a run of steps that only decode.

    It sees the requests that have reached the engine by ``seen_s``.
    """
    if replica.running == 0:
        replica.busy = 0
        if replica.waiting == 0:
            return
        replica.start_s = w.requests[e, replica.head].queued_s
        if len(w.replica_tiers) > 0:
            replica.start_s = look_s(w, e, -math.inf, replica)
        if replica.start_s > now_s:
            return
    # sequences that already run; at most one, the last, still has prompt tokens to compute
    decoding = replica.running - replica.prefilling
    need = blocks_needed(w, e, r, replica.step_count, 1, spec.block_size)
    chunk = 0
    partial_need = 0
    if replica.prefilling > 0:
        request = w.requests[e, w.slots[e, r, replica.running - 1].request]
        remaining = request.prompt_tokens + request.generated - request.computed
        chunk = min(remaining, spec.max_num_batched_tokens - decoding)
        tokens = request.computed + chunk
        partial_need = max(blocks_of(tokens, spec) - request.blocks, 0)
    preempted = need + partial_need > replica.free_blocks
    if preempted:
        decoding = grow_or_preempt(w, e, r, replica, spec, router)
        if replica.prefilling == 0:
            chunk = 0
        if replica.running == 0:  # a batch that is empty now begins anew
            preempted, seen_s = False, now_s
    else:
        allocate(w, e, r, need, replica, spec)
    prompt_s, longest_s, load_s = 0.0, 0.0, 0.0
    budget = spec.max_num_batched_tokens - decoding
    if chunk > 0:
        request = w.requests[e, w.slots[e, r, replica.running - 1].request]
        prompt_s = prefill_attention_s(cost, chunk, request.computed)
        longest_s = alone_s(cost, chunk, prompt_s)
        compute_prompt(w, e, r, now_s, chunk, request, replica, spec)
        budget -= chunk
    # then the queue
    blocked_by_hits = False
    if not preempted:
        before, at = -1, int(replica.head)
        while at >= 0 and budget > 0 and replica.running < spec.max_num_seqs:
            following = int(w.requests[e, at].next)
            if w.requests[e, at].queued_s > seen_s:
                if w.requests[e, at].blocks == 0:
                    break
                before, at = at, following  # its KV has just come: those behind it were here before
                continue
            turn = turn_of(w, e, r, at, before, now_s, seen_s, replica, spec)
            if turn == BLOCKED:
                blocked_by_hits = spec.whole_prompt == 0
                break
            if turn != ADMIT:
                before = at if turn == STAYS else before
                at = following
                continue
            chunk = admit(w, e, r, at, before, budget, replica, spec)
            if chunk <= 0:
                blocked_by_hits = chunk < 0
                break
            request = w.requests[e, w.slots[e, r, replica.running - 1].request]
            load_s += take_place(w, e, r, request.adapter)
            chunk_s = prefill_attention_s(cost, chunk, request.computed)
            longest_s = max(longest_s, alone_s(cost, chunk, chunk_s))
            prompt_s += chunk_s
            compute_prompt(w, e, r, now_s, chunk, request, replica, spec)
            budget -= chunk
            at = following
    if replica.running == 0:  # all fetch, or the KV of requests handed over takes all blocks
        replica.busy, replica.start_s = 0, next_look_s(w, e, seen_s, replica)
        return
    replica.busy = 1
    replica.start_s = now_s
    replica.steps = 1
    replica.steps_with_blocks = 1
    replica.step_growth_s = 0.0
    replica.tokens = spec.max_num_batched_tokens - budget
    if replica.prefilling > 0:
        sampling = replica.running
        request = w.requests[e, w.slots[e, r, replica.running - 1].request]
        if request.computed < request.prompt_tokens + request.generated:
            sampling -= 1
        seconds = w.linear_s[replica.kind, replica.tokens] + w.head_s[replica.kind, sampling]
        seconds += mixed_attention_s(
            cost, decoding, replica.context_tokens, replica.tokens - decoding
        )
        seconds += cost.pre_fixed_s + shared_s(cost, prompt_s, longest_s)
        replica.first_step_s = max(seconds, host_step_s(cost, sampling)) + load_s
    else:
        plan_run(w, e, r, replica, spec, cost, preempted or blocked_by_hits)
        if replica.steps > 1 and replica.waiting > 0:
            stop_for_turns(w, e, seen_s, replica, spec)
    replica.end_s = now_s + run_s(replica, replica.steps)


@kernel
def count_for_service(service, request, tpot_s, met):
    """Add a finished request to the sums of its service."""
    service.finished += 1
    service.output_tokens += request.output_tokens
    service.slo_met += met
    if request.output_tokens > 1:
        service.multi_token += 1
        service.tpot_s += tpot_s


@kernel
def finish_request(w, e, r, end_s, index, replica, spec, router):
    """Close the books of a request that has its last token."""
    request = w.requests[e, index]
    request.finish_s = end_s
    request.generated = request.output_tokens
    request.computed = request.prompt_tokens + request.output_tokens - 1
    request.blocks = blocks_of(request.computed, spec)
    if request.prefix_count > 0 and spec.unit_tokens > 0:
        units = floor_div(request.computed, spec.unit_tokens)
        register(w, e, r, request, units, end_s)
    release(w, e, r, request, replica, spec)
    leave_place(w, e, r, request.adapter)
    replica.in_flight -= 1
    replica.in_flight_tokens -= request.prompt_tokens + request.estimate_tokens
    replica.work_s -= request.work_s
    router.in_flight -= 1
    router.finished += 1
    router.unfinished_arrival_s -= request.arrival_s
    router.e2e_s += end_s - request.arrival_s
    router.output_tokens += request.output_tokens
    router.prompt_tokens += request.prompt_tokens
    router.cached_tokens += request.cached_tokens
    tpot_s = 0.0
    if request.output_tokens > 1:
        tpot_s = (end_s - request.first_token_s) / (request.output_tokens - 1)
        router.tpot_s += tpot_s
        router.multi_token += 1
    ttft_s = request.first_token_s - request.arrival_s
    objective = w.objectives[request.service]
    met = ttft_s <= objective.ttft_s and tpot_s <= objective.tpot_s
    router.slo_met += met
    if w.service_states.shape[1] > 0:
        count_for_service(w.service_states[e, spec.service], request, tpot_s, met)


@kernel
def remove_finished(w, e, r, end_s, replica, spec, router):
    """Finish the sequences whose time has come; the others keep their order."""
    step = replica.step_count
    kept = 0
    soonest = NEVER
    for at in range(replica.running):
        index = w.slots[e, r, at].request
        finish_step = w.slots[e, r, at].finish_step
        if finish_step == step:
            request = w.requests[e, index]
            computed = request.prompt_tokens + request.output_tokens - 1
            if spec.does == PREFILL:
                computed = request.computed
            count_growth(w, e, r, computed, -1, replica, spec)
            replica.context_tokens -= computed
            if spec.does == PREFILL:
                hand_over(w, e, r, index, replica, router)
            else:
                finish_request(w, e, r, end_s, index, replica, spec, router)
        else:
            w.slots[e, r, kept].request = index
            w.slots[e, r, kept].finish_step = finish_step
            soonest = min(soonest, finish_step)
            kept += 1
    replica.running = kept
    replica.next_finish = soonest


@kernel
def end_prefill(w, e, r, end_s, at, replica, spec, router):
    """Sample the token that follows a finished prompt; the sequence decodes from here on."""
    request = w.requests[e, w.slots[e, r, at].request]
    if spec.does == PREFILL:  # its token comes from the replica that goes on
        w.slots[e, r, at].finish_step = replica.next_finish = replica.step_count
        count_growth(w, e, r, request.computed, 1, replica, spec)
        replica.context_tokens += request.computed
        return
    request.generated += 1
    if math.isnan(request.first_token_s):
        request.first_token_s = end_s
        router.first_tokens += 1
        router.ttft_s += end_s - request.arrival_s
        router.awaiting_arrival_s -= request.arrival_s
        if w.service_states.shape[1] > 0:
            w.service_states[e, spec.service].first_tokens += 1
            w.service_states[e, spec.service].ttft_s += end_s - request.arrival_s
    w.slots[e, r, at].finish_step = replica.step_count + request.output_tokens - request.generated
    count_growth(w, e, r, request.computed, 1, replica, spec)
    replica.context_tokens += request.computed
    replica.next_finish = min(replica.next_finish, w.slots[e, r, at].finish_step)
    to_fill = spec.window_blocks * spec.block_size - request.computed
    if to_fill > 0:
        replica.next_window = min(replica.next_window, replica.step_count + to_fill)


@kernel
def end_run(w, e, r, end_s, replica, spec, router):
    """Commit the run (or the one prefilling step), which ends at ``end_s``."""
    steps = replica.steps
    run_blocks(w, e, r, steps, replica, spec)
    decoding = replica.running - replica.prefilling
    replica.step_count += steps
    replica.context_tokens += steps * decoding
    if replica.next_window == replica.step_count:
        fill_windows(w, e, r, replica, spec)
    if replica.prefilling > 0:
        last = w.requests[e, w.slots[e, r, replica.running - 1].request]
        partial = 1 if last.computed < last.prompt_tokens + last.generated else 0
        for at in range(decoding, replica.running - partial):
            end_prefill(w, e, r, end_s, at, replica, spec, router)
        replica.prefilling = partial
    if replica.next_finish == replica.step_count:
        remove_finished(w, e, r, end_s, replica, spec, router)


@kernel
def is_due(replica, until_s):
    """Tell whether advancing the replica to ``until_s`` would change anything."""
    if replica.busy == 1:
        return replica.end_s <= until_s
    return replica.waiting > 0 and replica.start_s < until_s


@unit
def advance_replica(w, e, r, until_s):
    """Process every step of a replica that ends by ``until_s``.

    An idle replica starts once the clock has moved on: all that arrives at once is in its step.
    """
    replica, spec, router = w.replicas[e, r], w.replica_specs[r], w.router[e]
    while is_due(replica, until_s):
        start_s = seen_s = replica.start_s
        if replica.busy == 1:
            start_s = seen_s = replica.end_s
            replica.busy_s += replica.end_s - replica.start_s
            if spec.lag == 1:  # planned when the step before started
                seen_s = replica.start_s + run_s(replica, replica.steps - 1)
            end_run(w, e, r, start_s, replica, spec, router)
            if replica.running == 0:
                seen_s = start_s
        begin_step(w, e, r, start_s, seen_s, replica, spec, router, w.costs[replica.kind])
