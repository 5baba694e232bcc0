"""Orders by size: the shortest gang, the smallest, the one with the least GPU time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from ..routing.router import check_at_least
from .order import QueueOrder


class SJF(QueueOrder):
    """The gang of the shortest estimated run time that fits.

    Source: shortest job first as in RLScheduler (SC 2020); ``small_task_first`` of the vClos
    simulator.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the estimate (squashed)."""
        return -self.column(observation, "candidates", "place.estimate_s")


class SmallestFirst(QueueOrder):
    """The gang of the fewest GPUs that fits.

    Source: ``few_GPU_first`` of the vClos simulator; smallest job first of the Tiresias simulator.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the GPUs (squashed)."""
        return -self.column(observation, "candidates", "place.gpus")


class SmallestArea(QueueOrder):
    """The gang of the least GPU time left, g (r - e), that fits.

    Source: the order of SRSF (:class:`~.remaining.SRSF`) without preemption; smallest area first
    of Carastan-Santos and de Camargo (SC 2017). Only gangs that were stopped or whose node failed
    have executed anything (e).
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the GPU seconds that are left."""
        estimate = self.read(observation, "candidates", "place.estimate_s")
        executed = self.read(observation, "candidates", "place.executed_s")
        left = np.maximum(estimate - executed, 0.0)
        return -self.read(observation, "candidates", "place.gpus") * left


class Dynamic(QueueOrder):
    """Oldest first; smallest first once more than ``longest`` gangs wait.

    Source: ``dynamic_matching`` of the vClos simulator: weight -size when the queue is longer than
    6, else -id.

    Args:
        longest: queue that is still served oldest first.
    """

    def __init__(self, *, longest: int = 6):
        self.longest = check_at_least("dynamic", "longest", longest, 0)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the GPUs or minus the place in the queue (squashed)."""
        crowded = self.read(observation, "cluster", "place.pending") > self.longest + 0.5
        gpus = self.column(observation, "candidates", "place.gpus")
        position = self.column(observation, "candidates", "place.position")
        return -np.where(crowded[:, None], gpus, position)
