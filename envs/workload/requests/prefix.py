"""Prefix ids: which leading blocks of tokens requests have in common.

An id stands for a whole prefix: equal ids mean that all tokens up to the end of that block are
equal. Traces either keep that rule (Mooncake) or hash each block by itself (Qwen-Bailian);
:func:`chain` makes it true for both. Everything is one pass over flat arrays.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...engine.core.compile import entry
from .stream import RequestStream

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)


def chain(offsets: NDArray[np.int64], blocks: NDArray[np.int64]) -> NDArray[np.int32]:
    """Name every prefix: walk each request's blocks down a common tree.

    Args:
        offsets: int64 (N + 1,); request i owns ``blocks[offsets[i]:offsets[i + 1]]``.
        blocks: int64 (M,), any names; equal names mean equal blocks, or equal prefixes.

    Returns:
        int32 (M,), dense from 0 in order of first use; equal ids mean equal prefixes.
    """
    if len(blocks) and not 0 <= blocks.min() <= blocks.max() < 2**31:
        blocks = np.unique(blocks, return_inverse=True)[1]  # so that a name fits in 31 bits
    return _chain(offsets, blocks.astype(np.int64))


@entry
def _chain(offsets, names):
    size = 16
    while size < 2 * len(names):
        size *= 2
    keys = np.full(size, -1, np.int64)  # parent << 32 | name, open addressing
    nodes = np.empty(size, np.int32)
    ids = np.empty(len(names), np.int32)
    known = 0
    for request in range(len(offsets) - 1):
        parent = np.int64(0)
        for at in range(offsets[request], offsets[request + 1]):
            key = (parent << 32) | names[at]
            slot = np.int64((np.uint64(key) * _MIX) >> _SHIFT) & (size - 1)
            while keys[slot] != -1 and keys[slot] != key:
                slot = (slot + 1) & (size - 1)
            if keys[slot] == -1:
                keys[slot] = key
                nodes[slot] = known
                known += 1
            ids[at] = nodes[slot]
            parent = np.int64(ids[at]) + np.int64(1)  # 64 bits without the compiler, too
    return ids


def shared_only(stream: RequestStream) -> RequestStream:
    """Cut each request's ids at its first id that no other request of the stream has.

    Exact: an id stands for its whole prefix, so behind an unshared id no other can be shared. What
    can never hit then costs nothing. Ids are renamed dense from 0 in order of first use.
    """
    offsets, ids = shared_only_ids(stream.prefix_offsets, stream.prefix_ids)
    return replace(stream, prefix_offsets=offsets, prefix_ids=ids)


@entry
def shared_only_ids(offsets, ids):
    """Return offsets and ids without the ids that one request alone has."""
    uses = np.zeros(ids.max() + 1 if len(ids) else 0, np.int32)
    for node in ids:
        uses[node] += 1
    name = np.full(len(uses), -1, np.int32)
    kept_offsets = np.zeros_like(offsets)
    kept = np.empty_like(ids)
    count = 0
    known = 0
    for request in range(len(offsets) - 1):
        for at in range(offsets[request], offsets[request + 1]):
            node = ids[at]
            if uses[node] < 2:
                break
            if name[node] < 0:
                name[node] = known
                known += 1
            kept[count] = name[node]
            count += 1
        kept_offsets[request + 1] = count
    return kept_offsets, kept[:count].copy()


def densify(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Rename ids (M,) to 0, 1, 2 ... in order of first use."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    name = np.empty(len(first), np.int32)
    name[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return name[inverse]


def hit_tokens(stream: RequestStream) -> NDArray[np.int64]:
    """Return per request the prompt tokens that an unbounded, instant cache would have (N,).

    Only whole blocks hit, and at least one prompt token is always computed. A request's own blocks,
    output included, enter the cache on arrival: the most that any real cache can reach.
    """
    blocks = _hit_blocks(stream.prefix_offsets, stream.prefix_ids)
    most = np.maximum(stream.prompt_tokens - 1, 0) // max(stream.prefix_block_tokens, 1)
    return np.minimum(blocks, most) * stream.prefix_block_tokens


@entry
def _hit_blocks(offsets, ids):
    seen = np.zeros(ids.max() + 1 if len(ids) else 0, np.bool_)
    hits = np.zeros(len(offsets) - 1, np.int64)
    for request in range(len(offsets) - 1):
        begin, end = offsets[request], offsets[request + 1]
        at = begin
        while at < end and seen[ids[at]]:
            at += 1
        hits[request] = at - begin
        for rest in range(at, end):
            seen[ids[rest]] = True
    return hits
