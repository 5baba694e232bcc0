"""Volcano's queues: deserved shares by weight or by word, reclaim, dominant resource fairness.

Source: Volcano (Apache-2.0), plugins ``proportion``, ``capacity`` and ``drf``; docs/design
capacity-scheduling.md, hierarchical-queue-on-capacity-plugin.md, reclaim-action.md, drf.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .tree import Array, Ints, chain, siblings


def proportion(
    total: float, weight: ArrayLike, requested: ArrayLike, limit: ArrayLike, guarantee: ArrayLike
) -> Array:
    """Return the deserved GPUs of each queue by water filling, float64 (n,).

    Round by round what remains is divided by the weights of the queues that are not met; a queue is
    met at its request or its limit, and never gets less than its guarantee.

    Args:
        total: GPUs of the cluster.
        weight: of each queue.
        requested: GPUs that run or wait.
        limit: most GPUs (Volcano: capability).
        guarantee: least GPUs.
    """
    weight, guarantee = np.asarray(weight, float), np.asarray(guarantee, float)
    most = np.minimum(np.asarray(requested, float), np.asarray(limit, float))
    deserved = np.zeros(len(weight))
    met = weight == 0
    left = float(total)
    while left > 1e-9 and not met.all():
        before = deserved.sum()
        deserved = np.where(met, deserved, deserved + left * weight / weight[~met].sum())
        met |= deserved >= most
        deserved = np.maximum(np.minimum(deserved, most), guarantee)
        given = deserved.sum() - before
        if given <= 1e-9:
            break
        left -= given
    return deserved


def may_reclaim(held: Array, deserved: Array, queue: int, gpus: float) -> bool:
    """Return whether a queue may take back from others: with the gang it stays within its own."""
    return bool(held[queue] + gpus <= deserved[queue])


def victims_of(
    parent: Ints,
    held: Array,
    deserved: Array,
    guarantee: Array,
    queue: int,
    running: Sequence[tuple[int, float]],
) -> list[int]:
    """Return the running gangs that a queue may take, in their order.

    A gang goes if its queue holds more than it deserves, and keeps its guarantee without it. Gangs
    that share the nearest queue around them with the reclaimer come first; the order is otherwise
    that in which they are given.

    Args:
        parent: int (queues,), -1: none.
        held: GPUs of each queue, with all below.
        deserved: GPUs.
        guarantee: GPUs that are never lent.
        queue: of the reclaimer.
        running: queue and GPUs of each gang.
    """
    mine = chain(parent, queue)
    remaining = np.asarray(held, float).copy()

    def distance(row: int) -> int:
        """Return how far up the nearest common queue is."""
        around = [q for q in chain(parent, running[row][0]) if q in mine]
        return mine.index(around[0]) if around else len(mine)

    found = []
    for row in sorted(range(len(running)), key=distance):
        owner, gpus = running[row]
        if owner == queue:
            continue
        other = siblings(parent, queue, owner)[1]
        if remaining[other] > deserved[other] and remaining[other] - gpus >= guarantee[other]:
            remaining[chain(parent, owner)] -= gpus
            found.append(row)
    return found


def dominant_share(allocated: ArrayLike, total: ArrayLike) -> float:
    """Return the largest share that somebody has of any resource; the lowest goes first.

    Source: A. Ghodsi et al., "Dominant resource fairness", NSDI 2011, section 4.1; with weights
    (4.3) ``total`` is times the weight.
    """
    return float(np.max(np.asarray(allocated, float) / np.asarray(total, float)))


def drf_may_preempt(preemptor: float, victim: float) -> bool:
    """Return whether one may take from another, given both dominant shares afterwards (drf.md)."""
    return preemptor < victim or abs(preemptor - victim) <= SHARE_DELTA


SHARE_DELTA = 1e-6
"""Shares so close count as equal (``shareDelta`` of the plugin)."""
