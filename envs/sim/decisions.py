"""The world's clock: it runs until someone must decide, then stops."""

from __future__ import annotations

import math

import numpy as np

from ..observation import CANDIDATES, CLUSTER, QUEUE
from ..perf.cost_table import COST
from .compile import kernel
from .kvcache import NEVER_SENT
from .memory import array_at
from .observe import fits, may_hold, observe, predict_prefill_s, report, write_info
from .records import CONFIG, ENV, NODE, REPLICA, REQUEST, SLOT, SPEC
from .serving import NEVER, advance, submit
from .state import State

AVERAGED_ARRIVALS = 32.0
NUM_CLUSTER, NUM_QUEUE, NUM_CANDIDATE = len(CLUSTER), len(QUEUE), len(CANDIDATES)
INT8, INT16, INT32 = np.dtype(np.int8), np.dtype(np.int16), np.dtype(np.int32)
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


@kernel
def value(w, env):
    """Return the weighted sum of the reward terms up to now.

    Its change between two decisions is the reward, so that the rewards of an episode add up to
    the metrics behind the terms.
    """
    now_s = env.now_s
    awaiting = env.arrived - env.first_tokens
    unfinished = env.arrived - env.finished
    waiting_s = env.ttft_s + awaiting * now_s - env.awaiting_arrival_s
    in_system_s = env.e2e_s + unfinished * now_s - env.unfinished_arrival_s
    return (
        w.config[0].w_slo * env.slo_met
        + w.config[0].w_tokens * env.output_tokens
        - w.config[0].w_waiting * waiting_s
        - w.config[0].w_in_system * in_system_s
        - w.config[0].w_preemptions * env.preemptions
        - w.config[0].w_invalid * env.invalid_actions
    )


@kernel
def least_in_flight(w, e, request):
    """Return the replica with the fewest requests in flight of those that can hold the request."""
    best = -1
    for r in range(len(w.specs)):
        if fits(request, w.specs[r]):
            if best < 0 or w.replicas[e, r].in_flight < w.replicas[e, best].in_flight:
                best = r
    return best


@kernel
def hold_back(w, e, index, env):
    """Queue the request at the router, to be decided again ``hold_s`` later."""
    request = w.requests[e, index]
    request.retry_s = env.now_s + w.config[0].hold_s
    request.next = -1
    if env.held_tail >= 0:
        w.requests[e, env.held_tail].next = index
    else:
        env.held_head = index
    env.held_tail = index
    env.held += 1


@kernel
def apply_action(w, e, action, env):
    """Send the request under decision to replica ``action``, or hold it back.

    An infeasible action is counted and replaced by the feasible replica with the fewest requests
    in flight.
    """
    index = env.deciding
    request = w.requests[e, index]
    env.deciding = -1
    env.decisions += 1
    if action == len(w.specs) and may_hold(w, request, env.now_s):
        hold_back(w, e, index, env)
        return
    if action < 0 or action >= len(w.specs) or not fits(request, w.specs[action]):
        env.invalid_actions += 1
        action = least_in_flight(w, e, request)
    spec = w.specs[action]
    cost = w.costs[spec.kind]
    prefill_s = predict_prefill_s(w, request.prompt_tokens, 0, spec, cost)
    request.work_s = prefill_s + request.estimate_tokens * spec.token_s
    submit(w, e, action, index, env.now_s, w.replicas[e, action], spec, env)


@kernel
def next_decision(w, e, env):
    """Move the clock to the next decision; returns False if none is left.

    A held request whose time has come goes before a request that arrives at the same moment.
    """
    arrival_s = math.inf
    if env.arrived < env.num_requests:
        arrival_s = w.requests[e, env.arrived].arrival_s
    if env.held > 0 and w.requests[e, env.held_head].retry_s <= arrival_s:
        env.deciding = env.held_head
        request = w.requests[e, env.deciding]
        env.now_s = request.retry_s
        env.held_head = request.next
        if env.held_head < 0:
            env.held_tail = -1
        env.held -= 1
        return True
    if arrival_s == math.inf:
        return False
    env.deciding = env.arrived
    request = w.requests[e, env.deciding]
    weight = 1.0 / min(env.arrived + 1.0, AVERAGED_ARRIVALS)
    env.mean_prompt += weight * (request.prompt_tokens - env.mean_prompt)
    if env.arrived > 0:
        gap_s = arrival_s - w.requests[e, env.arrived - 1].arrival_s
        weight = 1.0 / min(float(env.arrived), AVERAGED_ARRIVALS)
        env.gap_s += weight * (gap_s - env.gap_s)
    env.now_s = arrival_s
    env.arrived += 1
    env.awaiting_arrival_s += arrival_s
    env.unfinished_arrival_s += arrival_s
    return True


