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

    Observations carry a leading environment axis; see :mod:`gpuyard.envs.observation`. Call
    :meth:`reset` once before the first :meth:`act`, and :meth:`restart` whenever some of the
    environments begin a new episode.
    """

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Forget everything and prepare for ``num_envs`` environments of ``scenario``.

        Args:
            scenario: the world to be decided in; a policy may read what an operator knows of
                it (replicas, their capacities), never the requests to come.
            num_envs: length of the leading axis of the observations that follow.
            seed: of the policy's own random choices.
        """

    def restart(self, done: NDArray[np.bool_]) -> None:
        """Forget what belongs to the environments whose episode has just ended.

        Args:
            done: shape (num_envs,).
        """

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return one feasible candidate per environment, shape (n,)."""
        raise NotImplementedError


class ScorePolicy(Policy):
    """A policy that scores candidates; the feasible one with the highest score is taken.

    Ties go to the lowest index.
    """

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return finite scores of shape (n, C), higher is better."""
        raise NotImplementedError

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Return the feasible candidate with the highest score, shape (n,)."""
        scores = np.where(observation["action_mask"], self.score(observation), -np.inf)
        return scores.argmax(axis=-1)
