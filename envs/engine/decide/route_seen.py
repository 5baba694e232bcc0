"""Fill the observation of one environment from its records.

Rows are filled with raw quantities in the order of :mod:`gpuyard.envs.observation`, whose scales
then squash them; a test holds the order against a slow reading of the state, column by column.
"""

from __future__ import annotations

import math

import numpy as np

from ..core.compile import kernel
from ..core.random import hash64
from ..core.records import MIGRATE, PLACE, SCALE
from ..core.units import unit
from ..services.reach import has_decoder, reaches
from ..serving.clients import has_clients
from ..serving.costs import alone_s, decode_step_s, host_step_s, prefill_attention_s
from ..serving.fetching import reachable_tokens
from ..serving.growth import blocks_of, floor_div
from ..serving.kvcache import cached_units, sent_units
from ..serving.records import AGGREGATED, DECODE, HANDED, PREFILL, SERVING
from ..serving.refusal import ended, may_refuse
from ..serving.reservation import most_blocks
from ..serving.rollout import write_rollout
from ..serving.runs import run_blocks, steps_done
from ..serving.speculation import token_s
from .clients_seen import observe_client, write_clients
from .columns import OF_SESSIONS, OF_STEPS, QUEUED, info_places, places, scaling, squash
from .gate_seen import observe_deadline, observe_gate, observe_reject, reject_row
from .image_seen import observe_encoders
from .technique_seen import observe_techniques, shows_techniques
from .transfer_seen import observe_transfers

CLUSTER = places("cluster", "route")
QUEUE = places("queue", "route")
CANDIDATE = places("candidates", "route")
INFO = info_places("route")
NUM_OF_SESSIONS, NUM_OF_STEPS = len(OF_SESSIONS), len(OF_STEPS)
CLUSTER_OFFSET, CLUSTER_SLOPE = scaling("cluster", "route")
QUEUE_OFFSET, QUEUE_SLOPE = scaling("queue", "route")
CANDIDATE_OFFSET, CANDIDATE_SLOPE = scaling("candidates", "route")
WAIT_SCALE_S = float(CANDIDATE_OFFSET[CANDIDATE.wait_s])


@kernel
def report(w, e, r, now_s, replica, spec, cost):
    """Let the replica, advanced to ``now_s``, report its state to the router."""
    steps = steps_done(replica, now_s) if replica.busy == 1 else 0
    run_blocks(w, e, r, min(steps + 1, replica.steps), replica, spec)
    decoding = replica.running - replica.prefilling
    replica.report_s = now_s
    replica.report_running = replica.running
    replica.report_waiting = replica.waiting
    replica.report_queued_tokens = replica.queued_tokens
    replica.report_blocks = spec.kv_blocks - replica.free_blocks
    replica.report_context = replica.context_tokens + steps * decoding
    replica.report_load = 0.0
    replica.report_link_load = 0.0
    if replica.busy == 1:
        tokens_per_s = replica.tokens / (replica.first_step_s + replica.step_growth_s * steps)
        replica.report_load = min(tokens_per_s * cost.flop_per_token / cost.peak_flops, 1.0)
        if cost.comm_bytes_per_s > 0.0:
            link_load = tokens_per_s * cost.comm_bytes_per_token / cost.comm_bytes_per_s
            replica.report_link_load = min(link_load, 1.0)


@kernel
def predict_prefill_s(w, tokens, cached, kind, spec, cost):
    """Return the seconds to prefill ``tokens`` prompt tokens alone on top of ``cached`` ones."""
    budget = spec.most_chunk
    seconds = 0.0
    rest = tokens
    while rest > budget:
        step_s = w.linear_s[kind, budget] + cost.pre_fixed_s
        step_s += alone_s(cost, budget, prefill_attention_s(cost, budget, cached))
        seconds += max(step_s, host_step_s(cost, 0))
        cached += budget
        rest -= budget
    step_s = w.linear_s[kind, rest] + cost.pre_fixed_s + w.head_s[kind, 1]
    step_s += alone_s(cost, rest, prefill_attention_s(cost, rest, cached))
    return seconds + max(step_s, host_step_s(cost, 1))


