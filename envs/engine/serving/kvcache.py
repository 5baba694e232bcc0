"""KV blocks and the prefix cache of one replica.

Free blocks form one queue, least recently used first, as in vLLM v1: allocation takes from its
head, freeing appends to its tail. A cached prefix node that no running request holds stays in the
queue with its content, to be found again or to be evicted. Plain blocks need no identity, so the
queue is a linked list of nodes, each with the number of plain blocks queued just before it
(``lead``), and ``tail_blocks`` behind the last. Every operation costs O(1) per node, whatever the
number of blocks.

Nodes are whole prefix units: with a unit of one block this is vLLM's cache; with larger units (512
tokens in Mooncake's trace) a unit is cached when all of it is computed and is evicted as a whole.
Source: vLLM v1 block pool (``vllm/v1/core/block_pool.py``) and KV cache manager.
"""

from __future__ import annotations

import math

from ..core.compile import kernel
from .prefixes import add, drop, find, is_here, was_sent
from .tiers import write_back, write_through


@kernel
def unlink(w, e, at, replica):
    """Take entry ``at`` out of the free queue; the plain blocks before it stay queued."""
    item = w.prefix_entries[e, at]
    before, after = item.before, item.after
    if after >= 0:
        w.prefix_entries[e, after].lead += item.lead
        w.prefix_entries[e, after].before = before
    else:
        replica.tail_blocks += item.lead
        replica.lru_tail = before
    if before >= 0:
        w.prefix_entries[e, before].after = after
    else:
        replica.lru_head = after
    item.lead = 0


@kernel
def allocate(w, e, r, count, replica, spec):
    """Take ``count`` blocks from the head of the free queue, evicting the nodes they belong to."""
    replica.free_blocks -= count
    while count > 0:
        head = replica.lru_head
        if head < 0:
            replica.tail_blocks -= count
            return
        item = w.prefix_entries[e, head]
        if item.lead >= count:
            item.lead -= count
            return
        count -= item.lead
        item.lead = spec.unit_blocks  # evicted: its blocks become plain ones at the head
        unlink(w, e, head, replica)
        if len(w.replica_tiers) > 0:
            write_back(w, e, r, w.prefix_entries[e, head].node)
        drop(w, e, head)


@kernel
def is_cached(w, e, r, request, unit, report_s):
    """Tell whether a prefix unit of ``request`` was cached by ``report_s`` and still is.

    A ``report_s`` of infinity spares looking up when.
    """
    node = w.prefix_units[e, request.prefix_begin + unit].node
    if not is_here(w, e, node, r):
        return False
    return report_s == math.inf or w.prefix_entries[e, find(w, e, node, r)].since_s <= report_s


@kernel
def cached_units(w, e, r, request, units, report_s):
    """Return how many leading prefix units of ``request`` are cached, at most ``units``.

    Only nodes cached by ``report_s`` count. Cached units of one chain are always its first ones
    (a node is touched whenever a longer one is), so a binary search finds the last.
    """
    low, high = 0, min(units, request.prefix_count)
    if high == 0 or not is_cached(w, e, r, request, 0, report_s):
        return 0
    low = 1
    while low < high:
        middle = (low + high + 1) // 2
        if is_cached(w, e, r, request, middle - 1, report_s):
            low = middle
        else:
            high = middle - 1
    return low


@kernel
def sent_units(w, e, r, request, cached):
    """Return how many leading units of ``request`` the router has sent to this replica before.

    The ``cached`` ones are among them: nothing is cached that was not sent.
    """
    units = cached
    while units < request.prefix_count:
        if not was_sent(w, e, w.prefix_units[e, request.prefix_begin + units].node, r):
            break
        units += 1
    return units


@kernel
def idle_units(w, e, r, request, units):
    """Return how many of the first ``units`` nodes of ``request`` wait in the free queue.

    It notes where these are cached.
    """
    count = 0
    for unit in range(units - 1, -1, -1):
        item = w.prefix_units[e, request.prefix_begin + unit]
        item.entry = find(w, e, item.node, r)
        if w.prefix_entries[e, item.entry].holders > 0:
            break  # whoever holds a prefix holds all shorter ones
        count += 1
    return count


@kernel
def hold(w, e, r, request, units, idle, replica, spec):
    """Let ``request`` reference its first ``units`` nodes, which are all cached.

    The last ``idle`` of them are in the free queue, and noted by :func:`idle_units`.
    """
    for unit in range(units):
        item = w.prefix_units[e, request.prefix_begin + unit]
        if unit < units - idle:
            item.entry = find(w, e, item.node, r)
        else:
            unlink(w, e, item.entry, replica)
            replica.free_blocks -= spec.unit_blocks
        w.prefix_entries[e, item.entry].holders += 1
    request.nodes = units


@kernel(inline=False)
def register(w, e, r, request, units, now_s):
    """Cache the units of ``request`` up to ``units`` that it has computed itself.

    It stops for good at a unit that another request has cached meanwhile: that copy stays private.
    """
    units = min(units, request.prefix_count)
    begin = int(request.nodes)
    while request.nodes < units and request.sealed == 0:
        item = w.prefix_units[e, request.prefix_begin + request.nodes]
        if is_here(w, e, item.node, r):
            request.sealed = 1
        else:
            item.entry = add(w, e, item.node, r, now_s)
            request.nodes += 1
    if request.nodes > begin and len(w.replica_tiers) > 0:
        write_through(w, e, r, request, begin, now_s)


@kernel
def release(w, e, r, request, replica, spec):
    """Free all blocks of ``request``: private ones first, then its nodes, the deepest first."""
    private = request.blocks - request.nodes * spec.unit_blocks
    replica.tail_blocks += private
    replica.free_blocks += private
    for unit in range(request.nodes - 1, -1, -1):
        at = w.prefix_units[e, request.prefix_begin + unit].entry
        item = w.prefix_entries[e, at]
        item.holders -= 1
        if item.holders == 0:
            item.lead = replica.tail_blocks
            replica.tail_blocks = 0
            item.before = replica.lru_tail
            item.after = -1
            if replica.lru_tail >= 0:
                w.prefix_entries[e, replica.lru_tail].after = at
            else:
                replica.lru_head = at
            replica.lru_tail = at
            replica.free_blocks += spec.unit_blocks
    request.blocks = 0
    request.nodes = 0
    request.sealed = 0
