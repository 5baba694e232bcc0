"""A random start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..policy import Observation
from .order import Starter

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario


class Random(Starter):
    """Any feasible start (gang, plan and pool), uniformly; waits only if there is none.

    Source: the random placement policy of DDLS and RLScheduler; the zero of every comparison.
    """

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Seed the choices."""
        super().reset(scenario, num_envs, seed)
        self.rng = np.random.default_rng(seed)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return independent uniform numbers: the largest one is a uniform choice."""
        return self.rng.random(observation["action_mask"].shape)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the row chosen in each environment, shape (n,)."""
        feasible = self.starts(observation)
        action = np.where(feasible, self.score(observation), -1.0).argmax(axis=1)
        return np.where(feasible.any(axis=1), action, self.waiting_row(observation))
