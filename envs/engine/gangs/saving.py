"""Checkpoints: what a gang keeps when a node fails under it.

The work of a run is saved at every multiple of ``checkpoint_s`` of it. No moment of the world is
made for that: before time moves on, the work at the multiples that are passed is read off, for
nothing about the network changes in between. Without failures there is nothing to keep.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..network.traffic import progress


@kernel
def begin_saving(w, e, j):
    """Keep what a gang has done before its run, which begins now, and plan its first checkpoint."""
    gangs, job, checkpoint_s = w.gangs[e], w.jobs[e, j], w.gang_rules[0].checkpoint_s
    job.saved, job.save_s = w.senders[e, j].iterations_left, math.inf
    if checkpoint_s > 0.0 and w.fault_rules[0].node_mtbf_h > 0.0:
        job.save_s = job.start_s + checkpoint_s
        gangs.next_save_s = min(gangs.next_save_s, job.save_s)


@kernel(inline=False)
def save_by(w, e, until_s):
    """Save the work of the gangs that have a checkpoint by then; time moves there next."""
    gangs, checkpoint_s = w.gangs[e], w.gang_rules[0].checkpoint_s
    gangs.next_save_s = math.inf
    j = gangs.running_head
    while j >= 0:
        job = w.jobs[e, j]
        if job.service < 0:
            if job.save_s <= until_s:
                further = math.floor((until_s - job.save_s) / checkpoint_s)
                last_s = job.save_s + further * checkpoint_s
                job.saved, job.save_s = progress(w, e, j, last_s), last_s + checkpoint_s
            gangs.next_save_s = min(gangs.next_save_s, job.save_s)
        j = job.next
