"""What happens to gangs as time goes on: ends of runs, failures, repairs, arrivals."""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..core.records import AVERAGED_ARRIVALS
from ..core.units import unit
from ..devices.faults import draw_failure, plan_failure, repair_due_nodes
from ..network.arrays import reset
from ..network.traffic import move_on, next_event_s, settle
from .lifecycle import enqueue, fail_node, finish

JOULES_PER_KWH = 3.6e6
RESTART_S = 1.0
"""A preempted gang can start again after so long at the latest; it is what time stands for where
a policy has stopped all that ran and nothing else is to come. A replica whose node has failed is
asked about again after so long."""


@unit
def begin_gangs(w, e):
    """Begin an episode: nothing runs, nothing waits."""
    reset(w, e)
    plan_failure(w, e)
    w.gangs[e].next_save_s = math.inf
    w.gangs[e].waited = 1


@kernel
def integrate(w, e, gangs, until_s):
    """Add up what the metrics integrate over time, up to ``until_s``."""
    dt = until_s - gangs.since_s
    if dt <= 0.0:
        return
    gangs.since_s = until_s
    devices = w.devices[e]
    gpus = devices.free_gpus + devices.down_gpus
    gangs.waiting_s += dt * gangs.pending_jobs
    gangs.weighted_waiting_s += dt * gangs.pending_weight
    gangs.in_system_s += dt * (gangs.pending_jobs + gangs.running)
    devices.busy_gpu_s += dt * (devices.total_gpus - gpus)
    devices.fragmented_gpu_s += dt * devices.partial_gpus
    devices.energy_j += dt * devices.power_w
    devices.cost += dt * devices.price_per_s
    for i in range(len(w.deserving)):
        integrate_queue(w, e, w.deserving[i], dt)
    if gangs.pending > 0:
        gangs.head_wait_s += dt
        if gangs.head_fits == 1:
            gangs.network_wait_s += dt
            w.jobs[e, gangs.queue_head].network_wait_s += dt


@kernel
def integrate_queue(w, e, queue, dt):
    """Add up the GPU seconds that a queue deserves and asks for, and those of them that it gets."""
    held, deserved = w.queue_gpus[e, queue], w.queue_deserved[queue]
    w.queue_due_gpu_s[e, queue] += dt * min(held + w.queue_asked[e, queue], deserved)
    w.queue_got_gpu_s[e, queue] += dt * min(held, deserved)


@kernel
def arrive(w, e, gangs):
    """Queue the next gang."""
    j = gangs.arrived
    before = j - gangs.services
    if before > 0:
        gap_s = w.jobs[e, j].arrival_s - w.jobs[e, j - 1].arrival_s
        gangs.gap_s += (gap_s - gangs.gap_s) / min(float(before), AVERAGED_ARRIVALS)
    gangs.arrived += 1
    enqueue(w, e, gangs, j)


@kernel
def next_moment_s(w, e, gangs):
    """Return when something happens next, inf if nothing ever will.

    A failure counts only while something else is to come or runs, and a preempted gang cannot start
    again at the same moment. Replicas that send are nothing to wait for.
    """
    devices = w.devices[e]
    moment_s = devices.next_repair_s
    if gangs.arrived < gangs.num_jobs:
        moment_s = min(moment_s, w.jobs[e, gangs.arrived].arrival_s)
    runs = gangs.running > 0 or w.network[e].once_running > 0
    if not runs and moment_s == math.inf and w.clock[e].now_s < gangs.stopped_s + RESTART_S:
        moment_s = gangs.stopped_s + RESTART_S
    moment_s = min(moment_s, next_event_s(w, e))
    return min(moment_s, devices.next_failure_s) if moment_s < math.inf else moment_s


@unit
def gangs_happen(w, e, moment_s):
    """Move time to ``moment_s`` and let everything happen that is due then.

    Ends of runs come before failures, those before repairs and arrivals.
    """
    gangs, devices, clock = w.gangs[e], w.devices[e], w.clock[e]
    integrate(w, e, gangs, moment_s)
    gangs.waited = 0
    clock.now_s = max(clock.now_s, moment_s)
    while next_event_s(w, e) <= moment_s:
        j = move_on(w, e, moment_s)
        if 0 <= j < w.jobs.shape[1]:  # not the step of a replica
            finish(w, e, j)
    if devices.next_failure_s <= moment_s:
        node, repair_s = draw_failure(w, e)
        if node >= 0:
            fail_node(w, e, node, repair_s)
    if devices.next_repair_s <= moment_s:
        repair_due_nodes(w, e)
    while gangs.arrived < gangs.num_jobs and w.jobs[e, gangs.arrived].arrival_s <= moment_s:
        arrive(w, e, gangs)
    settle(w, e, moment_s)


@kernel
def gangs_value(w, e):
    """Return the weighted sum of the reward terms up to now; its change is the reward."""
    gangs, devices, rules = w.gangs[e], w.devices[e], w.gang_rules[0]
    return (
        rules.w_finished * gangs.finished
        + rules.w_utilisation * devices.busy_gpu_s / devices.total_gpus
        - rules.w_waiting * gangs.waiting_s
        - rules.w_weighted_waiting * gangs.weighted_waiting_s
        - rules.w_in_system * gangs.in_system_s
        - rules.w_slowdown * gangs.slowdown
        - rules.w_preemptions * gangs.preemptions
        - rules.w_cost * devices.cost
        - rules.w_energy * devices.energy_j / JOULES_PER_KWH
        - rules.w_invalid * gangs.invalid
    )
