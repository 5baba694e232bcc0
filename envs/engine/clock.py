"""The clock of the placement world: it runs until someone must decide, then stops."""

from __future__ import annotations

import math

from ..engine.core.records import IDLE, START, STEP
from .core.compile import kernel
from .decide.place import may_stop, place
from .decide.place_seen import observe, survey, write_info
from .decide.proposals import carry_out
from .devices.faults import fail_some_node, plan_failure, repair_due_nodes
from .gangs.lifecycle import enqueue, finish, preempt
from .network.arrays import reset
from .network.traffic import advance, next_event_s, settle
from .state import GANGS

gangs_at = GANGS.at

AVERAGED_ARRIVALS = 32.0


@kernel
def integrate(w, e, env, until_s):
    """Add up what the metrics integrate over time, and move the clock."""
    dt = until_s - env.now_s
    if dt <= 0.0:
        return
    gpus = env.free_gpus + env.down_gpus
    env.waiting_s += dt * env.pending
    env.in_system_s += dt * (env.pending + env.running)
    env.busy_gpu_s += dt * (env.total_gpus - gpus)
    env.fragmented_gpu_s += dt * env.partial_gpus
    env.energy_j += dt * env.power_w
    env.cost += dt * env.price_per_s
    if env.pending > 0:
        env.head_wait_s += dt
        if env.head_fits == 1:
            env.network_wait_s += dt
            w.jobs[e, env.queue_head].network_wait_s += dt
    env.now_s = until_s


@kernel
def value(w, env):
    """Return the weighted sum of the reward terms up to now; its change is the reward."""
    c = w.config[0]
    return (
        c.w_finished * env.finished
        + c.w_utilisation * env.busy_gpu_s / env.total_gpus
        - c.w_waiting * env.waiting_s
        - c.w_in_system * env.in_system_s
        - c.w_slowdown * env.slowdown
        - c.w_preemptions * env.preemptions
        - c.w_cost * env.cost
        - c.w_energy * env.energy_j / 3.6e6
        - c.w_invalid * env.invalid_actions
    )


@kernel
def arrive(w, e, env):
    """Queue the next gang."""
    j = env.arrived
    if j > 0:
        gap_s = w.jobs[e, j].arrival_s - w.jobs[e, j - 1].arrival_s
        env.gap_s += (gap_s - env.gap_s) / min(float(j), AVERAGED_ARRIVALS)
    env.arrived += 1
    enqueue(w, e, env, j)


@kernel
def next_moment_s(w, e, env):
    """Return when something happens next, inf if nothing ever will.

    A failure counts only while something else is to come or runs.
    """
    moment_s = min(next_event_s(w, e), env.next_repair_s)
    if env.arrived < env.num_jobs:
        moment_s = min(moment_s, w.jobs[e, env.arrived].arrival_s)
    return min(moment_s, env.next_failure_s) if moment_s < math.inf else moment_s


@kernel
def happen(w, e, env, moment_s):
    """Move time to ``moment_s`` and let everything happen that is due then.

    Ends of runs come before failures, those before repairs and arrivals.
    """
    integrate(w, e, env, moment_s)
    while next_event_s(w, e) <= moment_s:
        j = advance(w, e, moment_s)
        if j >= 0:
            finish(w, e, env, j)
    if env.next_failure_s <= moment_s:
        fail_some_node(w, e, env)
    if env.next_repair_s <= moment_s:
        repair_due_nodes(w, e, env)
    while env.arrived < env.num_jobs and w.jobs[e, env.arrived].arrival_s <= moment_s:
        arrive(w, e, env)
    settle(w, e, moment_s)


@kernel
def someone_must_decide(w, e, env):
    """Tell whether a decision is due, after filling the candidates and their mask."""
    if env.pending == 0:
        return False
    feasible = survey(w, e, env, next_moment_s(w, e, env) < math.inf)
    if w.config[0].planner == 1:
        return env.free_gpus > 0 or w.config[0].preemption == 1
    return feasible > 0


@kernel
def run_until_decision(w, e, env):
    """Run the world to its next decision, or to its end."""
    settle(w, e, env.now_s)
    while True:
        if env.waited == 0 and someone_must_decide(w, e, env):
            return
        env.waited = 0
        moment_s = next_moment_s(w, e, env)
        if env.finished == env.num_jobs or moment_s == math.inf:
            env.done = 1
            survey(w, e, env, True)
            return
        happen(w, e, env, moment_s)


@kernel
def preempt_row(w, e, env, row):
    """Preempt the ``row``-th running gang, latest start first; False if it may not be."""
    j = int(env.running_head)
    while row > 0 and j >= 0:
        j = w.jobs[e, j].next
        row -= 1
    if j < 0 or not may_stop(w, env, w.jobs[e, j]):
        return False
    preempt(w, e, env, j)
    return True


@kernel
def place_row(w, e, env, row):
    """Start a pending gang by candidate ``row``; False if that is not feasible."""
    c = w.config[0]
    position, rest = row // (c.plans * c.pools), row % (c.plans * c.pools)
    j = int(env.queue_head)
    while position > 0 and j >= 0:
        j = w.jobs[e, j].next
        position -= 1
    if j < 0 or w.feasible[e, row] == 0:
        return False
    return place(w, e, env, j, rest // c.pools, rest % c.pools)


@kernel
def try_action(w, e, env, action):
    """Carry out candidate ``action``; False if it is infeasible."""
    c = w.config[0]
    places = c.window * c.plans * c.pools
    if 0 <= action < places:
        return place_row(w, e, env, action)
    if places <= action < places + c.running_rows:
        return preempt_row(w, e, env, action - places)
    if action == places + c.running_rows:
        env.waited = 1
        return next_moment_s(w, e, env) < math.inf
    if action == places + c.running_rows + 1:
        return carry_out(w, e, env)
    return False


@kernel
def apply_action(w, e, action, env):
    """Carry out the action; an infeasible one is counted and replaced.

    By waiting, or where nothing would ever follow by the first feasible candidate.
    """
    env.decisions += 1
    if try_action(w, e, env, action):
        return
    env.invalid_actions += 1
    env.waited = 1
    if next_moment_s(w, e, env) < math.inf:
        return
    for candidate in range(w.feasible.shape[1]):
        if w.feasible[e, candidate] == 1 and try_action(w, e, env, candidate):
            env.waited = 0
            return


@kernel(inline=False)
def run_gang_batch(orders, actions, address, numbers):
    """Step or start environments as ``orders`` says, and observe their next decisions.

    ``address`` is that of the table of :data:`.state.GANGS`, ``numbers`` of
    :class:`gpuyard.envs.world.Outputs`.
    """
    w = gangs_at(address)
    for e in range(len(w.envs)):
        if orders[e] == IDLE:
            continue
        env = w.envs[e]
        if orders[e] == STEP and env.done == 0:
            apply_action(w, e, actions[e], env)
        if orders[e] == START:
            reset(w, e)
            plan_failure(w, env)
            env.waited = 1
        if env.done == 0:
            run_until_decision(w, e, env)
        before = env.reward_value
        env.reward_value = value(w, env)
        numbers[e, 0] = env.reward_value - before
        observe(w, e, env)
        write_info(w, e, env, numbers)
