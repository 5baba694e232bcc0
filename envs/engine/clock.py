"""The one clock: it runs a world until someone must decide, then stops.

Each part is asked for its next moment. One pass lets happen what is due at the earliest of them, in
a fixed order: ends of runs, failures, repairs, arrivals of gangs, replicas that come up, drain or
end, moves of requests. Last it takes up one request, if one was due before the pass. Rates are
settled once per moment. Then the first kind of decision that is due is asked for, again and again:
the request that was taken up is routed, requests move, gangs are placed, replicas are decided
about; a gang that such a decision lets queue is placed before the next one. When no decision is
due the next pass comes, perhaps at the same moment.

So of several requests of one moment the first is routed before all other decisions of that moment
and the rest after them. Requests that wait for a replica that comes up then are routed after them,
too, but for the first of them where another request arrives at that moment: it goes in its place.

Parts that a scenario lacks have arrays without items and cost a look at their length.

Parts that nobody else must see stay lazy: a replica is advanced only when a request is to be
routed, when it drains, when sessions answer back, or when replicas are decided about.
"""

from __future__ import annotations

import math

from .core.compile import entry, kernel
from .core.records import (
    GO_ON,
    IDLE,
    MAX_DECISIONS,
    MAX_TIME,
    MIGRATE,
    NOTHING,
    PLACE,
    ROUTE,
    SCALE,
    STALLED,
    START,
)
from .decide.answers import serve_on
from .decide.columns import COMMON
from .decide.migrate import moves_happen, next_move_s, take_migrate
from .decide.migrate_seen import see_migrate
from .decide.place import first_start, place_is_due, take_place
from .decide.place_seen import see_place, survey
from .decide.route import (
    choose_replica,
    drain,
    last_finish_s,
    next_request_s,
    next_route,
    requests_value,
    take_route,
)
from .decide.route_seen import see_route
from .decide.scale import KEEP, services_happen, take_scale
from .decide.scale_seen import see_scale
from .gangs.lifecycle import count_unfinished
from .gangs.moments import begin_gangs, gangs_happen, gangs_value, integrate, next_moment_s
from .gangs.saving import save_by
from .network.traffic import settle
from .services.moments import begin_services, is_abandoned, is_over, next_service_s
from .services.stepping import has_steps_on_links
from .serving.move_records import may_move
from .serving.refusal import left as requests_left
from .state import STATE

LOOK_UP_MOMENTS = 2000  # well under a second, after which Python may hear a signal
STALLED_MOMENTS = 100_000  # failures and repairs after which no gang will ever find its nodes

state_at = STATE.at


@kernel
def has_requests(w):
    """Tell whether requests are routed in this world."""
    return len(w.replica_specs) > 0


@kernel
def has_gangs(w):
    """Tell whether gangs are placed in this world."""
    return w.jobs.shape[1] > 0


@kernel
def has_services(w):
    """Tell whether replicas stand on the cluster of this world."""
    return len(w.roles) > 0


@kernel
def decision_due(w, e):
    """Return the decision that is due at this moment."""
    if has_requests(w) and w.router[e].deciding >= 0:
        return ROUTE
    if may_move(w) and w.mover[e].deciding == 1:
        return MIGRATE
    if has_gangs(w) and place_is_due(w, e):
        return PLACE
    if has_services(w) and w.fleet[e].deciding == 1:
        return SCALE
    return NOTHING


@kernel
def gangs_next_s(w, e):
    """Return when something happens to gangs or the network next; inf if nothing will.

    Once all jobs have finished that is so while nothing moves over the network. Gangs of services
    that are pending when all requests and jobs have ended are not waited for.
    """
    gangs = w.gangs[e]
    waits = gangs.finished < gangs.num_jobs - gangs.services or gangs.pending > 0
    waits = waits or w.network[e].once_running > 0
    if has_services(w):
        waits = (waits or has_steps_on_links(w, e)) and not is_over(w, e)
    return next_moment_s(w, e, gangs) if waits else math.inf