@kernel
def run_until_decision(w, e, env):
    """Run the world to its next decision, or to its end if all requests have been decided."""
    more = next_decision(w, e, env)
    until_s = env.now_s if more else math.inf
    interval_s = w.config[0].signal_interval_s
    for r in range(len(w.specs)):
        replica = w.replicas[e, r]
        spec = w.specs[r]
        if interval_s > 0.0 and more:
            report_s = math.floor(env.now_s / interval_s) * interval_s
            if report_s > replica.report_s:
                advance(w, e, r, report_s, replica, spec, env)
                report(w, e, r, report_s, replica, spec, w.costs[spec.kind])
        if replica.busy == 1 and replica.end_s <= until_s:
            advance(w, e, r, until_s, replica, spec, env)
    if not more:
        env.done = 1
        for index in range(env.num_requests):
            env.now_s = max(env.now_s, w.requests[e, index].finish_s)


@kernel(inline=False)
def reset_world(w, e, env, num_ids):
    """Empty every replica and set the clock to zero; the requests have been loaded already."""
    for r in range(len(w.specs)):
        spec = w.specs[r]
        replica = w.replicas[e, r]
        replica.busy = 0
        replica.prefilling = 0
        replica.steps = 0
        replica.step_count = 0
        replica.running = 0
        replica.context_tokens = 0
        replica.next_finish = NEVER
        replica.waiting = 0
        replica.head = -1
        replica.tail = -1
        replica.queued_tokens = 0
        replica.free_blocks = spec.kv_blocks
        replica.lru_head = -1
        replica.lru_tail = -1
        replica.tail_blocks = spec.kv_blocks
        replica.in_flight = 0
        replica.in_flight_tokens = 0
        replica.work_s = 0.0
        replica.report_s = 0.0
        replica.report_running = 0
        replica.report_waiting = 0
        replica.report_queued_tokens = 0
        replica.report_blocks = 0
        replica.report_context = 0
        replica.report_load = 0.0
        replica.report_link_load = 0.0
        w.phases[e, r, :] = 0
    w.holders[e, :num_ids, :] = NEVER_SENT
    env.now_s = 0.0
    env.arrived = 0
    env.deciding = -1
    env.finished = 0
    env.held = 0
    env.held_head = -1
    env.held_tail = -1
    env.in_flight = 0
    env.gap_s = 0.0
    env.mean_prompt = 0.0
    env.done = 0
    env.decisions = 0
    env.invalid_actions = 0
    env.preemptions = 0
    env.first_tokens = 0
    env.multi_token = 0
    env.ttft_s = 0.0
    env.tpot_s = 0.0
    env.e2e_s = 0.0
    env.awaiting_arrival_s = 0.0
    env.unfinished_arrival_s = 0.0
    env.slo_met = 0
    env.output_tokens = 0
    env.prompt_tokens = 0
    env.cached_tokens = 0


