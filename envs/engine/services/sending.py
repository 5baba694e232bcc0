"""Replicas on several nodes as periodic senders of their mean step, in FLUID.

What a replica sends grows with the tokens of its steps. Every :data:`LOOK_S` it becomes a sender
of the network whose iteration is its mean step since the last look: the bytes of that step's
tokens, and as much time between them as it had, computing or idle. It loads links like that until
the next look, and shares them with gangs and transfers as a gang does. What the network makes of
it, ``comm_s`` beyond what NICs alone would take, is waited for by all tokens alike: each of the
coming steps is longer by its tokens times ``waits_s``. Load and pace so lag by a look; a replica
that is about as busy as before stays as it is.

Where the network follows phases it follows each step instead (:mod:`.stepping`).

Left out: that a wait hides behind compute (two-batch overlap), and phases within a step. Its flows
take uplinks that nobody has reserved, as those of transfers do.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..network.traffic import enter, leave, settle
from ..network.usage import first_once
from ..serving.records import DRAINING, SERVING, STARTING
from ..serving.replica import advance_replica
from ..serving.runs import cut_run, steps_done
from .handover import gpu_of_replica

LOOK_S = 5.0
_NOTICED = 0.1  # change of a mean step, or of the time between two, after which it sends anew
_ENDLESS = 1e7  # iterations: it sends until it is told to end


@kernel
def sender_of(w, r):
    """Return the sender that a replica is; they stand before the one-shot senders."""
    return first_once(w) - len(w.replica_specs) + r


@kernel
def may_send(w, e, r):
    """Tell whether a replica has devices, on several nodes."""
    if len(w.traffic) == 0:
        return False
    replica = w.replicas[e, r]
    has_devices = replica.phase == STARTING or replica.phase == SERVING or replica.phase == DRAINING
    return has_devices and w.traffic[replica.kind].pattern >= 0


@kernel
def plan_look(w, e, r):
    """Look in a while if a replica that has got its devices lies on several nodes."""
    if may_send(w, e, r):
        w.fleet[e].look_s = min(w.fleet[e].look_s, w.clock[e].now_s + LOOK_S)


@kernel
def next_traffic_s(w, e):
    """Return when replicas on several nodes are looked at next, inf while none works or sends.

    Nobody waits for the look at an idle one, so it cannot keep a world going in which all else has
    come to its end. One that gets work is looked at at once.
    """
    if w.fleet[e].look_s < math.inf:
        for r in range(len(w.replica_specs)):
            if may_send(w, e, r):
                sends = w.senders[e, sender_of(w, r)].heap_at >= 0
                if sends or w.replicas[e, r].in_flight > 0:
                    return max(w.fleet[e].look_s, w.clock[e].now_s)
    return math.inf


@kernel
def fall_silent(w, e, r):
    """Let a replica that loses its devices send no more; ``settle`` has to follow."""
    if len(w.traffic) > 0:
        stop(w, e, r)
        sending = w.sendings[e, r]
        sending.steps, sending.tokens = 0, 0


@kernel
def stop(w, e, r):
    """Take a replica off the network if it sends."""
    j = sender_of(w, r)
    if w.senders[e, j].heap_at >= 0:
        leave(w, e, j, w.clock[e].now_s)


@kernel
def look(w, e, now_s):
    """Let replicas on several nodes send what they have of late, and wait for links accordingly."""
    w.fleet[e].look_s = math.inf
    for r in range(len(w.replica_specs)):
        if may_send(w, e, r):
            w.fleet[e].look_s = now_s + LOOK_S
            if w.replicas[e, r].phase != STARTING:
                advance_replica(w, e, r, now_s)
                measure(w, e, r, now_s, w.replicas[e, r], w.sendings[e, r])
    settle(w, e, now_s)
    for r in range(len(w.replica_specs)):
        if may_send(w, e, r):
            follow(w, e, r, w.replicas[e, r], w.replica_specs[r])


@kernel
def measure(w, e, r, now_s, replica, sending):
    """Count a replica's steps since the last look, and let it send as many tokens as they had."""
    done = steps_done(replica, now_s) if replica.busy == 1 else 0
    steps = replica.step_count + done
    tokens = replica.computed_tokens + done * replica.tokens
    more, seconds = steps - sending.steps, now_s - max(sending.since_s, replica.ready_s)
    step_tokens = (tokens - sending.tokens) / max(more, 1)
    sending.since_s, sending.steps, sending.tokens = now_s, steps, tokens
    if more == 0:
        stop(w, e, r)
        return
    traffic, step_s = w.traffic[replica.kind], seconds / more
    scale = traffic.quick_scale if step_tokens <= traffic.quick_tokens else 1.0
    sent_s = (scale * traffic.token_s + replica.waits_s) * step_tokens
    between_s = max(step_s - sent_s, 0.0)
    sender = w.senders[e, sender_of(w, r)]
    if sender.heap_at >= 0 and sender.left > 0.5 * _ENDLESS:
        is_like = abs(between_s - sender.compute_s) <= _NOTICED * step_s
        if is_like and abs(step_tokens - sending.step_tokens) <= _NOTICED * step_tokens:
            return
    sending.step_tokens = step_tokens
    stop(w, e, r)
    sender.pattern, sender.ranks = traffic.pattern, w.replica_specs[r].gpus
    sender.scale, sender.comm_scale = between_s, scale * step_tokens
    sender.first_gpu, sender.speed, sender.reserved = gpu_of_replica(w, e, r), 1.0, 0
    sender.iterations_left = _ENDLESS
    enter(w, e, sender_of(w, r), now_s)


@kernel
def follow(w, e, r, replica, spec):
    """Let the coming steps of a replica take as long as the network makes them."""
    sender, waits_s = w.senders[e, sender_of(w, r)], 0.0
    if sender.heap_at >= 0:
        waits_s = (sender.iteration_s - sender.ideal_s) / w.sendings[e, r].step_tokens
    if waits_s != replica.waits_s:
        cut_run(w, e, r, w.clock[e].now_s, replica, spec)
        replica.waits_s = waits_s
