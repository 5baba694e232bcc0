"""Orders that weigh the wait against the size: WFP3 and UNICEP."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpuyard.envs.observation import read

from ..policy import Observation
from .order import QueueOrder


class WFP3(QueueOrder):
    """The gang of the highest (w / r)^3 n that fits: favours old, short and big gangs.

    Source: W. Tang et al., IEEE Cluster 2009 (the Blue Gene/P queue of Argonne), as RLScheduler
    (SC 2020) writes it, with wait w, estimate r and GPUs n.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return (w / r)^3 n."""
        wait, run, gpus = _sizes(observation)
        return (wait / run) ** 3 * gpus


class UNICEP(QueueOrder):
    """The gang of the highest w / (log2(n) r) that fits: favours old, short and small gangs.

    Source: W. Tang et al., IEEE Cluster 2009 (UNICEF), as RLScheduler (SC 2020) writes it. One
    GPU counts as two, for log2(1) = 0.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return w / (log2(n) r)."""
        wait, run, gpus = _sizes(observation)
        return wait / (np.log2(np.maximum(gpus, 2.0)) * run)


def _sizes(observation: Observation) -> tuple[NDArray, NDArray, NDArray]:
    wait = read(observation, "candidates", "age_s") - read(observation, "candidates", "executed_s")
    run = np.maximum(read(observation, "candidates", "estimate_s"), 1.0)
    return np.maximum(wait, 0.0), run, read(observation, "candidates", "gpus")