@kernel
def session_home(w, e, request):
    """Return the replica that rendezvous hashing gives a session: the highest weight wins.

    Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.
    """
    best, best_weight = -1, w.replica_specs[0].ring_key
    for r in range(len(w.replica_specs)):
        if not serves(w, e, r, request, w.replicas[e, r], w.replica_specs[r]):
            continue
        weight = hash64(w.replica_specs[r].ring_key + np.uint64(request.session))
        if best < 0 or weight > best_weight:
            best, best_weight = r, weight
    return best


@kernel
def fits(request, spec):
    """Tell whether the replica's KV cache holds the request however long its output may be.

    A prefill replica has no more of it than it has when it comes.
    """
    output = request.generated if spec.does == PREFILL else request.max_tokens + spec.lookahead
    return most_blocks(request, output, spec) <= spec.kv_blocks


@kernel
def serves(w, e, r, request, replica, spec):
    """Tell whether the replica takes requests, and this one is for it.

    Its service must be the replica's own, and where roles are apart a prompt goes to a prefill
    replica, or to a decode replica if not much of it is left to compute there; a request whose
    prompt is computed goes to a decode replica in reach.
    """
    if replica.phase != SERVING or request.service != spec.service:
        return False
    return spec.does == AGGREGATED or serves_part(w, e, r, request, spec)


@kernel(inline=False)
def serves_part(w, e, r, request, spec) -> bool:
    """Tell whether a request is for a replica that prefills or decodes only."""
    if request.stage == HANDED:
        return spec.does == DECODE and reaches(w, e, int(request.source), r)
    if spec.does == PREFILL:
        return has_decoder(w, e, r)
    hit = cached_tokens(w, e, r, request, math.inf, spec)
    return request.prompt_tokens - hit <= spec.local_tokens


@kernel
def cached_tokens(w, e, r, request, report_s, spec):
    """Return the prompt tokens of ``request`` that the replica had cached by ``report_s``."""
    if request.prefix_count == 0 or spec.unit_tokens == 0:
        return 0
    most = floor_div(request.prompt_tokens - 1, spec.unit_tokens)
    return spec.unit_tokens * cached_units(w, e, r, request, most, report_s)


@kernel
def observe_devices(w, e, r, replica, spec):
    """Fill the rows of the replica's devices and of its scale-up link, as reported."""
    share = spec.weight_share + spec.kv_share * replica.report_blocks / spec.kv_blocks
    for device in range(spec.first_device, spec.first_device + spec.num_devices):
        w.device_memory[e, device] = min(share, 1.0)
        w.device_load[e, device] = replica.report_load
    if spec.num_devices > 0:  # outside the cluster, whose devices and links are shown by it
        w.link_load[e, r] = replica.report_link_load


