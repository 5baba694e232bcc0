"""Fill the observation of one environment from its records.

Column order and scales are those of :mod:`gpuyard.envs.observation`; a test holds the two against
each other, column by column.
"""

from __future__ import annotations


from .compile import kernel
from .costs import decode_step_s, prefill_attention_s
from .kvcache import cached_units, sent_units
from .serving import blocks_needed, ceil_div, steps_done


@kernel
def squash(x, scale):
    """Map x >= 0 to [0, 1)."""
    return x / (x + scale)


@kernel
def held_blocks(e, r, steps, replica, spec, phases):
    """Return the KV blocks held once ``steps`` steps of the current run have ended."""
    held = spec.kv_blocks - replica.free_blocks
    if steps > 0 and replica.steps > 1:
        more = min(steps, replica.steps - 1)
        held += blocks_needed(e, r, replica.step_count + 1, more, spec.block_size, phases)
    return held


@kernel
def report(e, r, now_s, replica, spec, phases):
    """Let the replica, advanced to ``now_s``, report its state to the router."""
    steps = steps_done(replica, now_s) if replica.busy == 1 else 0
    decoding = replica.running - replica.prefilling
    replica.report_s = now_s
    replica.report_running = replica.running
    replica.report_waiting = replica.waiting
    replica.report_queued_tokens = replica.queued_tokens
    replica.report_blocks = held_blocks(e, r, steps, replica, spec, phases)
    replica.report_context = replica.context_tokens + steps * decoding


@kernel
def predict_prefill_s(tokens, cached, spec, cost, linear, head):
    """Return the seconds to prefill ``tokens`` prompt tokens alone on top of ``cached`` ones."""
    budget = spec.max_num_batched_tokens
    steps = tokens // budget
    rest = tokens - steps * budget
    seconds = steps * (linear[spec.kind, budget] + cost.pre_fixed_s)
    if rest > 0:
        seconds += linear[spec.kind, rest] + cost.pre_fixed_s
    return seconds + head[spec.kind, 1] + prefill_attention_s(cost, tokens, cached)


@kernel
def hash64(key):
    """Return a 64-bit hash of ``key`` (the finaliser of splitmix64)."""
    key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9
    key = (key ^ (key >> 27)) * 0x94D049BB133111EB
    return key ^ (key >> 31)


@kernel
def session_home(session, specs):
    """Return the replica that rendezvous hashing gives ``session``: the highest weight wins.

    Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.
    """
    best, best_weight = -1, specs[0].ring_key
    for r in range(len(specs)):
        weight = hash64(specs[r].ring_key + session)
        if best < 0 or weight > best_weight:
            best, best_weight = r, weight
    return best


@kernel
def fits(request, spec):
    """Tell whether the replica's KV cache can ever hold the request."""
    tokens = request.prompt_tokens + request.output_tokens
    return ceil_div(tokens, spec.block_size) <= spec.kv_blocks


@kernel
def observe_devices(e, r, now_s, replica, spec, cost, phases, memory, load, link_load):
    """Fill the rows of the replica's devices and of its scale-up link."""
    steps = 0
    busy_share = 0.0
    link_share = 0.0
    if replica.busy == 1:
        steps = steps_done(replica, now_s)
        step_s = replica.first_step_s + replica.step_growth_s * steps
        busy_share = replica.tokens * cost.flop_per_token / (step_s * cost.peak_flops)
        if cost.comm_bytes_per_s > 0.0:
            link_share = replica.tokens * cost.comm_bytes_per_token
            link_share /= step_s * cost.comm_bytes_per_s
    held = held_blocks(e, r, steps, replica, spec, phases)
    share = spec.weight_share + spec.kv_share * held / spec.kv_blocks
    for device in range(spec.first_device, spec.first_device + spec.num_devices):
        memory[e, device] = min(share, 1.0)
        load[e, device] = min(busy_share, 1.0)
    link_load[e, r] = min(link_share, 1.0)


