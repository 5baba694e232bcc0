"""Fill the observation of one environment from its records.

Rows are filled with raw quantities in the order of :mod:`gpuyard.envs.observation`, whose scales
then squash them; a test holds the order against a slow reading of the state, column by column.
"""

from __future__ import annotations

import math

import numpy as np

from ..observation import CANDIDATES, CLUSTER, QUEUE
from .compile import kernel
from .costs import decode_step_s, prefill_attention_s
from .kvcache import cached_units, sent_units
from .random import hash64
from .serving import ceil_div, floor_div, run_blocks, steps_done


def _scaling(columns):
    """Return (offset, slope) such that ``x / (offset + slope * x)`` is each column's value."""
    offset = [1.0 if column.scale is None else column.scale for column in columns]
    slope = [0.0 if column.scale is None else 1.0 for column in columns]
    return np.array(offset, np.float32), np.array(slope, np.float32)


CLUSTER_OFFSET, CLUSTER_SLOPE = _scaling(CLUSTER)
QUEUE_OFFSET, QUEUE_SLOPE = _scaling(QUEUE)
CANDIDATE_OFFSET, CANDIDATE_SLOPE = _scaling(CANDIDATES)


@kernel
def squash(row, offset, slope):
    """Turn raw quantities into column values, in place."""
    for column in range(len(offset)):  # a constant, which lets the compiler use vectors
        row[column] /= offset[column] + slope[column] * row[column]


@kernel
def report(e, r, now_s, replica, spec, cost, phases, nodes, holders):
    """Let the replica, advanced to ``now_s``, report its state to the router."""
    steps = steps_done(replica, now_s) if replica.busy == 1 else 0
    run_blocks(e, r, min(steps + 1, replica.steps), replica, spec, phases, nodes, holders)
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
def predict_prefill_s(tokens, cached, spec, cost, linear, head):
    """Return the seconds to prefill ``tokens`` prompt tokens alone on top of ``cached`` ones."""
    budget = spec.max_num_batched_tokens
    seconds = 0.0
    rest = tokens
    while rest > budget:
        seconds += linear[spec.kind, budget] + cost.pre_fixed_s
        seconds += prefill_attention_s(cost, budget, cached)
        cached += budget
        rest -= budget
    seconds += linear[spec.kind, rest] + cost.pre_fixed_s
    return seconds + head[spec.kind, 1] + prefill_attention_s(cost, rest, cached)


@kernel
def session_home(session, specs):
    """Return the replica that rendezvous hashing gives ``session``: the highest weight wins.

    Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.
    """
    best, best_weight = -1, specs[0].ring_key
    for r in range(len(specs)):
        weight = hash64(specs[r].ring_key + np.uint64(session))
        if best < 0 or weight > best_weight:
            best, best_weight = r, weight
    return best


@kernel
def fits(request, spec):
    """Tell whether the replica's KV cache can ever hold the request."""
    tokens = request.prompt_tokens + request.output_tokens
    return ceil_div(tokens, spec.block_size) <= spec.kv_blocks


@kernel
def cached_tokens(e, r, request, report_s, spec, nodes, holders, ids):
    """Return the prompt tokens of ``request`` that the replica had cached by ``report_s``."""
    if request.prefix_count == 0:
        return 0
    most = floor_div(request.prompt_tokens - 1, spec.unit_tokens)
    return spec.unit_tokens * cached_units(e, r, request, most, report_s, nodes, holders, ids)


@kernel
def observe_devices(e, r, replica, spec, memory, load, link_load):
    """Fill the rows of the replica's devices and of its scale-up link, as reported."""
    share = spec.weight_share + spec.kv_share * replica.report_blocks / spec.kv_blocks
    for device in range(spec.first_device, spec.first_device + spec.num_devices):
        memory[e, device] = min(share, 1.0)
        load[e, device] = replica.report_load
    link_load[e, r] = replica.report_link_load


@kernel
def observe_candidate(
    e, r, home, hit, prefill_s, request, replica, spec, cost, requests, nodes, holders, ids, linear, head,
    candidates,
):  # fmt: skip
    """Fill the row of sending ``request`` to the replica, which has ``hit`` tokens of it cached."""
    prompt = request.prompt_tokens
    sent = 0
    if request.prefix_count > 0:
        units = sent_units(e, r, request, floor_div(hit, spec.unit_tokens), holders, ids)
        sent = min(units * spec.unit_tokens, prompt)
    running = min(replica.report_running + replica.report_waiting + 1, spec.max_num_seqs)
    context = replica.report_context + replica.report_queued_tokens + prompt
    step_s = decode_step_s(cost, linear, head, spec.kind, running, context)
    budget = spec.max_num_batched_tokens
    wait_s = replica.report_queued_tokens * linear[spec.kind, budget] / budget
    if replica.report_running > 0:
        wait_s += 0.5 * step_s
    blocks = ceil_div(prompt + request.estimate_tokens, spec.block_size)
    blocks -= floor_div(hit, spec.block_size)
    row = candidates[e, r]
    row[0] = replica.report_running
    row[1] = replica.report_waiting
    row[2] = replica.in_flight
    row[3] = replica.in_flight_tokens
    row[4] = replica.report_queued_tokens
    row[5] = replica.report_blocks / spec.kv_blocks
    row[6] = replica.report_blocks
    row[7] = min(blocks / spec.kv_blocks, 1.0)
    row[8] = ceil_div(prompt, spec.block_size)
    row[9] = hit / prompt
    row[10] = sent / prompt
    row[11] = request.previous >= 0 and requests[e, request.previous].replica == r
    row[12] = home == r
    row[13] = prefill_s
    row[14] = wait_s
    row[15] = step_s
    row[16] = max(replica.work_s, 0.0)
    row[17] = spec.capacity
    row[18] = min(replica.in_flight / spec.max_num_seqs, 1.0)
    row[19] = spec.price_per_h
    squash(row, CANDIDATE_OFFSET, CANDIDATE_SLOPE)


