"""Handing requests over from prefill replicas to decode replicas: blocks, bytes, links.

A request whose prompt is computed keeps its blocks on the prefill replica until its KV cache has
arrived where it goes on. There it waits, in order, for blocks; then software answers through the
router, and the bytes move: through the nodes' scale-up link where both stand on one node, else over
their NICs and, between leafs, uplinks. Source: vLLM's NixlConnector (one read at the end of the
prompt, blocks freed on the prefill side when it is done) and Dynamo's disaggregated serving.

A transfer is a one-shot sender of the network (:mod:`..network.once`), among others and gangs. It
goes at the rate of its posting at most; its ends are the replicas' ports, for all their NICs, or
all their scale-up links, together.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from ..network.links import num_links
from ..network.once import recall, send, take_ended, take_free
from ..serving.growth import blocks_of
from ..serving.kvcache import allocate, release
from ..serving.parking import park
from ..serving.queue import enqueue_loaded, send_to
from ..serving.records import COMING, HANDED, MOVING, WHOLE
from ..serving.replica import advance_replica
from ..serving.runs import cut_run
from .lacking import cached_there, hold_there, idle_there, take_there
from .overlap import hold_to_layers


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

    So many can be on their way at once as the network has one-shot senders.

    A request in its queue that waits for blocks goes before them; such ones are the last there.
    """
    while replica.coming > 0 and w.network[e].free_once >= 0:
        if replica.waiting > 0 and w.requests[e, replica.tail].blocks == 0:
            return
        index = int(replica.come_head)
        request = w.requests[e, index]
        need = blocks_of(request.prompt_tokens + request.generated, spec)
        cut_run(w, e, r, w.clock[e].now_s, replica, spec)
        units = cached_there(w, e, r, request, spec)
        lacking = need - units * spec.unit_blocks
        idle = idle_there(w, e, r, request, units)
        if lacking > replica.free_blocks - idle * spec.unit_blocks:
            return
        hold_there(w, e, r, request, units, replica, spec)
        allocate(w, e, r, lacking, replica, spec)
        request.there = need
        replica.come_head = request.next
        if replica.come_head < 0:
            replica.come_tail = -1
        replica.coming -= 1
        move(w, e, r, index, lacking)


@kernel(inline=False)
def move(w, e, r, index, blocks):
    """Let so many blocks of the KV cache of a request begin their way."""
    request, now_s = w.requests[e, index], w.clock[e].now_s
    role = w.roles[w.replica_specs[r].role]
    k, start_s = new_sender(w, e, index, int(request.source), r, blocks)
    begin_s = now_s + role.handover_s + start_s
    send(w, e, k, hold_to_layers(w, e, request, w.once[e, k], begin_s, role.layers))
    request.stage, request.sender, request.sent_s = MOVING, k, now_s
    w.fleet[e].moves += 1
    w.fleet[e].moved_bytes += w.once[e, k].bytes


@kernel
def ship(w, e, client, source, r, blocks, begin_s):
    """Send blocks from a replica to replica ``r``; returns the one-shot sender that does."""
    k, start_s = new_sender(w, e, client, source, r, blocks)
    send(w, e, k, begin_s + start_s)
    return k


@kernel
def new_sender(w, e, client, source, r, blocks):
    """Return a one-shot sender of blocks to replica ``r``, and how long it takes to start."""
    role = w.roles[w.replica_specs[r].role]
    from_gpu, to_gpu = gpu_of_replica(w, e, source), gpu_of_replica(w, e, r)
    is_inside = node_of(w, from_gpu) == node_of(w, to_gpu)
    k = take_free(w, e)
    once = w.once[e, k]
    once.client, once.from_gpu, once.to_gpu = client, from_gpu, to_gpu
    once.from_ranks = w.roles[w.replica_specs[source].role].ranks
    once.to_ranks = role.ranks
    once.inside = 1 if is_inside else 0
    once.from_port = num_links(w) + 2 * source + once.inside
    once.to_port = num_links(w) + 2 * r + once.inside
    once.bytes = blocks * role.kv_block_bytes
    once.most_bytes_per_s, once.early_bytes_per_s = math.inf, 0.0
    post_s = role.domain_block_post_s if is_inside else role.nic_block_post_s
    if post_s > 0.0:
        once.most_bytes_per_s = role.kv_block_bytes / post_s
    return k, role.domain_start_s if is_inside else role.nic_start_s


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
def land(w, e, now_s):
    """Let KV caches that have arrived be used, and free their blocks at the other end."""
    index = take_ended(w, e)
    while index >= 0:
        if index >= w.router[e].num_requests:  # a stage of what this replica gives
            w.moves[e, index - w.router[e].num_requests].due_s = now_s
            index = take_ended(w, e)
            continue
        request = w.requests[e, index]
        r = int(request.replica)
        replica, spec = w.replicas[e, r], w.replica_specs[r]
        forget(w, e, request, now_s)
        advance_replica(w, e, r, now_s)
        take_there(w, e, r, request)
        request.stage, request.arrive_s = WHOLE, now_s
        w.fleet[e].arrived_bytes += w.once[e, request.sender].bytes
        w.fleet[e].moving_s += now_s - request.sent_s
        enqueue_loaded(w, e, index, now_s, replica, spec)
        index = take_ended(w, e)


@kernel
def forget(w, e, request, now_s):
    """Free the blocks of a request on its prefill replica."""
    r = int(request.source)
    replica = w.replicas[e, r]
    release(w, e, r, request, replica, w.replica_specs[r])
    replica.holding -= 1
    look_again(replica, now_s)


@kernel(inline=False)
def compute_anew(w, e, request, now_s):
    """Drop the KV cache of a request with which nobody in reach can go on."""
    forget(w, e, request, now_s)
    request.stage, request.source = WHOLE, -1


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
    for index in range(w.router[e].num_requests):  # those to come are whole
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
    """Take a request back from where it was to go on, so that it is decided about again.

    That replica is advanced first: its steps so far have not had the blocks that are free now.
    """
    d = int(request.replica)
    replica = w.replicas[e, d]
    if d != lost:
        advance_replica(w, e, d, w.clock[e].now_s)
    if request.stage == COMING:
        replica.come_head, replica.come_tail = without(
            w, e, index, int(replica.come_head), int(replica.come_tail)
        )
        replica.coming -= 1
    else:
        recall(w, e, int(request.sender), w.clock[e].now_s)
        w.fleet[e].lost_bytes += w.once[e, request.sender].bytes
        if d != lost:
            take_there(w, e, d, request)
            release(w, e, d, request, replica, w.replica_specs[d])
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
