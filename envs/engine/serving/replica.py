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
from .admission import admit, next_waiting, prompts_come
from .answered import answer
from .chunks import compute_prompt, is_partial, left_budget, plan_chunk, plan_chunks
from .clients import count_finished, has_clients
from .costs import alone_s, prefill_attention_s, prompts_step_s
from .fair import charge_run
from .fetching import look_s
from .growth import (
    NEVER,
    count_growth,
    fill_windows,
    floor_div,
)
from .images import begin_encoding, leave_computed
from .kvcache import allocate, register, release
from .leaving import let_leave
from .move_records import may_move
from .order import changes_by_itself, victim
from .parking import hand_over
from .progress import length_of, store_progress
from .queue import batch_start_s, put_behind_loaded
from .ranks import keep_pace, next_start_s
from .records import CONTINUOUS, FCFS, PREFILL, VTC
from .reservation import decoding_blocks
from .runs import plan_run, run_blocks, run_s
from .service_sums import count_for_service
from .speculation import accept, draft_s, sequence_blocks, step_blocks, take_step_blocks
from .turn import ADMIT, BLOCKED, STAYS, next_look_s, put_back, stop_for_turns, take_up, turn_of
from .turns import next_turn_s
from .weights import rest, take_weights
from .whole_batches import begin_batch_step


@kernel
def preempt_one(w, e, r, grown, replica, spec, router):
    """Take a request out of the batch and put it back into the queue; returns its place there.

    The first ``grown`` sequences of the batch have the blocks of this step already.
    """
    place = victim(w, e, r, replica, spec)
    index = w.slots[e, r, place].request
    request = w.requests[e, index]
    finish_step = w.slots[e, r, place].finish_step
    replica.running -= 1
    for at in range(place, replica.running):
        w.slots[e, r, at].request = w.slots[e, r, at + 1].request
        w.slots[e, r, at].finish_step = w.slots[e, r, at + 1].finish_step
    if finish_step == NEVER:  # its prompt was under way
        replica.prefilling -= 1
        replica.queued_tokens += request.computed
    else:
        store_progress(request, finish_step, replica.step_count, replica, spec)
        count_growth(w, e, r, request.computed, -1, replica, spec)
        replica.context_tokens -= request.computed
        replica.queued_tokens += request.prompt_tokens + request.generated
        if place < grown:
            request.blocks = decoding_blocks(request, request.computed + 1, spec)
    release(w, e, r, request, replica, spec)
    put_back(w, e, r, index)
    request.computed = 0
    request.preemptions += 1
    router.preemptions += 1
    put_behind_loaded(w, e, index, replica)
    return place


@kernel(inline=False)
def grow_or_preempt(w, e, r, replica, spec, router):
    """Allocate this step's blocks one sequence at a time, preempting others as needed.

    Returns the decoding sequences that go on. Only called when blocks do not suffice for all.
    """
    at = 0
    while at < replica.running:
        request = w.requests[e, w.slots[e, r, at].request]
        finish_step = w.slots[e, r, at].finish_step
        if finish_step == NEVER:
            budget = left_budget(w, e, r, at, replica, spec)
            need = plan_chunk(request, budget, spec)
        else:
            need = sequence_blocks(w, e, r, at, replica, spec)
        goes_on = True
        while need > replica.free_blocks and goes_on:
            place = preempt_one(w, e, r, at, replica, spec, router)
            goes_on = place != at
            if place < at:
                at -= 1
        if goes_on:
            allocate(w, e, r, need, replica, spec)
            if finish_step == NEVER or spec.draft_length > 0:
                request.blocks += need
            at += 1
    return replica.running - replica.prefilling


@kernel(inline=False)
def rests(w, e, r, now_s, replica, spec, router) -> bool:
    """Take new weights if there are any; tell whether they are still to come."""
    replica.stalled = 0
    if replica.outdated == 1:
        while replica.running > 0 and router.keeps_cache == 0:
            preempt_one(w, e, r, 0, replica, spec, router)
        take_weights(w, e, r, replica, router)
    if now_s < replica.resume_s:
        rest(now_s, replica)
        return True
    return False