@kernel
def run_until_decision(w, e):
    """Run the world to the policy's next decision, to its end, or so far that it looks up."""
    clock = w.clock[e]
    if has_gangs(w):
        settle(w, e, clock.now_s)
    clock.paused = 0
    for _ in range(LOOK_UP_MOMENTS):
        clock.due = decision_due(w, e)
        if clock.due == NOTHING:
            if not move_on(w, e, clock):
                return
        elif clock.decisions < clock.most_decisions:
            return
        else:
            decide(w, e, clock)
    clock.paused = 1


@kernel
def move_on(w, e, clock):
    """Let happen what comes next; False if that was the end."""
    request_s = next_request_s(w, e) if has_requests(w) else math.inf
    gangs_s = gangs_next_s(w, e) if has_gangs(w) else math.inf
    services_s = next_service_s(w, e) if has_services(w) else math.inf
    moves_s = next_move_s(w, e) if may_move(w) else math.inf
    moment_s = min(request_s, gangs_s, services_s, moves_s)
    if has_services(w) and moment_s < math.inf and not is_over(w, e):
        gangs_s = min(gangs_s, w.devices[e].next_failure_s)  # a service is there without jobs, too
        moment_s = min(moment_s, gangs_s)
    if has_requests(w) and w.router[e].answers == 1:
        if serve_on(w, e, min(moment_s, clock.limit_s)):
            return True
    if request_s < math.inf:
        clock.idle_moments = 0
    stalled = is_stalled(w, e, clock)
    if moment_s > clock.limit_s or moment_s == math.inf or stalled:
        if has_requests(w) and drain(w, e, clock.limit_s):
            return True
        end(w, e, clock, moment_s, stalled)
        return False
    if has_gangs(w) and w.gangs[e].next_save_s <= moment_s:
        save_by(w, e, moment_s)
    if gangs_s <= moment_s:
        gangs_happen(w, e, moment_s)
    if has_services(w) and min(gangs_s, services_s) <= moment_s:
        services_happen(w, e, moment_s)
    if moves_s <= moment_s:
        if moves_happen(w, e, moment_s) and has_services(w):
            services_happen(w, e, moment_s)
    if request_s <= moment_s:
        next_route(w, e)
    return True


@kernel
def is_stalled(w, e, clock):
    """Tell whether work has waited for very long while no gang ran and none was to come.

    It waits as a pending gang, or as a request whose service has no replica and is given none.
    """
    if not has_gangs(w):
        return False
    gangs = w.gangs[e]
    waits = gangs.pending > 0 or (has_services(w) and is_abandoned(w, e))
    if gangs.running > 0 or not waits or gangs.arrived < gangs.num_jobs:
        clock.idle_moments = 0
    else:
        clock.idle_moments += 1
    return clock.idle_moments > STALLED_MOMENTS


@kernel
def decide(w, e, clock):
    """Decide in place of the policy, which has had all decisions that it may take.

    A request goes to the replica with the fewest in flight, the oldest gang that can starts, there
    are as many replicas as before, and no request moves.
    """
    clock.truncated = MAX_DECISIONS
    if clock.due == ROUTE:
        take_route(w, e, choose_replica(w, e))
    elif clock.due == SCALE:
        take_scale(w, e, KEEP)
    elif clock.due == MIGRATE:
        take_migrate(w, e, len(w.replica_specs))
    else:
        take_place(w, e, first_start(w, e))


@kernel
def end(w, e, clock, moment_s, stalled):
    """End the episode: in full if nothing is left, otherwise truncated, and say why."""
    clock.done = 1
    left = 0
    if has_requests(w):
        left += requests_left(w.router[e])
    if has_gangs(w):
        left += w.gangs[e].num_jobs - w.gangs[e].services - w.gangs[e].finished
    is_late = left > 0 and clock.limit_s < math.inf and not stalled
    if not has_requests(w):
        is_late = is_late and clock.limit_s < moment_s < math.inf
    if left > 0:
        clock.truncated = MAX_TIME if is_late else STALLED
    if has_gangs(w):
        if is_late:
            integrate(w, e, w.gangs[e], clock.limit_s)
        survey(w, e, 1)
    if is_late:
        clock.now_s = clock.limit_s
    elif has_requests(w):
        clock.now_s = last_finish_s(w, e)
    if has_gangs(w) and left > 0:
        count_unfinished(w, e, w.gangs[e])


