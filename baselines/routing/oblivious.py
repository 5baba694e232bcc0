"""Routers that do not look at load: random, round robin, weighted round robin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .router import Router

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


class Random(Router):
    """A feasible replica, uniformly at random.

    Source: the random mode of Vidur, splitwise-sim and Dynamo; the zero of every comparison.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return independent uniform numbers: the largest one is a uniform choice."""
        return self.rng.random(observation["action_mask"].shape)


class RoundRobin(Router):
    """Replica 0, 1, 2, ... in turn.

    Source: the ``roundrobin`` routing logic of vLLM production-stack, which takes endpoint
    ``count mod R``. Here an infeasible replica is skipped and the turn goes on after the one
    that was taken, as in nginx; with all replicas feasible the two are the same.
    """

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Start every environment at replica 0."""
        super().reset(scenario, num_envs, seed)
        self.turn = np.zeros(num_envs, np.int64)

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Start the given environments at replica 0 again."""
        self.turn[done] = 0

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return R - 1 for the replica whose turn it is, R - 2 for the one after, ..., 0."""
        candidate = np.arange(observation["action_mask"].shape[1])
        return (self.turn[:, None] - 1.0 - candidate) % self.num_replicas

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Take the next feasible replica and pass the turn on."""
        action = super().act(observation)
        # holding a request costs nobody its turn
        taken = self.asked(observation) & (action < self.num_replicas)
        self.turn = np.where(taken, (action + 1) % self.num_replicas, self.turn)
        return action


class WeightedRoundRobin(Router):
    """Turns in proportion to each replica's capacity, evenly interleaved.

    Source: nginx (``ngx_http_upstream_round_robin``, smooth since 1.3.1): at each choice every
    eligible peer's current weight grows by its weight; the greatest is chosen and lowered by
    the sum of the eligible weights. Weights 5, 1, 1 give a a b a c a a. Weighting by expected
    throughput is the round robin baseline of heterogeneous serving (Helix, ASPLOS 2025,
    interleaved weighted round robin). Weights are the ``capacity`` column: expected output
    tokens per second; an operator would set them by hand.
    """

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Start with all current weights at zero."""
        super().reset(scenario, num_envs, seed)
        self.current = np.zeros((num_envs, self.num_replicas))

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Zero the current weights of the given environments."""
        self.current[done] = 0.0

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Advance the smooth weighted round robin by one choice per environment."""
        feasible = observation["action_mask"][:, : self.num_replicas] > 0
        weights = self.read(observation, "candidates", "route.capacity")[:, : self.num_replicas]
        current, action = smooth_weighted_round_robin(self.current, weights, feasible)
        self.current = np.where(self.asked(observation)[:, None], current, self.current)
        return np.where(feasible.any(axis=1), action, self.num_replicas)


def smooth_weighted_round_robin(
    current: NDArray[np.float64], weights: NDArray[np.float64], feasible: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the next current weights, shape (n, R), and the chosen peers, shape (n,)."""
    weights = np.where(feasible, weights, 0.0)
    current = current + weights
    chosen = np.where(feasible, current, -np.inf).argmax(axis=1)
    current[np.arange(len(current)), chosen] -= weights.sum(axis=1)
    return current, chosen
