"""The world's clock: it runs until someone must decide, then stops."""

from __future__ import annotations

import math

from ...engine.core.records import IDLE, STEP
from ..core.compile import kernel
from ..serving.replica import advance, submit
from ..serving.state import bind
from .route_seen import fits, may_hold, observe, predict_prefill_s, report, write_info

AVERAGED_ARRIVALS = 32.0


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
        if replica.busy == 0 or replica.end_s <= until_s:
            advance(w, e, r, until_s, replica, spec, env)
    if not more:
        env.done = 1
        for index in range(env.num_requests):
            env.now_s = max(env.now_s, w.requests[e, index].finish_s)


@kernel(inline=False)
def run_batch(orders, actions, table, floats, numbers, mask):
    """Step or start environments as ``orders`` says, and observe their next decisions.

    ``table`` tells where the state lies, the others are the arrays of
    :class:`gpuyard.envs.world.Outputs`.
    """
    w = bind(table, floats, mask)
    for e in range(len(w.envs)):
        if orders[e] == IDLE:
            continue
        env = w.envs[e]
        if orders[e] == STEP and env.deciding >= 0:
            apply_action(w, e, actions[e], env)
        run_until_decision(w, e, env)
        before = env.reward_value
        env.reward_value = value(w, env)
        numbers[e, 0] = env.reward_value - before
        observe(w, e, env)
        write_info(e, env, numbers)
