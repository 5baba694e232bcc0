"""When all happens in a small world of a cluster: by the engine, by the reference, by both alike.

Gangs that share links can be chaotic: one that is late lets another go ahead, which holds up a
third, and after some dozens of iterations the last digit of a time has become a whole iteration.
Then nobody's floats say what happens. The reference with fractions tells which moments those are:
the ones of which the reference with floats says something else. All others it and the engine have
to have in common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from cluster_reference_worlds import Case
from cluster_watch import Watch
from reference_cluster import Cluster
from reference_network import Gang

from gpuyard.envs.world import World

Moments = dict[tuple[str, int, float], float]
"""Seconds by what happens, to which gang, request or run, and iterations left where it is one."""

OF_REQUESTS = {"first token": "first_token_s", "finish": "finish_s", "arrival of KV": "arrive_s"}
"""What happens to a request, and the field of the engine that tells when."""
SAME = 1e-9  # share by which the engine's times may differ
ROUNDED = 1e-11  # share by which rounding may have moved a time that the engine is held to


def of_reference(cluster: Cluster) -> Moments:
    """Return what has happened in the reference."""
    result, arrive_s = cluster.result, [seq.arrive_s for seq in cluster.requests]
    found: Moments = {}
    columns = (result.first_token_s, result.finish_s, arrive_s)
    for name, times_s in zip(OF_REQUESTS, columns, strict=True):
        found |= {(name, i, 0.0): float(time_s) for i, time_s in enumerate(times_s)}
    for run, gang in enumerate(cluster.network.gangs):
        if not gang.stopped:
            found["end", gang.number, 0.0] = float(gang.finish_s)
        found |= iterations(run, gang, gang.begun_s)
    return happened(found)


def of_engine(world: World, watch: Watch, case: Case) -> Moments:
    """Return what has happened in the engine; of iterations those during which it decided."""
    requests, jobs = world.state["requests"][0, : len(case.stream)], world.state["jobs"][0]
    found: Moments = {}
    for name, field in OF_REQUESTS.items():
        found |= {(name, i, 0.0): float(time_s) for i, time_s in enumerate(requests[field])}
    for run, gang in enumerate(watch.gangs):
        found["end", gang.number, 0.0] = float(jobs[gang.number]["finish_s"])
        found |= iterations(run, gang, watch.begun_s[run])
    return happened(found)


def iterations(run: int, gang: Gang, begun_s: Mapping[float, float]) -> Moments:
    """Return when iterations of a run began, but for one that was stopped at that very moment.

    Those of a gang that goes on after it was stopped are no whole numbers, and alike but for
    rounding.
    """
    return {
        ("iteration", run, round(float(left), 6)): float(time_s)
        for left, time_s in begun_s.items()
        if not math.isclose(time_s, gang.stop_s, rel_tol=ROUNDED)
    }


def happened(moments: Moments) -> Moments:
    """Leave out what has not happened."""
    return {what: time_s for what, time_s in moments.items() if not math.isnan(time_s)}


def apart(a: Moments, b: Moments, share: float) -> Moments:
    """Return when that happened of which two say different times, or of which one does not know."""
    never = math.inf
    return {
        what: min(a.get(what, never), b.get(what, never))
        for what in a.keys() | b.keys()
        if not math.isclose(a.get(what, never), b.get(what, never), rel_tol=share)
    }


def differing(engine: Moments, reference: Moments) -> Moments:
    """Return the moments that the engine has elsewhere; it does not tell of all iterations."""
    asked = {
        what: time_s
        for what, time_s in reference.items()
        if what in engine or what[0] != "iteration"
    }
    return apart(engine, asked, SAME)


def undecided(rounded: Moments, exact: Moments) -> Moments:
    """Return the moments that rounding moves by more than a little, or on which it decides."""
    return apart(rounded, exact, ROUNDED)


def decided(engine: Moments, rounded: Moments, exact: Moments) -> set[tuple[str, int, float]]:
    """Return the moments that engine and reference must have in common where rounding grows.

    When gangs start is given to the reference as the engine has it, which is of no meaning from
    the first end of a gang on that rounding decides.
    """

    def first_s(what: tuple[str, int, float]) -> float:
        return min(moments[what] for moments in (engine, rounded, exact) if what in moments)

    open_ = undecided(rounded, exact)
    until_s = min((first_s(what) for what in open_ if what[0] == "end"), default=math.inf)
    known = (engine.keys() | exact.keys()) - open_.keys()
    return {what for what in known if first_s(what) < until_s}
