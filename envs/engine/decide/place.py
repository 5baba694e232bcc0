"""The decision which pending gang starts where: when it is due, and how a candidate is taken."""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..core.units import unit
from ..gangs.moments import next_moment_s
from .place_seen import survey
from .placing import may_stop, place
from .proposals import carry_out
from .stopping import look_again_s, stop


@kernel
def asked_again_s(w, e, gangs):
    """Return when someone may decide again who waits now, inf: never."""
    moment_s = next_moment_s(w, e, gangs)
    return moment_s if moment_s < math.inf else look_again_s(w, e)


@kernel
def wait(w, e, gangs):
    """Ask nobody before something happens to gangs, or to requests that replicas may go on with."""
    gangs.waited = 1
    if w.layout[0].info_preempt > 0 and next_moment_s(w, e, gangs) == math.inf:
        w.fleet[e].retry_s = min(w.fleet[e].retry_s, look_again_s(w, e))


@unit
def place_is_due(w, e) -> bool:
    """Tell whether someone must decide now, after filling the candidates and their mask."""
    gangs = w.gangs[e]
    if gangs.waited == 1 or gangs.pending == 0:
        return False
    feasible = survey(w, e, asked_again_s(w, e, gangs) < math.inf)
    due = feasible > 0
    if w.gang_rules[0].planner == 1:
        due = w.devices[e].free_gpus > 0 or w.gang_rules[0].preemption == 1
    if not due:
        gangs.waited = 1  # the same holds until something happens to gangs
    return due


@kernel
def preempt_row(w, e, gangs, row):
    """Preempt the ``row``-th running gang, latest start first; False if it may not be."""
    j = int(gangs.running_head)
    while row > 0 and j >= 0:
        j = w.jobs[e, j].next
        row -= 1
    if j < 0 or not may_stop(w, e, w.jobs[e, j]):
        return False
    stop(w, e, j)
    return True


@kernel
def place_row(w, e, row):
    """Start a pending gang by candidate ``row``; False if that is not feasible."""
    rules = w.gang_rules[0]
    at, rest = row // (rules.plans * rules.pools), row % (rules.plans * rules.pools)
    if w.feasible[e, row] == 0:
        return False
    return place(w, e, int(w.window[e, at]), rest // rules.pools, rest % rules.pools)


@kernel(inline=False)
def try_action(w, e, gangs, action):
    """Carry out candidate ``action``; False if it is infeasible."""
    rules = w.gang_rules[0]
    places = rules.window * rules.plans * rules.pools
    if 0 <= action < places:
        return place_row(w, e, action)
    if places <= action < places + rules.running_rows:
        return preempt_row(w, e, gangs, action - places)
    if action == places + rules.running_rows:
        wait(w, e, gangs)
        return w.feasible[e, action] == 1
    if action == places + rules.running_rows + 1:
        return carry_out(w, e)
    return False


@unit
def take_place(w, e, action):
    """Carry out the action.

    An infeasible one is counted and replaced: by waiting, or where nothing would ever follow by
    the first feasible candidate.
    """
    gangs = w.gangs[e]
    if try_action(w, e, gangs, action):
        return
    w.clock[e].invalid_actions += 1
    gangs.invalid += 1
    wait(w, e, gangs)
    if asked_again_s(w, e, gangs) < math.inf:
        return
    for candidate in range(w.feasible.shape[1]):
        gangs.waited = 0
        if w.feasible[e, candidate] == 1 and try_action(w, e, gangs, candidate):
            return
    gangs.waited = 1


@kernel
def first_start(w, e):
    """Return the candidate that starts the oldest gang that can, or else the one that waits."""
    rules = w.gang_rules[0]
    starts = rules.window * rules.plans * rules.pools
    for candidate in range(starts):
        if w.feasible[e, candidate] == 1:
            return candidate
    return starts + rules.running_rows
