"""A binary heap of (key, item) in two arrays: the least key is always at index 0."""

from __future__ import annotations

from .compile import kernel


@kernel
def push(keys, items, size, key, item):
    """Add an entry to a heap of ``size`` entries."""
    _rise(keys, items, size, key, item)


@kernel
def replace_first(keys, items, size, key, item):
    """Put an entry in the place of the first one of a heap of ``size`` entries.

    The hole sinks to the bottom along the smaller children, then the entry rises from there: that
    takes no unpredictable branch on the way down.
    """
    at = 0
    child = 1
    while child + 1 < size:
        child += int(keys[child + 1] < keys[child])
        keys[at] = keys[child]
        items[at] = items[child]
        at = child
        child = 2 * at + 1
    if child < size:
        keys[at] = keys[child]
        items[at] = items[child]
        at = child
    _rise(keys, items, at, key, item)


@kernel
def _rise(keys, items, at, key, item):
    while at > 0:
        parent = (at - 1) >> 1
        if keys[parent] <= key:
            break
        keys[at] = keys[parent]
        items[at] = items[parent]
        at = parent
    keys[at] = key
    items[at] = item
