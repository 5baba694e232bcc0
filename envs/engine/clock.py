"""The one clock: it runs a world until someone must decide, then stops.

Each part is asked for its next moment; what is due then happens in a fixed order: ends of runs,
failures, repairs, arrivals of gangs, then the next request. Rates are settled once per moment. A
route decision comes before a place decision of the same moment. Parts that a scenario lacks have
arrays without items and cost a look at their length.

Parts that nobody else must see stay lazy: a replica is advanced only when a request is to be
routed.
"""

from __future__ import annotations

import math

from .core.compile import entry, kernel
from .core.records import IDLE, NOTHING, PLACE, ROUTE, START
from .decide.columns import COMMON
from .decide.place import place_is_due, take_place
from .decide.place_seen import see_place, survey
from .decide.route import next_request_s, next_route, requests_value, take_route
from .decide.route_seen import see_route
from .gangs.moments import begin_gangs, gangs_happen, gangs_value, next_moment_s
from .network.traffic import settle
from .state import STATE

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
def decision_due(w, e):
    """Return the decision that is due at this moment."""
    if has_requests(w) and w.router[e].deciding >= 0:
        return ROUTE
    if has_gangs(w) and place_is_due(w, e):
        return PLACE
    return NOTHING


@kernel
def gangs_next_s(w, e):
    """Return when something happens to gangs next; inf if all have finished."""
    gangs = w.gangs[e]
    return next_moment_s(w, e, gangs) if gangs.finished < gangs.num_jobs else math.inf


@kernel
def run_until_decision(w, e):
    """Run the world to its next decision, or to its end."""
    clock = w.clock[e]
    if has_gangs(w):
        settle(w, e, clock.now_s)
    while True:
        clock.due = decision_due(w, e)
        if clock.due != NOTHING:
            return
        request_s = next_request_s(w, e) if has_requests(w) else math.inf
        gangs_s = gangs_next_s(w, e) if has_gangs(w) else math.inf
        moment_s = min(request_s, gangs_s)
        if moment_s == math.inf:
            end(w, e)
            return
        if gangs_s <= moment_s:
            gangs_happen(w, e, moment_s)
        if request_s <= moment_s:
            next_route(w, e, 1)


@kernel
def end(w, e):
    """Let everything run to its end; nothing is left to decide."""
    clock = w.clock[e]
    clock.done = 1
    if has_requests(w):
        next_route(w, e, 0)
    if has_gangs(w):
        survey(w, e, 1)
        if w.gangs[e].pending > 0:  # some gang can never start
            clock.due = PLACE


@kernel
def observe(w, e):
    """Fill what holds for the whole world, then what each part shows."""
    row, clock = w.cluster[e], w.clock[e]
    row[COMMON.kind_route] = clock.due == ROUTE
    row[COMMON.kind_place] = clock.due == PLACE
    row[COMMON.kind_scale] = 0.0
    moved, total = 0, 0
    if has_requests(w):
        moved, total = moved + w.router[e].arrived, total + w.router[e].num_requests
        see_route(w, e)
    if has_gangs(w):
        moved, total = moved + w.gangs[e].finished, total + w.gangs[e].num_jobs
        see_place(w, e)
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


@entry
def run_batch(orders, actions, table, slots, offsets, floats, mask, numbers):
    """Step or start environments as ``orders`` says, and observe their next decisions.

    Args:
        orders: int64 (E,), IDLE, STEP or START.
        actions: int64 (E,), read where the order is STEP.
        table: of the bundle, int64; see :mod:`.core.bundle`.
        slots: places in the table of the observation keys, of the mask and of the numbers.
        offsets: bytes from ``floats`` to each observation key.
        floats: float32, written: the observation keys one behind the other.
        mask: int8 (E, C), written.
        numbers: float64 (E, 1 + info), written: the reward, then the info.
    """
    for key in range(len(offsets)):
        table[slots[key]] = floats.ctypes.data + offsets[key]
    table[slots[len(offsets)]] = mask.ctypes.data
    table[slots[len(offsets) + 1]] = numbers.ctypes.data
    run_environments(table.ctypes.data, orders, actions, numbers)


@kernel(inline=False)
def run_environments(address, orders, actions, numbers):
    """Do for each environment what :func:`run_batch` says."""
    w = state_at(address)
    for e in range(len(w.clock)):
        if orders[e] == IDLE:
            continue
        clock = w.clock[e]
        if orders[e] == START:
            clock.due = NOTHING
            if has_gangs(w):
                begin_gangs(w, e)
        elif clock.done == 0:
            act(w, e, actions[e])
        if clock.done == 0:
            run_until_decision(w, e)
        before = clock.reward_value
        clock.reward_value = value(w, e)
        numbers[e, 0] = clock.reward_value - before
        observe(w, e)