@kernel
def observe_queue_row(e, row, now_s, request, config, queue):
    """Fill one row of the queue with a request."""
    out = queue[e, row]
    out[0] = 1.0
    out[1] = 0.0
    out[2] = request.prompt_tokens
    out[3] = request.estimate_tokens
    out[4] = max(now_s - request.arrival_s, 0.0)
    out[5] = request.priority
    out[6] = config.ttft_slo_s
    out[7] = config.tpot_slo_s
    squash(out, QUEUE_OFFSET, QUEUE_SLOPE)


@kernel
def observe_queue(e, env, config, requests, queue):
    """Fill the queue: the request under decision, then those held back, oldest first."""
    row = 0
    if env.deciding >= 0:
        observe_queue_row(e, row, env.now_s, requests[e, env.deciding], config, queue)
        row += 1
    index = env.held_head
    while index >= 0 and row < queue.shape[1]:
        observe_queue_row(e, row, env.now_s, requests[e, index], config, queue)
        index = requests[e, index].next
        row += 1
    for empty in range(row, queue.shape[1]):
        queue[e, empty, :] = 0.0


@kernel
def observe_cluster(e, env, cluster):
    """Fill what holds for the whole world."""
    row = cluster[e]
    row[0] = 1.0 if env.deciding >= 0 else 0.0
    row[1] = 0.0
    row[2] = 0.0
    row[3] = env.arrived / env.num_requests
    rate = 1.0 / env.gap_s if env.gap_s > 0.0 else 0.0
    row[4] = rate
    row[5] = rate * env.mean_prompt
    row[6] = env.in_flight
    row[7] = env.held
    row[8] = env.slo_met / env.finished if env.finished > 0 else 0.0
    row[9] = env.cached_tokens / env.prompt_tokens if env.prompt_tokens > 0 else 0.0
    squash(row, CLUSTER_OFFSET, CLUSTER_SLOPE)


@kernel
def may_hold(request, now_s, config):
    """Tell whether the request may be held back once more."""
    waited_s = now_s - request.arrival_s
    return config.hold_s > 0.0 and waited_s + config.hold_s <= config.hold_limit_s


@kernel
def observe(
    e, env, config, replicas, specs, costs, requests, phases, nodes, holders, ids, linear, head,
    cluster, memory, load, link_load, queue, candidates, mask,
):  # fmt: skip
    """Fill every key of environment ``e``, whose replicas have been advanced to ``env.now_s``."""
    observe_cluster(e, env, cluster)
    observe_queue(e, env, config, requests, queue)
    index = env.deciding
    for hold in range(len(specs), mask.shape[1]):
        candidates[e, hold, :] = 0.0
        mask[e, hold] = index >= 0 and may_hold(requests[e, index], env.now_s, config)
    home = -1
    if index >= 0 and requests[e, index].session >= 0:
        home = session_home(requests[e, index].session, specs)
    predicted_kind, predicted_hit, prefill_s = -1, -1, 0.0
    for r in range(len(specs)):
        replica = replicas[e, r]
        spec = specs[r]
        cost = costs[spec.kind]
        if config.signal_interval_s == 0.0:
            report(e, r, env.now_s, replica, spec, cost, phases, nodes, holders)
            report_s = math.inf
        else:
            report_s = replica.report_s
        observe_devices(e, r, replica, spec, memory, load, link_load)
        if index < 0:
            candidates[e, r, :] = 0.0
            mask[e, r] = 1
            continue
        request = requests[e, index]
        hit = cached_tokens(e, r, request, report_s, spec, nodes, holders, ids)
        if spec.kind != predicted_kind or hit != predicted_hit:  # replicas often agree
            predicted_kind, predicted_hit = spec.kind, hit
            tokens = request.prompt_tokens - hit
            prefill_s = predict_prefill_s(tokens, hit, spec, cost, linear, head)
        observe_candidate(
            e, r, home, hit, prefill_s, request, replica, spec, cost, requests, nodes, holders, ids, linear,
            head, candidates,
        )  # fmt: skip
        mask[e, r] = fits(request, spec)


@kernel
def write_info(e, env, numbers):
    """Fill the metrics so far, in the order of ``INFO_KEYS``, behind the reward."""
    row = numbers[e]
    now_s = env.now_s
    row[1] = now_s
    row[2] = env.arrived
    row[3] = env.finished
    row[4] = env.invalid_actions
    row[5] = env.preemptions
    row[6] = env.ttft_s / env.first_tokens if env.first_tokens > 0 else 0.0
    row[7] = env.tpot_s / env.multi_token if env.multi_token > 0 else 0.0
    row[8] = env.e2e_s / env.finished if env.finished > 0 else 0.0
    row[9] = env.slo_met / env.finished if env.finished > 0 else 0.0
    row[10] = env.slo_met / now_s if now_s > 0.0 else 0.0
    row[11] = env.output_tokens / now_s if now_s > 0.0 else 0.0
    row[12] = env.cached_tokens / env.prompt_tokens if env.prompt_tokens > 0 else 0.0
