"""Queues: whose jobs they are, what each is entitled to, and how they nest."""

from __future__ import annotations

from dataclasses import dataclass

NO_PARENT = -1


@dataclass(frozen=True)
class Queue:
    """A tenant's queue, or one that only holds other queues.

    Attributes:
        name: as in the scenario or the job list.
        limit: most GPUs that it and all below it hold at a time; no limit: all of the cluster.
        parent: number of the queue around it, or ``NO_PARENT``.
        deserved: GPUs that it is entitled to.
        guarantee: those of them that nobody else may borrow.
        weight: its part of what nobody claims, against its siblings'.
        priority: siblings of higher priority divide first what nobody claims.
    """

    name: str
    limit: int
    parent: int = NO_PARENT
    deserved: int = 0
    guarantee: int = 0
    weight: float = 1.0
    priority: float = 0.0