@kernel
def observe_candidate(w, e, r, home, hit, match, prefill_s, request, replica, spec, cost):
    """Fill the row of sending ``request`` to the replica, which has ``hit`` tokens of it cached.

    It has ``match`` tokens if those in the tiers behind it count, too.

    Returns:
        The predicted wait, seconds.
    """
    prompt = request.prompt_tokens
    sent = 0
    if request.prefix_count > 0 and spec.unit_tokens > 0:
        units = sent_units(w, e, r, request, floor_div(hit, spec.unit_tokens))
        sent = min(units * spec.unit_tokens, prompt)
    running = min(replica.report_running + replica.report_waiting + 1, spec.max_num_seqs)
    context = replica.report_context + replica.report_queued_tokens + prompt
    step_s = decode_step_s(cost, w.linear_s, w.head_s, replica.kind, running, context)
    if spec.draft_length > 0:
        step_s = token_s(w, replica.kind, running, context, spec, cost)
    budget = spec.max_num_batched_tokens
    wait_s = spec.frontend_s
    wait_s += replica.report_queued_tokens * w.linear_s[replica.kind, budget] / budget
    if replica.report_running > 0:
        wait_s += (0.5 + spec.lag) * step_s
    blocks = most_blocks(request, request.estimate_tokens, spec)
    blocks -= floor_div(hit, spec.block_size)
    row = w.candidates[e, r, w.layout[0].candidates_route :]
    row[CANDIDATE.running] = replica.report_running
    row[CANDIDATE.waiting] = replica.report_waiting
    row[CANDIDATE.in_flight] = replica.in_flight
    row[CANDIDATE.in_flight_tokens] = replica.in_flight_tokens
    row[CANDIDATE.queued_tokens] = replica.report_queued_tokens
    row[CANDIDATE.kv_usage] = replica.report_blocks / spec.kv_blocks
    row[CANDIDATE.kv_blocks] = replica.report_blocks
    row[CANDIDATE.kv_demand] = min(blocks / spec.kv_blocks, 1.0)
    row[CANDIDATE.request_blocks] = blocks_of(prompt, spec)
    row[CANDIDATE.prefix_match] = match / prompt
    row[CANDIDATE.prefix_sent] = sent / prompt
    row[CANDIDATE.session_last] = request.previous >= 0 and (
        w.requests[e, request.previous].replica == r or w.requests[e, request.previous].source == r
    )
    row[CANDIDATE.session_home] = home == r
    row[CANDIDATE.prefill_s] = prefill_s
    row[CANDIDATE.wait_s] = wait_s
    row[CANDIDATE.step_s] = step_s
    row[CANDIDATE.work_s] = max(replica.work_s, 0.0)
    row[CANDIDATE.capacity] = spec.capacity
    row[CANDIDATE.load] = min(replica.in_flight / spec.max_num_seqs, 1.0)
    row[CANDIDATE.price] = spec.price_per_h
    row[CANDIDATE.is_hold] = 0.0
    squash(row, CANDIDATE_OFFSET, CANDIDATE_SLOPE)
    return wait_s


@kernel
def observe_hold(w, e, hold, best, best_wait_s):
    """Fill the row of holding the request back: the ``best`` replica's, but ``hold_s`` later.

    No column is better than that replica's, so a rule that adds up costs does not hold by accident.
    """
    begin = w.layout[0].candidates_route
    row = w.candidates[e, hold, begin:]
    if best >= 0:
        for column in range(len(row)):
            row[column] = w.candidates[e, best, begin + column]
        wait_s = best_wait_s + w.serving_rules[0].hold_s
        row[CANDIDATE.wait_s] = wait_s / (WAIT_SCALE_S + wait_s)
    row[CANDIDATE.is_hold] = 1.0


@kernel
def observe_queue_row(w, e, row, now_s, request):
    """Fill one row of the queue with a request."""
    w.queue[e, row, QUEUED.is_request] = 1.0
    w.queue[e, row, QUEUED.is_gang] = 0.0
    out = w.queue[e, row, w.layout[0].queue_route :]
    out[QUEUE.size] = request.prompt_tokens
    out[QUEUE.estimate] = request.estimate_tokens
    out[QUEUE.age_s] = max(now_s - request.arrival_s, 0.0)
    out[QUEUE.priority] = request.priority
    out[QUEUE.ttft_slo_s] = w.objectives[request.objective].ttft_s
    out[QUEUE.tpot_slo_s] = w.objectives[request.objective].tpot_s
    squash(out, QUEUE_OFFSET, QUEUE_SLOPE)
    observe_deadline(w, e, row, now_s, request)
    if has_clients(w):
        observe_client(w, e, row, request)


