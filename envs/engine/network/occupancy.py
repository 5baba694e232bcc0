"""The rule of the vClos simulator: a link's bandwidth is split evenly among the flows on it.

A flow gets ``bandwidth / occupancy`` of its worst link and the slowest flow sets the pace of its
job. What a job cannot use of its share, because it is slower elsewhere, nobody else gets.

Source: RapidNetSim, the simulator of the vClos authors (github.com/nothepeople/RapidNetSim).
"""

from __future__ import annotations

from ..core.compile import kernel
from .maxmin import entries, keep_senders
from .progress import catch_up, reschedule, touch


@kernel
def touch_others(w, e, env):
    """Add the jobs that a newly sending one meets."""
    for at in range(env.touched):
        job = w.jobs[e, w.work[e, at]]
        if job.rate > 0.0:
            continue  # it has been sending
        first, end = entries(w, e, job)
        for slot in range(first, end):
            other = w.link_head[e, w.usages[e, slot].link]
            while other >= 0:
                usage = w.usages[e, other]
                if w.jobs[e, usage.job].phase == usage.phase:
                    touch(w, e, int(usage.job))
                other = usage.next


@kernel(inline=False)
def share_evenly(w, e, now_s):
    """Give the touched jobs, and those that they meet, their rates."""
    env = w.envs[e]
    keep_senders(w, e, env)
    touch_others(w, e, env)
    for at in range(env.touched):
        j = int(w.work[e, at])
        job = w.jobs[e, j]
        catch_up(job, now_s)
        job.rate = w.steps[e, job.step_begin + job.phase].limit
        first, end = entries(w, e, job)
        for slot in range(first, end):
            link = int(w.usages[e, slot].link)
            job.rate = min(job.rate, w.capacity[link] / occupancy(w, e, link))
        reschedule(w, e, j)
    for at in range(env.touched):
        job = w.jobs[e, w.work[e, at]]
        job.mark = 0
        first, end = entries(w, e, job)
        for slot in range(first, end):
            note_load(w, e, w.usages[e, slot].link)
    env.touched = 0


@kernel
def occupancy(w, e, link):
    """Return how many flows are on a link now."""
    flows = 0.0
    at = int(w.link_head[e, link])
    while at >= 0:
        usage = w.usages[e, at]
        if w.jobs[e, usage.job].phase == usage.phase:
            flows += usage.weight
        at = int(usage.next)
    return flows


@kernel
def note_load(w, e, link):
    """Add up what is sent over a link now."""
    load = 0.0
    at = int(w.link_head[e, link])
    while at >= 0:
        usage = w.usages[e, at]
        job = w.jobs[e, usage.job]
        if job.phase == usage.phase:
            load += usage.weight * job.rate
        at = int(usage.next)
    w.load[e, link] = min(load, w.capacity[link])
