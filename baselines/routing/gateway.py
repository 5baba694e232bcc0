"""Routers with a queue of their own: requests wait at the gateway while all replicas are full.

They hold requests where ``router.hold_s`` lets them; a request is decided about again ``hold_s``
later, so a place that comes free stays free for so long at most.
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


class GatewayQueue(LeastRequests):
    """Sends to the replica with the fewest in flight, and holds while every replica is full.

    Source: the flow control of the Gateway API inference extension (llm-d), which keeps requests
    back while its pool is saturated. In llm-d that is told by queues and KV caches; here a replica
    is full with this share of the sequences that it may run in flight, which is known at once.

    Args:
        full: share of a replica's cap on sequences, in [0, 1].
    """

    def __init__(self, full: float = 1.0) -> None:
        self.full = check_at_least("gateway-queue", "full", full, 0.0)

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Learn whether requests can be held: the candidate behind the replicas then does."""
        super().reset(scenario, num_envs, seed)
        self.can_hold = scenario.router.hold_s > 0

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the candidate that holds, where the request waits, else a replica, (n,)."""
        chosen = super().act(observation)
        if not self.can_hold:
            return chosen
        hold = self.num_replicas
        held = self.waits(observation) & (observation["action_mask"][:, hold] > 0)
        return np.where(held, hold, chosen)

    def waits(self, observation: Observation) -> NDArray[np.bool_]:
        """Return where every replica is full, (n,)."""
        has_room = self.column(observation, "candidates", "route.load") < self.full
        return np.logical_not((has_room & self.feasible(observation)).any(axis=1))


class VTC(GatewayQueue):
    """The same, and the client that was served least goes first: virtual token counters.

    A request waits while another client has requests waiting that was served less, by the tokens
    of prompts and outputs (weights 1 and 2) that the router has charged it. Without clients it is
    ``gateway-queue``. Source: Sheng et al., "Fairness in serving large language models" (OSDI
    2024), at the gateway and with predicted lengths.

    Args:
        full: share of a replica's cap on sequences, in [0, 1].
    """

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Learn whether there are clients."""
        super().reset(scenario, num_envs, seed)
        self.has_clients = "clients" in self.layout.blocks

    def waits(self, observation: Observation) -> NDArray[np.bool_]:
        """Return where every replica is full, or a client that waits was served less, (n,)."""
        full = super().waits(observation)
        if not self.has_clients:
            return full
        return full | (self.read(observation, "queue", "clients.lead")[:, 0] > 0.5)