@kernel
def clear(w, e):
    """Set to 0 what is filled in part only; it comes with whatever was in memory."""
    w.cluster[e, :] = 0.0
    w.queue[e, :, :] = 0.0
    clear_candidates(w, e)


@kernel
def clear_candidates(w, e):
    """Offer nothing."""
    w.candidates[e, :, :] = 0.0
    w.action_mask[e, :] = 0


@kernel
def observe(w, e):
    """Fill what holds for the whole world, then what each part shows."""
    row, clock = w.cluster[e], w.clock[e]
    row[COMMON.kind_route] = clock.due == ROUTE
    row[COMMON.kind_place] = clock.due == PLACE
    row[COMMON.kind_scale] = clock.due == SCALE
    if clock.surveyed == 1 and clock.due != PLACE:
        clear_candidates(w, e)
    clock.surveyed = 0
    moved, total = 0, 0
    if has_requests(w):
        moved += w.router[e].arrived + w.router[e].never_asked
        total += w.router[e].num_requests
        see_route(w, e)
    if may_move(w):
        see_migrate(w, e)
    if has_gangs(w):
        moved += w.gangs[e].finished
        total += w.gangs[e].num_jobs - w.gangs[e].services
        see_place(w, e)
    if has_services(w):
        see_scale(w, e)
    row[COMMON.progress] = moved / total


@kernel
def value(w, e):
    """Return the weighted sum of all reward terms up to now; its change is the reward."""
    total = 0.0
    if has_requests(w):
        total += requests_value(w, e)
    if has_gangs(w):
        total += gangs_value(w, e)
    return total


@kernel
def act(w, e, action):
    """Take the action in the decision that is due."""
    clock = w.clock[e]
    clock.decisions += 1
    if clock.due == ROUTE:
        take_route(w, e, action)
    elif clock.due == PLACE:
        take_place(w, e, action)
        if has_services(w):
            services_happen(w, e, clock.now_s)
    elif clock.due == SCALE:
        take_scale(w, e, action)
    elif clock.due == MIGRATE:
        take_migrate(w, e, action)


@entry
def run_batch(orders, actions, table, slots, offsets, floats, mask, numbers):
    """Step or start environments as ``orders`` says, and observe their next decisions.

    Args:
        orders: int64 (E,), IDLE, STEP, START or GO_ON.
        actions: int64 (E,), read where the order is STEP.
        table: of the bundle, int64; see :mod:`.core.bundle`.
        slots: places in the table of the observation keys, of the mask and of the numbers.
        offsets: bytes from ``floats`` to each observation key.
        floats: float32, any content, written: the observation keys one behind the other.
        mask: int8 (E, C), written.
        numbers: float64 (E, 1 + info), written: the reward, then the info.

    Returns:
        How many environments have paused before their next decision; order them to GO_ON.
    """
    for key in range(len(offsets)):
        table[slots[key]] = floats.ctypes.data + offsets[key]
    table[slots[len(offsets)]] = mask.ctypes.data
    table[slots[len(offsets) + 1]] = numbers.ctypes.data
    return run_environments(table.ctypes.data, orders, actions, numbers)


@kernel(inline=False)
def run_environments(address, orders, actions, numbers):
    """Do for each environment what :func:`run_batch` says."""
    w = state_at(address)
    paused = 0
    for e in range(len(w.clock)):
        if orders[e] == IDLE:
            continue
        clock = w.clock[e]
        if orders[e] != GO_ON:
            clear(w, e)
        if orders[e] == START:
            clock.due = NOTHING
            if has_gangs(w):
                begin_gangs(w, e)
            if has_services(w):
                begin_services(w, e)
        elif clock.done == 0 and clock.paused == 0:
            act(w, e, actions[e])
        if clock.done == 0:
            run_until_decision(w, e)
        if clock.paused == 1:
            paused += 1
            continue
        if has_gangs(w):
            integrate(w, e, w.gangs[e], clock.now_s)
        before = clock.reward_value
        clock.reward_value = value(w, e)
        numbers[e, 0] = clock.reward_value - before
        observe(w, e)
    return paused
