"""Where each prefix unit is: sent to a replica, cached there, and what is known of the cached ones.

Per unit there are two bits for each replica: the router has sent it a prompt with this prefix, and
the prefix is cached there. A cached unit also has an entry, of one pool per world, which a hash
table with chains finds by unit and replica (Knuth, The Art of Computer Programming 3, 6.4). So
memory grows with what is cached at a time, not with units times replicas, and most look-ups end at
a bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.compile import kernel
from .records import AGGREGATED

WORD_SHIFT = 6  # a word has 2**6 bits; a shift takes less time than a division
WORD_BITS = 1 << WORD_SHIFT
GOLDEN = 0x9E3779B1  # 2**32 over the golden ratio: its multiples lie evenly in any power of two
ENTRIES_PER_HEAD = 4  # of the whole pool, which rarely fills: chains are shorter


def room(specs: NDArray[np.void], num_ids: int | None, num_nodes: int) -> tuple[int, int, int]:
    """Return the words of bits per unit, the room for entries, and the heads of chains.

    A replica has no more entries than units fit its blocks. Where no request goes on elsewhere
    each has its prefix at one replica: one that loses its requests loses its cache with them.

    Args:
        specs: REPLICA_SPEC (R,).
        num_ids: prefix ids of all requests at most; None: requests may share a list of them, and
            have it cached at several replicas.
        num_nodes: distinct ones at most.
    """
    caching = specs[specs["unit_blocks"] > 0]
    fitting = caching["kv_blocks"].astype(np.int64) // caching["unit_blocks"]
    entries = int(np.minimum(fitting, num_nodes).sum())
    if num_ids is not None and (specs["does"] == AGGREGATED).all():
        entries = min(entries, num_ids)
    heads = 1 << max(entries // ENTRIES_PER_HEAD - 1, 0).bit_length()
    return -(-len(specs) // WORD_BITS), max(entries, 1), heads


@kernel
def bit_of(r):
    """Return the bit of a replica in its word."""
    return np.uint64(1) << np.uint64(r & (WORD_BITS - 1))


@kernel
def mark_sent(w, e, node, r):
    """Note that a prompt with this prefix was sent to the replica."""
    w.prefix_marks[e, node, r >> WORD_SHIFT].sent |= bit_of(r)


@kernel
def was_sent(w, e, node, r):
    """Tell whether a prompt with this prefix was ever sent to the replica."""
    return w.prefix_marks[e, node, r >> WORD_SHIFT].sent & bit_of(r) != np.uint64(0)


@kernel
def is_here(w, e, node, r):
    """Tell whether the unit is cached on the replica."""
    return w.prefix_marks[e, node, r >> WORD_SHIFT].cached & bit_of(r) != np.uint64(0)


@kernel
def head_of(w, node, r):
    """Return the head of the chain in which a unit's entry for a replica stands.

    The units of a request, whose ids follow each other, have heads side by side.
    """
    return (int(node) + int(r) * GOLDEN) & (w.prefix_heads.shape[1] - 1)


@kernel(inline=False)
def find(w, e, node, r):
    """Return the entry of a unit that is cached on the replica."""
    at = w.prefix_heads[e, head_of(w, node, r)]
    while w.prefix_entries[e, at].node != node or w.prefix_entries[e, at].replica != r:
        at = w.prefix_entries[e, at].next
    return at


@kernel
def add(w, e, node, r, now_s):
    """Cache a unit on the replica, for one request that holds it; returns its entry."""
    router = w.router[e]
    at = int(router.free_entry)
    if at >= 0:
        router.free_entry = w.prefix_entries[e, at].next
    else:
        at = int(router.entries)
        router.entries += 1
    head = head_of(w, node, r)
    item = w.prefix_entries[e, at]
    item.node, item.replica, item.holders, item.lead = node, r, 1, 0
    item.since_s = now_s
    w.replicas[e, r].cached += 1
    item.next = w.prefix_heads[e, head]
    w.prefix_heads[e, head] = at
    w.prefix_marks[e, node, r >> WORD_SHIFT].cached |= bit_of(r)
    mark_sent(w, e, node, r)
    return at


@kernel(inline=False)
def drop(w, e, at):
    """Forget that a unit is cached, and free its entry."""
    item = w.prefix_entries[e, at]
    node, r = int(item.node), int(item.replica)
    w.replicas[e, r].cached -= 1
    w.prefix_marks[e, node, r >> WORD_SHIFT].cached &= ~bit_of(r)
    head = head_of(w, node, r)
    before = w.prefix_heads[e, head]
    if before == at:
        w.prefix_heads[e, head] = item.next
    else:
        while w.prefix_entries[e, before].next != at:
            before = w.prefix_entries[e, before].next
        w.prefix_entries[e, before].next = item.next
    item.node = -1
    item.next = w.router[e].free_entry
    w.router[e].free_entry = at


@kernel
def drop_all(w, e, r):
    """Forget all that is cached on a replica: what nobody holds is queued, the rest is sought."""
    replica = w.replicas[e, r]
    at = int(replica.lru_head)
    while at >= 0:
        after = int(w.prefix_entries[e, at].after)
        drop(w, e, at)
        at = after
    at = 0
    while replica.cached > 0:
        if w.prefix_entries[e, at].node >= 0 and w.prefix_entries[e, at].replica == r:
            drop(w, e, at)
        at += 1
