"""One-shot senders: bytes that move once from some GPUs to others, say a KV cache.

Every GPU sends and takes over its own NIC, so there are as many flows as GPUs at the end that has
more; all advance in lock-step. A flow crosses the fabric as those of periodic senders do; its ends
are ports, links for the NICs or scale-up links of all GPUs at that end. Inside a node it crosses
ports only. Lock-step makes transfers 2 to 9 % too slow against flows on their own where uplinks are
up to 2:1, 27 % at 4:1 (measured on a prototype, docs/disaggregation.md). Source of one flow for
each GPU: vLLM's NixlConnector, where each rank pulls from one remote rank.
"""

from __future__ import annotations

from ..core.compile import kernel
from ..core.units import unit
from .events import push, remove
from .flow import start_sending, stop_sending
from .progress import catch_up, reschedule, touch
from .records import FLUID, OCCUPANCY, UNCONTENDED
from .shares import affect, join, see, withdraw
from .slowing import is_look
from .usage import add, add_flow, first_once, take_off

_WAITS = -1  # SENDER.phase until its bytes move


@kernel
def clear(w, e, net):
    """Let all one-shot senders be free, each with its room."""
    room = w.once.shape[1]
    net.free_once, net.ended_head, net.once_running = -1, -1, 0
    for k in range(room - 1, -1, -1):
        sender = w.senders[e, first_once(w) + k]
        sender.usage_begin = w.usages.shape[1] - (room - k) * net.most_links
        sender.step_begin = w.steps.shape[1] - (room - k)
        sender.usage_count, sender.step_count, sender.part = 0, 0, 1.0
        free(w, e, net, k)


@kernel
def free(w, e, net, k):
    """Put a one-shot sender back."""
    w.once[e, k].next = net.free_once
    net.free_once = k


@kernel
def take_free(w, e):
    """Return a free one-shot sender, as a place in ``w.once``; there must be one."""
    net = w.network[e]
    k = int(net.free_once)
    net.free_once = w.once[e, k].next
    return k


@kernel
def send(w, e, k, begin_s):
    """Let the bytes of a one-shot sender, whose record is filled, move from ``begin_s`` on."""
    j = first_once(w) + k
    sender = w.senders[e, j]
    sender.phase, sender.rate, sender.event_s = _WAITS, 0.0, begin_s
    w.network[e].once_running += 1
    push(w, e, j)


@kernel
def go_on(w, e, j, now_s):
    """Let the event of a one-shot sender happen: its bytes begin to move, or have arrived."""
    sender = w.senders[e, j]
    if sender.phase == _WAITS:
        begin(w, e, j, now_s)
        return
    if w.fabric[0].fidelity == FLUID and is_look(sender):
        see(w, e, j, now_s)
        return
    stop(w, e, j, now_s)
    list_ended(w, e, w.network[e], j - first_once(w))


@kernel
def list_ended(w, e, net, k):
    """Add a one-shot sender to those that have ended at this moment, in the order of clients."""
    before, behind = -1, int(net.ended_head)
    while behind >= 0 and w.once[e, behind].client < w.once[e, k].client:
        before, behind = behind, int(w.once[e, behind].next)
    w.once[e, k].next = behind
    if before >= 0:
        w.once[e, before].next = k
    else:
        net.ended_head = k


@kernel
def begin(w, e, j, now_s):
    """Let bytes move."""
    sender = w.senders[e, j]
    lay(w, e, j)
    if w.fabric[0].fidelity == FLUID:
        sender.phase, sender.left = 0, w.steps[e, sender.step_begin].bytes
        join(w, e, j, now_s)
    else:
        start_sending(w, e, j, 0, now_s)


