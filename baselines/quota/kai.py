"""KAI Scheduler's queues: fair shares, the order of queues, and who may take from whom.

Source: KAI Scheduler (Apache-2.0), docs/fairness and the plugin ``proportion`` (resource_division,
queue_order, reclaimable), 2025. Historical usage (``kValue``) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .tree import Array, Ints, chain, children, siblings


@dataclass(frozen=True)
class Shares:
    """Queues as KAI sees them in a cycle; all float64 (queues,) but ``parent``.

    Attributes:
        parent: int, the queue around each, -1: none.
        deserved: GPUs; KAI calls it quota.
        fair: fair share, GPUs.
        held: GPUs, with all below.
        held_protected: those of them that are held by gangs that are never preempted.
        priority: of the queue.
    """

    parent: Ints
    deserved: Array
    fair: Array
    held: Array
    held_protected: Array
    priority: Array

    @property
    def allocatable(self) -> Array:
        """What a queue may hold without being over its share: fair share or quota."""
        return np.maximum(self.fair, self.deserved)


def fair_shares(
    total: float,
    parent: Ints,
    deserved: Array,
    requested: Array,
    weight: Array,
    priority: Array,
) -> Array:
    """Return the fair share of every queue, float64 (queues,): level by level from the root.

    Args:
        total: GPUs of the cluster.
        parent: int (queues,), -1: none.
        deserved: GPUs; those of a level may be more than there is: each keeps its own.
        requested: GPUs that run or wait in it and below, no more than its limit.
        weight: over-quota weight.
        priority: of the queue.
    """
    share = np.zeros(len(parent))

    def divide(around: int, amount: float) -> None:
        rows = children(parent, around)
        if len(rows):
            share[rows] = division(
                amount, deserved[rows], requested[rows], weight[rows], priority[rows]
            )
            for row in rows:
                divide(int(row), float(share[row]))

    divide(-1, float(total))
    return share


def division(
    total: float, deserved: Array, requested: Array, weight: Array, priority: Array
) -> Array:
    """Return the shares of queues of one level, float64 (n,).

    First min(deserved, requested) for each; then what is left, priority by priority, in whole GPUs
    by weight, round by round while a queue asks for less than its part; the fractions that were
    rounded down go, one GPU each, to the largest ones first (ties to the first queue). No queue
    gets more than it asks for, as the documentation says; KAI's code gives one that is alone at its
    priority all that is left, so that queues of lower priority have no share then.
    """
    share = np.minimum(deserved, requested).astype(float)
    left = total - share.sum()
    fractions: dict[int, float] = {}
    levels = np.unique(priority)[::-1]
    for level in levels:
        rows = np.flatnonzero(priority == level)
        if left > 0:
            left = _by_weight(left, rows, share, requested, weight, fractions)
    for level in levels:
        rounded = [row for row in fractions if priority[row] == level]
        for row in sorted(rounded, key=lambda row: (-fractions[row], row)):
            given = min(1.0, left)
            if given > 0:
                share[row] += given
                left -= given
    return share


def _by_weight(
    left: float,
    rows: Ints,
    share: Array,
    requested: Array,
    weight: Array,
    fractions: dict[int, float],
) -> float:
    """Divide what is left among queues of one priority; return what then is left."""
    again = True
    while again and left > 0:
        again, round_gpus = False, left
        asking = rows[requested[rows] > share[rows]]
        weights = weight[asking].sum()
        if weights == 0:
            break
        for row in asking[weight[asking] > 0]:
            part = round_gpus * weight[row] / weights
            wanted = requested[row] - share[row]
            given = wanted if wanted <= part else float(np.floor(part + 1e-9))
            fractions.pop(int(row), None)
            if wanted > part and part - given > 1e-9:
                fractions[int(row)] = part - given
            share[row] += given
            left -= given
            again |= bool(wanted < part)
    return left


def queue_key(shares: Shares, queue: int, gpus: float, freed: float = 0.0) -> tuple[float, ...]:
    """Return the key of a queue among its siblings, the lowest is served first.

    Queues within their fair share come before those over it; those that the next gang leaves within
    their quota before others; then higher priority; then those that may hold something at all; then
    the lower (held + gang) / share; then the lower held / share; then the smaller share; then the
    first.

    Args:
        shares: of all queues.
        queue: number of the queue.
        gpus: of its next gang.
        freed: GPUs that are taken from it before that.
    """
    held, share = float(shares.held[queue] - freed), float(shares.allocatable[queue])
    return (
        float(shares.held[queue] > shares.fair[queue]),
        float(shares.held[queue] + gpus > shares.deserved[queue]),
        -float(shares.priority[queue]),
        float(share == 0 and shares.held[queue] + gpus > 0),
        (held + gpus) / share if share else np.inf,
        held / share if share else np.inf,
        share,
        float(queue),
    )


def gang_order(shares: Shares, tenant: Ints, gpus: Ints, rank: Array) -> NDArray[np.int64]:
    """Return gangs in the order in which they are tried.

    From the root down to the best queue at each level, whose next gang is the one of the lowest
    ``rank``; a gang that has been tried gives way to the next of its queue.

    Args:
        shares: of all queues.
        tenant: int (n,), queue of each gang.
        gpus: int (n,).
        rank: float (n,), order inside a queue, lower first.
    """
    waiting: dict[int, list[int]] = {}
    for row in np.argsort(rank, kind="stable")[::-1]:
        waiting.setdefault(int(tenant[row]), []).append(int(row))  # the next one last

    def best(around: int) -> tuple[tuple[float, ...], int] | None:
        """Return the key of the best queue inside one, and the tenant at its end."""
        found = []
        for queue in children(shares.parent, around):
            inner = best(int(queue))
            own = int(queue) if waiting.get(int(queue)) else inner[1] if inner else -1
            if own >= 0:
                key = queue_key(shares, int(queue), float(gpus[waiting[own][-1]]))
                found.append((key, own))
        return min(found) if found else None

    order = []
    while (top := best(-1)) is not None:
        order.append(waiting[top[1]].pop())
    return np.array(order, np.int64)


def within_quota(shares: Shares, queue: int, gpus: float) -> bool:
    """Return whether a gang that is never preempted keeps its queues within their quota.

    All gangs of that kind of a queue, and of each one around it, together hold no more than that.
    """
    around = chain(shares.parent, queue)
    return bool((shares.held_protected[around] + gpus <= shares.deserved[around]).all())


def may_reclaim(shares: Shares, queue: int, gpus: float, protected: bool = False) -> bool:
    """Return whether a gang may look for victims in other queues.

    Its queue must stay within its fair share, and if the gang is never preempted the gangs of that
    kind within the quota.
    """
    if shares.held[queue] + gpus > shares.fair[queue]:
        return False
    kept = shares.held_protected[queue] + gpus <= shares.deserved[queue]
    return bool(kept or not protected)


def gives(shares: Shares, remaining: Array, queue: int, gpus: float, victim: int) -> bool:
    """Return whether a queue may take a further gang from another one.

    Looked at where the ways to the two queues part: the other is over its share (fair share or
    quota), or it is over its quota and the reclaimer stays within its own.

    Args:
        shares: as things stand.
        remaining: float64 (queues,), what each still holds after the victims so far.
        queue: of the reclaimer.
        gpus: that it asks for.
        victim: queue of the next victim.
    """
    mine, other = siblings(shares.parent, queue, victim)
    if remaining[other] > shares.allocatable[other]:
        return True
    within = shares.held[mine] + gpus <= shares.deserved[mine]
    return bool(within and remaining[other] > shares.deserved[other])


def reclaim_order(
    shares: Shares, queue: int, gpus: float, running: Sequence[tuple[int, float]]
) -> list[int]:
    """Return running gangs of other queues in the order in which one takes them.

    Each time from the queue that is furthest over its share, as things stand after the victims
    before; of one queue in the order given. Gangs that it may not take are left out.

    Args:
        shares: as things stand.
        queue: of the reclaimer.
        gpus: that it asks for.
        running: queue and GPUs of each gang, in the order in which a queue gives them.
    """
    remaining = shares.held.astype(float)
    candidates = [row for row, (owner, _) in enumerate(running) if owner != queue]

    def over(row: int) -> tuple[float, float]:
        """Return how full its queues are, where the ways part and its own."""
        owner = running[row][0]
        pair = [siblings(shares.parent, queue, owner)[1], owner]
        share = np.maximum(shares.allocatable[pair], 1e-9)
        first, own = remaining[pair] / share
        return float(first), float(own)

    order: list[int] = []
    while candidates:
        row = max(candidates, key=over)  # of equal ones the first
        candidates.remove(row)
        owner, freed = running[row]
        if gives(shares, remaining, queue, gpus, owner):
            remaining[chain(shares.parent, owner)] -= freed
            order.append(row)
    return order


def reclaimable(
    shares: Shares,
    queue: int,
    gpus: float,
    victims: Sequence[tuple[int, float]],
    protected: bool = False,
) -> bool:
    """Return whether a gang may take the GPUs of some gangs of other queues.

    Args:
        shares: as things stand.
        queue: of the gang.
        gpus: that it asks for.
        victims: queue and GPUs of each gang to be stopped, in their order.
        protected: whether the gang is never preempted.
    """
    remaining = shares.held.astype(float)
    for other, freed in victims:
        if not gives(shares, remaining, queue, gpus, other):
            return False
        remaining[chain(shares.parent, other)] -= freed
    alone = (shares.parent < 0).sum() == 1
    for around in chain(shares.parent, queue):
        top = shares.parent[around] < 0
        if not (top and alone) and remaining[around] + gpus > shares.fair[around]:
            return False
        kept = shares.held_protected[around] + gpus <= shares.deserved[around]
        if protected and not kept:
            return False
    return True
