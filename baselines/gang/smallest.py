"""Orders by size: the shortest gang, the smallest, the one with the least GPU time."""

from __future__ import annotations

from ..routing.router import check_at_least
from .keys import Array, Queue, dynamic, least_area, shortest, smallest
from .order import QueueOrder


class SJF(QueueOrder):
    """The gang of the shortest estimated run time that fits.

    Source: shortest job first as in RLScheduler (SC 2020); ``small_task_first`` of the vClos
    simulator.
    """

    def key(self, queue: Queue) -> Array:
        """Return the estimate."""
        return shortest(queue)


class SmallestFirst(QueueOrder):
    """The gang of the fewest GPUs that fits.

    Source: ``few_GPU_first`` of the vClos simulator; smallest job first of the Tiresias simulator.
    """

    def key(self, queue: Queue) -> Array:
        """Return the GPUs."""
        return smallest(queue)


class SmallestArea(QueueOrder):
    """The gang of the least GPU time left, g (r - e), that fits.

    Source: the order of SRSF (:class:`~.remaining.SRSF`) without preemption; smallest area first
    of Carastan-Santos and de Camargo (SC 2017). Only gangs that were stopped or whose node failed
    have executed anything (e).
    """

    def key(self, queue: Queue) -> Array:
        """Return the GPU seconds that are left."""
        return least_area(queue)


class Dynamic(QueueOrder):
    """Oldest first; smallest first once more than ``longest`` gangs wait.

    Source: ``dynamic_matching`` of the vClos simulator: weight -size when the queue is longer than
    6, else -id.

    Args:
        longest: queue that is still served oldest first.
    """

    def __init__(self, *, longest: int = 6):
        self.longest = check_at_least("dynamic", "longest", longest, 0)

    def key(self, queue: Queue) -> Array:
        """Return the GPUs or the place in the queue."""
        return dynamic(queue, self.longest)