@kernel(inline=False)
def lay(w, e, j):
    """Find the links that a one-shot sender uses, and what its flows could do at most."""
    once, sender, fabric = w.once[e, j - first_once(w)], w.senders[e, j], w.fabric[0]
    step = w.steps[e, sender.step_begin]
    flows = max(once.from_ranks, once.to_ranks)
    step.sender, step.mark, step.begin, step.count = j, 0, 0, 0
    step.bytes, step.limit = once.bytes / flows, once.most_bytes_per_s / flows
    sender.step_count = 1
    for port in (once.from_port, once.to_port):
        if fabric.fidelity == UNCONTENDED:
            step.limit = min(step.limit, w.capacity[port] / flows)
        else:
            add(w, e, j, 0, port, float(flows))
    if once.inside == 0:
        lay_flows(w, e, j, once, step, flows)
    step.rate = once.limit = step.limit
    if once.early_bytes_per_s > 0.0:
        step.limit = min(step.limit, once.early_bytes_per_s / flows)
    sender.usage_count = step.count


@kernel
def lay_flows(w, e, j, once, step, flows):
    """Find the links of each flow: GPUs of both ends in order, those of the smaller one again."""
    slots = w.fabric[0].gpus_per_node
    source, source_rank = int(once.from_gpu), 0
    target, target_rank = int(once.to_gpu), 0
    for flow in range(flows):
        while source_rank < flow * once.from_ranks // flows:
            source, source_rank = int(w.gpu_next[e, source]), source_rank + 1
        while target_rank < flow * once.to_ranks // flows:
            target, target_rank = int(w.gpu_next[e, target]), target_rank + 1
        here, there = w.node_specs[source // slots], w.node_specs[target // slots]
        if source // slots != target // slots:
            step.limit = min(step.limit, here.nic_bytes_per_s, there.nic_bytes_per_s)
            if w.fabric[0].fidelity != UNCONTENDED:
                add_flow(w, e, j, 0, source, target)


@kernel
def stop(w, e, j, now_s):
    """Take a one-shot sender off the network."""
    sender, fidelity = w.senders[e, j], w.fabric[0].fidelity
    if sender.phase != _WAITS:
        catch_up(sender, now_s)
        if fidelity == FLUID:
            withdraw(w, e, j)
            take_off(w, e, j)
            affect(w, e, j, sender.usage_begin + sender.usage_count, now_s, False)
        elif fidelity != UNCONTENDED:
            stop_sending(w, e, j, fidelity == OCCUPANCY)
            take_off(w, e, j)
    sender.phase, sender.step_count = _WAITS, 0
    w.network[e].once_running -= 1
    remove(w, e, j)


@kernel(inline=False)
def hurry(w, e, k, now_s):
    """Let a one-shot sender that was held to a pace go on as fast as its links let it."""
    once, j = w.once[e, k], first_once(w) + k
    sender, step = w.senders[e, j], w.steps[e, w.senders[e, j].step_begin]
    once.early_bytes_per_s = 0.0
    if sender.phase == _WAITS:
        return
    step.limit = once.limit
    if w.fabric[0].fidelity == FLUID:
        affect(w, e, j, sender.usage_begin + sender.usage_count, now_s, True)
    elif w.fabric[0].fidelity == UNCONTENDED:
        catch_up(sender, now_s)
        sender.rate = step.limit
        reschedule(w, e, j)
    else:
        touch(w, e, j)


@unit
def recall(w, e, k, now_s):
    """Give up a one-shot sender; what it has not sent is lost. ``settle`` has to follow.

    One that has ended just now stays among those until :func:`take_ended`, nobody's.
    """
    j = first_once(w) + k
    if w.senders[e, j].heap_at >= 0:
        stop(w, e, j, now_s)
        free(w, e, w.network[e], k)
    else:
        w.once[e, k].client = -1


@kernel
def take_ended(w, e):
    """Return the client of the next one-shot sender that has ended, and free it; -1: none has."""
    net = w.network[e]
    while net.ended_head >= 0:
        k = int(net.ended_head)
        net.ended_head = w.once[e, k].next
        free(w, e, net, k)
        if w.once[e, k].client >= 0:
            return int(w.once[e, k].client)
    return -1
