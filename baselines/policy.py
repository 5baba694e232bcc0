"""The one interface of heuristics and learned agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gpuyard.envs.scenario import Scenario

Observation = dict[str, NDArray]


class Policy:
    """Chooses one candidate per environment from a batch of observations.

    Observations carry a leading environment axis; see :mod:`gpuyard.envs.observation`.
    """

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Forget everything and prepare for ``num_envs`` environments of ``scenario``."""

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Forget what belongs to the environments whose episode has just ended."""

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return one feasible candidate per environment, shape (n,)."""
        raise NotImplementedError


class ScorePolicy(Policy):
    """A policy that scores candidates; the feasible one with the highest score is taken.

    Ties go to the lowest index.
    """

    def score(self, observation: Observation) -> NDArray[np.float64]:
        """Return scores of shape (n, C), higher is better."""
        raise NotImplementedError

    def act(self, observation: Observation) -> NDArray[np.int64]:
        scores = np.where(observation["action_mask"] > 0, self.score(observation), -np.inf)
        return scores.argmax(axis=-1)
