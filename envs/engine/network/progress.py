"""How far a job is, and when its next event comes."""

from __future__ import annotations

import math

from ..core.compile import kernel
from .events import rekey


@kernel
def catch_up(job, now_s):
    """Bring ``left`` up to now."""
    if now_s > job.since_s:
        job.left = max(job.left - job.rate * (now_s - job.since_s), 0.0)
    job.since_s = now_s


@kernel
def reschedule(w, e, j):
    """Set when ``left`` is used up at the present rate, counted from ``since_s``."""
    job = w.jobs[e, j]
    job.event_s = job.since_s + job.left / job.rate if job.rate > 0.0 else math.inf
    rekey(w, e, j)


@kernel
def run_straight(w, e, j, now_s, iteration_s):
    """Let a job run all its iterations at one rate."""
    job = w.jobs[e, j]
    job.phase = -1
    job.iteration_s = iteration_s
    job.left, job.rate, job.since_s = job.iterations_left, 1.0 / iteration_s, now_s
    reschedule(w, e, j)


@kernel
def touch(w, e, j):
    """Note that the rate of a job must be found anew."""
    env, job = w.envs[e], w.jobs[e, j]
    if job.mark == 0:
        job.mark = 1
        w.work[e, env.touched] = j
        env.touched += 1
