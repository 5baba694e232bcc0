"""What all routers share: they choose among replicas and hold a request only if they must."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation, ScorePolicy

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


_NEVER = np.full((1, 1), -np.inf, np.float32)
_HOLD = np.finfo(np.float32).min  # above every infeasible replica, below every feasible one


class Router(ScorePolicy):
    """Takes the feasible replica with the highest score; ties go to the lowest index.

    Candidates are the scenario's replicas in order, then, in scenarios that allow it, one that
    holds the request back. No production router in this package holds requests, so that
    candidate is taken only when no replica is feasible. Where a deployment prefers that KV caches
    stay in a domain (``transfer_preferred``) replicas of which that holds come before all others.
    """

    decides = frozenset({"route"})

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Learn the number of replicas; seed the random choices."""
        super().reset(scenario, num_envs, seed)
        self.num_replicas = len(scenario.replicas)
        self.prefers = "transfer" in scenario.layout.blocks
        self.num_envs = num_envs
        self.rng = np.random.default_rng(seed)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the feasible replica with the highest score, shape (n,)."""
        allowed = observation["action_mask"]
        if self.prefers:
            allowed = self.near_first(observation)
        scores = np.where(allowed, self.score(observation), _NEVER)
        scores[:, self.num_replicas :] = _HOLD
        return scores.argmax(axis=1)

    def near_first(self, observation: Observation) -> NDArray[np.bool_]:
        """Return the feasible replicas, only those in the preferred domain if any, shape (n, C)."""
        feasible = self.feasible(observation)
        near = feasible & (self.read(observation, "candidates", "transfer.near") > 0)
        return np.where(near.any(axis=1, keepdims=True), near, feasible)

    def feasible(self, observation: Observation) -> NDArray[np.bool_]:
        """Return which candidates are feasible replicas, shape (n, C)."""
        feasible = observation["action_mask"].astype(bool)
        feasible[:, self.num_replicas :] = False
        return feasible


def check_at_least(owner: str, option: str, value: float, low: float) -> float:
    """Return ``value`` if it is a finite number and not below ``low``.

    Raises:
        ValueError: naming the owner, the option, the value and the bound.
    """
    if not isinstance(value, (int, float)) or not low <= value < np.inf:
        raise ValueError(f"{owner}: {option} = {value!r} must be a finite number, {low:g} or more")
    return value
