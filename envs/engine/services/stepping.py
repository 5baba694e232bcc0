"""Steps of replicas on several nodes where the network follows phases: FLOW and OCCUPANCY.

There such a replica is a periodic sender from when it gets its devices until it loses them. A step
is an iteration: it computes as long as it would take by itself, less what NICs alone take for its
bytes; then it sends the bytes of its tokens, phase by phase, over links that it shares like
everybody else; it ends when all have arrived. So contention makes each step as much longer as that
very step meets others, and others meet its flows only while it sends. Between steps, and while it
has none, nothing of it is on the links. Every step is a moment of the world.

Source: the simulator of the vClos authors follows training so, a compute phase and then flows whose
slowest ends the step (RapidNetSim); the bytes are those of :mod:`...perf.serving.traffic`.

Left out: waits that hide behind the host's part of a step, or behind compute (two-batch overlap).
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..network.events import rekey
from ..network.flow import COMPUTING
from ..network.progress import reschedule
from ..network.records import FLUID
from ..network.traffic import enter, leave
from ..serving.move_records import LEAVING, may_move
from ..serving.replica import advance_replica
from ..serving.runs import cut_run, next_step_s
from .handover import gpu_of_replica
from .sending import may_send, plan_look, sender_of


@kernel
def join_links(w, e, r):
    """Let a replica that has got its devices send, if it lies on several nodes."""
    if not may_send(w, e, r):
        return
    if w.fabric[0].fidelity == FLUID:
        plan_look(w, e, r)
        return
    j, now_s = sender_of(w, r), w.clock[e].now_s
    sender, spec = w.senders[e, j], w.replica_specs[r]
    sender.pattern, sender.ranks = w.traffic[w.replicas[e, r].kind].pattern, spec.gpus
    sender.scale, sender.comm_scale = 0.0, 1.0  # the bytes of one token
    sender.first_gpu, sender.speed, sender.reserved = gpu_of_replica(w, e, r), 1.0, 0
    sender.iterations_left = 1.0
    enter(w, e, j, now_s)
    if sender.step_count == 0:  # all its flows stay in nodes
        leave(w, e, j, now_s)
        return
    sender.event_s, sender.iterations_left = math.inf, 0.0
    rekey(w, e, j)


@kernel
def is_on_links(w, e, r):
    """Tell whether the network says when the steps of a replica end."""
    if len(w.traffic) == 0 or w.fabric[0].fidelity == FLUID:
        return False
    return w.senders[e, sender_of(w, r)].heap_at >= 0


@kernel
def has_steps_on_links(w, e):
    """Tell whether the network follows a step just now."""
    for r in range(len(w.replica_specs)):
        if is_on_links(w, e, r) and w.senders[e, sender_of(w, r)].event_s < math.inf:
            return True
    return False


@kernel
def next_followed_s(w, e, r, replica):
    """Return when a replica whose steps are moments does something next.

    A step whose end the network will say has none of its own.
    """
    if replica.busy == 1 and is_on_links(w, e, r):
        is_with_network = replica.end_s == math.inf
        if is_with_network and w.senders[e, sender_of(w, r)].event_s < math.inf:
            return math.inf
        return w.clock[e].now_s
    return next_step_s(replica)


@kernel(inline=False)
def follow_step(w, e, r, now_s):
    """End the step of a replica whose bytes have all arrived, and begin the next one."""
    replica, sender = w.replicas[e, r], w.senders[e, sender_of(w, r)]
    ends = replica.busy == 1 and replica.end_s == math.inf and sender.event_s == math.inf
    if ends:
        replica.end_s = now_s
    advance_replica(w, e, r, now_s)
    if ends and may_move(w) and w.moves[e, r].phase == LEAVING:  # who was to has finished
        w.moves[e, r].due_s = now_s
    if replica.busy == 1 and replica.end_s < math.inf:
        cut_run(w, e, r, now_s, replica, w.replica_specs[r])
        begin_sending(w, e, r, now_s, replica, sender)


@kernel
def begin_sending(w, e, r, now_s, replica, sender):
    """Let the network say when the step ends that a replica has begun."""
    traffic = w.traffic[replica.kind]
    scale = traffic.quick_scale if replica.tokens <= traffic.quick_tokens else 1.0
    sender.part = sender.iterations_left = scale * max(replica.tokens, 1)
    sender.phase, sender.rate = COMPUTING, 1.0
    sender.begun_s = sender.since_s = now_s
    sender.left = max(replica.first_step_s - sender.ideal_s * sender.part, 0.0)
    reschedule(w, e, sender_of(w, r))
    replica.end_s = math.inf
