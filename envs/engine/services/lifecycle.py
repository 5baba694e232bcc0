"""The life of a replica on a cluster: its gang gets devices, it loads, serves, drains and ends.

    OFF -> QUEUED -> STARTING -> SERVING -> DRAINING -> OFF
    OFF -> TURNING -> STARTING: it gets the devices of one of another role that has drained

A node that fails takes the whole gang with it: the gang queues again, and the requests go back to
the router with the tokens that they have. The client has those; whoever takes the request next
recomputes its KV. Source: Dynamo's request migration. :mod:`.bases` says what becomes of base gangs
of which a part fails, and when those beyond may queue.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..gangs.lifecycle import dequeue, end_run, enqueue, pass_on
from ..gangs.moments import RESTART_S
from ..gangs.plans import ZONE
from ..gangs.records import PENDING, RUNNING, UNSEEN
from ..serving.growth import NEVER
from ..serving.images import forget_images
from ..serving.move_records import may_move
from ..serving.parking import park
from ..serving.prefixes import drop_all
from ..serving.progress import store_progress
from ..serving.records import DRAINING, OFF, QUEUED, SERVING, STARTING, TURNING, WHOLE
from ..serving.replica import advance_replica
from ..serving.runs import steps_done
from .handover import break_off
from .moving import break_moves
from .sending import fall_silent
from .spread import kind_there
from .stepping import join_links


@kernel
def queue_up(w, e, j):
    """Let a gang of replicas queue for devices."""
    enqueue(w, e, w.gangs[e], j)
    w.gangs[e].waited = 0


@kernel
def base_stands(w, e, v):
    """Tell whether all replicas of a service's base gang have their devices."""
    for g in range(len(w.roles)):
        role = w.roles[g]
        if role.service == v:
            for r in range(role.first, role.first + role.least):
                if w.jobs[e, w.replica_specs[r].gang].status != RUNNING:
                    return False
    return True


@kernel
def ask_for(w, e, r):
    """Let a replica beyond the least wait for devices; its gang queues if the base gang stands."""
    w.replicas[e, r].phase = QUEUED
    if base_stands(w, e, w.replica_specs[r].service):
        queue_up(w, e, w.replica_specs[r].gang)


@kernel
def open_gates(w, e):
    """Let the gangs that have waited for their base gang queue if it stands.

    Source: Grove, whose pods of scaled gangs stay gated until the base gang is scheduled.
    """
    for r in range(len(w.replica_specs)):
        spec = w.replica_specs[r]
        is_gated = w.replicas[e, r].phase == QUEUED and w.jobs[e, spec.gang].status == UNSEEN
        if is_gated and spec.is_base == 0 and base_stands(w, e, spec.service):
            queue_up(w, e, spec.gang)


@kernel
def may_start(w, e, role):
    """Tell whether enough replicas serve of the role that one of ``role`` starts after.

    Source: Grove's ``startsAfter``, whose init container waits for the least ready replicas.
    """
    if role.after < 0:
        return True
    before, serving = w.roles[role.after], 0
    for r in range(before.first, before.first + before.most):
        serving += w.replicas[e, r].phase == SERVING
    return serving >= before.least


@kernel
def start_waiting(w, e, now_s):
    """Let replicas load that have their devices and have waited for those of another role."""
    for r in range(len(w.replica_specs)):
        replica, spec = w.replicas[e, r], w.replica_specs[r]
        if replica.phase == STARTING and replica.ready_s == math.inf:
            if may_start(w, e, w.roles[spec.role]):
                replica.ready_s = now_s + spec.startup_s


@kernel
def follow_gangs(w, e, now_s):
    """Let replicas whose gang was placed load, and those whose gang lost a node give all back."""
    for r in range(len(w.replica_specs)):
        replica, spec = w.replicas[e, r], w.replica_specs[r]
        if replica.phase == OFF or replica.phase == TURNING:
            continue
        runs = w.jobs[e, spec.gang].status == RUNNING
        if runs and replica.phase == QUEUED:
            starts = may_start(w, e, w.roles[spec.role])
            load(w, e, r, now_s + spec.startup_s if starts else math.inf)
        elif not runs and replica.phase != QUEUED:
            lose(w, e, r, now_s, replica, spec)
    open_gates(w, e)


@kernel
def load(w, e, r, ready_s):
    """Let a replica whose gang has its devices be ready at ``ready_s``."""
    replica = w.replicas[e, r]
    replica.phase, replica.ready_s = STARTING, ready_s
    replica.kind = kind_there(w, e, r, w.replica_specs[r])
    join_links(w, e, r)
    w.fleet[e].moving += 1


@kernel
def come_up(w, e, replica):
    """Let a replica that has loaded take requests, first of all those that waited for one."""
    replica.phase = SERVING
    replica.report_s = w.clock[e].now_s
    w.fleet[e].moving -= 1
    w.fleet[e].starts += 1
    w.router[e].parked_due = w.router[e].parked