@kernel
def observe_candidate(
    e, r, home, request, replica, spec, cost, requests, nodes, ids, linear, head, candidates
):
    """Fill the row of sending ``request`` to the replica."""
    prompt = request.prompt_tokens
    hit = 0
    sent = 0
    if request.prefix_count > 0:
        most = (prompt - 1) // spec.unit_tokens
        units = cached_units(e, r, request, most, replica.report_s, nodes, ids)
        hit = units * spec.unit_tokens
        sent = min(sent_units(e, r, request, nodes, ids) * spec.unit_tokens, prompt)
    running = min(replica.report_running + replica.report_waiting + 1, spec.max_num_seqs)
    context = replica.report_context + replica.report_queued_tokens + prompt
    step_s = decode_step_s(cost, linear, head, spec.kind, running, context)
    budget = spec.max_num_batched_tokens
    wait_s = replica.report_queued_tokens * linear[spec.kind, budget] / budget
    if replica.report_running > 0:
        wait_s += 0.5 * step_s
    blocks = ceil_div(prompt + request.estimate_tokens, spec.block_size)
    blocks -= hit // spec.block_size
    row = candidates[e, r]
    row[0] = squash(replica.report_running, 32.0)
    row[1] = squash(replica.report_waiting, 8.0)
    row[2] = squash(replica.in_flight, 32.0)
    row[3] = squash(replica.in_flight_tokens, 32_768.0)
    row[4] = squash(replica.report_queued_tokens, 8192.0)
    row[5] = replica.report_blocks / spec.kv_blocks
    row[6] = squash(replica.report_blocks, 4096.0)
    row[7] = min(blocks / spec.kv_blocks, 1.0)
    row[8] = squash(ceil_div(prompt, spec.block_size), 64.0)
    row[9] = hit / prompt
    row[10] = sent / prompt
    row[11] = request.previous >= 0 and requests[e, request.previous].replica == r
    row[12] = home == r
    row[13] = squash(predict_prefill_s(prompt - hit, hit, spec, cost, linear, head), 0.5)
    row[14] = squash(wait_s, 0.5)
    row[15] = squash(step_s, 0.05)
    row[16] = squash(max(replica.work_s, 0.0), 5.0)
    row[17] = spec.capacity
    row[18] = min(replica.in_flight / spec.max_num_seqs, 1.0)
    row[19] = squash(spec.price_per_h, 10.0)


@kernel
def observe_queue_row(e, row, now_s, request, config, queue):
    """Fill one row of the queue with a request."""
    out = queue[e, row]
    out[0] = 1.0
    out[1] = 0.0
    out[2] = squash(request.prompt_tokens, 2048.0)
    out[3] = squash(request.estimate_tokens, 512.0)
    out[4] = squash(max(now_s - request.arrival_s, 0.0), 1.0)
    out[5] = request.priority
    out[6] = squash(config.ttft_slo_s, 1.0)
    out[7] = squash(config.tpot_slo_s, 0.05)


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
    row[4] = squash(rate, 20.0)
    row[5] = squash(rate * env.mean_prompt, 20_000.0)
    row[6] = squash(env.in_flight, 256.0)
    row[7] = squash(env.held, 8.0)
    row[8] = env.slo_met / env.finished if env.finished > 0 else 0.0
    row[9] = env.cached_tokens / env.prompt_tokens if env.prompt_tokens > 0 else 0.0


@kernel
def may_hold(request, now_s, config):
    """Tell whether the request may be held back once more."""
    waited_s = now_s - request.arrival_s
    return config.hold_s > 0.0 and waited_s + config.hold_s <= config.hold_limit_s


@kernel
def observe(
    e, env, config, replicas, specs, costs, requests, phases, nodes, ids, linear, head,
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
    for r in range(len(specs)):
        replica = replicas[e, r]
        spec = specs[r]
        cost = costs[spec.kind]
        if config.signal_interval_s == 0.0:
            report(e, r, env.now_s, replica, spec, phases)
        observe_devices(e, r, env.now_s, replica, spec, cost, phases, memory, load, link_load)
        if index >= 0:
            request = requests[e, index]
            observe_candidate(
                e, r, home, request, replica, spec, cost, requests, nodes, ids, linear, head,
                candidates,
            )  # fmt: skip
            mask[e, r] = fits(request, spec)
        else:
            candidates[e, r, :] = 0.0
            mask[e, r] = 1


@kernel
def write_info(e, env, info):
    """Fill the metrics so far, in the order of ``INFO_KEYS``."""
    row = info[e]
    now_s = env.now_s
    row[0] = now_s
    row[1] = env.arrived
    row[2] = env.finished
    row[3] = env.invalid_actions
    row[4] = env.preemptions
    row[5] = env.ttft_s / env.first_tokens if env.first_tokens > 0 else 0.0
    row[6] = env.tpot_s / env.multi_token if env.multi_token > 0 else 0.0
    row[7] = env.e2e_s / env.finished if env.finished > 0 else 0.0
    row[8] = env.slo_met / env.finished if env.finished > 0 else 0.0
    row[9] = env.slo_met / now_s if now_s > 0.0 else 0.0
    row[10] = env.output_tokens / now_s if now_s > 0.0 else 0.0
    row[11] = env.cached_tokens / env.prompt_tokens if env.prompt_tokens > 0 else 0.0