@kernel
def observe_queue(w, e, router):
    """Fill the queue: the request under decision, then those held back, oldest first."""
    row = 0
    if router.deciding >= 0:
        observe_queue_row(w, e, row, w.clock[e].now_s, w.requests[e, router.deciding])
        row += 1
    index = router.held_head
    while index >= 0 and row < w.queue.shape[1]:
        observe_queue_row(w, e, row, w.clock[e].now_s, w.requests[e, index])
        index = w.requests[e, index].next
        row += 1


@kernel
def ratio(part, whole):
    """Return ``part / whole``, 0 where there is nothing yet."""
    return part / whole if whole > 0 else 0.0


@kernel
def observe_cluster(w, e, router):
    """Fill what holds for all requests and replicas."""
    row = w.cluster[e, w.layout[0].cluster_route :]
    rate = 1.0 / router.gap_s if router.gap_s > 0.0 else 0.0
    row[CLUSTER.arrival_rate] = rate
    row[CLUSTER.prompt_rate] = rate * router.mean_prompt
    row[CLUSTER.in_flight] = router.in_flight
    row[CLUSTER.held] = router.held
    row[CLUSTER.slo_attainment] = ratio(router.slo_met, ended(router))
    row[CLUSTER.prefix_hit_rate] = ratio(router.cached_tokens, router.prompt_tokens)
    row[CLUSTER.report_age_s] = report_age_s(w.clock[e].now_s, router.signal_interval_s)
    squash(row, CLUSTER_OFFSET, CLUSTER_SLOPE)


@kernel
def report_age_s(now_s, interval_s):
    """Return the seconds since the last report, all replicas' at multiples of the interval."""
    return now_s - math.floor(now_s / interval_s) * interval_s if interval_s > 0.0 else 0.0


@kernel
def may_hold(w, request, now_s):
    """Tell whether the request may be held back once more."""
    rules, waited_s = w.serving_rules[0], now_s - request.arrival_s
    return rules.hold_s > 0.0 and waited_s + rules.hold_s <= rules.hold_limit_s


@kernel
def observe_replicas(w, e, index):
    """Fill a row for each replica: what sending it request ``index`` would mean; -1: nothing.

    The rows are 0 before.
    """
    now_s, live = w.clock[e].now_s, w.router[e].signal_interval_s == 0.0
    home = -1
    if index >= 0 and w.requests[e, index].session >= 0:
        home = session_home(w, e, w.requests[e, index])
    has_tiers, has_techniques = len(w.replica_tiers) > 0, shows_techniques(w)
    predicted_kind, predicted_hit, prefill_s = -1, -1, 0.0
    best, best_s, best_wait_s = -1, math.inf, 0.0
    for r in range(len(w.replica_specs)):
        replica = w.replicas[e, r]
        spec = w.replica_specs[r]
        cost = w.costs[replica.kind]
        if live:
            report(w, e, r, now_s, replica, spec, cost)
            report_s = math.inf
        else:
            report_s = replica.report_s
        observe_devices(w, e, r, replica, spec)
        if index >= 0 and not serves(w, e, r, w.requests[e, index], replica, spec):
            continue
        if index < 0:
            w.action_mask[e, r] = 1
            continue
        request = w.requests[e, index]
        hit = match = cached_tokens(w, e, r, request, report_s, spec)
        near = 0
        if has_tiers:
            match, near = reachable_tokens(w, e, r, request, hit, min(report_s, now_s), spec)
        if replica.kind != predicted_kind or match != predicted_hit:  # replicas often agree
            predicted_kind, predicted_hit = replica.kind, match
            tokens = request.prompt_tokens - match
            if request.stage == HANDED:
                tokens = 1
            prefill_s = predict_prefill_s(w, tokens, match, replica.kind, spec, cost)
        ready_s = prefill_s
        if has_techniques:
            ready_s = observe_techniques(
                *(w, e, r, index, hit, match, near, prefill_s, report_s, spec)
            )
        wait_s = observe_candidate(w, e, r, home, hit, match, ready_s, request, replica, spec, cost)
        w.action_mask[e, r] = fits(request, spec)
        if w.action_mask[e, r] == 1 and wait_s + ready_s < best_s:
            best, best_s, best_wait_s = r, wait_s + ready_s, wait_s
    hold = len(w.replica_specs)
    if index >= 0 and w.serving_rules[0].hold_s > 0.0:
        w.action_mask[e, hold] = may_hold(w, w.requests[e, index], now_s)
        observe_hold(w, e, hold, best, best_wait_s)
    if index >= 0 and w.serving_rules[0].may_reject == 1:
        w.action_mask[e, reject_row(w)] = may_refuse(w, w.requests[e, index])
        observe_reject(w, e, best)


