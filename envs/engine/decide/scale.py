"""The decision how many replicas a role has: when it is due, and how a candidate is taken.

A round of decisions begins at every interval. Each decision adds a replica to a role, takes one
away, lets one change its role, or keeps things as they are, which ends the round; so does the last
change that a round may make. What was added queues for devices at once, and is placed before the
round goes on. A replica that changes its role keeps its devices and its weights: it drains, and
goes on as a replica of the other role. Neither role leaves its bounds. Source: stateless instances
of Arrow (arXiv:2505.11916), which a scheduler moves between the pools of its two roles.
"""

from __future__ import annotations

from ..core.compile import kernel
from ..core.units import unit
from ..gangs.moments import integrate
from ..network.traffic import settle
from ..services.lifecycle import ask_for, end
from ..services.moments import measure, replicas_happen
from ..serving.records import DRAINING, OFF, SERVING, TURNING
from ..serving.replica import advance_replica
from .route_seen import report

KEEP = 0  # the first candidate; two for each role follow, to add and to take away
# then one for each change of role
ADD, TAKE = 0, 1


@unit
def services_happen(w, e, moment_s):
    """Move time to ``moment_s`` and let everything happen to services that is due then.

    Their gangs have been brought there before.
    """
    clock, fleet = w.clock[e], w.fleet[e]
    clock.now_s = max(clock.now_s, moment_s)
    integrate(w, e, w.gangs[e], clock.now_s)
    replicas_happen(w, e, clock.now_s)
    settle(w, e, clock.now_s)
    if fleet.tick_s <= clock.now_s:
        begin_round(w, e, clock.now_s, fleet)


@kernel
def begin_round(w, e, now_s, fleet):
    """Begin a round of decisions: all replicas report, and the interval is measured."""
    for r in range(len(w.replica_specs)):
        replica, spec = w.replicas[e, r], w.replica_specs[r]
        if replica.phase == SERVING:
            advance_replica(w, e, r, now_s)
            report(w, e, r, now_s, replica, spec, w.costs[replica.kind])
            report_busy(replica, now_s, max(fleet.began_s, replica.ready_s))
    measure(w, e, now_s - fleet.began_s)
    fleet.began_s = now_s
    fleet.tick_s += w.scaler_rules[0].interval_s
    fleet.changes = 0
    fleet.deciding = has_choice(w, e)
    if fleet.deciding == 1:
        fleet.since_s, fleet.decided_s = now_s - fleet.decided_s, now_s


@kernel
def report_busy(replica, now_s, since_s):
    """Let a replica, advanced to now, report its share of the time since then in steps."""
    busy_s = replica.busy_s
    if replica.busy == 1:
        busy_s += now_s - replica.start_s
    replica.report_busy = 0.0
    if now_s > since_s:
        replica.report_busy = min((busy_s - replica.reported_busy_s) / (now_s - since_s), 1.0)
    replica.reported_busy_s = busy_s


@kernel
def has_choice(w, e):
    """Tell whether anything but keeping is feasible."""
    for g in range(len(w.roles)):
        if next_off(w, e, w.roles[g]) >= 0 or next_to_take(w, e, w.roles[g]) >= 0:
            return True
    return False


@kernel
def next_off(w, e, role):
    """Return the replica that a role would add, -1 if it has all or is not asked for yet."""
    if w.service_states[e, role.service].asked == 0:
        return -1
    for r in range(role.first + role.least, role.first + role.most):
        if w.replicas[e, r].phase == OFF:
            return r
    return -1


@kernel
def next_to_take(w, e, role):
    """Return the replica that a role would give up, -1 if it has no more than it must.

    One that still waits or loads goes first, the last one of them; then the one with the fewest
    requests in flight.
    """
    best, best_load = -1, 0
    for r in range(role.first + role.least, role.first + role.most):
        replica = w.replicas[e, r]
        if replica.phase == OFF or replica.phase == DRAINING or replica.phase == TURNING:
            continue
        load = replica.in_flight if replica.phase == SERVING else -1
        if best < 0 or load < best_load or (load == best_load and load < 0):
            best, best_load = r, load
    return best


@kernel
def next_to_turn(w, e, role):
    """Return the replica that would leave a role for another one, -1 if none can.

    Of those that serve, and are not among those that it must have, the one with the fewest requests
    in flight.
    """
    best = -1
    for r in range(role.first + role.least, role.first + role.most):
        replica = w.replicas[e, r]
        if replica.phase == SERVING:
            if best < 0 or replica.in_flight < w.replicas[e, best].in_flight:
                best = r
    return best


@kernel
def is_feasible(w, e, candidate):
    """Tell whether a candidate can be taken."""
    if candidate == KEEP:
        return True
    t = candidate - 1 - 2 * len(w.roles)
    if candidate < 0 or t >= len(w.turns):
        return False
    if t >= 0:
        giver, taker = w.roles[w.turns[t].giver], w.roles[w.turns[t].taker]
        return next_to_turn(w, e, giver) >= 0 and next_off(w, e, taker) >= 0
    role = w.roles[(candidate - 1) // 2]
    if (candidate - 1) % 2 == ADD:
        return next_off(w, e, role) >= 0
    return next_to_take(w, e, role) >= 0


@unit
def take_scale(w, e, action):
    """Carry out a decision about replicas; one that is not feasible is counted, and keeps."""
    fleet = w.fleet[e]
    if not is_feasible(w, e, action):
        w.clock[e].invalid_actions += 1
        w.gangs[e].invalid += 1
        action = KEEP
    if action == KEEP:
        fleet.deciding = 0
        return
    t = action - 1 - 2 * len(w.roles)
    if t >= 0:
        begin_turn(w, e, t, fleet)
    elif (action - 1) % 2 == ADD:
        ask_for(w, e, next_off(w, e, w.roles[(action - 1) // 2]))
    else:
        take_away(w, e, next_to_take(w, e, w.roles[(action - 1) // 2]), fleet)
    fleet.changes += 1
    fleet.deciding = fleet.changes < w.scaler_rules[0].max_changes and has_choice(w, e)


@kernel
def begin_turn(w, e, t, fleet):
    """Let a replica of one role go, and one of another wait for its devices."""
    giver, taker = w.roles[w.turns[t].giver], w.roles[w.turns[t].taker]
    r, heir = next_to_turn(w, e, giver), next_off(w, e, taker)
    w.replicas[e, r].heir, w.replicas[e, heir].phase = heir, TURNING
    fleet.turns += 1
    take_away(w, e, r, fleet)


@kernel
def take_away(w, e, r, fleet):
    """Let a replica take no more requests; it ends when it has none, perhaps at once."""
    replica = w.replicas[e, r]
    fleet.drains += 1
    if replica.phase == SERVING and replica.in_flight + replica.holding > 0:
        replica.phase = DRAINING
        fleet.moving += 1
    else:
        end(w, e, r, replica, w.replica_specs[r])