@kernel(inline=False)
def load_requests(
    e, envs, requests, ids, arrival_s, prompt_tokens, output_tokens, estimate_tokens, session,
    prefix_offsets, prefix_ids, priority,
):  # fmt: skip
    """Write a stream of requests into environment ``e``; sessions are below their number."""
    count = len(arrival_s)
    last = [-1 for _ in range(count)]
    for index in range(count):
        request = requests[e, index]
        request.arrival_s = arrival_s[index]
        request.prompt_tokens = prompt_tokens[index]
        request.output_tokens = output_tokens[index]
        request.estimate_tokens = estimate_tokens[index]
        request.session = session[index]
        request.previous = -1
        if request.session >= 0:
            request.previous = last[request.session]
            last[request.session] = index
        request.prefix_begin = prefix_offsets[index]
        request.prefix_count = prefix_offsets[index + 1] - prefix_offsets[index]
        request.priority = priority[index]
        request.replica = -1
        request.next = -1
        request.generated = 0
        request.computed = 0
        request.blocks = 0
        request.nodes = 0
        request.sealed = 0
        request.cached_tokens = -1
        request.preemptions = 0
        request.work_s = 0.0
        request.retry_s = math.nan
        request.first_token_s = math.nan
        request.finish_s = math.nan
    for at in range(len(prefix_ids)):
        ids[e, at] = prefix_ids[at]
    envs[e].num_requests = count


IDLE, STEP, RESET = 0, 1, 2  # what an environment of a batch is to do


@kernel(inline=False)
def run_batch(orders, actions, world, floats, numbers, mask):
    """Step or reset environments as ``orders`` says, and observe their next decisions.

    ``world`` is the table of :meth:`gpuyard.envs.sim.world.World`: sizes, then addresses.
    """
    num_envs, num_replicas, num_kinds = world[0], world[1], world[2]
    num_requests, num_ids, num_nodes = world[3], world[4], world[5]
    num_slots, num_phases, num_tokens = world[6], world[7], world[8]
    num_heads, num_devices, queue_rows, num_candidates = world[9], world[10], world[11], world[12]
    of_replicas = (num_envs, num_replicas)
    envs = array_at(world[13], (num_envs,), ENV)
    config = array_at(world[14], (1,), CONFIG)
    replicas = array_at(world[15], of_replicas, REPLICA)
    specs = array_at(world[16], (num_replicas,), SPEC)
    costs = array_at(world[17], (num_kinds,), COST)
    requests = array_at(world[18], (num_envs, num_requests), REQUEST)
    slots = array_at(world[19], (num_envs, num_replicas, num_slots), SLOT)
    phases = array_at(world[20], (num_envs, num_replicas, num_phases), INT32)
    nodes = array_at(world[21], (num_envs, num_nodes, num_replicas), NODE)
    holders = array_at(world[22], (num_envs, num_nodes, num_replicas), INT16)
    ids = array_at(world[23], (num_envs, num_ids), INT32)
    used_ids = array_at(world[24], (num_envs,), INT32)
    linear = array_at(world[25], (num_kinds, num_tokens), FLOAT64)
    head = array_at(world[26], (num_kinds, num_heads), FLOAT64)
    # observations lie behind one another, each key with its own leading environment axis
    at = floats.ctypes.data
    cluster = array_at(at, (num_envs, NUM_CLUSTER), FLOAT32)
    at += 4 * cluster.size
    memory = array_at(at, (num_envs, num_devices), FLOAT32)
    at += 4 * memory.size
    load = array_at(at, (num_envs, num_devices), FLOAT32)
    at += 4 * load.size
    link_load = array_at(at, of_replicas, FLOAT32)
    at += 4 * link_load.size
    queue = array_at(at, (num_envs, queue_rows, NUM_QUEUE), FLOAT32)
    at += 4 * queue.size
    candidates = array_at(at, (num_envs, num_candidates, NUM_CANDIDATE), FLOAT32)
    feasible = array_at(mask.ctypes.data, (num_envs, num_candidates), INT8)
    w = State(
        envs, config, replicas, specs, costs, requests, slots, phases, nodes, holders, ids,
        linear, head, cluster, memory, load, link_load, queue, candidates, feasible,
    )  # fmt: skip
    for e in range(num_envs):
        if orders[e] == IDLE:
            continue
        env = w.envs[e]
        if orders[e] == RESET:
            reset_world(w, e, env, used_ids[e])
        elif env.deciding >= 0:
            apply_action(w, e, actions[e], env)
        run_until_decision(w, e, env)
        before = env.reward_value if orders[e] == STEP else 0.0
        env.reward_value = value(w, env)
        numbers[e, 0] = env.reward_value - before
        observe(w, e, env)
        write_info(e, env, numbers)
