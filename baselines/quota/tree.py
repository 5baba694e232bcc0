"""The tree of queues: who stands around whom, and sums from below."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]
Array = NDArray[np.float64]


def chain(parent: Ints, queue: int) -> list[int]:
    """Return a queue and those around it, the outermost last.

    Args:
        parent: int (queues,), the queue around each, -1: none.
        queue: number of a queue.
    """
    found = []
    while queue >= 0:
        found.append(int(queue))
        queue = int(parent[queue])
    return found


def children(parent: Ints, queue: int) -> Ints:
    """Return the queues directly inside one, or the outermost ones for -1."""
    return np.flatnonzero(parent == queue)


def below(parent: Ints, amount: Array) -> Array:
    """Return what each queue has with all below it, given what each has itself, (queues,)."""
    total = np.zeros(len(parent))
    for queue, value in enumerate(np.asarray(amount, float)):
        total[chain(parent, queue)] += value
    return total


def siblings(parent: Ints, mine: int, other: int) -> tuple[int, int]:
    """Return the two queues around (or at) two queues at which their ways from the root part.

    Of a queue and one inside it, the pair of the deepest common level.
    """
    a, b = chain(parent, mine)[::-1], chain(parent, other)[::-1]
    for x, y in zip(a, b, strict=False):
        if x != y:
            return x, y
    shared = min(len(a), len(b)) - 1
    return a[shared], b[shared]
