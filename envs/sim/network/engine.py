"""The network as the world sees it: gangs enter and leave, and time moves from event to event.

After all that enters and leaves at one moment :func:`settle` finds the new rates once. What an
event is depends on ``FABRIC.fidelity``: with FLUID and UNCONTENDED a job's end, with FLOW and
OCCUPANCY also the start and end of each of its phases. A job that uses no link runs straight to its
end.
"""

from __future__ import annotations

import math

from ..compile import kernel
from ..gangs.records import FLOW, FLUID, OCCUPANCY, UNCONTENDED
from . import fluid
from .flow import begin_iteration, next_phase, quit_iteration, unfinished_part
from .heap import push, rekey, remove
from .maxmin import repair
from .occupancy import share_evenly
from .progress import catch_up, run_straight
from .state import network_of
from .usage import build, release


@kernel
def has_phases(w, job):
    """Tell whether a job is followed phase by phase."""
    fidelity = w.fabric[0].fidelity
    return (fidelity == FLOW or fidelity == OCCUPANCY) and job.step_count > 0


@kernel(inline=False)
def enter(w, e, j, now_s):
    """Let a job run on its GPUs; :func:`settle` has to follow at the same moment.

    Args:
        w: GangState; the job's GPUs are linked from ``first_gpu``, its speed, reserved uplinks and
            ``iterations_left`` are set.
        e: environment.
        j: job.
        now_s: time.
    """
    n = network_of(w)
    j = int(j)  # one type, one compilation of all below
    job = n.jobs[e, j]
    kind = n.kinds[job.kind]
    job.phase, job.first_pair, job.bottleneck, job.shown_rate = -1, -1, -1, 0.0
    ideal_comm_s = build(n, e, j)
    if n.fabric[0].fidelity == UNCONTENDED:
        job.comm_alone_s = ideal_comm_s
    job.compute_s = kind.compute_s * job.scale / job.speed
    job.hidden_s = min(kind.hidden_s * job.scale / job.speed, job.compute_s)
    job.comm_s = job.comm_alone_s
    job.ideal_s = fluid.iteration_s(job, ideal_comm_s)
    job.alone_s = fluid.iteration_s(job, job.comm_alone_s)
    job.iteration_s = job.alone_s
    job.duty = min(job.comm_s / job.iteration_s, 1.0)
    job.event_s = math.inf
    push(n, e, j)
    if has_phases(n, job):
        begin_iteration(n, e, j, now_s)
    elif n.fabric[0].fidelity == FLUID and job.step_count > 0:
        fluid.arrive(n, e, j, now_s)
    else:
        run_straight(n, e, j, now_s, job.alone_s)
        fluid.show(n, e, job, job.rate)


@kernel(inline=False)
def leave(w, e, j, now_s):
    """Take a job off the network; :func:`settle` has to follow at the same moment.

    Its ``iterations_left`` are brought up to now.
    """
    n = network_of(w)
    j = int(j)
    job = n.jobs[e, j]
    if has_phases(n, job):
        quit_iteration(n, e, j, now_s, n.fabric[0].fidelity == OCCUPANCY)
    else:
        catch_up(job, now_s)
        job.iterations_left = job.left
        fluid.depart(n, e, j)
    release(n, e, j)
    remove(n, e, j)


@kernel(inline=False)
def settle(w, e, now_s):
    """Find the rates that this moment's changes lead to."""
    resolve(network_of(w), e, now_s)


@kernel(inline=False)
def resolve(n, e, now_s):
    """Find new rates where jobs were touched."""
    if n.envs[e].touched == 0:
        return
    fidelity = n.fabric[0].fidelity
    if fidelity == FLOW:
        repair(n, e, now_s)
    elif fidelity == OCCUPANCY:
        share_evenly(n, e, now_s)
    else:
        fluid.balance(n, e, now_s)


@kernel
def next_event_s(w, e):
    """Return when the next event comes, inf if nothing runs."""
    return w.jobs[e, w.heap[e, 0]].event_s if w.envs[e].events > 0 else math.inf


@kernel(inline=False)
def advance(w, e, now_s):
    """Let the first event happen; ``now_s`` is its time.

    Returns:
        The job if it has finished (:func:`leave` and :func:`settle` have to follow), else -1.
    """
    n = network_of(w)
    j = int(n.heap[e, 0])
    job = n.jobs[e, j]
    if has_phases(n, job):
        finished = next_phase(n, e, j, now_s, n.fabric[0].fidelity == OCCUPANCY)
        if not finished:
            if n.jobs[e, n.heap[e, 0]].event_s > now_s:
                resolve(n, e, now_s)
            return -1
    job.left, job.iterations_left, job.since_s = 0.0, 0.0, now_s
    job.event_s = math.inf
    rekey(n, e, j)
    return j


@kernel
def progress(w, e, j, now_s):
    """Return the iterations that a running job still has to do at ``now_s``."""
    n = network_of(w)
    job = n.jobs[e, j]
    done = job.rate * (now_s - job.since_s)
    if not has_phases(n, job):
        return max(job.left - done, 0.0)
    left, since_s = job.left, job.since_s
    catch_up(job, now_s)
    rest = job.iterations_left - job.part + unfinished_part(n, e, job, now_s)
    job.left, job.since_s = left, since_s
    return rest


@kernel
def remaining_s(w, e, j, now_s):
    """Return seconds until a running job ends if nothing changes."""
    return progress(w, e, j, now_s) * w.jobs[e, j].iteration_s
