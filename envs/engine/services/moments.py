"""What happens to services as time goes on: replicas come up, drain and end."""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..network.records import FLUID
from ..serving.records import DRAINING, OFF, PREFILL, STARTING
from ..serving.refusal import ended
from ..serving.replica import advance_replica
from .bases import ask_for_services, next_base_s, split_bases, watch_bases
from .handover import land, reserve
from .lifecycle import come_up, end, follow_gangs, start_waiting
from .overlap import hand_over_early, release_all
from .reach import is_cut_off
from .sending import look, next_traffic_s
from .stepping import follow_step, is_on_links, next_followed_s


@kernel
def begin_services(w, e):
    """Begin an episode: the gangs that are to be there from the start queue for devices."""
    fleet = w.fleet[e]
    interval_s = w.scaler_rules[0].interval_s
    fleet.tick_s = interval_s if interval_s > 0.0 else math.inf
    fleet.retry_s = fleet.look_s = math.inf
    if len(w.traffic) > 0 and w.fabric[0].fidelity != FLUID:
        fleet.exact = 1
    for r in range(len(w.replica_specs)):
        if w.replica_specs[r].does == PREFILL:
            fleet.exact = 1
    ask_for_services(w, e, 0.0)


@kernel
def is_over(w, e):
    """Tell whether all requests and jobs have ended, so that services are needed no more."""
    router, gangs = w.router[e], w.gangs[e]
    jobs = gangs.num_jobs - gangs.services
    return ended(router) == router.num_requests and gangs.finished == jobs


@kernel
def is_abandoned(w, e):
    """Tell whether the first request that waits for a replica is of a service that has none.

    Or none in reach.
    """
    if w.router[e].parked_head < 0:
        return False
    request = w.requests[e, w.router[e].parked_head]
    for r in range(len(w.replica_specs)):
        is_its = w.replica_specs[r].service == request.service
        if is_its and w.replicas[e, r].phase != OFF and not is_cut_off(w, e, r, request):
            return False
    return True


@kernel
def next_service_s(w, e):
    """Return when something happens to services next, inf if nothing will.

    KV caches that arrive are events of the network.
    """
    fleet = w.fleet[e]
    if is_over(w, e):
        return math.inf
    moment_s = min(fleet.tick_s, fleet.retry_s, next_base_s(w, e))
    if ended(w.router[e]) < w.router[e].num_requests:
        moment_s = min(moment_s, next_traffic_s(w, e))
    if fleet.moving == 0 and fleet.exact == 0:
        return moment_s
    for r in range(len(w.replica_specs)):
        replica = w.replicas[e, r]
        if replica.phase == STARTING:
            moment_s = min(moment_s, replica.ready_s)
        elif has_drained(replica):  # what it held was given up
            return w.clock[e].now_s
        elif is_followed(w, e, r):
            moment_s = min(moment_s, next_followed_s(w, e, r, replica))
    return max(moment_s, w.clock[e].now_s)


@kernel
def has_drained(replica):
    """Tell whether a replica that takes no more has nothing left."""
    return replica.phase == DRAINING and replica.in_flight + replica.holding == 0


@kernel
def is_followed(w, e, r):
    """Tell whether others wait for what a replica does, so that its steps are moments."""
    replica = w.replicas[e, r]
    if replica.phase == DRAINING or replica.coming > 0 or w.replica_specs[r].does == PREFILL:
        return True
    return is_on_links(w, e, r)


@kernel
def replicas_happen(w, e, now_s):
    """Let the replicas that start or drain do what is due."""
    if w.fleet[e].retry_s <= now_s:
        w.gangs[e].waited, w.fleet[e].retry_s = 0, math.inf
    ask_for_services(w, e, now_s)
    split_bases(w, e)
    follow_gangs(w, e, now_s)
    for r in range(len(w.replica_specs)):
        replica = w.replicas[e, r]
        if replica.phase == STARTING and replica.ready_s <= now_s:
            come_up(w, e, replica)
        elif is_on_links(w, e, r):
            follow_step(w, e, r, now_s)
        elif is_followed(w, e, r):
            layers = w.roles[w.replica_specs[r].role].layers
            if layers > 0 and w.replica_specs[r].does == PREFILL:
                release_all(w, e, r, now_s)
                advance_replica(w, e, r, now_s)
                hand_over_early(w, e, r)
            else:
                advance_replica(w, e, r, now_s)
        if replica.coming > 0:
            reserve(w, e, r, replica, w.replica_specs[r])
    start_waiting(w, e, now_s)
    land(w, e, now_s)
    for r in range(len(w.replica_specs)):
        replica = w.replicas[e, r]
        if has_drained(replica):
            end(w, e, r, replica, w.replica_specs[r])
    watch_bases(w, e, now_s)
    if w.fleet[e].look_s <= now_s:
        look(w, e, now_s)


@kernel
def per(amount, count, otherwise):
    """Return ``amount / count``, or something else where there is none."""
    return amount / count if count > 0 else otherwise


@kernel
def measure(w, e, seconds):
    """Take the numbers of the interval that ends now."""
    for v in range(w.service_states.shape[1]):
        s = w.service_states[e, v]
        arrived, finished = s.arrived - s.then_arrived, s.finished - s.then_finished
        s.rate_per_s = arrived / seconds
        prompts, outputs = s.prompt_tokens - s.then_prompt_tokens, s.output_tokens
        s.prompt_mean = per(prompts, arrived, s.prompt_mean)
        s.output_mean = per(outputs - s.then_output_tokens, finished, s.output_mean)
        s.ttft_mean_s = per(s.ttft_s - s.then_ttft_s, s.first_tokens - s.then_first_tokens, 0.0)
        s.tpot_mean_s = per(s.tpot_s - s.then_tpot_s, s.multi_token - s.then_multi_token, 0.0)
        s.slo_share = per(s.slo_met - s.then_slo_met, finished, 1.0)
        s.then_arrived, s.then_prompt_tokens = s.arrived, s.prompt_tokens
        s.then_first_tokens, s.then_ttft_s = s.first_tokens, s.ttft_s
        s.then_finished, s.then_output_tokens = s.finished, s.output_tokens
        s.then_multi_token, s.then_tpot_s, s.then_slo_met = s.multi_token, s.tpot_s, s.slo_met
