"""The window: which pending gangs can be chosen, so that a bounded list serves every rule.

Where all pending gangs have a place, the window holds them all. Otherwise it holds the oldest one
and then those that could start now, quota and room permitting, in rounds over :data:`ORDERS`: in
turn every order names the first of its gangs that nobody has named. With preemption, which makes
room, others are named in the same way. Places that are left go to the oldest. The window stands by
age, whoever named a gang.

So a rule that starts the first gang of one of these orders that fits finds in the window what it
would choose from the whole queue.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..gangs.plans import IN_POD, LEAF, NODE, ZONE, pool_nodes
from .placing import may_run_on, may_start

ORDERS = ("oldest", "shortest", "smallest", "least_area", "highest_priority")
"""Who is named first: the oldest (next to be backfilled while the head waits), the one of the least
estimate, fewest GPUs, least GPU time left, highest priority; ties go to the oldest."""
OLDEST, SHORTEST, SMALLEST, LEAST_AREA, HIGHEST_PRIORITY = range(len(ORDERS))
OUTSIDE, NAMED = -1, -2  # ``position`` of gangs that are not in the window, and that will be


@kernel
def order_key(job, order):
    """Return what an order compares, the least comes first; the queue itself stands by age."""
    if order == SHORTEST:
        return job.estimate_s
    if order == SMALLEST:
        return float(job.gpus)
    if order == LEAST_AREA:
        return job.gpus * max(job.estimate_s - job.ran_s, 0.0)
    if order == HIGHEST_PRIORITY:
        return -float(job.priority)
    return 0.0


@kernel
def measure_room(w, e):
    """Find the most GPUs that one gang could get in one domain of each level, pool by pool.

    In a node those that are free, in more than that whole free nodes.
    """
    for pool in range(w.level_room.shape[1]):
        room, gpus = w.level_room[e, pool], pool_nodes(w, pool)
        room[:] = 0
        in_pod, pod = 0, -1
        for leaf in range(len(w.leaf_pods)):
            if w.leaf_pools[leaf] != pool:
                continue
            if w.leaf_pods[leaf] != pod:
                in_pod, pod = 0, w.leaf_pods[leaf]
            for free in range(gpus, room[NODE], -1):
                if w.leaf_hist[e, leaf, free] > 0:
                    room[NODE] = free
                    break
            here = w.leaf_hist[e, leaf, gpus] * gpus
            in_pod += here
            room[LEAF] = max(room[LEAF], here)
            room[IN_POD] = max(room[IN_POD], in_pod)
            room[ZONE] += here
        for level in range(LEAF, ZONE + 1):
            room[level] = max(room[level], room[NODE])


@kernel
def has_room(w, e, job, level):
    """Tell whether one domain of ``level`` has the GPUs that a gang needs."""
    for pool in range(w.level_room.shape[1]):
        if job.gpus <= w.level_room[e, pool, level] and may_run_on(w, job, pool):
            return True
    return False


@kernel
def is_ready(w, e, job):
    """Tell whether a pending gang could start now: quota and room; links are another matter."""
    return has_room(w, e, job, job.required) and may_start(w, e, job)


@kernel
def list_gangs(w, e, gangs, unready_too):
    """List by age the pending gangs that could start now, or all of them; returns how many."""
    listed, j = 0, gangs.queue_head
    while j >= 0:
        job = w.jobs[e, j]
        if unready_too or is_ready(w, e, job):
            w.listed[e, listed] = j
            listed += 1
        j = job.next
    return listed


@kernel
def name_in_rounds(w, e, listed, places):
    """Name up to ``places`` of the listed gangs in rounds over the orders; returns how many."""
    for named in range(places):
        first, least = -1, math.inf
        for i in range(listed):
            job = w.jobs[e, w.listed[e, i]]
            if job.position == OUTSIDE:
                key = order_key(job, named % len(ORDERS))
                if key < least:
                    first, least = w.listed[e, i], key
        if first < 0:
            return named
        w.jobs[e, first].position = NAMED
    return places


@kernel
def name_gangs(w, e, gangs):
    """Name the gangs that are in the window whatever their age; returns how many."""
    w.jobs[e, gangs.queue_head].position = NAMED
    places = w.window.shape[1] - 1
    named = name_in_rounds(w, e, list_gangs(w, e, gangs, False), places)
    if named < places and w.gang_rules[0].preemption == 1:
        named += name_in_rounds(w, e, list_gangs(w, e, gangs, True), places - named)
    return 1 + named


@kernel
def fill_window(w, e):
    """Fill the window by age, and note for each of its gangs how many are before it."""
    gangs, places = w.gangs[e], w.window.shape[1]
    for at in range(places):
        if w.window[e, at] >= 0:
            w.jobs[e, w.window[e, at]].position = OUTSIDE
    others = places - (name_gangs(w, e, gangs) if gangs.pending > places else 0)
    at, before, j = 0, 0, gangs.queue_head
    while at < places and j >= 0:
        job = w.jobs[e, j]
        if job.position == NAMED or others > 0:
            others -= job.position == OUTSIDE
            job.position = before
            w.window[e, at] = j
            at += 1
        before += 1
        j = job.next
    w.window[e, at:] = -1
