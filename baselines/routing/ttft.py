"""Routers that predict the time to first token from what is known of each replica.

Their columns: ``prefill_s``, the time to prefill this prompt alone there (cached blocks deducted);
``wait_s``, the predicted wait before that prefill starts, from the replica's last report;
``work_s``, the compute time of everything that this router sent there and that has not finished,
which is never stale. All in seconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .router import Router, check_at_least


class PredictedTTFT(Router):
    """The replica that should give the first token soonest: lowest prefill + wait.

    Source: the TTFT half of llm-d's predicted-latency scheduling and of Lodestar (arXiv
    2606.00946); both learn the two terms online, here they come from the environment's cost model.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the predicted time to first token in seconds."""
        return -(self.seconds(observation, "prefill_s") + self.seconds(observation, "wait_s"))

    def seconds(self, observation: Observation, name: str) -> NDArray[np.float64]:
        """Return a candidate column in seconds, shape (n, C)."""
        return self.read(observation, "candidates", f"route.{name}")


class PredictedTTFTProduct(PredictedTTFT):
    """The lowest (prefill + wait) * (prefill + work): soon to start, and little to do.

    A product of two costs has no weight to tune, as in Dynamo's policy ``lmetric``:
    twice the wait is worth half the work. The first factor is what this request meets, the second
    what it leaves to those that follow.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the product in square seconds."""
        prefill_s, work_s = (self.seconds(observation, name) for name in ("prefill_s", "work_s"))
        return super().score(observation) * (prefill_s + work_s)


class PrefillAndWork(PredictedTTFT):
    """The lowest prefill_weight * prefill + work: nothing that a late report could spoil.

    Prefix matches inside ``prefill_s`` are reported, loads are not: between two reports the
    router's own record of the work that it sent keeps one replica from taking everything. A
    second of prefill delays the replica's decoding requests too, hence a weight above 1.

    Args:
        prefill_weight: seconds of work that a second of prefill is worth.
    """

    def __init__(self, *, prefill_weight: float = 4.0):
        self.prefill_weight = check_at_least(
            "prefill-and-work", "prefill_weight", prefill_weight, 0.0
        )

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the weighted seconds."""
        prefill_s, work_s = (self.seconds(observation, name) for name in ("prefill_s", "work_s"))
        return -(self.prefill_weight * prefill_s + work_s)