@unit
def see_route(w, e):
    """Fill what is seen of requests and replicas, which have been advanced to now; and the info."""
    router = w.router[e]
    observe_cluster(w, e, router)
    observe_gate(w, e, router)
    observe_encoders(w, e)
    write_info(w, e, router)
    if w.clock[e].due == PLACE or w.clock[e].due == SCALE:
        return
    observe_queue(w, e, router)
    if w.clock[e].due != MIGRATE:
        observe_replicas(w, e, router.deciding)
        if w.layout[0].candidates_transfer > 0 and router.deciding >= 0:
            observe_transfers(w, e, router.deciding)
        return
    for r in range(len(w.replica_specs)):
        observe_devices(w, e, r, w.replicas[e, r], w.replica_specs[r])


@kernel
def waiting_s(router, now_s):
    """Return the seconds that requests have waited for their first token, summed over requests."""
    awaiting = router.arrived - router.first_tokens - router.rejected - router.expired
    return router.ttft_s + router.unserved_s + awaiting * now_s - router.awaiting_arrival_s


@kernel
def in_system_s(router, now_s):
    """Return the seconds that requests have been in the system, summed over requests."""
    unfinished = router.arrived - ended(router)
    return router.e2e_s + router.unserved_s + unfinished * now_s - router.unfinished_arrival_s


@kernel
def count_unfinished(row, router, now_s):
    """Count the requests that a truncated episode leaves, as far as they came."""
    row[INFO.ttft_mean_s] = ratio(waiting_s(router, now_s), router.arrived)
    row[INFO.e2e_mean_s] = ratio(in_system_s(router, now_s), router.arrived)
    row[INFO.slo_attainment] = ratio(router.slo_met, router.arrived)


@kernel
def write_info(w, e, router):
    """Fill the metrics so far."""
    row = w.numbers[e, w.layout[0].info_route :]
    now_s, finished = w.clock[e].now_s, router.finished
    row[INFO.time_s] = now_s
    row[INFO.arrived] = router.arrived
    row[INFO.finished] = finished
    row[INFO.invalid_actions] = w.clock[e].invalid_actions
    row[INFO.preemptions] = router.preemptions
    row[INFO.ttft_mean_s] = ratio(router.ttft_s, router.first_tokens)
    row[INFO.tpot_mean_s] = ratio(router.tpot_s, router.multi_token)
    row[INFO.e2e_mean_s] = ratio(router.e2e_s, finished)
    row[INFO.slo_attainment] = ratio(router.slo_met, ended(router))
    row[INFO.goodput] = ratio(router.slo_met, now_s)
    row[INFO.output_tokens_per_s] = ratio(router.output_tokens, now_s)
    row[INFO.prefix_hit_rate] = ratio(router.cached_tokens, router.prompt_tokens)
    row[INFO.truncated_reason] = w.clock[e].truncated
    if has_clients(w):
        write_clients(w, e, now_s)
    if w.clock[e].done == 1 and ended(router) < router.arrived:
        count_unfinished(row, router, now_s)
    if router.answers == 1:
        of_steps = NUM_OF_STEPS if router.step_sessions > 0 else 0
        info = w.numbers[e, w.numbers.shape[1] - NUM_OF_SESSIONS - of_steps :]
        write_rollout(w, e, router, info, now_s)