@kernel(inline=False)
def lose(w, e, r, now_s, replica, spec):
    """Let a replica whose gang has lost its devices queue again, or end if it was to.

    One that was to take them over queues in its place.
    """
    advance_replica(w, e, r, now_s)
    if may_move(w):
        break_moves(w, e, r, now_s)
    hand_back(w, e, r, now_s, replica, spec)
    if w.fleet[e].exact == 1:
        break_off(w, e, r)
    if replica.phase != SERVING:
        w.fleet[e].moving -= 1
    if replica.phase == DRAINING:
        withdraw(w, e, spec.gang)
        replica.phase = OFF
        if replica.heir >= 0:
            ask_for(w, e, replica.heir)
    else:
        replica.phase = QUEUED
        w.fleet[e].retry_s = now_s + RESTART_S
        if spec.is_base == 0 and not base_stands(w, e, spec.service):
            withdraw(w, e, spec.gang)
    empty(w, e, r, replica, spec)


@kernel(inline=False)
def withdraw(w, e, j):
    """Take a gang that nobody asks for any more out of the queue."""
    if w.jobs[e, j].status == PENDING:
        dequeue(w, e, w.gangs[e], j)
        w.jobs[e, j].status = UNSEEN


@kernel(inline=False)
def hand_back(w, e, r, now_s, replica, spec):
    """Give the requests of a replica, advanced to now, back to the router, to be decided at once.

    Each keeps the tokens that it has.
    """
    router = w.router[e]
    done = steps_done(replica, now_s) if replica.busy == 1 else 0
    for at in range(replica.running):
        index = w.slots[e, r, at].request
        finish_step = w.slots[e, r, at].finish_step
        request = w.requests[e, index]
        if request.stage != WHOLE:
            continue  # handed over before its prompt was computed
        if finish_step != NEVER:
            store_progress(request, finish_step, replica.step_count + done, replica, spec)
        give_back(w, e, index, router)
    index = replica.head
    for _ in range(replica.waiting):
        following = w.requests[e, index].next
        give_back(w, e, index, router)
        index = following
    router.parked_due = router.parked


@kernel(inline=False)
def give_back(w, e, index, router):
    """Take a request from its replica, which forgets its KV blocks itself."""
    request = w.requests[e, index]
    request.replica = -1
    request.computed, request.blocks = 0, 0
    request.nodes, request.sealed = 0, 0
    request.source = -1
    router.in_flight -= 1
    w.fleet[e].handed_back += 1
    park(w, e, router, index)


@kernel(inline=False)
def empty(w, e, r, replica, spec):
    """Bring a replica into the state in which it starts: no requests, no cache."""
    drop_all(w, e, r)
    forget_images(w, e, r)
    replica.busy, replica.prefilling, replica.running, replica.waiting = 0, 0, 0, 0
    replica.steps, replica.steps_with_blocks, replica.step_count, replica.tokens = 0, 0, 0, 0
    replica.context_tokens, replica.queued_tokens, replica.stalled = 0, 0, 0
    replica.next_finish = replica.next_window = NEVER
    replica.head = replica.tail = replica.lru_head = replica.lru_tail = -1
    replica.free_blocks = replica.tail_blocks = spec.kv_blocks
    replica.in_flight, replica.in_flight_tokens, replica.work_s = 0, 0, 0.0
    replica.holding, replica.coming, replica.come_head, replica.come_tail = 0, 0, -1, -1
    replica.report_running, replica.report_waiting, replica.report_blocks = 0, 0, 0
    replica.report_queued_tokens, replica.report_context = 0, 0
    replica.report_load, replica.report_link_load = 0.0, 0.0
    replica.busy_s, replica.reported_busy_s, replica.report_busy = 0.0, 0.0, 0.0
    replica.heir, replica.computed_tokens, replica.waits_s = -1, 0, 0.0
    fall_silent(w, e, r)
    w.decode_phases[e, r, :] = 0


@kernel(inline=False)
def retire(w, e, r, replica, spec):
    """End a replica that serves nobody: its devices are free again."""
    if w.jobs[e, spec.gang].status == RUNNING:
        end_run(w, e, w.gangs[e], spec.gang)
        w.jobs[e, spec.gang].status = UNSEEN
        w.gangs[e].waited = 0
    withdraw(w, e, spec.gang)
    if replica.phase == STARTING or replica.phase == DRAINING:
        w.fleet[e].moving -= 1
    if replica.phase == STARTING and w.roles[spec.role].farthest < ZONE:  # it may be awaited
        w.router[e].parked_due = w.router[e].parked
    replica.phase = OFF
    empty(w, e, r, replica, spec)


@kernel(inline=False)
def end(w, e, r, replica, spec):
    """End a replica that serves nobody, or let it go on in the role that it turns to."""
    heir = int(replica.heir)
    if heir >= 0:
        pass_on(w, e, spec.gang, w.replica_specs[heir].gang)
    retire(w, e, r, replica, spec)
    if heir >= 0:
        follower = w.replicas[e, heir]
        load(w, e, heir, w.clock[e].now_s + w.roles[w.replica_specs[heir].role].change_s)
        if follower.ready_s <= w.clock[e].now_s:
            come_up(w, e, follower)