@kernel
def begin_step(w, e, r, now_s, seen_s, replica, spec, router, cost):
    """Schedule the step that starts at ``now_s``, or a run of steps that only decode.

    It sees the requests that have reached the engine by ``seen_s``.
    """
    if router.step_sessions > 0 and rests(w, e, r, now_s, replica, spec, router):
        return
    if replica.running == 0:
        replica.busy = 0
        if replica.waiting == 0:
            return
        replica.start_s = batch_start_s(w, e, replica, spec)
        if len(w.replica_tiers) > 0:
            replica.start_s = look_s(w, e, -math.inf, replica)
        if replica.start_s > now_s:
            return
    if spec.batching != CONTINUOUS:
        begin_batch_step(w, e, r, now_s, seen_s, replica, spec, cost)
        return
    # sequences that already run; the last ones still have prompt tokens to compute
    decoding = replica.running - replica.prefilling
    context = replica.context_tokens
    need = step_blocks(w, e, r, decoding, replica, spec)
    width = 1 + replica.drafted
    if spec.prefill_first == 1:
        replica.stalled = 0
        if decoding > 0 and prompts_come(w, e, r, now_s, seen_s, replica, spec):
            replica.stalled, decoding, context, need = 1, 0, 0, 0
    budget = spec.max_num_batched_tokens - decoding * width
    prompts_need = plan_chunks(w, e, r, budget, replica, spec) if replica.prefilling > 0 else 0
    preempted = need + prompts_need > replica.free_blocks
    if preempted:
        decoding = grow_or_preempt(w, e, r, replica, spec, router)
        context = replica.context_tokens
        if replica.running == 0:  # a batch that is empty now begins anew
            preempted, seen_s = False, now_s
    else:
        take_step_blocks(w, e, r, need, decoding, replica, spec)
    prompt_s, longest_s, load_s = 0.0, 0.0, 0.0
    budget = spec.max_num_batched_tokens - decoding * width
    if replica.prefilling > 0:
        for at in range(replica.running - replica.prefilling, replica.running):
            request = w.requests[e, w.slots[e, r, at].request]
            if request.chunk > 0:
                chunk_s = prefill_attention_s(cost, request.chunk, request.computed)
                longest_s = max(longest_s, alone_s(cost, request.chunk, chunk_s))
                prompt_s += chunk_s
                compute_prompt(w, e, r, now_s, request.chunk, request, replica, spec)
                budget -= request.chunk
    # then the queue
    blocked_by_hits = False
    if not preempted:
        begin_encoding(w, e, r)
        at, before = next_waiting(w, e, r, now_s, seen_s, replica, spec)
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
            load_s += take_up(w, e, r, at, now_s)
            chunk_s = prefill_attention_s(cost, chunk, request.computed)
            longest_s = max(longest_s, alone_s(cost, chunk, chunk_s))
            prompt_s += chunk_s
            compute_prompt(w, e, r, now_s, chunk, request, replica, spec)
            budget -= chunk
            at = following
            if spec.policy != FCFS:
                at, before = next_waiting(w, e, r, now_s, seen_s, replica, spec)
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
        for at in range(replica.running - replica.prefilling, replica.running):
            sampling -= is_partial(w.requests[e, w.slots[e, r, at].request])
        if replica.stalled == 1:
            sampling -= replica.running - replica.prefilling
        more_s = replica.waits_s * replica.tokens
        if decoding * replica.drafted > 0:
            more_s += draft_s(w, replica.kind, decoding, context, spec)
        replica.first_step_s = prompts_step_s(
            *(w, cost, replica.kind, replica.tokens, decoding, width),
            *(context, sampling, prompt_s, longest_s, more_s),
        )
        replica.first_step_s += load_s
    else:
        single = preempted or blocked_by_hits or spec.step_ranks > 1
        plan_run(w, e, r, replica, spec, cost, single or changes_by_itself(replica, spec))
        if replica.steps > 1 and replica.waiting > 0:
            stop_for_turns(w, e, seen_s, replica, spec)
    replica.end_s = now_s + run_s(replica, replica.steps)


