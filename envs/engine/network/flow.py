"""Jobs phase by phase: compute, then the flows of each phase, then the next iteration.

An iteration computes alone, then communicates beside the last ``hidden_s`` of its compute, one
phase after the other, and ends when both have ended. If the iterations to do are no whole number
(a gang goes on after it was stopped), the first one does the fraction of everything.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .progress import catch_up, reschedule, touch

COMPUTING, WAITING = -1, -2  # JOB.phase where it is no phase of communication
_DONE = 1e-9  # iterations, below which nothing is left to do


@kernel
def is_sending(w, e, job):
    """Tell whether a job is in a phase that uses links."""
    return (
        job.heap_at >= 0
        and job.phase >= 0
        and job.step_count > 0
        and w.steps[e, job.step_begin + job.phase].count > 0
    )


@kernel
def begin_iteration(w, e, j, now_s):
    """Start to compute."""
    job = w.jobs[e, j]
    fraction = job.iterations_left - math.floor(job.iterations_left)
    job.part = fraction if _DONE < fraction < 1.0 - _DONE else min(job.iterations_left, 1.0)
    job.begun_s = now_s
    job.phase, job.rate, job.since_s = COMPUTING, 1.0, now_s
    job.left = (job.compute_s - job.hidden_s) * job.part
    reschedule(w, e, j)


@kernel(inline=False)
def stop_sending(w, e, j, everybody):
    """Take the flows of the present phase off their links.

    Others that these links held back are noted for new rates; ``everybody``: all on these links.
    """
    job = w.jobs[e, j]
    step = w.steps[e, job.step_begin + job.phase]
    first = job.usage_begin + step.begin
    for slot in range(first, first + step.count):
        usage = w.usages[e, slot]
        link, others = int(usage.link), 0
        at = int(w.link_head[e, link])
        while at >= 0:
            k = int(w.usages[e, at].job)
            if k != j and w.jobs[e, k].phase == w.usages[e, at].phase:
                others += 1
                if everybody or w.jobs[e, k].bottleneck == link:
                    touch(w, e, k)
            at = int(w.usages[e, at].next)
        freed = usage.weight * job.rate
        w.load[e, link] = max(w.load[e, link] - freed, 0.0) if others > 0 else 0.0


@kernel
def start_sending(w, e, j, s, now_s):
    """Begin phase ``s``; the rate of its flows is found when this moment's changes are settled."""
    job = w.jobs[e, j]
    step = w.steps[e, job.step_begin + s]
    job.phase, job.since_s = s, now_s
    job.left = step.bytes * job.part
    job.bottleneck = -1
    if step.count == 0:  # all inside nodes
        job.rate = step.limit
    else:
        job.rate = 0.0
        touch(w, e, j)
    reschedule(w, e, j)


@kernel
def next_phase(w, e, j, now_s, everybody):
    """End the present part of an iteration and begin the next one.

    Returns:
        Whether the job has done all its iterations.
    """
    job = w.jobs[e, j]
    s = 0
    if job.phase == COMPUTING:
        job.computed_s = now_s + job.hidden_s * job.part
    elif job.phase == WAITING:
        s = job.step_count
    else:
        s = job.phase + 1
        if is_sending(w, e, job):
            stop_sending(w, e, j, everybody)
    while s < job.step_count and w.steps[e, job.step_begin + s].limit == math.inf:
        s += 1  # nobody sends in this one
    if s < job.step_count:
        start_sending(w, e, j, s, now_s)
        return False
    if job.phase != WAITING and now_s < job.computed_s:
        job.phase, job.rate, job.since_s = WAITING, 1.0, now_s
        job.left = job.computed_s - now_s
        reschedule(w, e, j)
        return False
    job.phase = COMPUTING
    job.iteration_s = (now_s - job.begun_s) / job.part
    job.iterations_left -= job.part
    if job.iterations_left > _DONE:
        begin_iteration(w, e, j, now_s)
        return False
    job.iterations_left, job.left, job.since_s = 0.0, 0.0, now_s
    return True


@kernel
def unfinished_part(w, e, job, now_s):
    """Return the share of an iteration that the one under way still has to do.

    Measured by the time that it would take alone.
    """
    if job.phase == WAITING:
        rest_s = job.left
    elif job.phase == COMPUTING:
        rest_s = job.left + max(job.hidden_s, job.comm_alone_s) * job.part
    else:
        rest_s = job.left / w.steps[e, job.step_begin + job.phase].rate
        for s in range(job.phase + 1, job.step_count):
            step = w.steps[e, job.step_begin + s]
            rest_s += step.bytes / step.rate * job.part
        rest_s = max(rest_s, job.computed_s - now_s)
    return min(rest_s / job.alone_s, job.part)


@kernel
def quit_iteration(w, e, j, now_s, everybody):
    """Stop a job in the middle of an iteration and note how far it is."""
    job = w.jobs[e, j]
    catch_up(job, now_s)
    if is_sending(w, e, job):
        stop_sending(w, e, j, everybody)
    if job.iterations_left > 0.0:
        job.iterations_left += unfinished_part(w, e, job, now_s) - job.part
    job.phase = COMPUTING
