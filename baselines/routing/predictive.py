"""Routers that predict time: for pools of unequal replicas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .router import Router, check_at_least

_OVERFLOW_PENALTY = 1e6  # far above any real cost, small enough to keep the order of costs


def capability_cost(
    work_s: NDArray[np.floating],
    prefill_s: NDArray[np.floating],
    kv_share: NDArray[np.floating],
    *,
    compute_weight: float = 1.0,
    memory_weight: float = 1.0,
) -> NDArray[np.floating]:
    """Cost of each replica, dimensionless; the lowest wins.

    w_c * (outstanding compute + prefill) / 1 s + w_m * (KV used + reserved) / K. A replica whose
    KV cache would overflow (share above 1) is rejected; if all would, the cheapest is taken.

    Args:
        work_s: compute time of everything outstanding.
        prefill_s: time to prefill this prompt there.
        kv_share: KV cache in use plus this request's demand, share of the replica's.
        compute_weight: w_c.
        memory_weight: w_m.
    """
    cost = compute_weight * (work_s + prefill_s) + memory_weight * kv_share
    return cost + _OVERFLOW_PENALTY * (kv_share > 1.0)


class CapabilityAware(Router):
    """The lowest sum of outstanding compute time and KV use, both relative to capability.

    Inspired by Xiong et al., "High-throughput LLM inference on heterogeneous clusters", arXiv
    2504.15303, which schedules by each instance's compute load and KV use. Its equations are
    not public; :func:`capability_cost` is a reconstruction, not a formula of the paper.
    Differences: predicted prefill deducts prefix hits, and since a request cannot be rejected
    here, one that overflows everywhere goes to the cheapest replica and may wait.

    Args:
        compute_weight: per second of compute.
        memory_weight: per whole KV cache.
    """

    def __init__(self, *, compute_weight: float = 1.0, memory_weight: float = 1.0):
        owner = "capability-aware"
        self.compute_weight = check_at_least(owner, "compute_weight", compute_weight, 0.0)
        self.memory_weight = check_at_least(owner, "memory_weight", memory_weight, 0.0)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the cost."""
        return -capability_cost(
            self.read(observation, "candidates", "route.work_s"),
            self.read(observation, "candidates", "route.prefill_s"),
            self.read(observation, "candidates", "route.kv_usage")
            + self.read(observation, "candidates", "route.kv_demand"),
            compute_weight=self.compute_weight,
            memory_weight=self.memory_weight,
        )


class PredictedLatency(Router):
    """The replica that should finish this request first.

    Minimises wait + prefill + estimated output tokens * decode step. The idea is that of
    llm-d's predicted-latency scheduling, which learns TTFT and TPOT online; here both come
    from the environment's cost model, at the load that was last reported.

    The wait is the reported one and the prefills of what this router has sent there since, each
    taken to be as long as this request's: in flight less running and waiting as reported (what has
    finished since makes it fewer). llm-d's predictor knows as much: besides the scraped metrics
    its features are the picker's own counts of tokens in flight (``prefill_tokens_in_flight`` and
    ``decode_tokens_in_flight`` of llm-d-latency-predictor, on by default). Without it every
    request between two reports goes to the same replica: thousands at once, where they have
    waited for the first replicas of a service to start.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the predicted end-to-end time in seconds."""
        tokens = self.read(observation, "queue", "route.estimate")[
            :, :1
        ]  # row 0: the request at hand
        in_flight, running, waiting, prefill_s, wait_s, step_s = (
            self.read(observation, "candidates", f"route.{name}")
            for name in ("in_flight", "running", "waiting", "prefill_s", "wait_s", "step_s")
        )
        unreported = np.maximum(in_flight - running - waiting, 0.0)
        return -(wait_s + (unreported + 1.0) * prefill_s + tokens * step_s)
