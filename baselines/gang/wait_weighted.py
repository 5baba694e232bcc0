"""Orders that weigh the wait against the size: WFP3 and UNICEP."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .order import QueueOrder

Array = NDArray[np.float64]


class WaitWeighted(QueueOrder):
    """What the orders below weigh."""

    def sizes(self, observation: Observation) -> tuple[Array, Array, Array]:
        """Return the wait, the estimated run time (seconds, at least 1) and the GPUs, (n, C)."""
        age = self.read(observation, "candidates", "place.age_s")
        wait = np.maximum(age - self.read(observation, "candidates", "place.executed_s"), 0.0)
        run = np.maximum(self.read(observation, "candidates", "place.estimate_s"), 1.0)
        return wait, run, self.read(observation, "candidates", "place.gpus")


class WFP3(WaitWeighted):
    """The gang of the highest (w / r)^3 n that fits: favours old, short and big gangs.

    Source: W. Tang et al., IEEE Cluster 2009 (the Blue Gene/P queue of Argonne), as RLScheduler
    (SC 2020) writes it, with wait w, estimate r and GPUs n.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return (w / r)^3 n."""
        wait, run, gpus = self.sizes(observation)
        return (wait / run) ** 3 * gpus


class UNICEP(WaitWeighted):
    """The gang of the highest w / (log2(n) r) that fits: favours old, short and small gangs.

    Source: W. Tang et al., IEEE Cluster 2009 (UNICEF), as RLScheduler (SC 2020) writes it. One
    GPU counts as two, for log2(1) = 0.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return w / (log2(n) r)."""
        wait, run, gpus = self.sizes(observation)
        return wait / (np.log2(np.maximum(gpus, 2.0)) * run)
