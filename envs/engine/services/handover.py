"""Handing requests over from prefill replicas to decode replicas: blocks, bytes, links.

A request whose prompt is computed keeps its blocks on the prefill replica until its KV cache has
arrived where it goes on. There it waits, in order, for blocks; then software answers through the
router, and the bytes move: through the nodes' scale-up link where both stand on one node, else over
their NICs and, between leafs, uplinks. Source: vLLM's NixlConnector (one read at the end of the
prompt, blocks freed on the prefill side when it is done) and Dynamo's disaggregated serving.

The rate is found once, when the bytes begin to move: on each link of the way what gangs leave of it
or an equal part, whichever is more, shared by the transfers there; the uplinks of a leaf count as
one. Such rates are 9 % off in the mean and 39 % at worst up to a load of 50 %; gangs are not slowed
by transfers, which up to a load of 20 % would be by 1 to 5 % (own measurements against exact
max-min, docs/disaggregation.md).
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..network.links import leaf_down, leaf_up, node_down, node_up
from ..serving.growth import blocks_of
from ..serving.kvcache import allocate, release
from ..serving.parking import park
from ..serving.queue import enqueue_loaded, send_to
from ..serving.records import COMING, HANDED, MOVING, WHOLE
from ..serving.replica import advance_replica
from ..serving.runs import run_blocks, run_s, steps_done


@kernel
def begin_handover(w, e, r, index):
    """Let request ``index`` go on at decode replica ``r``, which has been advanced to now."""
    replica, request = w.replicas[e, r], w.requests[e, index]
    send_to(w, e, r, request, replica, w.router[e])
    request.stage, request.next = COMING, -1
    if replica.come_tail >= 0:
        w.requests[e, replica.come_tail].next = index
    else:
        replica.come_head = index
    replica.come_tail = index
    replica.coming += 1
    reserve(w, e, r, replica, w.replica_specs[r])


@kernel
def reserve(w, e, r, replica, spec):
    """Reserve blocks for the requests that come to a replica, as far as there are any, in order.

    A request in its queue that waits for blocks goes before them; such ones are the last there.
    """
    while replica.coming > 0:
        if replica.waiting > 0 and w.requests[e, replica.tail].blocks == 0:
            return
        index = int(replica.come_head)
        request = w.requests[e, index]
        need = blocks_of(request.prompt_tokens + request.generated, spec)
        settle_blocks(w, e, r, replica, spec)
        if need > replica.free_blocks:
            return
        allocate(w, e, r, need, replica, spec)
        request.there = need
        replica.come_head = request.next
        if replica.come_head < 0:
            replica.come_tail = -1
        replica.coming -= 1
        move(w, e, r, index, need)


@kernel
def settle_blocks(w, e, r, replica, spec):
    """End the run at the step under way, whose blocks are taken now: the rest is planned anew."""
    if replica.busy == 1 and replica.steps > 1:
        steps = steps_done(replica, w.clock[e].now_s) + 1
        run_blocks(w, e, r, min(steps, replica.steps), replica, spec)
        replica.steps = min(replica.steps, max(steps, replica.steps_with_blocks))
        replica.end_s = replica.start_s + run_s(replica, replica.steps)


@kernel
def move(w, e, r, index, blocks):
    """Let the KV cache of a request begin its way."""
    request, role = w.requests[e, index], w.roles[w.replica_specs[r].role]
    from_gpu, to_gpu = gpu_of_replica(w, e, request.source), gpu_of_replica(w, e, r)
    is_inside = node_of(w, from_gpu) == node_of(w, to_gpu)
    rate = rate_between(w, e, request.source, r, from_gpu, to_gpu, is_inside, role)
    start_s = role.domain_start_s if is_inside else role.nic_start_s
    bytes_s = blocks * role.kv_block_bytes / rate
    seconds = role.handover_s + start_s + max(bytes_s, blocks * role.kv_block_post_s)
    request.stage, request.arrive_s = MOVING, w.clock[e].now_s + seconds
    w.fleet[e].moved_bytes += blocks * role.kv_block_bytes
    w.fleet[e].moves += 1
    w.fleet[e].moving_s += seconds
    insert(w, e, index, w.router[e])


@kernel
def insert(w, e, index, router):
    """Put a request into the list of those whose KV is on its way: the next to arrive is first."""
    before, at = -1, int(router.moving_head)
    while at >= 0 and w.requests[e, at].arrive_s <= w.requests[e, index].arrive_s:
        before, at = at, int(w.requests[e, at].next)
    w.requests[e, index].next = at
    if before >= 0:
        w.requests[e, before].next = index
    else:
        router.moving_head = index


@kernel
def node_of(w, gpu):
    """Return the node of a GPU."""
    return gpu // w.fabric[0].gpus_per_node


@kernel
def gpu_of_replica(w, e, r):
    """Return the first GPU of a replica."""
    spec = w.replica_specs[r]
    gpu = int(w.senders[e, spec.gang].first_gpu)
    for _ in range(spec.rank):
        gpu = int(w.gpu_next[e, gpu])
    return gpu


@kernel
def rate_between(w, e, source, r, from_gpu, to_gpu, is_inside, role):
    """Return the bytes/s that a transfer gets which begins now."""
    from_node, to_node = node_of(w, from_gpu), node_of(w, to_gpu)
    from_leaf, to_leaf = w.node_specs[from_node].leaf, w.node_specs[to_node].leaf
    ends, out, into, up, down = 0, 0, 0, 0, 0  # other transfers that share
    at = int(w.router[e].moving_head)
    while at >= 0:
        other = w.requests[e, at]
        ends += other.source == source or other.replica == r
        a = node_of(w, gpu_of_replica(w, e, other.source))
        b = node_of(w, gpu_of_replica(w, e, other.replica))
        if a != b:
            out += a == from_node
            into += b == to_node
            if w.node_specs[a].leaf != w.node_specs[b].leaf:
                up += w.node_specs[a].leaf == from_leaf
                down += w.node_specs[b].leaf == to_leaf
        at = int(other.next)
    if is_inside:
        return role.domain_bytes_per_s / (1 + ends)
    rate = role.nic_bytes_per_s / (1 + ends)
    rate = min(rate, share(w, e, node_up(w, from_node), 1, out))
    rate = min(rate, share(w, e, node_down(w, to_node), 1, into))
    if from_leaf == to_leaf:
        return rate
    uplinks = w.circuits.shape[2]
    for way in range(2):
        leaf = from_leaf if way == 0 else to_leaf
        switch = w.switch_begin[leaf]
        first = leaf_up(w, switch, 0) if way == 0 else leaf_down(w, switch, 0)
        count = (w.switch_begin[leaf + 1] - switch) * uplinks
        rate = min(rate, share(w, e, first, count, up if way == 0 else down))
    return rate


@kernel
def share(w, e, first, count, others):
    """Return what one more transfer gets of ``count`` links that count as one.

    What gangs leave, divided among the transfers; an equal part with them, if that is more.
    """
    capacity, used = 0.0, 0.0
    for link in range(first, first + count):
        capacity += w.capacity[link]
        used += w.link_rate[e, link]
    return max((capacity - used) / (others + 1), capacity / (others + 2))


@kernel
def next_arrival_s(w, e):
    """Return when the next KV cache arrives, inf if none is on its way."""
    first = w.router[e].moving_head
    return w.requests[e, first].arrive_s if first >= 0 else math.inf


@kernel
def land(w, e, now_s):
    """Let KV caches that are there by now be used, and free their blocks at the other end."""
    router = w.router[e]
    while next_arrival_s(w, e) <= now_s:
        index = int(router.moving_head)
        request = w.requests[e, index]
        router.moving_head = request.next
        forget(w, e, request, now_s)
        r = int(request.replica)
        replica, spec = w.replicas[e, r], w.replica_specs[r]
        advance_replica(w, e, r, now_s)
        request.stage, request.blocks = WHOLE, request.there
        enqueue_loaded(w, e, index, now_s, replica, spec)


@kernel
def forget(w, e, request, now_s):
    """Free the blocks of a request on its prefill replica."""
    r = int(request.source)
    replica = w.replicas[e, r]
    release(w, e, r, request, replica, w.replica_specs[r])
    replica.holding -= 1
    look_again(replica, now_s)


@kernel
def look_again(replica, now_s):
    """Let an idle replica whose queue may have waited for blocks look at it."""
    if replica.busy == 0 and replica.waiting > 0:
        replica.start_s = now_s


@kernel
def break_off(w, e, r):
    """Undo the handovers from or to a replica that is lost.

    Where the KV is lost the prompt is computed anew; where it is not, another replica is chosen.
    """
    for index in range(w.router[e].arrived):
        request = w.requests[e, index]
        if request.stage == WHOLE or (request.source != r and request.replica != r):
            continue
        if request.stage != HANDED:
            call_back(w, e, index, request, r)
        if request.source == r:
            request.blocks, request.nodes, request.sealed = 0, 0, 0
            request.stage, request.source = WHOLE, -1
    w.router[e].parked_due = w.router[e].parked


@kernel
def call_back(w, e, index, request, lost):
    """Take a request back from where it was to go on, so that it is decided about again."""
    d = int(request.replica)
    replica = w.replicas[e, d]
    if request.stage == COMING:
        replica.come_head, replica.come_tail = without(
            w, e, index, int(replica.come_head), int(replica.come_tail)
        )
        replica.coming -= 1
    else:
        w.router[e].moving_head, _ = without(w, e, index, int(w.router[e].moving_head), -1)
        if d != lost:
            replica.tail_blocks += request.there
            replica.free_blocks += request.there
            look_again(replica, w.clock[e].now_s)
    if d != lost:
        replica.in_flight -= 1
        replica.in_flight_tokens -= request.prompt_tokens + request.estimate_tokens
        replica.work_s -= request.work_s
    w.router[e].in_flight -= 1
    request.replica, request.stage = -1, HANDED
    park(w, e, w.router[e], index)


@kernel
def without(w, e, index, head, tail):
    """Return head and tail of a list of requests without one of them."""
    before, at = -1, head
    while at != index:
        before, at = at, int(w.requests[e, at].next)
    after = int(w.requests[e, index].next)
    if before >= 0:
        w.requests[e, before].next = after
    else:
        head = after
    return head, before if tail == index else tail
