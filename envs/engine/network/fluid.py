"""Long-run rates: each job communicates part of its time, so it meets others part of the time.

Seen from far a job alternates between computing and a shared link that serves all who are there at
once. For such closed networks mean value analysis is exact: a job that arrives at the link finds
the others as they would be if it did not exist. So its communication takes

    ``comm = alone + sum over others of effect * duty of the other without it``

where ``effect`` is what the other costs while it communicates (:mod:`.pairs`) and the duty follows
from the other's own communication less the part that this job causes. Two jobs with drifting
phases obey the same formula without any randomness. Others whose worst links differ hardly add up,
the worst one counts: an effect counts in as far as stronger ones elsewhere leave it time. Hardly,
because the second worst links may well be common: the share 0.8 in which they exclude each other is
fitted to the flow-level model over the loads of ``benchmarks/fluid_vs_flow.py``.

Source: Reiser and Lavenberg, "Mean-value analysis of closed multichain queueing networks", J. ACM
27 (1980).
"""

from __future__ import annotations

import numpy as np

from ..core.compile import kernel
from .pairs import meet, part
from .progress import catch_up, reschedule, run_straight, touch

_NONE = np.uint64(0)
_TOLERANCE = 1e-4  # change of a job's communication, as share of its iteration, that others notice
_ROUNDS = 8  # evaluations per touched job, on average at most
_APART = 0.8  # how far effects with different worst links do not add up
_SHOWN = 0.01  # change of a rate that the load of links follows


@kernel
def arrive(w, e, j, now_s):
    """Let job ``j`` meet those on its links."""
    job = w.jobs[e, j]
    job.comm_s, job.shown_rate = job.comm_alone_s, 0.0
    run_straight(w, e, j, now_s, job.alone_s)
    touch(w, e, j)
    k = meet(w, e, j)
    while k >= 0:
        touch(w, e, k)
        k = int(w.jobs[e, k].chain)


@kernel
def depart(w, e, j):
    """Let job ``j`` go; those whom it slowed are noted."""
    at = int(w.jobs[e, j].first_pair)
    while at >= 0:
        pair = w.pairs[e, at]
        touch(w, e, int(pair.other))
        at = int(pair.next)
    part(w, e, j)
    show(w, e, w.jobs[e, j], 0.0)


@kernel
def iteration_s(job, comm_s):
    """Return seconds of an iteration with so much communication."""
    return job.compute_s + max(comm_s - job.hidden_s, 0.0)


@kernel
def communication_s(w, e, job):
    """Return seconds of communication in an iteration beside the others as they are."""
    comm_s = job.comm_alone_s
    at = int(job.first_pair)
    while at >= 0:
        pair = w.pairs[e, at]
        other = w.jobs[e, pair.other]
        without_s = other.comm_s - w.pairs[e, pair.twin].delay_s
        pair.duty = min(without_s / iteration_s(other, without_s), 1.0)
        cover = 1.0
        stronger = int(job.first_pair)
        while stronger != at:
            rival = w.pairs[e, stronger]
            if rival.links & pair.links == _NONE:
                cover *= 1.0 - _APART * rival.duty
            stronger = int(rival.next)
        pair.delay_s = pair.effect_s * pair.duty * cover
        comm_s += pair.delay_s
        at = int(pair.next)
    return comm_s


@kernel(inline=False)
def balance(w, e, now_s):
    """Find the rates of the touched jobs, and of those whom that affects."""
    env = w.envs[e]
    env.mark += 1
    jobs, found, at, waiting = w.jobs.shape[1], 0, 0, env.touched
    most = _ROUNDS * env.touched
    while waiting > 0:
        j = int(w.work[e, at])
        at = at + 1 if at + 1 < jobs else 0
        waiting -= 1
        job = w.jobs[e, j]
        job.mark = 0
        if job.heap_at < 0:
            continue  # it has left in the meantime
        if job.seen != env.mark:
            job.seen = env.mark
            w.done[e, found] = j
            found += 1
        comm_s = communication_s(w, e, job)
        change_s = abs(comm_s - job.comm_s)
        job.comm_s = comm_s
        most -= 1
        if most <= 0 or change_s <= _TOLERANCE * iteration_s(job, comm_s):
            continue
        pair_at = int(job.first_pair)
        while pair_at >= 0:
            k = int(w.pairs[e, pair_at].other)
            if w.jobs[e, k].mark == 0:
                w.jobs[e, k].mark = 1
                end = at + waiting
                w.work[e, end if end < jobs else end - jobs] = k
                waiting += 1
            pair_at = int(w.pairs[e, pair_at].next)
    env.touched = 0
    for index in range(found):
        follow(w, e, int(w.done[e, index]), now_s)


@kernel
def follow(w, e, j, now_s):
    """Run on at the rate that was found."""
    job = w.jobs[e, j]
    catch_up(job, now_s)
    job.iteration_s = iteration_s(job, job.comm_s)
    job.duty = min(job.comm_s / job.iteration_s, 1.0)
    job.rate = 1.0 / job.iteration_s
    reschedule(w, e, j)
    if abs(job.rate - job.shown_rate) > _SHOWN * job.shown_rate:
        show(w, e, job, job.rate)


@kernel(inline=False)
def show(w, e, job, rate):
    """Let the load of the links count a job at ``rate`` iterations a second."""
    change = rate - job.shown_rate
    job.shown_rate = rate
    for s in range(job.step_count):
        step = w.steps[e, job.step_begin + s]
        first = job.usage_begin + step.begin
        for slot in range(first, first + step.count):
            usage = w.usages[e, slot]
            link = w.links[e, usage.link]
            link.demand = max(link.demand + usage.weight * step.bytes * change, 0.0)
            w.load[e, usage.link] = min(link.demand, w.capacity[usage.link])
