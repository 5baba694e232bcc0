"""The network as the world sees it: gangs enter and leave, and time moves from event to event.

After all that enters and leaves at one moment :func:`settle` finds the new rates once. What an
event is depends on ``FABRIC.fidelity``: with FLUID and UNCONTENDED a job's end, with FLOW and
OCCUPANCY also the start and end of each of its phases. A job that uses no link runs straight to its
end.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..gangs.records import FLOW, FLUID, OCCUPANCY, UNCONTENDED
from . import fluid
from .events import push, rekey, remove
from .flow import begin_iteration, next_phase, quit_iteration, unfinished_part
from .maxmin import repair
from .occupancy import share_evenly
from .progress import catch_up, run_straight
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
    j = int(j)  # one type, one compilation of all below
    job = w.jobs[e, j]
    kind = w.kinds[job.kind]
    job.phase, job.first_pair, job.bottleneck, job.shown_rate = -1, -1, -1, 0.0
    ideal_comm_s = build(w, e, j)
    if w.fabric[0].fidelity == UNCONTENDED:
        job.comm_alone_s = ideal_comm_s
    job.compute_s = kind.compute_s * job.scale / job.speed
    job.hidden_s = min(kind.hidden_s * job.scale / job.speed, job.compute_s)
    job.comm_s = job.comm_alone_s
    job.ideal_s = fluid.iteration_s(job, ideal_comm_s)
    job.alone_s = fluid.iteration_s(job, job.comm_alone_s)
    job.iteration_s = job.alone_s
    job.duty = min(job.comm_s / job.iteration_s, 1.0)
    job.event_s = math.inf
    push(w, e, j)
    if has_phases(w, job):
        begin_iteration(w, e, j, now_s)
    elif w.fabric[0].fidelity == FLUID and job.step_count > 0:
        fluid.arrive(w, e, j, now_s)
    else:
        run_straight(w, e, j, now_s, job.alone_s)
        fluid.show(w, e, job, job.rate)


@kernel(inline=False)
def leave(w, e, j, now_s):
    """Take a job off the network; :func:`settle` has to follow at the same moment.

    Its ``iterations_left`` are brought up to now.
    """
    j = int(j)
    job = w.jobs[e, j]
    if has_phases(w, job):
        quit_iteration(w, e, j, now_s, w.fabric[0].fidelity == OCCUPANCY)
    else:
        catch_up(job, now_s)
        job.iterations_left = job.left
        fluid.depart(w, e, j)
    release(w, e, j)
    remove(w, e, j)


@kernel(inline=False)
def settle(w, e, now_s):
    """Find the rates that this moment's changes lead to."""
    if w.envs[e].touched == 0:
        return
    fidelity = w.fabric[0].fidelity
    if fidelity == FLOW:
        repair(w, e, now_s)
    elif fidelity == OCCUPANCY:
        share_evenly(w, e, now_s)
    else:
        fluid.balance(w, e, now_s)


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
    j = int(w.heap[e, 0])
    job = w.jobs[e, j]
    if has_phases(w, job):
        finished = next_phase(w, e, j, now_s, w.fabric[0].fidelity == OCCUPANCY)
        if not finished:
            if w.jobs[e, w.heap[e, 0]].event_s > now_s:
                settle(w, e, now_s)
            return -1
    job.left, job.iterations_left, job.since_s = 0.0, 0.0, now_s
    job.event_s = math.inf
    rekey(w, e, j)
    return j


@kernel
def progress(w, e, j, now_s):
    """Return the iterations that a running job still has to do at ``now_s``."""
    job = w.jobs[e, j]
    done = job.rate * (now_s - job.since_s)
    if not has_phases(w, job):
        return max(job.left - done, 0.0)
    left, since_s = job.left, job.since_s
    catch_up(job, now_s)
    rest = job.iterations_left - job.part + unfinished_part(w, e, job, now_s)
    job.left, job.since_s = left, since_s
    return rest