@kernel
def finish_request(w, e, r, end_s, index, replica, spec, router):
    """Close the books of a request that has its last token."""
    request = w.requests[e, index]
    request.finish_s = end_s
    request.generated = request.output_tokens
    request.computed = request.prompt_tokens + request.output_tokens - 1
    request.blocks = decoding_blocks(request, request.computed, spec)
    if request.prefix_count > 0 and spec.unit_tokens > 0:
        units = floor_div(request.computed, spec.unit_tokens)
        register(w, e, r, request, units, end_s)
    release(w, e, r, request, replica, spec)
    put_back(w, e, r, index)
    replica.in_flight -= 1
    replica.in_flight_tokens -= request.prompt_tokens + request.estimate_tokens
    replica.work_s -= request.work_s
    router.in_flight -= 1
    router.finished += 1
    router.last_finish_s = max(router.last_finish_s, end_s)
    if router.answers == 1:
        answer(w, e, request, end_s, router)
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
    objective = w.objectives[request.objective]
    met = ttft_s <= objective.ttft_s and tpot_s <= objective.tpot_s
    router.slo_met += met
    if has_clients(w):
        count_finished(w.client_states[e, request.client], w.clients[request.client], request, met)
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
            computed = length_of(request, replica, spec) - 1
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
    left = length_of(request, replica, spec) - request.computed - 1
    w.slots[e, r, at].finish_step = replica.step_count + left
    count_growth(w, e, r, request.computed, 1, replica, spec)
    replica.context_tokens += request.computed
    replica.next_finish = min(replica.next_finish, w.slots[e, r, at].finish_step)
    to_fill = spec.window_blocks * spec.block_size - request.computed
    if to_fill > 0 and spec.draft_length == 0:
        replica.next_window = min(replica.next_window, replica.step_count + to_fill)


@kernel
def end_run(w, e, r, end_s, replica, spec, router):
    """Commit the run (or the one prefilling step), which ends at ``end_s``."""
    steps = replica.steps
    run_blocks(w, e, r, steps, replica, spec)
    decoding = replica.running - replica.prefilling
    if replica.stalled == 0:
        replica.step_count += steps
        replica.context_tokens += steps * decoding
    replica.computed_tokens += steps * replica.tokens
    if spec.draft_length > 0:
        accept(w, e, r, replica, spec)
    if replica.next_window == replica.step_count:
        fill_windows(w, e, r, replica, spec)
    if replica.prefilling > 0:
        done = decoding  # those whose prompt is computed come before the others
        for at in range(decoding, replica.running):
            index = w.slots[e, r, at].request
            leave_computed(w, e, r, index)
            if not is_partial(w.requests[e, index]):
                for place in range(at, done, -1):
                    w.slots[e, r, place].request = w.slots[e, r, place - 1].request
                w.slots[e, r, done].request = index
                end_prefill(w, e, r, end_s, done, replica, spec, router)
                done += 1
        replica.prefilling = replica.running - done
    if spec.policy == VTC:
        charge_run(w, e, r, decoding, replica)
    if replica.next_finish == replica.step_count:
        remove_finished(w, e, r, end_s, replica, spec, router)


@kernel
def next_step(w, e, r, start_s, replica, spec, router):
    """End the run under way, if there is one, and begin the step that starts at ``start_s``."""
    seen_s = start_s
    if replica.busy == 1:
        replica.busy_s += replica.end_s - replica.start_s
        end_run(w, e, r, start_s, replica, spec, router)
        if may_move(w):
            let_leave(w, e, r, start_s)
        if spec.lag == 1 and replica.running > 0 and replica.tokens > 0:
            # planned when the step before started, if that was one
            seen_s = replica.start_s + run_s(replica, replica.steps - 1)
    begin_step(w, e, r, start_s, seen_s, replica, spec, router, w.costs[replica.kind])


@unit
def advance_replica(w, e, r, until_s):
    """Process every step of a replica, and of ranks that step with it, that ends by ``until_s``.

    It stops at the next turn of a session too, which a step may have made known. An idle replica
    starts once the clock has moved on: all that arrives at once is in its step.
    """
    ranks, first = w.replica_specs[r].step_ranks, r - w.replica_specs[r].step_rank
    start_s = next_start_s(w, e, first, ranks, until_s)
    while start_s < math.inf:
        at = first
        while at < first + ranks:
            next_step(w, e, at, start_s, w.replicas[e, at], w.replica_specs[at], w.router[e])
            at += 1
        if ranks > 1:
            keep_pace(w, e, first, ranks, start_s)
        until_s = min(until_s, next_turn_s(w, e, w.router[e]))
        start_s = next_start_s(w, e, first, ranks, until_s)
