"""Routers that refuse requests: where ``router.may_reject`` lets them, else they refuse nobody.

What they do not refuse goes to the replica with the fewest requests in flight, or is held where no
replica is feasible, as with all routers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .load import LeastRequests
from .router import check_at_least

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


class Gate(LeastRequests):
    """Refuses what :meth:`refuses` says and the mask allows."""

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Learn whether requests may be refused."""
        super().reset(scenario, num_envs, seed)
        self.may_reject = "gate" in self.layout.blocks and scenario.router.may_reject

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the candidate that refuses the request, or a replica's, shape (n,)."""
        chosen = super().act(observation)
        if not self.may_reject:
            return chosen
        reject = self.layout.read(observation, "candidates", "gate.is_reject") > 0
        reject &= observation["action_mask"] > 0
        refused = self.refuses(observation) & reject.any(axis=1)
        return np.where(refused, reject.argmax(axis=1), chosen)

    def refuses(self, observation: Observation) -> NDArray[np.bool_]:
        """Return where the request under decision should be refused, (n,)."""
        raise NotImplementedError


class ShedSaturated(Gate):
    """Refuses requests of low priority while every replica is saturated.

    A replica is saturated with more than ``queue_depth`` requests queued or more than ``kv_usage``
    of its KV blocks held. Source: the saturation detector of the Gateway API inference extension
    (``pkg/epp/saturationdetector``), with its defaults 5 and 0.8; requests of negative priority
    ("sheddable") are refused there, here those below ``protected_priority``.

    Args:
        queue_depth: requests.
        kv_usage: share.
        protected_priority: in [0, 1]; who has it or more is never refused.
    """

    def __init__(
        self, queue_depth: float = 5, kv_usage: float = 0.8, protected_priority: float = 0.5
    ) -> None:
        owner = "shed-saturated"
        self.queue_depth = check_at_least(owner, "queue_depth", queue_depth, 0)
        self.kv_usage = check_at_least(owner, "kv_usage", kv_usage, 0.0)
        self.protected = check_at_least(owner, "protected_priority", protected_priority, 0.0)

    def refuses(self, observation: Observation) -> NDArray[np.bool_]:
        """Return where no replica is below both limits and the request may be shed."""
        replicas = slice(0, self.num_replicas)
        waiting = np.rint(self.read(observation, "candidates", "route.waiting")[:, replicas])
        usage = self.column(observation, "candidates", "route.kv_usage")[:, replicas]
        free = (waiting <= self.queue_depth) & (usage <= self.kv_usage)
        free &= self.feasible(observation)[:, replicas]
        priority = self.column(observation, "queue", "route.priority")[:, 0]
        return ~free.any(axis=1) & (priority < self.protected)


class EarlyReject(Gate):
    """Refuses a request that no replica is predicted to begin in time.

    Source: Mooncake's early rejection (Qin et al., FAST 2025, 4.3): a request is refused on arrival
    if the predicted time to first token of the best instance exceeds its objective.

    Args:
        slack: times the objective.
    """

    def __init__(self, slack: float = 1.0) -> None:
        self.slack = check_at_least("early-reject", "slack", slack, 0.0)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return minus the predicted time to first token, seconds."""
        wait_s = self.read(observation, "candidates", "route.wait_s")
        return -(wait_s + self.read(observation, "candidates", "route.prefill_s"))

    def refuses(self, observation: Observation) -> NDArray[np.bool_]:
        """Return where what is left of the objective is less than the best prediction."""
        seconds = np.where(self.feasible(observation), -self.score(observation), np.inf)
        objective_s = self.read(observation, "queue", "route.ttft_slo_s")[:, 0]
        left_s = self.slack * objective_s - self.read(observation, "queue", "route.age_s")[:, 0]
        return seconds.min(axis=1) > left_s


class TokenBucket(Gate):
    """Refuses what exceeds the rate of its class: one token bucket for each of two classes.

    A request takes its prompt and estimated output tokens from the bucket of its class, and is
    refused if there are fewer; a bucket refills at its rate up to its size. Source: the token
    bucket of RFC 2697 with one rate and one size; gateways limit LLM tokens like this (Envoy AI
    gateway, rate limits by token usage).

    Args:
        rate: tokens per second of the class of low priority, below 0.5.
        burst: size of its bucket, tokens.
        urgent_rate: of the class of high priority; 0: it is not limited.
        urgent_burst: size of its bucket, tokens.
    """

    def __init__(
        self,
        rate: float = 10_000.0,
        burst: float = 50_000.0,
        urgent_rate: float = 0.0,
        urgent_burst: float = 50_000.0,
    ) -> None:
        options = {"rate": rate, "burst": burst}
        options |= {"urgent_rate": urgent_rate, "urgent_burst": urgent_burst}
        for name, value in options.items():
            check_at_least("token-bucket", name, value, 0.0)
        self.rates = np.array([rate, urgent_rate])
        self.sizes = np.array([burst, urgent_burst])

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Fill all buckets."""
        super().reset(scenario, num_envs, seed)
        self.levels = np.tile(self.sizes, (num_envs, 1))

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Fill the buckets of the environments that begin anew."""
        super().restart(done)
        self.levels[done] = self.sizes

    def refuses(self, observation: Observation) -> NDArray[np.bool_]:
        """Refill the buckets, and take from them what is not refused."""
        asked = self.asked(observation)
        since_s = np.where(asked, self.read(observation, "cluster", "gate.since_s"), 0.0)
        self.levels = np.minimum(self.levels + since_s[:, None] * self.rates, self.sizes)
        rows = np.arange(len(asked))
        urgent = (self.column(observation, "queue", "route.priority")[:, 0] >= 0.5).astype(int)
        tokens = self.read(observation, "queue", "route.size")[:, 0]
        tokens = tokens + self.read(observation, "queue", "route.estimate")[:, 0]
        limited = (urgent == 0) | (self.rates[1] > 0)
        refused = limited & (tokens > self.levels[rows, urgent])
        taken = np.where(asked & limited & ~refused, tokens, 0.0)
        self.levels[rows, urgent] -= taken
        return refused
